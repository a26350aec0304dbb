"""From stored rows to the columns that users see: ids, names, times and what follows from other columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import DAY_MS
from zvt_crypto.core.tables import ARROW_TYPE, Column, Derived, TableSpec
from zvt_crypto.store.history import Series

_TIME: Final = pa.timestamp("ms")
_HEADS: Final = {
    "series": {
        "id": pa.string(),
        "entity_id": pa.string(),
        "timestamp": _TIME,
        "provider": pa.string(),
        "code": pa.string(),
        "name": pa.string(),
        "level": pa.string(),
    },
    "entities": {
        "id": pa.string(),
        "entity_id": pa.string(),
        "timestamp": _TIME,
        "entity_type": pa.string(),
        "exchange": pa.string(),
        "code": pa.string(),
        "name": pa.string(),
        "list_date": _TIME,
        "end_date": _TIME,
    },
}
#: Rows of which one array can hold the texts: Arrow counts their bytes in 32 bits.
_ROWS_AT_ONCE: Final = 1 << 23


class Rows(NamedTuple):
    """Stored rows and whose they are.

    Attributes:
        table: ``ts`` and stored columns; further ones are passed on as they are.
        owners: The entities in it.
        owner: Index into ``owners`` of each row, None where all rows have the one owner.
    """

    table: pa.Table
    owners: Sequence[Series]
    owner: npt.NDArray[np.int32] | None


def public_schema(spec: TableSpec) -> pa.Schema:
    """Columns of a table as users see them, with their Arrow types; times are naive UTC milliseconds."""
    fields = [pa.field(name, kind) for name, kind in _HEADS[spec.layout].items()]
    fields += [pa.field(c.name, _TIME if c.type == "time" else ARROW_TYPE[c.type]) for c in spec.shown]
    return pa.schema(fields)


def stored_columns(spec: TableSpec, names: Sequence[str]) -> list[Column]:
    """The stored columns from which the public columns of these names are made."""
    needed = set(names).union(*(d.needs for d in spec.derived if d.name in names))
    if "id" in names:
        needed |= {column.name for column in spec.keys}
    return [column for column in spec.columns if column.name in needed]


def answer(spec: TableSpec, provider: str, level: str | None, schema: pa.Schema, rows: Rows) -> pa.Table:
    """The public columns of ``schema`` for stored rows.

    Args:
        spec: The table.
        provider: The data source.
        level: Level of the rows.
        schema: Fields of the public schema, and of the rows' own further columns.
        rows: At least the stored columns that ``stored_columns`` names.
    """
    if rows.table.num_rows > _ROWS_AT_ONCE:
        return pa.concat_tables(
            answer(spec, provider, level, schema, _slice(rows, first))
            for first in range(0, rows.table.num_rows, _ROWS_AT_ONCE)
        )
    made = _Columns(spec, provider, level, rows)
    return pa.table([made.column(name) for name in schema.names], schema=schema)


def _slice(rows: Rows, first: int) -> Rows:
    owner = None if rows.owner is None else rows.owner[first : first + _ROWS_AT_ONCE]
    return Rows(rows.table.slice(first, _ROWS_AT_ONCE), rows.owners, owner)


class _Columns:
    """Makes public columns of some rows, one at a time."""

    def __init__(self, spec: TableSpec, provider: str, level: str | None, rows: Rows) -> None:
        self._rows = rows
        self._derived: dict[str, Derived] = {d.name: d for d in spec.derived}
        self._same: dict[str, str | None] = {"provider": provider, "level": level}
        self._keys = [c.name for c in spec.keys]
        self._times = {c.name for c in spec.columns if c.type == "time"}

    def column(self, name: str) -> Any:
        if name in self._same:
            return pa.repeat(pa.scalar(self._same[name], pa.string()), self._rows.table.num_rows)
        if name in ("entity_id", "code", "name"):
            return self._of_owner(name)
        if name == "id" and self._keys:
            return pc.binary_join_element_wise(
                self._of_owner("entity_id"), *(self._rows.table[key] for key in self._keys), "_"
            )
        if name == "id":
            times = time_texts(self._rows.table["ts"].to_numpy())
            return pc.binary_join_element_wise(self._of_owner("entity_id"), times, "_")
        if name == "timestamp":
            return self._rows.table["ts"].cast(_TIME)
        if name in self._derived:
            return self._compute(self._derived[name])
        values = self._rows.table[name]
        return values.cast(_TIME) if name in self._times else values

    def _of_owner(self, name: str) -> pa.Array:
        texts = pa.array([getattr(owner, name) for owner in self._rows.owners], pa.string())
        if self._rows.owner is None:
            return pa.repeat(texts[0], self._rows.table.num_rows)
        return texts.take(pa.array(self._rows.owner))

    def _compute(self, derived: Derived) -> pa.Array:
        kind = ARROW_TYPE[derived.type]
        if derived.compute is None:
            return pa.nulls(self._rows.table.num_rows, kind)
        # numpy reads a NULL as NaN, and from_pandas makes NULLs of these again.
        values = (self._rows.table[name].to_numpy() for name in derived.needs)
        return pa.array(derived.compute(*values), from_pandas=True).cast(kind)


def iso_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times as ISO 8601 with ``Z``, NULL where there is none; fractions only where any time has one."""
    whole = pc.all(pc.equal(pc.millisecond(column), 0)).as_py() is not False
    times = column.cast(pa.timestamp("s" if whole else "ms", column.type.tz))
    # A column of NULLs has no type of its own.
    return pc.strftime(times, format="%Y-%m-%dT%H:%M:%SZ").cast(pa.string())


def time_texts(ts: npt.NDArray[np.int64]) -> pa.Array:
    """ISO 8601 texts with ``Z`` of epoch milliseconds, as ``levels.iso`` writes them."""
    fraction = ts % 1000
    if not fraction.any():
        return _texts(_seconds_texts(ts, b"Z"))
    whole = _texts(_seconds_texts(ts, b"Z"))
    fine = _seconds_texts(ts, b".000Z")
    for place, divisor in ((20, 100), (21, 10), (22, 1)):
        fine[:, place] += (fraction // divisor % 10).astype(np.uint8)
    return pc.if_else(pa.array(fraction == 0), whole, _texts(fine))


def _seconds_texts(ts: npt.NDArray[np.int64], ending: bytes) -> npt.NDArray[np.uint8]:
    """``YYYY-MM-DDTHH:MM:SS`` and the ending, one row of bytes a time."""
    texts = np.empty((len(ts), 19 + len(ending)), np.uint8)
    texts[:] = np.frombuffer(b"0000-00-00T00:00:00" + ending, np.uint8)
    day = ts // DAY_MS
    # Rows of a day mostly follow each other: one text for each run of them.
    begins = np.flatnonzero(np.append(True, day[1:] != day[:-1])) if len(ts) else np.empty(0, np.int64)
    days = np.datetime_as_string(day[begins].astype("datetime64[D]")).astype("S10")
    bytes_of_day = days.view(np.uint8).reshape(-1, 10)
    texts[:, :10] = np.repeat(bytes_of_day, np.diff(np.append(begins, len(ts))), axis=0)
    second = (ts % DAY_MS // 1000).astype(np.int32)
    for place, divisor, base in (
        (11, 36_000, 10),
        (12, 3_600, 10),
        (14, 600, 6),
        (15, 60, 10),
        (17, 10, 6),
        (18, 1, 10),
    ):
        texts[:, place] += (second // divisor % base).astype(np.uint8)
    return texts


def _texts(rows: npt.NDArray[np.uint8]) -> pa.Array:
    count, width = rows.shape
    offsets = np.arange(0, (count + 1) * width, width, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(rows))
