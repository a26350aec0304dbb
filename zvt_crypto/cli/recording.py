"""What ``record`` does: from options to selections, through their runs, to a report and an exit code."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from zvt_crypto.cli.forecasting import show_forecast
from zvt_crypto.cli.options import listed, market_of, range_of, timerange_of
from zvt_crypto.cli.progress import watch
from zvt_crypto.cli.runreport import exit_code, show, tell_interrupted
from zvt_crypto.cli.state import EXIT_INTERRUPTED, State
from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import InvalidArgument, NotSupported, ZvtCryptoError, unknown_value
from zvt_crypto.core.levels import DAY_MS, LEVEL_MS, floor_ms, level_ms
from zvt_crypto.core.symbols import ASSET, PAIR, PERP
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.domain import load_tables
from zvt_crypto.exchanges.base import Venue, venue_class
from zvt_crypto.recorders.feeds import serves
from zvt_crypto.recorders.report import Report
from zvt_crypto.recorders.run import DERIVED_FROM, Run, Selection

_DEFAULT_DAYS: Final = 30
_DEFAULT_LEVELS: Final = ("1m",)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of ``record``; see its help."""

    provider: str
    codes: tuple[str, ...] = ()
    all_markets: bool = False
    perps: bool = False
    levels: tuple[str, ...] = ()
    derive: tuple[str, ...] = ()
    trades: bool = False
    funding: bool = False
    orderbooks: bool = False
    depth: int | None = None
    exchanges: tuple[str, ...] = ()
    days: int | None = None
    start: str | None = None
    end: str | None = None
    timerange: str | None = None
    entities: bool = False
    force: bool = False
    dry_run: bool = False


def record(state: State, settings: Settings, wanted: Wanted) -> int:
    """Record what is wanted, show what became of it, and answer the exit code."""
    chosen = selections(wanted, _now_ms())
    if wanted.dry_run:
        return show_forecast(state, settings, chosen)
    report = Report()
    fatal: ZvtCryptoError | None = None
    interrupted = False
    with watch(state.stderr, show=state.show_progress, expected=_expected(chosen)) as progress:
        try:
            for selection in chosen:
                _run(Run(settings, selection, progress), report)
        except ZvtCryptoError as error:
            fatal = error
        except KeyboardInterrupt:
            interrupted = True
    show(state, report, progress, fatal)
    if interrupted:
        tell_interrupted(state, report)
        return EXIT_INTERRUPTED
    return exit_code(report, progress, fatal)


def selections(wanted: Wanted, now: int) -> list[Selection]:
    """What is to be recorded, one selection for each kind of market.

    Args:
        wanted: The options.
        now: This machine's time, epoch ms.

    Raises:
        InvalidArgument: A provider, level, code or time is not allowed.
        NotSupported: The provider does not serve it.
    """
    tables = load_tables()
    exchanges = listed(wanted.exchanges)
    venue = venue_class(wanted.provider, exchanges[0] if exchanges else None)
    empty = Selection(venue.name, (), exchanges=tuple(exchanges) or None, depth=wanted.depth)
    if wanted.entities:
        specs = [spec for spec in tables.values() if spec.layout == "entities"]
        served = (*venue.capabilities.entity_types, ASSET)
        return [replace(empty, tables=tuple(spec for spec in specs if spec.entity_type in served))]
    start, end = _range(wanted, now)
    derived = _derived(wanted)
    empty = replace(empty, start=start, end=end, force=wanted.force, derive=derived)
    return [
        replace(
            empty,
            tables=_tables(wanted, venue, entity_type),
            entity_type=entity_type,
            codes=tuple(codes) or None,
        )
        for entity_type, codes in _markets(wanted).items()
    ]


def _derived(wanted: Wanted) -> tuple[str, ...]:
    """The levels to make, which must be coarser than what they are made of."""
    levels = listed(wanted.derive)
    coarser = [level for level in LEVEL_MS if level != DERIVED_FROM]
    for level in levels:
        if level not in coarser:
            raise unknown_value("level to derive", level, coarser)
    if levels and DERIVED_FROM not in (listed(wanted.levels) or _DEFAULT_LEVELS):
        raise InvalidArgument(
            f"--derive makes candles from {DERIVED_FROM} ones, which --levels does not name",
            suggestions=(f"add {DERIVED_FROM} to --levels",),
        )
    return tuple(levels)


def _tables(wanted: Wanted, venue: type[Venue], entity_type: str) -> tuple[TableSpec, ...]:
    """The tables of markets of a type: candles, unless only other feeds are named."""
    feeds = [feed for feed in ("trades", "funding", "orderbooks") if getattr(wanted, feed)]
    levels = listed(wanted.levels) or (() if feeds else _DEFAULT_LEVELS)
    specs = [_candles(venue, entity_type, level) for level in levels]
    specs += [_served(venue, spec, entity_type) for spec in load_tables().values() if spec.feed in feeds]
    return tuple(specs)


def _served(venue: type[Venue], spec: TableSpec, entity_type: str) -> TableSpec:
    """A table of which the venue has rows for a type of market."""
    if not serves(venue, spec, entity_type):
        kind = "pairs" if entity_type == PAIR else "perpetuals"
        raise NotSupported(
            f"{venue.exchange} has no {spec.feed} of {kind}", suggestions=("see `zvt-crypto providers`",)
        )
    return spec


def _run(run: Run, report: Report) -> None:
    try:
        run.start()
    finally:
        report.outcomes.extend(run.report.outcomes)
        report.seconds += run.report.seconds


def _markets(wanted: Wanted) -> dict[str, list[str]]:
    """Codes by entity type; no codes mean all markets of the type."""
    texts = listed(wanted.codes)
    # Only perpetuals have funding events.
    only_funding = wanted.funding and not (wanted.trades or wanted.orderbooks or wanted.levels)
    default = PERP if wanted.perps or only_funding else PAIR
    if wanted.all_markets and not texts:
        return {default: []}
    if wanted.all_markets or not texts:
        raise InvalidArgument(
            "--codes and --all exclude each other" if texts else "no markets are named",
            suggestions=("give --codes btcusdt,ethusdt, or --all for every market that trades now",),
        )
    by_type: dict[str, list[str]] = {}
    for text in texts:
        by_type.setdefault(market_of(text).entity_type or default, []).append(text)
    return dict(sorted(by_type.items()))


def _candles(venue: type[Venue], entity_type: str, level: str) -> TableSpec:
    """The candle table of a type and level that the venue serves."""
    served = venue.capabilities
    if entity_type not in (PAIR, PERP):
        raise InvalidArgument(f"{entity_type} has no candles", suggestions=("name pairs or perpetuals",))
    if entity_type not in served.entity_types:
        raise NotSupported(
            f"{venue.exchange} has no {'pairs' if entity_type == PAIR else 'perpetuals'}",
            suggestions=("see `zvt-crypto providers`",),
        )
    spec = load_tables().candles(entity_type, level)
    if level not in served.levels:
        raise unknown_value(f"level of {venue.exchange}", level, served.levels, error=NotSupported)
    return spec


def _range(wanted: Wanted, now: int) -> tuple[int, int | None]:
    """Half-open range of times; without an end, up to the last finished candle."""
    bounds = {"--days": wanted.days, "--timerange": wanted.timerange, "--start": wanted.start}
    given = [name for name, value in bounds.items() if value is not None]
    if len(given) > 1 or (wanted.timerange and wanted.end):
        raise InvalidArgument(
            f"{' and '.join(given if len(given) > 1 else ['--timerange', '--end'])} exclude each other",
            suggestions=("give --days, --timerange, or --start and --end",),
        )
    if wanted.timerange is not None:
        start, end = timerange_of(wanted.timerange)
    else:
        start, end = range_of(wanted.start, wanted.end)
    if start is None:
        # Days begin at midnight, as freqtrade has it, so that the same command asks for the same range.
        start = (
            floor_ms(now if end is None else min(end, now), DAY_MS) - (wanted.days or _DEFAULT_DAYS) * DAY_MS
        )
    if start >= now:
        raise InvalidArgument(
            "the range of time lies in the future", suggestions=("give an earlier --start",)
        )
    return start, end


def _expected(chosen: Sequence[Selection]) -> dict[str, int]:
    """Rows that each table is thought to need."""
    now = _now_ms()
    expected: dict[str, int] = {}
    for selection in chosen:
        for spec in selection.tables:
            if spec.level is not None and selection.codes and selection.start is not None:
                span = max(0, min(selection.end or now, now) - selection.start)
                expected[spec.name] = span // level_ms(spec.level) * len(selection.codes)
    return expected


def _now_ms() -> int:
    return int(dt.datetime.now(dt.timezone.utc).timestamp() * 1000)
