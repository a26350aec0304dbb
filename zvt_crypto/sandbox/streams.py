"""What a venue's streams are: what a connection may ask for, and frames in the venue's own wire format.

A venue's streams are a subclass of ``StreamVenue`` in a module of this package (``bybit_stream.py``);
``discover`` finds it. It does no I/O and reads no clock: ``live`` keeps the connections, asks the market what
is new, and sends what the methods below return. Times are epoch milliseconds UTC by the exchange's clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from zvt_crypto.sandbox.events import Array, Book, Trades
from zvt_crypto.sandbox.market import Candles, Instrument, Market
from zvt_crypto.sandbox.venue import Answer, Venue, concrete_classes

#: What can be streamed of a market.
Feed = Literal["trades", "candles", "order_book", "funding"]


class Close(NamedTuple):
    """Instead of a frame: the venue closes the connection; frames behind it are not sent."""

    code: int = 1000
    reason: str = ""


#: What is sent: text, text that is encoded already (sent as a text frame too), or a value to send as JSON.
Frame = str | bytes | dict[str, Any] | list[Any] | Close


@dataclass(frozen=True, slots=True)
class Subscription:
    """One feed of one market that a connection has asked for.

    Attributes:
        feed: Which feed.
        symbol: Unified symbol, such as ``BTC/USDT`` or ``BTC/USDT:USDT``.
        channel: The venue's own name of it, such as ``btcusdt@aggTrade``; faults can be aimed at it.
        level: Of candles, one of ``LEVEL_MS``.
        depth: Levels on each side of an order book; None is the whole book.
        every: Least time between two messages in ms by the exchange's clock; what happens in between is in
            the next one. 0 sends at every tick of the sandbox. Trades and closed candles never wait for it.
        step: Length of candles in ms, where ``level`` cannot say it (weeks, three days).
        offset: Candles open at ``offset`` plus multiples of their length, where that is not the epoch's grid.
        argument: Whatever the venue wants to find again, such as what the client sent.
    """

    feed: Feed
    symbol: str
    channel: str
    level: str | None = None
    depth: int | None = None
    every: int = 0
    step: int | None = None
    offset: int = 0
    argument: Any = field(default=None, compare=False)


@dataclass(slots=True)
class Session:
    """One connection to a venue.

    Attributes:
        number: Number of the connection in this sandbox, from 1 on.
        host: Host that was connected to, such as ``stream.binance.com``.
        path: Path on it, such as ``/ws/0``.
        query: Parameters of the URL.
        now: The exchange's time up to which everything has been streamed, epoch ms; advances with each tick.
            Who subscribes gets what happens after it, and snapshots that a venue sends are of this time.
        subscriptions: What is subscribed to, under any key that the venue likes; changed by
            ``StreamVenue.opened`` and ``received``. A new object begins anew (a book with its snapshot).
        counters: The venue's own, such as sequence numbers of the connection.
        state: Anything else that the venue wants to remember.
    """

    number: int
    host: str
    path: str
    query: Mapping[str, str]
    now: int
    subscriptions: dict[Hashable, Subscription] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Changes:
    """Levels that differ between two states of a book.

    Attributes:
        bids: Prices and their new volumes (base currency; 0 removes the level), shape (levels, 2), highest
            price first. Within the subscription's depth: a level that falls out of it is removed, one that
            comes into it is set. May hold a level that has changed and changed back.
        asks: As ``bids``, lowest price first.
    """

    bids: Array
    asks: Array

    def __len__(self) -> int:
        return len(self.bids) + len(self.asks)


@dataclass(frozen=True, slots=True)
class NextFunding:
    """What a perpetual's next payment would be by now.

    Attributes:
        ts: By when, epoch ms.
        mark_price: In quote currency.
        rate: What longs would pay to shorts, as a fraction; what REST tells once it is paid.
        due: When that payment is due, epoch ms.
    """

    ts: int
    mark_price: float
    rate: float
    due: int


class StreamVenue(ABC):
    """One exchange's streams, or those of one of its API families.

    One object serves all connections, so what belongs to one connection goes into its ``Session``. All
    methods but ``refuse`` return the frames to send, in order.

    Attributes:
        name: Name for people.
        hosts: Host names that it answers for, without ports.
        heartbeat_seconds: How often ``heartbeat`` is asked, in real seconds; None never.
    """

    name: ClassVar[str]
    hosts: ClassVar[tuple[str, ...]]
    heartbeat_seconds: ClassVar[float | None] = None

    def __init__(self, market: Market, venues: Mapping[str, Venue]) -> None:
        """Streams of a market.

        Args:
            market: What is traded.
            venues: The venues over REST by host name, for their names of instruments and converters.
        """
        self.market = market
        self.venues = venues

    def refuse(self, session: Session) -> Answer | None:
        """The answer to a handshake that the venue turns down (an unknown path, a wrong token); else None."""
        return None

    def opened(self, session: Session) -> Sequence[Frame]:
        """Frames at the beginning; also where the URL itself can subscribe."""
        return ()

    @abstractmethod
    def received(self, session: Session, text: str) -> Sequence[Frame]:
        """What a client's frame is answered; changes ``session.subscriptions``.

        Unknown markets and channels, and frames that it cannot read, are refused in the venue's own words. A
        venue that begins trades or candles with those of the past sends them here, as they are at
        ``session.now``. The snapshot of a new order book follows by itself (``book_snapshot``).
        """

    @abstractmethod
    def trades(self, session: Session, subscription: Subscription, rows: Trades) -> Sequence[Frame]:
        """Frames of new trades, in order of time and id; never called without trades."""

    def candles(
        self, session: Session, subscription: Subscription, rows: Candles, closed: bool
    ) -> Sequence[Frame]:
        """Frames of candles.

        Args:
            session: The connection.
            subscription: Whose candles.
            rows: If closed, the candles that have ended, final, in order of time, each told once; else the
                state of the one under way.
            closed: Which of the two.
        """
        return ()

    def book_snapshot(self, session: Session, subscription: Subscription, book: Book) -> Sequence[Frame]:
        """Frames with the book as it begins; none where the venue's clients ask for it over REST."""
        return ()

    def book_update(
        self, session: Session, subscription: Subscription, before: Book, after: Book, changes: Changes
    ) -> Sequence[Frame]:
        """Frames that lead from one state of a book to a later one, both cut to the subscription's depth.

        Args:
            session: The connection.
            subscription: Whose book.
            before: The state that the subscription was told last; the first one is that of ``book_snapshot``.
            after: The state now. REST tells the same levels under the same ``sequence``.
            changes: What differs; never empty.
        """
        return ()

    def funding(self, session: Session, subscription: Subscription, funding: NextFunding) -> Sequence[Frame]:
        """Frames with the next payment of a perpetual."""
        return ()

    def heartbeat(self, session: Session) -> Sequence[Frame]:
        """Frames that are sent every ``heartbeat_seconds``."""
        return ()


def by_native_name(venue: Venue, name: str) -> Instrument | None:
    """The instrument that a venue calls so, whatever the case of its letters; None if there is none."""
    return venue.listed.get(name) or venue.listed.get(name.upper())


def discover(market: Market, venues: Mapping[str, Venue]) -> dict[str, StreamVenue]:
    """All streams of this package by host name."""
    streams: dict[str, StreamVenue] = {}
    for kind in concrete_classes():
        if issubclass(kind, StreamVenue):
            streams.update(dict.fromkeys(kind.hosts, kind(market, venues)))
    return streams
