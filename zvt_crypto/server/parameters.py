"""The parameters of ``/api/data/<Table>``, made from its ``TableSpec``: one pydantic model for each table."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, create_model

from zvt_crypto.core.errors import InvalidArgument, ZvtCryptoError, unknown_value
from zvt_crypto.core.levels import LEVEL_MS, parse_end, parse_time
from zvt_crypto.core.symbols import parse_notation
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.store.reader import Cursor, Query, public_schema

#: Rows of an answer in JSON, by default and at most.
DEFAULT_LIMIT: Final = 1_000
MOST_ROWS: Final = 10_000
MOST_TRADES: Final = 100_000

FORMATS: Final = ("json", "csv", "arrow", "parquet", "ndjson")

Text = str | None
_LIST: Final = "separated by commas"
_LARGEST: Final = 1 << 53


class Parameters(BaseModel):
    """What every table takes."""

    model_config = ConfigDict(extra="forbid")

    provider: str = Field(
        description="Data source.", min_length=1, max_length=64, json_schema_extra={"example": "binance"}
    )
    codes: Text = Field(
        None,
        description=f"Only these markets, in any notation, {_LIST}, such as btcusdt or BTC/USDT.",
        min_length=1,
        max_length=20_000,
        json_schema_extra={"example": "btcusdt,ethusdt"},
    )
    entity_ids: Text = Field(
        None,
        description=f"Only these entity ids, {_LIST}, such as cryptopair_binance_btcusdt.",
        min_length=1,
        max_length=20_000,
    )
    columns: Text = Field(
        None,
        description=f"Columns of the answer, {_LIST}, in this order; all by default.",
        min_length=1,
        max_length=2_000,
    )
    order: Literal["timestamp_asc", "timestamp_desc"] = Field(
        "timestamp_asc", description="By time, then by entity id."
    )
    format: Literal["json", "csv", "arrow", "parquet", "ndjson"] | None = Field(
        None,
        description="Form of the answer; goes before the Accept header. json is a page of rows, every other"
        " form a stream of all rows.",
    )
    cursor: Text = Field(
        None,
        description="What an answer of the same question called next: goes on after its last row.",
        min_length=1,
        max_length=1_000,
    )
    limit: int | None = Field(None, ge=1, le=_LARGEST, description="Rows of an answer.")


_TIMES: Final[dict[str, Any]] = {
    "start_timestamp": (
        Text,
        Field(
            None,
            description="First time, UTC: ISO 8601, YYYYMMDD or epoch milliseconds.",
            min_length=1,
            max_length=40,
            json_schema_extra={"example": "2024-08-01T00:00:00Z"},
        ),
    ),
    "end_timestamp": (
        Text,
        Field(
            None,
            description="Last time, inclusive, UTC: ISO 8601, YYYYMMDD (its midnight) or epoch milliseconds.",
            min_length=1,
            max_length=40,
            json_schema_extra={"example": "2024-08-02T00:00:00Z"},
        ),
    ),
}
_CANDLES: Final[dict[str, Any]] = {
    "resample": (
        Literal[tuple(LEVEL_MS)] | None,
        Field(None, description="Level of coarser candles to make of the table's."),
    ),
    "unfinished": (
        Literal["drop", "mark"],
        Field(
            "drop",
            description="Whether a coarser candle that is not over yet is left out or marked in is_finished.",
        ),
    ),
    "fill": (
        Literal["none", "ffill"],
        Field(
            "none",
            description="Whether times without a candle get one with the last close, marked in is_filled.",
        ),
    ),
}
_TRADES: Final[dict[str, Any]] = {
    "side": (Literal["buy", "sell"] | None, Field(None, description="Only trades of this taker's side.")),
    "min_volume": (
        float | None,
        Field(
            None,
            description="Only trades of at least this volume, in base currency.",
            ge=0,
            allow_inf_nan=False,
        ),
    ),
}
#: Parameter -> the column of an entity table whose values it lists.
LISTED: Final = {
    "base_symbols": "base_symbol",
    "quote_symbols": "quote_symbol",
    "underlying_symbols": "underlying_symbol",
    "settlement_symbols": "settlement_symbol",
}
#: Parameters that are compared with the column of the same name.
EQUAL: Final = ("is_active", "margin_enabled", "max_leverage", "funding_interval_hours")
#: Only at least as much will do.
AT_LEAST: Final = ("max_leverage",)
#: Parameters that say how rows are answered, not which: a cursor holds whatever they are.
_OF_THE_ANSWER: Final = ("columns", "format", "limit", "cursor")


def model_of(spec: TableSpec) -> type[Parameters]:
    """The parameters of a table; what its columns cannot answer is not among them."""
    names = {column.name for column in spec.columns}
    fields: dict[str, Any] = {}
    for parameter, column in LISTED.items():
        if column in names and spec.layout == "entities":
            words = f"Only these values of {column}, {_LIST}, in either case."
            fields[parameter] = (Text, Field(None, description=words, min_length=1, max_length=2_000))
    for name in EQUAL:
        if name in names:
            fields[name] = _equal(name)
    if spec.layout == "series":
        fields |= _TIMES
    if spec.feed == "candles":
        fields |= _CANDLES
    if spec.feed == "trades":
        fields |= _TRADES
    words = (
        f"Rows of an answer. In JSON {DEFAULT_LIMIT:,} by default and at most {most_rows(spec):,}; the other"
        " forms have no cap, and answer all rows by default."
    )
    limit = Field(None, ge=1, le=_LARGEST, description=words, json_schema_extra={"example": 100})
    fields["limit"] = (int | None, limit)
    made: type[Parameters] = create_model(f"{spec.class_name}Parameters", __base__=Parameters, **fields)
    return made


def most_rows(spec: TableSpec) -> int:
    """Most rows of one answer in JSON."""
    return MOST_TRADES if spec.feed == "trades" else MOST_ROWS


def page_size(spec: TableSpec, given: Parameters) -> int:
    """Rows of a page in JSON.

    Raises:
        InvalidArgument: More are asked for than a page has at most.
    """
    limit = given.limit or DEFAULT_LIMIT
    if limit > most_rows(spec):
        raise InvalidArgument(
            f"limit {limit} is more than {most_rows(spec)}, the most rows of an answer in JSON",
            suggestions=(
                "go from page to page with cursor",
                f"ask for all rows at once with format={', '.join(FORMATS[1:])}",
            ),
            parameter="limit",
            value=limit,
        )
    return limit


def query_of(spec: TableSpec, given: Parameters, limit: int | None) -> tuple[Query, int]:
    """The question to the store, without the filters that only rows can answer, and the number of its page.

    Raises:
        InvalidArgument: A value is not allowed.
        SymbolMappingError: A code is no notation of a market.
    """
    values = given.model_dump()
    start, end = values.get("start_timestamp"), values.get("end_timestamp")
    codes = listed("codes", given.codes)
    after, page = (None, 1) if given.cursor is None else cursor_from(given.cursor, question_of(spec, given))
    query = Query(
        spec,
        given.provider,
        entity_ids=listed("entity_ids", given.entity_ids),
        codes=None if codes is None else tuple(code for text in codes for code in parse_notation(text).codes),
        start=None if start is None else parse_time(start, name="start_timestamp"),
        end=None if end is None else parse_end(end),
        columns=_columns(spec, given),
        order="desc" if given.order == "timestamp_desc" else "asc",
        limit=limit,
        after=after,
        **{name: values[name] for name in _CANDLES if values.get(name) is not None},
    )
    # What no grid of this table can be is refused before anything is read.
    _ = query.grid
    return query, page


def listed(name: str, text: str | None) -> tuple[str, ...] | None:
    """The parts of a list separated by commas; None where it was not given.

    Raises:
        InvalidArgument: The list has no part.
    """
    if text is None:
        return None
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise InvalidArgument(
            f"parameter {name!r} is {text[:80]!r}, which lists nothing",
            suggestions=(f"leave {name} out to have all", f"list values {_LIST}"),
            parameter=name,
            value=text[:80],
        )
    return parts


def question_of(spec: TableSpec, given: Parameters) -> str:
    """What tells one question from another, whatever page, columns or form of its rows are asked for."""
    values = given.model_dump(exclude=set(_OF_THE_ANSWER), exclude_none=True)
    text = orjson.dumps([spec.name, values], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:16]


def cursor_text(cursor: Cursor, page: int, question: str) -> str:
    """A cursor as the text of ``next``; ``page`` is the number of the page that it leads to."""
    return base64.urlsafe_b64encode(orjson.dumps([*cursor, page, question])).decode().rstrip("=")


def cursor_from(text: str, question: str) -> tuple[Cursor, int]:
    """The inverse of ``cursor_text``.

    Raises:
        InvalidArgument: The text is none of ours, or that of another question.
    """
    try:
        parts = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        ts, entity_id, key, page, asked = parts
        fits = type(ts) is int and type(page) is int and isinstance(entity_id, str)
    except (binascii.Error, TypeError, ValueError):
        raise _bad_cursor(text, "which is none that an answer called next") from None
    if not fits or not (key is None or isinstance(key, str)) or abs(ts) > _LARGEST or not 0 < page < _LARGEST:
        raise _bad_cursor(text, "which is none that an answer called next")
    if asked != question:
        raise _bad_cursor(
            text, "which goes on with another question; only columns, limit and format may differ"
        )
    return Cursor(ts, entity_id, key), page


def _columns(spec: TableSpec, given: Parameters) -> tuple[str, ...] | None:
    names = listed("columns", given.columns)
    known = public_schema(spec).names
    for name in names or ():
        if name not in known:
            raise _not_a_column(spec, name, known)
    return names


def _not_a_column(spec: TableSpec, name: str, known: list[str]) -> ZvtCryptoError:
    """All columns are named: a table has more than an error lists by itself."""
    nearest = unknown_value(f"column of {spec.class_name}", name[:80], known)
    near = [text for text in nearest.suggestions if not text.startswith("allowed")]
    return InvalidArgument(
        nearest.message,
        suggestions=(*near, f"allowed: {', '.join(known)}"),
        parameter="columns",
        value=name[:80],
        allowed=known,
    )


def _equal(name: str) -> tuple[Any, Any]:
    if name in ("is_active", "margin_enabled"):
        return bool | None, Field(None, description=f"Only rows whose {name} is this.")
    words = "at least this" if name in AT_LEAST else "this"
    return float | None, Field(None, description=f"Only rows of {words} {name}.", ge=0, allow_inf_nan=False)


def _bad_cursor(text: str, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"parameter 'cursor' is {text[:80]!r}, {why}",
        suggestions=("leave it out to begin with the first page",),
        parameter="cursor",
        value=text[:80],
    )
