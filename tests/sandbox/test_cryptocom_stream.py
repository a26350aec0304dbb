"""Crypto.com's streams: what a client is answered, and that what is streamed is what REST tells of the same time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import aiohttp
import ccxt.pro
import pytest

from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import HOUR_MS, LEVEL_MS, MINUTE_MS, parse_time
from zvt_crypto.exchanges.base import Instrument, open_venue
from zvt_crypto.exchanges.cryptocom import Cryptocom
from zvt_crypto.exchanges.streaming import BookUpdate, Candles, Confirmed, Funding, Topic, Trades
from zvt_crypto.sandbox import Sandbox
from zvt_crypto.sandbox.cryptocom import TIMEFRAMES
from zvt_crypto.sandbox.cryptocom_stream import CryptocomStreams

NOW = parse_time("2024-03-01T11:59:30Z")
ADDRESS = "stream.crypto.com/exchange/v1/market"
PAIR = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTC_USDT")
PERP = Instrument("cryptoperp", "btcusd", "BTC/USD:USD", "BTCUSD-PERP", contract_size=1.0)
MARKETS = pytest.mark.parametrize("instrument", [PAIR, PERP], ids=lambda i: i.native_id)
STREAMS = Cryptocom.streams
CHANGES = {"book_subscription_type": "SNAPSHOT_AND_UPDATE", "book_update_frequency": 100}


def asked(*channels: str, method: str = "subscribe", number: int = 1, **params: Any) -> dict[str, Any]:
    return {"id": number, "method": method, "params": {"channels": list(channels), **params}, "nonce": NOW}


@pytest.fixture
def rest(paced: Sandbox, fetch: Callable[..., Any]) -> Callable[..., Any]:
    """The rows of what REST answers."""
    base = f"{paced.url}/api.crypto.com/exchange/v1/public"
    return lambda what, **query: fetch(f"{base}/get-{what}?{urlencode(query)}").json["result"]["data"]


@pytest.fixture
def heard(paced: Sandbox, clock: Any, talk: Callable[..., Any]) -> Callable[..., list[Any]]:
    """A frame that is sent, and the times in ms to let pass then; all that comes."""

    def run(*frames: Any, steps: tuple[int, ...] = ()) -> list[Any]:
        async def use(peer: Any) -> list[Any]:
            received = []
            for frame in frames:
                received.append(await peer.ask(frame))
                received += await peer.rest()
            for step in steps:
                clock.forward(step)
                received += await peer.rest(0.1)
            return [*received, *await peer.rest()]

        return list(talk(paced, use, ADDRESS))

    return run


@pytest.fixture
def read(heard: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """What our own streams make of what is sent about topics."""

    def run(*topics: Topic, steps: tuple[int, ...]) -> list[Any]:
        reader = STREAMS.reader()
        reader.expect(topics)
        frames = heard(*STREAMS.subscribe(topics, 1), steps=steps)
        return [message for frame in frames for message in reader.read(json.dumps(frame)) or ()]

    return run


def results(frames: list[Any], channel: str) -> list[Any]:
    return [frame["result"] for frame in frames if frame.get("result", {}).get("channel") == channel]


def rows(messages: list[Any], kind: type) -> list[Any]:
    return [row for message in messages if isinstance(message, kind) for row in message.rows]


# Answers


def refused(channel: str, message: str, number: int = 1) -> dict[str, Any]:
    return {"id": number, "method": "subscribe", "code": 40003, "channel": channel, "message": message}


def test_books_are_confirmed_and_other_channels_begin_with_what_was(heard) -> None:
    frames = heard(
        asked("trade.BTC_USDT", "candlestick.5m.BTC_USDT", number=7),
        asked("book.BTC_USDT.10", "book.BTCUSD-PERP.50", number=8, **CHANGES),
    )
    trades, candles, *confirmed = frames[:4]
    assert (trades["id"], trades["method"], trades["code"]) == (7, "subscribe", 0)
    names = {"instrument_name": "BTC_USDT", "subscription": "trade.BTC_USDT", "channel": "trade"}
    assert {name: trades["result"][name] for name in names} == names
    assert len(trades["result"]["data"]) == 50
    assert (candles["id"], candles["result"]["interval"]) == (7, "5m")
    assert confirmed == [
        {"id": 8, "method": "subscribe", "code": 0, "channel": channel}
        for channel in ("book.BTC_USDT.10", "book.BTCUSD-PERP.50")
    ]
    books = results(frames, "book")
    assert [(book["subscription"], book["depth"]) for book in books] == [
        ("book.BTC_USDT.10", 10),
        ("book.BTCUSD-PERP.50", 50),
    ]
    assert {frame["id"] for frame in frames[4:]} == {-1}


@pytest.mark.parametrize(
    ("channel", "params", "message"),
    [
        ("trade.NOPE_USDT", {}, "Unknown symbol"),
        ("book.NOPE_USDT.50", CHANGES, "Unknown symbol"),
        ("book.BTC_USDT.20", CHANGES, "Invalid depth"),
        ("book.BTC_USDT", CHANGES, "Unknown symbol"),
        ("book.BTC_USDT.50", {"book_subscription_type": "NOPE"}, "Invalid book_subscription_type"),
        ("book.BTC_USDT.50", {"book_update_frequency": 300}, "Invalid book_update_frequency"),
        (
            "book.BTC_USDT.50",
            {**CHANGES, "book_update_frequency": 500},
            "Unsupported depth/interval combination",
        ),
        ("candlestick.3m.BTC_USDT", {}, "Invalid interval"),
        ("mark.BTC_USDT", {}, "Unsupported instrument"),
        ("funding.BTC_USDT", {}, "Unsupported instrument"),
        ("nope.BTCUSD-PERP", {}, "Unrecognized channel"),
        ("", {}, "Unrecognized channel"),
    ],
)
def test_a_channel_is_refused_and_the_others_live_on(heard, channel: str, params: Any, message: str) -> None:
    frames = heard(asked(channel, "trade.BTC_USDT", **params))
    assert frames[0] == refused(channel, message)
    assert [result["subscription"] for result in results(frames, "trade")] == ["trade.BTC_USDT"]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"id": 3, "method": "public/nope"}, "No such method"),
        ({"id": 3}, "No such method"),
        ({"id": 3, "method": "subscribe"}, "Invalid channels"),
        ({"id": 3, "method": "subscribe", "params": {"channels": "trade.BTC_USDT"}}, "Invalid channels"),
    ],
)
def test_wrong_frames(heard, frame: Any, message: str) -> None:
    [answer] = heard(frame)
    assert (answer["id"], answer["code"], answer["message"]) == (3, 40003, message)


def test_what_is_no_json_is_passed_over(paced, talk) -> None:
    async def use(peer: Any) -> Any:
        await peer.send("not json")
        return await peer.ask(asked("book.BTC_USDT.10", **CHANGES))

    assert talk(paced, use, ADDRESS)["code"] == 0


def test_a_connection_has_a_most_of_channels(heard, monkeypatch) -> None:
    monkeypatch.setattr("zvt_crypto.sandbox.cryptocom_stream._MOST_CHANNELS", 2)
    frames = heard(asked("trade.BTC_USDT", "trade.ETH_USDT", "trade.SOL_USDT", "trade.BTC_USDT", number=9))
    assert [frame.get("message") or frame.get("channel") or "" for frame in frames] == [
        "", "", "Maximum subscriptions exceeded", "trade.BTC_USDT",
    ]  # fmt: skip
    assert frames[2] == {
        "id": 9,
        "method": "subscribe",
        "code": 40107,
        "message": "Maximum subscriptions exceeded",
    }


def test_unsubscribing_ends_it(heard, paced) -> None:
    frames = heard(
        asked("trade.BTC_USDT", "candlestick.1m.BTC_USDT"),
        asked("trade.BTC_USDT", "trade.NOPE", method="unsubscribe", number=5),
        steps=(2000, 2000),
    )
    answer = frames.index({"id": 5, "method": "unsubscribe", "code": 0})
    assert {frame["result"]["channel"] for frame in frames[answer + 1 :]} == {"candlestick"}


def test_a_wrong_path_is_not_there(paced, talk) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
        talk(paced, None, "stream.crypto.com/exchange/v1/user")


def test_heartbeats_must_be_answered(paced, talk, monkeypatch) -> None:
    monkeypatch.setattr(CryptocomStreams, "heartbeat_seconds", 0.1)

    async def use(silent: Any, polite: Any) -> tuple[int, int]:
        async def answer() -> int:
            number = 0
            while number < 6:
                frame = await polite.receive()
                assert frame == {"id": NOW, "method": "public/heartbeat", "code": 0}
                await polite.send({"id": frame["id"], "method": "public/respond-heartbeat"})
                number += 1
            return number

        async def ignore() -> int:
            number = 0
            with pytest.raises(ConnectionError):
                while True:
                    await silent.receive()
                    number += 1
            return number

        answered, ignored = await asyncio.gather(answer(), ignore())
        return answered, ignored

    assert talk(paced, use, ADDRESS, ADDRESS) == (6, 2)


# As over REST


@MARKETS
def test_trades_are_those_of_rest(heard, rest, clock, instrument: Instrument) -> None:
    frames = heard(asked(f"trade.{instrument.native_id}"), steps=(400,) * 8)
    snapshot, *updates = results(frames, "trade")
    streamed = [row for result in (snapshot, *updates) for row in result["data"][::-1]]
    ids = [int(row["d"]) for row in streamed]
    assert ids == sorted(set(ids)) and len(updates) > 1
    bounds = {"start_ts": (NOW + 1) * 1_000_000, "end_ts": (clock.now + 1) * 1_000_000, "count": 150}
    answered = rest("trades", instrument_name=instrument.native_id, **bounds)
    assert [row for row in streamed if row["t"] > NOW] == answered[::-1]


@MARKETS
def test_what_our_streams_make_of_trades_is_what_rest_gives(
    paced, clock, read, tmp_path, instrument: Instrument
) -> None:
    messages = read(Topic("trades", instrument), steps=(400,) * 5)
    streamed = STREAMS.trades(instrument, rows(messages, Trades)).to_pylist()

    async def ask() -> list[Any]:
        settings = Settings(data_path=tmp_path / "data", gateway=paced.url, rate_limit=False)
        async with open_venue("cryptocom", settings) as venue:
            parts = venue.fetch_trades(instrument, NOW + 1, clock.now + 1)
            return [row async for part in parts for row in part.rows.to_pylist()]

    answered = asyncio.run(ask())
    assert answered and [row for row in streamed if row["ts"] > NOW] == sorted(
        answered, key=lambda row: int(row["trade_id"])
    )


@MARKETS
@pytest.mark.parametrize("level", ["1m", "1h", "1d"])
def test_candles_are_those_of_rest(read, paced, clock, tmp_path, instrument: Instrument, level: str) -> None:
    topic = Topic("candles", instrument, level=level)
    messages = read(topic, steps=(20_000, 20_000, MINUTE_MS, 5 * MINUTE_MS))
    last = {row["ts"]: row for row in STREAMS.candles(instrument, level, rows(messages, Candles)).to_pylist()}
    assert {row.pop("is_closed") for row in last.values()} == {None}
    step = LEVEL_MS[level]
    newest = clock.now // step * step
    assert max(last) == newest and len(last) >= 50

    async def ask() -> list[Any]:
        settings = Settings(data_path=tmp_path / "data", gateway=paced.url, rate_limit=False)
        async with open_venue("cryptocom", settings) as venue:
            page = await venue.fetch_candle_page(instrument, level, newest - 40 * step, newest + step)
            return page.to_pylist()

    answered = asyncio.run(ask())
    assert len(answered) == 41 and [last[row["ts"]] for row in answered] == answered


def test_timeframes_that_are_no_level_of_ours(heard) -> None:
    names = [f"candlestick.{timeframe}.BTC_USDT" for timeframe in TIMEFRAMES]
    frames = heard(asked(*names), steps=(MINUTE_MS,))
    told = {result["interval"]: result["data"] for result in results(frames[: len(names)], "candlestick")}
    assert list(told) == list(TIMEFRAMES)
    for timeframe, (step, offset) in TIMEFRAMES.items():
        assert {(row["t"] - offset) % step for row in told[timeframe]} == {0}
    newer = {result["interval"] for result in results(frames[len(names) :], "candlestick")}
    assert newer == set(TIMEFRAMES)


@MARKETS
@pytest.mark.parametrize("depth", [10, 50])
def test_books_are_those_of_rest(paced, clock, talk, rest, instrument: Instrument, depth: int) -> None:
    topic = Topic("order_book", instrument, depth=depth)

    async def use(peer: Any) -> tuple[list[Any], list[Any]]:
        [frame] = STREAMS.subscribe([topic], 1)
        frames, books = [await peer.ask(frame), await peer.receive()], []
        for step in (100, 250, 1000, 2000, 5000):
            clock.forward(step)
            frames += await peer.rest(0.1)
            books += await asyncio.to_thread(rest, "book", instrument_name=instrument.native_id, depth=depth)
        return [*frames, *await peer.rest()], books

    frames, books = talk(paced, use, ADDRESS)
    reader = STREAMS.reader()
    reader.expect([topic])
    confirmed, *updates = [message for frame in frames for message in reader.read(json.dumps(frame)) or ()]
    assert confirmed == Confirmed((topic,))
    assert [update.is_snapshot for update in updates] == [True] + [False] * (len(updates) - 1)
    assert [update.previous for update in updates[1:]] == [update.last for update in updates[:-1]]
    states = states_of(updates, depth)
    assert len(states) > 3
    for book in books:
        answered = [[(float(p), float(q)) for p, q, _ in book[side]] for side in ("bids", "asks")]
        assert states[max(ts for ts in states if ts <= book["t"])] == answered


def states_of(updates: list[BookUpdate], depth: int) -> dict[int, Any]:
    """Sides of a book, best first, after each update; levels that fall out of its depth are told."""
    sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
    states: dict[int, Any] = {}
    for update in updates:
        assert update.ts is not None
        for side, levels in zip(sides, (update.bids, update.asks), strict=True):
            side.update(levels)
            for price in [price for price, amount in side.items() if not amount]:
                del side[price]
            assert len(side) == depth
        states[update.ts] = [sorted(sides[0].items(), reverse=True), sorted(sides[1].items())]
    return states


def test_a_change_that_is_lost_leaves_a_hole_that_numbers_tell(paced, read) -> None:
    paced.faults = ["ws_skip,after=2,times=1"]
    updates = read(Topic("order_book", PAIR, depth=50), steps=(200,) * 6)[1:]
    gaps = [
        number
        for number, (before, after) in enumerate(zip(updates, updates[1:], strict=False))
        if after.previous != before.last
    ]
    assert gaps == [1]


def test_without_parameters_a_book_is_told_whole(heard) -> None:
    frames = heard(asked("book.BTC_USDT.10"), steps=(600, 100, 600))
    books = results(frames, "book")
    assert len(books) == 3 and not results(frames, "book.update")
    assert {len(book["data"][0][side]) for book in books for side in ("bids", "asks")} == {10}


def test_funding_is_what_is_paid_at_the_end_of_the_hour(read, rest, clock) -> None:
    topic = Topic("funding", PERP)
    messages = read(topic, steps=(1000, 1000, MINUTE_MS, MINUTE_MS))
    assert {type(message) for message in messages} == {Funding}
    rates = [message for message in messages if message.rate is not None]
    due = (NOW // HOUR_MS + 1) * HOUR_MS
    assert [message.next_ts for message in rates] == [due, due + HOUR_MS, due + HOUR_MS]
    paid = rest("valuations", instrument_name="BTCUSD-PERP", valuation_type="funding_hist", count=1)
    # Payments lie some ms off the hour.
    assert [(row["t"] // HOUR_MS * HOUR_MS, float(row["v"])) for row in paid] == [(due, rates[0].rate)]
    marks = [message for message in messages if message.mark_price is not None]
    assert [message.ts - NOW for message in marks] == [0, 1000, 2000, 2000 + MINUTE_MS, 2000 + 2 * MINUTE_MS]
    told = rest("valuations", instrument_name="BTCUSD-PERP", valuation_type="mark_price", count=1)
    assert (marks[-1].ts, marks[-1].mark_price) == (told[0]["t"], float(told[0]["v"]))


# ccxt


def test_ccxt_watches_trades_candles_and_books(box: Sandbox) -> None:
    async def session() -> tuple[Any, ...]:
        options = {"fetchCurrencies": {"skipFetchCurrencies": True}}
        exchange = ccxt.pro.cryptocom({"enableRateLimit": False, "options": options})
        exchange.urls["api"] = {
            **exchange.urls["api"],
            "v1": f"{box.url}/api.crypto.com/exchange/v1",
            "ws": {"public": f"{box.url.replace('http', 'ws')}/{ADDRESS}"},
        }
        try:
            calls = (
                exchange.watch_trades("BTC/USDT"),
                exchange.watch_ohlcv("BTC/USDT", "1d"),
                exchange.watch_order_book("BTC/USD:USD"),
            )
            return tuple([await asyncio.wait_for(call, 20) for call in calls])
        finally:
            await exchange.close()

    trades, candles, book = asyncio.run(session())
    assert {trade["symbol"] for trade in trades} == {"BTC/USDT"}
    assert candles and all(candle[0] % LEVEL_MS["1d"] == 0 for candle in candles)
    assert len(book["bids"]) == len(book["asks"]) == 50 and book["bids"][0][0] < book["asks"][0][0]
