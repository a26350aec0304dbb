"""The tables' two verbs, wired to the store and the recorders."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd
import pyarrow as pa

from zvt_crypto import zvt_bridge
from zvt_crypto.core.config import load_settings
from zvt_crypto.core.errors import unknown_value
from zvt_crypto.core.levels import iso, parse_end, parse_time
from zvt_crypto.core.symbols import parse_notation, split_row_id
from zvt_crypto.core.tables import TableSpec, tables
from zvt_crypto.exchanges.base import venues
from zvt_crypto.store.engine import Store
from zvt_crypto.store.reader import Query, public_schema, read, typed

#: Arguments of zvt's ``query_data`` that hold SQLAlchemy expressions, or the session to run them in.
_EXPRESSIONS: Final = ("filters", "session", "distinct")
_KNOWN: Final = frozenset(
    {"ids", "entity_ids", "entity_id", "codes", "code", "level", "provider", "columns", "col_label"}
    | {"return_type", "start_timestamp", "end_timestamp", "filters", "session", "order", "limit"}
    | {"distinct", "index", "drop_index_col", "time_field"}
)
_RETURN_TYPES: Final = ("df", "arrow", "domain", "dict", "select")


class ZvtVerbs:
    """``query_data`` and ``record_data`` of every table."""

    def query_data(self, table: Any, arguments: dict[str, Any]) -> Any:
        """Answer from the columnar reader where it can, from a zvt session where it must."""
        given = {name: value for name, value in arguments.items() if value is not None}
        for name in given:
            if name not in _KNOWN:
                raise unknown_value("argument", name, _KNOWN)
        kind = given.get("return_type", "df")
        if kind not in _RETURN_TYPES:
            raise unknown_value("return_type", kind, _RETURN_TYPES)
        order = _order(table, given.get("order"))
        if kind not in ("df", "arrow"):
            return _query_session(table, given)
        query = _query(table.spec, given, order or "asc")
        if order is None or any(given.get(name) for name in _EXPRESSIONS):
            batch = _read_expressions(table, query, given)
        else:
            batch = read(Store(load_settings()), query)
        return batch if kind == "arrow" else _frame(batch, given)

    def record_data(self, table: Any, arguments: dict[str, Any]) -> Any:
        """Run the recorder registered for the provider: a user's own, or ours."""
        given = {name: value for name, value in arguments.items() if value is not None}
        provider = given.pop("provider")
        own = table.provider_map_recorder.get(provider)
        if own is None:
            if provider not in venues():
                raise unknown_value("provider", provider, [*venues(), *table.provider_map_recorder])
            from zvt_crypto.recorders.zvt_recorder import recorder_class

            own = recorder_class(table, provider)
        return own(**given).run()


def plug_into_zvt() -> dict[str, Any]:
    """Register every table with zvt, with its engines made on first use and its verbs bound.

    Returns:
        The tables' classes by public name.
    """
    from zvt_crypto.domain import models

    classes = models.register(sorted(venues()))
    models.CryptoTable.verbs = ZvtVerbs()
    zvt_bridge.register_engines(
        frozenset(tables), lambda provider, table: Store(load_settings()).engine(provider, table)
    )
    return classes


def resolve_codes(texts: list[str]) -> tuple[str, ...]:
    """The codes that any notations of markets can mean; those that no market has match nothing."""
    return tuple(code for text in texts for code in parse_notation(text).codes)


def _query(spec: TableSpec, given: dict[str, Any], order: Any) -> Query:
    level = getattr(given.get("level"), "value", given.get("level"))
    if level is not None and spec.level is not None and level != spec.level:
        raise unknown_value(f"level of {spec.class_name}", level, [spec.level])
    start, end = given.get("start_timestamp"), given.get("end_timestamp")
    limit = given.get("limit")
    return Query(
        spec=spec,
        provider=given["provider"],
        entity_ids=_texts(given, "entity_ids", "entity_id"),
        codes=None if (codes := _texts(given, "codes", "code")) is None else resolve_codes(list(codes)),
        ids=_row_ids(spec, _texts(given, "ids", None)),
        start=None if start is None else parse_time(start, name="start_timestamp"),
        end=None if end is None else parse_end(end),
        columns=_column_names(spec, given.get("columns")),
        order=order,
        limit=None if limit is None else int(limit),
    )


def _texts(given: dict[str, Any], many: str, one: str | None) -> tuple[str, ...] | None:
    values = given.get(many)
    if not values and one is not None and given.get(one):
        values = [given[one]]
    if not values:
        return None
    if isinstance(values, str):
        values = [values]
    return tuple(str(value) for value in values)


def _row_ids(spec: TableSpec, ids: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Row ids as our views show them."""
    if ids is None or spec.layout == "entities":
        return ids
    parts = [(text, split_row_id(text)) for text in ids]
    return tuple(text if part is None else f"{part[0]}_{iso(part[1])}" for text, part in parts)


def _column_names(spec: TableSpec, columns: Any) -> tuple[str, ...] | None:
    if not columns:
        return None
    names = [column if isinstance(column, str) else column.key for column in columns]
    # zvt always answers with the time.
    return tuple(dict.fromkeys(names if "timestamp" in names else [*names, "timestamp"]))


def _order(table: Any, order: Any) -> str | None:
    """``asc`` or ``desc`` where rows are ordered by time, None for another SQLAlchemy expression."""
    if order is None or isinstance(order, str):
        text = (order or "asc").removeprefix("timestamp_")
        if text not in ("asc", "desc"):
            raise unknown_value("order", order, ["timestamp_asc", "timestamp_desc"])
        return text
    for text in ("asc", "desc"):
        if order.compare(getattr(table.timestamp, text)()):
            return text
    return None


def _frame(batch: pa.Table, given: dict[str, Any]) -> Any:
    from zvt.utils.pd_utils import index_df

    frame = batch.rename_columns(
        [given.get("col_label", {}).get(n, n) for n in batch.column_names]
    ).to_pandas()
    for name in frame.columns[frame.dtypes == "datetime64[ms]"]:
        frame[name] = frame[name].astype("datetime64[ns]")
    index = given.get("index")
    if index and not frame.empty:
        frame = index_df(
            frame,
            index=list(index) if isinstance(index, (list, tuple)) else index,
            drop=given.get("drop_index_col", False),
            time_field=given.get("time_field", "timestamp"),
        )
    return frame


def _read_expressions(table: Any, query: Query, given: dict[str, Any]) -> pa.Table:
    """The rows of a query with SQLAlchemy filters or order, in the same columns and types as without."""
    from sqlalchemy import select
    from zvt.contract.api import get_db_session

    schema = public_schema(table.spec)
    if query.columns is not None:
        schema = pa.schema([schema.field(name) for name in query.columns])
    statement = select(*(getattr(table, name) for name in schema.names))
    for name, values in (("entity_id", query.entity_ids), ("code", query.codes), ("id", query.ids)):
        if values is not None:
            statement = statement.where(getattr(table, name).in_(values))
    if query.start is not None:
        statement = statement.where(table.timestamp >= query.start)
    if query.end is not None:
        statement = statement.where(table.timestamp < query.end)
    for condition in given.get("filters", ()):
        statement = statement.where(condition)
    by_time = (getattr(column, query.order)() for column in (table.timestamp, table.entity_id))
    chosen = _order(table, given.get("order")) is None
    statement = statement.order_by(given["order"]) if chosen else statement.order_by(*by_time)
    if given.get("distinct"):
        statement = statement.distinct()
    session = given.get("session") or get_db_session(query.provider, data_schema=table)
    answer = session.connection().execute(statement.limit(query.limit)).cursor.answer
    return typed(answer, schema)


def _query_session(table: Any, given: dict[str, Any]) -> Any:
    from zvt.contract.api import get_data

    known = public_schema(table.spec).names
    arguments = dict(given)
    names = _column_names(table.spec, given.get("columns"))
    for name in [*(names or ()), given.get("time_field", "timestamp")]:
        if name not in known:
            raise unknown_value(f"column of {table.spec.class_name}", name, known)
    if names is not None:
        # zvt evaluates texts, and changes the list that it is given.
        arguments["columns"] = [getattr(table, name) for name in names]
    codes = _texts(arguments, "codes", "code")
    if codes is not None:
        arguments.pop("code", None)
        arguments["codes"] = list(resolve_codes(list(codes)))
    order = _order(table, given.get("order"))
    if order is not None:
        arguments["order"] = getattr(table.timestamp, order)()
    for name in ("start_timestamp", "end_timestamp"):
        if name in arguments:
            arguments[name] = pd.Timestamp(parse_time(arguments[name], name=name), unit="ms")
    return get_data(data_schema=table, **arguments)
