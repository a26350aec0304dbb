"""The application over real files: a small recorded market of two exchanges, copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

# Some tests take these from here.
from recorded_market import CANDLES, FIRST, HOLES, Recorder, candles, record_market  # noqa: F401

from zvt_crypto.core.config import Settings
from zvt_crypto.server.app import create_app
from zvt_crypto.store.engine import Store


@pytest.fixture(scope="session")
def market_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded market, to be copied."""
    folder = tmp_path_factory.mktemp("market")
    record_market(Store(Settings(data_path=folder)))
    return folder


@pytest.fixture
def market(market_folder: Path, settings: Settings) -> Settings:
    """Settings whose data folder holds the recorded market, this test's own."""
    shutil.copytree(market_folder, settings.data_path)
    return settings


@pytest.fixture
def recorder(market: Settings) -> Recorder:
    """Writes further rows into the recorded market."""
    return Recorder(Store(market))


@pytest.fixture
def app(market: Settings) -> Flask:
    """The application over the recorded market."""
    return create_app(market)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def empty_client(settings: Settings) -> FlaskClient:
    """A client of an application that has nothing recorded."""
    return create_app(settings).test_client()


Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(client: FlaskClient) -> Ask:
    """Asks for a table; ``ask("CryptoPair", codes="btcusdt")`` is the JSON answer, its status checked."""

    def asked(
        table: str, *, status: int = 200, provider: str | None = "binance", **given: Any
    ) -> dict[str, Any]:
        values = given if provider is None else {"provider": provider, **given}
        answer = client.get(f"/api/data/{table}", query_string=values)
        assert answer.status_code == status, answer.text
        assert answer.content_type == "application/json"
        found = answer.json
        assert isinstance(found, dict)
        return found

    return asked
