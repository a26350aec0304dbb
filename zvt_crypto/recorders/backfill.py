"""Fill one table of candles: plan what is missing, fetch pages at once, store each in one transaction."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeVar

import pyarrow as pa

from zvt_crypto.core.errors import (
    FatalError,
    ProviderUnavailable,
    RateLimitExceeded,
    RetriableError,
    SkippableError,
    ZvtCryptoError,
)
from zvt_crypto.core.levels import level_ms, spans_to_windows, subtract_spans
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.exchanges.base import Instrument, Venue
from zvt_crypto.exchanges.paging import Window, fetch_window
from zvt_crypto.recorders.report import Outcome, Progress
from zvt_crypto.store import coverage
from zvt_crypto.store.engine import Store
from zvt_crypto.store.writer import Checked, Entity, Page, SeriesWriter, check

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: How long the writing thread lets pages gather. Each step of a transaction has to win Python's lock back
#: from the busy event loop, so a few pages at once cost hardly more than one.
_GATHER_SECONDS: Final = 0.002
Span = tuple[int, int]

#: How often a page whose rows cannot be true is asked for in all, before its good rows are stored alone.
_QUALITY_ATTEMPTS: Final = 2
#: So many symbols failing in a row, none having succeeded, means that the exchange itself cannot be had.
_GIVE_UP_AFTER: Final = 3


@dataclass(slots=True)
class Job:
    """One symbol's missing candles.

    Attributes:
        instrument: What to ask the exchange for.
        entity: What to store it under.
        start: First open time wanted, epoch ms.
        end: Open time at which to stop, exclusive; never beyond the last finished candle.
        outcome: What has become of it so far.
    """

    instrument: Instrument
    entity: Entity
    start: int
    end: int
    outcome: Outcome
    key: int = -1
    empty_before: list[Span] = field(default_factory=list)
    windows: deque[Span] = field(default_factory=deque)
    under_way: int = 0
    started: bool = False


class TableThread:
    """The one thread that touches a table's file; SQLite releases Python's lock while it works there."""

    def __init__(self, store: Store, provider: str, spec: TableSpec) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"write-{spec.name}")
        try:
            self.connection = self._pool.submit(store.connect, provider, spec).result()
        except BaseException:
            self._pool.shutdown()
            raise
        self.writer = SeriesWriter(self.connection, spec)
        self._waiting: deque[tuple[Page, asyncio.Future[None]]] = deque()

    async def store(self, page: Page) -> None:
        """Store a page; returns once it is committed.

        Pages that come in while others are being written share the next transaction.
        """
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[None] = loop.create_future()
        self._waiting.append((page, stored))
        self._pool.submit(self._write_waiting, loop)
        await stored

    def _write_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._waiting:  # an earlier call has taken the page that this one was made for
            return
        time.sleep(_GATHER_SECONDS)
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        error: BaseException | None = None
        try:
            self.writer.write_pages([page for page, _ in taken])
        except BaseException as failure:  # noqa: BLE001 - raised again in the coroutines that wait
            error = failure
        loop.call_soon_threadsafe(_settle, [stored for _, stored in taken], error)

    async def call(self, function: Callable[[], T]) -> T:
        """Run a function there."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    def close(self) -> None:
        """Finish what is under way and give the file free."""
        self._pool.submit(self.connection.close).result()
        self._pool.shutdown()


def _settle(waiting: list[asyncio.Future[None]], error: BaseException | None) -> None:
    for stored in waiting:
        if stored.cancelled():
            continue
        if error is None:
            stored.set_result(None)
        else:
            stored.set_exception(error)


class Backfill:
    """Fetches the missing candles of many symbols of one table.

    Args:
        venue: Where from.
        spec: The candle table.
        table: The table's thread.
        concurrency: Pages under way at once.
        force: Ask again for what is recorded already.
        stop_at_failure: Fetch nothing more after the first symbol that fails.
        pause_seconds: How long each worker waits between two pages.
        progress: Is told what happens.
    """

    def __init__(
        self,
        venue: Venue,
        spec: TableSpec,
        table: TableThread,
        *,
        concurrency: int,
        force: bool,
        stop_at_failure: bool,
        pause_seconds: float,
        progress: Progress,
    ) -> None:
        assert spec.level is not None
        self.venue = venue
        self.spec = spec
        self.level = spec.level
        self.step = level_ms(spec.level)
        self.table = table
        self.concurrency = concurrency
        self.force = force
        self.stop_at_failure = stop_at_failure
        self.pause_seconds = pause_seconds
        self.progress = progress
        self._queue: deque[Job] = deque()
        self._failures_in_a_row = 0

    async def run(self, jobs: Iterable[Job]) -> None:
        """Bring all jobs to their end; what goes wrong is in their outcomes.

        Raises:
            FatalError: Nothing more can be stored or fetched; what was committed stays.
        """
        for job in jobs:
            await self.table.call(lambda job=job: self._plan(job))  # type: ignore[misc]
            planned = sum(stop - start for start, stop in job.windows) // self.step
            self.progress.planned(job.outcome, planned)
            if job.windows:
                self._queue.append(job)
            else:
                self.progress.finished(job.outcome)
        # The client lets `concurrency` requests out at once; as many pages again may wait to be stored.
        workers = [asyncio.create_task(self._work()) for _ in range(2 * self.concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def _plan(self, job: Job) -> None:
        connection = self.table.connection
        job.key = self.table.writer.entity_key(job.entity)
        spans = [(job.start, job.end)] if job.start < job.end else []
        if spans and not self.force:
            spans = coverage.missing(connection, job.key, job.start, job.end, self.step)
        job.empty_before = coverage.covered(connection, job.key, coverage.EMPTY)
        width = self.venue.capabilities.candle_page[job.instrument.entity_type] * self.step
        job.windows.extend(spans_to_windows(spans, width))

    async def _work(self) -> None:
        while self._queue:
            job = self._queue[0]
            if not job.started:
                job.started = True
                self.progress.started(job.outcome)
            start, end = job.windows.popleft()
            if not job.windows:
                self._queue.popleft()
            job.under_way += 1
            try:
                await self._record(job, start, end)
                self._failures_in_a_row = 0
            except FatalError as error:
                job.outcome.errors.append(error)
                raise
            except (RetriableError, SkippableError) as error:
                self._give_up(job, error)
            finally:
                job.under_way -= 1
                self.progress.advanced(job.outcome, (end - start) // self.step)
            if not job.windows and not job.under_way:
                await self.table.call(lambda job=job: coverage.tidy(self.table.connection, job.key))  # type: ignore[misc]
                self.progress.finished(job.outcome)
            if self.pause_seconds:
                await asyncio.sleep(self.pause_seconds)

    async def _record(self, job: Job, start: int, end: int) -> None:
        """Fetch one window and store it with its coverage."""
        window, checked = await self._fetch_checked(job, start, end)
        job.outcome.requests += window.requests
        answered: list[Span] = [(start, end)]
        empty: list[Span] = []
        if not window.batch.num_rows and not window.empty_confirmed:
            # A second empty answer, now or in a later run, is needed before the ledger believes it.
            empty = subtract_spans(answered, job.empty_before)
            answered = subtract_spans(answered, empty)
        bad = [(ts, ts + self.step) for times in checked.rejected.values() for ts in times]
        answered = subtract_spans(answered, bad)
        await self.table.store(Page(job.key, checked.batch, tuple(answered), tuple(empty)))
        job.outcome.rows += checked.batch.num_rows
        error = checked.error(f"{job.entity.entity_id} {self.level}")
        if error is not None:
            job.outcome.errors.append(error)

    async def _fetch_checked(self, job: Job, start: int, end: int) -> tuple[Window, Checked]:
        async def fetch_page(lower: int, upper: int) -> pa.Table:
            return await self.venue.fetch_candle_page(job.instrument, self.level, lower, upper)

        for attempt in range(_QUALITY_ATTEMPTS):
            window = await fetch_window(fetch_page, start, end, self.step)
            checked = check(self.spec, window.batch)
            if not checked.rejected:
                break
            logger.warning("%s: attempt %d: %s", job.entity.entity_id, attempt + 1, checked.error("bad rows"))
        return window, checked

    def _give_up(self, job: Job, error: ZvtCryptoError) -> None:
        """Drop what is left of a symbol, and of all symbols where no other would fare better."""
        logger.debug("%s gave up: %s", job.entity.entity_id, error)
        if not job.outcome.errors:
            self._failures_in_a_row += 1
        # Pages of one symbol are under way at once, and fail alike: once is enough to know.
        if not any(type(known) is type(error) for known in job.outcome.errors):
            job.outcome.errors.append(error)
        self._drop(job)
        exchange_is_gone = (
            isinstance(error, (ProviderUnavailable, RateLimitExceeded))
            and self._failures_in_a_row >= _GIVE_UP_AFTER
        )
        if exchange_is_gone or self.stop_at_failure:
            for other in list(self._queue):
                other.outcome.errors.append(error)
                self._drop(other)
                self.progress.finished(other.outcome)

    def _drop(self, job: Job) -> None:
        job.windows.clear()
        if job in self._queue:
            self._queue.remove(job)
