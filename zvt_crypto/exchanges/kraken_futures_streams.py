"""The streams of Kraken Futures: trades, order books, and the funding rates of perpetuals; no candles.

A book is whole, whatever depth is asked for, and its messages are numbered without holes.

https://docs.kraken.com/api/docs/futures-api/websocket/trade, .../book and .../ticker
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.objects import base_volume
from zvt_crypto.exchanges.schemas import TRADES
from zvt_crypto.exchanges.streaming import (
    BookUpdate,
    Confirmed,
    Funding,
    Message,
    Reader,
    Refused,
    StreamFeed,
    Topic,
    Trades,
)

URL: Final = "wss://futures.kraken.com/ws/v1"

_NAMES: Final[dict[StreamFeed, str]] = {"trades": "trade", "order_book": "book", "funding": "ticker"}
#: Answers that turn nothing down: the subscription is there already, or may be asked for again.
_PASSING: Final = re.compile("already subscribed|not subscribed|limit|internal", re.IGNORECASE)

_Side: TypeAlias = Literal["buy", "sell"]


class _Trade(msgspec.Struct, tag_field="feed", tag="trade", gc=False):
    product_id: str
    uid: str
    side: _Side
    seq: int
    time: int
    qty: float
    price: float


class _TradeSnapshot(msgspec.Struct, tag_field="feed", tag="trade_snapshot", gc=False):
    product_id: str
    trades: list[_Trade]


class _Level(msgspec.Struct, gc=False):
    price: float
    qty: float


class _BookSnapshot(msgspec.Struct, tag_field="feed", tag="book_snapshot", gc=False):
    product_id: str
    timestamp: int
    seq: int
    bids: list[_Level]
    asks: list[_Level]


class _BookChange(msgspec.Struct, tag_field="feed", tag="book", gc=False):
    product_id: str
    timestamp: int
    seq: int
    side: _Side
    price: float
    qty: float


class _Ticker(msgspec.Struct, tag_field="feed", tag="ticker", gc=False):
    """The rates that are not relative are dollars for a contract."""

    product_id: str
    time: int
    mark_price: float = msgspec.field(name="markPrice")
    relative_funding_rate_prediction: float | None
    next_funding_rate_time: int | None


class _Event(msgspec.Struct, gc=False):
    event: str
    feed: str | None = None
    product_ids: tuple[str, ...] = ()
    message: str = ""


_Data: TypeAlias = _Trade | _BookChange | _Ticker | _BookSnapshot | _TradeSnapshot
_FEEDS: Final[dict[type[_Data], str]] = {
    _Trade: "trade",
    _TradeSnapshot: "trade",
    _BookChange: "book",
    _BookSnapshot: "book",
    _Ticker: "ticker",
}

_DATA: Final[msgspec.json.Decoder[_Data]] = msgspec.json.Decoder(_Data)
_EVENT: Final = msgspec.json.Decoder(_Event)


def frames(event: str, topics: Sequence[Topic]) -> list[Any]:
    """Frames to ``subscribe`` or ``unsubscribe``, one for each feed."""
    products: dict[str, list[str]] = {}
    for topic in topics:
        products.setdefault(_NAMES[topic.feed], []).append(topic.instrument.native_id)
    return [{"event": event, "feed": feed, "product_ids": ids} for feed, ids in products.items()]


class FuturesReader(Reader):
    """Reads one connection."""

    def key(self, topic: Topic) -> Hashable:
        """See ``Reader``."""
        return _NAMES[topic.feed], topic.instrument.native_id

    def read(self, frame: str) -> Sequence[Message] | None:
        """See ``Reader``."""
        if '"event"' in frame:
            return self._read_event(_EVENT.decode(frame))
        data = _DATA.decode(frame)
        topic = self.topics.get((_FEEDS[type(data)], data.product_id))
        return () if topic is None else _messages(topic, data)

    def _read_event(self, event: _Event) -> Sequence[Message] | None:
        if event.event == "pong":
            return None
        if event.event in ("subscribed", "subscribed_failed"):
            found = (self.topics.get((event.feed, product)) for product in event.product_ids)
            topics = [topic for topic in found if topic is not None]
            if event.event == "subscribed":
                return (Confirmed(topics),) if topics else ()
            return [Refused(topic, event.message or "the subscription failed") for topic in topics]
        if event.event in ("alert", "error") and not _PASSING.search(event.message):
            return self._refusals(event.message)
        return ()

    def _refusals(self, reason: str) -> Sequence[Message]:
        """Whom a text without product concerns is known only if it names one."""
        words = set(re.findall(r"\w+", reason))
        named = [topic for topic in self.topics.values() if topic.instrument.native_id in words]
        return [Refused(topic, reason) for topic in named or (None,)]


def trades(instrument: Instrument, rows: Sequence[_Trade]) -> pa.Table:
    """Streamed trades in ``schemas.TRADES``, as ``kraken_futures.execution_rows`` gives them."""
    ts, uid, side = [row.time for row in rows], [row.uid for row in rows], [row.side for row in rows]
    price = np.array([row.price for row in rows], np.float64)
    volume = base_volume(instrument, np.array([row.qty for row in rows], np.float64), price)
    nanosecond = pa.nulls(len(rows), pa.int64())
    return pa.table([ts, uid, price, volume, side, nanosecond], schema=TRADES)


def _messages(topic: Topic, data: _Data) -> Sequence[Message]:
    if isinstance(data, _Trade):
        return (Trades(topic, (data,)),)
    if isinstance(data, _BookChange):
        return (_change(topic, data),)
    if isinstance(data, _Ticker):
        rate, due = data.relative_funding_rate_prediction, data.next_funding_rate_time
        return (Funding(topic, data.time, data.mark_price, rate, due),)
    if isinstance(data, _BookSnapshot):
        bids, asks = _levels(data.bids), _levels(data.asks)
        return (BookUpdate(topic, True, bids, asks, last=data.seq, ts=data.timestamp),)
    # They come with the newest first.
    return (Trades(topic, sorted(data.trades, key=lambda trade: trade.seq)),) if data.trades else ()


def _change(topic: Topic, change: _BookChange) -> BookUpdate:
    level, seq = [(change.price, change.qty)], change.seq
    bids, asks = (level, []) if change.side == "buy" else ([], level)
    return BookUpdate(topic, False, bids, asks, last=seq, previous=seq - 1, ts=change.timestamp)


def _levels(levels: list[_Level]) -> list[tuple[float, float]]:
    """Prices and contracts; Kraken's snapshots may have levels that are empty."""
    return [(level.price, level.qty) for level in levels if level.qty]
