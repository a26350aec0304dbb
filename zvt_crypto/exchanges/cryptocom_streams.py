"""Crypto.com Exchange's streams: spot and perpetuals.

https://exchange-docs.crypto.com/exchange/v1/rest-ws/index.html#websocket-subscriptions
"""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import HOUR_MS
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.cryptocom_rows import CANDLE, TIMEFRAMES, TRADE, candle_table, trade_table
from zvt_crypto.exchanges.streaming import (
    BookUpdate,
    Candles,
    Confirmed,
    Funding,
    Limits,
    Message,
    Reader,
    Refused,
    Streams,
    Topic,
    Trades,
)

logger = logging.getLogger(__name__)

_URL: Final = "wss://stream.crypto.com/exchange/v1/market"
#: Changes every 100 ms, the slower of the two frequencies.
_BOOK_PARAMS: Final = {"book_subscription_type": "SNAPSHOT_AND_UPDATE", "book_update_frequency": 100}
#: Errors that say nothing of what was asked for: too many subscriptions or frames, a timeout, one of its own.
_PASSING: Final = frozenset({40107, 40801, 42901, 50001})
#: The id of what is not the answer to a frame.
_UNASKED: Final = -1
#: Digits of a time in ms, and in ns.
_MS_DIGITS: Final = 13
_NS_DIGITS: Final = 19
_NOTHING: Final[Sequence[Message]] = ()


class _Trade(msgspec.Struct, gc=False):
    d: str
    t: int
    p: float
    q: float
    s: str
    #: Documented to be answered over REST only.
    tn: int | None = None


class _Candle(msgspec.Struct, gc=False):
    t: int
    o: float
    h: float
    l: float  # noqa: E741
    c: float
    v: float


class _Level(msgspec.Struct, array_like=True, gc=False):
    price: float
    amount: float


class _Sides(msgspec.Struct, gc=False):
    bids: list[_Level]
    asks: list[_Level]


class _Book(_Sides, gc=False):
    t: int
    u: int


class _BookChange(msgspec.Struct, gc=False):
    update: _Sides
    t: int
    u: int
    pu: int


class _Value(msgspec.Struct, gc=False):
    v: float
    t: int


class _Channel(msgspec.Struct, tag_field="channel", gc=False):
    subscription: str


class _TradeChannel(_Channel, tag="trade", gc=False):
    data: list[_Trade]

    def messages(self, topic: Topic) -> Sequence[Message]:
        rows = self.data
        if not rows:
            return (Confirmed((topic,)),)
        if (rows[0].t, rows[0].d) > (rows[-1].t, rows[-1].d):
            rows.reverse()
        return (Trades(topic, rows),)


class _CandleChannel(_Channel, tag="candlestick", gc=False):
    data: list[_Candle]

    def messages(self, topic: Topic) -> Sequence[Message]:
        return (Candles(topic, self.data),) if self.data else (Confirmed((topic,)),)


class _BookChannel(_Channel, tag="book", gc=False):
    data: list[_Book]

    def messages(self, topic: Topic) -> Sequence[Message]:
        return [
            BookUpdate(topic, True, _levels(book.bids), _levels(book.asks), book.u, ts=book.t)
            for book in self.data
        ]


class _BookChangeChannel(_Channel, tag="book.update", gc=False):
    """A book that does not change is told of every five seconds: no levels, and ``u`` as before."""

    data: list[_BookChange]

    def messages(self, topic: Topic) -> Sequence[Message]:
        return [
            BookUpdate(
                topic,
                False,
                _levels(change.update.bids),
                _levels(change.update.asks),
                change.u,
                previous=change.pu,
                ts=change.t,
            )
            for change in self.data
        ]


class _MarkChannel(_Channel, tag="mark", gc=False):
    data: list[_Value]

    def messages(self, topic: Topic) -> Sequence[Message]:
        return [Funding(topic, row.t, mark_price=row.v) for row in self.data]


class _FundingChannel(_Channel, tag="funding", gc=False):
    """The hourly rate that is paid at the end of the current hour."""

    data: list[_Value]

    def messages(self, topic: Topic) -> Sequence[Message]:
        return [
            Funding(topic, row.t, rate=row.v, next_ts=(row.t // HOUR_MS + 1) * HOUR_MS) for row in self.data
        ]


class _Frame(msgspec.Struct, gc=False):
    """Data, the answer to a frame of ours, an error, or a heartbeat."""

    method: str
    id: int = _UNASKED
    code: int = 0
    message: str = ""
    channel: str | None = None
    result: (
        _TradeChannel
        | _CandleChannel
        | _BookChannel
        | _BookChangeChannel
        | _MarkChannel
        | _FundingChannel
        | None
    ) = None


_decode: Final = msgspec.json.Decoder(_Frame, strict=False).decode


class CryptocomStreams(Streams):
    """One connection for all markets. Levels that leave a book's depth are told as removed.

    A trade's first message holds the last fifty. Candles are not marked when they are final.
    """

    feeds = {
        "cryptopair": frozenset({"trades", "candles", "order_book"}),
        "cryptoperp": frozenset({"trades", "candles", "order_book", "funding"}),
    }
    levels = tuple(TIMEFRAMES)
    book_depths = {"cryptopair": (10, 50), "cryptoperp": (10, 50)}
    # A connection takes 400 channels, of which funding needs two, and 100 frames a second; in the second in
    # which it was opened, only what is left of it.
    limits = Limits(topics=200, topics_per_frame=50, frames_per_second=4.0, connections_per_minute=60)

    def endpoint(self, topic: Topic) -> str:
        """See ``Streams``."""
        return _URL

    def subscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        """A frame for order books, which take parameters, and one for the rest."""
        books = [topic for topic in topics if topic.feed == "order_book"]
        others = [topic for topic in topics if topic.feed != "order_book"]
        frames = []
        if others:
            frames.append(_request("subscribe", others, number))
        if books:
            frames.append(_request("subscribe", books, number, _BOOK_PARAMS))
        return frames

    def unsubscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        """See ``Streams``."""
        return [_request("unsubscribe", topics, number)]

    def reader(self) -> Reader:
        """See ``Streams``."""
        return CryptocomReader()

    def trades(self, instrument: Instrument, rows: Sequence[_Trade]) -> pa.Table:
        """See ``Streams``."""
        table = _columns(rows, TRADE)
        ts = pa.array([row.t for row in rows], pa.int64())
        told = pa.array([None if row.tn is None else row.tn % 1_000_000 for row in rows], pa.int64())
        return trade_table(instrument, ts, pc.coalesce(told, _nanoseconds(ts, table["d"])), table)

    def candles(self, instrument: Instrument, level: str, rows: Sequence[_Candle]) -> pa.Table:
        """See ``Streams``."""
        table = candle_table(instrument, _columns(rows, CANDLE))
        return table.append_column("is_closed", pa.nulls(len(rows), pa.bool_()))


class CryptocomReader(Reader):
    """Reads frames; has nothing to remember."""

    def key(self, topic: Topic) -> Hashable:
        """The name of its channel, for funding that of the rate."""
        return _channels(topic)[0]

    def read(self, frame: str) -> Sequence[Message] | None:
        """See ``Reader``; heartbeats are ccxt's to answer."""
        said = _decode(frame)
        if said.method == "public/heartbeat":
            return None
        if said.method != "subscribe":
            return _NOTHING
        if said.code:
            return self._refused(said)
        if said.result is not None:
            topic = self._topic(said.result.subscription)
            return _NOTHING if topic is None else said.result.messages(topic)
        if said.id == _UNASKED:
            raise msgspec.ValidationError("Neither data of a channel nor an answer")
        topic = self._topic(said.channel)
        return _NOTHING if topic is None else (Confirmed((topic,)),)

    def _refused(self, said: _Frame) -> Sequence[Message]:
        reason = f"{said.message} ({said.code})"
        if said.code in _PASSING:
            logger.warning("crypto.com does not subscribe %s now: %s", said.channel or "something", reason)
            return _NOTHING
        if said.channel is None:
            return (Refused(None, reason),)
        topic = self._topic(said.channel)
        return _NOTHING if topic is None else (Refused(topic, reason),)

    def _topic(self, channel: str | None) -> Topic | None:
        if channel is not None and channel.startswith("mark."):
            channel = f"funding.{channel.removeprefix('mark.')}"
        return self.topics.get(channel)


def _request(
    method: str, topics: Sequence[Topic], number: int, params: dict[str, Any] | None = None
) -> dict[str, Any]:
    channels = [channel for topic in topics for channel in _channels(topic)]
    return {
        "id": number,
        "method": method,
        "params": {"channels": channels, **(params or {})},
        "nonce": time.time_ns() // 1_000_000,
    }


def _channels(topic: Topic) -> tuple[str, ...]:
    name = topic.instrument.native_id
    if topic.feed == "trades":
        return (f"trade.{name}",)
    if topic.feed == "candles":
        return (f"candlestick.{TIMEFRAMES[topic.level or '']}.{name}",)
    if topic.feed == "order_book":
        return (f"book.{name}.{topic.depth}",)
    # The estimated rate is that of the next interval, not of the next payment.
    return f"funding.{name}", f"mark.{name}"


def _levels(side: Sequence[_Level]) -> list[tuple[float, float]]:
    return [(level.price, level.amount) for level in side]


def _columns(rows: Sequence[Any], fields: dict[str, pa.DataType]) -> pa.Table:
    return pa.table(
        {name: pa.array([getattr(row, name) for row in rows], kind) for name, kind in fields.items()}
    )


def _nanoseconds(ts: pa.Array, ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """The nanoseconds after trades' times: their ids are those times in ns; NULL where one is not."""
    is_time = pc.and_(
        pc.equal(pc.utf8_slice_codeunits(ids, 0, _MS_DIGITS), pc.cast(ts, pa.string())),
        pc.and_(pc.equal(pc.utf8_length(ids), _NS_DIGITS), pc.ascii_is_decimal(ids)),
    )
    return pc.cast(
        pc.if_else(is_time, pc.utf8_slice_codeunits(ids, _MS_DIGITS), pa.scalar(None, pa.string())),
        pa.int64(),
    )
