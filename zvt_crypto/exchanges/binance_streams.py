"""Binance's streams: spot and USD-M perpetuals.

https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams and
https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams

What is subscribed at ``/ws`` comes as it is; at ``/stream`` the same is wrapped with the stream's name. Both
are read.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import LEVEL_MS
from zvt_crypto.exchanges.base import Instrument
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

_SPOT_URL: Final = "wss://stream.binance.com:9443/ws"
#: Order books of futures have servers of their own.
_FUTURES_BOOKS_URL: Final = "wss://fstream.binance.com/public/ws"
_FUTURES_URL: Final = "wss://fstream.binance.com/market/ws"
_CHANNELS: Final = {"trades": "aggTrade", "order_book": "depth@100ms", "funding": "markPrice@1s"}
_NOTHING: Final[Sequence[Message]] = ()


class _Trade(
    msgspec.Struct,
    tag_field="e",
    tag="aggTrade",
    rename={"symbol": "s", "id": "a", "price": "p", "amount": "q", "ts": "T", "buyer_is_maker": "m"},
    gc=False,
):
    symbol: str
    id: int
    price: float
    amount: float
    ts: int
    buyer_is_maker: bool

    def stream(self) -> str:
        return f"{self.symbol.lower()}@aggTrade"

    def messages(self, topic: Topic) -> Sequence[Message]:
        return (Trades(topic, (self,)),)


class _Candle(
    msgspec.Struct,
    rename={
        "ts": "t",
        "level": "i",
        "open": "o",
        "high": "h",
        "low": "l",
        "close": "c",
        "volume": "v",
        "turnover": "q",
        "trade_count": "n",
        "is_closed": "x",
    },
    gc=False,
):
    ts: int
    level: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    turnover: float
    trade_count: int
    is_closed: bool


class _Kline(msgspec.Struct, tag_field="e", tag="kline", rename={"symbol": "s", "candle": "k"}, gc=False):
    symbol: str
    candle: _Candle

    def stream(self) -> str:
        return f"{self.symbol.lower()}@kline_{self.candle.level}"

    def messages(self, topic: Topic) -> Sequence[Message]:
        return (Candles(topic, (self.candle,)),)


class _Depth(
    msgspec.Struct,
    tag_field="e",
    tag="depthUpdate",
    rename={
        "symbol": "s",
        "first": "U",
        "last": "u",
        "bids": "b",
        "asks": "a",
        "sent": "E",
        "changed": "T",
        "previous": "pu",
    },
    gc=False,
):
    symbol: str
    first: int
    last: int
    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]
    sent: int
    #: These two only futures have.
    changed: int | None = None
    previous: int | None = None

    def stream(self) -> str:
        return f"{self.symbol.lower()}@depth@100ms"

    def messages(self, topic: Topic) -> Sequence[Message]:
        ts = self.sent
        if topic.instrument.entity_type == "cryptoperp":
            if self.changed is None or self.previous is None:
                raise msgspec.ValidationError("A depth update of futures lacks `T` or `pu`")
            ts = self.changed
        return (BookUpdate(topic, False, self.bids, self.asks, self.last, self.first, self.previous, ts=ts),)


class _MarkPrice(
    msgspec.Struct,
    tag_field="e",
    tag="markPriceUpdate",
    rename={"symbol": "s", "ts": "E", "mark_price": "p", "rate": "r", "next_ts": "T"},
    gc=False,
):
    symbol: str
    ts: int
    mark_price: float
    rate: float
    next_ts: int

    def stream(self) -> str:
        return f"{self.symbol.lower()}@markPrice@1s"

    def messages(self, topic: Topic) -> Sequence[Message]:
        return (Funding(topic, self.ts, self.mark_price, self.rate, self.next_ts),)


class _Shutdown(msgspec.Struct, tag_field="e", tag="serverShutdown"):
    """Some minutes before the server ends connections; that they have ended is noticed anyway."""

    def stream(self) -> str:
        return ""

    def messages(self, topic: Topic) -> Sequence[Message]:
        return _NOTHING


class _Wrapped(msgspec.Struct, gc=False):
    stream: str
    data: msgspec.Raw


class _Error(msgspec.Struct):
    code: int
    msg: str = ""


class _Answer(msgspec.Struct):
    """What a frame of ours is answered: ``null``, a list of streams, or an error in one of two forms."""

    result: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    error: _Error | None = None
    code: int | None = None
    msg: str = ""


_EVENT: Final = msgspec.json.Decoder(_Trade | _Kline | _Depth | _MarkPrice | _Shutdown, strict=False)
_WRAPPED: Final = msgspec.json.Decoder(_Wrapped)
_ANSWER: Final = msgspec.json.Decoder(_Answer)


class BinanceStreams(Streams):
    """Trades are aggregates, as over REST, with the same ids. Books begin with an answer over REST.

    Binance accepts streams of markets that it does not have and then sends nothing.
    """

    feeds = {
        "cryptopair": frozenset({"trades", "candles", "order_book"}),
        "cryptoperp": frozenset({"trades", "candles", "order_book", "funding"}),
    }
    levels = tuple(LEVEL_MS)
    book_depths = {"cryptopair": (5000,), "cryptoperp": (1000,)}
    book_by_rest = frozenset({"cryptopair", "cryptoperp"})
    consecutive_ids = frozenset({"cryptopair", "cryptoperp"})
    # Spot takes five frames a second, pongs included; futures take ten. 300 connections in five minutes.
    limits = Limits(topics=1024, topics_per_frame=200, frames_per_second=4.0, connections_per_minute=60)

    def endpoint(self, topic: Topic) -> str:
        """See ``Streams``."""
        if topic.instrument.entity_type == "cryptopair":
            return _SPOT_URL
        return _FUTURES_BOOKS_URL if topic.feed == "order_book" else _FUTURES_URL

    def subscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        """The answer to a subscription names nothing but its id, so what is subscribed is asked for, too."""
        streams = [_stream(topic) for topic in topics]
        return [
            {"method": "SUBSCRIBE", "params": streams, "id": 2 * number},
            {"method": "LIST_SUBSCRIPTIONS", "id": 2 * number + 1},
        ]

    def unsubscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        """See ``Streams``."""
        streams = [_stream(topic) for topic in topics]
        return [{"method": "UNSUBSCRIBE", "params": streams, "id": 2 * number}]

    def reader(self) -> Reader:
        """See ``Streams``."""
        return _Reader()

    def trades(self, instrument: Instrument, rows: Sequence[_Trade]) -> pa.Table:
        """See ``Streams``."""
        columns = {
            "ts": pa.array([row.ts for row in rows], pa.int64()),
            "trade_id": pc.cast(pa.array([row.id for row in rows], pa.int64()), pa.string()),
            "price": pa.array([row.price for row in rows], pa.float64()),
            "volume": pa.array([row.amount for row in rows], pa.float64()),
            # Where the buyer was the maker, the taker sold.
            "side": pc.if_else(pa.array([row.buyer_is_maker for row in rows], pa.bool_()), "sell", "buy"),
            "nanosecond": pa.nulls(len(rows), pa.int64()),
        }
        return pa.table(columns, TRADES)

    def candles(self, instrument: Instrument, level: str, rows: Sequence[_Candle]) -> pa.Table:
        """See ``Streams``."""
        return pa.table(
            {name: pa.array([getattr(row, name) for row in rows], kind) for name, kind in _COLUMNS.items()}
        )


_COLUMNS: Final = {
    "ts": pa.int64(),
    "open": pa.float64(),
    "high": pa.float64(),
    "low": pa.float64(),
    "close": pa.float64(),
    "volume": pa.float64(),
    "turnover": pa.float64(),
    "trade_count": pa.int64(),
    "is_closed": pa.bool_(),
}


class _Reader(Reader):
    def key(self, topic: Topic) -> Hashable:
        """The stream's name."""
        return _stream(topic)

    def read(self, frame: str) -> Sequence[Message] | None:
        """See ``Reader``; pings are frames of the protocol, so nothing is left to ccxt."""
        if frame.startswith('{"e":'):
            event = _EVENT.decode(frame)
            topic = self.topics.get(event.stream())
        elif frame.startswith('{"stream":'):
            wrapped = _WRAPPED.decode(frame)
            topic = self.topics.get(wrapped.stream)
            if topic is None:
                return _NOTHING
            event = _EVENT.decode(wrapped.data)
        else:
            return self._answered(frame)
        return _NOTHING if topic is None else event.messages(topic)

    def _answered(self, frame: str) -> Sequence[Message]:
        answer = _ANSWER.decode(frame)
        if answer.error is not None:
            return (Refused(None, f"{answer.error.msg} ({answer.error.code})"),)
        if answer.code is not None:
            return (Refused(None, f"{answer.msg} ({answer.code})"),)
        if answer.result is msgspec.UNSET:
            raise msgspec.ValidationError("Neither an event of a stream nor an answer")
        listed = (self.topics.get(stream) for stream in answer.result or ())
        return (Confirmed([topic for topic in listed if topic is not None]),) if answer.result else _NOTHING


def _stream(topic: Topic) -> str:
    channel = f"kline_{topic.level}" if topic.feed == "candles" else _CHANNELS[topic.feed]
    return f"{topic.instrument.native_id.lower()}@{channel}"
