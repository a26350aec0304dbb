"""The live data of one venue as a ``Source``: its feed, its order books, its markets."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pyarrow as pa

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import ZvtCryptoError
from zvt_crypto.exchanges.base import Instrument, Venue, open_venue
from zvt_crypto.exchanges.streaming import BookUpdate, Candles, Funding, StreamFeed, Topic, Trades
from zvt_crypto.exchanges.throttle import Priority
from zvt_crypto.stream.bookkeeping import BookKeeper
from zvt_crypto.stream.books import OrderBook
from zvt_crypto.stream.broadcast.markets import Markets
from zvt_crypto.stream.broadcast.sources import Levels, OpenSource, Sink, Source
from zvt_crypto.stream.feed import LiveFeed
from zvt_crypto.stream.topics import TopicHealth


def venue_sources(settings: Settings) -> OpenSource:
    """What opens the live data of the venues that have files in this package."""

    async def open_source(provider: str, sink: Sink) -> Source:
        # pyarrow asks for it at its first row, which takes half a second, and not of the event loop's.
        await asyncio.to_thread(importlib.import_module, "pandas")
        async with AsyncExitStack() as stack:
            venue = await stack.enter_async_context(open_venue(provider, settings, priority=Priority.LIVE))
            feed = await stack.enter_async_context(LiveFeed(venue, settings))
            source = VenueSource(venue, feed, Markets(venue, settings), sink)
            await stack.enter_async_context(source.keeper)
            source.until_closed(stack.pop_all())
            return source

    return open_source


class VenueSource:
    """One venue's live data; a ``Listener`` of its feed.

    Args:
        venue: Which.
        feed: Its streams.
        markets: Its markets.
        sink: Takes what comes.
    """

    def __init__(self, venue: Venue, feed: LiveFeed, markets: Markets, sink: Sink) -> None:
        self.keeper = BookKeeper(venue, feed, self._on_book, self._on_stale, self._on_no_book)
        self._feed = feed
        self._streams = feed.streams
        self._markets = markets
        self._sink = sink
        self._live_books: set[Topic] = set()
        self._stack = AsyncExitStack()

    def until_closed(self, stack: AsyncExitStack) -> None:
        """Keep open what a stack holds for as long as this is."""
        self._stack = stack

    async def close(self) -> None:
        """End all of it."""
        await self._stack.aclose()

    @property
    def feeds(self) -> Mapping[str, frozenset[StreamFeed]]:
        """What is streamed, by entity type."""
        return self._streams.feeds

    @property
    def reconnects(self) -> int:
        """How often a connection had to be made anew."""
        return self._feed.reconnects

    async def instruments(self, names: Sequence[str], entity_type: str) -> list[Instrument | ZvtCryptoError]:
        """The market that each name means, in any notation, or why it means none."""
        return await self._markets.find(names, entity_type)

    def serves(self, topic: Topic) -> bool:
        """Whether the venue itself streams a topic."""
        return self._streams.serves(topic)

    def book_depths(self, entity_type: str) -> Sequence[int]:
        """Depths of order books that can be subscribed to, ascending."""
        return self._streams.book_depths.get(entity_type, ())

    def has_consecutive_ids(self, topic: Topic) -> bool:
        """Whether a hole in the ids of a topic's trades tells that some are missing."""
        return topic.feed == "trades" and topic.instrument.entity_type in self._streams.consecutive_ids

    def start(self, topic: Topic) -> None:
        """Begin to stream a topic to the sink."""
        if topic.feed == "order_book":
            self.keeper.add([topic])
        else:
            self._feed.add([topic], self)

    def stop(self, topic: Topic) -> None:
        """Stream a topic no more."""
        if topic.feed == "order_book":
            self._live_books.discard(topic)
            self.keeper.remove([topic])
        else:
            self._feed.remove([topic], self)

    def trades(self, topic: Topic, rows: Sequence[Any]) -> pa.Table:
        """Rows of ``Trades`` in ``schemas.TRADES``."""
        table = self._streams.trades(topic.instrument, rows)
        self._note(topic, table)
        return table

    def candles(self, topic: Topic, rows: Sequence[Any]) -> pa.Table:
        """Rows of ``Candles`` in the schema of the candle tables, and ``is_closed``."""
        assert topic.level is not None
        return self._streams.candles(topic.instrument, topic.level, rows)

    def now(self, entity_type: str) -> int:
        """The exchange's time, epoch ms."""
        return self._feed.now(entity_type)

    def resyncs(self, topic: Topic) -> int:
        """How often a topic was subscribed, or its book begun, anew."""
        health, book = self._feed.health_of(topic), self.keeper.books.get(topic)
        return (health.renewals if health else 0) + (book.resyncs.total() if book else 0)

    def health(self) -> list[TopicHealth]:
        """What is known of each topic that is streamed."""
        return self._feed.health()

    # What the feed tells.

    def received(self, message: Trades | Candles | BookUpdate | Funding) -> None:
        """Hand rows on."""
        if not isinstance(message, BookUpdate):
            self._sink.received(message)

    def live(self, topic: Topic, since: int) -> None:
        """Nothing is missing from now on."""
        self._sink.live(topic, since)

    def lost(self, topic: Topic, reason: str) -> None:
        """Something may be missing."""
        self._sink.lost(topic, reason)

    def refused(self, topic: Topic, error: ZvtCryptoError) -> None:
        """The venue does not stream it."""
        self._sink.refused(topic, error)

    # What the keeper of the order books tells.

    def _on_book(self, topic: Topic, book: OrderBook) -> None:
        now = self.now(topic.instrument.entity_type)
        if topic not in self._live_books:
            self._live_books.add(topic)
            self._sink.live(topic, now)
        self._sink.book(topic, _KeptBook(book, now))

    def _on_stale(self, topic: Topic, reason: str) -> None:
        self._live_books.discard(topic)
        self._sink.lost(topic, reason)

    def _on_no_book(self, topic: Topic, error: ZvtCryptoError) -> None:
        self._live_books.discard(topic)
        self._sink.refused(topic, error)

    def _note(self, topic: Topic, trades: pa.Table) -> None:
        health = self._feed.health_of(topic)
        if health is not None and trades.num_rows:
            health.rows += trades.num_rows
            newest: int = trades["ts"][-1].as_py()
            health.lag_ms = float(self.now(topic.instrument.entity_type) - newest)


class _KeptBook:
    """A kept book as it is read for messages."""

    def __init__(self, book: OrderBook, now: int) -> None:
        self._book = book
        self._now = now

    @property
    def ts(self) -> int:
        """The venue's time, or the exchange's clock when the book last changed where it gives none."""
        return self._now if self._book.ts is None else self._book.ts

    @property
    def number(self) -> int | None:
        """The venue's number of the state."""
        return self._book.last

    def best(self, depth: int) -> tuple[Levels, Levels]:
        """The best bids and asks."""
        return self._book.best_bids(depth), self._book.best_asks(depth)
