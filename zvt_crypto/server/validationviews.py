"""``/api/crypto/validation``: prices across exchanges, and the gaps of a series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field

from zvt_crypto.core.errors import InvalidArgument, PairNotFound, ZvtCryptoError, unknown_value
from zvt_crypto.core.levels import finished_end, iso, level_ms, parse_end, parse_time
from zvt_crypto.core.symbols import PAIR, parse_notation
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import load_tables
from zvt_crypto.exchanges.base import venues
from zvt_crypto.quality.certificate import answered_share
from zvt_crypto.quality.gaps import EMPTY_THERE, HEALABLE
from zvt_crypto.quality.holes import Holes, find_holes
from zvt_crypto.quality.prices import MAX_AGE_MS, TOLERANCE_PCT, PriceComparison, compare_prices
from zvt_crypto.quality.quotes import PricesAt, last_common_time, not_recorded, prices_at, tables_with
from zvt_crypto.quality.series import RecordedSeries, recorded_series
from zvt_crypto.quality.summary import recorded_tables
from zvt_crypto.server.bodies import json_body
from zvt_crypto.server.clock import now_ms
from zvt_crypto.server.metrics import Metrics
from zvt_crypto.server.services import services
from zvt_crypto.store.engine import Store

_TAG = Tag(name="validation", description="Whether recorded data is right and complete.")

#: Gaps of an answer, by default and at most.
DEFAULT_GAPS: Final = 1_000
MOST_GAPS: Final = 10_000
_MOST_PROVIDERS: Final = 200
_LONGEST_AGE_SECONDS: Final = 366 * 86_400

_SYMBOL = Field(description="A market in any notation: btcusdt, BTC/USDT.", min_length=1, max_length=200)


class PriceQuestion(BaseModel):
    """One market's prices at one time."""

    model_config = ConfigDict(extra="forbid")

    symbol: str = _SYMBOL
    providers: list[str] | None = Field(
        None,
        description="Whose prices; by default all that there are.",
        min_length=1,
        max_length=_MOST_PROVIDERS,
    )
    timestamp: str | int | None = Field(
        None, description="UTC, ISO 8601 or epoch ms; by default the last time that all providers recorded."
    )
    prices: dict[str, float] | None = Field(
        None, description="Provider -> price; by default those that are recorded.", max_length=_MOST_PROVIDERS
    )
    tolerance_pct: float = Field(
        TOLERANCE_PCT, gt=0, le=100, description="Prices that differ by no more agree, in percent."
    )
    max_age_seconds: float = Field(
        MAX_AGE_MS / 1000, gt=0, le=_LONGEST_AGE_SECONDS, description="A recorded price may be so old."
    )


class ValidationResult(BaseModel):
    """What prices say about each other."""

    is_valid: bool
    max_deviation_pct: float = Field(description="Largest difference, in percent of the median.")
    outliers: list[str]
    confidence_score: float
    recommended_price: float


class PriceUsed(BaseModel):
    """A price that was compared."""

    price: float
    deviation_pct: float = Field(description="From the median.")
    timestamp: str | None = Field(description="End of the recorded candle.")
    level: str | None


class LeftOut(BaseModel):
    """Why a provider has no price."""

    code: str
    message: str
    details: dict[str, Any]
    recovery_suggestions: list[str]


class PriceAnswer(BaseModel):
    """A comparison."""

    validation_result: ValidationResult
    symbol: str
    timestamp: str | None
    median: float
    prices: dict[str, PriceUsed]
    left_out: dict[str, LeftOut]


class GapsParameters(BaseModel):
    """Which series to look at."""

    model_config = ConfigDict(extra="forbid")

    provider: str = Field(description="Data source, such as binance.", min_length=1, max_length=64)
    symbol: str = _SYMBOL
    start_timestamp: str | None = Field(
        None, description="First time, UTC; by default the first that is known.", max_length=40
    )
    end_timestamp: str | None = Field(None, description="Last time, inclusive.", max_length=40)
    interval: Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d"] = Field("1m", description="Candle level.")
    limit: int = Field(DEFAULT_GAPS, ge=1, le=MOST_GAPS, description="Gaps that are listed.")


class Gap(BaseModel):
    """Missing candles one after the other."""

    start: str
    end: str = Field(description="Exclusive.")
    missing: int
    kind: str
    evidence: list[dict[str, Any]]
    proven: bool
    command: str | None = Field(description="What to run; null where nothing is to be done.")


class KindTotals(BaseModel):
    """Gaps of one kind."""

    holes: int
    missing: int


class GapsAnswer(BaseModel):
    """The gaps of one series."""

    provider: str
    symbol: str
    entity_id: str
    interval: str
    start_timestamp: str
    end_timestamp: str = Field(description="Exclusive.")
    rows: int
    coverage: float = Field(description="Share of the time that the exchange answered for.")
    gaps: list[Gap]
    total_gaps: int
    total_missing: int
    totals: dict[str, KindTotals]
    can_be_healed: int


def validation_views(metrics: Metrics) -> APIBlueprint:
    """The views of ``/api/crypto/validation``.

    Args:
        metrics: Is told of prices that deviate.
    """
    api = APIBlueprint("validation", __name__, url_prefix="/api/crypto/validation", abp_tags=[_TAG])

    @api.post("/price", summary="Whether prices agree", responses={200: PriceAnswer})
    def price(body: PriceQuestion) -> Response:
        answer = _price_answer(body)
        if not answer["validation_result"]["is_valid"]:
            metrics.note_deviation()
        return json_body(answer)

    @api.get("/gaps", summary="Gaps of a series of candles", responses={200: GapsAnswer})
    def gaps(query: GapsParameters) -> Response:
        return json_body(_gaps_answer(services().store, query))

    return api


def _price_answer(asked: PriceQuestion) -> dict[str, Any]:
    at = None if asked.timestamp is None else parse_time(asked.timestamp)
    if asked.prices is None:
        return _recorded_prices(services().store, asked, at)
    prices = _named(asked.prices, asked.providers)
    parse_notation(asked.symbol)
    comparison = compare_prices(prices, tolerance_pct=asked.tolerance_pct)
    return _price_body(
        asked.symbol, at, comparison, {name: (price, None, None) for name, price in prices.items()}, {}
    )


def _named(prices: Mapping[str, float], providers: Sequence[str] | None) -> dict[str, float]:
    """The prices of the providers named, all where none is.

    Raises:
        InvalidArgument: A named provider has no price, or a price belongs to none of them.
    """
    names = set(prices) if providers is None else set(providers)
    if names != set(prices):
        name = sorted(names ^ set(prices))[0]
        what = (
            f"{name} is among the providers and has no price"
            if name in names
            else f"{name} is no provider named"
        )
        raise InvalidArgument(
            f"parameter 'prices': {what}",
            suggestions=("give one price for each of providers, or leave providers out",),
            parameter="prices",
            provider=name,
        )
    return dict(prices)


def _recorded_prices(store: Store, asked: PriceQuestion, at: int | None) -> dict[str, Any]:
    load_tables()
    if asked.providers is not None:
        for provider in asked.providers:
            check_provider(store, provider)
    notation = parse_notation(asked.symbol)
    entity_type = notation.entity_type or PAIR
    max_age_ms = int(asked.max_age_seconds * 1000)
    for code in notation.codes:
        known = tables_with(store, entity_type, code, asked.providers)
        if known:
            when = last_common_time(store, known, code) if at is None else at
            if when is None:
                continue
            providers = asked.providers or list(known)
            found = prices_at(store, entity_type, code, providers, when, max_age_ms=max_age_ms)
            return _found_body(code, found, asked.tolerance_pct)
    raise not_recorded(entity_type, notation.codes[0], (asked.providers or ["binance"])[0])


def _found_body(code: str, found: PricesAt, tolerance_pct: float) -> dict[str, Any]:
    used = {name: (quote.price, quote.time, quote.level) for name, quote in found.quotes.items()}
    return _price_body(code, found.at, found.compare(tolerance_pct), used, found.left_out)


def _price_body(
    symbol: str,
    at: int | None,
    comparison: PriceComparison,
    used: Mapping[str, tuple[float, int | None, str | None]],
    left_out: Mapping[str, ZvtCryptoError],
) -> dict[str, Any]:
    return {
        **comparison.as_dict(),
        "symbol": symbol,
        "timestamp": None if at is None else iso(at),
        "median": comparison.median,
        "prices": {
            name: {
                "price": price,
                "deviation_pct": comparison.deviations_pct[name],
                "timestamp": None if time is None else iso(time),
                "level": level,
            }
            for name, (price, time, level) in used.items()
        },
        "left_out": {name: error.as_dict() for name, error in left_out.items()},
    }


def check_provider(store: Store, provider: str) -> None:
    """Do nothing for a provider that has a venue file or recorded tables.

    Raises:
        InvalidArgument: There is no such provider.
    """
    if provider not in venues():
        known = {name for name, _ in recorded_tables(store)}
        if provider not in known:
            raise unknown_value("provider", provider, {*venues(), *known})


def _gaps_answer(store: Store, asked: GapsParameters) -> dict[str, Any]:
    start = (
        None if asked.start_timestamp is None else parse_time(asked.start_timestamp, name="start_timestamp")
    )
    end = None if asked.end_timestamp is None else parse_end(asked.end_timestamp)
    if start is not None and end is not None and start >= end:
        raise InvalidArgument(
            f"start_timestamp {asked.start_timestamp} is after end_timestamp {asked.end_timestamp}",
            suggestions=("swap them",),
            parameter="start_timestamp",
        )
    series = _series(store, asked)
    if end is not None:
        # What is not over yet is not missing.
        end = max(min(end, finished_end(now_ms(), level_ms(asked.interval))), start or 0)
    holes = find_holes(store, series, start, end)
    totals = holes.by_kind()
    return {
        "provider": asked.provider,
        "symbol": series.code,
        "entity_id": series.entity_id,
        "interval": asked.interval,
        "start_timestamp": iso(holes.start),
        "end_timestamp": iso(holes.end),
        "rows": holes.rows,
        "coverage": answered_share(holes),
        "gaps": _gap_list(holes)[: asked.limit],
        "total_gaps": len(holes.gaps),
        "total_missing": int(holes.gaps.missing.sum()),
        "totals": totals,
        "can_be_healed": int(holes.can_be_healed.sum()),
    }


def _series(store: Store, asked: GapsParameters) -> RecordedSeries:
    """The recorded series that a symbol names.

    Raises:
        InvalidArgument: There is no such provider.
        PairNotFound: The series is not recorded.
    """
    load_tables()
    check_provider(store, asked.provider)
    notation = parse_notation(asked.symbol)
    entity_type = notation.entity_type or PAIR
    spec = tables.candles(entity_type, asked.interval)
    for code in notation.codes:
        found = recorded_series(store, asked.provider, spec, (code,))
        if found:
            return found[0]
    error = not_recorded(entity_type, notation.codes[0], asked.provider, asked.interval)
    known = [series.code for series in recorded_series(store, asked.provider, spec)]
    near = unknown_value("symbol", notation.codes[0], known, error=PairNotFound)
    error.suggestions = (*near.suggestions, *error.suggestions)
    raise error


def _gap_list(holes: Holes) -> list[dict[str, Any]]:
    found = []
    for hole in holes.to_list():
        is_open = hole["kind"] in HEALABLE or (hole["kind"] in EMPTY_THERE and not hole["proven"])
        command = _repair_command(holes.series, hole["start"], hole["end"]) if is_open else None
        found.append({**hole, "start": iso(hole["start"]), "end": iso(hole["end"]), "command": command})
    return found


def _repair_command(series: RecordedSeries, start: int, end: int) -> str:
    """The command that asks for a stretch of time once more."""
    return (
        f"zvt-crypto repair --provider {series.provider} --codes {series.entity_id}"
        f" --levels {series.spec.level} --start {iso(start)} --end {iso(end - 1)}"
    )
