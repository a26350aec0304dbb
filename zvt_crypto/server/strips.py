"""The coverage of a recorded series as a strip: a few pieces of time, each of one kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from zvt_crypto.core.levels import subtract_spans
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.quality.gaps import ABSENT, KINDS, UNCONFIRMED, UNRECORDED, Array, Gaps, marked
from zvt_crypto.server.census import SeriesCensus
from zvt_crypto.store import coverage
from zvt_crypto.store.sqlite import Connection

RECORDED: Final = "recorded"
#: What a piece can be; of those that fall into one place of a coarse strip, the last one here is shown.
STRIP_KINDS: Final = (RECORDED, ABSENT, UNCONFIRMED, UNRECORDED)
#: Pieces of a strip at most: more are not told apart on a screen.
MOST_PIECES: Final = 200


@dataclass(frozen=True, eq=False, slots=True)
class Strip:
    """One symbol's coverage; equal-length arrays, by time.

    Attributes:
        start: Epoch ms.
        end: Epoch ms, exclusive.
        kind: Position in ``STRIP_KINDS``.
        share: How much of the piece's time is recorded; where pieces show many gaps, between 0 and 1.
        gaps: Stretches that are missing, however many pieces show them.
        missing: Candles that are missing at all; None for a table without a level.
        to_record: Those of them that the exchange was not asked for, or not often enough.
    """

    start: Array
    end: Array
    kind: Array
    share: Array
    gaps: int
    missing: int | None
    to_record: int | None


def strip_of(connection: Connection, spec: TableSpec, series: SeriesCensus) -> Strip | None:
    """The strip of a series from its first to its last row; None where it has no rows or is not counted."""
    if series.first is None or series.last is None or series.counted is None:
        return None
    start, end = series.first, series.last + spec.step
    if spec.level is None:
        pieces = _by_ledger(connection, series, start, end)
        holes = int((pieces[2] != 0).sum())
        return Strip(*coarse(*pieces, start, end), holes, None, None)
    runs = series.counted
    nothing_known = np.full(len(runs.starts[1:]), KINDS.index(UNRECORDED))
    gaps = _classified(connection, series, Gaps(runs.ends[:-1], runs.starts[1:], nothing_known, spec.step))
    kinds = np.array([STRIP_KINDS.index(kind) for kind in KINDS[: KINDS.index(ABSENT) + 1]])
    pieces = _in_order(
        (runs.starts, runs.ends, np.zeros(len(runs.starts), np.int64)),
        (gaps.start, gaps.end, kinds[gaps.kind_code]),
    )
    return Strip(
        *coarse(*pieces, start, end),
        len(gaps),
        int(gaps.missing.sum()),
        gaps.missing_in(UNRECORDED, UNCONFIRMED),
    )


def coarse(
    start: Array, end: Array, kind: Array, lower: int, upper: int, most: int = MOST_PIECES
) -> tuple[Array, Array, Array, Array]:
    """At most so many pieces of ``[lower, upper)``, and the share of each that is recorded.

    A hole is shown however short it is: its piece is of the hole's kind.

    Args:
        start: Where pieces begin, epoch ms; they follow each other without a break.
        end: Where they end, exclusive.
        kind: Positions in ``STRIP_KINDS``.
        lower: Where the strip begins.
        upper: Where it ends.
        most: How many pieces.
    """
    if len(start) <= most:
        return start, end, kind, (kind == 0).astype(float)
    edges = np.linspace(lower, upper, most + 1).astype(np.int64)
    seen = np.zeros(most, np.int64)
    for position in range(1, len(STRIP_KINDS)):
        chosen = kind == position
        first = np.searchsorted(edges, start[chosen], side="right") - 1
        behind = np.searchsorted(edges, end[chosen], side="left")
        change = np.bincount(first, minlength=most + 1) - np.bincount(behind, minlength=most + 1)
        seen[np.cumsum(change)[:most] > 0] = position
    recorded = np.append(0, np.cumsum(np.where(kind == 0, end - start, 0)))
    share = np.diff(np.interp(edges, np.append(start, upper), recorded)) / np.diff(edges)
    share = np.where(seen == 0, 1.0, np.round(share, 3))
    # Neighbours that look alike are one piece.
    is_first = np.append(True, (seen[1:] != seen[:-1]) | (share[1:] != share[:-1]))
    firsts = np.flatnonzero(is_first)
    return edges[firsts], edges[np.append(firsts[1:], most)], seen[firsts], share[firsts]


def _classified(connection: Connection, series: SeriesCensus, gaps: Gaps) -> Gaps:
    """The gaps with what the ledger tells about them."""
    if not len(gaps):
        return gaps
    assert isinstance(gaps.step, int)
    lower, upper = int(gaps.start[0]), int(gaps.end[-1])
    removed = connection.query(
        f"SELECT ts FROM removed WHERE entity = {series.key:d} AND ts >= {lower:d} AND ts < {upper:d}"
    )["ts"].to_pylist()
    answered = coverage.covered(connection, series.key)
    if removed:
        answered = subtract_spans(answered, [(ts, ts + gaps.step) for ts in removed])
    known = ((UNCONFIRMED, coverage.covered(connection, series.key, coverage.EMPTY)), (ABSENT, answered))
    for kind, spans in known:
        edges = np.array(spans, np.int64).reshape(-1, 2)
        if len(edges):
            gaps = marked(gaps, edges[:, 0], edges[:, 1], kind)
    return gaps


def _by_ledger(
    connection: Connection, series: SeriesCensus, start: int, end: int
) -> tuple[Array, Array, Array]:
    """Pieces of a table whose rows have no fixed distance: only the ledger tells what is missing."""
    answered = coverage.covered(connection, series.key)
    if not answered:
        return np.array([start]), np.array([end]), np.array([0])
    unknown = np.array(subtract_spans([(start, end)], answered), np.int64).reshape(-1, 2)
    known = np.array(subtract_spans([(start, end)], unknown.tolist()), np.int64).reshape(-1, 2)
    missing = np.full(len(unknown), STRIP_KINDS.index(UNRECORDED))
    return _in_order(
        (known[:, 0], known[:, 1], np.zeros(len(known), np.int64)), (unknown[:, 0], unknown[:, 1], missing)
    )


def _in_order(
    first: tuple[Array, Array, Array], second: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    start, end, kind = (np.concatenate(pair) for pair in zip(first, second, strict=True))
    order = np.argsort(start, kind="stable")
    return start[order], end[order], kind[order]
