"""Binance's trades, funding events and order books: what its documents say, and what was recorded there."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, parse_time
from zvt_crypto.sandbox import Sandbox, SimulatedMarket, binance
from zvt_crypto.sandbox.events import TradeSpan

NOW = parse_time("2024-05-02T12:34:30Z")
START = NOW - 2 * HOUR_MS
SPOT, FUTURES = "api.binance.com/api/v3", "fapi.binance.com/fapi/v1"
HOSTS = pytest.mark.parametrize("host", [SPOT, FUTURES])


@pytest.fixture
def ask(get):
    return lambda host, path, **query: get(host, path, **{"symbol": "BTCUSDT", **query})


def symbol_of(host: str) -> str:
    return "BTC/USDT" if host == SPOT else "BTC/USDT:USDT"


@HOSTS
def test_trades_are_the_markets(still: Sandbox, ask, host: str) -> None:
    rows = ask(host, "aggTrades", startTime=START, limit=1000).json
    wanted = still.market.trades(TradeSpan(symbol_of(host), START, limit=1000))
    assert [row["a"] for row in rows] == wanted.id.tolist()
    assert [row["T"] for row in rows] == wanted.ts.tolist()
    assert [float(row["p"]) for row in rows] == wanted.price.tolist()
    assert [float(row["q"]) for row in rows] == wanted.volume.tolist()
    assert [row["m"] for row in rows] == (~wanted.is_buy).tolist()
    assert {row.get("M") for row in rows} == ({True} if host == SPOT else {None})
    digits = {len(row["p"].partition(".")[2]) for row in rows}
    assert digits == ({8} if host == SPOT else {1})


@HOSTS
def test_bounds_of_trades_are_inclusive(still: Sandbox, ask, host: str) -> None:
    ts = still.market.trades(TradeSpan(symbol_of(host), START, limit=50)).ts.tolist()
    rows = ask(host, "aggTrades", startTime=ts[3], endTime=ts[20]).json
    assert [row["T"] for row in rows] == [t for t in ts if ts[3] <= t <= ts[20]]


@HOSTS
def test_trades_from_an_id_and_the_newest(ask, host: str) -> None:
    first = ask(host, "aggTrades", startTime=START, limit=10).json
    assert ask(host, "aggTrades", fromId=first[4]["a"], limit=6).json == first[4:]
    newest = ask(host, "aggTrades", limit=3).json
    assert newest == ask(host, "aggTrades", endTime=NOW, limit=3).json
    assert newest[-1]["T"] <= NOW and ask(host, "aggTrades", fromId=newest[-1]["a"] + 1).json == []
    assert len(ask(host, "aggTrades").json) == 500


def test_futures_trades_are_kept_for_a_year(ask) -> None:
    oldest = NOW - 365 * DAY_MS
    assert ask(FUTURES, "aggTrades", startTime=oldest - DAY_MS, limit=1).json[0]["T"] >= oldest
    assert ask(SPOT, "aggTrades", startTime=oldest - DAY_MS, limit=1).json[0]["T"] < oldest


@pytest.mark.parametrize(
    ("host", "path", "query", "code"),
    [
        (SPOT, "aggTrades", {"fromId": 1, "startTime": START}, -1128),
        (SPOT, "aggTrades", {"limit": 0}, -1130),
        (FUTURES, "aggTrades", {"limit": 1001}, -1130),
        (FUTURES, "aggTrades", {"startTime": START, "endTime": START + HOUR_MS + 1}, -1127),
        (FUTURES, "aggTrades", {"symbol": "NOPE"}, -1121),
        (FUTURES, "depth", {"limit": 17}, -4021),
        (SPOT, "depth", {"symbol": "NOPE"}, -1121),
        (FUTURES, "fundingRate", {"limit": 1001}, -1130),
        (FUTURES, "fundingRate", {"symbol": "NOPE"}, -1121),
    ],
)
def test_errors(ask, host: str, path: str, query: dict, code: int) -> None:
    reply = ask(host, path, **query)
    assert (reply.status, reply.json["code"]) == (400, code)


def test_funding_events_are_the_markets(still: Sandbox, ask) -> None:
    start, end = NOW - 40 * DAY_MS, NOW - 2 * HOUR_MS
    rows = ask(FUTURES, "fundingRate", symbol="DOGEUSDT", startTime=start, endTime=end, limit=1000).json
    wanted = still.market.fundings("DOGE/USDT:USDT", start, end + 1)
    assert [row["fundingTime"] for row in rows] == wanted.ts.tolist()
    assert [float(row["fundingRate"]) for row in rows] == wanted.rate.tolist()
    assert [float(row["markPrice"]) for row in rows] == wanted.mark_price.tolist()
    hours = np.rint(np.diff(wanted.ts) / HOUR_MS).astype(int).tolist()
    assert set(hours) == {1, 8}
    from_first = {"symbol": "DOGEUSDT", "startTime": rows[2]["fundingTime"], "limit": 3}
    assert ask(FUTURES, "fundingRate", **from_first).json == rows[2:5]


def test_the_newest_funding_events(ask) -> None:
    assert len(ask(FUTURES, "fundingRate").json) == 200
    assert len(ask(FUTURES, "fundingRate", startTime=0).json) == 100
    end = NOW - 3 * DAY_MS
    rows = ask(FUTURES, "fundingRate", endTime=end, limit=5).json
    assert len(rows) == 5 and end - 8 * HOUR_MS < rows[-1]["fundingTime"] <= end


@pytest.mark.parametrize(("host", "asked", "levels"), [(SPOT, None, 100), (SPOT, 7, 7), (SPOT, 9999, 5000),
                                                       (FUTURES, None, 500), (FUTURES, 20, 20)])  # fmt: skip
def test_depth(still: Sandbox, ask, host: str, asked: int | None, levels: int) -> None:
    book = ask(host, "depth", **({} if asked is None else {"limit": asked})).json
    wanted = still.market.book(symbol_of(host), levels, NOW)
    assert [[float(p), float(q)] for p, q in book["bids"]] == wanted.bids.tolist()
    assert [[float(p), float(q)] for p, q in book["asks"]] == wanted.asks.tolist()
    assert book["lastUpdateId"] == wanted.sequence
    assert (book.get("T"), book.get("E")) == ((None, None) if host == SPOT else (NOW, NOW))


def test_weight_is_counted(fetch, monkeypatch) -> None:
    monkeypatch.setattr(binance, "_minute", lambda: 7)
    with Sandbox(SimulatedMarket(1, now=NOW)) as box:

        def used(host: str, path: str, **query) -> int:
            url = f"{box.url}/{host}/{path}?{urlencode({'symbol': 'BTCUSDT', **query})}"
            return int(fetch(url).headers["X-MBX-USED-WEIGHT-1M"])

        spot = [used(SPOT, "aggTrades"), *(used(SPOT, "depth", limit=n) for n in (100, 500, 1000, 5000))]
        futures = [
            used(FUTURES, "aggTrades"),
            *(used(FUTURES, "depth", limit=n) for n in (50, 100, 500, 1000)),
        ]
    assert np.diff([0, *spot]).tolist() == [4, 5, 25, 50, 250]
    assert np.diff([0, *futures]).tolist() == [20, 2, 5, 10, 20]


@pytest.mark.parametrize("name", ["binance", "binanceusdm"])
def test_a_plain_client_reads_them(still: Sandbox, client, with_client, name: str) -> None:
    symbol = "BTC/USDT" if name == "binance" else "BTC/USDT:USDT"
    types = ["spot"] if name == "binance" else ["linear"]

    async def use(exchange):
        trades = await exchange.fetch_trades(symbol, START, 100)
        book = await exchange.fetch_order_book(symbol, 20)
        if name == "binanceusdm":
            rates = await exchange.fetch_funding_rate_history("DOGE/USDT:USDT", NOW - DAY_MS, 50)
            return trades, book, rates
        return trades, book, []

    made = client(name, still, options={"fetchMarkets": {"types": types}})
    trades, book, rates = with_client(made, use)
    wanted = still.market.trades(TradeSpan(symbol, START, limit=100))
    assert [trade["timestamp"] for trade in trades] == wanted.ts.tolist()
    assert [trade["side"] for trade in trades] == np.where(wanted.is_buy, "buy", "sell").tolist()
    assert book["bids"][0][0] < book["asks"][0][0] and len(book["bids"]) == 20
    due = still.market.fundings("DOGE/USDT:USDT", NOW - DAY_MS, NOW)
    assert [rate["timestamp"] for rate in rates] == (due.ts.tolist() if name == "binanceusdm" else [])


def recorded(path: Path, marker: str) -> list[dict]:
    with gzip.open(path, "rt") as file:
        found = [line.split(": ", 1)[1] for line in file if marker in line and "<->" not in line]
    return [json.loads(text) for text in found]


@pytest.mark.real_data
@pytest.mark.parametrize(("host", "name"), [(SPOT, "BINANCE"), (FUTURES, "BINANCE_FUTURES")])
def test_recorded_shapes(ask, real: Path, shape_differences, host: str, name: str) -> None:
    (event, *_) = recorded(real / f"captures/{name}.ws.1.0.gz", "aggTrade")
    theirs = {key: value for key, value in event["data"].items() if key not in "eEs"}
    for row in ask(host, "aggTrades", limit=5).json:
        assert not shape_differences(row, theirs)
        assert list(row) == list(theirs)
    (book, *_) = recorded(real / f"captures/{name}.http.0.0.gz", "/depth?")
    ours = ask(host, "depth", limit=1000).json
    assert not shape_differences(ours, book)
    assert list(ours) == list(book)


@pytest.mark.real_data
def test_recorded_depth_of_today(ask, real: Path, shape_differences) -> None:
    theirs = json.loads((real / "payloads/binance/spot/http_json/depth_response.json").read_text())
    assert not shape_differences(ask(SPOT, "depth", limit=5).json, theirs)
