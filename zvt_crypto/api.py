"""The tables' two verbs, wired to the store and the recorders."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd
import pyarrow as pa

from zvt_crypto import zvt_bridge
from zvt_crypto.core.config import load_settings
from zvt_crypto.core.errors import InvalidArgument, unknown_value
from zvt_crypto.core.levels import parse_end, parse_time
from zvt_crypto.core.symbols import parse_notation
from zvt_crypto.core.tables import TableSpec, tables
from zvt_crypto.exchanges.base import venues
from zvt_crypto.store.engine import Store
from zvt_crypto.store.reader import Query, public_schema, read

#: Arguments of zvt's ``query_data`` that only a SQLAlchemy session can answer.
_SESSION_ONLY: Final = ("filters", "session", "distinct")
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
        if kind not in ("df", "arrow") or order is None or any(given.get(name) for name in _SESSION_ONLY):
            return _query_session(table, given)
        batch = read(Store(load_settings()), _query(table.spec, given, order))
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
        ids=_texts(given, "ids", None),
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


def _query_session(table: Any, given: dict[str, Any]) -> Any:
    from zvt.contract.api import get_data

    if given.get("return_type") == "arrow":
        raise InvalidArgument('return_type "arrow" takes no filters, session or distinct')
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
