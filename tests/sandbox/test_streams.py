"""Streams: what the market has, all of it, in order, and once; order books that join what REST answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.core.levels import HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.sandbox import Sandbox, SimulatedMarket, running_clock
from zvt_crypto.sandbox.events import Book, TradeSpan
from zvt_crypto.sandbox.news import News
from zvt_crypto.sandbox.streams import Changes

NOW = parse_time("2024-03-01T00:01:30Z")
SPOT = "stream.binance.com/ws"
TRADES = {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1}
CANDLES = {"method": "SUBSCRIBE", "params": ["btcusdt@kline_1m", "ethusdt@kline_5m"], "id": 1}
BOOK = {"method": "SUBSCRIBE", "params": ["btcusdt@depth@100ms"], "id": 1}


def told_trades(messages: list[Any]) -> list[tuple[Any, ...]]:
    return [(m["t"], m["T"], float(m["p"]), float(m["q"]), m["m"]) for m in messages]


def market_trades(box: Sandbox, start: int, end: int) -> list[tuple[Any, ...]]:
    """Trades of BTC/USDT in ``(start, end]``."""
    rows = box.market.trades(TradeSpan("BTC/USDT", start + 1, end + 1))
    columns = (rows.id, rows.ts, rows.price, rows.volume, ~rows.is_buy)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("steps", [[1000], [70, 20, 150, 800], [7 * MINUTE_MS], [500, 3 * HOUR_MS, 500]])
def test_every_trade_comes_once_and_in_order(paced, clock, talk, steps: list[int]) -> None:
    async def use(peer) -> list[Any]:
        await peer.ask(TRADES)
        for step in steps:
            clock.forward(step)
            await asyncio.sleep(0.05)
        newest = paced.market.trades(TradeSpan("BTC/USDT", limit=1, newest=True), clock.now).id[0]
        return await peer.until(lambda message: message["t"] == newest)

    received = talk(paced, use, SPOT)
    assert told_trades(received) == market_trades(paced, NOW, NOW + sum(steps))
    assert np.all(np.diff([m["t"] for m in received]) == 1), "ids have no holes"


def test_every_candle_is_closed_once_and_in_order(paced, clock, talk) -> None:
    async def use(peer) -> list[Any]:
        await peer.ask(CANDLES)
        received = []
        for step in (20_000, 20_000, 9 * MINUTE_MS, 5 * MINUTE_MS):
            clock.forward(step)
            received += await peer.rest()
        return [message["k"] for message in received]

    received = talk(paced, use, SPOT)
    for symbol, native, level in (("BTC/USDT", "BTCUSDT", "1m"), ("ETH/USDT", "ETHUSDT", "5m")):
        closed = [candle for candle in received if candle["s"] == native and candle["x"]]
        length = {"1m": MINUTE_MS, "5m": 5 * MINUTE_MS}[level]
        wanted = paced.market.candles(symbol, level, NOW - NOW % length, clock.now - length + 1)
        assert [candle["t"] for candle in closed] == wanted.ts.tolist()
        assert [float(candle["c"]) for candle in closed] == wanted.close.tolist()
        assert [float(candle["v"]) for candle in closed] == wanted.volume.tolist()
        assert [candle["n"] for candle in closed] == wanted.trade_count.tolist()
        last = [candle for candle in received if candle["s"] == native][-1]
        (under_way,) = paced.market.candles(symbol, level, last["t"], last["t"] + 1, clock.now).close.tolist()
        assert (last["x"], float(last["c"])) == (False, under_way)
    order = [(candle["t"], candle["x"]) for candle in received if candle["s"] == "BTCUSDT"]
    assert order == sorted(order), "a candle's states come before its end, and that before the next candle"


def applied(sides: dict[str, dict[float, float]], message: Any) -> None:
    for name in "ba":
        for price, amount in message[name]:
            sides[name].pop(float(price), None)
            if float(amount):
                sides[name][float(price)] = float(amount)


def sides_of(book: Book) -> dict[str, dict[float, float]]:
    return {"b": dict(book.bids.tolist()), "a": dict(book.asks.tolist())}


def test_books_over_rest_join_the_updates(paced, clock, talk, fetch) -> None:
    def snapshot() -> Any:
        return fetch(f"{paced.url}/api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=5000").json

    async def use(peer) -> None:
        await peer.ask(BOOK)
        books: dict[int, dict[str, dict[float, float]]] = {}
        told: list[Any] = []
        for step in [60, 30, 120, 10, 10, 50, 50, 50, 40, 5000, 70, 80, 130_000, 90] * 2:
            clock.forward(step)
            await asyncio.sleep(0.05)
            answer = await asyncio.to_thread(snapshot)
            number = answer["lastUpdateId"]
            books[number] = {
                name[0]: {float(p): float(q) for p, q in answer[name]} for name in ("bids", "asks")
            }
            told += await peer.rest()
        assert any(m["U"] <= number < m["u"] for m in told for number in books), (
            "some lead over a state of REST"
        )
        assert [m["U"] for m in told[1:]] == [m["u"] + 1 for m in told[:-1]]
        for number, sides in books.items():
            following = [message for message in told if message["u"] > number]
            for message in following:
                applied(sides, message)
                at = message["u"] * paced.market.book_step_ms
                assert sides == sides_of(paced.market.book("BTC/USDT", 5000, at)), (number, message["u"])

    talk(paced, use, SPOT)


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 400) | st.integers(30_000, 200_000), min_size=2, max_size=12),
    st.integers(1, 30),
    st.data(),
)
def test_changes_lead_from_any_state_to_the_newest(steps: list[int], depth: int, data: st.DataObject) -> None:
    time = [NOW]
    market = SimulatedMarket(3, now=lambda: time[0])
    news = News(market)
    states = [news.book("ETH/USDT", depth)]
    for step in steps:
        time[0] += step
        news.tick()
        states.append(news.book("ETH/USDT", depth))
        assert market.book("ETH/USDT", depth, time[0] + 10**6).sequence == states[-1].sequence
    before = data.draw(st.integers(0, len(states) - 1))
    changes = news.changes("ETH/USDT", depth, states[before])
    # States in between are led to the newest one as well.
    for state in states[before:]:
        assert after(state, changes) == sides_of(states[-1])
    assert np.all(np.diff(changes.asks[:, 0]) > 0) and np.all(np.diff(changes.bids[:, 0]) < 0)


def after(book: Book, changes: Changes) -> dict[str, dict[float, float]]:
    sides = sides_of(book)
    applied(sides, {"b": changes.bids.tolist(), "a": changes.asks.tolist()})
    return sides


def test_changes_of_a_state_that_is_long_past() -> None:
    time = [NOW]
    news = News(SimulatedMarket(3, now=lambda: time[0]))
    first = news.book("ETH/USDT", 5)
    for _ in range(300):
        time[0] += 50
        news.tick()
    assert after(first, news.changes("ETH/USDT", 5, first)) == sides_of(news.book("ETH/USDT", 5))


@pytest.mark.parametrize("symbol", ["BTC/USDT", "PEPE/USDT", "SOL/BTC"])
def test_fewer_levels_are_the_best_of_more_and_most_of_them_stay(symbol: str) -> None:
    market = SimulatedMarket(1)
    deep, shallow = market.book(symbol, 400, NOW), market.book(symbol, 7, NOW)
    assert np.array_equal(deep.bids[:7], shallow.bids) and np.array_equal(deep.asks[:7], shallow.asks)
    assert deep.bids[0, 0] < deep.asks[0, 0]
    assert np.all(np.diff(deep.bids[:, 0]) < 0) and np.all(np.diff(deep.asks[:, 0]) > 0)
    assert np.array_equal(market.book(symbol, 7, NOW + 49).bids, shallow.bids), "a state lasts book_step_ms"
    later = market.book(symbol, 400, NOW + 50)
    kept = set(map(tuple, later.bids.tolist())) & set(map(tuple, deep.bids.tolist()))
    assert later.sequence == deep.sequence + 1
    assert 0.8 * len(deep.bids) < len(kept) < len(deep.bids) + len(later.bids)


def test_a_connection_gets_what_it_has_asked_for_until_it_does_not(paced, clock, talk) -> None:
    async def use(one, other) -> None:
        await one.ask(TRADES)
        clock.forward(2000)
        first = await one.rest()
        await other.ask(TRADES)
        clock.forward(3000)
        second, theirs = await one.rest(), await other.rest()
        assert told_trades(first) == market_trades(paced, NOW, NOW + 2000)
        assert told_trades(second) == told_trades(theirs) == market_trades(paced, NOW + 2000, NOW + 5000)
        assert await one.ask({**TRADES, "method": "UNSUBSCRIBE"}) == {"result": None, "id": 1}
        clock.forward(2000)
        assert await one.rest() == []
        assert told_trades(await other.rest()) == market_trades(paced, NOW + 5000, NOW + 7000)

    talk(paced, use, SPOT, SPOT)


def test_who_is_connected_can_be_seen(paced, clock, talk, fetch) -> None:
    async def use(peer) -> None:
        await peer.ask(TRADES)
        clock.forward(2000)
        messages = await peer.rest()
        (seen,) = paced.connections
        assert (seen.host, seen.path, seen.subscriptions) == ("stream.binance.com", "/ws", ("btcusdt@trade",))
        assert (seen.sent, seen.received) == (len(messages) + 1, 1)
        root = await asyncio.to_thread(lambda: fetch(paced.url + "/").json)
        assert root["connections"] == [{**seen._asdict(), "subscriptions": list(seen.subscriptions)}]
        assert "fstream.binance.com" in root["streams"]["binance usd-m futures streams"]
        assert paced.requests[0].path == "/ws"

    talk(paced, use, SPOT)


@pytest.mark.parametrize("over_http", [False, True])
def test_connections_can_be_cut(paced, talk, fetch, over_http: bool) -> None:
    async def use(peer) -> None:
        await peer.ask(TRADES)
        if over_http:
            assert (await asyncio.to_thread(fetch, f"{paced.url}/_connections", "DELETE")).status == 200
        else:
            paced.drop_connections()
        with pytest.raises(ConnectionError, match="1006"):
            await peer.receive()
        while paced.connections:
            await asyncio.sleep(0.01)

    talk(paced, use, SPOT)


@pytest.mark.parametrize(
    ("address", "status"), [("stream.example.com/ws", 404), ("stream.binance.com/nothing", 404)]
)
def test_there_is_nothing_to_connect_to(box: Sandbox, talk, address: str, status: int) -> None:
    async def use(peer) -> None:
        raise AssertionError("connected")

    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        talk(box, use, address)
    assert caught.value.status == status


def test_a_client_that_reads_late_misses_nothing(talk) -> None:
    begin = parse_time("2024-03-01")
    with Sandbox(SimulatedMarket(1, now=running_clock(begin, 20_000)), tick_ms=10) as box:

        async def use(peer) -> list[Any]:
            await peer.ask(TRADES)
            await asyncio.sleep(1)
            received = await peer.until(lambda message: message["T"] > begin + 4 * HOUR_MS)
            return [message["t"] for message in received]

        ids = talk(box, use, SPOT)
    assert len(ids) > 100_000
    assert np.all(np.diff(ids) == 1)


def test_books_are_of_any_time_again_when_nobody_is_connected(paced, clock, talk) -> None:
    async def use(peer) -> None:
        await peer.ask(BOOK)
        await asyncio.sleep(0.05)
        shown = paced.market.book("BTC/USDT", 5, NOW + 60_000)
        assert shown.ts == NOW

    talk(paced, use, SPOT)
    assert paced.market.book("BTC/USDT", 5, NOW + 60_000).ts == NOW + 60_000


@pytest.mark.parametrize("wrong", [{"tick_ms": 0}, {"book_step_ms": 0}])
def test_times_that_are_none(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument, match="at least 1"):
        Sandbox(**wrong)


def test_a_book_step_is_a_books(fetch) -> None:
    with Sandbox(SimulatedMarket(1, now=NOW + 999), book_step_ms=1000) as box:
        url = f"{box.url}/fapi.binance.com/fapi/v1/depth?symbol=BTCUSDT&limit=5"
        assert fetch(url).json["lastUpdateId"] == NOW // 1000
        assert json.loads(fetch(url).body)["bids"] == fetch(url).json["bids"]
