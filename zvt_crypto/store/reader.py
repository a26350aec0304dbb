"""The one read path: a frozen query in, one batch out, or a stream of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from zvt_crypto.core.errors import InvalidArgument, unknown_value
from zvt_crypto.core.levels import floor_ms
from zvt_crypto.core.symbols import split_key_id, split_row_id
from zvt_crypto.core.tables import CHUNK_ROWS, TableSpec
from zvt_crypto.store.answer import Rows, answer, public_schema, stored_columns
from zvt_crypto.store.engine import Store
from zvt_crypto.store.grid import Grid
from zvt_crypto.store.history import History, Series
from zvt_crypto.store.sqlite import Connection, one_of

__all__ = ["Cursor", "Query", "answer_schema", "cursor_of", "public_schema", "read", "stream", "typed"]

#: Rows of a batch of a stream, about.
STREAM_ROWS: Final = 1 << 18
#: What an entity without a listing date has for a time in cursors; it comes before all others.
_NO_TIME: Final = -1


class Cursor(NamedTuple):
    """The last row of a page: the next page begins after it, however many rows arrive meanwhile.

    ``key`` is that of tables which have one (see ``TableSpec.keys``).
    """

    timestamp: int
    entity_id: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """What to read.

    Attributes:
        spec: The table.
        provider: The data source.
        entity_ids: Only these entities; None means all.
        codes: Only these codes; None means all.
        ids: Only these rows; None means all.
        start: First time, epoch ms UTC, inclusive.
        end: Last time, epoch ms UTC, exclusive.
        columns: Columns in the order wanted; None means all.
        order: By time, then entity.
        limit: At most so many rows, the first in the order.
        after: Only rows that follow this one in the order.
        resample: Level of coarser candles to make of the table's.
        unfinished: What becomes of a coarser candle that is not over at ``end``, or where the recorded rows
            end: it is left out, or stays and the column ``is_finished`` tells it from the others.
        fill: With ``ffill``, times of the level's grid without a row get one with the last close, and
            ``is_filled`` tells it from the others.
    """

    spec: TableSpec
    provider: str
    entity_ids: tuple[str, ...] | None = None
    codes: tuple[str, ...] | None = None
    ids: tuple[str, ...] | None = None
    start: int | None = None
    end: int | None = None
    columns: tuple[str, ...] | None = None
    order: Literal["asc", "desc"] = "asc"
    limit: int | None = None
    after: Cursor | None = None
    resample: str | None = None
    unfinished: Literal["drop", "mark"] = "drop"
    fill: Literal["none", "ffill"] = "none"

    def __post_init__(self) -> None:
        known = public_schema(self.spec).names
        for name in self.columns or ():
            if name not in known:
                raise unknown_value(f"column of {self.spec.class_name}", name, known)
        choices = {"order": ("asc", "desc"), "unfinished": ("drop", "mark"), "fill": ("none", "ffill")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise unknown_value(name, getattr(self, name), allowed)
        if self.limit is not None and self.limit < 1:
            raise InvalidArgument(f"limit {self.limit} is not positive", suggestions=("give 1 or more",))
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise InvalidArgument("start_timestamp is after end_timestamp", suggestions=("swap them",))
        if self.grid is not None and self.ids is not None:
            raise InvalidArgument(
                "rows chosen by their ids cannot be resampled or filled",
                suggestions=("choose them by codes and times",),
            )

    @property
    def grid(self) -> Grid | None:
        """How the rows are resampled and filled, None where they are read as they are.

        Raises:
            InvalidArgument: The table's rows cannot be.
        """
        if self.resample is None and self.fill == "none":
            return None
        return Grid(self.spec, self.resample, self.fill == "ffill", self.unfinished == "mark")


def answer_schema(query: Query) -> pa.Schema:
    """Schema of a query's answer."""
    schema = public_schema(query.spec)
    if query.columns is not None:
        schema = pa.schema([schema.field(name) for name in query.columns])
    marks = query.grid.marks if query.grid else ()
    return pa.schema([*schema, *(pa.field(name, pa.bool_()) for name in marks)])


def read(store: Store, query: Query) -> pa.Table:
    """The rows of a query; an empty table where nothing was ever recorded.

    Raises:
        StoreCorrupt: The file is damaged.
    """
    schema = answer_schema(query)
    if not store.exists(query.provider, query.spec):
        return schema.empty_table()
    with store.reading(query.provider, query.spec) as connection:
        if query.spec.layout == "entities":
            sql, parameters = _entities_sql(query, schema.names)
            return typed(connection.query(sql, parameters), schema)
        reader = _Reader(_history(store, query, connection), query, schema)
        return reader.window(*reader.span, query.limit)


def stream(store: Store, query: Query, rows: int = STREAM_ROWS) -> Iterator[pa.Table]:
    """The rows of a query in batches of about ``rows``, in order and from one snapshot, in bounded memory.

    Until the stream is read to its end or closed, the database's write-ahead log cannot shrink.

    Raises:
        StoreCorrupt: The file is damaged.
    """
    if not store.exists(query.provider, query.spec):
        return
    if query.spec.layout == "entities":
        batch = read(store, query)
        yield from (batch.slice(first, rows) for first in range(0, batch.num_rows, rows))
        return
    with store.reading(query.provider, query.spec) as connection:
        # A stream reads each segment once, and must not keep a whole table of them in memory.
        history = _history(store, query, connection, keep_open=False)
        reader = _Reader(history, query, answer_schema(query))
        yield from reader.windows(rows)


def _history(store: Store, query: Query, connection: Connection, *, keep_open: bool = True) -> History:
    return History(
        connection,
        query.spec,
        use_segments=store.use_segments,
        keep_open=keep_open,
        reopen=lambda: store.reading(query.provider, query.spec),
    )


def cursor_of(batch: pa.Table, spec: TableSpec) -> Cursor | None:
    """The cursor after the last row of an answer with ``timestamp``, ``entity_id`` and the table's key.

    None without rows.
    """
    if not batch.num_rows:
        return None
    last = batch.slice(batch.num_rows - 1)
    time = last["timestamp"].cast(pa.int64())[0].as_py()
    key = last[spec.keys[0].name][0].as_py() if spec.keys else None
    return Cursor(_NO_TIME if time is None else time, last["entity_id"][0].as_py(), key)


def typed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """An answer of SQL in a schema: the driver knows no booleans or times, and takes NULLs for integers."""
    return pa.table([_cast(rows.column(i), field.type) for i, field in enumerate(schema)], schema=schema)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column), kind)])
    return column.cast(kind)


class _Reader:
    """Reads one query out of one snapshot."""

    def __init__(self, history: History, query: Query, schema: pa.Schema) -> None:
        self.history = history
        self.query = query
        self.schema = schema
        self.grid = query.grid
        self.newest_first = query.order == "desc"
        names = schema.names
        self.columns = query.spec.columns if self.grid else stored_columns(query.spec, names)
        if query.after and query.after.key is not None:
            self.columns = [*self.columns, *(c for c in query.spec.keys if c not in self.columns)]
        self._ids = None if query.ids is None else _ids_of(query)
        wanted = query.entity_ids
        if self._ids is not None:
            wanted = tuple(self._ids if wanted is None else set(wanted) & set(self._ids))
        self.series = history.series(entity_ids=wanted, codes=query.codes)
        self.ends = {series.key: self._end(series) for series in self.series}

    @property
    def span(self) -> tuple[int, int]:
        """Half-open range of the times that can be in the answer."""
        first = min((series.first for series in self.series), default=0)
        if self.grid:
            # A coarser candle opens before its first row.
            first = floor_ms(first, self.grid.step)
        start = first if self.query.start is None else max(self.query.start, first)
        return start, max(self.ends.values(), default=0)

    def _end(self, series: Series) -> int:
        """End of the times of an entity that the query is about."""
        if self.grid:
            return self.grid.known_end(self.history, series, self.query.end)
        end = series.last + 1
        return end if self.query.end is None else min(end, self.query.end)

    def window(self, start: int, end: int, limit: int | None) -> pa.Table:
        """The answer's rows in ``[start, end)``, the first ``limit`` in order."""
        rows = self._rows(start, end, limit)
        if self.newest_first:
            backwards = np.arange(rows.table.num_rows)[::-1]
            owner = None if rows.owner is None else rows.owner[::-1]
            rows = Rows(rows.table.take(pa.array(backwards)), rows.owners, owner)
        level = self.query.resample or self.query.spec.level
        return answer(self.query.spec, self.query.provider, level, self.schema, rows)

    def windows(self, rows: int) -> Iterator[pa.Table]:
        """The answer cut by time into batches of about ``rows``."""
        left = self.query.limit
        start, end = self.span
        width = self._width(rows)
        while start < end and left != 0:
            # Cuts lie on multiples of the width, as the edges of chunks do.
            cut = (end - 1) // width * width if self.newest_first else (start // width + 1) * width
            window = (max(start, cut), end) if self.newest_first else (start, min(end, cut))
            batch = self.window(*window, left)
            if batch.num_rows:
                yield batch
                left = None if left is None else left - batch.num_rows
            start, end = self._rest(start, end, window, is_empty=not batch.num_rows)

    def _rest(self, start: int, end: int, window: tuple[int, int], *, is_empty: bool) -> tuple[int, int]:
        """What remains of a range after a window at its near end; after an empty one, from the next row."""
        if self.newest_first:
            end = window[0]
            if is_empty and not self.grid:
                found = [self.history.previous_time(series, end) for series in self.series]
                end = min(end, max((time + 1 for time in found if time is not None), default=start))
        else:
            start = window[1]
            if is_empty and not self.grid:
                found = [self.history.next_time(series, start) for series in self.series]
                start = max(start, min((time for time in found if time is not None), default=end))
        return start, end

    def _width(self, rows: int) -> int:
        """Length of the windows that hold about so many rows at most."""
        size = self.query.spec.chunk_ms
        most = CHUNK_ROWS * max(1, len(self.series))
        width = size * (rows // most) if rows >= most else max(1, size * rows // most)
        step = self.grid.step if self.grid else 1
        return max(step, width - width % step)

    def _rows(self, start: int, end: int, limit: int | None) -> Rows:
        parts: list[pa.Table] = []
        owners: list[Series] = []
        for series in self.series:
            part = self._rows_of(series, *self._bounds(series, start, end), limit)
            if part.num_rows:
                parts.append(part)
                owners.append(series)
        if not parts:
            return Rows(self._empty(), (), np.empty(0, np.int32))
        table = pa.concat_tables(parts)
        owner = None
        if len(parts) > 1:
            # Entities come in the order of their ids, which a stable sort by time keeps.
            owner = np.repeat(np.arange(len(parts), dtype=np.int32), [part.num_rows for part in parts])
            order = np.argsort(table["ts"].to_numpy(), kind="stable")
            if limit is not None:
                order = order[-limit:] if self.newest_first else order[:limit]
            table, owner = table.combine_chunks().take(pa.array(order)), owner[order]
        return Rows(table, owners, owner)

    def _rows_of(self, series: Series, start: int, end: int, limit: int | None) -> pa.Table:
        if self._ids is not None:
            return self._first(self._rows_of_ids(series, start, end), limit)
        if self.grid:
            known_end = self.ends[series.key]
            return self.grid.rows(
                self.history, series, start, end, known_end, limit=limit, newest=self.newest_first
            )
        rows = self.history.rows(series, self.columns, start, end, limit=limit, newest=self.newest_first)
        after = self.query.after
        if after is None or after.key is None or series.entity_id != after.entity_id:
            return rows
        beside = self._beside_cursor(series, after)
        parts = [rows, beside] if self.newest_first else [beside, rows]
        return self._first(pa.concat_tables(parts), limit)

    def _rows_of_ids(self, series: Series, start: int, end: int) -> pa.Table:
        assert self._ids is not None
        wanted = self._ids[series.entity_id]
        if self.query.spec.keys:
            rows = self.history.of_keys(series, self.columns, wanted)
            ts = rows["ts"].to_numpy()
            return rows.filter(pa.array((ts >= start) & (ts < end)))
        return self.history.at(series, self.columns, [time for time in wanted if start <= time < end])

    def _beside_cursor(self, series: Series, after: Cursor) -> pa.Table:
        """Rows of the cursor's own time that come after it in the order."""
        rows = self.history.at(series, self.columns, [after.timestamp])
        keys = rows[self.query.spec.keys[0].name].to_pylist()
        # A row that is gone since leaves no place to go on from: the whole time is answered again.
        place = keys.index(after.key) if after.key in keys else (len(keys) if self.newest_first else -1)
        return rows.slice(0, place) if self.newest_first else rows.slice(place + 1)

    def _first(self, rows: pa.Table, limit: int | None) -> pa.Table:
        """As many rows, given by time, as the limit allows."""
        if limit is None:
            return rows
        return rows.slice(max(0, rows.num_rows - limit)) if self.newest_first else rows.slice(0, limit)

    def _bounds(self, series: Series, start: int, end: int) -> tuple[int, int]:
        """The range of an entity's rows in a window that come after the cursor."""
        after = self.query.after
        if after is None:
            return start, end
        if self.newest_first:
            return start, min(end, after.timestamp + (series.entity_id < after.entity_id))
        return max(start, after.timestamp + (series.entity_id <= after.entity_id)), end

    def _empty(self) -> pa.Table:
        if self.grid:
            return self.grid.schema.empty_table()
        return self.history.schema(self.columns).empty_table()


def _ids_of(query: Query) -> dict[str, list[Any]]:
    """Times of rows, or keys where the table has them, by entity: ids are computed from these by the view."""
    found: dict[str, list[Any]] = {}
    for text in query.ids or ():
        parts = split_key_id(text) if query.spec.keys else split_row_id(text)
        if parts is not None:
            found.setdefault(parts[0], []).append(parts[1])
    return found


def _entities_sql(query: Query, names: list[str]) -> tuple[str, list[Any]]:
    conditions: list[str] = []
    parameters: list[Any] = []
    choices = (("entity_id", query.entity_ids), ("code", query.codes), ("id", query.ids))
    for column, values in choices:
        if values is not None:
            condition, parameter = one_of(column, values)
            conditions.append(condition)
            parameters.append(parameter)
    for bound, operator in ((query.start, ">="), (query.end, "<")):
        if bound is not None:
            conditions.append(f"timestamp {operator} ?")
            parameters.append(bound)
    key = f"coalesce(timestamp, {_NO_TIME}), entity_id"
    if query.after is not None:
        conditions.append(f"({key}) {'<' if query.order == 'desc' else '>'} (?, ?)")
        parameters += [query.after.timestamp, query.after.entity_id]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    order = " ORDER BY " + ", ".join(f"{part} {query.order}" for part in ("timestamp", "entity_id"))
    limit = f" LIMIT {query.limit:d}" if query.limit is not None else ""
    return f"SELECT {', '.join(names)} FROM {query.spec.name}{where}{order}{limit}", parameters
