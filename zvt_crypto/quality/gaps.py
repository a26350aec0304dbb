"""Where a series of candles has holes, and what is known about each. Pure and columnar."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from zvt_crypto.core.levels import ceil_ms, merge_spans

Array = np.ndarray[Any, Any]
Span = tuple[int, int]

#: The exchange was asked and has no candle there: nobody traded, or the market did not exist.
ABSENT: Final = "absent"
#: Nothing was ever answered for that time, or it was answered and the candle removed since.
UNRECORDED: Final = "unrecorded"
#: The exchange answered once with no candles; the next run asks again before that is believed.
UNCONFIRMED: Final = "unconfirmed"
#: Position in this tuple is the code in ``Gaps.kind_code``.
KINDS: Final = (UNRECORDED, UNCONFIRMED, ABSENT)


@dataclass(frozen=True, eq=False, slots=True)
class Gaps:
    """Holes of a series, in order of time; equal-length arrays.

    Attributes:
        start: Open time of the first missing candle, epoch ms.
        end: End of the last missing candle, exclusive, epoch ms.
        kind_code: Position in ``KINDS``.
        step: Length of a candle in ms.
    """

    start: Array
    end: Array
    kind_code: Array
    step: int

    def __len__(self) -> int:
        return len(self.start)

    @property
    def missing(self) -> Array:
        """Candles that each gap lacks."""
        candles: Array = (self.end - self.start) // self.step
        return candles

    def count(self, *kinds: str) -> int:
        """Number of gaps of some kinds."""
        return int(self._of(kinds).sum())

    def missing_in(self, *kinds: str) -> int:
        """Number of candles that the gaps of some kinds lack."""
        return int(self.missing[self._of(kinds)].sum())

    def to_list(self) -> list[dict[str, Any]]:
        """One dict per gap: ``start`` and ``end`` in ms, ``missing``, ``kind``."""
        columns = (self.start.tolist(), self.end.tolist(), self.missing.tolist(), self.kind_code.tolist())
        return [
            {"start": start, "end": end, "missing": missing, "kind": KINDS[code]}
            for start, end, missing, code in zip(*columns, strict=True)
        ]

    def _of(self, kinds: tuple[str, ...]) -> Array:
        return np.isin(self.kind_code, [KINDS.index(kind) for kind in kinds])


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
    known = [_on_grid(spans, step) for spans in (empty_once, answered)]
    # Between two neighbouring cuts everything is known in the same way.
    cuts = np.unique(np.concatenate([*holes, *(edge for spans in known for edge in spans)]))
    pieces_start, pieces_end = cuts[:-1], cuts[1:]
    wanted = _is_in(pieces_start, *holes)
    pieces_start, pieces_end = pieces_start[wanted], pieces_end[wanted]
    code = np.zeros(len(pieces_start), np.int64)
    for number, spans in enumerate(known, start=1):
        code[_is_in(pieces_start, *spans)] = number
    return _joined(pieces_start, pieces_end, code, step)


def _on_grid(spans: Iterable[Span], step: int) -> tuple[Array, Array]:
    """Starts and ends of the candles that open within merged spans."""
    merged = merge_spans((ceil_ms(lower, step), ceil_ms(upper, step)) for lower, upper in spans)
    edges = np.array(merged, np.int64).reshape(-1, 2)
    return edges[:, 0], edges[:, 1]


def _is_in(points: Array, starts: Array, ends: Array) -> Array:
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
