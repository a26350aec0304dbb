"""Channels: one subscription at the exchange, messages as specified, gaps told, and who comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from live_publisher import BTC, ETH, NOW, PERPETUAL, Publisher, Publishers

from zvt_crypto.core.errors import (
    InvalidArgument,
    NotSupported,
    PairNotFound,
    ProviderUnavailable,
    SymbolMappingError,
    ZvtCryptoError,
)
from zvt_crypto.stream.broadcast import hub as hubs
from zvt_crypto.stream.broadcast.channellog import MOST_KEPT
from zvt_crypto.stream.broadcast.channels import Channel
from zvt_crypto.stream.broadcast.finding import Wanted
from zvt_crypto.stream.broadcast.hub import Delivery, Hub, Subscription

MINUTE = 60_000


class Reader:
    """A subscriber that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.errors: list[ZvtCryptoError] = []
        self.deliveries = 0

    def deliver(self, batch: Sequence[Delivery]) -> None:
        self.deliveries += 1
        for _, messages, frames in batch:
            self.messages += [json.loads(message.payload) for message in messages]
            assert frames == b"".join(message.frame for message in messages)

    def refused(self, lane: Subscription, error: ZvtCryptoError) -> None:
        self.errors.append(error)

    def take(self) -> list[dict[str, Any]]:
        found, self.messages = self.messages, []
        return found


class Room:
    """A hub of publishers in the loop of a test."""

    def __init__(self, **options: Any) -> None:
        self.publishers = Publishers("binance", "okx")
        self.hub = Hub(self.publishers.open, **({"tick_seconds": 0.001, "linger_seconds": 0.05} | options))

    @property
    def publisher(self) -> Publisher:
        return self.publishers.binance

    async def channel(self, stream: str = "crypto.trades", symbol: str = "btcusdt", **more: Any) -> Channel:
        [found] = await self.hub.find(Wanted(stream, "binance", [symbol], **more))
        if isinstance(found, ZvtCryptoError):
            raise found
        return found

    async def join(self, reader: Reader, *given: str, **more: Any) -> Subscription:
        return self.hub.join(await self.channel(*given, **more), reader)

    async def turn(self) -> None:
        await asyncio.sleep(0.02)


def in_room(test: Callable[[Room], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Runs a test in the event loop of a hub, which is closed in the end."""

    async def run() -> None:
        room = Room()
        try:
            await test(room)
        finally:
            await room.hub.close()
        assert all(one.is_closed for one in room.publishers.opened.values())

    def run_test() -> None:
        asyncio.run(run())

    run_test.__name__, run_test.__doc__ = test.__name__, test.__doc__
    return run_test


@in_room
async def test_trades_have_the_shape_of_the_specification(room: Room) -> None:
    reader = Reader()
    await room.join(reader)
    publisher = room.publisher
    publisher.live(publisher.topic("trades"))
    publisher.time = NOW + 789
    publisher.trade(45250.5, 45251.0)
    await room.turn()
    live, first, second = reader.take()
    assert live == {
        "stream": "crypto.trades",
        "provider": "binance",
        "symbol": "btcusdt",
        "sequence": 1,
        "event": "live",
        "since": "2024-06-01T00:00:00.000Z",
    }
    assert first == {
        "stream": "crypto.trades",
        "provider": "binance",
        "symbol": "btcusdt",
        "type": "update",
        "sequence": 2,
        "data": {
            "trade_id": "1",
            "price": 45250.5,
            "volume": 0.5,
            "side": "buy",
            "timestamp": "2024-06-01T00:00:00.789Z",
            "is_buyer_maker": False,
        },
    }
    assert (second["sequence"], second["data"]["side"], second["data"]["is_buyer_maker"]) == (3, "sell", True)


@in_room
async def test_candles_have_the_shape_of_the_specification(room: Room) -> None:
    reader = Reader()
    await room.join(reader, "crypto.klines", interval="1m")
    publisher = room.publisher
    publisher.live(publisher.topic("candles"))
    publisher.candle(NOW, 101.0, is_closed=False)
    publisher.candle(NOW, 102.0, is_closed=True)
    await room.turn()
    _, first, second = reader.take()
    assert first == {
        "stream": "crypto.klines",
        "provider": "binance",
        "symbol": "btcusdt",
        "interval": "1m",
        "type": "snapshot",
        "sequence": 2,
        "data": {
            "open": 100.0,
            "high": 101.0,
            "low": 100.0,
            "close": 101.0,
            "volume": 2.5,
            "timestamp": "2024-06-01T00:00:00.000Z",
            "is_closed": False,
        },
    }
    assert (second["type"], second["data"]["is_closed"]) == ("update", True)


@in_room
async def test_books_are_whole_up_to_the_depth_and_only_the_newest(room: Room) -> None:
    reader = Reader()
    await room.join(reader, "crypto.orderbook", depth=2)
    publisher = room.publisher
    topic = publisher.topic("order_book")
    assert topic.depth == 10
    publisher.live(topic)
    publisher.book(7)
    publisher.book(8)
    await room.turn()
    _, snapshot = reader.take()
    assert snapshot == {
        "stream": "crypto.orderbook",
        "provider": "binance",
        "symbol": "btcusdt",
        "depth": 2,
        "type": "snapshot",
        "sequence": 2,
        "data": {
            "bids": [[100.0, 1.0], [99.0, 2.0]],
            "asks": [[101.0, 2.0], [102.0, 3.0]],
            "timestamp": "2024-06-01T00:00:00.000Z",
            "sequence": 8,
        },
    }
    publisher.book(9)
    await room.turn()
    [update] = reader.take()
    assert (update["type"], update["sequence"], update["data"]["sequence"]) == ("update", 3, 9)


@in_room
async def test_funding_is_all_that_is_known_of_the_next_payment(room: Room) -> None:
    reader = Reader()
    subscription = await room.join(reader, "crypto.funding")
    assert subscription.channel.symbol == "btcusdt-perp"
    publisher = room.publisher
    publisher.live(publisher.topic("funding", PERPETUAL))
    publisher.funding(rate=0.0001, next_ts=NOW + MINUTE)
    await room.turn()
    publisher.funding(mark_price=45_000.0)
    await room.turn()
    _, first, second = reader.take()
    assert first["data"] == {
        "funding_rate": 0.0001,
        "mark_price": None,
        "next_funding_time": "2024-06-01T00:01:00.000Z",
        "timestamp": "2024-06-01T00:00:00.000Z",
    }
    assert second["data"] == first["data"] | {"mark_price": 45_000.0}


@in_room
async def test_one_subscription_however_many_ask_and_in_whatever_words(room: Room) -> None:
    readers = [Reader() for _ in range(3)]
    for reader, symbol in zip(readers, ("btcusdt", "BTC/USDT", "BTC-USDT"), strict=True):
        await room.join(reader, "crypto.trades", symbol)
    publisher = room.publisher
    assert len(publisher.started) == 1
    publisher.live(publisher.topic("trades"))
    publisher.trade(1.0)
    await room.turn()
    assert readers[0].messages == readers[1].messages == readers[2].messages
    assert len(readers[0].messages) == 2


@in_room
async def test_messages_of_a_moment_are_delivered_at_once(room: Room) -> None:
    reader = Reader()
    for symbol in ("btcusdt", "ethusdt"):
        await room.join(reader, "crypto.trades", symbol)
    for instrument in (BTC, ETH):
        room.publisher.trade(1.0, 2.0, instrument=instrument)
    await room.turn()
    assert (len(reader.messages), reader.deliveries) == (4, 1)


@in_room
async def test_who_comes_later_gets_the_newest_state_first(room: Room) -> None:
    await room.join(Reader(), "crypto.orderbook", depth=1)
    await room.join(Reader())
    publisher = room.publisher
    for feed in ("order_book", "trades"):
        publisher.live(publisher.topic(feed))  # type: ignore[arg-type]
    publisher.book(7)
    publisher.trade(1.0, 2.0)
    await room.turn()
    book = await room.join(Reader(), "crypto.orderbook", depth=1)
    [snapshot] = [json.loads(message.payload) for message in book.first]
    assert (snapshot["type"], snapshot["sequence"], snapshot["data"]["sequence"]) == ("snapshot", 2, 7)
    trades = await room.join(Reader())
    [snapshot] = [json.loads(message.payload) for message in trades.first]
    assert (snapshot["type"], snapshot["sequence"], snapshot["data"]["price"]) == ("snapshot", 3, 2.0)
    assert (trades.log.state, trades.log.sequence) == ("live", 3)


@in_room
async def test_losses_are_told_with_what_is_missing(room: Room) -> None:
    reader = Reader()
    await room.join(reader)
    publisher = room.publisher
    topic = publisher.topic("trades")
    publisher.live(topic)
    publisher.trade(1.0)
    publisher.time = NOW + 1_000
    publisher.lose(topic, "the connection is lost")
    publisher.time = NOW + 9_000
    publisher.live(topic)
    publisher.trade(2.0)
    await room.turn()
    told = [(one.get("event"), one["sequence"]) for one in reader.messages]
    assert told == [("live", 1), (None, 2), ("disconnected", 3), ("gap", 4), ("live", 5), (None, 6)]
    assert reader.messages[2]["reason"] == "the connection is lost"
    assert (reader.messages[3]["start"], reader.messages[3]["end"]) == (
        "2024-06-01T00:00:01.000Z",
        "2024-06-01T00:00:09.000Z",
    )


@in_room
async def test_a_stale_book_is_never_shown(room: Room) -> None:
    reader = Reader()
    await room.join(reader, "crypto.orderbook", depth=1)
    publisher = room.publisher
    topic = publisher.topic("order_book")
    publisher.live(topic)
    publisher.book(1)
    await room.turn()
    # Lost before what came last was written.
    publisher.book(2)
    publisher.lose(topic)
    await room.turn()
    assert [one.get("event", one.get("type")) for one in reader.take()] == [
        "live",
        "snapshot",
        "disconnected",
    ]
    late = await room.join(Reader(), "crypto.orderbook", depth=1)
    assert (late.first, late.log.state) == ([], "disconnected")
    publisher.live(topic)
    publisher.book(3)
    await room.turn()
    gap, live, snapshot = reader.take()
    assert (gap["event"], live["event"], snapshot["type"]) == ("gap", "live", "snapshot")


@in_room
async def test_trades_that_come_twice_are_told_once(room: Room) -> None:
    reader = Reader()
    await room.join(reader)
    publisher = room.publisher
    publisher.live(publisher.topic("trades"))
    publisher.trade(1.0, 2.0, first_id=1)
    await room.turn()
    publisher.trade(1.0, 2.0, 3.0, first_id=1)
    publisher.trade(3.0, first_id=3)
    await room.turn()
    assert [one["data"]["trade_id"] for one in reader.messages[1:]] == ["1", "2", "3"]


@pytest.mark.parametrize("consecutive", [True, False])
def test_trades_that_come_newest_first_are_put_in_order(consecutive: bool) -> None:
    @in_room
    async def test(room: Room) -> None:
        reader = Reader()
        channel = await room.channel()
        room.publisher.consecutive = consecutive
        room.hub.join(channel, reader)
        for number in (3, 2, 1):
            room.publisher.trade(float(number), first_id=number, ts=NOW + number)
        await room.turn()
        assert [one["data"]["trade_id"] for one in reader.messages] == ["1", "2", "3"]

    test()


@in_room
async def test_a_hole_in_consecutive_ids_is_a_gap(room: Room) -> None:
    room.publishers.opened.clear()
    channel = await room.channel()
    room.publisher.consecutive = True
    reader = Reader()
    room.hub.join(channel, reader)
    candles = Reader()
    room.hub.join(await room.channel("crypto.klines", interval="5m"), candles)
    publisher = room.publisher
    publisher.live(publisher.topic("trades"))
    publisher.trade(1.0, first_id=10)
    await room.turn()
    publisher.time = NOW + 1_000
    publisher.trade(2.0, 3.0, first_id=14)
    await room.turn()
    publisher.trade(4.0, first_id=16)
    await room.turn()
    told = [one.get("event") or one["data"]["trade_id"] for one in reader.messages]
    assert told == ["live", "10", "gap", "14", "15", "16"]
    assert reader.messages[2]["reason"] == "3 trades before 15 are missing"
    # The candle that lacks them says so.
    assert "is_partial" not in candles.messages[1]["data"]
    assert candles.messages[-1]["data"]["is_partial"] is True


@in_room
async def test_candles_that_are_not_streamed_are_made_of_trades(room: Room) -> None:
    tape, candles = Reader(), Reader()
    await room.join(tape)
    subscription = await room.join(candles, "crypto.klines", interval="5m")
    publisher = room.publisher
    # The tape's subscription serves both.
    assert [topic.feed for topic in publisher.started] == ["trades"]
    assert subscription.channel.key == "crypto.klines:binance:btcusdt:5m"
    publisher.live(publisher.topic("trades"))
    publisher.trade(10.0, 12.0, 9.0)
    await room.turn()
    publisher.trade(11.0, ts=NOW + 5 * MINUTE)
    await room.turn()
    _, first, closed, opened = candles.take()
    assert first["data"] == {
        "open": 10.0,
        "high": 12.0,
        "low": 9.0,
        "close": 9.0,
        "volume": 1.5,
        "timestamp": "2024-06-01T00:00:00.000Z",
        "is_closed": False,
    }
    assert closed["data"] == first["data"] | {"is_closed": True}
    assert opened["data"]["timestamp"] == "2024-06-01T00:05:00.000Z"


@in_room
async def test_candles_are_closed_by_the_clock_where_nothing_follows(room: Room) -> None:
    made, streamed = Reader(), Reader()
    await room.join(made, "crypto.klines", interval="5m")
    await room.join(streamed, "crypto.klines", interval="1m")
    publisher = room.publisher
    for feed in ("trades", "candles"):
        publisher.live(publisher.topic(feed))  # type: ignore[arg-type]
    publisher.trade(10.0)
    publisher.candle(NOW, 101.0, is_closed=None)
    await room.turn()
    publisher.time = NOW + 10 * MINUTE
    await asyncio.sleep(1.2)
    for reader in (made, streamed):
        assert [one["data"]["is_closed"] for one in reader.messages[1:]] == [False, True]


@in_room
async def test_the_first_candle_made_of_trades_is_partial(room: Room) -> None:
    candles = Reader()
    await room.join(candles, "crypto.klines", interval="5m")
    publisher = room.publisher
    publisher.time = NOW + MINUTE
    publisher.live(publisher.topic("trades"))
    publisher.trade(10.0)
    publisher.trade(11.0, ts=NOW + 5 * MINUTE)
    await room.turn()
    _, partial, whole = candles.messages
    assert (partial["data"]["is_partial"], partial["data"]["is_closed"]) == (True, False)
    assert "is_partial" not in whole["data"]


@in_room
async def test_a_channel_that_nobody_wants_lingers_and_is_given_up(room: Room) -> None:
    subscription = await room.join(Reader())
    publisher = room.publisher
    epoch = subscription.log.epoch
    room.hub.leave(subscription)
    again = await room.join(Reader())
    assert again.log.epoch == epoch
    await asyncio.sleep(0.1)
    assert publisher.stopped == []
    room.hub.leave(again)
    assert room.hub.subscriptions == 0
    await asyncio.sleep(0.1)
    assert [topic.feed for topic in publisher.stopped] == ["trades"]
    anew = await room.join(Reader())
    assert anew.log.epoch != epoch


@in_room
async def test_who_comes_back_gets_what_it_missed(room: Room) -> None:
    subscription = await room.join(Reader())
    publisher = room.publisher
    publisher.live(publisher.topic("trades"))
    publisher.trade(1.0, 2.0)
    await room.turn()
    room.hub.leave(subscription)
    publisher.trade(3.0)
    publisher.lose(publisher.topic("trades"))
    await room.turn()
    epoch = subscription.log.epoch
    back = room.hub.join(subscription.channel, Reader(), resume=(epoch, 2))
    told = [json.loads(message.payload) for message in back.first]
    assert [(one["sequence"], one.get("event")) for one in told] == [
        (3, None),
        (4, None),
        (5, "disconnected"),
    ]
    assert room.hub.join(subscription.channel, Reader(), resume=(epoch, 5)).first == []


@pytest.mark.parametrize(
    ("resume", "reason", "first"),
    [
        (("another", 2), "the channel began anew", None),
        ((None, 1), "what followed is not kept any more", 2),
        ((None, 10**9), "what followed is not kept any more", 10**9 + 1),
    ],
)
def test_what_cannot_be_replayed_is_a_gap_and_the_newest_state(
    resume: tuple[str | None, int], reason: str, first: int | None
) -> None:
    @in_room
    async def test(room: Room) -> None:
        subscription = await room.join(Reader())
        publisher = room.publisher
        publisher.live(publisher.topic("trades"))
        publisher.trade(*(float(n + 1) for n in range(MOST_KEPT + 5)))
        await room.turn()
        epoch = resume[0] or subscription.log.epoch
        back = room.hub.join(subscription.channel, Reader(), resume=(epoch, resume[1]))
        gap, snapshot = (json.loads(message.payload) for message in back.first)
        assert (gap["event"], gap["reason"], gap.get("first_sequence")) == ("gap", reason, first)
        assert gap["sequence"] == snapshot["sequence"] == MOST_KEPT + 6
        assert snapshot["type"] == "snapshot"

    test()


@in_room
async def test_one_bad_symbol_does_not_refuse_the_others(room: Room) -> None:
    wanted = Wanted("crypto.trades", "binance", ["btcusdt", "btcusdd", "", "BTC/USDT:USDT"])
    first, unknown, empty, perpetual = await room.hub.find(wanted)
    assert isinstance(first, Channel) and first.symbol == "btcusdt"
    assert isinstance(unknown, PairNotFound)
    assert "btcusdt" in unknown.suggestions[0]
    assert isinstance(empty, SymbolMappingError)
    assert isinstance(perpetual, Channel) and perpetual.symbol == "btcusdt-perp"


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ({"stream": "crypto.trade"}, InvalidArgument, "unknown stream 'crypto.trade'"),
        ({"stream": "crypto.orders"}, NotSupported, "not served yet"),
        ({"provider": "binanse"}, InvalidArgument, "unknown provider 'binanse'"),
        ({"stream": "crypto.klines", "interval": "2m"}, InvalidArgument, "unknown interval '2m'"),
        ({"stream": "crypto.orderbook", "depth": 51}, InvalidArgument, "depth 51 is not between 1 and 50"),
        ({"stream": "crypto.orderbook", "depth": 0}, InvalidArgument, "depth 0"),
        ({"stream": "crypto.orderbook", "symbol": "btcusdt-perp"}, NotSupported, "does not stream"),
        (
            {"stream": "crypto.funding", "symbol": "cryptopair_binance_btcusdt"},
            NotSupported,
            "does not stream",
        ),
        ({"symbol": "cryptoasset_binance_btc"}, NotSupported, "cryptoasset"),
    ],
)
def test_what_cannot_be_had_is_told(given: dict[str, Any], kind: type[ZvtCryptoError], text: str) -> None:
    @in_room
    async def test(room: Room) -> None:
        values = {"stream": "crypto.trades", "provider": "binance", "symbol": "btcusdt"} | given
        symbol = values.pop("symbol")
        with pytest.raises(kind, match=text):
            [found] = await room.hub.find(Wanted(symbols=[symbol], **values))
            assert isinstance(found, ZvtCryptoError)
            raise found

    test()


@in_room
async def test_a_provider_that_could_not_be_opened_is_tried_again(room: Room) -> None:
    room.publishers.failures.append(ProviderUnavailable("down"))
    with pytest.raises(ProviderUnavailable):
        await room.channel()
    assert (await room.channel()).symbol == "btcusdt"


@in_room
async def test_a_channel_that_the_venue_refuses_ends_for_all(room: Room) -> None:
    readers = [Reader(), Reader()]
    for reader in readers:
        await room.join(reader)
    publisher = room.publisher
    publisher.sink.refused(publisher.topic("trades"), NotSupported("the venue does not stream it"))
    assert [len(reader.errors) for reader in readers] == [1, 1]
    assert room.hub.subscriptions == 0
    publisher.refusing["trades"] = NotSupported("no trades")
    channel = await room.channel()
    with pytest.raises(NotSupported):
        room.hub.join(channel, Reader())
    assert room.hub.subscriptions == 0


def test_channels_are_bounded_and_idle_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "MOST_CHANNELS", 2)

    @in_room
    async def test(room: Room) -> None:
        first = await room.join(Reader(), "crypto.trades", "btcusdt")
        await room.join(Reader(), "crypto.trades", "ethusdt")
        with pytest.raises(hubs.TooManySubscriptions):
            await room.join(Reader(), "crypto.trades", "solusdt")
        room.hub.leave(first)
        await room.join(Reader(), "crypto.trades", "solusdt")
        assert [topic.instrument.symbol for topic in room.publisher.stopped] == ["BTC/USDT"]

    test()


@in_room
async def test_rows_that_cannot_be_read_are_a_gap_and_others_go_on(room: Room) -> None:
    broken, sound = Reader(), Reader()
    await room.join(broken)
    await room.join(sound, "crypto.trades", "ethusdt")
    publisher = room.publisher
    for instrument in (BTC, ETH):
        publisher.live(publisher.topic("trades", instrument))
    await room.turn()
    publisher.trade("no price", instrument=BTC)  # type: ignore[arg-type]
    publisher.trade(1.0, instrument=ETH)
    await room.turn()
    publisher.trade(2.0, instrument=BTC)
    await room.turn()
    assert [one.get("event") for one in broken.messages] == ["live", "gap", None]
    assert [one.get("event") for one in sound.messages] == ["live", None]
