"""What ``record --dry-run`` shows: what would be fetched, and what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zvt_crypto.cli.naming import label
from zvt_crypto.cli.state import State
from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import EXIT_FAILED, EXIT_OK
from zvt_crypto.core.levels import iso
from zvt_crypto.recorders.forecast import Forecast
from zvt_crypto.recorders.run import Run, Selection


def show_forecast(state: State, settings: Settings, chosen: Sequence[Selection]) -> int:
    """Show what selections would take, and answer the exit code."""
    found = [made for selection in chosen for made in Run(settings, selection).forecast()]
    if state.as_json:
        state.write_json({"forecast": [_as_dict(made) for made in found], "total": _total(found)})
    elif found:
        _print_table(state, found)
    for error in {made.error.one_line(): made.error for made in found if made.error}.values():
        state.tell(error)
    return EXIT_FAILED if found and not any(made.ranges or not made.error for made in found) else EXIT_OK


def _as_dict(made: Forecast) -> dict[str, Any]:
    return {
        "table": made.table,
        "entity_id": made.entity_id,
        "ranges": [{"start": iso(start), "end": iso(end)} for start, end in made.ranges],
        "source": _source(made),
        "archive_files": made.files,
        "requests": made.requests,
        "rows": made.rows,
        "bytes": made.bytes,
        "minutes": round(made.seconds / 60, 2),
        "sample_requests": made.samples,
        "error": None if made.error is None else made.error.as_dict(),
    }


def _total(found: Sequence[Forecast]) -> dict[str, Any]:
    return {
        "requests": sum(made.requests for made in found),
        "rows": sum(made.rows for made in found),
        "bytes": sum(made.bytes for made in found),
        "minutes": round(sum(made.seconds for made in found) / 60, 2),
    }


def _source(made: Forecast) -> str:
    if not made.ranges:
        return "nothing to fetch"
    asked = f"{made.files} archive files" if made.files else ""
    return " + ".join(filter(None, (asked, "REST" if made.seconds or not made.files else "")))


def _print_table(state: State, found: Sequence[Forecast]) -> None:
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    for name in ("symbol", "from", "to", "ranges", "source"):
        shown.add_column(name)
    for name in ("requests", "rows", "MB", "minutes"):
        shown.add_column(name, justify="right")
    for made in found:
        edges = (iso(made.ranges[0][0]), iso(made.ranges[-1][1])) if made.ranges else ("", "")
        shown.add_row(
            label(made),
            *edges,
            str(len(made.ranges)),
            _source(made),
            f"{made.requests:,}",
            f"{made.rows:,}",
            f"{made.bytes / 1e6:,.1f}",
            f"{made.seconds / 60:,.1f}",
        )
    state.print_table(shown)
    total = _total(found)
    state.stdout.print(
        f"{total['rows']:,} rows, {total['requests']:,} requests, {total['bytes'] / 1e6:,.1f} MB and"
        f" {total['minutes']:,.1f} minutes under the venue's budget; nothing was recorded"
    )
