"""Live order books into their table: a snapshot of each at a chosen depth and pace."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from zvt_crypto.core.errors import InvalidArgument, OrderBookDesync, ZvtCryptoError
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.exchanges.base import Instrument, Venue
from zvt_crypto.exchanges.streaming import Streams, Topic
from zvt_crypto.recorders.backfill import TableThread
from zvt_crypto.recorders.report import Outcome
from zvt_crypto.store import coverage
from zvt_crypto.store.engine import Store
from zvt_crypto.store.writer import Entity, Page, check
from zvt_crypto.stream.bookkeeping import BookKeeper
from zvt_crypto.stream.books import OrderBook
from zvt_crypto.stream.feed import LiveFeed
from zvt_crypto.stream.pagequeue import PageQueue
from zvt_crypto.stream.series import Series

_USUAL_DEPTH: Final = 20
_DRAIN_SECONDS: Final = 20.0


class BookTable:
    """Keeps the table of order books live.

    Args:
        venue: Whose books.
        live: Its streams.
        store: Where to.
        spec: The table.
        spill_folder: Where rows wait while the table takes none.
        depth: Levels of each side to store; None for 20.
        every: Seconds between two snapshots of a market; a book that is not live is left out.
    """

    def __init__(
        self,
        venue: Venue,
        live: LiveFeed,
        store: Store,
        spec: TableSpec,
        spill_folder: Path,
        *,
        depth: int | None,
        every: float,
    ) -> None:
        self.live_feed = live
        self.spec = spec
        self.table = TableThread(store, venue.name, spec)
        self.queue = PageQueue(self.table, spill_folder, lambda pages: None)
        self.series: list[Series] = []
        self.rejected = 0
        self.keeper = BookKeeper(venue, live, self._changed, self._stale, self._refused)
        self._depth = depth or _USUAL_DEPTH
        self._every = every
        self._by_topic: dict[Topic, Series] = {}
        self._has_changed: set[Topic] = set()

    async def add(self, instrument: Instrument, entity: Entity, outcome: Outcome) -> None:
        """Keep a market's book.

        Raises:
            InvalidArgument: The venue streams no book of that depth.
        """
        key = await self.table.call(lambda: self.table.writer.entity_key(entity))
        depth = streamed_depth(self.live_feed.streams, instrument.entity_type, self._depth)
        series = Series(Topic("order_book", instrument, depth=depth), instrument, entity, key, outcome)
        self.series.append(series)
        self._by_topic[series.topic] = series

    async def run(self) -> None:
        """Subscribe, and store snapshots until cancelled.

        Raises:
            FatalError: Nothing can be stored before a person acts.
        """
        self.queue.start()
        try:
            async with self.keeper:
                self.keeper.add([series.topic for series in self.series])
                turn = time.time() // self._every
                while True:
                    # At whole multiples of the pace, so that the books of all markets are of one time.
                    turn = max(turn, time.time() // self._every) + 1
                    await asyncio.sleep(turn * self._every - time.time())
                    for topic in list(self._has_changed):
                        self._store(self._by_topic[topic])
                    self._has_changed.clear()
                    self.queue.check()
        finally:
            await asyncio.shield(self._close())

    async def _close(self) -> None:
        try:
            await self.queue.close(_DRAIN_SECONDS)
        finally:
            self.table.close()

    def _store(self, series: Series) -> None:
        book = self.keeper.books.get(series.topic)
        if book is None:
            return
        try:
            row = book.snapshot(self._depth, self.live_feed.now(series.instrument.entity_type))
        except OrderBookDesync:
            return  # it is being begun anew; what is stale is not stored
        checked = check(self.spec, row)
        self.rejected += sum(map(len, checked.rejected.values()))
        self.queue.put(Page(series.key, checked.batch, source=coverage.STREAM))
        series.outcome.rows += checked.batch.num_rows

    def _changed(self, topic: Topic, book: OrderBook) -> None:
        self._has_changed.add(topic)

    def _stale(self, topic: Topic, reason: str) -> None:
        self._has_changed.discard(topic)

    def _refused(self, topic: Topic, error: ZvtCryptoError) -> None:
        self._by_topic[topic].outcome.errors.append(error)


def streamed_depth(streams: Streams, entity_type: str, wanted: int) -> int:
    """The depth to subscribe at: the smallest that holds the wanted one.

    Raises:
        InvalidArgument: None does.
    """
    allowed = streams.book_depths.get(entity_type, ())
    fitting = [depth for depth in allowed if depth >= wanted]
    if not fitting:
        raise InvalidArgument(
            f"order books of {wanted} levels are not streamed",
            suggestions=(f"allowed: at most {max(allowed)}" if allowed else "record them without streaming",),
            depth=wanted,
        )
    return min(fitting)
