"""What ``report`` shows: summaries of the recorded tables, and their gaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from zvt_crypto.cli.naming import market_name
from zvt_crypto.cli.options import listed, market_of, range_of
from zvt_crypto.cli.state import State
from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_PARTIAL,
    PairNotFound,
    ZvtCryptoError,
    unknown_value,
)
from zvt_crypto.core.levels import iso, level_ms
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.domain import load_tables
from zvt_crypto.quality.gaps import ABSENT, UNCONFIRMED, UNRECORDED
from zvt_crypto.quality.summary import Series, TableSummary, recorded_codes, recorded_tables, summarise
from zvt_crypto.store.engine import Store

_CAUSES: Final = {
    ABSENT: "the exchange answered and has no candle there",
    UNCONFIRMED: "the exchange answered once with no candles, which a second answer must confirm",
    UNRECORDED: "not recorded yet",
}
_UNITS: Final = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB"))


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of ``report``; see its help."""

    provider: str | None = None
    levels: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    start: str | None = None
    end: str | None = None
    list_gaps: bool = False


def report(state: State, settings: Settings, asked: Asked) -> int:
    """Show what is recorded, and answer the exit code: a table that cannot be read fails in part."""
    store = Store(settings)
    found = _tables(store, asked)
    codes = _codes(store, found, listed(asked.codes))
    start, end = range_of(asked.start, asked.end)
    summaries: list[TableSummary] = []
    errors: list[ZvtCryptoError] = []
    for provider, spec in found:
        try:
            summaries.append(summarise(store, provider, spec, codes=codes, start=start, end=end))
        except ZvtCryptoError as error:
            errors.append(error)
    if codes is not None:
        summaries = [summary for summary in summaries if summary.series]
    if state.as_json:
        state.write_json(
            {
                "data_path": str(store.data_path),
                "tables": [_as_dict(summary, asked.list_gaps) for summary in summaries],
                "errors": [error.as_dict() for error in errors],
            }
        )
    else:
        _print_summaries(state, store, summaries)
        if asked.list_gaps and summaries:
            _print_gaps(state, summaries)
    for failure in errors:
        state.tell(failure)
    if not errors:
        return EXIT_OK
    return EXIT_PARTIAL if summaries else EXIT_FAILED


def _tables(store: Store, asked: Asked) -> list[tuple[str, TableSpec]]:
    load_tables()
    levels = listed(asked.levels)
    for level in levels:
        level_ms(level)
    recorded = list(recorded_tables(store))
    providers = {provider for provider, _ in recorded}
    if asked.provider is not None and providers and asked.provider not in providers:
        raise unknown_value("provider", asked.provider, providers)
    return [
        (provider, spec)
        for provider, spec in recorded
        if asked.provider in (None, provider) and (not levels or spec.level in levels)
    ]


def _codes(store: Store, found: Sequence[tuple[str, TableSpec]], texts: Sequence[str]) -> list[str] | None:
    """Codes of the markets meant, None for all."""
    if not texts:
        return None
    known = {code for provider, spec in found for code in recorded_codes(store, provider, spec)}
    chosen = []
    for text in texts:
        of_text = [code for code in market_of(text).codes if code in known]
        if not of_text:
            raise unknown_value("recorded market", text, known, error=PairNotFound)
        chosen.append(of_text[0])
    return chosen


def _as_dict(summary: TableSummary, with_gaps: bool) -> dict[str, Any]:
    per_row = summary.bytes_per_row
    return {
        "provider": summary.provider,
        "table": summary.spec.name,
        "level": summary.spec.level,
        "path": str(summary.path),
        "rows": summary.rows,
        "disk_bytes": summary.disk_bytes,
        "bytes_per_row": None if per_row is None else round(per_row, 1),
        "symbols": [_series_dict(summary, series, with_gaps) for series in summary.series],
    }


def _series_dict(summary: TableSummary, series: Series, with_gaps: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "entity_id": series.entity_id,
        "code": series.code,
        "rows": series.rows,
        "first": _iso(series.first),
        "last": _iso(series.last),
    }
    gaps = series.gaps
    if gaps is not None:
        shown["gaps"] = len(gaps)
        shown["missing"] = int(gaps.missing.sum())
        shown["missing_absent"] = gaps.missing_in(ABSENT)
        shown["missing_unrecorded"] = gaps.missing_in(UNRECORDED, UNCONFIRMED)
        shown["verdict"] = _verdict(series)
        if with_gaps:
            shown["gap_list"] = list(_gap_dicts(summary, series))
    return shown


def _verdict(series: Series) -> str:
    """``complete``, or how much of the series is recorded; ``gaps`` and ``certify`` look closer."""
    gaps = series.gaps
    if gaps is None:
        return ""
    holes, missing = gaps.count(UNRECORDED, UNCONFIRMED), gaps.missing_in(UNRECORDED, UNCONFIRMED)
    if not holes:
        return "complete"
    # Rounded down: what is not complete must not look as if it were.
    share = int(1000 * (1 - missing / (series.rows + int(gaps.missing.sum())))) / 10
    return f"{share} %: {holes:,} {'hole' if holes == 1 else 'holes'} can be healed"


def _gap_dicts(summary: TableSummary, series: Series) -> Iterator[dict[str, Any]]:
    if series.gaps is None:
        return
    for gap in series.gaps.to_list():
        command = None
        if gap["kind"] != ABSENT:
            command = (
                f"zvt-crypto record --provider {summary.provider} --codes {series.entity_id}"
                f" --levels {summary.spec.level} --start {iso(gap['start'])}"
                f" --end {iso(gap['end'] - series.gaps.step)}"
            )
        yield {
            "start": iso(gap["start"]),
            "end": iso(gap["end"]),
            "missing": gap["missing"],
            "kind": gap["kind"],
            "cause": _CAUSES[gap["kind"]],
            "command": command,
        }


def _print_summaries(state: State, store: Store, summaries: Sequence[TableSummary]) -> None:
    from rich.table import Table

    if not summaries:
        state.stdout.print(f"nothing is recorded in {store.data_path}")
        return
    for summary in summaries:
        per_row = "" if summary.bytes_per_row is None else f", {summary.bytes_per_row:.0f} bytes a row"
        disk = _size(summary.disk_bytes)
        state.stdout.print(f"{summary.provider} {summary.spec.name}: {summary.rows:,} rows, {disk}{per_row}")
        if not summary.series:
            continue
        shown = Table(box=None, padding=(0, 1, 0, 2))
        for name in ("symbol", "rows", "first", "last", "gaps", "not on exchange", "not recorded", "verdict"):
            is_text = name in ("symbol", "first", "last", "verdict")
            shown.add_column(name, justify="left" if is_text else "right")
        for series in summary.series:
            shown.add_row(*_cells(series))
        state.print_table(shown)


def _cells(series: Series) -> list[str]:
    cells = [series.code, f"{series.rows:,}", _minute(series.first), _minute(series.last)]
    gaps = series.gaps
    if gaps is None:
        return [*cells, "", "", "", ""]
    unrecorded = gaps.missing_in(UNRECORDED, UNCONFIRMED)
    counts = (len(gaps), gaps.missing_in(ABSENT), unrecorded)
    return [*cells, *(f"{count:,}" for count in counts), _verdict(series)]


def _print_gaps(state: State, summaries: Sequence[TableSummary]) -> None:
    from rich.table import Table

    shown = Table("symbol", "level", "from", "until", box=None, pad_edge=False)
    shown.add_column("missing", justify="right")
    shown.add_column("cause, and what to do")
    for summary in summaries:
        for series in summary.series:
            for gap in _gap_dicts(summary, series):
                todo = f"{gap['cause']}: {gap['command']}" if gap["command"] else gap["cause"]
                place = (market_name(series.entity_id), str(summary.spec.level))
                shown.add_row(*place, gap["start"], gap["end"], f"{gap['missing']:,}", todo)
    state.stdout.print()
    if shown.row_count:
        state.print_table(shown)
    else:
        state.stdout.print("no gaps")


def _iso(ts: int | None) -> str | None:
    return None if ts is None else iso(ts)


def _minute(ts: int | None) -> str:
    return "" if ts is None else iso(ts)[:16].replace("T", " ")


def _size(count: int) -> str:
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"
