"""``/api/crypto/overview``: what is recorded, and how completely, for the page at ``/``."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final, Literal

import orjson
from flask import Response, current_app
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, ConfigDict, Field

from zvt_crypto.core.errors import InvalidArgument, ZvtCryptoError, unknown_value
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.domain import load_tables
from zvt_crypto.exchanges.base import venues
from zvt_crypto.quality.summary import recorded_tables
from zvt_crypto.server.census import Budget, Census, SeriesCensus, TableCensus
from zvt_crypto.server.clock import now_ms
from zvt_crypto.server.services import services
from zvt_crypto.server.strips import MOST_PIECES, STRIP_KINDS, Strip, strip_of
from zvt_crypto.store.engine import Store

#: Symbols of an answer at most, with their strips and without.
MOST_STRIPS: Final = 200
MOST_SYMBOLS: Final = 10_000

_TAG: Final = Tag(name="overview", description="What is recorded, and how completely.")
_KEY: Final = "zvt_crypto.overview"
#: How long a request may count rows that were not counted yet.
_COUNTING_SECONDS: Final = 0.4
#: How long an answer is given again.
_KEPT_SECONDS: Final = 2.0
_KEPT_ANSWERS: Final = 64
#: A provider is being recorded if rows were written as recently as this.
_RECENT_MS: Final = 5 * 60_000

_TIME: Final = "epoch milliseconds UTC"


class ProviderState(BaseModel):
    """One data source of which something is recorded."""

    name: str
    status: Literal["recording", "idle", "failed"] = Field(
        description="recording: rows were written in the last five minutes; failed: a table cannot be read."
    )
    tables: int
    rows: int
    last: int | None = Field(description=f"Time of the newest row, {_TIME}.")
    written: int | None = Field(description=f"When rows were last written, {_TIME}.")


class TableState(BaseModel):
    """One recorded table of one data source."""

    provider: str
    table: str = Field(description="Its name under /api/data.")
    feed: str
    entity_type: str
    level: str | None
    error: str | None = Field(description="Why it cannot be read.")
    rows: int | None
    is_counted: bool = Field(description="Whether rows is the final number; a later answer counts on.")
    missing: int | None = Field(description="Candles missing between the first and the last of each symbol.")
    symbols: int
    disk_bytes: int
    first: int | None = Field(description=f"Time of the first row, {_TIME}.")
    last: int | None = Field(description=f"Time of the last row, {_TIME}.")
    written: int | None = Field(description=f"When rows were last written, {_TIME}.")


class OverviewAnswer(BaseModel):
    """What is recorded."""

    timestamp: int = Field(description=f"When this was found, {_TIME}.")
    providers: list[ProviderState]
    others: list[str] = Field(description="Data sources of which nothing is recorded.")
    tables: list[TableState]


class SymbolsParameters(BaseModel):
    """What is asked about the symbols of a table."""

    model_config = ConfigDict(extra="forbid")

    provider: str = Field(description="Data source, such as binance.", min_length=1, max_length=64)
    table: str = Field(description="Table, such as CryptoPair1mKdata.", min_length=1, max_length=64)
    search: str | None = Field(None, description="Only symbols with this text in them.", max_length=64)
    offset: int = Field(0, ge=0, le=1_000_000, description="Symbols to leave out first.")
    limit: int = Field(
        100, ge=1, le=MOST_SYMBOLS, description=f"Symbols of an answer; {MOST_STRIPS} at most with strips."
    )
    strips: bool = Field(True, description="Whether to answer coverage, too.")


class Pieces(BaseModel):
    """A strip by columns."""

    start: list[int] = Field(description=_TIME)
    end: list[int] = Field(description=f"{_TIME}, exclusive")
    kind: list[int] = Field(description="Position in kinds.")
    share: list[float] = Field(description="How much of it is recorded, 0 to 1.")


class SymbolColumns(BaseModel):
    """Symbols by columns."""

    entity_id: list[str]
    code: list[str]
    name: list[str | None]
    rows: list[int | None] = Field(description="null where not all are counted yet.")
    first: list[int | None]
    last: list[int | None]
    gaps: list[int | None] = Field(description="Stretches that are missing.")
    missing: list[int | None] = Field(description="Candles that are missing.")
    to_record: list[int | None] = Field(description="Those of them that the exchange may have.")
    pieces: list[Pieces | None] = Field(description=f"At most {MOST_PIECES} for a symbol, gaps enlarged.")


class SymbolsAnswer(BaseModel):
    """The symbols of a table."""

    timestamp: int = Field(description=f"When this was found, {_TIME}.")
    provider: str
    table: str
    level: str | None
    step: int = Field(description="Length of a candle, ms; 1 without a level.")
    start: int | None = Field(description="Where all strips begin.")
    end: int | None = Field(description="Where they end, exclusive.")
    total: int = Field(description="Symbols that fit the search.")
    kinds: list[str] = Field(description="Kinds of pieces.")
    symbols: SymbolColumns


def overview_views() -> APIBlueprint:
    """The views of ``/api/crypto/overview``."""
    api = APIBlueprint("overview", __name__, url_prefix="/api/crypto/overview", abp_tags=[_TAG])

    @api.get("", summary="Providers and tables", responses={200: OverviewAnswer})
    def overview() -> Response:
        return _json(_overview().tables())

    @api.get("/symbols", summary="Symbols of a table with their coverage", responses={200: SymbolsAnswer})
    def symbols(query: SymbolsParameters) -> Response:
        return _json(_overview().symbols(query))

    return api


def _overview() -> Overview:
    found = current_app.extensions.get(_KEY)
    if found is None:
        found = current_app.extensions.setdefault(_KEY, Overview(services().store))
    assert isinstance(found, Overview)
    return found


def _json(body: bytes) -> Response:
    answer = Response(body, content_type="application/json")
    answer.headers["Cache-Control"] = "no-cache"
    return answer


@dataclass(slots=True)
class _Kept:
    """An answer and how long it is good for."""

    body: bytes = b""
    until: float = 0.0
    lock: Lock = field(default_factory=Lock)


class Overview:
    """Answers about a store; the same question within two seconds has the same answer, made once.

    Args:
        store: The databases.
        counting_seconds: How long one answer may count rows that were not counted yet.
        kept_seconds: How long an answer is given again.
    """

    def __init__(
        self,
        store: Store,
        *,
        counting_seconds: float = _COUNTING_SECONDS,
        kept_seconds: float = _KEPT_SECONDS,
    ) -> None:
        load_tables()
        self._store = store
        self._census = Census(store)
        self._counting_seconds = counting_seconds
        self._kept_seconds = kept_seconds
        self._answers: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = Lock()

    def tables(self) -> bytes:
        """An ``OverviewAnswer`` as JSON; a table that cannot be read is there with its error.

        Raises:
            ConfigError: The data folder cannot be read.
        """
        return self._kept("", self._tables)

    def symbols(self, asked: SymbolsParameters) -> bytes:
        """A ``SymbolsAnswer`` as JSON.

        Raises:
            InvalidArgument: A parameter is not allowed.
            StoreCorrupt: The file is damaged.
        """
        if asked.strips and asked.limit > MOST_STRIPS:
            raise InvalidArgument(
                f"parameter 'limit' is {asked.limit}, more than {MOST_STRIPS}",
                suggestions=(f"give at most {MOST_STRIPS}, or strips=false",),
                parameter="limit",
            )
        return self._kept(asked.model_dump_json(), lambda: self._symbols(asked))

    def _kept(self, question: str, make: Callable[[], dict[str, Any]]) -> bytes:
        with self._lock:
            kept = self._answers.setdefault(question, _Kept())
            self._answers.move_to_end(question)
            while len(self._answers) > _KEPT_ANSWERS:
                self._answers.popitem(last=False)
        with kept.lock:
            if time.monotonic() >= kept.until:
                kept.body = orjson.dumps(make(), option=orjson.OPT_SERIALIZE_NUMPY)
                kept.until = time.monotonic() + self._kept_seconds
            return kept.body

    def _tables(self) -> dict[str, Any]:
        now = now_ms()
        budget = Budget(self._counting_seconds)
        tables = [self._table(provider, spec, budget) for provider, spec in recorded_tables(self._store)]
        names = list(dict.fromkeys(table["provider"] for table in tables))
        return {
            "timestamp": now,
            "providers": [
                _provider(name, [table for table in tables if table["provider"] == name], now)
                for name in names
            ],
            "others": sorted(set(venues()) - set(names)),
            "tables": tables,
        }

    def _table(self, provider: str, spec: TableSpec, budget: Budget) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "provider": provider,
            "table": spec.class_name,
            "feed": spec.feed,
            "entity_type": spec.entity_type,
            "level": spec.level,
            "error": None,
        }
        try:
            return facts | _table_facts(self._census.table(provider, spec, budget))
        except ZvtCryptoError as error:
            return facts | _NOTHING_KNOWN | {"error": error.message}

    def _symbols(self, asked: SymbolsParameters) -> dict[str, Any]:
        spec = load_tables().find(asked.table)
        found = self._census_of(asked.provider, spec)
        span = None if found is None else found.span
        series = [] if found is None else [one for one in found.series if _fits(one, asked.search)]
        shown = series[asked.offset : asked.offset + asked.limit]
        return {
            "timestamp": now_ms(),
            "provider": asked.provider,
            "table": spec.class_name,
            "level": spec.level,
            "step": spec.step,
            "start": span and span[0],
            "end": span and span[1],
            "total": len(series),
            "kinds": STRIP_KINDS,
            "symbols": _columns(shown, self._strips(asked, spec, shown)),
        }

    def _census_of(self, provider: str, spec: TableSpec) -> TableCensus | None:
        if self._store.exists(provider, spec):
            return self._census.table(provider, spec, Budget(self._counting_seconds))
        known = {*venues(), *(name for name, _ in recorded_tables(self._store))}
        if provider not in known:
            raise unknown_value("provider", provider, known)
        return None

    def _strips(
        self, asked: SymbolsParameters, spec: TableSpec, series: Iterable[SeriesCensus]
    ) -> list[Strip | None]:
        if not asked.strips or not self._store.exists(asked.provider, spec):
            return [None for _ in series]
        with self._store.reading(asked.provider, spec) as connection:
            return [strip_of(connection, spec, one) for one in series]


_NOTHING_KNOWN: Final = {
    "rows": None,
    "is_counted": False,
    "missing": None,
    "symbols": 0,
    "disk_bytes": 0,
    "first": None,
    "last": None,
    "written": None,
}


def _table_facts(found: TableCensus) -> dict[str, Any]:
    span = found.span
    step = found.spec.step
    missing = (
        sum(one.missing(step) for one in found.series) if found.spec.level and found.is_counted else None
    )
    return {
        "rows": found.rows,
        "is_counted": found.is_counted,
        "missing": missing,
        "symbols": found.rows if found.spec.layout == "entities" else len(found.series),
        "disk_bytes": found.disk_bytes,
        "first": span and span[0],
        "last": span and span[1] - step,
        "written": found.written,
    }


def _provider(name: str, tables: list[dict[str, Any]], now: int) -> dict[str, Any]:
    written = max((table["written"] for table in tables if table["written"]), default=None)
    is_recent = written is not None and now - written < _RECENT_MS
    is_failed = any(table["error"] for table in tables)
    return {
        "name": name,
        "status": "failed" if is_failed else "recording" if is_recent else "idle",
        "tables": len(tables),
        "rows": sum(table["rows"] or 0 for table in tables),
        "last": max((table["last"] for table in tables if table["last"] is not None), default=None),
        "written": written,
    }


def _fits(series: SeriesCensus, search: str | None) -> bool:
    wanted = (search or "").strip().casefold()
    return any(wanted in text.casefold() for text in (series.entity_id, series.code, series.name or ""))


def _columns(series: list[SeriesCensus], strips: list[Strip | None]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        name: [getattr(one, name) for one in series]
        for name in ("entity_id", "code", "name", "first", "last")
    }
    columns["rows"] = [one.counted and one.counted.rows for one in series]
    for name in ("gaps", "missing", "to_record"):
        columns[name] = [None if strip is None else getattr(strip, name) for strip in strips]
    columns["pieces"] = [
        None if strip is None else {name: getattr(strip, name) for name in Pieces.model_fields}
        for strip in strips
    ]
    return columns
