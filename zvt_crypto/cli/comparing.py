"""What ``prices`` shows: one market's prices from several providers, at one time or over a range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.cli.options import listed, market_of, range_of
from zvt_crypto.cli.output import print_rows, write_batches
from zvt_crypto.cli.state import State
from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import (
    EXIT_OK,
    EXIT_PARTIAL,
    InvalidArgument,
    PairNotFound,
    ZvtCryptoError,
)
from zvt_crypto.core.levels import iso, level_ms, parse_time
from zvt_crypto.core.symbols import PAIR, PERP
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.domain import load_tables
from zvt_crypto.quality.prices import MAX_AGE_MS, TOLERANCE_PCT, PriceComparison
from zvt_crypto.quality.quotes import (
    PricesAt,
    compare_range,
    last_common_time,
    not_recorded,
    prices_at,
    tables_with,
)
from zvt_crypto.store.engine import Store

#: Times shown to people, those with the largest deviation.
_WORST: Final = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of ``prices``; see its help."""

    codes: tuple[str, ...]
    providers: tuple[str, ...] = ()
    at: str | None = None
    start: str | None = None
    end: str | None = None
    level: str | None = None
    perps: bool = False
    tolerance_pct: float | None = None
    max_age_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class _Market:
    """The instrument that a person means, and who has it.

    Attributes:
        entity_type: ``cryptopair`` or ``cryptoperp``.
        code: Its code.
        providers: Whose prices to compare.
        tables: Provider -> its candle tables of the instrument, the finest first.
    """

    entity_type: str
    code: str
    providers: Sequence[str]
    tables: Mapping[str, Sequence[TableSpec]]

    @property
    def name(self) -> str:
        return self.code + ("-perp" if self.entity_type == PERP else "")


def compare(state: State, settings: Settings, asked: Asked) -> int:
    """Show a comparison, and answer the exit code: in part where a named provider could not be compared.

    Raises:
        InvalidArgument: An option has a value that is not allowed, or two exclude each other.
        PairNotFound: The market is not recorded, or not in that time.
        DataQualityFailure: No provider has a price of that time.
    """
    is_range = asked.start is not None or asked.end is not None
    if is_range and (asked.at is not None or asked.max_age_seconds is not None):
        one = "--at" if asked.at is not None else "--max-age"
        raise InvalidArgument(
            f"{one} excludes --start and --end", suggestions=("ask for one time, or for a range",)
        )
    load_tables()
    if asked.level is not None:
        level_ms(asked.level)
    store = Store(settings)
    market = _market(store, asked)
    left_out = (
        _compare_range(state, store, market, asked) if is_range else _compare_at(state, store, market, asked)
    )
    for error in left_out:
        state.tell(error)
    return EXIT_PARTIAL if left_out and asked.providers else EXIT_OK


def _market(store: Store, asked: Asked) -> _Market:
    texts = listed(asked.codes)
    if len(texts) != 1:
        raise InvalidArgument("one market is compared at a time", suggestions=("give one code",))
    notation = market_of(texts[0])
    entity_type = notation.entity_type or (PERP if asked.perps else PAIR)
    wanted = listed(asked.providers) or None
    for code in notation.codes:
        tables = tables_with(store, entity_type, code, wanted)
        if asked.level is not None:
            tables = {name: [s for s in specs if s.level == asked.level] for name, specs in tables.items()}
            tables = {name: specs for name, specs in tables.items() if specs}
        if tables:
            return _Market(entity_type, code, wanted or list(tables), tables)
    raise _none_recorded(store, entity_type, texts[0], wanted, asked.level)


def _none_recorded(
    store: Store, entity_type: str, text: str, providers: Sequence[str] | None, level: str | None
) -> PairNotFound:
    kind = "perpetual" if entity_type == PERP else "pair"
    suffix = "-perp" if entity_type == PERP and market_of(text).entity_type is None else ""
    sources = f" from {', '.join(providers)}" if providers else ""
    return PairNotFound(
        f"no {f'{level} ' if level else ''}candles of the {kind} {text} are recorded{sources}"
        f" in {store.data_path}",
        suggestions=(
            "see `zvt-crypto report` for what is recorded",
            f"record it: `zvt-crypto record --provider {(providers or ['binance'])[0]}"
            f" --codes {text}{suffix} --levels {level or '1m'}`",
        ),
        symbol=text,
    )


def _compare_at(state: State, store: Store, market: _Market, asked: Asked) -> list[ZvtCryptoError]:
    if asked.at is not None:
        at: int | None = parse_time(asked.at, name="--at")
    else:
        at = last_common_time(store, market.tables, market.code)
    if at is None:
        raise PairNotFound(
            f"no candles of {market.name} are stored yet", suggestions=("see `zvt-crypto report --gaps`",)
        )
    prices = prices_at(
        store,
        market.entity_type,
        market.code,
        market.providers,
        at,
        level=asked.level,
        max_age_ms=MAX_AGE_MS if asked.max_age_seconds is None else asked.max_age_seconds * 1000,
    )
    comparison = prices.compare(_tolerance(asked))
    if state.as_json:
        state.write_json(_as_dict(market, prices, comparison))
    else:
        _print_at(state, market, prices, comparison)
    return list(prices.left_out.values())


def _as_dict(market: _Market, prices: PricesAt, comparison: PriceComparison) -> dict[str, Any]:
    return {
        "symbol": market.name,
        "timestamp": iso(prices.at),
        **comparison.as_dict(),
        "prices": {
            provider: {
                "price": quote.price,
                "deviation_pct": comparison.deviations_pct[provider],
                "volume": quote.volume,
                "level": quote.level,
                "as_of": iso(quote.time),
            }
            for provider, quote in prices.quotes.items()
        },
        "left_out": {provider: error.as_dict() for provider, error in prices.left_out.items()},
    }


def _print_at(state: State, market: _Market, prices: PricesAt, comparison: PriceComparison) -> None:
    from rich.table import Table

    state.stdout.print(f"{market.name} at {iso(prices.at)}")
    shown = Table(box=None, padding=(0, 1, 0, 2))
    for name in ("provider", "price", "from median", "volume", "candle", "ended", ""):
        shown.add_column(name, justify="right" if name in ("price", "from median", "volume") else "left")
    for provider, quote in prices.quotes.items():
        shown.add_row(
            provider,
            f"{quote.price:.10g}",
            f"{comparison.deviations_pct[provider]:+.4f} %",
            f"{quote.volume:.10g}",
            quote.level,
            iso(quote.time),
            "outlier" if provider in comparison.outliers else "",
        )
    state.print_table(shown)
    if len(prices.quotes) == 1:
        verdict = "nothing confirms it; record the market from another provider too"
    else:
        differ = f"the prices differ by {comparison.max_deviation_pct:.4f} % at most"
        verdict = f"{differ}: {'valid' if comparison.is_valid else 'not valid'}"
    price, confidence = comparison.recommended_price, comparison.confidence_score
    state.stdout.print(f"recommended price {price:.10g}, confidence {confidence:.3f}; {verdict}")


def _compare_range(state: State, store: Store, market: _Market, asked: Asked) -> list[ZvtCryptoError]:
    start, end = range_of(asked.start, asked.end)
    spec = _common_table(market)
    present = [provider for provider in market.providers if provider in market.tables]
    rows = compare_range(store, spec, market.code, present, start, end, tolerance_pct=_tolerance(asked))
    if not rows.num_rows:
        raise PairNotFound(
            f"no {spec.level} candles of {market.name} are recorded in that time",
            suggestions=("see `zvt-crypto report` for what is recorded",),
        )
    if state.as_json:
        write_batches(rows.column_names, [rows], "json")
    else:
        _print_range(state, market, spec, present, rows, _tolerance(asked))
    absent = [name for name in market.providers if name not in market.tables]
    errors: list[ZvtCryptoError] = [
        not_recorded(market.entity_type, market.code, name, spec.level) for name in absent
    ]
    errors += [
        _nothing_then(market, spec, name) for name in present if rows[f"close_{name}"].null_count == len(rows)
    ]
    return errors


def _common_table(market: _Market) -> TableSpec:
    """The finest candle table that all providers have."""
    first, *others = market.tables.values()
    for spec in first:
        if all(spec in specs for specs in others):
            return spec
    levels = "; ".join(
        f"{name}: {', '.join(str(spec.level) for spec in specs)}" for name, specs in market.tables.items()
    )
    raise InvalidArgument(
        f"no level of {market.name} is recorded from all providers ({levels})",
        suggestions=(
            "choose providers that share one with --providers",
            "or record the same level from each",
        ),
    )


def _nothing_then(market: _Market, spec: TableSpec, provider: str) -> PairNotFound:
    return PairNotFound(
        f"no {spec.level} candles of {market.name} are recorded from {provider} in that time",
        suggestions=("see `zvt-crypto report --gaps` for what is recorded",),
        provider=provider,
        symbol=market.code,
    )


def _print_range(
    state: State, market: _Market, spec: TableSpec, providers: Sequence[str], rows: pa.Table, tolerance: float
) -> None:
    from rich.table import Table

    state.stdout.print(f"{market.name}, closes of {rows.num_rows:,} {spec.level} candles")
    shown = Table(box=None, padding=(0, 1, 0, 2))
    for name in ("provider", "candles", "furthest from median", "outliers"):
        shown.add_column(name, justify="left" if name == "provider" else "right")
    median = rows["median"].to_numpy()
    for provider in providers:
        closes = rows[f"close_{provider}"].drop_null()
        if not len(closes):
            shown.add_row(provider, "0", "", "")
            continue
        deviation = np.abs(rows[f"close_{provider}"].to_numpy() / median - 1)
        outliers = pc.sum(rows[f"is_outlier_{provider}"]).as_py()
        shown.add_row(provider, f"{len(closes):,}", f"{np.nanmax(deviation) * 100:.4f} %", f"{outliers:,}")
    state.print_table(shown)
    compared = rows.filter(pc.is_valid(rows["max_deviation_pct"]))
    if not compared.num_rows:
        state.stdout.print("at no time have two providers a candle: nothing can be compared")
        return
    beyond = pc.sum(pc.greater(compared["max_deviation_pct"], tolerance)).as_py()
    state.stdout.print(
        f"two prices or more at {compared.num_rows:,} times; they differ by more than {tolerance:g} %"
        f" at {beyond:,}; the largest differences:"
    )
    worst = compared.sort_by([("max_deviation_pct", "descending"), ("timestamp", "ascending")]).slice(
        0, _WORST
    )
    print_rows(state, worst, all_columns=True)


def _tolerance(asked: Asked) -> float:
    return TOLERANCE_PCT if asked.tolerance_pct is None else asked.tolerance_pct
