"""Fetches over HTTP what streams did not bring: the time before them, and the holes in them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from zvt_crypto.core.errors import FatalError, RetriableError, StoreFull, ZvtCryptoError
from zvt_crypto.core.levels import DAY_MS, ceil_ms, floor_ms, iso
from zvt_crypto.recorders.backfill import Backfill, Job, TableThread
from zvt_crypto.recorders.feeds import Feed
from zvt_crypto.recorders.report import Outcome, Silent
from zvt_crypto.stream.series import Series

logger = logging.getLogger(__name__)

_CHECK_SECONDS: Final = 0.5
#: Seconds before a stretch that failed is asked for again, doubled each time up to the longest.
FIRST_RETRY: Final = 5.0
_LONGEST_RETRY: Final = 300.0
#: A stretch that is longer than this, in ms, is history.
_LONG_MS: Final = DAY_MS
#: A stretch of which the venue shows so much, in ms, is begun before it shows all of it: a stream that is
#: lost again and again makes it longer all the time.
_ENOUGH_MS: Final = 60_000


@dataclass(slots=True)
class _Wish:
    """A stretch of one series, exchange time, and when it may be asked for (monotonic seconds)."""

    start: int
    end: int
    due: float = 0.0
    attempts: int = 0


class _Task(NamedTuple):
    """A stretch that is fetched now, and the exchange's time."""

    series: Series
    start: int
    end: int
    attempts: int
    now: int


class Mender:
    """Brings stretches of time into one table, those that the ledger does not have.

    Args:
        feed: How the table's rows are fetched.
        table: The table's thread.
        history: The same, for long stretches: also from the venue's archive, and with requests that let
            others go first.
        retry_seconds: Seconds before a stretch that failed is asked for again; doubled each time.
    """

    def __init__(
        self, feed: Feed, table: TableThread, history: Feed, *, retry_seconds: float = FIRST_RETRY
    ) -> None:
        self.feed = feed
        self.table = table
        self.requests = 0
        self._history = history
        self._retry_seconds = retry_seconds
        self._wishes: dict[Series, _Wish] = {}
        self._under_way: set[Series] = set()
        self._batches: set[asyncio.Task[None]] = set()

    def ask(self, series: Series, start: int, end: int) -> None:
        """Have a stretch fetched as soon as the venue shows all of it; joined with what was asked before."""
        start, end = floor_ms(start, self.feed.step), ceil_ms(end, self.feed.step)
        wish = self._wishes.get(series)
        if wish is None:
            self._wishes[series] = _Wish(start, end)
        else:
            wish.start, wish.end = min(wish.start, start), max(wish.end, end)

    @property
    def waiting(self) -> int:
        """How many series have something to fetch."""
        return len(self._wishes) + len(self._under_way)

    async def run(self) -> None:
        """Fetch what is asked for until cancelled.

        Raises:
            FatalError: Nothing can be fetched or stored before a person acts.
        """
        try:
            while True:
                await asyncio.sleep(_CHECK_SECONDS)
                for task in [task for task in self._batches if task.done()]:
                    self._batches.discard(task)
                    task.result()
                due = await self._due()
                long = [one for one in due if one.end - one.start > _LONG_MS]
                short = [one for one in due if one not in long]
                for feed, batch in ((self.feed, short), (self._history, long)):
                    if batch:
                        self._batches.add(asyncio.create_task(self._fetch(feed, batch)))
        finally:
            for task in self._batches:
                task.cancel()
            await asyncio.gather(*self._batches, return_exceptions=True)

    async def _due(self) -> list[_Task]:
        """What can be fetched now, taken off the list."""
        found = []
        for series, wish in list(self._wishes.items()):
            if series in self._under_way or time.monotonic() < wish.due:
                continue
            try:
                now = await self.feed.venue.client.now(series.instrument.entity_type)
            except RetriableError as error:
                logger.info("%s: the exchange's time cannot be asked for: %s", series.entity.entity_id, error)
                wish.due = time.monotonic() + self._retry_seconds
                continue
            end = min(wish.end, self.feed.final_end(now))
            if end < wish.end and end - wish.start < _ENOUGH_MS:
                continue
            del self._wishes[series]
            if end < wish.end:
                self._wishes[series] = _Wish(end, wish.end)
            self._under_way.add(series)
            found.append(_Task(series, wish.start, end, wish.attempts, now))
        return found

    async def _fetch(self, feed: Feed, due: Sequence[_Task]) -> None:
        jobs = []
        for series, start, end, _, now in due:
            outcome = Outcome(self.feed.spec.name, series.entity.entity_id)
            jobs.append(Job(series.instrument, series.entity, start, end, now, outcome))
        backfill = Backfill(
            feed,
            self.table,
            concurrency=self.feed.venue.client.settings.concurrency,
            archives=feed is self._history and self.feed.venue.client.settings.archives,
            force=False,
            stop_at_failure=False,
            pause_seconds=0,
            progress=Silent(),
        )
        try:
            await backfill.run(jobs)
        except (RetriableError, StoreFull) as error:
            for job in jobs:
                job.outcome.errors.append(error)
        finally:
            self._under_way.difference_update(task.series for task in due)
        for task, job in zip(due, jobs, strict=True):
            self._judge(task, job.outcome)

    def _judge(self, task: _Task, outcome: Outcome) -> None:
        """Ask again for what failed; what the venue does not have any more stays a hole in the ledger."""
        series = task.series
        self.requests += outcome.requests
        series.outcome.rows += outcome.rows
        series.outcome.requests += outcome.requests
        again = (RetriableError, StoreFull)
        for error in outcome.errors:
            if isinstance(error, FatalError) and not isinstance(error, again):
                raise error
        failed = next((error for error in outcome.errors if isinstance(error, again)), None)
        if failed is not None:
            self._again(task, failed)
        elif outcome.errors:
            series.gaps += 1
            error = outcome.errors[0]
            logger.warning("%s: a gap stays: %s", series.entity.entity_id, error.message)
            series.outcome.notes.append(error.message)

    def _again(self, task: _Task, error: ZvtCryptoError) -> None:
        wait = min(self._retry_seconds * 2.0 ** min(task.attempts, 10), _LONGEST_RETRY)
        logger.warning(
            "%s from %s on is fetched again in %.0f s: %s",
            task.series.entity.entity_id,
            iso(task.start),
            wait,
            error.message,
        )
        self.ask(task.series, task.start, task.end)
        self._wishes[task.series].due = time.monotonic() + wait
        self._wishes[task.series].attempts = task.attempts + 1
