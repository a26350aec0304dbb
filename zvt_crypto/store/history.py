"""The stored rows of one table in one snapshot of its file, out of segments where they are sound."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import merge_spans
from zvt_crypto.core.tables import CHUNK_ROWS, Column, TableSpec
from zvt_crypto.store.counts import Condition, Counted, counts
from zvt_crypto.store.layout import decoded
from zvt_crypto.store.maker import maker
from zvt_crypto.store.segments import ChunkVersion, Segments
from zvt_crypto.store.sqlite import Connection, one_of

#: So few rows come faster out of SQL than out of a segment that must first be opened and checked.
FEW_ROWS: Final = 4_096
#: A chunk that was written to more recently than this is likely to be written to again.
_SETTLED_MS: Final = 60_000
#: Times in one SQL statement.
_TIMES_AT_ONCE: Final = 5_000
#: So many chunks are worth the start of threads; SQLite reads on as many cores as it is asked to.
_SPANS_FOR_THREADS: Final = 3
_READING_THREADS: Final = min(4, os.cpu_count() or 1)


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


class _Span(NamedTuple):
    """A stretch of time within one chunk, ms, half-open."""

    chunk: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _SegmentJob:
    """Makes a segment in a snapshot of its own, if the chunk still is in the state that was read."""

    reopen: Callable[[], AbstractContextManager[Connection]]
    spec: TableSpec
    series: Series
    state: ChunkVersion

    def __call__(self) -> None:
        with self.reopen() as connection:
            history = History(connection, self.spec)
            if self.state in history.chunks(self.series) and not history.has_segment(self.state):
                history.make_segment(self.series, self.state)


class History:
    """Reads the rows of a table of layout ``series``.

    Args:
        connection: An open table, in a snapshot that lasts as long as this object is used.
        spec: The table.
        use_segments: Whether to read segments, and to have those of settled chunks made that are read whole.
        keep_open: Whether segments stay mapped for later queries of this process.
        reopen: Opens a further connection to the table, for reading side by side and for making segments.
    """

    def __init__(
        self,
        connection: Connection,
        spec: TableSpec,
        *,
        use_segments: bool = True,
        keep_open: bool = True,
        reopen: Callable[[], AbstractContextManager[Connection]] | None = None,
    ) -> None:
        self.connection = connection
        self.spec = spec
        self._use_segments = use_segments
        self._keep_open = keep_open
        self._reopen = reopen
        self._segments: Segments | None = None
        self._versions: dict[int, dict[int, tuple[int, int]]] = {}

    def series(
        self, *, entity_ids: Sequence[str] | None = None, codes: Sequence[str] | None = None
    ) -> list[Series]:
        """The entities that have rows, of these ids and codes where given, in the order of their ids."""
        chosen = [one_of(c, v) for c, v in (("entity_id", entity_ids), ("code", codes)) if v is not None]
        scales = "".join(f", {unit}_scale" for unit in self.spec.units)
        edges = ", ".join(
            f"(SELECT {edge}(ts) FROM rows WHERE entity = key) AS {name}"
            for edge, name in (("min", "first"), ("max", "last"))
        )
        where = f" WHERE {' AND '.join(condition for condition, _ in chosen)}" if chosen else ""
        found = self.connection.query(
            f"SELECT key, entity_id, code, name, {edges}{scales} FROM entities{where} ORDER BY entity_id",
            [values for _, values in chosen],
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
        if limit is None:
            return pa.concat_tables(self._all_pieces(series, columns, start, end))
        pieces: list[pa.Table] = []
        count = 0
        spans = self._spans(start, end)
        for span in reversed(spans) if newest else spans:
            piece = self._from_segment(series, columns, span)
            if piece is None:
                piece = self._from_sql(series, columns, span)
                self._ask_for_segment(series, span)
            pieces.append(piece)
            count += pieces[-1].num_rows
            if count >= limit:
                break
        rows = pa.concat_tables(reversed(pieces) if newest else pieces)
        return rows.slice(max(0, count - limit)) if newest else rows.slice(0, limit)

    def at(self, series: Series, columns: Sequence[Column], times: Sequence[int]) -> pa.Table:
        """The rows of these times, ordered; times without a row are left out."""
        wanted = sorted(set(times))
        parts = [
            self._select(series, columns, f"ts IN ({', '.join(map(str, wanted[i : i + _TIMES_AT_ONCE]))})")
            for i in range(0, len(wanted), _TIMES_AT_ONCE)
        ]
        return pa.concat_tables(parts) if parts else self.schema(columns).empty_table()

    def of_keys(self, series: Series, columns: Sequence[Column], wanted: Sequence[str]) -> pa.Table:
        """The rows of these keys (see ``TableSpec.keys``), whatever their time; scans the entity's rows."""
        (key,) = self.spec.keys
        condition, parameter = one_of(decoded(key), wanted)
        found = self.connection.query(
            f"SELECT DISTINCT ts FROM rows r WHERE entity = {series.key:d} AND {condition}", [parameter]
        )
        rows = self.at(series, [*columns, *({key} - set(columns))], found[0].to_pylist())
        chosen = rows.filter(pc.is_in(rows[key.name], value_set=pa.array(wanted, pa.string())))
        return chosen.select(self.schema(columns).names)

    def count(
        self, series: Series, start: int | None, end: int | None, condition: Condition | None = None
    ) -> int:
        """How many rows an entity has in ``[start, end)``; None leaves a side open.

        A chunk's rows are counted once in each of its versions, by whoever asks in this process.

        Args:
            series: Whose rows.
            start: First time, ms.
            end: End of the times, exclusive, ms.
            condition: Only rows that fulfil it.
        """
        start = series.first if start is None else max(start, series.first)
        end = series.last + 1 if end is None else min(end, series.last + 1)
        if start >= end:
            return 0
        total = 0
        unversioned: list[_Span] = []
        for span in self._spans(start, end):
            counted = self._counted(series, span, condition)
            if counted is None:
                unversioned.append(span)
                continue
            known = counts.get(counted)
            if known is None:
                known = self._count_once(series, span, counted)
                counts.put(counted, known)
            total += known
        # What no version tells of holds nothing, unless somebody wrote past the writer and the view.
        pieces = merge_spans((span.start, span.end) for span in unversioned)
        return total + sum(self._count(series, *piece, condition) for piece in pieces)

    def _counted(self, series: Series, span: _Span, condition: Condition | None) -> Counted | None:
        state = self._state(series, span.chunk)
        if state is None:
            return None
        first = span.chunk * self.spec.chunk_ms
        # Where a chunk is counted from its first row or to its last, it does not matter what was asked for.
        begins = span.start <= max(first, series.first)
        ends = span.end >= min(first + self.spec.chunk_ms, series.last + 1)
        return Counted(
            self._uid, state, None if begins else span.start, None if ends else span.end, condition
        )

    def _count_once(self, series: Series, span: _Span, counted: Counted) -> int:
        is_whole = counted.start is None and counted.end is None and counted.condition is None
        if is_whole and self._use_segments:
            told = self.segments.count(counted.state)
            if told is not None:
                return told
        return self._count(series, span.start, span.end, counted.condition)

    def _count(self, series: Series, start: int, end: int, condition: Condition | None) -> int:
        table = "rows r" if condition is None else "rows r JOIN entities e ON e.key = r.entity"
        further, values = ("", ()) if condition is None else (f" AND {condition.sql}", condition.values)
        where = f"r.entity = {series.key:d} AND {_between(start, end)}{further}"
        return int(self.connection.value(f"SELECT count(*) FROM {table} WHERE {where}", values))

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

    @property
    def segments(self) -> Segments:
        """The table's segments."""
        if self._segments is None:
            self._segments = Segments(self.connection.path, self._uid, self.spec.schema)
        return self._segments

    @cached_property
    def _uid(self) -> str:
        """The database's own id."""
        return str(self.connection.value("SELECT value FROM meta WHERE key = 'uid'"))

    def has_segment(self, state: ChunkVersion) -> bool:
        """Whether there is a sound segment of a chunk."""
        return self.segments.load(state, keep=False) is not None

    def make_segment(self, series: Series, state: ChunkVersion) -> tuple[int, int]:
        """Make the segment of a chunk that has enough rows for one; returns its rows and bytes.

        Raises:
            StoreFull: The disk is full.
            ConfigError: The folder cannot be written.
        """
        start = state.chunk * self.spec.chunk_ms
        rows = self._select(series, self.spec.columns, _between(start, start + self.spec.chunk_ms))
        return (rows.num_rows, self.segments.save(state, rows)) if rows.num_rows >= FEW_ROWS else (0, 0)

    def _spans(self, start: int, end: int) -> list[_Span]:
        """A range of time cut where chunks begin."""
        size = self.spec.chunk_ms
        chunks = range(start // size, (end - 1) // size + 1)
        return [_Span(chunk, max(start, chunk * size), min(end, (chunk + 1) * size)) for chunk in chunks]

    def _all_pieces(self, series: Series, columns: Sequence[Column], start: int, end: int) -> list[pa.Table]:
        spans = self._spans(start, end)
        pieces = {span: self._from_segment(series, columns, span) for span in spans}
        missing = [span for span, rows in pieces.items() if rows is None]
        if self._reopen is None or len(missing) < _SPANS_FOR_THREADS:
            pieces |= {span: self._from_sql(series, columns, span) for span in missing}
        else:
            with ThreadPoolExecutor(_READING_THREADS) as threads:
                read = threads.map(lambda span: self._side_by_side(series, columns, span), missing)
                # What changed meanwhile is read as this snapshot has it.
                pieces |= {
                    span: self._from_sql(series, columns, span) if rows is None else rows
                    for span, rows in zip(missing, read, strict=True)
                }
        for span in missing:
            self._ask_for_segment(series, span)
        return list(pieces.values())

    def _from_segment(self, series: Series, columns: Sequence[Column], span: _Span) -> pa.Table | None:
        state = self._state(series, span.chunk)
        if state is None or not self._use_segments:
            return None
        segment = self.segments.load(state, open_new=self._is_large(span), keep=self._keep_open)
        if segment is None:
            return None
        return _cut(segment.select(["ts", *(c.name for c in columns)]), span.start, span.end)

    def _from_sql(self, series: Series, columns: Sequence[Column], span: _Span) -> pa.Table:
        return self._select(series, columns, _between(span.start, span.end))

    def _side_by_side(self, series: Series, columns: Sequence[Column], span: _Span) -> pa.Table | None:
        """The rows over a further connection; None where it may see others than this snapshot."""
        assert self._reopen is not None
        with self._reopen() as connection:
            other = History(connection, self.spec)
            state = self._state(series, span.chunk)
            if state is None or other._state(series, span.chunk) != state:
                return None
            return other._from_sql(series, columns, span)

    def _ask_for_segment(self, series: Series, span: _Span) -> None:
        """Have the segment of a chunk made that was read whole out of SQL, if it has come to rest."""
        if not self._use_segments or self._reopen is None or not self._is_large(span):
            return
        first = max(span.chunk * self.spec.chunk_ms, series.first)
        last = min((span.chunk + 1) * self.spec.chunk_ms - 1, series.last)
        state = self._state(series, span.chunk)
        if state is None or span.start > first or span.end <= last:
            return
        written_at = self._chunk_versions(series)[span.chunk][1]
        if time.time() * 1000 - written_at >= _SETTLED_MS:
            job = _SegmentJob(self._reopen, self.spec, series, state)
            maker.ask((self.connection.path, state), job)

    def _is_large(self, span: _Span) -> bool:
        """Whether a span can have more than a few rows."""
        return (span.end - span.start) * CHUNK_ROWS // self.spec.chunk_ms >= FEW_ROWS

    def _state(self, series: Series, chunk: int) -> ChunkVersion | None:
        found = self._chunk_versions(series).get(chunk)
        return None if found is None else ChunkVersion(series.key, chunk, found[0])

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
        names = ", ".join(["ts", *(decoded(c) if c.is_key else c.name for c in columns)])
        answer = self.connection.query(f"SELECT {names} FROM rows r{where}")
        answer = answer.rename_columns(["ts", *(c.name for c in columns)])
        if any(_is_mixed(answer[c.name], series, c) for c in columns):
            # Only SQL can still tell which of these are integers over the scale.
            values = ", ".join(["ts", *(f"{decoded(c)} AS {c.name}" for c in columns)])
            answer = self.connection.query(
                f"SELECT {values} FROM rows r JOIN entities e ON e.key = r.entity{where}"
            )
        values_of = [_value(answer[c.name], series, c, self.spec.schema.field(c.name).type) for c in columns]
        rows = pa.table([_compact(answer["ts"].cast(pa.int64())), *values_of], schema=self.schema(columns))
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


def _compact(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """A copy in buffers of its size: those of the driver are several times larger than what is in them."""
    return pa.chunked_array([pa.concat_arrays([*values.chunks, pa.array([], values.type)])])


def _value(values: pa.ChunkedArray, series: Series, column: Column, kind: pa.DataType) -> pa.ChunkedArray:
    if values.null_count == len(values):
        return pa.chunked_array([pa.nulls(len(values), kind)])
    scale = _scale(series, column)
    if scale is None or not pa.types.is_integer(values.type):
        return _compact(values.cast(kind))
    return pa.chunked_array([pa.array(values.to_numpy() / scale, from_pandas=values.null_count > 0)])
