"""The report of a recording: a table for people, an object for programs, a line for each failure."""

from __future__ import annotations

from typing import Any

from zvt_crypto.cli.naming import label
from zvt_crypto.cli.progress import Watch
from zvt_crypto.cli.state import State
from zvt_crypto.core.errors import EXIT_PARTIAL, ZvtCryptoError
from zvt_crypto.core.tables import tables
from zvt_crypto.recorders.report import Outcome, Report


def show(state: State, report: Report, watch: Watch, fatal: ZvtCryptoError | None) -> None:
    """Show what became of every symbol, then each failure.

    Args:
        state: How to talk.
        report: What was done.
        watch: What followed the run.
        fatal: What ended it early.
    """
    if state.as_json:
        state.write_json(_as_dict(report, watch, fatal))
    elif report.outcomes:
        _print_table(state, report, watch)
    told = [error for outcome in report.failed for error in outcome.errors]
    if fatal is not None and fatal not in told:
        told.insert(0, fatal)
    # Symbols that were given up together, and a symbol in many tables, have the same to say.
    for error in {error.one_line(): error for error in told}.values():
        state.tell(error)


def tell_interrupted(state: State, report: Report) -> None:
    """One line about Ctrl-C."""
    state.stderr.print(
        f"interrupted: {report.rows:,} rows are stored and stay; the same command again continues from there"
    )


def exit_code(report: Report, watch: Watch, fatal: ZvtCryptoError | None) -> int:
    """The report's own, and where the run ended early: in part if anything was stored, else the error's."""
    if fatal is None:
        return report.exit_code
    complete = any(_state(outcome, watch) in ("recorded", "already recorded") for outcome in report.outcomes)
    return EXIT_PARTIAL if report.rows or complete else fatal.exit_code


def _state(outcome: Outcome, watch: Watch) -> str:
    if outcome.errors:
        return "incomplete" if outcome.rows else "failed"
    if watch.seconds(outcome) is None and not _is_entities(outcome):
        return "not finished"
    return "recorded" if outcome.requests else "already recorded"


def _is_entities(outcome: Outcome) -> bool:
    """Tables of instruments are recorded by one request, which nothing follows."""
    return tables[outcome.table].layout == "entities"


def _rate(outcome: Outcome, watch: Watch) -> float | None:
    seconds = watch.seconds(outcome)
    return outcome.rows / seconds if seconds and outcome.requests else None


def _as_dict(report: Report, watch: Watch, fatal: ZvtCryptoError | None) -> dict[str, Any]:
    return {
        "rows": report.rows,
        "requests": report.requests,
        "seconds": round(report.seconds, 3),
        "exit_code": exit_code(report, watch, fatal),
        "error": None if fatal is None else fatal.as_dict(),
        "outcomes": [
            {
                "table": outcome.table,
                "entity_id": outcome.entity_id,
                "rows": outcome.rows,
                "requests": outcome.requests,
                "rows_per_second": _rate(outcome, watch),
                "state": _state(outcome, watch),
                "errors": [error.as_dict() for error in outcome.errors],
            }
            for outcome in report.outcomes
        ],
    }


def _print_table(state: State, report: Report, watch: Watch) -> None:
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    shown.add_column("symbol")
    for name in ("rows", "requests", "rows/s"):
        shown.add_column(name, justify="right")
    shown.add_column("state")
    for outcome in report.outcomes:
        rate = _rate(outcome, watch)
        shown.add_row(
            label(outcome),
            f"{outcome.rows:,}",
            f"{outcome.requests:,}",
            "" if rate is None else f"{rate:,.0f}",
            _state(outcome, watch),
        )
    state.print_table(shown)
    speed = f", {report.rows / report.seconds:,.0f} rows/s" if report.rows and report.seconds else ""
    state.stdout.print(
        f"{report.rows:,} rows in {report.requests:,} requests and {report.seconds:.1f} s{speed}"
    )
