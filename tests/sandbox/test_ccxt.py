"""Real ccxt clients against the sandbox: markets, candles, and what they make of faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ccxt.async_support as ccxt
import numpy as np
import pytest

from zvt_crypto.core.levels import HOUR_MS, LEVEL_MS, parse_time
from zvt_crypto.sandbox import Sandbox

START = parse_time("2024-03-01")
VENUES = ["binance", "binanceusdm", "okx"]
SYMBOL = {"binance": "BTC/USDT", "binanceusdm": "BTC/USDT:USDT", "okx": "BTC/USDT"}


@pytest.mark.parametrize(
    ("venue", "count", "inactive"),
    [("binance", 19, ["EOS/USDT"]), ("binanceusdm", 5, []), ("okx", 20, ["EOS/USDT"])],
)
def test_load_markets(box: Sandbox, client, with_client, venue: str, count: int, inactive: list[str]) -> None:
    markets = with_client(client(venue, box), lambda exchange: exchange.load_markets())
    assert len(markets) == count
    assert [symbol for symbol, market in markets.items() if not market["active"]] == inactive
    for symbol, market in markets.items():
        instrument = box.market.instruments[symbol]
        assert market["precision"]["price"] == pytest.approx(10.0**-instrument.price_digits)
        assert (market["base"], market["quote"], market["settle"]) == (
            instrument.base,
            instrument.quote,
            instrument.settle,
        )


@pytest.mark.parametrize("venue", VENUES)
def test_fetch_ohlcv_of_every_level(box: Sandbox, client, with_client, venue: str) -> None:
    async def use(exchange: Any) -> dict[str, list]:
        symbol = SYMBOL[venue]
        return {level: await exchange.fetch_ohlcv(symbol, level, since=START, limit=20) for level in LEVEL_MS}

    names = ("ts", "open", "high", "low", "close", "volume")
    for level, rows in with_client(client(venue, box), use).items():
        candles = box.market.candles(SYMBOL[venue], level, START, START + 20 * LEVEL_MS[level])
        columns = np.stack([getattr(candles, name) for name in names], axis=1)
        assert np.array_equal(np.array(rows), columns), level


def test_fetch_ohlcv_of_an_inverse_swap(box: Sandbox, client, with_client) -> None:
    async def use(exchange: Any) -> list:
        return await exchange.fetch_ohlcv("BTC/USD:BTC", "1h", since=START, limit=3)

    rows = with_client(client("okx", box), use)
    assert [row[0] for row in rows] == [START + n * HOUR_MS for n in range(3)]


@pytest.mark.parametrize("venue", VENUES)
def test_fetch_time_and_status(box: Sandbox, client, with_client, venue: str) -> None:
    async def use(exchange: Any) -> tuple[int, dict]:
        return await exchange.fetch_time(), await exchange.fetch_status()

    told, status = with_client(client(venue, box), use)
    assert abs(told - box.market.now()) < 5000
    assert status["status"] == "ok"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status:429", (ccxt.DDoSProtection, ccxt.RateLimitExceeded)),
        ("status:451", (ccxt.ExchangeNotAvailable, ccxt.RestrictedLocation)),
        ("status:503", ccxt.OperationFailed),
        ("html:502", ccxt.OperationFailed),
        # aiohttp's ClientPayloadError becomes a bare ExchangeError.
        ("cut:close", ccxt.ExchangeError),
        ("disconnect", ccxt.NetworkError),
        ("timeout", ccxt.RequestTimeout),
    ],
)
@pytest.mark.parametrize("venue", ["binance", "okx"])
def test_faults_as_ccxt_sees_them(
    box: Sandbox, client, with_client, venue: str, fault: str, error: Any
) -> None:
    async def use(exchange: Any) -> None:
        await exchange.load_markets()
        exchange.timeout = 300
        await exchange.fetch_ohlcv("BTC/USDT", "1m", since=START, limit=2)

    # Binance's path ends in klines, OKX's in history-candles.
    path = "klines" if venue == "binance" else "candles"
    box.faults = [f"{fault},path={path}"]
    with pytest.raises(error):
        with_client(client(venue, box), use)


@pytest.mark.parametrize("venue", VENUES)
def test_maintenance(box: Sandbox, client, with_client, venue: str) -> None:
    box.faults = ["maintenance"]
    with pytest.raises(ccxt.OnMaintenance):
        with_client(client(venue, box), lambda exchange: exchange.load_markets())


def test_maintenance_as_binances_status_tells_it(box: Sandbox, client, with_client) -> None:
    box.faults = ["maintenance"]
    status = with_client(client("binance", box), lambda exchange: exchange.fetch_status())
    assert status["status"] == "maintenance"


def test_an_unknown_symbol(box: Sandbox, client, with_client) -> None:
    async def use(exchange: Any) -> None:
        await exchange.public_get_klines({"symbol": "NOPE", "interval": "1m"})

    with pytest.raises(ccxt.BadSymbol):
        with_client(client("binance", box), use)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("venue", "file", "url"),
    [
        ("binance", "BINANCE.0.gz", "https://api.binance.com/api/v3/exchangeInfo"),
        ("binanceusdm", "BINANCE_FUTURES.0.gz", "https://fapi.binance.com/fapi/v1/exchangeInfo"),
        ("okx", "OKX.0.gz", "https://www.okx.com/api/v5/public/instruments?instType=SPOT"),
    ],
)
def test_recorded_instruments_load(
    real: Path, client, with_client, fetch, venue: str, file: str, url: str
) -> None:
    types = {"binance": ["spot"], "binanceusdm": ["linear"], "okx": ["spot"]}[venue]
    with Sandbox(captures=[real / "captures" / file]) as box:
        body = fetch(f"{box.url}/{url.removeprefix('https://')}").body
        made = client(venue, box, options={"fetchMarkets": {"types": types}})
        markets = with_client(made, lambda exchange: exchange.load_markets())
    recorded = json.loads(body)
    listed = recorded["data"] if venue == "okx" else recorded["symbols"]
    assert len(markets) == len(listed) > 100
