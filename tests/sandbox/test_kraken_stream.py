"""Kraken's streams of pairs: what the documents say, the shapes recorded there, and that REST tells the same."""

from __future__ import annotations

import json
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import ccxt.pro
import pytest

from zvt_crypto.core.levels import MINUTE_MS, parse_time
from zvt_crypto.sandbox import Sandbox
from zvt_crypto.sandbox.events import TradeSpan

NOW = parse_time("2024-06-10T12:34:30Z")
HOST = "ws.kraken.com"
PAIR = "BTC/USD"


class Line:
    """A connection without its heartbeats."""

    def __init__(self, peer: Any) -> None:
        self.send = peer.send
        self._peer = peer

    async def ask(self, method: str, **params: Any) -> None:
        await self.send({"method": method, "params": {"symbol": [PAIR], **params}, "req_id": 7})

    async def text(self) -> str:
        while (text := await self._peer.text()) == '{"channel":"heartbeat"}':
            pass
        return str(text)

    async def read(self, count: int = 1) -> Any:
        """The next message, or a list of the next ones."""
        frames = [json.loads(await self.text()) for _ in range(count)]
        return frames if count > 1 else frames[0]

    async def until(self, done: Callable[[Any], bool]) -> list[Any]:
        """The messages up to one."""
        frames = [await self.read()]
        while not done(frames[-1]):
            frames.append(await self.read())
        return frames


@pytest.fixture
def run(talk, paced) -> Callable[..., Any]:
    """Runs ``await use(line)`` with a new connection."""

    def run_it(use: Callable[[Line], Awaitable[Any]]) -> Any:
        async def begun(peer: Any) -> Any:
            line = Line(peer)
            assert (await line.read())["channel"] == "status"
            return await use(line)

        return talk(paced, begun, f"{HOST}/v2")

    return run_it


@pytest.fixture
def recorded(real: Path) -> Callable[[str], Any]:
    return lambda name: json.loads((real / "payloads" / "kraken" / f"ws_{name}.json").read_text())


@pytest.fixture
def rest(paced, fetch) -> Callable[..., Any]:
    """The rows that REST answers about the pair."""

    def answer(path: str, **query: Any) -> Any:
        told = "&".join(f"{name}={value}" for name, value in {"pair": "XXBTZUSD", **query}.items())
        return fetch(f"{paced.url}/api.kraken.com/0/public/{path}?{told}").json["result"]["XXBTZUSD"]

    return answer


# Answers


def test_only_the_second_version_is_there(talk, paced) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        talk(paced, None, f"{HOST}/")
    assert refused.value.status == 404


def test_each_pair_has_an_answer(run) -> None:
    async def use(line: Line) -> Any:
        pairs = ["BTC/USD", "XBT/USD", "ETH/USD"]
        await line.ask("subscribe", channel="ohlc", symbol=pairs, interval=5, snapshot=False)
        return await line.read(3)

    first, unknown, second = run(use)
    time = {"time_in": "2024-06-10T12:34:30.000000Z", "time_out": "2024-06-10T12:34:30.000000Z"}
    warnings = ["timestamp is deprecated, use interval_begin"]
    result = {"channel": "ohlc", "interval": 5, "snapshot": False, "warnings": warnings}
    done = {"method": "subscribe", "success": True, "req_id": 7, **time}
    assert first == {**done, "result": {**result, "symbol": "BTC/USD"}}
    assert second == {**done, "result": {**result, "symbol": "ETH/USD"}}
    error = "Currency pair not supported XBT/USD"
    assert unknown == {**done, "success": False, "error": error, "symbol": "XBT/USD"}


REFUSED = {
    "{": "Malformed request",
    "[]": "Malformed request",
    '{"method": "dance"}': "Event(s) not found",
    '{"method": "subscribe"}': "Event(s) not found",
    '{"method": "subscribe", "params": {"channel": "trade"}}': "Pair field must be an array",
    '{"method": "subscribe", "params": {"channel": "news", "symbol": []}}': "Subscription name invalid",
    '{"method": "subscribe", "params": {"channel": "book", "symbol": [], "depth": 11}}': (
        "Subscription depth not supported"
    ),
    '{"method": "subscribe", "params": {"channel": "ohlc", "symbol": [], "interval": 2}}': (
        "Subscription ohlc interval not supported"
    ),
}


def test_what_cannot_be_done_is_refused(run) -> None:
    async def use(line: Line) -> Any:
        for text in REFUSED:
            await line.send(text)
        return await line.read(len(REFUSED))

    answers = run(use)
    assert [answer["error"] for answer in answers] == list(REFUSED.values())
    assert {answer["success"] for answer in answers} == {False}


def test_a_subscription_is_made_once_and_ends(run, paced, clock) -> None:
    async def use(line: Line) -> Any:
        for method in ("subscribe", "subscribe", "unsubscribe", "unsubscribe"):
            await line.ask(method, channel="trade")
        answers = await line.read(4)
        assert paced.connections[0].subscriptions == ()
        clock.forward(MINUTE_MS)
        await line.send('{"method": "ping", "req_id": 42}')
        return [*answers, await line.read()]

    *answers, pong = run(use)
    assert [answer["success"] for answer in answers] == [True, False, True, False]
    assert [answer.get("error") for answer in answers][1::2] == [
        "Already subscribed",
        "Subscription Not Found",
    ]
    assert (pong["method"], pong["req_id"]) == ("pong", 42)


@pytest.mark.real_data
def test_answers_have_the_recorded_shape(run, recorded, shape_differences) -> None:
    async def use(line: Line) -> Any:
        await line.send('{"method": "ping", "req_id": 42}')
        await line.ask("subscribe", channel="trade", snapshot=True)
        return await line.read(2)

    pong, subscribed = run(use)
    assert shape_differences(pong, recorded("pong")) == []
    assert shape_differences(subscribed, recorded("subscribe_response")) == []


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("channel", "name"), [("trade", "trade_update"), ("ohlc", "ohlc_update"), ("book", "book_update")]
)
def test_messages_have_the_recorded_shape(run, clock, recorded, shape_differences, channel, name) -> None:
    async def use(line: Line) -> Any:
        await line.ask("subscribe", channel=channel)
        await line.read()
        clock.forward(5_000)
        return (await line.until(lambda frame: frame.get("type") == "update"))[-1]

    update, wanted = run(use), recorded(name)
    if channel == "ohlc":  # the times of a candle and of its message are deprecated, and were not recorded
        del update["timestamp"], update["data"][0]["timestamp"]
    if channel == "book":  # a side may be without changes
        levels = wanted["data"][0]["bids"]
        wanted["data"][0] |= {"asks": levels}
        update["data"][0] |= {side: update["data"][0][side] or levels for side in ("bids", "asks")}
    assert shape_differences(update, wanted) == []


# Trades and candles


def milliseconds(text: str) -> int:
    """The time of a text, cut to seconds, in epoch ms."""
    return parse_time(f"{text[:19]}Z")


def as_rest(trade: Any) -> list[Any]:
    """A streamed trade as REST answers it, with its time in epoch microseconds."""
    time = trade["timestamp"]
    microseconds = milliseconds(time) * 1000 + int(time[20:26])
    side, order_type = trade["side"][0], trade["ord_type"][0]
    return [trade["price"], trade["qty"], microseconds, side, order_type, trade["trade_id"]]


def answered(row: Any) -> list[Any]:
    price, volume, seconds, side, order_type, _, trade_id = row
    return [float(price), float(volume), round(seconds * 1_000_000), side, order_type, trade_id]


def test_trades_are_those_of_rest(run, paced, clock, rest) -> None:
    async def use(line: Line) -> None:
        await line.ask("subscribe", channel="trade", snapshot=True)
        _, latest = await line.read(2)
        assert latest["type"] == "snapshot"
        assert [as_rest(trade) for trade in latest["data"]] == list(map(answered, rest("Trades", count=50)))

        wanted = paced.market.trades(TradeSpan(PAIR, NOW + 1, clock.forward(2 * MINUTE_MS) + 1)).id.tolist()
        frames = await line.until(lambda frame: frame["data"][-1]["trade_id"] == wanted[-1])
        assert {frame["type"] for frame in frames} == {"update"}
        told = [trade for frame in frames for trade in frame["data"]]
        assert [trade["trade_id"] for trade in told] == wanted and len(wanted) > 1000
        page = rest("Trades", since=as_rest(latest["data"][-1])[2] * 1000 + 999, count=1000)
        assert list(map(as_rest, told[:1000])) == list(map(answered, page))

    run(use)


def test_trades_come_without_the_latest_ones_unless_they_are_asked_for(run, clock) -> None:
    async def use(line: Line) -> Any:
        await line.ask("subscribe", channel="trade")
        await line.read()
        clock.forward(MINUTE_MS)
        return await line.read()

    assert run(use)["type"] == "update"


def candle_of(row: Any) -> list[Any]:
    return [row[0], *map(float, row[1:7]), row[7]]


@pytest.mark.parametrize("interval", [1, 5, 1440])
def test_candles_are_those_of_rest(run, clock, rest, interval) -> None:
    told: dict[int, list[Any]] = {}

    def note(frame: Any) -> int:
        assert frame["channel"] == "ohlc"
        for candle in frame["data"]:
            numbers = [candle[name] for name in ("open", "high", "low", "close", "vwap", "volume", "trades")]
            seconds = milliseconds(candle["interval_begin"]) // 1000
            told[seconds] = [seconds, *numbers]
            assert (candle["symbol"], candle["interval"]) == (PAIR, interval)
            assert milliseconds(candle["timestamp"]) // 1000 == seconds + 60 * interval
        return seconds

    async def use(line: Line) -> list[Any]:
        await line.ask("subscribe", channel="ohlc", interval=interval)
        _, latest = await line.read(2)
        note(latest)
        clock.forward(6 * MINUTE_MS)
        page = [candle_of(row) for row in rest("OHLC", interval=interval)]
        await line.until(lambda frame: told.get(note(frame)) == page[-1])
        return page

    page = run(use)
    assert list(told.values()) == page[-len(told) :]
    assert len(told) == {1: 8, 5: 4, 1440: 2}[interval]


# Order books


def digits(text: str) -> str:
    return text.replace(".", "").lstrip("0")


class Book:
    """A client's book, kept as the documents say: numbers as they are written, cut to the depth."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.sides: dict[str, dict[float, tuple[str, str]]] = {}

    def apply(self, text: str) -> None:
        frame = json.loads(text, parse_float=str, parse_int=str)
        [data] = frame["data"]
        if frame["type"] == "snapshot":
            self.sides = {"asks": {}, "bids": {}}
        for name, side in self.sides.items():
            side |= {float(level["price"]): (level["price"], level["qty"]) for level in data[name]}
            best = sorted((price for price in side if float(side[price][1])), reverse=name == "bids")
            self.sides[name] = {price: side[price] for price in best[: self.depth]}
        best_levels = [level for side in self.sides.values() for level in list(side.values())[:10]]
        payload = "".join(digits(text) for level in best_levels for text in level)
        assert zlib.crc32(payload.encode()) == int(data["checksum"])

    def levels(self, name: str) -> list[list[float]]:
        return [[price, float(text)] for price, (_, text) in self.sides[name].items()]


@pytest.mark.parametrize("depth", [10, 500])
def test_a_book_that_is_cut_to_its_depth_keeps_to_its_checksums(run, paced, clock, depth) -> None:
    async def use(line: Line) -> None:
        await line.ask("subscribe", channel="book", depth=depth)
        assert (await line.read())["result"]["depth"] == depth
        book = Book(depth)
        book.apply(await line.text())
        for _ in range(40):
            wanted = paced.market.book(PAIR, depth, clock.forward(700))
            while book.levels("bids") != wanted.bids.tolist() or book.levels("asks") != wanted.asks.tolist():
                book.apply(await line.text())

    run(use)


def test_of_levels_beyond_the_depth_nothing_is_told(run, clock) -> None:
    removed = []

    async def use(line: Line) -> None:
        await line.ask("subscribe", channel="book", depth=10)
        await line.read()
        book = Book(10)
        book.apply(await line.text())
        for _ in range(30):
            clock.forward(2_000)
            text = await line.text()
            book.apply(text)
            [data] = json.loads(text)["data"]
            gone = {side: [level["price"] for level in data[side] if not level["qty"]] for side in book.sides}
            assert all(price > min(book.sides["bids"]) for price in gone["bids"])
            assert all(price < max(book.sides["asks"]) for price in gone["asks"])
            removed.extend(gone["bids"] + gone["asks"])

    run(use)
    assert len(removed) > 10


# ccxt


def test_ccxt_reads_them(with_client) -> None:
    with Sandbox(seed=1, tick_ms=20) as box:
        exchange = ccxt.pro.kraken({"enableRateLimit": False, "timeout": 5000})
        exchange.urls["api"]["ws"]["publicV2"] = f"{box.url.replace('http', 'ws')}/{HOST}/v2"
        exchange.urls["api"]["public"] = f"{box.url}/api.kraken.com"

        async def use(exchange: Any) -> Any:
            book = await exchange.watch_order_book(PAIR, 10)
            return await exchange.watch_trades(PAIR), book, await exchange.watch_ohlcv(PAIR, "1m")

        trades, book, candles = with_client(exchange, use)
    assert {trade["symbol"] for trade in trades} == {PAIR} and trades[0]["amount"] > 0
    assert book["bids"][0][0] < book["asks"][0][0] and len(book["bids"]) == 10
    assert candles[-1][0] % MINUTE_MS == 0
