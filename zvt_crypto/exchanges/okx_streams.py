"""OKX's streams: spot and perpetual swaps.

https://www.okx.com/docs-v5/en/#order-book-trading-market-data and ``#public-data-websocket``
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, Literal

import msgspec
import numpy as np
import pyarrow as pa

from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.objects import base_volume
from zvt_crypto.exchanges.schemas import TRADES
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

_PUBLIC_URL: Final = "wss://ws.okx.com:8443/ws/v5/public"
_BUSINESS_URL: Final = "wss://ws.okx.com:8443/ws/v5/business"
#: A day's candle without ``utc`` opens at 16:00 UTC, which is midnight in Hong Kong.
_CANDLE_CHANNELS: Final = {
    "1m": "candle1m",
    "5m": "candle5m",
    "15m": "candle15m",
    "30m": "candle30m",
    "1h": "candle1H",
    "4h": "candle4H",
    "1d": "candle1Dutc",
}
#: Channels of the other feeds. ``trades`` joins what one taker's order filled at one price, with the id of
#: the last; it is read, too.
_CHANNELS: Final = {
    "trades": ("trades-all",),
    "order_book": ("books",),
    "funding": ("funding-rate", "mark-price"),
}
_FEED_OF: Final = {"trades": "trades"} | {name: feed for feed, names in _CHANNELS.items() for name in names}
#: What OKX says of a channel or a market that it does not have (error 60018).
_UNKNOWN: Final = re.compile(r"channel:([^,\s]+),instId:(\S+)")
_CHECKSUM_LEVELS: Final = 25
_NOTHING: Final[Sequence[Message]] = ()


class _Channel(msgspec.Struct, rename={"name": "channel", "market": "instId"}, gc=False):
    name: str
    market: str


class _Frame(msgspec.Struct, rename={"channel": "arg"}, gc=False):
    """Either data of a channel or, with ``event``, an answer."""

    channel: _Channel | None = None
    data: msgspec.Raw = msgspec.Raw()
    action: Literal["snapshot", "update"] | None = None
    event: str | None = None
    code: str = ""
    msg: str = ""


class _Trade(msgspec.Struct, rename={"id": "tradeId", "price": "px", "size": "sz"}, gc=False):
    id: int
    price: float
    size: float
    side: str
    ts: int


class _Candle(msgspec.Struct, array_like=True, gc=False):
    ts: int
    open: float
    high: float
    low: float
    close: float
    #: In base currency; contracts of swaps.
    size: float
    #: In quote currency; the base currency of swaps.
    currency: float
    turnover: float
    is_closed: bool


class _Level(msgspec.Struct, array_like=True, gc=False):
    price: float
    amount: float


class _Book(msgspec.Struct, rename={"last": "seqId", "previous": "prevSeqId"}, gc=False):
    asks: list[_Level]
    bids: list[_Level]
    ts: int
    last: int
    previous: int


class _LevelText(msgspec.Struct, array_like=True, gc=False):
    price: str
    amount: str


class _SummedBook(msgspec.Struct, gc=False):
    """What OKX sent before it numbered the states: with a checksum, which by now is always 0."""

    asks: list[_LevelText]
    bids: list[_LevelText]
    ts: int
    checksum: int


class _FundingRate(msgspec.Struct, rename={"rate": "fundingRate", "next_ts": "fundingTime"}, gc=False):
    rate: float
    next_ts: int
    ts: int


class _MarkPrice(msgspec.Struct, rename={"price": "markPx"}, gc=False):
    price: float
    ts: int


_FRAME: Final = msgspec.json.Decoder(_Frame)
_TRADES: Final = msgspec.json.Decoder(list[_Trade], strict=False)
_CANDLES: Final = msgspec.json.Decoder(list[_Candle], strict=False)
_BOOKS: Final = msgspec.json.Decoder(list[_Book], strict=False)
_SUMMED_BOOKS: Final = msgspec.json.Decoder(list[_SummedBook], strict=False)
_FUNDING_RATES: Final = msgspec.json.Decoder(list[_FundingRate], strict=False)
_MARK_PRICES: Final = msgspec.json.Decoder(list[_MarkPrice], strict=False)


class OkxStreams(Streams):
    """Single trades, as over REST; books of 400 levels, numbered. Sizes of swaps are contracts."""

    feeds = {
        "cryptopair": frozenset({"trades", "candles", "order_book"}),
        "cryptoperp": frozenset({"trades", "candles", "order_book", "funding"}),
    }
    # Not documented, but so in all recordings; elsewhere a hole would cost a request that finds nothing.
    consecutive_ids = frozenset({"cryptopair", "cryptoperp"})
    levels = tuple(_CANDLE_CHANNELS)
    book_depths = {"cryptopair": (400,), "cryptoperp": (400,)}
    # A connection takes 480 subscriptions and their ends an hour, of 64 KB at most; an address may connect
    # three times a second.
    limits = Limits(topics=240, topics_per_frame=100, frames_per_second=2.0, connections_per_minute=60)

    def endpoint(self, topic: Topic) -> str:
        """See ``Streams``."""
        return _BUSINESS_URL if topic.feed in ("trades", "candles") else _PUBLIC_URL

    def subscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        """See ``Streams``."""
        return [{"op": "subscribe", "args": _arguments(topics)}]

    def unsubscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        """See ``Streams``."""
        return [{"op": "unsubscribe", "args": _arguments(topics)}]

    def reader(self) -> Reader:
        """See ``Streams``."""
        return _Reader()

    def trades(self, instrument: Instrument, rows: Sequence[_Trade]) -> pa.Table:
        """See ``Streams``."""
        price = np.array([row.price for row in rows], np.float64)
        size = np.array([row.size for row in rows], np.float64)
        columns = {
            "ts": pa.array([row.ts for row in rows], pa.int64()),
            "trade_id": pa.array([row.id for row in rows], pa.int64()).cast(pa.string()),
            "price": price,
            "volume": base_volume(instrument, size, price),
            "side": pa.array([row.side for row in rows], pa.string()),
            "nanosecond": pa.nulls(len(rows), pa.int64()),
        }
        return pa.table(columns, TRADES)

    def candles(self, instrument: Instrument, level: str, rows: Sequence[_Candle]) -> pa.Table:
        """See ``Streams``."""
        volume = "size" if instrument.entity_type == "cryptopair" else "currency"
        fields = {name: name for name in ("open", "high", "low", "close")}
        fields |= {"volume": volume, "turnover": "turnover"}
        columns = {
            name: pa.array([getattr(row, field) for row in rows], pa.float64())
            for name, field in fields.items()
        }
        return pa.table(
            {
                "ts": pa.array([row.ts for row in rows], pa.int64()),
                **columns,
                "trade_count": pa.nulls(len(rows), pa.int64()),
                "is_closed": pa.array([row.is_closed for row in rows], pa.bool_()),
            }
        )

    def checksum(self, bids: Sequence[Any], asks: Sequence[Any]) -> int:
        """CRC-32, with its sign, of price and amount of the best 25 bids and asks in turn."""
        bids, asks = bids[:_CHECKSUM_LEVELS], asks[:_CHECKSUM_LEVELS]
        in_turn = [f"{bid[2]}:{bid[3]}:{ask[2]}:{ask[3]}" for bid, ask in zip(bids, asks, strict=False)]
        longer = [*bids[len(in_turn) :], *asks[len(in_turn) :]]
        text = ":".join([*in_turn, *(f"{level[2]}:{level[3]}" for level in longer)])
        crc = zlib.crc32(text.encode())
        return crc - (1 << 32) if crc >> 31 else crc


class _Reader(Reader):
    def key(self, topic: Topic) -> Hashable:
        """The feed, for candles their channel, and the market."""
        if topic.feed == "candles":
            return _CANDLE_CHANNELS[topic.level or ""], topic.instrument.native_id
        return topic.feed, topic.instrument.native_id

    def read(self, frame: str) -> Sequence[Message] | None:
        """See ``Reader``; the answers to pings are ccxt's."""
        if frame == "pong":
            return None
        said = _FRAME.decode(frame)
        if said.event is not None:
            return self._answered(said)
        if said.channel is None:
            raise msgspec.ValidationError("Neither data of a channel nor an answer")
        topic = self._topic(said.channel)
        return _NOTHING if topic is None else _MESSAGES[said.channel.name](topic, said)

    def _topic(self, channel: _Channel) -> Topic | None:
        return self.topics.get((_FEED_OF.get(channel.name, channel.name), channel.market))

    def _answered(self, said: _Frame) -> Sequence[Message]:
        if said.event == "subscribe" and said.channel is not None:
            topic = self._topic(said.channel)
            return _NOTHING if topic is None else (Confirmed((topic,)),)
        if said.event != "error":
            # The end of a subscription, or that the connection will be closed for an upgrade.
            return _NOTHING
        reason = f"{said.msg} ({said.code})"
        unknown = _UNKNOWN.search(said.msg)
        if unknown is None:
            return (Refused(None, reason),)
        topic = self._topic(_Channel(*unknown.groups()))
        return _NOTHING if topic is None else (Refused(topic, reason),)


def _trades(topic: Topic, said: _Frame) -> Sequence[Message]:
    return (Trades(topic, _TRADES.decode(said.data)),)


def _candles(topic: Topic, said: _Frame) -> Sequence[Message]:
    return (Candles(topic, _CANDLES.decode(said.data)),)


def _books(topic: Topic, said: _Frame) -> Sequence[Message]:
    if said.action is None:
        raise msgspec.ValidationError("An order book lacks `action`")
    is_snapshot = said.action == "snapshot"
    data = bytes(said.data)
    if b'"seqId"' not in data and b'"prevSeqId"' not in data:
        return [
            BookUpdate(
                topic, is_snapshot, _texts(book.bids), _texts(book.asks), ts=book.ts, checksum=book.checksum
            )
            for book in _SUMMED_BOOKS.decode(said.data)
        ]
    return [
        BookUpdate(
            topic,
            is_snapshot,
            _levels(book.bids),
            _levels(book.asks),
            book.last,
            previous=None if is_snapshot else book.previous,
            ts=book.ts,
        )
        for book in _BOOKS.decode(said.data)
    ]


def _levels(side: Sequence[_Level]) -> list[tuple[float, float]]:
    return [(level.price, level.amount) for level in side]


def _texts(side: Sequence[_LevelText]) -> list[tuple[float, float, str, str]]:
    return [(float(level.price), float(level.amount), level.price, level.amount) for level in side]


def _funding_rates(topic: Topic, said: _Frame) -> Sequence[Message]:
    rows = _FUNDING_RATES.decode(said.data)
    return [Funding(topic, row.ts, rate=row.rate, next_ts=row.next_ts) for row in rows]


def _mark_prices(topic: Topic, said: _Frame) -> Sequence[Message]:
    return [Funding(topic, row.ts, mark_price=row.price) for row in _MARK_PRICES.decode(said.data)]


_MESSAGES: Final[dict[str, Callable[[Topic, _Frame], Sequence[Message]]]] = {
    **dict.fromkeys(_CANDLE_CHANNELS.values(), _candles),
    "trades": _trades,
    "trades-all": _trades,
    "books": _books,
    "funding-rate": _funding_rates,
    "mark-price": _mark_prices,
}


def _arguments(topics: Sequence[Topic]) -> list[dict[str, str]]:
    return [
        {"channel": channel, "instId": topic.instrument.native_id}
        for topic in topics
        for channel in _channels(topic)
    ]


def _channels(topic: Topic) -> tuple[str, ...]:
    return (_CANDLE_CHANNELS[topic.level or ""],) if topic.feed == "candles" else _CHANNELS[topic.feed]
