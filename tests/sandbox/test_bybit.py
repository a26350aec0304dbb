"""Bybit's wire format: what its documents say, and the shape of what was recorded there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.sandbox.events import TradeSpan

START = parse_time("2024-03-01")
NOW = START + 90_000


@pytest.fixture
def ask(get) -> Callable[..., Any]:
    """Asks for a path below ``/v5/``, of spot BTCUSDT unless told otherwise."""
    usual = {"category": "spot", "symbol": "BTCUSDT"}
    return lambda path, **query: get("api.bybit.com/v5", path, **{**usual, **query})


@pytest.fixture
def listed(ask) -> Callable[..., list[Any]]:
    """The rows of an answer."""
    return lambda path, **query: ask(path, **query).json["result"]["list"]


@pytest.fixture
def klines(listed) -> Callable[..., list[list[str]]]:
    return lambda **query: listed("market/kline", **{"interval": "1", **query})


def times(rows: list[list[str]]) -> list[int]:
    return [int(row[0]) for row in rows]


def test_candles_descend_between_inclusive_bounds(klines) -> None:
    rows = klines(start=START - 3 * MINUTE_MS, end=START - MINUTE_MS)
    assert times(rows) == [START - n * MINUTE_MS for n in (1, 2, 3)]


def test_bounds_need_not_lie_on_the_grid(klines) -> None:
    rows = klines(start=START - 3 * MINUTE_MS + 1, end=START - 1)
    assert times(rows) == [START - n * MINUTE_MS for n in (1, 2)]


def test_which_candles_a_limit_keeps(klines) -> None:
    start, end = START - DAY_MS, START - HOUR_MS
    assert times(klines(start=start, limit=2)) == [start + MINUTE_MS, start]
    assert times(klines(start=start, end=end, limit=2)) == [end, end - MINUTE_MS]
    assert times(klines(end=end, limit=1)) == [end]


def test_the_newest_candle_is_not_finished(still, klines) -> None:
    rows = klines(limit=2)
    assert times(rows) == [START + MINUTE_MS, START]
    final = still.market.candles("BTC/USDT", "1m", START + MINUTE_MS, START + MINUTE_MS + 1)
    assert float(rows[0][5]) < final.volume[0]


@pytest.mark.parametrize(("asked", "count"), [(None, 200), (1000, 1000), (5000, 1000)])
def test_limits_of_candles(klines, asked: int | None, count: int) -> None:
    assert len(klines(limit=asked)) == count


@pytest.mark.parametrize(
    ("interval", "step", "opens"),
    [("60", HOUR_MS, 0), ("720", 12 * HOUR_MS, 0), ("D", DAY_MS, 0), ("W", 7 * DAY_MS, 4 * DAY_MS)],
)
def test_long_candles_open_by_utc(klines, interval: str, step: int, opens: int) -> None:
    rows = klines(interval=interval, limit=5)
    assert {(t - opens) % step for t in times(rows)} == {0}
    assert np.diff(times(rows)).tolist() == [-step] * 4


@pytest.mark.parametrize(
    ("category", "name", "symbol"),
    [("spot", "BTCUSDT", "BTC/USDT"), ("linear", "BTCUSDT", "BTC/USDT:USDT"), (None, "BTCUSDT", "BTC/USDT:USDT"),
     ("inverse", "BTCUSD", "BTC/USD:BTC")],
)  # fmt: skip
def test_amounts_of_candles(still, klines, category: str | None, name: str, symbol: str) -> None:
    row = [float(v) for v in klines(category=category, symbol=name, start=START, end=START)[0]]
    candle = still.market.candles(symbol, "1m", START, START + 1)
    amounts = [candle.volume[0], candle.turnover[0]]
    assert row[1:5] == [candle.open[0], candle.high[0], candle.low[0], candle.close[0]]
    # An inverse contract is a dollar: its number is the turnover, its worth the coins.
    assert row[5:] == (amounts[::-1] if category == "inverse" else amounts)


@pytest.mark.parametrize(
    ("category", "symbol", "asked", "count"),
    [("spot", "BTC/USDT", None, 60), ("spot", "BTC/USDT", 1000, 60), ("linear", "BTC/USDT:USDT", None, 500),
     ("linear", "BTC/USDT:USDT", 2000, 1000)],
)  # fmt: skip
def test_trades_are_the_newest(still, listed, category, symbol, asked: int | None, count: int) -> None:
    rows = listed("market/recent-trade", category=category, limit=asked)
    trades = still.market.trades(TradeSpan(symbol, limit=count, newest=True), NOW)
    assert len(rows) == count
    for column, ours in (("time", trades.ts), ("price", trades.price), ("size", trades.volume)):
        assert [float(row[column]) for row in rows] == ours[::-1].tolist(), column
    assert [row["side"] == "Buy" for row in rows] == trades.is_buy[::-1].tolist()
    assert len({row["execId"] for row in rows}) == count
    assert all(row["execId"].isdigit() == (category == "spot") for row in rows)


def test_trades_of_inverse_contracts_count_dollars(still, listed) -> None:
    rows = listed("market/recent-trade", category="inverse", symbol="BTCUSD", limit=50)
    trades = still.market.trades(TradeSpan("BTC/USD:BTC", limit=50, newest=True), NOW)
    assert [float(row["size"]) for row in rows] == pytest.approx(trades.turnover[::-1].tolist(), rel=1e-9)


def test_funding_goes_back_from_an_inclusive_end(still, listed) -> None:
    events = still.market.fundings("BTC/USDT:USDT", START - 100 * DAY_MS, NOW)
    rows = listed("market/funding/history", category="linear")
    assert [int(row["fundingRateTimestamp"]) for row in rows] == events.ts[-200:][::-1].tolist()
    assert [float(row["fundingRate"]) for row in rows] == events.rate[-200:][::-1].tolist()
    last = int(events.ts[-4])
    rows = listed("market/funding/history", category="linear", endTime=last, limit=2)
    assert [int(row["fundingRateTimestamp"]) for row in rows] == events.ts[[-4, -5]].tolist()
    rows = listed("market/funding/history", category="linear", startTime=last, endTime=NOW)
    assert [int(row["fundingRateTimestamp"]) for row in rows] == events.ts[:-5:-1].tolist()
    assert listed("market/funding/history", category="linear", endTime=START - 3000 * DAY_MS) == []


@pytest.mark.parametrize(
    ("category", "asked", "count"),
    [("spot", None, 1), ("spot", 7, 7), ("spot", 500, 200), ("linear", None, 25), ("linear", 1000, 500)],
)
def test_depths_of_order_books(ask, book_flaws, category, asked: int | None, count: int) -> None:
    book = ask("market/orderbook", category=category, limit=asked).json["result"]
    bids, asks = ([float(price) for price, _ in book[side]] for side in "ba")
    assert not book_flaws(bids, asks, count)


def test_sizes_of_an_inverse_order_book_are_dollars(still, ask) -> None:
    book = ask("market/orderbook", category="inverse", symbol="BTCUSD", limit=3).json["result"]
    ours = still.market.book("BTC/USD:BTC", 3, NOW)
    for side, levels in (("b", ours.bids), ("a", ours.asks)):
        assert np.array(book[side], float) == pytest.approx(
            np.column_stack([levels[:, 0], levels.prod(axis=1)])
        )


@pytest.mark.parametrize(
    ("path", "query", "message"),
    [
        ("market/kline", {"interval": "1", "symbol": "NOPEUSDT"}, "Not supported symbols"),
        ("market/kline", {"interval": "1", "symbol": "BTCUSD", "category": "linear"}, "params error: symbol invalid"),
        ("market/kline", {"interval": "1", "symbol": None}, "Not supported symbols"),
        ("market/kline", {"interval": "1", "category": "option"}, "params error: category is invalid"),
        ("market/kline", {"interval": "7"}, "params error: intervalTime is invalid"),
        ("market/kline", {}, "params error: intervalTime is invalid"),
        ("market/kline", {"interval": "1", "start": "now"}, "params error: start is invalid"),
        ("market/kline", {"interval": "1", "limit": 0}, "params error: limit is invalid"),
        ("market/recent-trade", {"category": None}, "params error: category is invalid"),
        ("market/funding/history", {}, "params error: category is invalid"),
        ("market/funding/history", {"category": "linear", "startTime": START}, "params error: endTime is required"),
        ("market/orderbook", {"category": "inverse"}, "params error: symbol invalid"),
        ("market/instruments-info", {"category": "coins"}, "params error: category is invalid"),
        ("market/instruments-info", {"category": "linear", "symbol": "NOPE"}, "params error: symbol invalid"),
    ],
)  # fmt: skip
def test_errors(ask, path: str, query: dict, message: str) -> None:
    reply = ask(path, **query)
    assert (reply.status, reply.json["retCode"], reply.json["result"]) == (200, 10001, {})
    assert reply.json["retMsg"].startswith(message)


def test_an_unknown_path_and_http_errors(still, ask) -> None:
    assert ask("market/nope").status == 404
    bodies = {}
    for status in (403, 429, 500):
        still.faults = [f"status:{status},times=1"]
        reply = ask("market/time")
        assert reply.status == status
        bodies[status] = reply.body
    assert b"access too frequent" in bodies[403]
    assert json.loads(bodies[500])["retCode"] == 10016


def test_server_time(ask) -> None:
    reply = ask("market/time").json
    assert reply["time"] == NOW
    assert reply["result"] == {"timeSecond": str(NOW // 1000), "timeNano": f"{NOW}000000"}


def test_instruments_come_in_pages(ask) -> None:
    names, cursor, pages = [], None, 0
    while cursor != "":
        page = ask("market/instruments-info", category="linear", symbol=None, limit=2, cursor=cursor)
        result = page.json["result"]
        names += [row["symbol"] for row in result["list"]]
        cursor, pages = result["nextPageCursor"], pages + 1
    assert pages == 3
    assert sorted(names) == ["BTCUSDT", "DOGEUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]


def test_which_instruments_are_listed(listed) -> None:
    info = "market/instruments-info"
    spot = {row["symbol"] for row in listed(info, symbol=None, limit=1)}
    assert {"BTCUSDT", "ETHBTC", "BTCUSDC"} <= spot
    assert "EOSUSDT" not in spot, "only what trades is listed by default"
    assert [row["symbol"] for row in listed(info, category="inverse", symbol=None)] == ["BTCUSD"]
    assert [row["symbol"] for row in listed(info, category="linear", symbol="SOLUSDT")] == ["SOLUSDT"]
    assert listed(info, symbol="NOPEUSDT") == []
    for query in ({"category": "option"}, {"category": "linear", "status": "PreLaunch"}):
        assert listed(info, symbol=None, **query) == []


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("category", "file"),
    [("spot", "spot"), ("linear", "linear"), ("linear", "linear_symbol_type"), ("inverse", "inverse"),
     ("inverse", "inverse_symbol_type")],
)  # fmt: skip
def test_instruments_have_the_recorded_shape(
    ask, real: Path, shape_differences, category: str, file: str
) -> None:
    theirs = json.loads((real / f"payloads/bybit/http_get_instruments_{file}.json").read_text())
    ours = ask("market/instruments-info", category=category, symbol=None).json
    assert ours.keys() == theirs.keys()
    assert theirs["result"].keys() <= ours["result"].keys()
    # Bybit adds fields over time.
    assert not shape_differences(ours["result"]["list"], theirs["result"]["list"], exact=False)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("path", "query", "file", "exact"),
    [
        ("market/kline", {"interval": "1", "limit": 3}, "klines_linear", True),
        ("market/recent-trade", {"limit": 3}, "trades_recent", False),
        ("market/funding/history", {"limit": 3}, "funding_history", False),
        ("market/orderbook", {"limit": 3}, "orderbook", False),
    ],
)
def test_answers_have_the_recorded_shape(
    ask, real, shape_differences, path, query, file, exact: bool
) -> None:
    theirs = json.loads((real / f"payloads/bybit/http_get_{file}.json").read_text())
    ours = ask(path, category="linear", **query).json
    # Some recorded envelopes lack ``retExtInfo``, which the documents show in each.
    assert not shape_differences({"retExtInfo": {}, **ours}, {"retExtInfo": {}, **theirs}, exact=True)
    if exact:
        assert ours.keys() == theirs.keys()
        assert {len(row) for row in ours["result"]["list"]} == {len(theirs["result"]["list"][0])} == {7}


def test_ccxt_reads_all_of_it(still, client, with_client) -> None:
    async def use(exchange) -> tuple[dict, dict, list, list, dict, list]:
        return (
            await exchange.load_markets(),
            await exchange.fetch_status(),
            await exchange.fetch_ohlcv("BTC/USDT:USDT", "1h", START - 5 * HOUR_MS, 3),
            await exchange.fetch_trades("BTC/USDT", limit=10),
            await exchange.fetch_order_book("BTC/USDT", 5),
            await exchange.fetch_funding_rate_history("BTC/USD:BTC", START - 2 * DAY_MS, 3),
        )

    markets, status, candles, trades, book, fundings = with_client(client("bybit", still), use)
    assert {"BTC/USDT", "ETH/BTC", "BTC/USDC", "BTC/USDT:USDT", "BTC/USD:BTC"} <= set(markets)
    assert set(markets) <= {symbol for symbol, i in still.market.instruments.items() if i.active}
    assert status["status"] == "ok"
    ours = still.market.candles("BTC/USDT:USDT", "1h", START - 5 * HOUR_MS, START - 2 * HOUR_MS)
    assert [row[5] for row in candles] == ours.volume.tolist()
    assert len(trades) == 10 and len(book["bids"]) == len(book["asks"]) == 5
    assert len(fundings) == 3
