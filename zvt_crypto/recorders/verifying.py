"""Recorded rows against what the exchange answers now: a sample, or all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import RetriableError, SkippableError, ZvtCryptoError
from zvt_crypto.core.levels import DAY_MS, ceil_ms, floor_ms, merge_spans, subtract_spans
from zvt_crypto.exchanges.base import Instrument, open_venue
from zvt_crypto.quality.comparison import Compared, Comparison, compare
from zvt_crypto.quality.gaps import Span
from zvt_crypto.quality.rows import stored_table
from zvt_crypto.quality.series import RecordedSeries
from zvt_crypto.recorders.entities import entity_spec, select_entities
from zvt_crypto.recorders.feeds import Feed, feed_of
from zvt_crypto.recorders.run import run_coroutine
from zvt_crypto.store import coverage, proofs
from zvt_crypto.store.engine import Store
from zvt_crypto.store.proofs import Proof
from zvt_crypto.store.writer import SeriesWriter, check

#: Windows drawn where nothing else is said.
WINDOWS: Final = 20
#: Feeds without a page of a fixed length are cut as for so many workers: into their shortest windows.
_MOST_PARALLEL: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """Which windows to ask for, of those that the recorded time makes.

    Attributes:
        windows: How many to draw, beside the newest recorded day.
        share: What share of all instead, above 0 and at most 1.
        seed: Decides which.
    """

    windows: int = WINDOWS
    share: float | None = None
    seed: int = 0

    def draw(self, windows: Sequence[Span]) -> list[Span]:
        """Some of the windows, in order."""
        count = self.windows if self.share is None else int(np.ceil(len(windows) * self.share))
        picked = np.random.default_rng(self.seed).permutation(len(windows))[:count]
        return [windows[position] for position in np.sort(picked).tolist()]


@dataclass(slots=True)
class Verification:
    """How a series compares with the exchange.

    Attributes:
        series: The series.
        windows: Stretches of time that were asked for again.
        of: Windows that the recorded time makes.
        requests: Requests that it took.
        result: The differences; ``other`` in its examples is the exchange's value.
        fixed: Rows that were written as the exchange has them now.
        errors: What went wrong.
    """

    series: RecordedSeries
    windows: list[Span] = field(default_factory=list)
    of: int = 0
    requests: int = 0
    result: Comparison = field(default_factory=Comparison)
    fixed: int = 0
    errors: list[ZvtCryptoError] = field(default_factory=list)


def verify(
    settings: Settings,
    chosen: Sequence[RecordedSeries],
    *,
    sample: Sample | None = None,
    start: int | None = None,
    end: int | None = None,
    fix: bool = False,
) -> list[Verification]:
    """Ask the exchange again for recorded rows, and compare.

    Args:
        settings: Limits and paths.
        chosen: The series.
        sample: Which of their windows; all within a range of time are one sample as well.
        start: First time, epoch ms; by default the first that is recorded.
        end: End of the times, exclusive.
        fix: Write what the exchange has where it differs. Rows that it has no more are left.

    Returns:
        One for each series, in order. What goes wrong with a series is in its errors.

    Raises:
        FatalError: The exchange cannot be asked, or nothing can be stored.
    """
    made = [Verification(series) for series in chosen]
    run_coroutine(_verify_all(settings, made, sample or Sample(), start, end, fix=fix))
    return made


async def _verify_all(
    settings: Settings,
    made: Sequence[Verification],
    sample: Sample,
    start: int | None,
    end: int | None,
    *,
    fix: bool,
) -> None:
    store = Store(settings)
    groups: dict[tuple[str, str], list[Verification]] = {}
    for one in made:
        groups.setdefault((one.series.provider, one.series.exchange), []).append(one)
    for (provider, exchange), group in groups.items():
        async with open_venue(provider, settings, exchange) as venue:
            for one in group:
                feed = feed_of(venue, one.series.spec)
                try:
                    await _Verifier(store, feed, one, fix).run(sample, start, end)
                except (RetriableError, SkippableError) as error:
                    one.errors.append(error)


class _Verifier:
    """Verifies one series."""

    def __init__(self, store: Store, feed: Feed, one: Verification, fix: bool) -> None:
        self.store = store
        self.feed = feed
        self.one = one
        self.series = one.series
        self.fix = fix
        self._turns = asyncio.Semaphore(feed.venue.client.settings.concurrency)
        self._comparing = asyncio.Lock()

    async def run(self, sample: Sample, start: int | None, end: int | None) -> None:
        instrument = self._instrument()
        now = await self.feed.venue.client.now(instrument.entity_type)
        spans, newest = self._recorded(max(start or 0, self.feed.earliest(instrument, now)), end)
        windows = self.feed.windows(instrument, spans, _MOST_PARALLEL)
        self.one.of = len(windows)
        drawn = sample.draw(windows)
        # The newest day is asked for as a whole, where it is not drawn anyway.
        last_day = self.feed.windows(instrument, subtract_spans(newest, drawn), _MOST_PARALLEL)
        self.one.windows = sorted([*drawn, *last_day])
        tasks = [asyncio.create_task(self._window(instrument, *window)) for window in self.one.windows]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _instrument(self) -> Instrument:
        kind = entity_spec(self.series.entity_type)
        rows, errors = select_entities(
            self.store, self.series.provider, kind, entity_ids=[self.series.entity_id]
        )
        if errors:
            raise errors[0]
        return self.feed.venue.instrument(rows[0])

    def _recorded(self, start: int, end: int | None) -> tuple[list[Span], list[Span]]:
        """The time that the exchange answered for, and what of it is on the newest day with rows."""
        with self.store.connect(self.series.provider, self.series.spec) as connection:
            spans = coverage.covered(connection, self.series.key)
            last = connection.value(f"SELECT max(ts) FROM rows WHERE entity = {self.series.key:d}")
        step = self.feed.step
        lower, upper = ceil_ms(start, step), ceil_ms(end, step) if end is not None else 1 << 62
        spans = merge_spans((max(a, lower), min(b, upper)) for a, b in spans)
        if last is None:
            return spans, []
        day = floor_ms(min(int(last), upper - 1), DAY_MS)
        return spans, merge_spans((max(a, day), min(b, day + DAY_MS)) for a, b in spans)

    async def _window(self, instrument: Instrument, start: int, end: int) -> None:
        async with self._turns:
            parts = [part async for part in self.feed.fetch(instrument, start, end)]
            self.one.requests += sum(part.requests for part in parts)
            fetched = check(self.series.spec, pa.concat_tables(part.rows for part in parts)).batch
            for lower, upper in merge_spans((part.start, part.stop) for part in parts):
                async with self._comparing:
                    await asyncio.to_thread(self._compare, _within(fetched, lower, upper), lower, upper)

    def _compare(self, fetched: pa.Table, start: int, end: int) -> None:
        recorded = stored_table(self.store, self.series, start, end)
        found = compare(self.series.spec, recorded, fetched)
        self.one.result.add(found.result)
        if self.fix and found.differing.num_rows:
            self.one.fixed += self._write(found, recorded, start, end)

    def _write(self, found: Compared, recorded: pa.Table, start: int, end: int) -> int:
        """Write the exchange's rows and, in the same file, that they were corrected."""
        spec = self.series.spec
        rows = _kept_where_null(found.differing, recorded) if not spec.keys else found.differing
        counts = {name: column.rows for name, column in found.result.columns.items()}
        facts = {"changed": counts, "lacking": found.result.lacking}
        proof = Proof(start, end, proofs.CORRECTED, (facts,), time.time_ns() // 1_000_000)
        with self.store.connect(self.series.provider, spec) as connection:
            writer = SeriesWriter(connection, spec)
            writer.write_page(writer.entity_key(self.series.entity), rows)
            with connection.transaction():
                proofs.add(connection, self.series.key, [proof])
        return int(rows.num_rows)


def _within(rows: pa.Table, start: int, end: int) -> pa.Table:
    lower, upper = np.searchsorted(rows["ts"].to_numpy(), (start, end))
    return rows.slice(int(lower), int(upper - lower))


def _kept_where_null(rows: pa.Table, recorded: pa.Table) -> pa.Table:
    """Rows with recorded values where the exchange gives none, matched by their unique times."""
    times = recorded["ts"].to_numpy()
    place = np.searchsorted(times, rows["ts"].to_numpy())
    is_there = np.zeros(rows.num_rows, bool)
    inside = place < len(times)
    is_there[inside] = times[place[inside]] == rows["ts"].to_numpy()[inside]
    before = recorded.take(pa.array(place, mask=~is_there))
    columns = [pc.coalesce(rows[name], before[name]) for name in rows.column_names]
    return pa.table(columns, schema=rows.schema)
