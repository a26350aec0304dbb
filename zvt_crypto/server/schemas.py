"""The shapes of answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final, cast

from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model

from zvt_crypto.core.tables import TableSpec
from zvt_crypto.store.reader import public_schema

_JSON_TYPE: Final[dict[str, Any]] = {
    "string": str,
    "double": float,
    "int64": int,
    "bool": bool,
    "timestamp[ms]": str,
}
#: Meaning of the columns that no ``TableSpec`` describes.
_HEAD_DOC: Final = {
    "id": "id of the row",
    "entity_id": "id of the market: {entity type}_{exchange}_{code}",
    "timestamp": "time of the row, UTC; a candle's is its open time, an instrument's its listing",
    "provider": "data source",
    "code": "code of the market",
    "name": "name of the market as the exchange writes it",
    "level": "candle level",
    "entity_type": "kind of instrument",
    "exchange": "exchange of the instrument",
    "list_date": "when trading began, UTC",
    "end_date": "when trading ended, UTC",
    "is_finished": "whether the coarser candle is over; with unfinished=mark",
    "is_filled": "whether the candle stands for a time without one; with fill=ffill",
}
_EXAMPLES: Final[dict[str, Any]] = {
    "provider": "binance",
    "exchange": "binance",
    "code": "btcusdt",
    "name": "BTC/USDT",
    "symbol": "BTC/USDT",
    "base_symbol": "btc",
    "quote_symbol": "usdt",
    "side": "buy",
    "open": 45250.5,
    "high": 45289.99,
    "low": 45201.0,
    "close": 45275.25,
    "volume": 12.5678,
    "turnover": 568542.75,
    "trade_count": 1842,
    "price": 45250.5,
    "funding_rate": 0.0001,
    "funding_interval_hours": 8.0,
    "is_active": True,
    "margin_enabled": True,
}
_TIME: Final = "2024-08-01T00:00:00Z"
_CURSOR: Final = "WzE3MjI0NzA0MDAwMDAsImNyeXB0b3BhaXIiLG51bGwsMiwiIl0"
_BINARY: Final = {"type": "string", "contentEncoding": "binary"}


def _with_example(example: object) -> ConfigDict:
    return _told({"example": example})


def _told(extra: dict[str, Any]) -> ConfigDict:
    """What the library is to say about an answer beside its schema."""
    config: Any = {"openapi_extra": extra}
    return cast(ConfigDict, config)


class Failure(BaseModel):
    """What every failure says."""

    code: str = Field(description="What went wrong, for programs.")
    message: str = Field(description="What is wrong, and with which value, on one line.")
    details: dict[str, Any] = Field(
        description="Facts for programs: parameter, value, allowed, retry_after_seconds."
    )
    recovery_suggestions: list[str] = Field(description="What to do next, one action each.")
    timestamp: str = Field(description="When it happened, UTC.", json_schema_extra={"format": "date-time"})
    trace_id: str = Field(description="Finds the request in the log of the server.")


class FailureAnswer(BaseModel):
    """A failure."""

    error: Failure


class ProvidersAnswer(RootModel[dict[str, list[str]]]):
    """Data sources by kind of market."""

    model_config = _with_example({"crypto": ["binance", "okx"], "stock": ["em", "qmt"]})


class SchemasAnswer(RootModel[dict[str, list[str]]]):
    """Names of tables by kind."""

    model_config = _with_example(
        {
            "entity_schemas": ["CryptoPair"],
            "kdata_schemas": ["CryptoPair1mKdata"],
            "tick_schemas": ["CryptoTrade"],
        }
    )


class SchemasParameters(BaseModel):
    """What is asked of the list of tables."""

    model_config = ConfigDict(extra="forbid")

    provider: str = Field(
        description="Data source.", min_length=1, max_length=64, json_schema_extra={"example": "binance"}
    )


def failures(*statuses: int) -> dict[Any, Any]:
    """Statuses of failures, for the ``responses`` of a view; the document adds those that all views have."""
    return dict.fromkeys(statuses, FailureAnswer)


def rows_answer(spec: TableSpec) -> type[BaseModel]:
    """The answer with rows of a table, in every form; columns that were not asked for are not there."""
    page: type[BaseModel] = create_model(
        f"{spec.class_name}Page",
        __config__=_forms(spec),
        data=(list[_row(spec)], Field(description="The rows.")),  # type: ignore[misc]
        total=(int, Field(ge=0, description="Rows on all pages, as of this answer.")),
        page=(int, Field(ge=1, description="Number of this page, counted along next.")),
        page_size=(int, Field(ge=1, description="Most rows of a page: the limit.")),
        next=(str | None, Field(description="The cursor of the following page, null on the last.")),
    )
    return page


def _row(spec: TableSpec) -> type[BaseModel]:
    docs = _HEAD_DOC | {column.name: column.doc for column in spec.shown}
    fields: dict[str, Any] = {}
    for column in public_schema(spec):
        kind = str(column.type)
        extra: dict[str, Any] = {"format": "date-time"} if kind.startswith("timestamp") else {}
        fields[column.name] = (
            _JSON_TYPE[kind] | None,
            Field(None, description=docs[column.name], json_schema_extra=extra),
        )
    if spec.feed == "candles":
        fields |= {
            name: (bool, Field(False, description=docs[name])) for name in ("is_finished", "is_filled")
        }
    row: type[BaseModel] = create_model(f"{spec.class_name}Row", **fields)
    return row


def _example(spec: TableSpec) -> dict[str, Any]:
    """A row as it may be; what the exchange may not give is null."""
    entity_id = f"{spec.entity_type}_binance_btcusdt"
    known = _EXAMPLES | {"entity_id": entity_id, "entity_type": spec.entity_type, "level": spec.level}
    known["id"] = entity_id if spec.layout == "entities" else f"{entity_id}_{_TIME}"
    known |= {"timestamp": _TIME, "list_date": _TIME}
    return {name: known.get(name) for name in public_schema(spec).names}


def _forms(spec: TableSpec) -> ConfigDict:
    """The answer's other forms, an example and its headers."""
    columns = ", ".join(public_schema(spec).names)
    extra = {
        "description": f"{spec.doc}.",
        "example": {"data": [_example(spec)], "total": 1440, "page": 1, "page_size": 1000, "next": _CURSOR},
        "headers": {
            "ETag": {
                "description": "Changes whenever the answer does; send it back in If-None-Match.",
                "schema": {"type": "string"},
            }
        },
        "content": {
            "text/csv": {
                "schema": {"type": "string", "description": f"A header line, then all rows: {columns}"}
            },
            "application/x-ndjson": {
                "schema": {"type": "string", "description": "All rows, an object on each line."}
            },
            "application/vnd.apache.arrow.stream": {"schema": _BINARY},
            "application/vnd.apache.parquet": {"schema": _BINARY},
        },
    }
    return _told(extra)
