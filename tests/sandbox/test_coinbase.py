"""Coinbase's wire format: what its documents say, and the shape of what was recorded there."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ccxt.async_support as ccxt
import numpy as np
import pytest

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.sandbox import Sandbox, SimulatedMarket
from zvt_crypto.sandbox.coinbase import GRANULARITIES, candle_rows
from zvt_crypto.sandbox.events import TradeSpan

START = parse_time("2024-03-01")
NOW = START + 90_000
API = "api.coinbase.com/api/v3/brokerage"
SECOND = 1000


@pytest.fixture
def candles(ask) -> Callable[..., list[dict[str, str]]]:
    def listed(start: int, end: int, granularity: str = "ONE_MINUTE", **query: Any):
        query |= {"start": start // SECOND, "end": end // SECOND, "granularity": granularity}
        return ask("market/products/BTC-USDT/candles", **query).json["candles"]

    return listed


@pytest.fixture
def ticker(ask) -> Callable[..., Any]:
    return lambda **query: ask("market/products/BTC-USDT/ticker", **query)


def opens(rows: list[dict[str, str]]) -> list[int]:
    return [int(row["start"]) * SECOND for row in rows]


def test_candles_descend_between_inclusive_bounds(candles) -> None:
    assert opens(candles(START - 3 * MINUTE_MS, START - MINUTE_MS)) == [
        START - n * MINUTE_MS for n in (1, 2, 3)
    ]


def test_a_candle_is_an_object_of_texts_with_the_markets_values(candles, still: Sandbox) -> None:
    (row,) = candles(START, START)
    candle = still.market.candles("BTC/USDT", "1m", START, START + 1)
    assert list(row) == ["start", "low", "high", "open", "close", "volume"]
    assert all(isinstance(value, str) for value in row.values())
    for name in ("low", "high", "open", "close", "volume"):
        assert float(row[name]) == getattr(candle, name)[0]


def test_the_unfinished_candle_is_the_newest(candles) -> None:
    assert opens(candles(START, START + HOUR_MS)) == [START + MINUTE_MS, START]


def test_a_product_without_a_trade_yet_has_no_price(fetch) -> None:
    with Sandbox(SimulatedMarket(1, now=parse_time("2017-08-01"))) as box:
        url = f"{box.url}/api.coinbase.com/api/v3/brokerage/market/products"
        products = {product["product_id"]: product for product in fetch(url).json["products"]}
    assert (products["BTC-USDT"]["price"], products["BTC-USDT"]["volume_24h"]) == ("", "")
    assert float(products["ETH-BTC"]["price"]) > 0


@pytest.mark.parametrize(("granularity", "step"), GRANULARITIES.items())
def test_every_granularity_opens_on_the_utc_grid(candles, granularity: str, step: int) -> None:
    end = START - DAY_MS
    assert opens(candles(end - 3 * step, end - 1, granularity)) == [end - n * step for n in (1, 2, 3)]


def test_a_minute_without_a_trade_has_no_candle(still: Sandbox) -> None:
    rows = still.market.candles("BTC/USDT", "1m", START - 3 * MINUTE_MS, START)
    quiet = rows.with_columns(volume=np.where(np.arange(3) == 1, 0.0, rows.volume))
    assert opens(json.loads(candle_rows(quiet))) == [START - MINUTE_MS, START - 3 * MINUTE_MS]


def test_up_to_350_candles_are_answered(ask, candles) -> None:
    assert len(candles(START - 350 * MINUTE_MS, START - MINUTE_MS)) == 350
    query = {
        "granularity": "ONE_MINUTE",
        "start": (START - 350 * MINUTE_MS) // SECOND,
        "end": START // SECOND,
    }
    reply = ask("market/products/BTC-USDT/candles", **query)
    assert reply.status == 400
    assert "number of candles requested should be less than 350" in reply.json["message"]


def test_trades_descend_with_microseconds_and_the_makers_side(ticker, still: Sandbox) -> None:
    rows = ticker(limit=5).json["trades"]
    market = still.market.trades(TradeSpan("BTC/USDT", limit=5, newest=True), NOW)
    assert [row["trade_id"] for row in rows] == [str(number) for number in market.id[::-1]]
    assert [row["side"] for row in rows] == ["SELL" if is_buy else "BUY" for is_buy in market.is_buy[::-1]]
    assert [(float(row["price"]), float(row["size"])) for row in rows] == list(
        zip(market.price[::-1].tolist(), market.volume[::-1].tolist(), strict=True)
    )
    times = [np.datetime64(row["time"].removesuffix("Z")).astype(np.int64) for row in rows]
    assert times == (market.ts * 1000 + market.nanosecond // 1000)[::-1].tolist()
    assert all(len(row["time"]) == len("2024-03-01T00:00:00.000000Z") for row in rows)


def test_an_answer_has_100_trades_whatever_the_limit(ticker) -> None:
    assert [len(ticker(limit=limit).json["trades"]) for limit in (99, 101, 1000)] == [99, 100, 100]
    reply = ticker(limit=1001)
    assert (reply.status, reply.json["error"]) == (500, "INTERNAL")


def test_bounds_of_trades_are_inclusive_seconds(ticker, still: Sandbox) -> None:
    end = START // SECOND
    rows = ticker(start=end - 1, end=end).json["trades"]
    market = still.market.trades(TradeSpan("BTC/USDT", START - SECOND, START + 1), NOW)
    assert len(rows) == len(market) > 0
    assert rows == ticker(start=end - 60, end=end, limit=len(market)).json["trades"]


def test_the_order_book(ask, book_flaws) -> None:
    book = ask("market/product_book", product_id="BTC-USDT", limit=20).json
    bids, asks = (
        [(float(level["price"]), float(level["size"])) for level in book["pricebook"][side]]
        for side in ("bids", "asks")
    )
    assert not book_flaws(bids, asks, 20)
    assert float(book["spread_absolute"]) == pytest.approx(asks[0][0] - bids[0][0])
    assert book["pricebook"]["time"] == "2024-03-01T00:01:30.000000Z"
    assert (
        len(ask("market/product_book", product_id="BTC-USDT", limit=5000).json["pricebook"]["bids"]) == 1000
    )


PRODUCT = "market/products/BTC-USDT"
BOUNDS = {"start": START // SECOND - 600, "end": START // SECOND}


@pytest.mark.parametrize(
    ("path", "query", "status", "error", "message"),
    [
        ("market/products/NO-USDT/candles", {**BOUNDS, "granularity": "ONE_MINUTE"}, 400,
         "INVALID_ARGUMENT", "valid product_id is required"),
        ("market/products/NO-USDT/ticker", {}, 400, "INVALID_ARGUMENT", "valid product_id is required"),
        ("market/product_book", {}, 400, "INVALID_ARGUMENT", "valid product_id is required"),
        ("market/products/NO-USDT", {}, 404, "NOT_FOUND", "Product NO-USDT not supported"),
        (f"{PRODUCT}/candles", {**BOUNDS, "granularity": "4h"}, 400,
         "INVALID_ARGUMENT", "granularity argument is invalid"),
        (f"{PRODUCT}/candles", {"granularity": "ONE_DAY"}, 400,
         "INVALID_ARGUMENT", "start and end argument is invalid"),
        (f"{PRODUCT}/candles", {"start": 2, "end": 1, "granularity": "ONE_DAY"}, 400,
         "INVALID_ARGUMENT", "start and end argument is invalid"),
        (f"{PRODUCT}/ticker", {"limit": "x"}, 400, "INVALID_ARGUMENT", "limit argument is invalid"),
        (f"{PRODUCT}/ticker", {"start": "now"}, 400, "INVALID_ARGUMENT", "start argument is invalid"),
        ("nope", {}, 404, "NOT_FOUND", "Not Found"),
    ],
)  # fmt: skip
def test_errors(ask, path: str, query: dict, status: int, error: str, message: str) -> None:
    reply = ask(path, **query)
    assert (reply.status, reply.json["error"], reply.json["message"]) == (status, error, message)


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [("status:429", 429, "RESOURCE_EXHAUSTED"), ("status:500", 500, "INTERNAL"), ("maintenance", 503, "UNAVAILABLE")],
)  # fmt: skip
def test_http_errors_have_coinbases_body(box: Sandbox, fetch, fault: str, status: int, error: str) -> None:
    box.faults = [fault]
    reply = fetch(f"{box.url}/api.coinbase.com/api/v3/brokerage/time")
    assert (reply.status, reply.json["error"]) == (status, error)


def test_the_clock(ask, still: Sandbox, fetch) -> None:
    seconds = NOW // SECOND
    assert ask("time").json == {
        "iso": "2024-03-01T00:01:30Z", "epochSeconds": str(seconds), "epochMillis": str(NOW)
    }  # fmt: skip
    assert fetch(f"{still.url}/api.coinbase.com/v2/time").json["data"]["epoch"] == seconds


def test_a_ccxt_client_reads_markets_candles_trades_and_books(still: Sandbox, client, with_client) -> None:
    async def use(exchange: Any) -> None:
        markets = await exchange.load_markets()
        assert {"BTC/USDT", "BTC/USD", "ETH/USDC", "ETH/BTC"} <= markets.keys()
        assert [symbol for symbol, market in markets.items() if not market["active"]] == ["EOS/USDT"]
        assert markets["BTC/USDT"]["precision"] == {"amount": 1e-5, "price": 0.01}
        assert await exchange.fetch_time() == NOW
        rows = await exchange.fetch_ohlcv("BTC/USDT", "1h", since=START - DAY_MS, limit=24)
        names = ("ts", "open", "high", "low", "close", "volume")
        candles = still.market.candles("BTC/USDT", "1h", START - DAY_MS, START)
        assert rows == np.stack([getattr(candles, name) for name in names], axis=1).tolist()
        trades = await exchange.fetch_trades("BTC/USDT", limit=10)
        assert len(trades) == 10 and trades[-1]["timestamp"] <= NOW
        book = await exchange.fetch_order_book("BTC/USDT", 10)
        assert len(book["bids"]) == 10 and book["timestamp"] == NOW
        with pytest.raises(ccxt.BadRequest, match="valid product_id"):
            await exchange.v3PublicGetBrokerageMarketProductsProductIdTicker({"product_id": "NO-USD"})

    with_client(client("coinbase", still), use)


@pytest.fixture
def recorded(real: Path) -> Callable[[str], Any]:
    return lambda name: json.loads((real / f"payloads/coinbase/http_{name}.json").read_text())


@pytest.mark.real_data
def test_answers_have_the_recorded_shape(ask, candles, ticker, recorded, shape_differences) -> None:
    assert not shape_differences(ask("market/products").json, recorded("products"))
    assert not shape_differences(ask("market/products/BTC-USDT").json, recorded("product"))
    assert not shape_differences({"candles": candles(START, START)}, recorded("candles"))
    assert not shape_differences(ticker(limit=3).json, recorded("ticker"))
    assert not shape_differences(
        ask("market/product_book", product_id="BTC-USDT").json, recorded("product_book")
    )


@pytest.mark.real_data
def test_the_recorded_order_of_rows_is_ours(recorded) -> None:
    starts = opens(recorded("candles")["candles"])
    assert starts == sorted(starts, reverse=True)
    ids = [int(trade["trade_id"]) for trade in recorded("ticker")["trades"]]
    assert ids == sorted(ids, reverse=True)


@pytest.mark.real_data
def test_products_of_2021_had_names_that_today_has(real: Path, recorded) -> None:
    """Coinbase Pro's list has another layout; ids, currencies and states are written as now."""
    with gzip.open(real / "captures/COINBASE.0.gz", "rt") as lines:
        body = next(line for line in lines if line.startswith("https://api.pro.coinbase.com/products"))
    old = {product["id"]: product for product in json.loads(body.split(": ", 1)[1])}
    new = recorded("product")
    then = old[new["product_id"]]
    assert (then["base_currency"], then["quote_currency"]) == (
        new["base_currency_id"],
        new["quote_currency_id"],
    )
    assert (then["status"], then["quote_increment"], then["base_increment"]) == (
        new["status"], new["quote_increment"], new["base_increment"]
    )  # fmt: skip
