"""Coinbase's streams: what a client is answered, and that what is streamed is what REST tells of the same time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import ccxt.pro
import pytest

from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import parse_time
from zvt_crypto.exchanges.base import Instrument, open_venue
from zvt_crypto.exchanges.coinbase import Coinbase
from zvt_crypto.exchanges.streaming import Missed, Topic, Trades
from zvt_crypto.sandbox import Sandbox
from zvt_crypto.sandbox.coinbase_stream import CoinbaseStreams

NOW = parse_time("2024-03-01T12:00:30Z")
HOST = "advanced-trade-ws.coinbase.com"


def asked(channel: str, *products: str, kind: str = "subscribe") -> dict[str, Any]:
    frame: dict[str, Any] = {"type": kind, "channel": channel}
    return {**frame, "product_ids": list(products)} if products else frame


def is_answer(frame: Any) -> bool:
    """Whether a frame is the last one that a client's frame is answered, but for a book that begins."""
    return frame.get("channel") == "subscriptions" or frame.get("type") == "error"


def told(frames: list[Any], channel: str) -> list[Any]:
    """The events of a channel."""
    return [event for frame in frames if frame.get("channel") == channel for event in frame["events"]]


@pytest.fixture
def rest(paced: Sandbox, fetch: Callable[..., Any]) -> Callable[..., Any]:
    """What REST answers."""
    base = f"{paced.url}/api.coinbase.com/api/v3/brokerage/market"
    return lambda path, **query: fetch(f"{base}/{path}?{urlencode(query)}").json


@pytest.fixture
def heard(paced: Sandbox, clock: Any, talk: Callable[..., Any]) -> Callable[..., list[Any]]:
    """Frames that are sent, and the times in ms to let pass then; all that comes."""

    def run(*frames: Any, steps: tuple[int, ...] = ()) -> list[Any]:
        async def use(peer: Any) -> list[Any]:
            received = []
            for frame in frames:
                await peer.send(frame)
                received += await peer.until(is_answer)
            for step in steps:
                clock.forward(step)
                received += await peer.rest(0.1)
            return [*received, *await peer.rest()]

        return list(talk(paced, use, HOST))

    return run


# Answers


def test_what_is_subscribed_is_told_after_each_frame(heard) -> None:
    frames = heard(
        asked("market_trades", "BTC-USD", "NOPE-USD"),
        asked("heartbeats"),
        asked("market_trades", "ETH-USD"),
        asked("level2", "BTC-USD"),
        asked("market_trades", "BTC-USD", kind="unsubscribe"),
        asked("heartbeats", kind="unsubscribe"),
        asked("level2", kind="unsubscribe"),
    )
    assert [event["subscriptions"] for event in told(frames, "subscriptions")] == [
        {"market_trades": ["BTC-USD"]},
        {"heartbeats": ["heartbeats"], "market_trades": ["BTC-USD"]},
        {"heartbeats": ["heartbeats"], "market_trades": ["BTC-USD", "ETH-USD"]},
        {"heartbeats": ["heartbeats"], "level2": ["BTC-USD"], "market_trades": ["BTC-USD", "ETH-USD"]},
        {"heartbeats": ["heartbeats"], "level2": ["BTC-USD"], "market_trades": ["ETH-USD"]},
        {"level2": ["BTC-USD"], "market_trades": ["ETH-USD"]},
        {"market_trades": ["ETH-USD"]},
    ]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (asked("nope", "BTC-USD"), "authentication failure"),
        (asked("user"), "authentication failure"),
        ({"type": "subscribe", "channel": ["level2"]}, "authentication failure"),
        ({"type": "subscribe", "channel": "level2", "product_ids": "BTC-USD"}, "Malformed message"),
        ({"type": "ask"}, "Malformed message"),
        ([], "Malformed message"),
        ("not json", "Malformed message"),
    ],
)
def test_refusals(heard, frame: Any, message: str) -> None:
    assert heard(frame) == [{"type": "error", "message": message}]


def test_messages_of_all_channels_are_counted_as_one(heard) -> None:
    frames = heard(
        asked("market_trades", "BTC-USD"), asked("level2", "ETH-USD"), asked("heartbeats"), steps=(500,) * 6
    )
    assert {frame["channel"] for frame in frames} >= {"market_trades", "l2_data", "subscriptions"}
    assert [frame["sequence_num"] for frame in frames] == list(range(len(frames)))


def test_a_message_that_is_lost_leaves_a_hole_that_a_reader_sees(paced, heard) -> None:
    paced.faults = ["ws_skip,after=2,times=1"]
    topic = Topic("order_book", Instrument("cryptopair", "btcusd", "BTC/USD", "BTC-USD"), depth=1000)
    frames = heard(asked("level2", "BTC-USD"), steps=(200,) * 6)
    reader = Coinbase.streams.reader()
    reader.expect([topic])
    messages = [message for frame in frames for message in reader.read(json.dumps(frame)) or ()]
    assert [message.reason for message in messages if isinstance(message, Missed)] == [
        "message 4 came where 3 was due"
    ]


def test_heartbeats_are_counted(paced, clock, talk, monkeypatch) -> None:
    monkeypatch.setattr(CoinbaseStreams, "heartbeat_seconds", 0.02)

    async def use(peer: Any) -> list[Any]:
        await peer.send(asked("heartbeats"))
        return list(await peer.until(lambda frame: frame["sequence_num"] == 4))

    events = told(talk(paced, use, HOST), "heartbeats")
    counts = [event["heartbeat_counter"] for event in events]
    assert len(counts) == 4 and counts == list(range(counts[0], counts[0] + 4))
    assert events[0]["current_time"] == "2024-03-01 12:00:30.000 +0000 UTC"


def test_who_subscribes_to_nothing_is_disconnected(paced, talk, monkeypatch) -> None:
    monkeypatch.setattr(CoinbaseStreams, "heartbeat_seconds", 0.02)

    async def use(silent: Any, other: Any) -> Any:
        await other.send(asked("market_trades", "BTC-USD"))
        with pytest.raises(ConnectionError):
            await silent.receive()
        return await other.ask(asked("heartbeats"))

    assert talk(paced, use, HOST, HOST)["channel"] == "market_trades"


@pytest.fixture
def recorded(real) -> Callable[[str], Any]:
    """A frame as it was recorded."""

    def read(name: str) -> Any:
        frame = json.loads((real / "payloads" / "coinbase" / f"ws_{name}.json").read_text())
        del frame["client_id"]  # no longer sent
        return frame

    return read


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["market_trades", "l2_data_snapshot", "l2_data_update"])
def test_frames_have_the_shape_of_recorded_ones(heard, recorded, shape_differences, name: str) -> None:
    theirs = recorded(name)
    kind = theirs["events"][0]["type"]
    frames = heard(asked("market_trades", "BTC-USD"), asked("level2", "BTC-USD"), steps=(900, 900))
    alike = [frame for frame in frames if frame["channel"] == theirs["channel"]]
    ours = [frame for frame in alike if frame["events"][0]["type"] == kind]
    assert ours and not [difference for frame in ours for difference in shape_differences(frame, theirs)]


@pytest.mark.real_data
def test_answers_have_the_shape_of_recorded_ones(
    paced, talk, recorded, shape_differences, monkeypatch
) -> None:
    monkeypatch.setattr(CoinbaseStreams, "heartbeat_seconds", 0.02)

    async def use(peer: Any) -> list[Any]:
        await peer.send(asked("level2", "BTC-USD"))
        await peer.send(asked("market_trades", "BTC-USD", "ETH-USD"))
        await peer.send(asked("heartbeats"))
        return list(await peer.until(lambda frame: frame["channel"] == "heartbeats"))

    *frames, heartbeat = talk(paced, use, HOST)
    assert not shape_differences(heartbeat, recorded("heartbeats"))
    confirmed = [frame for frame in frames if frame["channel"] == "subscriptions"][1]
    assert not shape_differences(confirmed, recorded("subscriptions"))
    assert confirmed["events"] == recorded("subscriptions")["events"]


# As over REST


def test_trades_are_those_of_rest(heard, rest, clock) -> None:
    frames = heard(asked("market_trades", "BTC-USD"), steps=(400,) * 8)
    snapshot, *updates = told(frames, "market_trades")
    assert (snapshot["type"], {event["type"] for event in updates}) == ("snapshot", {"update"})
    streamed = [row for event in (snapshot, *updates) for row in event["trades"][::-1]]
    ids = [int(row["trade_id"]) for row in streamed]
    assert ids == sorted(set(ids)) and len(updates) > 1
    query = {"start": NOW // 1000 - 1, "end": clock.now // 1000 + 1, "limit": 1000}
    answered = {row["trade_id"]: row for row in rest("products/BTC-USD/ticker", **query)["trades"]}
    extra = {"bid": "", "ask": "", "exchange": "coinbase"}
    of_updates = [row for event in updates for row in event["trades"]]
    assert all({**row, **extra} == answered[row["trade_id"]] for row in of_updates)
    newer = {key for key, row in answered.items() if row["time"] > "2024-03-01T12:00:30.000999Z"}
    assert newer == {row["trade_id"] for row in of_updates}


def test_books_are_those_of_rest(paced, clock, talk, rest) -> None:
    async def use(peer: Any) -> tuple[list[Any], list[Any]]:
        await peer.send(asked("level2", "BTC-USD"))
        frames, books = await peer.until(lambda frame: frame["channel"] == "l2_data"), []
        for step in (50, 100, 250, 1000):
            clock.forward(step)
            frames += await peer.rest(0.1)
            answer = await asyncio.to_thread(rest, "product_book", product_id="BTC-USD", limit=1000)
            books.append(answer["pricebook"])
        return [*frames, *await peer.rest()], books

    frames, books = talk(paced, use, HOST)
    state: dict[str, dict[str, str]] = {"bid": {}, "offer": {}}
    states = {}
    for frame in frames:
        for event in told([frame], "l2_data"):
            for level in event["updates"]:
                state[level["side"]][level["price_level"]] = level["new_quantity"]
            states[frame["timestamp"]] = [best(state["bid"], -1), best(state["offer"], 1)]
    assert len(states) > 4
    for book in books:
        answered = [[(row["price"], row["size"]) for row in book[side]] for side in ("bids", "asks")]
        assert states[book["time"]] == answered


def best(side: dict[str, str], order: int) -> list[tuple[str, str]]:
    levels = [(price, size) for price, size in side.items() if float(size)]
    return sorted(levels, key=lambda level: order * float(level[0]))[:1000]


def test_what_our_streams_make_of_it_is_what_rest_gives(paced, clock, heard, tmp_path) -> None:
    instrument = Instrument("cryptopair", "btcusd", "BTC/USD", "BTC-USD")
    topic = Topic("trades", instrument)
    *frames, _ = Coinbase.streams.subscribe([topic], 1)
    received = heard(*frames, steps=(400,) * 5)
    reader = Coinbase.streams.reader()
    reader.expect([topic])
    messages = [message for frame in received for message in reader.read(json.dumps(frame)) or ()]
    rows = [row for message in messages if isinstance(message, Trades) for row in message.rows]
    streamed = Coinbase.streams.trades(instrument, rows).to_pylist()

    async def ask() -> list[Any]:
        settings = Settings(data_path=tmp_path / "data", gateway=paced.url, rate_limit=False)
        async with open_venue("coinbase", settings) as venue:
            parts = venue.fetch_trades(instrument, NOW + 1, clock.now + 1)
            return [row async for part in parts for row in part.rows.to_pylist()]

    answered = {row["trade_id"]: row for row in asyncio.run(ask())}
    assert answered and {row["trade_id"]: row for row in streamed if row["ts"] > NOW} == answered


# ccxt


def test_ccxt_watches_trades_and_books(box: Sandbox) -> None:
    async def session() -> tuple[Any, Any]:
        exchange = ccxt.pro.coinbase({"enableRateLimit": False, "has": {"fetchCurrencies": False}})
        exchange.urls["api"] = {
            **exchange.urls["api"],
            "rest": f"{box.url}/api.coinbase.com",
            "ws": f"{box.url.replace('http', 'ws')}/{HOST}",
        }
        try:
            trades = await asyncio.wait_for(exchange.watch_trades("BTC/USD"), 20)
            book = await asyncio.wait_for(exchange.watch_order_book("ETH/USD"), 20)
            return trades, book
        finally:
            await exchange.close()

    trades, book = asyncio.run(session())
    assert {trade["symbol"] for trade in trades} == {"BTC/USD"}
    assert book["symbol"] == "ETH/USD" and book["bids"][0][0] < book["asks"][0][0]
