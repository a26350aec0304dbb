"""The pages without a browser: headers, and what they load."""

from __future__ import annotations

import gzip
import re
from importlib.resources import files

import pytest
from flask.testing import FlaskClient

from zvt_crypto.core.config import Settings
from zvt_crypto.server.app import create_app

PAGES = ("/", "/docs")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    return create_app(Settings(data_path=tmp_path_factory.mktemp("pages"))).test_client()


def assets_of(client: FlaskClient, page: str) -> list[str]:
    return re.findall(r'"(assets/[^"]+)"', client.get(page).text)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_may_run_and_load_only_what_is_here(client: FlaskClient, page: str) -> None:
    answer = client.get(page)
    assert answer.status_code == 200
    assert answer.content_type == "text/html; charset=utf-8"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in str(policy)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-cache"
    # The policy would not let any of these work.
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", answer.text)
    assert "http" not in re.sub(r"<!--.*?-->", "", answer.text)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_loads_is_kept_and_compressed(client: FlaskClient, page: str) -> None:
    assets = assets_of(client, page)
    assert len(assets) >= 4
    for address in assets:
        plain = client.get(f"/{address}", headers={"Accept-Encoding": "identity"})
        assert plain.status_code == 200
        assert "immutable" in plain.headers["Cache-Control"]
        assert "Content-Encoding" not in plain.headers
        packed = client.get(f"/{address}", headers={"Accept-Encoding": "gzip, br"})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Accept-Encoding" in packed.headers["Vary"]
        assert gzip.decompress(packed.data) == plain.data
        assert packed.content_type == plain.content_type
        assert plain.content_type.startswith(("text/javascript", "text/css", "image/svg+xml"))


def test_the_chart_code_is_that_of_the_installed_plotly(client: FlaskClient) -> None:
    (address,) = (one for one in assets_of(client, "/") if one.endswith("plotly.js"))
    answer = client.get(f"/{address}", headers={"Accept-Encoding": "gzip"})
    installed = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    assert gzip.decompress(answer.data) == installed
    assert len(answer.data) < len(installed) / 2


@pytest.mark.parametrize(
    "address",
    [
        "assets/0000000000000000/page.js",
        "assets/{tag}/page.html",
        "assets/{tag}/__init__.py",
        "assets/{tag}/../overview.py",
        "assets/{tag}/%2e%2e%2foverview.py",
        "assets/{tag}/plotly.css",
    ],
)
def test_nothing_else_is_served(client: FlaskClient, address: str) -> None:
    (script,) = (one for one in assets_of(client, "/") if one.endswith("page.js"))
    tag = script.split("/")[1]
    answer = client.get("/" + address.format(tag=tag))
    assert answer.status_code == 404
    assert (answer.json or {})["error"]["code"] == "CRYPTO_NOT_FOUND"


def test_addresses_are_relative(client: FlaskClient) -> None:
    """A proxy may have put the server under a path."""
    for page in PAGES:
        assert not re.search(r'(?:href|src|data-\w+)="/', client.get(page).text)
