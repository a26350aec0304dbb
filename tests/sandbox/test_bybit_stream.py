"""Bybit's streams: what a client is answered, and that what is streamed is what REST tells of the same time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from live_reading import reading

from zvt_crypto.core.levels import HOUR_MS, MINUTE_MS, parse_time

#: Half a minute before perpetuals pay.
NOW = parse_time("2024-06-10T15:59:30Z")
MARKETS = [("spot", "BTCUSDT"), ("linear", "BTCUSDT"), ("inverse", "BTCUSD")]
SYMBOLS = {"spot": "BTC/USDT", "linear": "BTC/USDT:USDT", "inverse": "BTC/USD:BTC"}


def at(category: str) -> str:
    return f"stream.bybit.com/v5/public/{category}"


def ask_for(*topics: str, op: str = "subscribe") -> dict[str, Any]:
    return {"op": op, "req_id": "7", "args": list(topics)}


def data_of(frames: list[Any]) -> list[Any]:
    return [row for frame in frames for row in frame["data"]]


@pytest.fixture
def rest(paced, fetch):
    """The list of an answer of REST, or what it answers in place of one."""

    async def asked(path: str, **query: Any) -> Any:
        query_text = "&".join(f"{name}={value}" for name, value in query.items())
        url = f"{paced.url}/api.bybit.com/v5/market/{path}?{query_text}"
        result = (await asyncio.to_thread(fetch, url)).json["result"]
        return result.get("list", result)

    return asked


# Answers


@pytest.mark.parametrize(
    ("category", "topics", "reason"),
    [
        ("spot", ["publicTrade.FOOUSDT"], "Invalid symbol :[publicTrade.FOOUSDT]"),
        ("linear", ["publicTrade.FOOUSDT"], "error:handler not found,topic:publicTrade.FOOUSDT"),
        ("linear", ["kline.1.BTCUSDT", "tickers.btcusdt"], "error:handler not found,topic:tickers.btcusdt"),
        # A market of another category, of another name, and one that is gone.
        ("linear", ["publicTrade.BTCUSD"], "error:handler not found,topic:publicTrade.BTCUSD"),
        ("spot", ["publicTrade.BTCUSD"], "Invalid symbol :[publicTrade.BTCUSD]"),
        ("spot", ["publicTrade.EOSUSDT"], "Invalid symbol :[publicTrade.EOSUSDT]"),
        ("spot", ["tickers.BTCUSDT"], "error:handler not found,topic:tickers.BTCUSDT"),
        ("spot", ["kline.2.BTCUSDT"], "error:handler not found,topic:kline.2.BTCUSDT"),
        ("spot", ["orderbook.500.BTCUSDT"], "error:handler not found,topic:orderbook.500.BTCUSDT"),
        ("spot", ["orderbook.BTCUSDT"], "error:handler not found,topic:orderbook.BTCUSDT"),
        ("spot", ["publicTrade.1.BTCUSDT"], "error:handler not found,topic:publicTrade.1.BTCUSDT"),
        ("spot", [f"kline.{n}.BTCUSDT" for n in range(11)], "args size >10"),
    ],
)
def test_a_frame_with_a_wrong_topic_is_refused_whole(paced, talk, category, topics, reason) -> None:
    async def use(peer) -> Any:
        return await peer.ask(ask_for("orderbook.50.ETHUSDT", *topics)), paced.connections[0].subscriptions

    answer, subscriptions = talk(paced, use, at(category))
    expected = {"success": False, "ret_msg": reason, "conn_id": "sandbox-1", "req_id": "7", "op": "subscribe"}
    assert answer == expected and not subscriptions


def test_what_is_subscribed_already_is_refused_and_goes_on(paced, clock, talk) -> None:
    async def use(peer) -> Any:
        answers = [await peer.ask(ask_for("publicTrade.BTCUSDT")) for _ in range(2)]
        clock.forward(MINUTE_MS)
        return answers, await peer.receive()

    answers, message = talk(paced, use, at("linear"))
    assert [(a["success"], a["ret_msg"]) for a in answers] == [
        (True, ""), (False, "error:already subscribed,topic:publicTrade.BTCUSDT")
    ]  # fmt: skip
    assert message["topic"] == "publicTrade.BTCUSDT"


def test_nothing_comes_after_the_end_of_a_subscription(paced, clock, talk) -> None:
    async def use(peer) -> Any:
        await peer.ask(ask_for("publicTrade.BTCUSDT", "publicTrade.ETHUSDT"))
        answer = await peer.ask(ask_for("publicTrade.BTCUSDT", op="unsubscribe"))
        clock.forward(MINUTE_MS)
        return answer, [await peer.receive(), *await peer.rest()]

    answer, messages = talk(paced, use, at("linear"))
    assert (answer["success"], answer["op"]) == (True, "unsubscribe")
    assert {message["topic"] for message in messages} == {"publicTrade.ETHUSDT"}


@pytest.mark.parametrize(
    ("text", "success", "ret_msg"),
    [
        ('{"op":"ping","req_id":"3"}', True, "pong"),
        ('{"op":"auth"}', False, "error:invalid op"),
        ('{"op":"subscribe"}', False, "error:args is not array"),
        ('{"op":"subscribe","args":[1]}', False, "error:args is not array"),
        ("[]", False, "Failed to decode incoming data:readObjectStart: expect { or n"),
        ("x", False, None),
    ],
)
def test_other_frames_are_answered(paced, talk, text, success, ret_msg) -> None:
    answer = talk(paced, lambda peer: peer.ask(text), at("linear"))
    assert answer["success"] is success
    assert ret_msg in (answer["ret_msg"], None)


@pytest.mark.parametrize("path", ["stream.bybit.com/v5/public/option", "stream.bybit.com/v5/private"])
def test_other_paths_are_refused(paced, talk, path) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        talk(paced, lambda peer: peer.receive(), path)
    assert caught.value.status == 404


# What is streamed is what REST tells


@pytest.mark.parametrize(("category", "market"), MARKETS)
def test_trades(paced, clock, talk, rest, category, market) -> None:
    async def use(peer) -> Any:
        await peer.ask(ask_for(f"publicTrade.{market}"))
        clock.forward(20_000)
        theirs = await rest("recent-trade", category=category, symbol=market, limit=1000)
        ours = await peer.until(lambda frame: frame["data"][-1]["i"] == theirs[0]["execId"])
        return ours, [row for row in theirs if int(row["time"]) > NOW]

    frames, theirs = talk(paced, use, at(category))
    ours = data_of(frames)
    names = {"i": "execId", "s": "symbol", "p": "price", "v": "size", "S": "side", "BT": "isBlockTrade"}
    told = [{names[key]: row[key] for key in names} | {"time": str(row["T"])} for row in ours]
    assert len(theirs) > 5
    assert told[-len(theirs) :] == theirs[::-1]
    assert len(theirs) == 60 or len(told) == len(theirs)


@pytest.mark.parametrize(("category", "market"), MARKETS)
def test_candles(paced, clock, talk, rest, category, market) -> None:
    async def use(peer) -> Any:
        await peer.ask(ask_for(f"kline.1.{market}"))
        frames = []
        for _ in range(4):
            clock.forward(40_000)
            frames += await peer.until(lambda frame: frame["data"][0]["start"] > clock.now - MINUTE_MS)
        return frames, await rest("kline", category=category, symbol=market, interval=1, limit=10)

    frames, theirs = talk(paced, use, at(category))
    names = ("start", "open", "high", "low", "close", "volume", "turnover")
    ours = [(row["confirm"], [str(row[name]) for name in names]) for row in data_of(frames)]
    closed = [row for confirm, row in ours if confirm]
    assert [int(row[0]) for row in closed] == [NOW - 30_000 + n * MINUTE_MS for n in range(3)]
    assert closed[::-1] == theirs[1:4]
    assert [row for confirm, row in ours if not confirm][-1] == theirs[0]
    assert [row["end"] - row["start"] for row in data_of(frames)] == [MINUTE_MS - 1] * len(ours)


def told_books(frames: list[Any]) -> dict[int, Any]:
    """The states of a book by their sequence: its two sides, price to size."""
    sides: dict[str, dict[str, str]] = {}
    states = {}
    for frame in frames:
        data = frame["data"]
        if frame["type"] == "snapshot":
            sides = {"b": {}, "a": {}}
        for name in "ba":
            sides[name] = {**sides[name], **dict(data[name])}
            sides[name] = {price: size for price, size in sides[name].items() if size != "0"}
        states[data["seq"]] = {name: dict(levels) for name, levels in sides.items()}
    return states


@pytest.mark.parametrize(("category", "market"), MARKETS)
@pytest.mark.parametrize("depth", [1, 50, 200])
def test_books(paced, clock, talk, rest, category, market, depth) -> None:
    async def use(peer) -> Any:
        await peer.ask(ask_for(f"orderbook.{depth}.{market}"))
        frames, theirs = [await peer.receive()], []
        for _ in range(6):
            clock.forward(5000)
            frames += await peer.until(lambda frame: frame["cts"] == clock.now)
            theirs.append(await rest("orderbook", category=category, symbol=market, limit=depth))
        return frames, theirs

    frames, theirs = talk(paced, use, at(category))
    whole = depth == 1
    assert [frame["type"] for frame in frames[1:]] == ["snapshot" if whole else "delta"] * (len(frames) - 1)
    assert frames[0]["type"] == "snapshot" and len(frames) > 4
    assert np.all(np.diff([frame["data"]["u"] for frame in frames]) == 1)
    states = told_books(frames)
    assert [states[book["seq"]] for book in theirs] == [
        {name: dict(book[name]) for name in "ba"} for book in theirs
    ]
    assert all(len(book["b"]) == len(book["a"]) == depth for book in theirs)
    assert all(frame["data"]["s"] == market and frame["cts"] <= frame["ts"] for frame in frames)


def test_a_lost_update_leaves_a_hole_in_the_numbers(paced, clock, talk) -> None:
    async def use(peer) -> Any:
        await peer.ask(ask_for("orderbook.50.BTCUSDT"))
        frames = [await peer.receive()]
        paced.faults = ["ws_skip,times=1,after=1"]
        for _ in range(4):
            now = clock.forward(100)
            while paced.market.published != now:
                await asyncio.sleep(0.005)
        frames += await peer.until(lambda frame: frame["cts"] == clock.now)
        return [frame["data"]["u"] for frame in frames]

    steps = np.diff(talk(paced, use, at("linear"))).tolist()
    assert sorted(steps) == [1, 1, 2]


@pytest.mark.parametrize(("category", "market"), MARKETS[1:])
def test_tickers_tell_the_next_payment(paced, clock, talk, rest, category, market) -> None:
    async def use(peer) -> Any:
        await peer.ask(ask_for(f"tickers.{market}"))
        frames = []
        for step in (2000, 2000, 2000, MINUTE_MS):
            clock.forward(step)
            frames += await peer.until(lambda frame: frame["ts"] == clock.now)
        [paid] = await rest("funding/history", category=category, symbol=market, limit=1)
        return frames, paid

    frames, paid = talk(paced, use, at(category))
    first = frames[0]["data"]
    assert [frame["type"] for frame in frames] == ["snapshot"] + ["delta"] * (len(frames) - 1)
    assert first["fundingRate"] == paid["fundingRate"]
    assert first["nextFundingTime"] == paid["fundingRateTimestamp"]
    assert all("nextFundingTime" not in frame["data"] for frame in frames[1:-1])
    [following] = paced.market.fundings(SYMBOLS[category], clock.now, clock.now + 8 * HOUR_MS).ts.tolist()
    assert frames[-1]["data"]["nextFundingTime"] == str(following)
    assert all(len(frame["data"]) > 1 and frame["data"]["symbol"] == market for frame in frames)


# As recorded, and for our own streams


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("publicTrade.BTCUSDT", "ws_public_trade"),
        ("kline.5.BTCUSDT", "ws_kline"),
        ("orderbook.50.BTCUSDT", "ws_orderbook_snapshot"),
    ],
)
def test_frames_have_the_recorded_shape(
    paced, clock, talk, real: Path, shape_differences, topic, payload
) -> None:
    async def use(peer) -> Any:
        answer = await peer.ask(ask_for(topic))
        clock.forward(2000)
        return answer, await peer.receive()

    def recorded(name: str) -> Any:
        return json.loads((real / "payloads" / "bybit" / f"{name}.json").read_text())

    answer, frame = talk(paced, use, at("linear"))
    assert shape_differences(answer, recorded("ws_subscription_ack")) == []
    frame.pop("cts", None)  # came later than the recording
    assert shape_differences(frame, recorded(payload)) == []


def read_by_ours(use, *args: Any, **details: Any) -> None:
    async def session() -> None:
        async with reading(*args, **details) as live:
            await use(live)

    asyncio.run(session())


@pytest.mark.parametrize("symbol", SYMBOLS.values())
def test_our_streams_read_the_trades_of_our_requests(paced, clock, tmp_path, symbol) -> None:
    async def use(live) -> None:
        instrument, end = live.topic.instrument, clock.forward(5000) + 1
        [part] = [part async for part in live.venue.fetch_trades(instrument, NOW, end)]
        theirs = [row for row in part.rows.to_pylist() if row["ts"] > NOW][::-1]
        newest = theirs[-1]["trade_id"]
        told = await live.until(lambda messages: messages[-1].rows[-1].i == newest)
        rows = [row for message in told for row in message.rows]
        assert live.venue.streams.trades(instrument, rows).to_pylist()[-len(theirs) :] == theirs

    read_by_ours(use, paced, tmp_path, "bybit", symbol, "trades")


@pytest.mark.parametrize("symbol", SYMBOLS.values())
def test_our_streams_read_the_candles_of_our_requests(paced, clock, tmp_path, symbol) -> None:
    async def use(live) -> None:
        instrument, start = live.topic.instrument, NOW // MINUTE_MS * MINUTE_MS
        clock.forward(MINUTE_MS)
        told = await live.until(lambda messages: any(m.rows[0].confirm for m in messages))
        [row] = [message.rows[0] for message in told if message.rows[0].confirm]
        ours = live.venue.streams.candles(instrument, "1m", [row])
        theirs = await live.venue.fetch_candle_page(instrument, "1m", start, start + MINUTE_MS)
        assert ours.drop_columns(["is_closed"]).equals(theirs)

    read_by_ours(use, paced, tmp_path, "bybit", symbol, "candles", level="1m")


@pytest.mark.parametrize("symbol", SYMBOLS.values())
def test_our_streams_read_the_books_of_our_requests(paced, tmp_path, symbol) -> None:
    async def use(live) -> None:
        [snapshot] = await live.until(bool)
        [theirs] = (await live.venue.fetch_order_book(live.topic.instrument, 200)).to_pylist()
        assert (snapshot.is_snapshot, snapshot.ts) == (True, theirs["ts"])
        for side in ("bids", "asks"):
            ours = [price for price, _ in getattr(snapshot, side)]
            assert ours == [price for price, _ in json.loads(theirs[side])] and len(ours) == 200

    read_by_ours(use, paced, tmp_path, "bybit", symbol, "order_book", depth=200)
