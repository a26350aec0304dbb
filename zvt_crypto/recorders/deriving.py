"""Coarser candles made of recorded ones instead of fetched, held against the exchange's own on a sample."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from zvt_crypto.core.bars import resample
from zvt_crypto.core.errors import DataQualityFailure, RetriableError, SkippableError
from zvt_crypto.core.levels import DAY_MS, ceil_ms, floor_ms, iso, spans_to_windows, subtract_spans
from zvt_crypto.core.tables import tables
from zvt_crypto.exchanges.paging import fetch_window
from zvt_crypto.recorders.backfill import Job, TableThread
from zvt_crypto.recorders.feeds import CandleFeed, Span
from zvt_crypto.recorders.planning import not_recorded
from zvt_crypto.recorders.report import Outcome, Progress
from zvt_crypto.store import coverage
from zvt_crypto.store.engine import Store
from zvt_crypto.store.history import History
from zvt_crypto.store.writer import Page, check

logger = logging.getLogger(__name__)

#: How much is made at a time, so that memory does not grow with the range.
_WINDOW_MS: Final = 90 * DAY_MS
#: Windows of the exchange's own candles that are fetched to compare, and the longest of them.
_SAMPLES: Final = 3
_SAMPLE_BARS: Final = 100
#: Venues add up rounded numbers, so sums may differ in their last digits.
_TOLERANCE: Final = 1e-9
_EXACT: Final = ("open", "high", "low", "close")


async def derive(
    store: Store, feed: CandleFeed, jobs: Sequence[Job], level: str, progress: Progress
) -> list[Outcome]:
    """Make the candles of a level that are missing from recorded ones of the feed's level.

    A bar is made where the finer candles are known for all of its time. Before anything is stored, bars of
    up to three windows are compared with the exchange's own.

    Args:
        store: Where both tables are.
        feed: The finer candles.
        jobs: The symbols and their ranges.
        level: Level of the bars.
        progress: Is told what happens.

    Returns:
        One outcome for each job; a symbol whose sample differs has an error and no rows.

    Raises:
        FatalError: Nothing more can be stored or fetched.
    """
    entity_type = feed.spec.entity_type
    target = CandleFeed(feed.venue, tables.candles(entity_type, level))
    table = TableThread(store, feed.venue.name, target.spec)
    outcomes = []
    try:
        for job in jobs:
            outcome = Outcome(target.spec.name, job.entity.entity_id)
            outcomes.append(outcome)
            maker = _Maker(store, feed, target, table, job, outcome)
            try:
                await maker.make(progress)
            except (RetriableError, SkippableError) as error:
                outcome.errors.append(error)
            progress.finished(outcome)
    finally:
        table.close()
    return outcomes


class _Maker:
    """Makes the bars of one symbol."""

    def __init__(
        self,
        store: Store,
        source: CandleFeed,
        target: CandleFeed,
        table: TableThread,
        job: Job,
        outcome: Outcome,
    ) -> None:
        self.store = store
        self.source = source
        self.target = target
        self.table = table
        self.job = job
        self.outcome = outcome

    async def make(self, progress: Progress) -> None:
        key = await self.table.call(lambda: self.table.writer.entity_key(self.job.entity))
        spans = await self.table.call(lambda: self._spans(key))
        progress.planned(self.outcome, sum(self.target.amount(*span) for span in spans))
        if not spans:
            return
        progress.started(self.outcome)
        await self._compare(spans)
        step = self.target.step
        for start, end in spans_to_windows(spans, floor_ms(_WINDOW_MS, step)):
            rows = await self.table.call(lambda s=start, e=end: self._bars(s, e))  # type: ignore[misc]
            checked = check(self.target.spec, rows)
            await self.table.store(Page(key, checked.batch, ((start, end),), source=coverage.DERIVED))
            self.outcome.rows += checked.batch.num_rows
            progress.advanced(self.outcome, self.target.amount(start, end))
        await self.table.call(lambda: coverage.tidy(self.table.connection, key))

    def _spans(self, key: int) -> list[Span]:
        """Missing bars whose time the finer candles cover, as spans on the bars' grid."""
        step = self.target.step
        start, end = ceil_ms(self.job.start, step), floor_ms(self.job.end, step)
        if start >= end:
            return []
        missing = coverage.missing(self.table.connection, key, start, end, step)
        source, entity_id = self.source, self.job.entity.entity_id
        unknown = not_recorded(self.store, source.venue.name, source.spec, entity_id, start, end)
        # A bar of which any part is unknown is not made.
        unknown = [(floor_ms(lower, step), ceil_ms(upper, step)) for lower, upper in unknown]
        return subtract_spans(missing, unknown)

    def _bars(self, start: int, end: int) -> pa.Table:
        """The bars in ``[start, end)`` in the schema of the table."""
        spec = self.source.spec
        with self.store.reading(self.source.venue.name, spec) as connection:
            history = History(connection, spec, use_segments=self.store.use_segments)
            found = history.series(entity_ids=[self.job.entity.entity_id])
            if not found:
                return self.target.spec.schema.empty_table()
            rows = history.rows(found[0], spec.columns, start, end)
        return resample(spec, rows, self.target.step, end).drop_columns(["is_finished"])

    async def _compare(self, spans: Sequence[Span]) -> None:
        """Hold bars of some windows against the exchange's own.

        Raises:
            DataQualityFailure: They differ.
        """
        for start, end in _sample(spans, self.target.step):
            made = await self.table.call(lambda s=start, e=end: self._bars(s, e))  # type: ignore[misc]
            own = await self._fetch(start, end)
            different = differences(made, own)
            if different is not None:
                name, level = self.job.entity.entity_id, self.target.level
                raise DataQualityFailure(
                    f"{name}: {level} candles made of {self.source.level} ones differ from those of"
                    f" {self.source.venue.exchange}: {different}",
                    suggestions=(
                        f"record the level itself: --levels {level}",
                        f"check the {self.source.level} candles with `zvt-crypto verify`",
                    ),
                )

    async def _fetch(self, start: int, end: int) -> pa.Table:
        feed, instrument = self.target, self.job.instrument

        async def fetch_page(lower: int, upper: int) -> pa.Table:
            return await feed.venue.fetch_candle_page(instrument, feed.level, lower, upper)

        window = await fetch_window(fetch_page, start, end, feed.step)
        self.outcome.requests += window.requests
        return check(feed.spec, window.batch).batch


def differences(made: pa.Table, own: pa.Table) -> str | None:
    """What is the first difference between two batches of candles by time; None where there is none.

    Prices must be equal; sums may differ in their last digits, and a NULL on either side is not compared.
    """
    if not made["ts"].equals(own["ts"]):
        ours, theirs = (set(batch["ts"].to_pylist()) for batch in (made, own))
        first = min(ours ^ theirs)
        return f"{iso(first)} is {'not at the exchange' if first in ours else 'only at the exchange'}"
    for name in (n for n in own.column_names if n != "ts"):
        a, b = (np.asarray(batch[name].to_numpy(), np.float64) for batch in (made, own))
        tolerance = 0.0 if name in _EXACT else _TOLERANCE
        # A NULL is NaN here, and no comparison with NaN is true.
        bad = np.flatnonzero(np.abs(a - b) > tolerance * np.maximum(np.abs(a), np.abs(b)))
        if len(bad):
            at = int(bad[0])
            return f"{name} of {iso(own['ts'][at].as_py())} is {a[at]!r} and not {b[at]!r}"
    return None


def _sample(spans: Sequence[Span], step: int) -> list[Span]:
    """The first, the last and a middle window of what is to be made."""
    windows = spans_to_windows(spans, _SAMPLE_BARS * step)
    places = np.unique(np.linspace(0, len(windows) - 1, _SAMPLES).astype(int))
    return [windows[place] for place in places]
