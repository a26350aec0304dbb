"""Where a series has holes, and what the ledger tells about each. Pure and columnar.

What further evidence tells about the holes that the exchange answered for is found in ``evidence``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from zvt_crypto.core.levels import MINUTE_MS, ceil_ms, merge_spans

Array = np.ndarray[Any, Any]
Span = tuple[int, int]

#: The exchange was asked and has no candle there: nobody traded, or the market did not exist.
ABSENT: Final = "absent"
#: Nothing was ever answered for that time, or it was answered and the candle removed since.
UNRECORDED: Final = "unrecorded"
#: The exchange answered once with no candles; the next run asks again before that is believed.
UNCONFIRMED: Final = "unconfirmed"
#: The market was not listed yet.
BEFORE_LISTING: Final = "before_listing"
#: The market was delisted.
AFTER_DELISTING: Final = "after_delisting"
#: The exchange answered, and nobody traded.
NO_TRADE: Final = "no_trade"
#: The exchange answered, and had no candles of any market while others had.
OUTAGE: Final = "outage"
#: The exchange answered with no candle, though something happened then that is recorded.
CONTRADICTED: Final = "contradicted"
#: Position in this tuple is the code in ``Gaps.kind_code``.
KINDS: Final = (
    UNRECORDED,
    UNCONFIRMED,
    ABSENT,
    BEFORE_LISTING,
    AFTER_DELISTING,
    NO_TRADE,
    OUTAGE,
    CONTRADICTED,
)
#: Holes that can be filled.
HEALABLE: Final = (UNRECORDED, UNCONFIRMED, CONTRADICTED)
#: Holes that are empty at the exchange, as far as it was asked.
EMPTY_THERE: Final = (ABSENT, NO_TRADE, OUTAGE)

_END_OF_TIME: Final = 1 << 62
#: Events whose intervals a funding event's is held against, on each side.
_NEIGHBOURS: Final = 3


@dataclass(frozen=True, eq=False, slots=True)
class Gaps:
    """Holes of a series, in order of time; equal-length arrays.

    Attributes:
        start: Open time of the first missing candle, epoch ms.
        end: End of the last missing candle, exclusive, epoch ms.
        kind_code: Position in ``KINDS``.
        step: Length of a candle in ms, or the distance of each gap's missing events.
    """

    start: Array
    end: Array
    kind_code: Array
    step: int | Array

    def __len__(self) -> int:
        return len(self.start)

    @property
    def missing(self) -> Array:
        """Candles that each gap lacks."""
        candles: Array = (self.end - self.start) // self.step
        return candles

    def count(self, *kinds: str) -> int:
        """Number of gaps of some kinds."""
        return int(self.of(*kinds).sum())

    def missing_in(self, *kinds: str) -> int:
        """Number of candles that the gaps of some kinds lack."""
        return int(self.missing[self.of(*kinds)].sum())

    def to_list(self) -> list[dict[str, Any]]:
        """One dict per gap: ``start`` and ``end`` in ms, ``missing``, ``kind``."""
        columns = (self.start.tolist(), self.end.tolist(), self.missing.tolist(), self.kind_code.tolist())
        return [
            {"start": start, "end": end, "missing": missing, "kind": KINDS[code]}
            for start, end, missing, code in zip(*columns, strict=True)
        ]

    def of(self, *kinds: str) -> Array:
        """Which gaps are of some kinds."""
        return np.isin(self.kind_code, [KINDS.index(kind) for kind in kinds])

    def take(self, chosen: Array) -> Gaps:
        """Some of the gaps, by their positions in order, or by a mask."""
        step = self.step if isinstance(self.step, int) else self.step[chosen]
        return Gaps(self.start[chosen], self.end[chosen], self.kind_code[chosen], step)

    def opens(self) -> Array:
        """Open times of all missing candles, epoch ms, ascending."""
        counts = self.missing
        ordinal = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        steps = self.step if isinstance(self.step, int) else np.repeat(self.step, counts)
        times: Array = np.repeat(self.start, counts) + ordinal * steps
        return times

    def spans(self) -> list[Span]:
        """Start and end of each gap."""
        return list(zip(self.start.tolist(), self.end.tolist(), strict=True))


_NONE: Final = np.zeros(0, np.int64)
NO_GAPS: Final = Gaps(_NONE, _NONE, _NONE, 1)


def find_gaps(
    ts: Array,
    step: int,
    answered: Iterable[Span],
    start: int,
    end: int,
    empty_once: Iterable[Span] = (),
) -> Gaps:
    """The candles that open in ``[start, end)`` and are not in ``ts``.

    A hole that is known only in part is cut where the knowledge ends.

    Args:
        ts: Open times that are there, epoch ms, strictly ascending, multiples of ``step``.
        step: Length of a candle in ms.
        answered: Spans that the exchange answered for, half-open.
        start: First time of interest, epoch ms.
        end: End of the times of interest, exclusive.
        empty_once: Spans answered once with no candles.
    """
    first, stop = ceil_ms(start, step), ceil_ms(end, step)
    lower, upper = np.searchsorted(ts, (first, stop))
    inside = np.asarray(ts[lower:upper], np.int64)
    edges_start = np.concatenate([[first], inside + step])
    edges_end = np.concatenate([inside, [stop]])
    is_hole = edges_start < edges_end
    holes = edges_start[is_hole], edges_end[is_hole]
    known = [on_grid(spans, step) for spans in (empty_once, answered)]
    # Between two neighbouring cuts everything is known in the same way.
    cuts = np.unique(np.concatenate([*holes, *(edge for spans in known for edge in spans)]))
    pieces_start, pieces_end = cuts[:-1], cuts[1:]
    wanted = is_in(pieces_start, *holes)
    pieces_start, pieces_end = pieces_start[wanted], pieces_end[wanted]
    code = np.zeros(len(pieces_start), np.int64)
    for number, spans in enumerate(known, start=1):
        code[is_in(pieces_start, *spans)] = number
    return _joined(pieces_start, pieces_end, code, step)


def find_missing_events(
    ts: Array, answered: Iterable[Span], hours: Array | None = None, empty_once: Iterable[Span] = ()
) -> Gaps:
    """The events that a series of funding events lacks between its first and last one.

    Intervals change, so one counts as too long where it is at least twice those usual just before and just
    after it, or longer than the exchange itself said when it sent the event at its end.

    Args:
        ts: Times of the events, epoch ms, ascending; payments may be booked some milliseconds late.
        answered: Spans that the exchange answered for, half-open.
        hours: Interval stored with each event, NaN where unknown.
        empty_once: Spans answered once with no events.

    Returns:
        One gap between two events each, of kind ``UNRECORDED``, ``UNCONFIRMED``, ``ABSENT``, or
        ``CONTRADICTED`` where the stored interval says that there was an event.
    """
    minutes = np.round(np.diff(ts) / MINUTE_MS).astype(np.int64)
    if not len(minutes):
        return NO_GAPS
    usual = _usual_interval(minutes)
    said = np.full(len(minutes), np.nan) if hours is None else np.round(hours[1:] * 60)
    is_said = said < minutes
    expected = np.where(is_said & (said > 0), said, usual).astype(np.int64)
    count = np.round(minutes / np.maximum(expected, 1)).astype(np.int64) - 1
    at = np.flatnonzero(count > 0)
    step = minutes[at] * MINUTE_MS // (count[at] + 1)
    start = ts[at] + step
    end = start + count[at] * step
    code = np.full(len(at), KINDS.index(UNRECORDED), np.int64)
    for kind, spans in ((UNCONFIRMED, empty_once), (ABSENT, answered)):
        lower, upper = on_grid(spans, 1)
        whole = is_in(start, lower, upper) & is_in(end - 1, lower, upper)
        code[whole] = KINDS.index(kind)
    code[is_said[at] & (code == KINDS.index(ABSENT))] = KINDS.index(CONTRADICTED)
    return Gaps(start, end, code, step)


def _usual_interval(minutes: Array) -> Array:
    """The larger of the medians of the intervals before and after each."""
    padded = np.concatenate([np.full(_NEIGHBOURS, np.nan), minutes, np.full(_NEIGHBOURS, np.nan)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, _NEIGHBOURS)
    before, after = windows[: len(minutes)].copy(), windows[-len(minutes) :].copy()
    # At an end there is one side only, of which the next interval counts as much as all: it may just have
    # changed. Where there is but one interval, it is the usual one.
    before[0], after[-1] = (minutes[1], minutes[-2]) if len(minutes) > 1 else minutes[[0, 0]]
    usual: Array = np.maximum(np.nanmedian(before, axis=1), np.nanmedian(after, axis=1))
    return usual


def marked(gaps: Gaps, starts: Array, ends: Array, kind: str) -> Gaps:
    """The gaps with another kind where they lie in one of the disjoint, ascending spans; cut at their edges.

    Only for gaps of one step; edges off its grid count from the next candle on.
    """
    assert isinstance(gaps.step, int)
    step = gaps.step
    starts, ends = (-(-edges // step) * step for edges in (starts, ends))
    pieces = cut(gaps, np.concatenate([starts, ends]))
    code = pieces.kind_code.copy()
    code[is_in(pieces.start, starts, ends)] = KINDS.index(kind)
    return _joined(pieces.start, pieces.end, code, step)


def cut(gaps: Gaps, edges: Array) -> Gaps:
    """The same gaps, parted where an edge lies in one; only for gaps of one step, edges on its grid."""
    assert isinstance(gaps.step, int)
    cuts = np.unique(np.concatenate([gaps.start, gaps.end, edges])).astype(np.int64)
    starts, ends = cuts[:-1], cuts[1:]
    inside = is_in(starts, gaps.start, gaps.end)
    starts, ends = starts[inside], ends[inside]
    return Gaps(
        starts, ends, gaps.kind_code[np.searchsorted(gaps.start, starts, side="right") - 1], gaps.step
    )


def within_life(gaps: Gaps, listed: int | None, delisted: int | None) -> Gaps:
    """The gaps with those before the listing and after the delisting told apart from the rest.

    The first candle is the one that opens at the listing or next after it, as exchanges are asked for it.

    Args:
        gaps: Gaps of one step.
        listed: First trade, epoch ms, None where unknown.
        delisted: Last trade, epoch ms, None where it still trades.
    """
    if listed is not None:
        gaps = marked(gaps, np.array([0]), np.array([listed]), BEFORE_LISTING)
    if delisted is not None:
        gaps = marked(gaps, np.array([delisted]), np.array([_END_OF_TIME]), AFTER_DELISTING)
    return gaps


def on_grid(spans: Iterable[Span], step: int) -> tuple[Array, Array]:
    """Starts and ends of the candles that open within merged spans."""
    merged = merge_spans((ceil_ms(lower, step), ceil_ms(upper, step)) for lower, upper in spans)
    edges = np.array(merged, np.int64).reshape(-1, 2)
    return edges[:, 0], edges[:, 1]


def is_in(points: Array, starts: Array, ends: Array) -> Array:
    """Which points lie in one of the disjoint, ascending spans."""
    if not len(starts):
        return np.zeros(len(points), bool)
    span = np.searchsorted(starts, points, side="right") - 1
    inside: Array = (span >= 0) & (points < ends[span])
    return inside


def _joined(start: Array, end: Array, code: Array, step: int) -> Gaps:
    """Join neighbours that touch and are of one kind, which a cut of a weaker kind had parted."""
    parted = np.ones(len(start), bool)
    parted[1:] = (start[1:] != end[:-1]) | (code[1:] != code[:-1])
    firsts = np.flatnonzero(parted)
    lasts = np.append(firsts[1:], len(start)) - 1 if len(firsts) else firsts
    return Gaps(start[firsts], end[lasts], code[firsts], step)
