"""Where the channels' rows come from, as the hub sees it: one ``Source`` per provider."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from zvt_crypto.core.errors import ZvtCryptoError
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.streaming import Candles, Funding, StreamFeed, Topic, Trades
from zvt_crypto.stream.topics import TopicHealth

#: Price and amount in base currency of each level, best first.
Levels = Sequence[tuple[float, float]]


class BookView(Protocol):
    """An order book that is kept up to date; it is read at once, or not at all."""

    @property
    def ts(self) -> int | None:
        """Time of the book by the venue's clock, epoch ms; None where it gives none."""

    @property
    def number(self) -> int | None:
        """The venue's number of the book's state; None where it has none."""

    def best(self, depth: int) -> tuple[Levels, Levels]:
        """The best bids and asks, at most ``depth`` of each."""


class Sink(Protocol):
    """Whoever takes what a source has. Called in the event loop, in order per topic; must be quick."""

    def received(self, message: Trades | Candles | Funding) -> None:
        """Rows have come; also while the topic is not live."""

    def book(self, topic: Topic, book: BookView) -> None:
        """An order book has changed; never called while it is not live."""

    def live(self, topic: Topic, since: int) -> None:
        """From this exchange time (epoch ms) on nothing is missing."""

    def lost(self, topic: Topic, reason: str) -> None:
        """Something may be missing until ``live`` is called again; a book is not to be shown until then."""

    def refused(self, topic: Topic, error: ZvtCryptoError) -> None:
        """The topic is not streamed; nothing more will come."""


class Source(Protocol):
    """One provider's live data. Used from one event loop."""

    @property
    def feeds(self) -> Mapping[str, frozenset[StreamFeed]]:
        """What is streamed, by entity type."""

    @property
    def reconnects(self) -> int:
        """How often a connection had to be made anew."""

    async def instruments(self, names: Sequence[str], entity_type: str) -> list[Instrument | ZvtCryptoError]:
        """The market that each name means, in any notation, or why it means none."""

    def serves(self, topic: Topic) -> bool:
        """Whether the venue itself streams a topic."""

    def book_depths(self, entity_type: str) -> Sequence[int]:
        """Depths of order books that can be subscribed to, ascending."""

    def has_consecutive_ids(self, topic: Topic) -> bool:
        """Whether a hole in the ids of a topic's trades tells that some are missing."""

    def start(self, topic: Topic) -> None:
        """Begin to stream a topic to the sink."""

    def stop(self, topic: Topic) -> None:
        """Stream a topic no more."""

    def trades(self, topic: Topic, rows: Sequence[Any]) -> pa.Table:
        """Rows of ``Trades`` in ``schemas.TRADES``."""

    def candles(self, topic: Topic, rows: Sequence[Any]) -> pa.Table:
        """Rows of ``Candles`` in the schema of the candle tables, and ``is_closed``."""

    def now(self, entity_type: str) -> int:
        """The exchange's time, epoch ms."""

    def resyncs(self, topic: Topic) -> int:
        """How often a topic was subscribed, or its book begun, anew."""

    def health(self) -> list[TopicHealth]:
        """What is known of each topic that is streamed."""

    async def close(self) -> None:
        """End all of it."""


#: Opens the source of a provider, whose rows go to a sink; raises our errors.
OpenSource = Callable[[str, Sink], Awaitable[Source]]
