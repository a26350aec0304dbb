"""Limits, compression and headers of the application."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from backports import zstd
from flask import Flask
from flask.testing import FlaskClient

from zvt_crypto.core.config import Settings, load_settings
from zvt_crypto.core.errors import ConfigError
from zvt_crypto.server.app import create_app
from zvt_crypto.server.counts import MemoryCounts

TABLE = "/api/data/CryptoPair1mKdata?provider=binance&codes=btcusdt"

Limited = Callable[..., FlaskClient]


@pytest.fixture
def limited(market: Settings) -> Limited:
    """Makes clients of applications over the recorded market, with settings of their own."""
    return lambda **given: create_app(market.model_copy(update=given)).test_client()


def ask(client: FlaskClient, address: str, **headers: str) -> Any:
    return client.get(f"{TABLE}&limit=1", environ_base={"REMOTE_ADDR": address}, headers=headers)


def test_each_address_has_its_requests_a_minute(limited: Limited) -> None:
    client = limited(public_requests_per_minute=3)
    left = [ask(client, "10.0.0.1").headers["X-RateLimit-Remaining"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    refused = ask(client, "10.0.0.1")
    assert refused.status_code == 429
    assert refused.headers["X-RateLimit-Limit"] == "3"
    assert 0 < int(refused.headers["Retry-After"]) <= 61
    error = refused.json["error"]
    assert error["code"] == "CRYPTO_RATE_LIMIT_EXCEEDED"
    assert error["details"]["limit"] == 3
    assert error["trace_id"] == refused.headers["X-Trace-Id"]
    assert ask(client, "10.0.0.2").status_code == 200


def test_all_paths_count_together(limited: Limited) -> None:
    client = limited(public_requests_per_minute=2)
    assert client.get("/api/data/providers").status_code == 200
    assert client.get("/openapi.json").status_code == 200
    assert client.get(TABLE).status_code == 429


def test_only_refusals_say_when_to_retry(limited: Limited) -> None:
    answer = ask(limited(), "10.0.0.1")
    assert answer.headers["X-RateLimit-Limit"] == "1000"
    assert "Retry-After" not in answer.headers


def test_addresses_of_one_ipv6_network_count_together(limited: Limited) -> None:
    client = limited(public_requests_per_minute=9)
    addresses = [
        "2001:db8::1",
        "2001:db8::ffff:1",
        "2001:db8:0:1::1",
        "fe80::1%eth0",
        "::ffff:10.0.0.1",
        "10.0.0.1",
    ]
    left = [ask(client, address).headers["X-RateLimit-Remaining"] for address in addresses]
    assert left == ["8", "7", "8", "8", "8", "7"]


def test_no_limit_counts_nothing(limited: Limited) -> None:
    answer = ask(limited(public_requests_per_minute=0), "10.0.0.1")
    assert answer.status_code == 200
    assert "X-RateLimit-Limit" not in answer.headers


def test_counts_end_and_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("time.time", lambda: now)
    counts = MemoryCounts()
    assert [counts.incr("a", 60) for _ in range(3)] == [1, 2, 3]
    assert (counts.get("a"), counts.get_expiry("a"), counts.get("b")) == (3, 1_060.0, 0)
    now = 1_059.0
    assert counts.incr("a", 60) == 4
    now = 1_060.0
    assert (counts.get("a"), counts.incr("b", 60), counts.reset()) == (0, 1, 1)
    assert counts.incr("b", 60) == 1
    counts.clear("b")
    assert counts.get("b") == 0


def test_requests_at_once_are_counted_each() -> None:
    counts = MemoryCounts()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: counts.incr("a", 60), range(4_000)))
    assert sorted(found) == list(range(1, 4_001))


@pytest.mark.parametrize("storage", ["nowhere://", "redis+nothing://a", "text"])
def test_a_storage_that_there_is_not_is_told(market: Settings, storage: str) -> None:
    with pytest.raises(ConfigError, match="limits_storage"):
        create_app(market.model_copy(update={"limits_storage": storage}))


@pytest.mark.parametrize(
    ("proxies", "expected"),
    [(0, ["8", "7", "6"]), (1, ["8", "8", "7"]), (2, ["8", "7", "8"])],
)
def test_so_many_proxies_are_believed(limited: Limited, proxies: int, expected: list[str]) -> None:
    client = limited(public_requests_per_minute=9, trusted_proxies=proxies)
    chains = ["1.1.1.1, 2.2.2.2", "1.1.1.1, 3.3.3.3", "4.4.4.4, 3.3.3.3"]
    left = [ask(client, "127.0.0.1", **{"X-Forwarded-For": chain}) for chain in chains]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in left] == expected


@pytest.mark.parametrize(
    "wrong", [{"cors_origins": ["*"]}, {"cors_origins": ["https://a.example/path"]}, {"trusted_proxies": -1}]
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        load_settings(**wrong)


DECODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "zstd": zstd.decompress}


@pytest.mark.parametrize("form", ["json", "csv", "arrow", "ndjson"])
@pytest.mark.parametrize("encoding", sorted(DECODERS))
def test_answers_are_compressed_on_demand(client: FlaskClient, form: str, encoding: str) -> None:
    plain = client.get(f"{TABLE}&format={form}")
    answer = client.get(f"{TABLE}&format={form}", headers={"Accept-Encoding": encoding})
    assert "Content-Encoding" not in plain.headers
    assert answer.headers["Content-Encoding"] == encoding
    assert DECODERS[encoding](answer.data) == plain.data
    assert len(answer.data) < len(plain.data)
    assert "Accept-Encoding" in plain.headers["Vary"]
    assert "Accept-Encoding" in answer.headers["Vary"]


def test_parquet_is_left_as_it_is(client: FlaskClient) -> None:
    answer = client.get(f"{TABLE}&format=parquet", headers={"Accept-Encoding": "zstd"})
    assert "Content-Encoding" not in answer.headers
    assert answer.data.startswith(b"PAR1")


@pytest.mark.parametrize("form", ["json", "csv", "arrow"])
@pytest.mark.parametrize("first", ["identity", "gzip", "zstd"])
@pytest.mark.parametrize("second", ["identity", "zstd"])
def test_a_tag_is_good_for_every_encoding(client: FlaskClient, form: str, first: str, second: str) -> None:
    path = f"{TABLE}&format={form}"
    tag = client.get(path, headers={"Accept-Encoding": first}).headers["ETag"]
    headers = {"Accept-Encoding": second, "If-None-Match": f'"other", {tag}'}
    answer = client.get(path, headers=headers)
    assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", tag)
    assert client.get(f"{path}&columns=close", headers=headers).status_code == 200


def test_more_streams_than_allowed_wait(market: Settings) -> None:
    client = create_app(market.model_copy(update={"server_streams": 1})).test_client()
    first = client.get(f"{TABLE}&format=csv", buffered=False)
    assert first.status_code == 200
    refused = client.get(f"{TABLE}&format=csv")
    assert refused.status_code == 503
    assert orjson.loads(refused.data)["error"]["code"] == "CRYPTO_SERVER_BUSY"
    first.close()
    for method in ("HEAD", "GET", "GET"):
        assert client.open(f"{TABLE}&format=csv", method=method, buffered=True).status_code == 200


@pytest.mark.parametrize("path", [TABLE, "/nothing", "/api/data/CryptoPair?provider=", f"{TABLE}&format=csv"])
def test_browsers_are_told_what_answers_are_not_for(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_a_page_may_load_what_this_server_has(app: Flask) -> None:
    app.add_url_rule("/page", "page", lambda: "<p>page</p>")
    policy = app.test_client().get("/page").headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self';")


def test_a_body_too_large_is_refused(app: Flask) -> None:
    from flask import request

    app.add_url_rule("/echo", "echo", lambda: request.get_data(), methods=["POST"])
    client = app.test_client()
    assert client.post("/echo", data=b"a" * (1 << 20)).status_code == 200
    refused = client.post("/echo", data=b"a" * ((1 << 20) + 1))
    assert refused.status_code == 413
    assert orjson.loads(refused.data)["error"]["code"] == "CRYPTO_REQUEST_TOO_LARGE"
