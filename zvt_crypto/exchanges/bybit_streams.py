"""Bybit's public streams.

https://bybit-exchange.github.io/docs/v5/ws/connect and
https://bybit-exchange.github.io/docs/v5/websocket/public/trade, with the pages beside it
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

import msgspec
import pyarrow as pa

from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.bybit_names import INTERVALS, category
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

logger = logging.getLogger(__name__)

T = TypeVar("T", int, float)

#: How a refusal reads that is about the topic: ``error:handler not found,topic:publicTrade.X`` where
#: contracts are streamed, ``Invalid symbol :[publicTrade.X]`` where pairs are.
_WRONG_TOPIC: Final = re.compile("not found|invalid", re.IGNORECASE)
#: A topic that is asked for twice is refused the second time, and goes on.
_ALREADY: Final = "already subscribed"
_SIDES: Final = {"Buy": "buy", "Sell": "sell", "": None}


class _Trade(msgspec.Struct, gc=False):
    T: int
    p: float
    v: float
    i: str
    S: Literal["Buy", "Sell", ""]


class _TradeFrame(msgspec.Struct, gc=False):
    data: list[_Trade]


class _Kline(msgspec.Struct, gc=False):
    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    turnover: float
    confirm: bool


class _KlineFrame(msgspec.Struct, gc=False):
    data: list[_Kline]


class _Book(msgspec.Struct, gc=False):
    b: list[tuple[float, float]]
    a: list[tuple[float, float]]
    u: int


class _BookFrame(msgspec.Struct, gc=False):
    type: Literal["snapshot", "delta"]
    ts: int
    data: _Book
    #: When the matching engine had this state; ``ts`` is when it was sent.
    cts: int | None = None


class _Ticker(msgspec.Struct, gc=False, rename="camel"):
    """Empty where there is no value."""

    mark_price: float | Literal[""]
    funding_rate: float | Literal[""]
    next_funding_time: int | Literal[""]


class _TickerChange(msgspec.Struct, gc=False, rename="camel"):
    """What did not change is left out."""

    mark_price: float | Literal[""] | None = None
    funding_rate: float | Literal[""] | None = None
    next_funding_time: int | Literal[""] | None = None


class _TickerSnapshot(msgspec.Struct, gc=False, tag_field="type", tag="snapshot"):
    ts: int
    data: _Ticker


class _TickerDelta(msgspec.Struct, gc=False, tag_field="type", tag="delta"):
    ts: int
    data: _TickerChange


class _Subscribed(msgspec.Struct, gc=False, tag_field="op", tag="subscribe"):
    success: bool
    ret_msg: str
    req_id: str = ""


class _Unsubscribed(msgspec.Struct, gc=False, tag_field="op", tag="unsubscribe"):
    pass


class _Pinged(msgspec.Struct, gc=False, tag_field="op", tag="ping"):
    """The answer to a ping."""


class _Ponged(msgspec.Struct, gc=False, tag_field="op", tag="pong"):
    """The answer to a ping in its other form."""


_decode_trades: Final = msgspec.json.Decoder(_TradeFrame, strict=False).decode
_decode_klines: Final = msgspec.json.Decoder(_KlineFrame, strict=False).decode
_decode_book: Final = msgspec.json.Decoder(_BookFrame, strict=False).decode
_decode_ticker: Final = msgspec.json.Decoder(_TickerSnapshot | _TickerDelta, strict=False).decode
_decode_answer: Final = msgspec.json.Decoder(_Subscribed | _Unsubscribed | _Pinged | _Ponged).decode


class BybitReader(Reader):
    """Reads frames of one category; keeps what tickers said last, as they only tell what changed."""

    def __init__(self) -> None:
        super().__init__()
        self._funding: dict[str, Funding] = {}
        self._read: Mapping[str, Callable[[str, Topic, str], Sequence[Message]]] = {
            "trades": _read_trades,
            "candles": _read_klines,
            "order_book": _read_book,
            "funding": self._read_ticker,
        }

    def key(self, topic: Topic) -> str:
        """Bybit's name of the topic."""
        return name_of(topic)

    def forget(self, topics: Iterable[Topic]) -> None:
        """See ``Reader``."""
        for topic in topics:
            self._funding.pop(name_of(topic), None)
            super().forget([topic])

    def read(self, frame: str) -> Sequence[Message] | None:
        """See ``Reader``."""
        # Decoded only once it is known as what: no field at the frame's top level tells the kinds apart.
        at = frame.find('"topic"')
        if at < 0:
            return self._read_answer(frame)
        start = frame.find('"', at + 7) + 1
        name = frame[start : frame.find('"', start)]
        topic = self.topics.get(name)
        return () if topic is None else self._read[topic.feed](frame, topic, name)

    def _read_ticker(self, frame: str, topic: Topic, name: str) -> Sequence[Message]:
        ticker = _decode_ticker(frame)
        told = ticker.data
        if (told.mark_price, told.funding_rate, told.next_funding_time) == (None, None, None):
            return ()
        # A snapshot has every field, so nothing of an earlier one stays.
        known = self._funding.get(name) or Funding(topic, ticker.ts)
        now = Funding(
            topic,
            ticker.ts,
            _latest(told.mark_price, known.mark_price),
            _latest(told.funding_rate, known.rate),
            _latest(told.next_funding_time, known.next_ts) or None,
        )
        self._funding[name] = now
        return (now,)

    def _read_answer(self, frame: str) -> Sequence[Message] | None:
        answer = _decode_answer(frame)
        if isinstance(answer, _Pinged | _Ponged):
            return None
        if isinstance(answer, _Unsubscribed) or answer.req_id not in self.topics:
            return ()
        topic = self.topics[answer.req_id]
        if answer.success or _ALREADY in answer.ret_msg:
            return (Confirmed((topic,)),)
        if _WRONG_TOPIC.search(answer.ret_msg):
            return (Refused(topic, answer.ret_msg),)
        logger.warning("bybit does not subscribe %s now: %s", answer.req_id, answer.ret_msg)
        return ()


class BybitStreams(Streams):
    """One host for each category; a topic's first message is the whole of it where later ones are changes."""

    feeds = {
        "cryptopair": frozenset({"trades", "candles", "order_book"}),
        "cryptoperp": frozenset({"trades", "candles", "order_book", "funding"}),
    }
    levels = tuple(INTERVALS)
    #: Levels that fall out of a depth are told as removed; at depth 1 each message is a snapshot.
    book_depths = {"cryptopair": (1, 50, 200, 1000), "cryptoperp": (1, 50, 200, 1000)}
    #: Frames of a client have no documented limit; topics of a connection may be 21,000 characters long.
    limits = Limits(
        topics=100, topics_per_frame=10, frames_per_second=50, connections_per_minute=100, connections=500
    )

    def endpoint(self, topic: Topic) -> str:
        """See ``Streams``."""
        return f"wss://stream.bybit.com/v5/public/{category(topic.instrument)}"

    def subscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        """One frame for each topic, named by it: Bybit refuses a frame whole where it refuses one topic."""
        return [_request("subscribe", topic) for topic in topics]

    def unsubscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        """See ``Streams``."""
        return [_request("unsubscribe", topic) for topic in topics]

    def reader(self) -> Reader:
        """See ``Streams``."""
        return BybitReader()

    def trades(self, instrument: Instrument, rows: Sequence[_Trade]) -> pa.Table:
        """See ``Streams``."""
        price = pa.array([row.p for row in rows], pa.float64())
        size = pa.array([row.v for row in rows], pa.float64())
        columns = {
            "ts": pa.array([row.T for row in rows], pa.int64()),
            "trade_id": pa.array([row.i for row in rows], pa.string()),
            "price": price,
            "volume": base_volume(instrument, size.to_numpy(), price.to_numpy()),
            "side": pa.array([_SIDES[row.S] for row in rows], pa.string()),
            "nanosecond": pa.nulls(len(rows), pa.int64()),
        }
        return pa.table(columns, TRADES)

    def candles(self, instrument: Instrument, level: str, rows: Sequence[_Kline]) -> pa.Table:
        """See ``Streams``; as over REST, inverse contracts count dollars as volume and coins as turnover."""
        columns = {"ts": pa.array([row.start for row in rows], pa.int64())}
        for name in ("open", "high", "low", "close", "volume", "turnover"):
            columns[name] = pa.array([getattr(row, name) for row in rows], pa.float64())
        if instrument.inverse:
            columns["volume"], columns["turnover"] = columns["turnover"], columns["volume"]
        columns["trade_count"] = pa.nulls(len(rows), pa.int64())
        columns["is_closed"] = pa.array([row.confirm for row in rows], pa.bool_())
        return pa.table(columns)


def name_of(topic: Topic) -> str:
    """Bybit's name of a topic, such as ``kline.5.BTCUSDT``; the same in all categories."""
    symbol = topic.instrument.native_id
    if topic.feed == "candles":
        assert topic.level is not None
        return f"kline.{INTERVALS[topic.level]}.{symbol}"
    if topic.feed == "order_book":
        return f"orderbook.{topic.depth}.{symbol}"
    return f"{'publicTrade' if topic.feed == 'trades' else 'tickers'}.{symbol}"


def _latest(told: T | Literal[""] | None, known: T | None) -> T | None:
    """A ticker's field by now: as before where nothing is told of it, None where it has no value."""
    if told is None:
        return known
    return None if told == "" else told


def _request(operation: str, topic: Topic) -> dict[str, Any]:
    name = name_of(topic)
    return {"op": operation, "req_id": name, "args": [name]}


def _read_trades(frame: str, topic: Topic, name: str) -> Sequence[Message]:
    return (Trades(topic, _decode_trades(frame).data),)


def _read_klines(frame: str, topic: Topic, name: str) -> Sequence[Message]:
    return (Candles(topic, _decode_klines(frame).data),)


def _read_book(frame: str, topic: Topic, name: str) -> Sequence[Message]:
    """``u`` counts up by one; it begins anew with a snapshot when Bybit restarts the service."""
    book = _decode_book(frame)
    data = book.data
    ts = book.ts if book.cts is None else book.cts
    if book.type == "snapshot":
        return (BookUpdate(topic, True, data.b, data.a, last=data.u, ts=ts),)
    return (BookUpdate(topic, False, data.b, data.a, last=data.u, previous=data.u - 1, ts=ts),)
