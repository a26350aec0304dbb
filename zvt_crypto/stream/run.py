"""One live run: a provider, some tables, some markets, until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import NotSupported
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.exchanges.base import Venue, open_venue
from zvt_crypto.exchanges.throttle import Priority
from zvt_crypto.recorders.feeds import feed_of
from zvt_crypto.recorders.report import Outcome, Report
from zvt_crypto.recorders.run import Run, Selection, run_coroutine
from zvt_crypto.store.engine import Store
from zvt_crypto.store.writer import Entity
from zvt_crypto.stream.booktable import BookTable
from zvt_crypto.stream.candles import CandleTable, ConfirmingFeed
from zvt_crypto.stream.feed import LiveFeed
from zvt_crypto.stream.funding import FundingTable
from zvt_crypto.stream.recording import LiveTable, TradeTable
from zvt_crypto.stream.status import Status, publish, status_of
from zvt_crypto.stream.topics import State

#: Seconds between two snapshots of an order book.
BOOK_EVERY: Final = 60.0
_PUBLISH_SECONDS: Final = 2.0

AnyTable = LiveTable | BookTable


@dataclass(frozen=True, slots=True)
class _Source:
    """An exchange: its streams, and two clients, of which the one for live data goes first."""

    venue: Venue
    history: Venue
    feed: LiveFeed

    @staticmethod
    async def open(stack: AsyncExitStack, settings: Settings, provider: str, exchange: str | None) -> _Source:
        """Open it for as long as the stack is.

        Raises:
            NotSupported: The exchange streams nothing.
        """
        live = open_venue(provider, settings, exchange, priority=Priority.LIVE)
        venue = await stack.enter_async_context(live)
        history = await stack.enter_async_context(open_venue(provider, settings, exchange))
        feed = await stack.enter_async_context(LiveFeed(venue, settings))
        return _Source(venue, history, feed)


class LiveRun:
    """Keeps tables live.

    Args:
        settings: Limits and paths.
        selections: What to keep live, of one provider; ``start`` of each is the first time wanted, and None
            goes on where the ledger ends.
        book_every: Seconds between two snapshots of an order book.
        from_listing: Without a ``start``, markets are wanted from their listing on.
        seconds: Ends by itself after so many seconds; None never does.
        on_status: Is told about every other second how things stand.
    """

    def __init__(
        self,
        settings: Settings,
        selections: Sequence[Selection],
        *,
        book_every: float = BOOK_EVERY,
        from_listing: bool = False,
        seconds: float | None = None,
        on_status: Callable[[Status], None] | None = None,
    ) -> None:
        self.settings = settings
        self.report = Report()
        self._selections = tuple(selections)
        self._book_every = book_every
        self._from_listing = from_listing
        self._seconds = seconds
        self._on_status = on_status
        self._store = Store(settings)
        self._sources: dict[str | None, _Source] = {}
        self._tables: dict[tuple[str | None, str], AnyTable] = {}
        self._began = time.time()

    def start(self) -> Report:
        """Run until Ctrl-C, SIGTERM or the time is over; rows that have come by then are stored.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
            FatalError: Nothing more can be stored or fetched before a person acts.
            NotSupported: The provider streams nothing of what is wanted.
        """
        began = time.monotonic()
        try:
            run_coroutine(self._until_told())
        finally:
            self.report.seconds = time.monotonic() - began
        return self.report

    async def _until_told(self) -> None:
        running = asyncio.create_task(self._run())
        try:
            with _ended_by_sigterm(running):
                await asyncio.wait({running}, timeout=self._seconds)
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            for selection in self._selections:
                for exchange in Run(self.settings, selection).exchanges():
                    await self._open(stack, selection, exchange)
            if not any(table.series for table in self._tables.values()):
                return
            tasks = [asyncio.create_task(table.run()) for table in self._tables.values()]
            tasks.append(asyncio.create_task(self._tell()))
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                ends = await asyncio.gather(*tasks, return_exceptions=True)
                publish(self.settings, None)
            for end in ends:
                if isinstance(end, Exception):
                    raise end

    async def _open(self, stack: AsyncExitStack, selection: Selection, exchange: str | None) -> None:
        """Make the tables of a selection, with their markets."""
        source = self._sources.get(exchange)
        if source is None:
            source = self._sources[exchange] = await _Source.open(
                stack, self.settings, selection.provider, exchange
            )
        run = Run(self.settings, selection)
        for spec in selection.tables:
            markets = await run.markets(source.venue, spec)
            table = self._tables.get((exchange, spec.name))
            if table is None:
                table = self._tables[exchange, spec.name] = self._table(source, spec, selection.depth)
                await table.queue.replay()
            for row in markets:
                start = selection.start
                if self._from_listing and not isinstance(table, BookTable):
                    start = max(start or 0, await run.listed_at(source.venue, row))
                await self._add(table, source.venue, row, start)
        self.report.outcomes += run.report.outcomes

    def _table(self, source: _Source, spec: TableSpec, depth: int | None) -> AnyTable:
        """What keeps a table live.

        Raises:
            NotSupported: Its rows are of a kind that is not streamed.
        """
        venue, feed, store = source.venue, source.feed, self._store
        spills = self.settings.data_path.parent / "state" / "spill" / f"{venue.name}-{spec.name}"
        if spec.feed == "orderbooks":
            return BookTable(venue, feed, store, spec, spills, depth=depth, every=self._book_every)
        history = feed_of(source.history, spec)
        if spec.feed == "candles":
            return CandleTable(feed, store, ConfirmingFeed(venue, spec), spills, history=history)
        if spec.feed not in _KINDS:
            raise NotSupported(f"{spec.feed} are not streamed", suggestions=("record them instead",))
        return _KINDS[spec.feed](feed, store, feed_of(venue, spec), spills, history=history)

    async def _add(self, table: AnyTable, venue: Venue, row: Mapping[str, Any], start: int | None) -> None:
        outcome = Outcome(table.spec.name, row["entity_id"])
        self.report.outcomes.append(outcome)
        entity = Entity(row["entity_id"], row["code"], row["name"])
        if isinstance(table, BookTable):
            await table.add(venue.instrument(row), entity, outcome)
        else:
            listed = row["list_date"]
            if start is not None and listed is not None:
                start = max(start, int(listed.timestamp() * 1000))
            await table.add(venue.instrument(row), entity, outcome, start)

    async def _tell(self) -> None:
        """Tell how things stand, for as long as anything is, or may be, live."""
        while True:
            feeds = [source.feed for source in self._sources.values()]
            status = status_of(feeds, list(self._tables.values()), self._began)
            publish(self.settings, status)
            if self._on_status is not None:
                self._on_status(status)
            if all(channel.state == State.REFUSED.value for channel in status.channels):
                return
            await asyncio.sleep(_PUBLISH_SECONDS)


_KINDS: Final[dict[str, type[LiveTable]]] = {
    "trades": TradeTable,
    "funding": FundingTable,
}


@contextlib.contextmanager
def _ended_by_sigterm(task: asyncio.Task[None]) -> Iterator[None]:
    """SIGTERM ends a task, where this thread may say so."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
