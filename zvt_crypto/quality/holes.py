"""The holes of recorded series, each with its kind and the evidence for it, out of the store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from zvt_crypto.core.levels import HOUR_MS, iso, merge_spans, subtract_spans
from zvt_crypto.quality import evidence
from zvt_crypto.quality.gaps import (
    ABSENT,
    AFTER_DELISTING,
    BEFORE_LISTING,
    CONTRADICTED,
    EMPTY_THERE,
    HEALABLE,
    KINDS,
    NO_GAPS,
    UNCONFIRMED,
    UNRECORDED,
    Array,
    Gaps,
    Span,
    cut,
    find_gaps,
    find_missing_events,
    is_in,
    on_grid,
    within_life,
)
from zvt_crypto.quality.series import Life, RecordedSeries, life_of
from zvt_crypto.quality.witnesses import seen_by_others
from zvt_crypto.store import coverage, proofs
from zvt_crypto.store.engine import Store
from zvt_crypto.store.sqlite import Connection

__all__ = ["Holes", "find_holes"]


@dataclass(frozen=True, eq=False, slots=True)
class Holes:
    """The holes of a series.

    Attributes:
        series: The series.
        start: First time looked at, epoch ms.
        end: End of the times looked at, exclusive.
        rows: Rows in between.
        answered: What of it the exchange answered for.
        gaps: The holes by time.
        evidence: For each of them, machine-readable facts.
        is_proven: For each of them, whether it was asked for again in a later run, or trades show it empty.
    """

    series: RecordedSeries
    start: int
    end: int
    rows: int
    answered: tuple[Span, ...]
    gaps: Gaps
    evidence: list[list[dict[str, Any]]]
    is_proven: Array

    @property
    def can_be_healed(self) -> Array:
        """Which holes are worth a repair."""
        return self.gaps.of(*HEALABLE)

    @property
    def is_unproven(self) -> Array:
        """Which holes are empty at the exchange by one run only."""
        unproven: Array = self.gaps.of(*EMPTY_THERE) & ~self.is_proven
        return unproven

    def by_kind(self) -> dict[str, dict[str, int]]:
        """Holes and missing rows of each kind that occurs."""
        found = {kind: self.gaps.count(kind) for kind in KINDS}
        return {
            kind: {"holes": count, "missing": self.gaps.missing_in(kind)}
            for kind, count in found.items()
            if count
        }

    def to_list(self) -> list[dict[str, Any]]:
        """One dict per hole: those of ``Gaps.to_list`` with ``evidence`` and ``proven``."""
        rest = zip(self.evidence, self.is_proven.tolist(), strict=True)
        return [
            {**gap, "evidence": found, "proven": proven}
            for gap, (found, proven) in zip(self.gaps.to_list(), rest, strict=True)
        ]


def find_holes(
    store: Store, series: RecordedSeries, start: int | None = None, end: int | None = None
) -> Holes:
    """Find the holes of a series of candles, funding events or trades, and classify each.

    Of trades only the ledger can tell what is missing, in milliseconds. Other tables have no holes.

    Args:
        store: Where it is.
        series: The series.
        start: First time, epoch ms; by default the first that is recorded or was asked for.
        end: End of the times, exclusive; by default that of what is recorded or was asked for.

    Raises:
        StoreCorrupt: A file is damaged.
    """
    spec = series.spec
    with store.connect(series.provider, spec) as connection, connection.snapshot():
        ledger = _ledger(connection, series)
        start, end = _range(connection, series, ledger, start, end)
        ts = _times(connection, series, start, end)
        if spec.feed == "funding":
            gaps, told = _missing_events(connection, series, ts, ledger)
        elif spec.feed == "trades":
            gaps = _never_answered(ledger, start, end)
            told = [[] for _ in range(len(gaps))]
        elif spec.level is None:
            gaps, told = NO_GAPS, []
        else:
            gaps = find_gaps(ts, spec.step, ledger.answered, start, end, ledger.empty_once)
            life = life_of(store, series)
            gaps = within_life(gaps, life.listed, life.delisted)
            gaps = cut(gaps, np.concatenate(_proven_spans(connection, series)))
            told = [_life_facts(life, kind) for kind in gaps.kind_code.tolist()]
        is_proven = _proven(connection, series, gaps)
    gaps, told, is_proven = _with_evidence(store, series, ts, gaps, told, is_proven)
    found = [[*asked, *more] for asked, more in zip(ledger.facts(gaps), told, strict=True)]
    return Holes(series, start, end, len(ts), tuple(ledger.answered), gaps, found, is_proven)


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What was asked, of one series."""

    answered: list[Span]
    by_source: dict[str, list[Span]]
    empty_once: list[Span]
    removed: Array

    def facts(self, gaps: Gaps) -> list[list[dict[str, Any]]]:
        """What it tells about each hole."""
        lost = np.searchsorted(self.removed, gaps.end) - np.searchsorted(self.removed, gaps.start)
        told: list[list[dict[str, Any]]] = [[{"removed": n}] if n else [] for n in lost.tolist()]
        sources: list[list[str]] = [[] for _ in told]
        for name, spans in sorted(self.by_source.items()):
            for names, is_touched in zip(sources, _overlap(spans, gaps).tolist(), strict=True):
                names.extend([name] * is_touched)
        once = _overlap(self.empty_once, gaps).tolist()
        for entry, names, was_empty in zip(told, sources, once, strict=True):
            if names:
                entry.append({"answered": True, "source": ",".join(names)})
            else:
                entry.append({"answered": False, **({"empty_once": True} if was_empty else {})})
        return told


def _overlap(spans: Iterable[Span], gaps: Gaps) -> Array:
    """Which gaps one of the spans reaches into."""
    lower, upper = on_grid(spans, 1)
    if not len(lower):
        return np.zeros(len(gaps), bool)
    last = np.searchsorted(lower, gaps.end) - 1
    touched: Array = (last >= 0) & (upper[last] > gaps.start)
    return touched


def _ledger(connection: Connection, series: RecordedSeries) -> _Ledger:
    step = series.spec.step
    removed = connection.query(f"SELECT ts FROM removed WHERE entity = {series.key:d} ORDER BY ts")
    times = removed["ts"].to_numpy().astype(np.int64)
    answered = coverage.covered(connection, series.key)
    return _Ledger(
        subtract_spans(answered, [(ts, ts + step) for ts in times.tolist()]),
        coverage.answered_by(connection, series.key),
        coverage.covered(connection, series.key, coverage.EMPTY),
        times,
    )


def _range(
    connection: Connection, series: RecordedSeries, ledger: _Ledger, start: int | None, end: int | None
) -> tuple[int, int]:
    """The times asked about, or those of everything that is known; ``(0, 0)`` where nothing is."""
    edges = connection.query(f"SELECT min(ts) AS a, max(ts) AS b FROM rows WHERE entity = {series.key:d}")
    first, last = edges["a"][0].as_py(), edges["b"][0].as_py()
    spans = [*ledger.answered, *ledger.empty_once]
    if first is not None:
        spans.append((first, last + series.spec.step))
    if len(ledger.removed):
        spans.append((int(ledger.removed[0]), int(ledger.removed[-1]) + series.spec.step))
    if start is None:
        start = min((span[0] for span in spans), default=0)
    if end is None:
        end = max((span[1] for span in spans), default=start)
    return start, max(start, end)


def _times(connection: Connection, series: RecordedSeries, start: int, end: int) -> Array:
    found = connection.query(
        f"SELECT ts FROM rows WHERE entity = {series.key:d} AND ts >= {start:d} AND ts < {end:d} ORDER BY ts"
    )
    times: Array = found["ts"].to_numpy().astype(np.int64)
    return times


def _missing_events(
    connection: Connection, series: RecordedSeries, ts: Array, ledger: _Ledger
) -> tuple[Gaps, list[list[dict[str, Any]]]]:
    if not len(ts):
        return find_missing_events(ts, ()), []
    found = connection.query(
        f"SELECT CAST(funding_interval_hours AS REAL) AS hours FROM rows WHERE entity = {series.key:d}"
        f" AND ts BETWEEN {int(ts[0]):d} AND {int(ts[-1]):d} ORDER BY ts"
    )
    hours = np.array(found["hours"].to_pylist(), np.float64)
    gaps = find_missing_events(ts, ledger.answered, hours, ledger.empty_once)
    after = np.searchsorted(ts, gaps.end)
    told = [
        {"interval_hours": interval / HOUR_MS, "said_hours": None if np.isnan(said) else said}
        for interval, said in zip(np.asarray(gaps.step).tolist(), hours[after].tolist(), strict=True)
    ]
    return gaps, [[entry] for entry in told]


def _never_answered(ledger: _Ledger, start: int, end: int) -> Gaps:
    """Stretches of which nobody has told all rows, in order of time."""
    missing = subtract_spans([(start, end)], ledger.answered)
    once = [span for a, b in missing for span in merge_spans(_within(ledger.empty_once, a, b))]
    found = [(a, b, UNRECORDED) for a, b in subtract_spans(missing, once)]
    found += [(a, b, UNCONFIRMED) for a, b in once]
    columns = list(zip(*sorted(found), strict=True)) or [(), (), ()]
    kinds = np.array([KINDS.index(kind) for kind in columns[2]], np.int64)
    return Gaps(np.array(columns[0], np.int64), np.array(columns[1], np.int64), kinds, 1)


def _within(spans: Iterable[Span], start: int, end: int) -> list[Span]:
    cut_to = ((max(a, start), min(b, end)) for a, b in spans)
    return [(a, b) for a, b in cut_to if a < b]


def _life_facts(life: Life, code: int) -> list[dict[str, Any]]:
    if KINDS[code] == BEFORE_LISTING and life.listed is not None:
        return [{"list_date": iso(life.listed)}]
    if KINDS[code] == AFTER_DELISTING and life.delisted is not None:
        return [{"end_date": iso(life.delisted)}]
    return []


def _proven_spans(connection: Connection, series: RecordedSeries) -> tuple[Array, Array]:
    found = proofs.read(connection, series.key, EMPTY_THERE)
    return on_grid([(proof.start, proof.stop) for proof in found], 1)


def _proven(connection: Connection, series: RecordedSeries, gaps: Gaps) -> Array:
    lower, upper = _proven_spans(connection, series)
    proven: Array = (
        gaps.of(*EMPTY_THERE) & is_in(gaps.start, lower, upper) & is_in(gaps.end - 1, lower, upper)
    )
    return proven


def _with_evidence(
    store: Store,
    series: RecordedSeries,
    ts: Array,
    gaps: Gaps,
    told: list[list[dict[str, Any]]],
    is_proven: Array,
) -> tuple[Gaps, list[list[dict[str, Any]]], Array]:
    """Gaps with those that are absent told apart by what else is recorded."""
    is_absent = gaps.of(ABSENT)
    if series.spec.feed != "candles" or not is_absent.any():
        return gaps, told, is_proven
    absent = gaps.take(is_absent)
    seen = seen_by_others(store, series, ts, absent)
    pieces, first = evidence.pieces(absent, seen)
    owner = np.searchsorted(absent.start, pieces.start, side="right") - 1
    rest = np.flatnonzero(~is_absent)
    starts = np.concatenate([gaps.start[rest], pieces.start])
    order = np.argsort(starts, kind="stable")
    joined = Gaps(
        starts[order],
        np.concatenate([gaps.end[rest], pieces.end])[order],
        np.concatenate([gaps.kind_code[rest], pieces.kind_code])[order],
        gaps.step,
    )
    facts = [*(told[position] for position in rest.tolist()), *evidence.facts(seen, first)]
    proven = np.concatenate([is_proven[rest], is_proven[is_absent][owner]])[order]
    return joined, [facts[position] for position in order.tolist()], proven & ~joined.of(CONTRADICTED)
