"""The one read path: a frozen query in, one batch out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import pyarrow as pa

from zvt_crypto.core.errors import InvalidArgument, unknown_value
from zvt_crypto.core.symbols import split_row_id
from zvt_crypto.core.tables import ARROW_TYPE, TableSpec
from zvt_crypto.store.engine import Store

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

    def __post_init__(self) -> None:
        known = public_schema(self.spec).names
        for name in self.columns or ():
            if name not in known:
                raise unknown_value(f"column of {self.spec.class_name}", name, known)
        if self.limit is not None and self.limit < 1:
            raise InvalidArgument(f"limit {self.limit} is not positive", suggestions=("give 1 or more",))
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise InvalidArgument("start_timestamp is after end_timestamp", suggestions=("swap them",))


def public_schema(spec: TableSpec) -> pa.Schema:
    """Columns of a table as users see them, with their Arrow types; times are naive UTC milliseconds."""
    fields = [pa.field(name, kind) for name, kind in _HEADS[spec.layout].items()]
    fields += [pa.field(c.name, _TIME if c.type == "time" else ARROW_TYPE[c.type]) for c in spec.shown]
    return pa.schema(fields)


def read(store: Store, query: Query) -> pa.Table:
    """The rows of a query; an empty table where nothing was ever recorded.

    Raises:
        StoreCorrupt: The file is damaged.
    """
    schema = public_schema(query.spec)
    if query.columns is not None:
        schema = pa.schema([schema.field(name) for name in query.columns])
    if not store.exists(query.provider, query.spec):
        return schema.empty_table()
    sql, parameters = _sql(query, schema.names)
    with store.connect(query.provider, query.spec) as connection:
        answer = connection.query(sql, parameters)
    return typed(answer, schema)


def typed(answer: pa.Table, schema: pa.Schema) -> pa.Table:
    """An answer of SQL in a schema: the driver knows no booleans or times, and takes NULLs for integers."""
    return pa.table([_cast(answer.column(i), field.type) for i, field in enumerate(schema)], schema=schema)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column), kind)])
    return column.cast(kind)


def _sql(query: Query, names: list[str]) -> tuple[str, list[object]]:
    conditions: list[str] = []
    parameters: list[object] = []
    choices: list[tuple[str, Sequence[object] | None]] = [
        ("entity_id", query.entity_ids),
        ("code", query.codes),
        ("id", query.ids),
    ]
    if query.ids is not None and query.spec.layout == "series":
        # An id is computed by the view; its parts are the key of the rows.
        parts = [split_row_id(row_id) for row_id in query.ids]
        choices += [
            ("entity_id", [part[0] for part in parts if part]),
            ("timestamp", [part[1] for part in parts if part]),
        ]
    for column, values in choices:
        if values is not None:
            conditions.append(f"{column} IN ({', '.join('?' for _ in values)})")
            parameters.extend(values)
    for bound, operator in ((query.start, ">="), (query.end, "<")):
        if bound is not None:
            conditions.append(f"timestamp {operator} ?")
            parameters.append(bound)
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    order = f" ORDER BY timestamp {query.order}, entity_id {query.order}"
    limit = f" LIMIT {query.limit:d}" if query.limit is not None else ""
    return f"SELECT {', '.join(names)} FROM {query.spec.name}{where}{order}{limit}", parameters
