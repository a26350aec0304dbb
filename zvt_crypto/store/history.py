"""The stored rows of one table in one snapshot of its file, out of segments where they are sound."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import orjson
import pyarrow as pa

from zvt_crypto.core.errors import ConfigError, StoreFull
from zvt_crypto.core.tables import CHUNK_ROWS, Column, TableSpec
from zvt_crypto.store.layout import decoded
from zvt_crypto.store.segments import ChunkVersion, Segments
from zvt_crypto.store.sqlite import Connection

logger = logging.getLogger(__name__)

#: So few rows come faster out of SQL than out of a segment that must first be opened and checked.
FEW_ROWS: Final = 4_096
#: A chunk that was written to more recently than this is likely to be written to again.
_SETTLED_MS: Final = 60_000
#: Times in one SQL statement.
_TIMES_AT_ONCE: Final = 5_000


@dataclass(frozen=True, slots=True)
class Series:
    """An entity that has rows.

    Attributes:
        key: What stands for it in the rows.
        entity_id: Its id.
        code: Its code.
        name: Its name.
        scales: The decimal scale of each unit, None where values are kept as they are.
        first: Time of its first row, ms.
        last: Time of its last row, ms.
    """

    key: int
    entity_id: str
    code: str
    name: str | None
    scales: dict[str, float | None]
    first: int
    last: int


class History:
    """Reads the rows of a table of layout ``series``.

    Args:
        connection: An open table, in a snapshot that lasts as long as this object is used.
        spec: The table.
        use_segments: Whether to read segments, and to make those of settled chunks that are read whole.
    """

    def __init__(self, connection: Connection, spec: TableSpec, *, use_segments: bool = True) -> None:
        self.connection = connection
        self.spec = spec
        self._use_segments = use_segments
        self._segments: Segments | None = None
        self._versions: dict[int, dict[int, tuple[int, int]]] = {}

    def series(
        self, *, entity_ids: Sequence[str] | None = None, codes: Sequence[str] | None = None
    ) -> list[Series]:
        """The entities that have rows, of these ids and codes where given, in the order of their ids."""
        conditions, parameters = [], []
        for column, values in (("entity_id", entity_ids), ("code", codes)):
            if values is not None:
                conditions.append(f"{column} IN (SELECT value FROM json_each(?))")
                parameters.append(orjson.dumps(values).decode())
        scales = "".join(f", {unit}_scale" for unit in self.spec.units)
        edges = ", ".join(
            f"(SELECT {edge}(ts) FROM rows WHERE entity = key) AS {name}"
            for edge, name in (("min", "first"), ("max", "last"))
        )
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        found = self.connection.query(
            f"SELECT key, entity_id, code, name, {edges}{scales} FROM entities{where} ORDER BY entity_id",
            parameters,
        )
        return [
            Series(
                **{name: row[name] for name in ("key", "entity_id", "code", "name", "first", "last")},
                scales={unit: row[f"{unit}_scale"] for unit in self.spec.units},
            )
            for row in found.to_pylist()
            if row["first"] is not None
        ]

    def rows(
        self,
        series: Series,
        columns: Sequence[Column],
        start: int,
        end: int,
        *,
        limit: int | None = None,
        newest: bool = False,
    ) -> pa.Table:
        """Rows in ``[start, end)``: ``ts`` and the columns in the types of the table's schema, by time.

        Args:
            series: Whose rows.
            columns: Which of the stored columns.
            start: First time, ms.
            end: End of the times, exclusive, ms.
            limit: At most so many rows.
            newest: Whether the limit keeps the last rows rather than the first.
        """
        start, end = max(start, series.first), min(end, series.last + 1)
        if start >= end:
            return self.schema(columns).empty_table()
        if limit is not None and limit <= FEW_ROWS:
            return self._select(series, columns, _between(start, end), limit=limit, newest=newest)
        pieces: list[pa.Table] = []
        count = 0
        for piece in self._pieces(series, columns, start, end, newest=newest):
            pieces.append(piece)
            count += piece.num_rows
            if limit is not None and count >= limit:
                break
        rows = pa.concat_tables(reversed(pieces) if newest else pieces)
        if limit is None or count <= limit:
            return rows
        return rows.slice(count - limit) if newest else rows.slice(0, limit)

    def at(self, series: Series, columns: Sequence[Column], times: Sequence[int]) -> pa.Table:
        """The rows of these times, ordered; times without a row are left out."""
        wanted = sorted(set(times))
        parts = [
            self._select(series, columns, f"ts IN ({', '.join(map(str, wanted[i : i + _TIMES_AT_ONCE]))})")
            for i in range(0, len(wanted), _TIMES_AT_ONCE)
        ]
        return pa.concat_tables(parts) if parts else self.schema(columns).empty_table()

    def next_time(self, series: Series, start: int) -> int | None:
        """Time of the first row at or after ``start``."""
        found = self.connection.value(
            f"SELECT min(ts) FROM rows WHERE entity = {series.key:d} AND ts >= {start:d}"
        )
        return None if found is None else int(found)

    def previous_time(self, series: Series, end: int) -> int | None:
        """Time of the last row before ``end``."""
        found = self.connection.value(
            f"SELECT max(ts) FROM rows WHERE entity = {series.key:d} AND ts < {end:d}"
        )
        return None if found is None else int(found)

    def chunks(self, series: Series) -> list[ChunkVersion]:
        """The chunks of an entity that were ever written to, with their versions."""
        return [
            ChunkVersion(series.key, chunk, version)
            for chunk, (version, _) in sorted(self._chunk_versions(series).items())
        ]

    def chunk_rows(self, series: Series, chunk: int) -> pa.Table:
        """All rows of a chunk, all stored columns, straight from SQL."""
        start = chunk * self.spec.chunk_ms
        return self._select(series, self.spec.columns, _between(start, start + self.spec.chunk_ms))

    @property
    def segments(self) -> Segments:
        """The table's segments."""
        if self._segments is None:
            uid = self.connection.value("SELECT value FROM meta WHERE key = 'uid'")
            self._segments = Segments(self.connection.path, str(uid), self.spec.schema)
        return self._segments

    def _pieces(
        self, series: Series, columns: Sequence[Column], start: int, end: int, *, newest: bool
    ) -> Iterator[pa.Table]:
        """The rows chunk by chunk; backwards, the rows of each still by time, for ``newest``."""
        size = self.spec.chunk_ms
        chunks = range(start // size, (end - 1) // size + 1)
        for chunk in reversed(chunks) if newest else chunks:
            yield self._piece(series, columns, chunk, max(start, chunk * size), min(end, (chunk + 1) * size))

    def _piece(self, series: Series, columns: Sequence[Column], chunk: int, start: int, end: int) -> pa.Table:
        version, written_at = self._chunk_versions(series).get(chunk, (None, 0))
        if version is None or not self._use_segments:
            return self._select(series, columns, _between(start, end))
        state = ChunkVersion(series.key, chunk, version)
        size = self.spec.chunk_ms
        is_large = (end - start) * CHUNK_ROWS // size >= FEW_ROWS
        segment = self.segments.load(state, open_new=is_large)
        if segment is not None:
            return _cut(segment.select(["ts", *(c.name for c in columns)]), start, end)
        is_whole = start <= max(chunk * size, series.first) and end > min((chunk + 1) * size - 1, series.last)
        if not is_whole or not is_large or time.time() * 1000 - written_at < _SETTLED_MS:
            return self._select(series, columns, _between(start, end))
        rows = self._select(series, self.spec.columns, _between(start, end))
        if rows.num_rows >= FEW_ROWS:
            self._save(state, rows)
        return rows.select(["ts", *(c.name for c in columns)])

    def _save(self, state: ChunkVersion, rows: pa.Table) -> None:
        try:
            self.segments.save(state, rows)
        except (StoreFull, ConfigError) as error:
            # The answer is complete without; the next query tries again.
            logger.warning("no segment was made: %s", error.message)
            self._use_segments = False

    def _chunk_versions(self, series: Series) -> dict[int, tuple[int, int]]:
        known = self._versions.get(series.key)
        if known is None:
            found = self.connection.query(
                f"SELECT chunk, version, written_at FROM chunks WHERE entity = {series.key:d}"
            )
            chunks, *states = (found.column(i).to_pylist() for i in range(3))
            known = self._versions[series.key] = dict(zip(chunks, zip(*states, strict=True), strict=True))
        return known

    def _select(
        self,
        series: Series,
        columns: Sequence[Column],
        condition: str,
        *,
        limit: int | None = None,
        newest: bool = False,
    ) -> pa.Table:
        tail = f" ORDER BY ts{' DESC' if newest else ''}{'' if limit is None else f' LIMIT {limit:d}'}"
        where = f" WHERE entity = {series.key:d} AND {condition}{tail}"
        names = ", ".join(["ts", *(c.name for c in columns)])
        answer = self.connection.query(f"SELECT {names} FROM rows{where}")
        if any(_is_mixed(answer[c.name], series, c) for c in columns):
            # Only SQL can still tell which of these are integers over the scale.
            values = ", ".join(["ts", *(f"{decoded(c)} AS {c.name}" for c in columns)])
            answer = self.connection.query(
                f"SELECT {values} FROM rows r JOIN entities e ON e.key = r.entity{where}"
            )
        values_of = [_value(answer[c.name], series, c, self.spec.schema.field(c.name).type) for c in columns]
        rows = pa.table([answer["ts"].cast(pa.int64()), *values_of], schema=self.schema(columns))
        return rows.take(pa.array(np.arange(rows.num_rows)[::-1])) if newest else rows

    def schema(self, columns: Sequence[Column]) -> pa.Schema:
        """Schema of ``rows`` of these columns."""
        schema = self.spec.schema
        return pa.schema([schema.field("ts"), *(schema.field(c.name) for c in columns)])


def _between(start: int, end: int) -> str:
    return f"ts >= {start:d} AND ts < {end:d}"


def _cut(rows: pa.Table, start: int, end: int) -> pa.Table:
    ts = rows["ts"].to_numpy()
    first, last = np.searchsorted(ts, [start, end])
    return rows.slice(first, last - first)


def _scale(series: Series, column: Column) -> float | None:
    return series.scales.get(column.unit) if column.unit else None


def _is_mixed(values: pa.ChunkedArray, series: Series, column: Column) -> bool:
    """Whether an answer has values as they are beside scaled integers: the driver makes floats of both."""
    return _scale(series, column) is not None and not pa.types.is_integer(values.type)


def _value(values: pa.ChunkedArray, series: Series, column: Column, kind: pa.DataType) -> pa.ChunkedArray:
    if values.null_count == len(values):
        return pa.chunked_array([pa.nulls(len(values), kind)])
    scale = _scale(series, column)
    if scale is None or not pa.types.is_integer(values.type):
        return values.cast(kind)
    return pa.chunked_array([pa.array(values.to_numpy() / scale, from_pandas=values.null_count > 0)])
