"""The arguments of zvt's ``query_data`` and our own, checked and understood; nothing given is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from zvt_crypto.core.errors import InvalidArgument, unknown_value
from zvt_crypto.core.levels import iso, parse_end, parse_time
from zvt_crypto.core.symbols import parse_notation, split_row_id
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.store.reader import Query, public_schema

_RETURN_TYPES: Final = ("df", "arrow", "domain", "dict", "select")
_ON_A_GRID: Final = ("resample", "unfinished", "fill")
_KNOWN: Final = frozenset(
    {"ids", "entity_ids", "entity_id", "codes", "code", "level", "provider", "columns", "col_label"}
    | {"return_type", "start_timestamp", "end_timestamp", "filters", "session", "order", "limit"}
    | {"distinct", "index", "drop_index_col", "time_field"}
    | set(_ON_A_GRID)
)


class Asked:
    """One call of ``query_data``.

    Args:
        table: The table's class.
        arguments: What was given; None counts as not given.

    Attributes:
        table: The table's class.
        given: The arguments that were given.
        return_type: What to answer with.
        time_field: The column that the range of time is about.
        order: ``asc`` or ``desc`` by time, None for another SQLAlchemy expression.
        query: The question to the reader, filters and such left out.

    Raises:
        InvalidArgument: An argument is unknown or has a value that is not allowed.
    """

    def __init__(self, table: Any, arguments: Mapping[str, Any]) -> None:
        self.table = table
        self.given = {name: value for name, value in arguments.items() if value is not None}
        for name in self.given:
            if name not in _KNOWN:
                raise unknown_value("argument", name, _KNOWN)
        self.return_type = self.given.get("return_type", "df")
        if self.return_type not in _RETURN_TYPES:
            raise unknown_value("return_type", self.return_type, _RETURN_TYPES)
        self.time_field = _time_field(table.spec, self.given.get("time_field", "timestamp"))
        self.order = _order(table, self.given.get("order"))
        self.query = _query(table.spec, self.given, self.time_field, self.order or "asc")
        if self.query.grid is not None and (self.needs_objects or self.needs_expressions):
            raise InvalidArgument(
                "resample and fill go with frames, ordered by time, without filters",
                suggestions=("filter the frame that you get",),
            )

    @property
    def needs_objects(self) -> bool:
        """Whether the answer is made of mapped objects, or is a statement."""
        return self.return_type not in ("df", "arrow")

    @property
    def needs_expressions(self) -> bool:
        """Whether SQLAlchemy expressions, a session of the caller's or another time field are involved."""
        expressions = any(self.given.get(name) for name in ("filters", "session", "distinct"))
        return expressions or self.order is None or self.time_field != "timestamp"


def resolve_codes(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The codes that any notations of markets can mean; those that no market has match nothing."""
    return tuple(code for text in texts for code in parse_notation(text).codes)


def _query(spec: TableSpec, given: dict[str, Any], time_field: str, order: Any) -> Query:
    level = getattr(given.get("level"), "value", given.get("level"))
    if level is not None and spec.level is not None and level != spec.level:
        raise unknown_value(f"level of {spec.class_name}", level, [spec.level])
    start, end = given.get("start_timestamp"), given.get("end_timestamp")
    codes = _texts(given, "codes", "code")
    return Query(
        spec=spec,
        provider=given["provider"],
        entity_ids=_texts(given, "entity_ids", "entity_id"),
        codes=None if codes is None else resolve_codes(codes),
        ids=_row_ids(spec, _texts(given, "ids", None)),
        start=None if start is None else parse_time(start, name="start_timestamp"),
        end=None if end is None else parse_end(end),
        columns=_column_names(spec, given.get("columns"), time_field),
        order=order,
        limit=_limit(given.get("limit")),
        resample=getattr(given.get("resample"), "value", given.get("resample")),
        **{name: given[name] for name in ("unfinished", "fill") if name in given},
    )


def _texts(given: dict[str, Any], many: str, one: str | None) -> tuple[str, ...] | None:
    values = given.get(many)
    if isinstance(values, str):
        values = [values]
    values = [] if values is None else list(values)
    if not values and one is not None and given.get(one):
        values = [given[one]]
    return tuple(str(value) for value in values) or None


def _row_ids(spec: TableSpec, ids: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Row ids as our views show them."""
    if ids is None or spec.layout == "entities" or spec.keys:
        return ids
    parts = [(text, split_row_id(text)) for text in ids]
    return tuple(text if part is None else f"{part[0]}_{iso(part[1])}" for text, part in parts)


def _column_names(spec: TableSpec, columns: Any, time_field: str) -> tuple[str, ...] | None:
    if columns is None or not len(columns):
        return None
    if isinstance(columns, str):
        columns = [columns]
    names = [column if isinstance(column, str) else getattr(column, "key", None) for column in columns]
    known = public_schema(spec).names
    for name, column in zip(names, columns, strict=True):
        if name not in known:
            raise unknown_value(f"column of {spec.class_name}", str(column), known)
    # zvt always answers with the time.
    return tuple(dict.fromkeys([*map(str, names), *({time_field} - set(names))]))


def _limit(value: Any) -> int | None:
    if value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"limit {value!r} is no number", suggestions=("give 1 or more",), argument="limit"
        ) from error


def _time_field(spec: TableSpec, name: Any) -> str:
    schema = public_schema(spec)
    times = [field.name for field in schema if str(field.type).startswith("timestamp")]
    if name not in times:
        raise unknown_value("time_field", str(name), times)
    return str(name)


def _order(table: Any, order: Any) -> str | None:
    """``asc`` or ``desc`` where rows are ordered by time, None for another SQLAlchemy expression."""
    if order is None or isinstance(order, str):
        text = (order or "asc").removeprefix("timestamp_")
        if text not in ("asc", "desc"):
            raise unknown_value("order", order, ["timestamp_asc", "timestamp_desc"])
        return text
    if not hasattr(order, "compare"):
        raise unknown_value("order", str(order), ["timestamp_asc", "timestamp_desc"])
    for text in ("asc", "desc"):
        if order.compare(getattr(table.timestamp, text)()):
            return text
    return None
