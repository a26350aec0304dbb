"""Crypto.com's wire format: what its documents say and ccxt's sample answers show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import ccxt.async_support as ccxt
import numpy as np
import pytest

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.sandbox import Sandbox, SimulatedMarket
from zvt_crypto.sandbox.cryptocom import TIMEFRAMES
from zvt_crypto.sandbox.events import TradeSpan
from zvt_crypto.sandbox.instruments import INSTRUMENTS

START = parse_time("2024-03-01")
NOW = START + 90_000
NS = 1_000_000
MONDAYS = {"7D": "2024-02-26", "14D": "2024-02-26"}


@pytest.fixture
def ask(get) -> Callable[..., Any]:
    """Asks for ``public/get-...``, of BTC_USDT unless told otherwise."""
    api, usual = "api.crypto.com/exchange/v1/public", {"instrument_name": "BTC_USDT"}
    return lambda what, **query: get(api, f"get-{what}", **{**usual, **query})


@pytest.fixture
def data(ask) -> Callable[..., list[dict[str, Any]]]:
    """The rows of an answer."""
    return lambda what, **query: ask(what, **query).json["result"]["data"]


def times(rows: list[dict[str, Any]]) -> list[int]:
    return [row["t"] for row in rows]


# ccxt's sample answers, with today's fields of trades and instruments.
SAMPLES = {
    "candlestick": {
        "id": -1, "method": "public/get-candlestick", "code": 0,
        "result": {
            "interval": "1m",
            "data": [{"o": "26949.89", "h": "26957.64", "l": "26948.24", "c": "26950.00", "v": "0.0670",
                      "t": 1687237080000}],
            "instrument_name": "BTC_USD",
        },
    },
    "trades": {
        "id": 1, "method": "public/get-trades", "code": 0,
        "result": {
            "data": [{"d": "15281981878", "t": 1613547060925, "tn": "1613547060925523623", "q": "0.181900",
                      "p": "50772.000000", "s": "SELL", "i": "BTCUSD-PERP", "m": "76423"}]
        },
    },
    "valuations": {
        "id": -1, "method": "public/get-valuations", "code": 0,
        "result": {"data": [{"v": "-0.000001884", "t": 1687892400000}], "instrument_name": "BTCUSD-PERP"},
    },
    "book": {
        "id": -1, "method": "public/get-book", "code": 0,
        "result": {
            "depth": 1,
            "data": [{"bids": [["30025.00", "0.00004", "1"]], "asks": [["30025.01", "0.04090", "1"]],
                      "t": 1687491287380}],
            "instrument_name": "BTC_USD",
        },
    },
}  # fmt: skip
QUERIES = {"valuations": {"instrument_name": "BTCUSD-PERP", "valuation_type": "funding_hist"}}


@pytest.mark.parametrize("what", SAMPLES)
def test_answers_have_the_shape_of_the_samples(ask, shape_differences, what: str) -> None:
    ours = ask(what, **QUERIES.get(what, {})).json
    assert not shape_differences(ours, SAMPLES[what])
    assert ours["method"] == f"public/get-{what}"


def test_instruments(data) -> None:
    rows = {row["symbol"]: row for row in data("instruments")}
    assert rows["BTC_USDT"]["inst_type"] == "CCY_PAIR" and "contract_size" not in rows["BTC_USDT"]
    perpetual = rows["BTCUSD-PERP"]
    assert (perpetual["inst_type"], perpetual["quote_ccy"]) == ("PERPETUAL_SWAP", "USD")
    assert (perpetual["underlying_symbol"], perpetual["contract_size"]) == ("BTCUSD-INDEX", "1")
    assert {row["quote_ccy"] for row in rows.values() if row["inst_type"] == "PERPETUAL_SWAP"} == {"USD"}
    assert [symbol for symbol, row in rows.items() if not row["tradable"]] == ["EOS_USDT"]


# --- candles ---


def test_candles_ascend_between_an_inclusive_and_an_exclusive_bound(data) -> None:
    rows = data("candlestick", start_ts=START - 3 * MINUTE_MS, end_ts=START)
    assert times(rows) == [START - n * MINUTE_MS for n in (3, 2, 1)]


def test_the_newest_candles_are_answered_with_the_unfinished_one(data) -> None:
    assert times(data("candlestick", count=2)) == [START, START + MINUTE_MS]
    assert len(data("candlestick")) == 25
    assert len(data("candlestick", count=1000)) == 300


def test_without_a_start_a_day_is_answered(data) -> None:
    assert times(data("candlestick", timeframe="4h", end_ts=START)) == [
        START - n * 4 * HOUR_MS for n in (6, 5, 4, 3, 2, 1)
    ]


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
def test_candles_open_on_the_utc_grid(data, timeframe: str) -> None:
    step = TIMEFRAMES[timeframe][0]
    grid = parse_time(MONDAYS.get(timeframe, "2024-03-01"))
    rows = data("candlestick", timeframe=timeframe, start_ts=START - 5 * step, end_ts=START)
    assert len(rows) == 5 and {(t - grid) % step for t in times(rows)} == {0}


@pytest.mark.parametrize(("name", "symbol"), [("BTC_USDT", "BTC/USDT"), ("BTCUSD-PERP", "BTC/USD:USD")])
def test_a_candle_has_the_markets_values(data, still: Sandbox, name: str, symbol: str) -> None:
    (row,) = data("candlestick", instrument_name=name, start_ts=START, end_ts=START + 1)
    candle = still.market.candles(symbol, "1m", START, START + 1)
    for key, column in (("o", "open"), ("h", "high"), ("l", "low"), ("c", "close"), ("v", "volume")):
        assert float(row[key]) == getattr(candle, column)[0]


# --- trades ---


def test_trades_descend_with_nanoseconds_and_the_takers_side(data, still: Sandbox) -> None:
    rows = data("trades", count=4)
    market = still.market.trades(TradeSpan("BTC/USDT", limit=4, newest=True), NOW)
    assert [row["d"] for row in rows] == [str(number) for number in market.id[::-1]]
    assert [int(row["tn"]) for row in rows] == (market.ts * NS + market.nanosecond)[::-1].tolist()
    assert times(rows) == market.ts[::-1].tolist()
    assert [row["s"] for row in rows] == ["BUY" if is_buy else "SELL" for is_buy in market.is_buy[::-1]]
    assert [(float(row["p"]), float(row["q"])) for row in rows] == list(
        zip(market.price[::-1].tolist(), market.volume[::-1].tolist(), strict=True)
    )


def test_how_many_trades_are_answered(data) -> None:
    assert [len(data("trades", count=count)) for count in (None, 150, 151)] == [25, 150, 150]


def test_bounds_of_trades_are_nanoseconds(data) -> None:
    rows = data("trades", count=10)
    newest, oldest = int(rows[0]["tn"]), int(rows[-1]["tn"])
    assert data("trades", start_ts=oldest, end_ts=newest, count=150) == rows[1:]
    assert data("trades", start_ts=oldest + 1, end_ts=newest + 1, count=150) == rows[:-1]
    assert data("trades", end_ts=newest, count=3) == rows[1:4]


def test_bounds_of_trades_may_be_milliseconds(data, still: Sandbox) -> None:
    rows = data("trades", start_ts=START - 2000, end_ts=START, count=150)
    market = still.market.trades(TradeSpan("BTC/USDT", START - 2000, START), NOW)
    assert [row["d"] for row in rows] == [str(number) for number in market.id[::-1]]


# --- funding events, marks, books ---


@pytest.fixture
def fundings(data) -> Callable[..., list[dict[str, Any]]]:
    return lambda **query: data("valuations", **QUERIES["valuations"], **query)


def test_funding_events_are_hourly_and_descend(fundings, still: Sandbox) -> None:
    rows = fundings(count=30)
    market = still.market.fundings("BTC/USD:USD", START - 30 * HOUR_MS, NOW, NOW)
    assert times(rows) == market.ts[::-1][:30].tolist()
    assert [float(row["v"]) for row in rows] == market.rate[::-1][:30].tolist()
    assert {round(step / HOUR_MS) for step in -np.diff(times(rows))} == {1}
    assert len(fundings()) == 25
    since = times(rows)[2]
    assert times(fundings(start_ts=since, end_ts=times(rows)[0])) == times(rows)[1:3]


def test_the_mark_is_the_newest_value_on_the_full_second(data) -> None:
    (row,) = data("valuations", instrument_name="BTCUSD-PERP", valuation_type="mark_price", count=1)
    assert row["t"] == NOW and float(row["v"]) > 0


def test_the_mark_of_bitcoin_is_there_whatever_is_traded(fetch) -> None:
    query = urlencode({"instrument_name": "BTCUSD-PERP", "valuation_type": "mark_price"})
    with Sandbox(SimulatedMarket(1, now=NOW, instruments=INSTRUMENTS[:1])) as box:
        url = f"{box.url}/api.crypto.com/exchange/v1/public/get-valuations?{query}"
        assert [row["t"] for row in fetch(url).json["result"]["data"]] == [NOW]
        assert fetch(url.replace("mark_price", "funding_hist")).json["code"] == 40004


@pytest.mark.parametrize(("asked", "depth"), [(None, 150), (50, 50), (1, 1)])
def test_the_order_book(ask, book_flaws, asked: int | None, depth: int) -> None:
    result = ask("book", depth=asked).json["result"]
    (book,) = result["data"]
    bids, asks = ([float(level[0]) for level in book[side]] for side in ("bids", "asks"))
    assert not book_flaws(bids, asks, depth)
    assert (result["depth"], book["t"]) == (depth, NOW)


# --- errors ---


@pytest.mark.parametrize(
    ("what", "query", "message"),
    [
        ("candlestick", {"instrument_name": "NOPE_USDT"}, "Invalid instrument_name"),
        ("candlestick", {"instrument_name": None}, "Missing instrument_name param"),
        ("candlestick", {"timeframe": "1d"}, "Invalid timeframe"),
        ("candlestick", {"start_ts": "now"}, "Invalid start_ts"),
        ("candlestick", {"count": 0}, "Invalid count"),
        ("trades", {"instrument_name": "NOPE_USDT"}, "Invalid instrument_name"),
        ("trades", {"start_ts": START - 8 * DAY_MS}, "Invalid start_ts"),
        ("valuations", {"instrument_name": "BTCUSD-PERP"}, "Missing valuation_type param"),
        ("valuations", {"valuation_type": "nope"}, "Invalid valuation_type"),
        ("valuations", {"valuation_type": "funding_hist"}, "Invalid instrument_name"),
        ("book", {"depth": 0}, "Invalid depth"),
        ("book", {"depth": 200}, "Invalid depth"),
    ],
)
def test_errors(ask, what: str, query: dict, message: str) -> None:
    reply = ask(what, **query)
    assert (reply.status, reply.json) == (400, {"code": 40004, "message": message})


def test_an_unknown_path(ask) -> None:
    reply = ask("nope")
    assert (reply.status, reply.json["path"]) == (404, "/v1/public/get-nope")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [("status:429", 429, 42901), ("status:500", 500, 50001), ("maintenance", 503, 9010001)],
)
def test_http_errors_have_the_venues_body(box: Sandbox, fetch, fault: str, status: int, code: int) -> None:
    box.faults = [fault]
    reply = fetch(f"{box.url}/api.crypto.com/exchange/v1/public/get-instruments")
    assert (reply.status, reply.json["code"]) == (status, code)


def test_a_ccxt_client_reads_markets_candles_trades_fundings_and_books(
    still: Sandbox, client, with_client
) -> None:
    async def use(exchange: Any) -> None:
        markets = await exchange.load_markets()
        assert {"BTC/USDT", "BTC/USD", "BTC/USD:USD", "ETH/USD:USD"} <= markets.keys()
        assert markets["BTC/USD:USD"]["contractSize"] == 1
        assert markets["BTC/USDT"]["precision"] == {"amount": 1e-5, "price": 0.01}
        rows = await exchange.fetch_ohlcv("BTC/USD:USD", "1d", since=START - 9 * DAY_MS, limit=9)
        names = ("ts", "open", "high", "low", "close", "volume")
        candles = still.market.candles("BTC/USD:USD", "1d", START - 9 * DAY_MS, START)
        assert rows == np.stack([getattr(candles, name) for name in names], axis=1).tolist()
        trades = await exchange.fetch_trades("BTC/USDT", since=START, limit=100)
        assert len(trades) == 100 and START <= trades[0]["timestamp"] <= trades[-1]["timestamp"] <= NOW
        paid = await exchange.fetch_funding_rate_history("BTC/USD:USD", limit=5)
        assert len(paid) == 5
        book = await exchange.fetch_order_book("BTC/USDT", 10)
        assert len(book["bids"]) == 10 and book["timestamp"] == NOW
        with pytest.raises(ccxt.BadRequest, match="Invalid instrument_name"):
            await exchange.v1PublicGetPublicGetTrades({"instrument_name": "NOPE_USD"})

    with_client(client("cryptocom", still), use)
