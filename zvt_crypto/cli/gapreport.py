"""What ``gaps`` shows: each hole with its kind, its evidence and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from zvt_crypto.cli.naming import market_name
from zvt_crypto.cli.selecting import Asked, chosen_series
from zvt_crypto.cli.state import State
from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import EXIT_OK, EXIT_PARTIAL
from zvt_crypto.core.levels import iso
from zvt_crypto.quality.certificate import answered_share
from zvt_crypto.quality.gaps import EMPTY_THERE, HEALABLE
from zvt_crypto.quality.holes import Holes, find_holes
from zvt_crypto.quality.series import RecordedSeries
from zvt_crypto.store.engine import Store

#: Holes that are listed for people.
_MOST_LISTED: Final = 200


def show_gaps(state: State, settings: Settings, asked: Asked) -> int:
    """Show the holes, and answer the exit code: 3 where some can be healed."""
    start, end = asked.range
    store = Store(settings)
    found = [find_holes(store, series, start, end) for series in chosen_series(settings, asked)]
    totals = _totals(found)
    can_be_healed = sum(int(holes.can_be_healed.sum()) for holes in found)
    if state.as_json:
        state.write_json(
            {
                "series": [_as_dict(holes) for holes in found],
                "totals": totals,
                "can_be_healed": can_be_healed,
            }
        )
    else:
        _print(state, found, totals)
    return EXIT_PARTIAL if can_be_healed else EXIT_OK


def repair_command(series: RecordedSeries, start: int, end: int) -> str:
    """The command that asks for a stretch of time once more."""
    what = f"--levels {series.spec.level}" if series.spec.level else f"--{series.spec.feed}"
    return (
        f"zvt-crypto repair --provider {series.provider} --codes {series.entity_id} {what}"
        f" --start {iso(start)} --end {iso(end - 1)}"
    )


def place(series: RecordedSeries) -> str:
    """What people call a series, such as ``binance btcusdt 1m``."""
    return f"{market_name(series.entity_id)} {series.spec.level or series.spec.feed}"


def _totals(found: Sequence[Holes]) -> dict[str, dict[str, int]]:
    totals: dict[str, dict[str, int]] = {}
    for holes in found:
        for kind, counts in holes.by_kind().items():
            total = totals.setdefault(kind, {"holes": 0, "missing": 0})
            for name, count in counts.items():
                total[name] += count
    return totals


def _as_dict(holes: Holes) -> dict[str, Any]:
    series = holes.series
    return {
        "provider": series.provider,
        "table": series.spec.name,
        "level": series.spec.level,
        "entity_id": series.entity_id,
        "code": series.code,
        "start": iso(holes.start),
        "end": iso(holes.end),
        "rows": holes.rows,
        "coverage": answered_share(holes),
        "totals": holes.by_kind(),
        "holes": list(_hole_dicts(holes)),
    }


def _hole_dicts(holes: Holes) -> Iterator[dict[str, Any]]:
    for hole in holes.to_list():
        is_open = hole["kind"] in HEALABLE or (hole["kind"] in EMPTY_THERE and not hole["proven"])
        yield {
            **hole,
            "start": iso(hole["start"]),
            "end": iso(hole["end"]),
            "command": repair_command(holes.series, hole["start"], hole["end"]) if is_open else None,
        }


def _print(state: State, found: Sequence[Holes], totals: dict[str, dict[str, int]]) -> None:
    from rich.table import Table

    shown = Table("series", "from", "until", box=None, pad_edge=False)
    shown.add_column("missing", justify="right")
    for name in ("kind", "evidence", "what to do"):
        shown.add_column(name)
    for holes in found:
        for hole in _hole_dicts(holes):
            if shown.row_count < _MOST_LISTED:
                kind = f"{hole['kind']}, proven" if hole["proven"] else hole["kind"]
                cells = (place(holes.series), hole["start"], hole["end"], f"{hole['missing']:,}", kind)
                shown.add_row(*cells, evidence_text(hole["evidence"]), hole["command"] or "nothing")
    count = sum(len(holes.gaps) for holes in found)
    if not count:
        state.stdout.print("no gaps")
        return
    state.print_table(shown)
    if count > _MOST_LISTED:
        state.stdout.print(f"... and {count - _MOST_LISTED:,} more; --json lists them all")
    for kind, counts in totals.items():
        state.stdout.print(f"{kind}: {counts['holes']:,} in all, {counts['missing']:,} missing")


def evidence_text(evidence: Sequence[dict[str, Any]]) -> str:
    """Facts on one line."""
    facts = (f"{name}={_text(value)}" for entry in evidence for name, value in entry.items())
    return " ".join(facts)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)
