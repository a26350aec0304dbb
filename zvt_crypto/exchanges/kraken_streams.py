"""Kraken's streams: spot pairs (WebSocket v2), and perpetuals, whose wire is in ``kraken_futures_streams``.

https://docs.kraken.com/api/docs/websocket-v2/trade, .../ohlc and .../book, and
https://docs.kraken.com/api/docs/guides/spot-ws-book-v2 for the checksum
"""

from __future__ import annotations

import datetime as dt
import re
import zlib
from collections.abc import Hashable, Iterable, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import ProviderUnavailable
from zvt_crypto.core.levels import LEVEL_MS, MINUTE_MS, level_ms
from zvt_crypto.core.symbols import PAIR, PERP
from zvt_crypto.exchanges import kraken_futures, kraken_futures_streams
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.objects import split_time
from zvt_crypto.exchanges.schemas import TRADES
from zvt_crypto.exchanges.streaming import (
    Asking,
    BookUpdate,
    Candles,
    Confirmed,
    Limits,
    Message,
    Reader,
    Refused,
    Streams,
    Topic,
    Trades,
)

URL: Final = "wss://ws.kraken.com/v2"
#: Levels on each side that a checksum is made of.
_CHECKED: Final = 10
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_MS: Final = dt.timedelta(milliseconds=1)
#: Kraken's names of currencies that ccxt calls otherwise. Of XBT and XDG, it streams the usual names.
_KRAKEN_NAMES: Final = {"LUNC": "LUNA", "LUNA": "LUNA2", "REP": "REPV2", "REPV1": "REP", "USTC": "UST"}
#: Errors that turn nothing down for good: what was asked for is there, or may be asked for again.
_PASSING: Final = re.compile("already subscribed|msg rate|rate limit|internal|unavailable", re.IGNORECASE)


class _Trade(msgspec.Struct, gc=False):
    symbol: str
    side: Literal["buy", "sell"]
    price: float
    qty: float
    trade_id: int
    timestamp: str
    interval: ClassVar[None] = None


class _Trades(msgspec.Struct, tag_field="channel", tag="trade", gc=False):
    data: list[_Trade]


class _Candle(msgspec.Struct, gc=False):
    symbol: str
    interval: int
    interval_begin: str
    open: float
    high: float
    low: float
    close: float
    vwap: float
    volume: float
    trades: int


class _Candles(msgspec.Struct, tag_field="channel", tag="ohlc", gc=False):
    data: list[_Candle]


class _Level(msgspec.Struct, gc=False):
    """The checksum needs the digits, of which a float would lose the zeros at the end."""

    price: msgspec.Raw
    qty: msgspec.Raw


class _Book(msgspec.Struct, gc=False):
    symbol: str
    bids: list[_Level]
    asks: list[_Level]
    checksum: int
    timestamp: Annotated[dt.datetime, msgspec.Meta(tz=True)] | None = None


class _Books(msgspec.Struct, tag_field="channel", tag="book", gc=False):
    type: Literal["snapshot", "update"]
    data: list[_Book]


class _Status(msgspec.Struct, tag_field="channel", tag="status", gc=False):
    pass


class _Subscribed(msgspec.Struct, gc=False):
    channel: str
    symbol: str
    interval: int | None = None


class _Reply(msgspec.Struct, gc=False):
    """Anything without data: answers to what was asked, and heartbeats."""

    channel: str | None = None
    method: str | None = None
    success: bool = True
    error: str = ""
    symbol: str | None = None
    result: _Subscribed | None = None


_DATA: Final = msgspec.json.Decoder(_Trades | _Books | _Candles | _Status)
_REPLY: Final = msgspec.json.Decoder(_Reply)


class KrakenStreams(Streams):
    """Connections are limited to 150 attempts of an address in ten minutes; subscriptions have no limit."""

    feeds = {
        PAIR: frozenset({"trades", "candles", "order_book"}),
        PERP: frozenset({"trades", "order_book", "funding"}),
    }
    levels = tuple(LEVEL_MS)
    book_depths = {PAIR: (10, 25, 100, 500, 1000), PERP: (kraken_futures.BOOK_DEPTH,)}
    keeps_depth = frozenset({PAIR})
    consecutive_ids = frozenset({PAIR})
    limits = Limits(topics=200, frames_per_second=5.0, connections_per_minute=15)

    def endpoint(self, topic: Topic) -> str:
        """Messages of a pair's book do not tell the depth, so each depth has connections of its own."""
        if topic.instrument.entity_type == PERP:
            return kraken_futures_streams.URL
        return URL if topic.depth is None else f"{URL}#book-{topic.depth}"

    async def url(self, endpoint: str, entity_type: str, client: Asking) -> str:
        """See ``Streams``."""
        return endpoint.partition("#")[0]

    def subscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        """See ``Streams``."""
        return _frames("subscribe", topics, number)

    def unsubscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        """See ``Streams``."""
        return _frames("unsubscribe", topics, number)

    def reader(self) -> Reader:
        """See ``Streams``."""
        return _Reader()

    def trades(self, instrument: Instrument, rows: Sequence[Any]) -> pa.Table:
        """See ``Streams``; times have microseconds, where REST answers those of the nearest float.

        So close to a full millisecond the two may differ in ``ts``: of 8,000 trades about one does, if the
        stream cuts the digits off. The id is the same.
        """
        if instrument.entity_type == PERP:
            return kraken_futures_streams.trades(instrument, rows)
        ts, nanosecond = split_time(_epoch_ns([row.timestamp for row in rows]))
        trade_id = pc.cast(pa.array([row.trade_id for row in rows], pa.int64()), pa.string())
        price, volume = [row.price for row in rows], [row.qty for row in rows]
        side = [row.side for row in rows]
        return pa.table([ts, trade_id, price, volume, side, nanosecond], schema=TRADES)

    def candles(self, instrument: Instrument, level: str, rows: Sequence[Any]) -> pa.Table:
        """See ``Streams``; the turnover is the average price times the volume, as over REST."""
        if instrument.entity_type == PERP:
            return super().candles(instrument, level, rows)
        ts, _ = split_time(_epoch_ns([row.interval_begin for row in rows]))
        columns = {"ts": ts}
        for name in ("open", "high", "low", "close", "volume"):
            columns[name] = pa.array([getattr(row, name) for row in rows], pa.float64())
        columns["turnover"] = pa.array([row.vwap * row.volume for row in rows], pa.float64())
        columns["trade_count"] = pa.array([row.trades for row in rows], pa.int64())
        columns["is_closed"] = pa.nulls(len(rows), pa.bool_())
        return pa.table(columns)

    def checksum(self, bids: Sequence[Any], asks: Sequence[Any]) -> int:
        """CRC-32 of the digits of the best levels, asks first; without decimal points and leading zeros."""
        best = [*asks[:_CHECKED], *bids[:_CHECKED]]
        return zlib.crc32("".join([digits for _, _, digits in best]).encode())


class _Reader(Reader):
    """Reads a connection for either kind of market: which one, its first topic tells."""

    def __init__(self) -> None:
        super().__init__()
        self._readers: dict[str, Reader] = {
            PAIR: PairReader(),
            PERP: kraken_futures_streams.FuturesReader(),
        }
        self._reader: Reader | None = None

    def key(self, topic: Topic) -> Hashable:
        """See ``Reader``."""
        return self._readers[topic.instrument.entity_type].key(topic)

    def expect(self, topics: Iterable[Topic]) -> None:
        """See ``Reader``."""
        for topic in topics:
            self._reader = self._readers[topic.instrument.entity_type]
            self._reader.expect([topic])
            self.topics = self._reader.topics

    def read(self, frame: str) -> Sequence[Message] | None:
        """See ``Reader``."""
        return () if self._reader is None else self._reader.read(frame)


class PairReader(Reader):
    """Reads one connection of spot pairs."""

    def key(self, topic: Topic) -> Hashable:
        """See ``Reader``."""
        channel, option, value = _channel(topic)
        return channel, stream_name(topic.instrument), value if option == "interval" else None

    def read(self, frame: str) -> Sequence[Message] | None:
        """See ``Reader``."""
        if '"data"' not in frame:
            return self._read_reply(_REPLY.decode(frame))
        message = _DATA.decode(frame)
        if isinstance(message, _Trades):
            return self._of_topics(Trades, "trade", message.data)
        if isinstance(message, _Books):
            return self._of_books(message)
        return self._of_topics(Candles, "ohlc", message.data) if isinstance(message, _Candles) else ()

    def _of_topics(
        self, kind: type[Trades] | type[Candles], channel: str, rows: Sequence[_Trade | _Candle]
    ) -> Sequence[Message]:
        """The rows of a message, which may be of several markets."""
        if len(rows) == 1:
            topic = self.topics.get((channel, rows[0].symbol, rows[0].interval))
            return () if topic is None else (kind(topic, rows),)
        found: dict[Hashable, list[_Trade | _Candle]] = {}
        for row in rows:
            found.setdefault((channel, row.symbol, row.interval), []).append(row)
        return [kind(self.topics[key], of_one) for key, of_one in found.items() if key in self.topics]

    def _of_books(self, message: _Books) -> Sequence[Message]:
        is_snapshot = message.type == "snapshot"
        found = []
        for book in message.data:
            topic = self.topics.get(("book", book.symbol, None))
            if topic is not None:
                found.append(_book_update(topic, is_snapshot, book))
        return found

    def _read_reply(self, reply: _Reply) -> Sequence[Message] | None:
        if reply.method is None:
            if reply.channel == "heartbeat":
                return ()
            raise msgspec.ValidationError(f"a message of the channel {reply.channel!r} without data")
        if reply.method == "pong":
            return None
        if reply.method == "unsubscribe":
            return ()
        if not reply.success:
            return self._refusals(reply)
        done = reply.result
        topic = self.topics.get((done.channel, done.symbol, done.interval)) if done is not None else None
        return () if topic is None else (Confirmed([topic]),)

    def _refusals(self, reply: _Reply) -> Sequence[Message]:
        """An error tells the pair, and not the channel; it is the pair that Kraken does not know."""
        if _PASSING.search(reply.error):
            return ()
        if reply.symbol is None:
            return (Refused(None, reply.error),)
        named = [topic for topic in self.topics.values() if stream_name(topic.instrument) == reply.symbol]
        return [Refused(topic, reply.error) for topic in named]


def stream_name(instrument: Instrument) -> str:
    """The name by which a pair is streamed, such as ``BTC/USD`` or ``AAPLx/USD``.

    It is ccxt's symbol but for currencies that ccxt renames, and for small letters; both show in the name
    that REST uses (``LUNA2USD``, ``AAPLxUSD``).
    """
    return "/".join(_currency(code, instrument.native_id) for code in instrument.symbol.split("/"))


def _currency(code: str, pair: str) -> str:
    for name in (_KRAKEN_NAMES.get(code, code), code):
        start = pair.upper().find(name)
        if start >= 0:
            return pair[start : start + len(name)]
    return code


def _frames(method: str, topics: Sequence[Topic], number: int) -> list[Any]:
    """One frame for all pairs of a channel; topics of one call are of one endpoint, so of one entity type."""
    if topics and topics[0].instrument.entity_type == PERP:
        return kraken_futures_streams.frames(method, topics)
    symbols: dict[tuple[str, str, Any], list[str]] = {}
    for topic in topics:
        symbols.setdefault(_channel(topic), []).append(stream_name(topic.instrument))
    return [
        {
            "method": method,
            "params": {"channel": channel, "symbol": pairs, option: value},
            "req_id": number,
        }
        for (channel, option, value), pairs in symbols.items()
    ]


def _channel(topic: Topic) -> tuple[str, str, Any]:
    """A topic's channel and its option; a snapshot of trades, the latest 50, may fill a gap."""
    if topic.level is not None:
        return "ohlc", "interval", level_ms(topic.level) // MINUTE_MS
    return ("trade", "snapshot", True) if topic.depth is None else ("book", "depth", topic.depth)


def _book_update(topic: Topic, is_snapshot: bool, book: _Book) -> BookUpdate:
    ts = None if book.timestamp is None else (book.timestamp - _EPOCH) // _MS
    # Most messages change one side.
    bids = _levels(book.bids) if book.bids else []
    asks = _levels(book.asks) if book.asks else []
    return BookUpdate(topic, is_snapshot, bids, asks, ts=ts, checksum=book.checksum)


def _levels(levels: list[_Level]) -> list[tuple[float, float, str]]:
    try:
        return [_level(str(level.price, "ascii"), str(level.qty, "ascii")) for level in levels]
    except ValueError as error:
        raise msgspec.ValidationError(f"a level of an order book is no number: {error}") from error


def _level(price: str, amount: str) -> tuple[float, float, str]:
    """With the digits that go into checksums, which are many for one change of a level."""
    digits = price.replace(".", "").lstrip("0") + amount.replace(".", "").lstrip("0")
    return float(price), float(amount), digits


def _epoch_ns(times: Sequence[str]) -> pa.Array:
    """Epoch nanoseconds of RFC 3339 texts.

    Raises:
        ProviderUnavailable: A text is no such time.
    """
    try:
        return pc.cast(pc.cast(pa.array(times, pa.string()), pa.timestamp("ns", "UTC")), pa.int64())
    except pa.ArrowInvalid as error:
        raise ProviderUnavailable(f"kraken streams a time that is none: {error}") from error
