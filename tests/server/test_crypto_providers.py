"""``/api/crypto/providers``: capabilities and status, from real files and real requests to the sandbox."""

import asyncio
from contextlib import asynccontextmanager

import pyarrow as pa
import pytest

from zvt_crypto.core.errors import RateLimitExceeded
from zvt_crypto.core.levels import parse_time
from zvt_crypto.domain import load_tables
from zvt_crypto.exchanges.base import Instrument, venue_class, venues
from zvt_crypto.exchanges.client import Client
from zvt_crypto.exchanges.health import HealthLog, health_path
from zvt_crypto.sandbox import Sandbox, SimulatedMarket
from zvt_crypto.store.engine import Store

BTC = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTCUSDT")
START = parse_time("2024-01-01")


@pytest.fixture
def box():
    with Sandbox(SimulatedMarket(seed=5, now=parse_time("2024-06-10T12:34:30Z"))) as running:
        yield running


@pytest.fixture
def fetch(market, box):
    """Fetches a page of candles of binance from the sandbox, with the data folder of the application."""
    settings = market.model_copy(
        update={"gateway": box.url, "rate_limit": False, "max_attempts": 1, "timeout_seconds": 2.0}
    )

    @asynccontextmanager
    async def opened():
        kind = venue_class("binance")
        async with Client(kind, settings) as client:
            yield kind(client)

    async def page():
        async with opened() as venue:
            await venue.fetch_candle_page(BTC, "1m", START, START + 5 * 60_000)

    return lambda: asyncio.run(page())


def status_of(client, name="binance"):
    answer = client.get("/api/crypto/providers/status")
    assert answer.status_code == 200
    return next(entry for entry in answer.json["providers"] if entry["name"] == name)


def test_capabilities_are_those_of_every_venue_file(client):
    answer = client.get("/api/crypto/providers/capabilities")
    assert answer.status_code == 200
    assert list(answer.json) == sorted(venues())
    for name, venue in venues().items():
        data = answer.json[name]["data"]
        assert data["levels"] == list(venue.capabilities.levels)
        assert data["funding"] == venue.capabilities.funding
        assert answer.json[name]["perpetual_markets"] == ("cryptoperp" in venue.capabilities.entity_types)
    kraken = answer.json["kraken"]["data"]
    assert kraken["candle_reach"] == {"cryptopair": 720, "cryptoperp": None}


def test_recorded_instruments_tell_leverage_intervals_and_margin(client):
    found = client.get("/api/crypto/providers/capabilities").json["binance"]
    assert found["max_leverage"] == 125.0
    assert found["funding_intervals"] == [4, 8]
    assert found["margin_markets"] is True


def test_what_is_not_known_is_null_and_what_cannot_be_done_is_said(empty_client):
    found = empty_client.get("/api/crypto/providers/capabilities").json["binance"]
    assert (found["max_leverage"], found["funding_intervals"], found["margin_markets"]) == (None, None, None)
    assert not found["spot_trading"] and not found["perpetual_trading"] and not found["margin_trading"]
    assert found["supported_order_types"] == []
    assert found["websocket_endpoints"] == ["trades", "klines", "orderbook", "funding"]
    assert found["rate_limits"] == {
        "requests_per_minute": 1200,
        "orders_per_minute": None,
        "websocket_connections": 50,
    }
    any_other = empty_client.get("/api/crypto/providers/capabilities").json["ccxt"]
    assert any_other["websocket_endpoints"] == []
    assert any_other["rate_limits"]["websocket_connections"] == 0


def test_asking_makes_no_file(empty_client, settings):
    empty_client.get("/api/crypto/providers/capabilities")
    empty_client.get("/api/crypto/providers/status")
    assert not settings.data_path.exists()
    assert not (settings.data_path.parent / "state").exists()


def test_an_exchange_that_nobody_asked_is_unknown(client):
    found = status_of(client)
    assert found["status"] == "unknown"
    assert found["api_latency_ms"] is found["error_rate_1h"] is found["uptime_24h"] is None
    assert found["websocket_connected"] is False


def test_the_newest_recorded_row_is_told_and_followed(client, recorder):
    assert status_of(client)["last_data_timestamp"] == "2024-02-29T00:00:00Z"
    prices = {name: [10.0] for name in ("open", "high", "low", "close")}
    amounts = {"volume": [1.0], "turnover": [10.0], "trade_count": [1]}
    row = pa.table({"ts": [parse_time("2024-05-01T02:00:00Z")], **prices, **amounts})
    recorder.series("binance", "CryptoPair1hKdata", "btcusdt", row)
    assert status_of(client)["last_data_timestamp"] == "2024-05-01T02:00:00Z"
    assert status_of(client, "kraken")["last_data_timestamp"] is None


def test_requests_of_recorders_are_measured(client, fetch):
    fetch()
    found = status_of(client)
    assert found["status"] == "operational"
    assert found["api_latency_ms"] > 0
    assert found["error_rate_1h"] == 0
    assert found["uptime_24h"] == 100
    assert found["requests_1h"] >= 1
    assert {api["name"]: api["status"] for api in found["apis"]} == {
        "binance": "operational",
        "binanceusdm": "unknown",
    }


def test_an_exchange_that_fails_is_down(client, fetch, box):
    box.faults = ["status:500"]
    with pytest.raises(Exception, match="binance"):
        fetch()
    found = status_of(client)
    assert found["status"] == "down"
    assert found["error_rate_1h"] == 1


def test_a_ban_is_degraded_with_its_end(client, fetch, box):
    box.faults = ["status:418,times=1,retry_after=300"]
    with pytest.raises(RateLimitExceeded):
        fetch()
    found = status_of(client)
    assert found["status"] == "degraded"
    assert found["paused_until"] == found["apis"][0]["paused_until"]
    assert parse_time(found["paused_until"]) > 0
    assert found["apis"][1]["paused_until"] is None


def test_exchanges_of_ccxt_are_listed_once_they_were_asked(client, market):
    with HealthLog("gate", health_path(market.data_path.parent / "state", "gate")).request(0.0):
        pass
    found = status_of(client, "ccxt")
    assert [api["name"] for api in found["apis"]] == ["gate"]
    assert found["status"] == "operational"


def test_a_damaged_table_does_not_hide_the_others(client, market, fetch):
    fetch()
    spec = load_tables().find("CryptoPair1dKdata")
    path = Store(market).path("binance", spec)
    path.write_bytes(b"no database" * 1000)
    assert status_of(client)["last_data_timestamp"] == "2024-01-30T16:00:00.005Z"
