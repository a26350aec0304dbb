"""Binance's streams: frames as its documents and recordings have them, and ccxt.pro's own class behind them."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import aiohttp
import ccxt.pro
import pytest

from zvt_crypto.core.levels import MINUTE_MS, parse_time
from zvt_crypto.sandbox.binance import INTERVALS
from zvt_crypto.sandbox.events import TradeSpan

NOW = parse_time("2024-03-01T00:01:30Z")
SPOT, FUTURES = "stream.binance.com", "fstream.binance.com"
NAMES = ["btcusdt@trade", "btcusdt@aggTrade", "btcusdt@kline_1m", "btcusdt@depth@100ms", "btcusdt@bookTicker"]


def subscribe(*names: str, number: int = 1) -> dict[str, Any]:
    return {"method": "SUBSCRIBE", "params": list(names), "id": number}


def heard(paced, clock, talk, address: str, *names: str, ms: int = 4000) -> list[Any]:
    """What is said while some seconds pass."""

    async def use(peer) -> list[Any]:
        if names:
            assert await peer.ask(subscribe(*names)) == {"result": None, "id": 1}
        for _ in range(4):
            clock.forward(ms // 4)
            await asyncio.sleep(0.03)
        return await peer.rest()

    return talk(paced, use, address)


def kinds(messages: list[Any]) -> set[str]:
    return {message.get("e", "bookTicker") for message in messages}


@pytest.mark.parametrize(
    "address",
    [f"{SPOT}/ws", f"{SPOT}/ws/0", f"{SPOT}/stream", f"{FUTURES}/ws/7", f"{FUTURES}/stream"],
)
def test_all_that_is_subscribed_comes(paced, clock, talk, address: str) -> None:
    messages = heard(paced, clock, talk, address, *NAMES)
    if address.endswith("/stream"):
        assert {message["stream"] for message in messages} == set(NAMES)
        messages = [message["data"] for message in messages]
    assert kinds(messages) == {"trade", "aggTrade", "kline", "depthUpdate", "bookTicker"}


@pytest.mark.parametrize(
    ("address", "is_combined"),
    [
        (f"{SPOT}/ws/btcusdt@trade", False),
        (f"{SPOT}/ws/btcusdt@trade/ethusdt@trade", False),
        (f"{SPOT}/stream?streams=btcusdt@trade/ethusdt@trade", True),
        (f"{FUTURES}/public/stream?streams=btcusdt@trade", True),
    ],
)
def test_streams_in_the_url(paced, clock, talk, address: str, is_combined: bool) -> None:
    messages = heard(paced, clock, talk, address)
    wanted = {name.partition("@")[0].upper() for name in address.partition("btcusdt")[2].split("/")}
    assert all(("stream" in message) == is_combined for message in messages)
    symbols = {(message["data"] if is_combined else message)["s"] for message in messages}
    assert symbols == {"BTCUSDT"} | (wanted - {""}) - {"@TRADE"}


@pytest.mark.parametrize(
    ("path", "said"),
    [("public/ws/3", {"trade", "depthUpdate", "bookTicker"}), ("market/ws", {"aggTrade", "kline"})],
)
def test_futures_have_two_places(paced, clock, talk, path: str, said: set[str]) -> None:
    assert kinds(heard(paced, clock, talk, f"{FUTURES}/{path}", *NAMES)) == said


def test_what_does_not_exist_says_nothing(paced, clock, talk) -> None:
    names = ["nope@trade", "BTCUSDT@trade", "btcusdt@nothing", "btcusdt@kline_7m", "btcusdt@depth@7ms"]
    assert heard(paced, clock, talk, f"{SPOT}/ws", *names) == []
    assert heard(paced, clock, talk, f"{SPOT}/ws", "btcusdt@markPrice") == []
    with pytest.raises(aiohttp.WSServerHandshakeError):
        heard(paced, clock, talk, f"{SPOT}/market/ws")


def test_answers(still, talk) -> None:
    async def use(peer) -> None:
        assert await peer.ask(subscribe("btcusdt@aggTrade", "nope@depth")) == {"result": None, "id": 1}
        listed = {"result": ["btcusdt@aggTrade", "nope@depth"], "id": "x"}
        assert await peer.ask({"method": "LIST_SUBSCRIPTIONS", "id": "x"}) == listed
        await peer.ask({"method": "UNSUBSCRIBE", "params": ["nope@depth", "other@trade"], "id": 3})
        assert (await peer.ask({"method": "LIST_SUBSCRIPTIONS", "id": 4}))["result"] == ["btcusdt@aggTrade"]
        assert await peer.ask({"method": "GET_PROPERTY", "params": ["combined"], "id": 5}) == {
            "result": False,
            "id": 5,
        }
        await peer.ask({"method": "SET_PROPERTY", "params": ["combined", True], "id": 6})
        assert (await peer.ask({"method": "GET_PROPERTY", "params": ["combined"], "id": 7}))["result"] is True

    talk(still, use, f"{SPOT}/ws")


@pytest.mark.parametrize(
    ("frame", "code", "says"),
    [
        ("{", 3, "Invalid JSON"),
        ([1], 2, "missing field `method`"),
        ({"id": 1}, 2, "missing field `method`"),
        ({"method": "SUBSCRIB", "id": 1}, 2, "unknown variant `SUBSCRIB`, expected one of `SUBSCRIBE`"),
        ({"method": "SUBSCRIBE", "params": ["btcusdt"], "id": 1}, 2, "invalid stream"),
        ({"method": "SUBSCRIBE", "params": "btcusdt@trade", "id": 1}, 2, "expected a sequence"),
        ({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1.5}, 2, "request ID must be an unsigned"),
        ({"method": "SET_PROPERTY", "params": ["speed", 1], "id": 1}, 0, "Unknown property"),
        ({"method": "SET_PROPERTY", "params": ["combined", 1], "id": 1}, 1, "Invalid value type: expected Boolean"),
    ],
)  # fmt: skip
def test_frames_that_are_refused(still, talk, frame: Any, code: int, says: str) -> None:
    async def use(peer) -> None:
        error = (await peer.ask(frame))["error"]
        assert (error["code"], says in error["msg"]) == (code, True)
        assert await peer.ask({"method": "LIST_SUBSCRIPTIONS", "id": 2}) == {"result": [], "id": 2}

    talk(still, use, f"{SPOT}/ws")


@pytest.mark.parametrize("interval", sorted(INTERVALS))
def test_candles_of_each_interval_are_those_of_rest(paced, clock, talk, fetch, interval: str) -> None:
    clock.now = NOW + 3_000
    candle = heard(paced, clock, talk, f"{FUTURES}/market/ws", f"btcusdt@kline_{interval}")[-1]["k"]
    rows = fetch(
        f"{paced.url}/fapi.binance.com/fapi/v1/klines?symbol=BTCUSDT&interval={interval}&limit=1"
    ).json
    values = [candle[name] for name in "tohlcvTqnVQB"]
    assert values == rows[0]
    assert (candle["i"], candle["x"]) == (interval, False)


def test_the_next_payment(paced, clock, talk) -> None:
    clock.now = parse_time("2024-03-01T07:59:57Z")
    messages = heard(paced, clock, talk, f"{FUTURES}/market/ws", "btcusdt@markPrice@1s", ms=12_000)
    paid = paced.market.fundings("BTC/USDT:USDT", clock.now - 60_000, clock.now)
    assert [float(message["r"]) for message in messages][:1] == paid.rate.tolist()
    assert messages[0]["T"] == paid.ts[0]
    assert messages[-1]["T"] - messages[0]["T"] == pytest.approx(8 * 3_600_000, abs=100), (
        "and the one after it"
    )
    assert all(message["E"] <= clock.now for message in messages)


@pytest.mark.parametrize("symbol", ["BTC/USDT", "ETH/USDT:USDT"])
@pytest.mark.parametrize("name", ["trade", "aggTrade"])
def test_trades_through_ccxt(paced, clock, client, with_client, symbol: str, name: str) -> None:
    exchange = pro(client, paced, {"watchTrades": {"name": name}, "tradesLimit": 10_000})

    async def use(exchange: Any) -> list[Any]:
        trades: list[Any] = []
        await exchange.load_markets()
        while len(trades) < 100:
            watch = asyncio.ensure_future(exchange.watch_trades(symbol))
            await subscribed(paced)
            while not watch.done():
                clock.forward(500)
                await asyncio.sleep(0.02)
            trades += watch.result()
        return trades

    trades = with_client(exchange, use)
    wanted = paced.market.trades(TradeSpan(symbol, NOW + 1, limit=len(trades)))
    assert [int(trade["id"]) for trade in trades] == wanted.id.tolist()
    assert [trade["timestamp"] for trade in trades] == wanted.ts.tolist()
    assert [trade["price"] for trade in trades] == wanted.price.tolist()
    assert [trade["amount"] for trade in trades] == wanted.volume.tolist()
    assert [trade["side"] == "buy" for trade in trades] == wanted.is_buy.tolist()


@pytest.mark.parametrize("symbol", ["BTC/USDT", "ETH/USDT:USDT"])
def test_candles_through_ccxt(paced, clock, client, with_client, symbol: str) -> None:
    async def use(exchange: Any) -> list[Any]:
        await exchange.load_markets()
        watch = asyncio.ensure_future(exchange.watch_ohlcv(symbol, "1m"))
        await subscribed(paced)
        clock.forward(5 * MINUTE_MS)
        candles = await watch
        while candles[-1][0] < clock.now // MINUTE_MS * MINUTE_MS:
            candles = await exchange.watch_ohlcv(symbol, "1m")
        return exchange.ohlcvs[symbol]["1m"]

    candles = with_client(pro(client, paced, {}), use)
    rows = paced.market.candles(symbol, "1m", NOW // MINUTE_MS * MINUTE_MS, clock.now + 1, clock.now)
    columns = (rows.ts, rows.open, rows.high, rows.low, rows.close, rows.volume)
    assert list(map(list, candles)) == [list(row) for row in zip(*(c.tolist() for c in columns), strict=True)]


@pytest.mark.parametrize("symbol", ["BTC/USDT", "ETH/USDT:USDT"])
def test_books_through_ccxt(paced, clock, client, with_client, symbol: str) -> None:
    async def use(exchange: Any) -> int:
        await exchange.load_markets()
        matched = 0
        for step in [200] * 12 + [5000, 200]:
            watch = asyncio.ensure_future(exchange.watch_order_book(symbol, 1000))
            while not watch.done():
                clock.forward(step)
                await asyncio.sleep(0.05)
            told = watch.result()
            at = told["nonce"] * paced.market.book_step_ms
            # What came beyond the depth of the snapshot since is not known to ccxt.
            theirs = paced.market.book(symbol, 100, at)
            assert [list(level) for level in told["bids"][:100]] == theirs.bids.tolist()
            assert [list(level) for level in told["asks"][:100]] == theirs.asks.tolist()
            matched += 1
        return matched

    assert with_client(pro(client, paced, {}), use) == 14


def pro(client: Any, paced: Any, options: dict[str, Any]) -> Any:
    """A client of ccxt.pro's own class behind the gateway."""
    exchange = client("binance", paced, kind=ccxt.pro, options={"defaultType": "spot", **options})
    exchange.options["fetchMarkets"] = {"types": ["spot", "linear"]}
    return exchange


async def subscribed(box: Any) -> None:
    while not any(connection.subscriptions for connection in box.connections):
        await asyncio.sleep(0.005)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "host", "path"),
    [("BINANCE", SPOT, "stream"), ("BINANCE_FUTURES", FUTURES, "stream")],
)
def test_frames_are_as_recorded(paced, clock, talk, real: Path, shape_differences, name, host, path) -> None:
    recorded: dict[str, Any] = {}
    with gzip.open(real / f"captures/{name}.ws.1.0.gz", "rt") as file:
        for line in file:
            _, colon, text = line.partition(": ")
            if colon and text.startswith("{"):
                frame = json.loads(text)
                recorded.setdefault(frame["stream"].partition("@")[2], frame)
    ours: dict[str, Any] = {}
    for frame in heard(paced, clock, talk, f"{host}/{path}", *NAMES[1:], "btcusdt@markPrice"):
        kind = frame["stream"].partition("@")[2]
        # Sides may be empty; the fullest frame has the most shape.
        if len(json.dumps(frame)) > len(json.dumps(ours.get(kind, ""))):
            ours[kind] = frame
    assert recorded.keys() >= {"aggTrade", "kline_1m", "depth@100ms", "bookTicker"}
    for kind in ("aggTrade", "kline_1m", "depth@100ms", "bookTicker"):
        assert shape_differences(ours[kind], recorded[kind]) == []
        assert list(ours[kind]["data"]) == list(recorded[kind]["data"])


@pytest.mark.real_data
def test_frames_are_as_documented_today(paced, clock, talk, real: Path, shape_differences) -> None:
    today = {
        "aggTrade": "agg_trade_stream",
        "depthUpdate": "depth_update_stream",
        "kline": "kline_stream_open",
        "markPriceUpdate": "mark_price_stream",
        "bookTicker": "book_ticker_stream",
        "trade": "trade_stream",
    }
    ours = {
        frame["e"]: frame for frame in heard(paced, clock, talk, f"{FUTURES}/ws", *NAMES, "btcusdt@markPrice")
    }
    for event, file in today.items():
        theirs = json.loads((real / f"payloads/binance/futures/market_data_json/{file}.json").read_text())
        # These two came in 2025, and only some streams have them yet.
        for name in ("st", "ps"):
            theirs.pop(name, None)
        assert shape_differences(ours[event], theirs, exact=event != "trade") == []
