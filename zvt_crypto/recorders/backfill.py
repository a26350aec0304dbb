"""Fill one table: plan what is missing, fetch pages at once, store each in one transaction."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeVar

import pyarrow as pa

from zvt_crypto.core.errors import (
    ArchiveUnusable,
    FatalError,
    ProviderUnavailable,
    RateLimitExceeded,
    RetriableError,
    SkippableError,
    ZvtCryptoError,
)
from zvt_crypto.core.levels import merge_spans, subtract_spans
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.paging import Part
from zvt_crypto.recorders.feeds import Feed, Span
from zvt_crypto.recorders.planning import Window, plan_windows
from zvt_crypto.recorders.report import Outcome, Progress
from zvt_crypto.store import coverage
from zvt_crypto.store.engine import Store
from zvt_crypto.store.writer import Entity, Page, SeriesWriter, check

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: How long the writing thread lets the pages of requests gather; those of files are large. Each step of a
#: transaction has to win Python's lock back from the busy event loop, so a few pages at once cost hardly more
#: than one.
_GATHER_SECONDS: Final = 0.002

#: So many symbols failing in a row, none having succeeded, means that the exchange itself cannot be had.
_GIVE_UP_AFTER: Final = 3


@dataclass(slots=True)
class Job:
    """One symbol's missing rows.

    Attributes:
        instrument: What to ask the exchange for.
        entity: What to store it under.
        start: First time wanted, epoch ms.
        end: Time at which to stop, exclusive; never beyond what the exchange has finished.
        now: The exchange's time, epoch ms.
        outcome: What has become of it so far.
        spans: The only stretches of time from start to end that are wanted; None means all.
        used_files: Whether files of an archive were fetched since it was planned.
    """

    instrument: Instrument
    entity: Entity
    start: int
    end: int
    now: int
    outcome: Outcome
    spans: tuple[Span, ...] | None = None
    key: int = -1
    windows: deque[Window] = field(default_factory=deque)
    under_way: int = 0
    started: bool = False
    used_files: bool = False

    @property
    def wanted(self) -> list[Span]:
        """What is to be recorded, sorted."""
        if self.start >= self.end:
            return []
        if self.spans is None:
            return [(self.start, self.end)]
        return merge_spans((max(start, self.start), min(end, self.end)) for start, end in self.spans)


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
        if self._waiting[0][0].source == coverage.REST:
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
    """Fetches the missing rows of many symbols of one table.

    Args:
        feed: Where from, and how.
        table: The table's thread.
        concurrency: Pages under way at once.
        archives: Whether files of the venue's archive may be used.
        force: Ask again for what is recorded already.
        stop_at_failure: Fetch nothing more after the first symbol that fails.
        pause_seconds: How long each worker waits between two windows.
        progress: Is told what happens.
    """

    def __init__(
        self,
        feed: Feed,
        table: TableThread,
        *,
        concurrency: int,
        archives: bool,
        force: bool,
        stop_at_failure: bool,
        pause_seconds: float,
        progress: Progress,
    ) -> None:
        self.feed = feed
        self.table = table
        self.concurrency = concurrency
        self.archives = archives
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
            await self._plan(job)
            planned = sum(self.feed.amount(window.start, window.end) for window in job.windows)
            self.progress.planned(job.outcome, planned)
            if job.windows:
                self._queue.append(job)
            else:
                await self._finish(job)
        # The client lets `concurrency` requests out at once; as many pages again may wait to be stored.
        workers = [asyncio.create_task(self._work()) for _ in range(2 * self.concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _plan(self, job: Job) -> None:
        """Find out what a job has to fetch; nothing is fetched for it."""
        spans = job.wanted
        job.key = await self.table.call(lambda: self.table.writer.entity_key(job.entity))
        if spans and not self.force:
            spans = await self._missing(job)
        job.windows.extend(
            plan_windows(
                self.feed,
                job.instrument,
                spans,
                job.now,
                parallel=self.concurrency,
                archives=self.archives,
            )
        )

    async def _missing(self, job: Job) -> list[Span]:
        find = coverage.missing
        missing = await self.table.call(
            lambda: find(self.table.connection, job.key, job.start, job.end, self.feed.step)
        )
        return subtract_spans(missing, subtract_spans([(job.start, job.end)], job.wanted))

    async def _work(self) -> None:
        while self._queue:
            job = self._queue[0]
            if not job.started:
                job.started = True
                self.progress.started(job.outcome)
            window = job.windows.popleft()
            if not job.windows:
                self._queue.popleft()
            job.under_way += 1
            try:
                await self._record(job, window)
                self._failures_in_a_row = 0
            except FatalError as error:
                job.outcome.errors.append(error)
                raise
            except (RetriableError, SkippableError) as error:
                self._give_up(job, error)
            finally:
                job.under_way -= 1
                self.progress.advanced(job.outcome, self.feed.amount(window.start, window.end))
            if not job.windows and not job.under_way:
                await self._finish(job)
            if self.pause_seconds:
                await asyncio.sleep(self.pause_seconds)

    async def _finish(self, job: Job) -> None:
        """Put the ledger in order, and hold against it whether all that was wanted is there.

        The exchange is asked for what files of an archive lack before.
        """
        await self.table.call(lambda: coverage.tidy(self.table.connection, job.key))
        if job.wanted and not job.outcome.errors:
            missing = await self._missing(job)
            if missing and job.used_files:
                self._ask_for(job, missing)
            if job.windows:
                return
            if missing:
                job.outcome.errors.append(self.feed.shortfall(job.instrument, missing))
        self.progress.finished(job.outcome)

    def _ask_for(self, job: Job, spans: list[Span]) -> None:
        """Queue a job again for what is missing, this time without files."""
        job.used_files = False
        windows = plan_windows(
            self.feed, job.instrument, spans, job.now, parallel=self.concurrency, archives=False
        )
        if windows:
            job.windows.extend(windows)
            self._queue.append(job)

    async def _record(self, job: Job, window: Window) -> None:
        """Fetch one window and store each of its pages with its coverage."""
        if window.file is None:
            await self._record_parts(
                job, self.feed.fetch(job.instrument, window.start, window.end), coverage.REST
            )
            return
        try:
            job.used_files = True
            parts = self.feed.fetch_file(job.instrument, window.file)
            await self._record_parts(job, parts, coverage.ARCHIVE)
        except ArchiveUnusable as error:
            logger.warning("%s", error.message)
            job.outcome.notes.append(error.message)
            span = (window.start, window.end)
            for start, end in self.feed.windows(job.instrument, [span], self.concurrency):
                await self._record(job, Window(start, end))

    async def _record_parts(self, job: Job, parts: AsyncIterator[Part], source: str) -> None:
        bad: list[Span] = []
        async for part in parts:
            checked = check(self.feed.spec, part.rows)
            if checked.rejected and source == coverage.REST:
                logger.warning("%s: %s", job.entity.entity_id, checked.error("bad rows"))
                part = await self._once_more(job, part)
                checked = check(self.feed.spec, part.rows)
            job.outcome.requests += part.requests
            step = self.feed.step
            # The later parts of a file complete what came before them.
            bad += [(ts, ts + step) for times in checked.rejected.values() for ts in times]
            answered = subtract_spans([(part.start, part.stop)], bad)
            await self.table.store(Page(job.key, checked.batch, tuple(answered), source=source))
            job.outcome.rows += checked.batch.num_rows
            if job.spans is not None:
                job.outcome.answered += answered
            error = checked.error(f"{job.entity.entity_id} {self.feed.what}")
            if error is not None and source == coverage.ARCHIVE:
                # They stay missing, so that the exchange is asked for them.
                job.outcome.notes.append(error.message)
            elif error is not None:
                job.outcome.errors.append(error)

    async def _once_more(self, job: Job, part: Part) -> Part:
        """A page whose rows cannot be true, asked for again; only then are its good rows stored alone."""
        if part.start >= part.stop:
            return part
        parts = [again async for again in self.feed.fetch(job.instrument, part.start, part.stop)]
        rows = pa.concat_tables(again.rows for again in parts)
        requests = part.requests + sum(again.requests for again in parts)
        return Part(rows, part.start, part.stop, requests)

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
