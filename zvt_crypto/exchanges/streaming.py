"""The contract of a venue's streams: what it declares, the frames it is sent, and what it makes of its own.

Nothing here connects to anything; ``wire`` does. Times are epoch milliseconds UTC.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

import msgspec
import pyarrow as pa

from zvt_crypto.core.errors import NotSupported

if TYPE_CHECKING:
    from zvt_crypto.exchanges.base import Instrument

#: What can be streamed of a market.
StreamFeed = Literal["trades", "candles", "order_book", "funding"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One feed of one market.

    Attributes:
        feed: Which of its feeds.
        instrument: The market.
        level: Of candles; None for other feeds.
        depth: Levels of an order book that are wanted on each side, one of ``Streams.book_depths``; None for
            other feeds.
    """

    feed: StreamFeed
    instrument: Instrument
    level: str | None = None
    depth: int | None = None

    def __hash__(self) -> int:
        # For each message: what tells most topics apart, instead of every field of the instrument.
        return hash((self.feed, self.instrument.native_id, self.level, self.depth))

    def __str__(self) -> str:
        detail = self.level or self.depth
        return f"{self.feed}{f' {detail}' if detail else ''} of {self.instrument.symbol}"


# What comes in masses is a struct: a named tuple takes twice as long to make.


class Trades(msgspec.Struct, gc=False):
    """Trades in the order in which the venue sent them; the rows are what ``Streams.trades`` reads."""

    topic: Topic
    rows: Sequence[Any]


class Candles(msgspec.Struct, gc=False):
    """States of candles, of which a later one replaces an earlier; the rows are for ``Streams.candles``."""

    topic: Topic
    rows: Sequence[Any]


class BookUpdate(msgspec.Struct, gc=False):
    """A state of an order book, or changes of one.

    Attributes:
        topic: Whose book.
        is_snapshot: Whether the levels are the whole book; else those that changed, where amount 0 removes.
        bids: ``(price, amount)`` as the venue counts amounts; where the venue sends checksums, also what
            these are made of.
        asks: As ``bids``.
        last: The venue's number of the state that this leads to; None where it has none.
        first: The number of the first change in here, where one message holds the changes of many numbers.
        previous: The number of the state that this must follow, where the message names it.
        ts: Time of the state by the venue's clock.
        checksum: What ``Streams.checksum`` must give for the book after this; None where none is sent.
    """

    topic: Topic
    is_snapshot: bool
    bids: Sequence[Any]
    asks: Sequence[Any]
    last: int | None = None
    first: int | None = None
    previous: int | None = None
    ts: int | None = None
    checksum: int | None = None


class Funding(NamedTuple):
    """What a perpetual's next payment would be by now; any field but the topic and the time may be None.

    Attributes:
        topic: Whose.
        ts: When the venue said so.
        mark_price: In quote currency.
        rate: Predicted for the next payment, as a fraction.
        next_ts: When that payment is due.
    """

    topic: Topic
    ts: int
    mark_price: float | None = None
    rate: float | None = None
    next_ts: int | None = None


class Confirmed(NamedTuple):
    """The venue has accepted these subscriptions; where it confirms nothing, the first message does."""

    topics: Sequence[Topic]


class Refused(NamedTuple):
    """The venue has turned a subscription down; ``topic`` is None where it does not tell which."""

    topic: Topic | None
    reason: str


class Missed(NamedTuple):
    """The connection's own count of messages has a hole: something of any of its topics is lost."""

    reason: str


Message = Trades | Candles | BookUpdate | Funding | Confirmed | Refused | Missed


@dataclass(frozen=True, slots=True)
class Limits:
    """What a venue allows, by its documents.

    Attributes:
        topics: Most subscriptions on one connection.
        topics_per_frame: Most subscriptions in one frame of a client.
        frames_per_second: Most frames of a client in a second.
        connections_per_minute: Most new connections of an address in a minute.
        connections: Most connections of an address at once.
    """

    topics: int = 100
    topics_per_frame: int = 50
    frames_per_second: float = 5.0
    connections_per_minute: int = 60
    connections: int = 50


class Asking(Protocol):
    """What a venue may ask over HTTP before it is connected to: the call of ``Client``."""

    async def call(self, entity_type: str, method: str, params: Mapping[str, Any]) -> Any:
        """The decoded answer of one of ccxt's implicit methods."""


class Reader(ABC):
    """Reads the frames of one connection, in order; may count them."""

    def __init__(self) -> None:
        self.topics: dict[Hashable, Topic] = {}

    def expect(self, topics: Iterable[Topic]) -> None:
        """Messages of these may come from now on."""
        self.topics.update((self.key(topic), topic) for topic in topics)

    def forget(self, topics: Iterable[Topic]) -> None:
        """Messages of these are of no interest any more."""
        for topic in topics:
            self.topics.pop(self.key(topic), None)

    @abstractmethod
    def key(self, topic: Topic) -> Hashable:
        """What the venue's messages say of a topic: its channel and market, say."""

    @abstractmethod
    def read(self, frame: str) -> Sequence[Message] | None:
        """What a frame says; empty where that is of no interest (a topic that is not expected, say).

        None leaves it to ccxt, which answers the venue's heartbeats and keeps the time of its pongs.

        Raises:
            msgspec.DecodeError: The frame, or one of its fields, is not what the venue documents.
        """


class Streams(ABC):
    """What one venue streams. Has no state: ``reader`` makes what a connection needs.

    Attributes:
        ccxt_ids: ccxt.pro class that keeps the connections, by entity type; those of ``Venue.ccxt_ids`` where
            empty.
        feeds: What is streamed, by entity type.
        levels: Candle levels that are streamed; the others, and those of entity types that stream no candles,
            are made of trades.
        book_depths: Depths that an order book can be subscribed at, ascending, by entity type.
        book_by_rest: Entity types whose book begins with an answer of ``Venue.fetch_order_book`` at the
            largest depth that this venue answers; elsewhere the stream's first message is the whole book, and
            a new subscription brings another.
        keeps_depth: Entity types where levels beyond the depth fall out without a message: who keeps the book
            cuts it to its depth after each message.
        consecutive_ids: Entity types whose trades have ids without holes: a hole tells of lost trades.
        limits: What the venue allows.
    """

    ccxt_ids: ClassVar[Mapping[str, str]] = {}
    feeds: ClassVar[Mapping[str, frozenset[StreamFeed]]]
    levels: ClassVar[tuple[str, ...]] = ()
    book_depths: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    book_by_rest: ClassVar[frozenset[str]] = frozenset()
    keeps_depth: ClassVar[frozenset[str]] = frozenset()
    consecutive_ids: ClassVar[frozenset[str]] = frozenset()
    limits: ClassVar[Limits] = Limits()

    def serves(self, topic: Topic) -> bool:
        """Whether the venue itself streams a topic."""
        if topic.feed not in self.feeds.get(topic.instrument.entity_type, ()):
            return False
        return topic.feed != "candles" or topic.level in self.levels

    @abstractmethod
    def endpoint(self, topic: Topic) -> str:
        """The URL where a topic is found, ``wss://...``; topics of one URL may share connections."""

    async def url(self, endpoint: str, entity_type: str, client: Asking) -> str:
        """The URL to connect to now; venues that give out tokens ask for one."""
        return endpoint

    @abstractmethod
    def subscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        """Frames that subscribe to topics of one endpoint, at most ``limits.topics_per_frame`` of them.

        Args:
            topics: What is wanted.
            number: A number that no other call of the connection has, for the frames' ids.

        Returns:
            Texts, or what is to be sent as JSON.
        """

    @abstractmethod
    def unsubscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        """As ``subscribe``, to end it."""

    @abstractmethod
    def reader(self) -> Reader:
        """What reads the frames of one new connection."""

    @abstractmethod
    def trades(self, instrument: Instrument, rows: Sequence[Any]) -> pa.Table:
        """Rows of ``Trades`` as columns in ``schemas.TRADES``, in the same order."""

    def candles(self, instrument: Instrument, level: str, rows: Sequence[Any]) -> pa.Table:
        """Rows of ``Candles`` in the schema of the candle tables, and a column ``is_closed``.

        ``is_closed`` is NULL where the venue does not mark the last state of a candle.

        Raises:
            NotSupported: The venue streams no candles.
        """
        raise NotSupported(f"no candles of {instrument.symbol} are streamed")

    def checksum(self, bids: Sequence[Any], asks: Sequence[Any]) -> int:
        """The checksum of a book's levels, best first, as the venue computes it.

        Raises:
            NotSupported: The venue sends none.
        """
        raise NotSupported("the venue sends no checksums of its order books")
