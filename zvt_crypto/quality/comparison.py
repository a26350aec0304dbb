"""Two versions of the same rows against each other, column by column. Pure and columnar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import iso
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.quality.gaps import Array

#: Differences that are kept one by one.
_EXAMPLES: Final = 20


@dataclass(slots=True)
class ColumnDifference:
    """Values of one column that differ.

    Attributes:
        rows: How many.
        worst: Largest difference relative to the larger of both values; None where values are no numbers.
    """

    rows: int = 0
    worst: float | None = None


@dataclass(slots=True)
class Comparison:
    """How recorded rows differ from others of the same times.

    Attributes:
        compared: Rows that are in both.
        changed: Rows of them that differ in any column.
        vanished: Rows that are recorded only.
        lacking: Rows that are not recorded.
        columns: The columns that differ.
        examples: The first differences: ``time``, ``change`` (changed, vanished or lacking), the key of rows
            that have one, and for changed values ``column``, ``recorded``, ``other`` and
            ``relative_difference``.
    """

    compared: int = 0
    changed: int = 0
    vanished: int = 0
    lacking: int = 0
    columns: dict[str, ColumnDifference] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def differing(self) -> int:
        """Rows that are not the same in both."""
        return self.changed + self.vanished + self.lacking

    @property
    def worst(self) -> float | None:
        """Largest relative difference of any column."""
        known = [column.worst for column in self.columns.values() if column.worst is not None]
        return max(known, default=None)

    def add(self, other: Comparison) -> None:
        """Take in the result of comparing other times."""
        for name in ("compared", "changed", "vanished", "lacking"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name, column in other.columns.items():
            mine = self.columns.setdefault(name, ColumnDifference())
            mine.rows += column.rows
            known = [worst for worst in (mine.worst, column.worst) if worst is not None]
            mine.worst = max(known, default=None)
        self.examples = sorted([*self.examples, *other.examples], key=lambda one: str(one["time"]))[
            :_EXAMPLES
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "compared": self.compared,
            "changed": self.changed,
            "vanished": self.vanished,
            "lacking": self.lacking,
            "worst_relative_difference": self.worst,
            "columns": {
                name: {"rows": column.rows, "worst_relative_difference": column.worst}
                for name, column in self.columns.items()
            },
            "examples": self.examples,
        }


@dataclass(frozen=True, eq=False, slots=True)
class Compared:
    """A comparison, and the rows of the other side that are not recorded as they are."""

    result: Comparison
    differing: pa.Table


def compare(
    spec: TableSpec,
    recorded: pa.Table,
    other: pa.Table,
    *,
    columns: Sequence[str] | None = None,
    tolerance: float = 0.0,
) -> Compared:
    """Compare rows of one entity, matched by time and the table's keys, which must be unique in each.

    A value that the other side does not give (NULL) says nothing about the recorded one.

    Args:
        spec: The table.
        recorded: Rows in its schema.
        other: The same columns, those compared at least.
        columns: Which to compare; by default all but the keys.
        tolerance: Relative difference up to which numbers are the same.
    """
    names = columns or [column.name for column in spec.columns if not column.is_key]
    mine, theirs = _matched(spec, recorded, other)
    result = Comparison(len(mine), 0, recorded.num_rows - len(mine), other.num_rows - len(theirs))
    differs = np.zeros(len(mine), bool)
    for name in names:
        pair = recorded[name].take(pa.array(mine)), other[name].take(pa.array(theirs))
        is_other, relative = _differences(*pair, tolerance)
        if is_other.any():
            worst = None if relative is None else float(relative[is_other].max())
            result.columns[name] = ColumnDifference(int(is_other.sum()), worst)
            differs |= is_other
            at = np.flatnonzero(is_other)[:_EXAMPLES]
            result.examples += _changed(spec, recorded, name, mine[at], pair, at, relative)
    result.changed = int(differs.sum())
    gone = np.setdiff1d(np.arange(recorded.num_rows), mine)
    new = np.setdiff1d(np.arange(other.num_rows), theirs)
    result.examples += _alone(spec, recorded, gone, "vanished") + _alone(spec, other, new, "lacking")
    result.examples = sorted(result.examples, key=lambda one: str(one["time"]))[:_EXAMPLES]
    chosen = np.sort(np.concatenate([theirs[differs], new]))
    return Compared(result, other.take(pa.array(chosen, pa.int64())))


def _matched(spec: TableSpec, left: pa.Table, right: pa.Table) -> tuple[Array, Array]:
    """Positions of the rows that are in both tables."""
    ids = np.concatenate([table["ts"].to_numpy() for table in (left, right)])
    for key in spec.keys:
        both = pa.chunked_array([*left[key.name].chunks, *right[key.name].chunks], pa.string())
        codes = both.combine_chunks().dictionary_encode().indices.to_numpy()
        _, ids = np.unique(np.column_stack([ids, codes]), axis=0, return_inverse=True)
        ids = ids.reshape(-1)
    _, mine, theirs = np.intersect1d(
        ids[: left.num_rows], ids[left.num_rows :], assume_unique=True, return_indices=True
    )
    return mine, theirs


def _differences(
    recorded: pa.ChunkedArray, other: pa.ChunkedArray, tolerance: float
) -> tuple[Array, Array | None]:
    """Which values differ, and by how much relative to the larger one; None for what is no number."""
    if pa.types.is_string(recorded.type):
        same = pc.fill_null(pc.equal(recorded, other), False)
        return np.asarray(pc.and_(pc.invert(same), pc.is_valid(other))), None
    old, new = (np.asarray(column.cast(pa.float64()).to_numpy(), np.float64) for column in (recorded, other))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.abs(old - new) / np.maximum(np.abs(old), np.abs(new))
    relative = np.where(old == new, 0.0, relative)
    # A value that is recorded as NULL and is known to the other side is wholly different.
    relative = np.where(np.isnan(old), 1.0, relative)
    relative = np.where(np.isnan(new), 0.0, relative)
    return relative > tolerance, relative


def _changed(
    spec: TableSpec,
    recorded: pa.Table,
    name: str,
    rows: Array,
    pair: tuple[pa.ChunkedArray, pa.ChunkedArray],
    at: Array,
    relative: Array | None,
) -> list[dict[str, Any]]:
    old, new = (column.take(pa.array(at)).to_pylist() for column in pair)
    by = [None] * len(at) if relative is None else relative[at].tolist()
    heads = _heads(spec, recorded, rows, "changed")
    return [
        {**head, "column": name, "recorded": a, "other": b, "relative_difference": difference}
        for head, a, b, difference in zip(heads, old, new, by, strict=True)
    ]


def _alone(spec: TableSpec, table: pa.Table, rows: Array, change: str) -> list[dict[str, Any]]:
    return _heads(spec, table, rows[:_EXAMPLES], change)


def _heads(spec: TableSpec, table: pa.Table, rows: Array, change: str) -> list[dict[str, Any]]:
    chosen = table.select(["ts", *(key.name for key in spec.keys)]).take(pa.array(rows, pa.int64()))
    heads = []
    for row in chosen.to_pylist():
        ts = row.pop("ts")
        heads.append({"time": iso(ts), "change": change, **row})
    return heads
