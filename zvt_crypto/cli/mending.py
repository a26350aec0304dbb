"""What ``repair`` and ``verify`` do: through the exchange to a report and an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zvt_crypto.cli.gapreport import place
from zvt_crypto.cli.progress import watch
from zvt_crypto.cli.selecting import Asked, chosen_series
from zvt_crypto.cli.state import State
from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import EXIT_FAILED, EXIT_OK, EXIT_PARTIAL, InvalidArgument, ZvtCryptoError
from zvt_crypto.core.levels import iso
from zvt_crypto.recorders.repairing import Repair, repair
from zvt_crypto.recorders.verifying import WINDOWS, Sample, Verification, verify


def repair_holes(
    state: State, settings: Settings, asked: Asked, *, again: bool, from_exchange_only: bool
) -> int:
    """Heal and prove, show what came of it, and answer the exit code: 3 where something is left."""
    start, end = asked.range
    with watch(state.stderr, show=state.show_progress, expected={}) as progress:
        made = repair(
            settings,
            chosen_series(settings, asked),
            start=start,
            end=end,
            again=again,
            from_trades=not from_exchange_only,
            progress=progress,
        )
    if state.as_json:
        state.write_json({"series": [_repair_dict(one) for one in made]})
    else:
        _print_repairs(state, made)
    _tell(state, [one.errors for one in made])
    if not any(one.errors or one.remaining for one in made):
        return EXIT_OK
    done = any(one.healed or one.proved or not one.errors for one in made)
    return EXIT_PARTIAL if done else EXIT_FAILED


def verify_rows(
    state: State,
    settings: Settings,
    asked: Asked,
    *,
    share: float | None,
    every: bool,
    windows: int | None,
    seed: int,
    fix: bool,
) -> int:
    """Compare with the exchange, show the differences, and answer the exit code: 3 where there are any.

    Raises:
        InvalidArgument: More than one size of the sample is given.
    """
    if sum((share is not None, every, windows is not None)) > 1:
        raise InvalidArgument(
            "--share, --windows and --all exclude each other", suggestions=("give one of them",)
        )
    start, end = asked.range
    sample = Sample(WINDOWS if windows is None else windows, 1.0 if every else share, seed)
    made = verify(settings, chosen_series(settings, asked), sample=sample, start=start, end=end, fix=fix)
    if state.as_json:
        state.write_json({"series": [_verification_dict(one) for one in made]})
    else:
        _print_verifications(state, made)
    _tell(state, [one.errors for one in made])
    if any(one.result.differing for one in made):
        return EXIT_PARTIAL
    if not any(one.errors for one in made):
        return EXIT_OK
    return EXIT_PARTIAL if any(one.result.compared for one in made) else EXIT_FAILED


def _tell(state: State, errors: Sequence[Sequence[ZvtCryptoError]]) -> None:
    told = {error.one_line(): error for some in errors for error in some}
    for error in told.values():
        state.tell(error)


def _head(one: Repair | Verification) -> dict[str, Any]:
    return {
        "provider": one.series.provider,
        "table": one.series.spec.name,
        "level": one.series.spec.level,
        "entity_id": one.series.entity_id,
        "code": one.series.code,
        "requests": one.requests,
        "errors": [error.as_dict() for error in one.errors],
    }


def _repair_dict(one: Repair) -> dict[str, Any]:
    return {
        **_head(one),
        "holes_before": one.before.by_kind(),
        "holes_after": one.after.by_kind(),
        "asked": [[iso(start), iso(end)] for start, end in one.asked],
        "healed": one.healed,
        "rebuilt_from_trades": one.rebuilt,
        "proved": one.proved,
        "remaining": one.remaining,
    }


def _print_repairs(state: State, made: Sequence[Repair]) -> None:
    from rich.table import Table

    shown = Table("series", box=None, pad_edge=False)
    for name in ("holes", "healed", "of trades", "proved", "requests", "left to heal"):
        shown.add_column(name, justify="right")
    for one in made:
        counts = (len(one.before.gaps), one.healed, one.rebuilt, one.proved, one.requests, one.remaining)
        shown.add_row(place(one.series), *(f"{count:,}" for count in counts))
    state.print_table(shown)


def _verification_dict(one: Verification) -> dict[str, Any]:
    return {
        **_head(one),
        "windows": [[iso(start), iso(end)] for start, end in one.windows],
        "windows_of": one.of,
        **one.result.as_dict(),
        "fixed": one.fixed,
    }


def _print_verifications(state: State, made: Sequence[Verification]) -> None:
    from rich.table import Table

    shown = Table("series", box=None, pad_edge=False)
    for name in ("windows", "rows", "changed", "vanished", "lacking", "worst", "fixed"):
        shown.add_column(name, justify="right")
    for one in made:
        found = one.result
        counts = (found.compared, found.changed, found.vanished, found.lacking)
        worst = "" if found.worst is None else f"{found.worst:.2%}"
        cells = [f"{len(one.windows):,}", *(f"{count:,}" for count in counts), worst, f"{one.fixed:,}"]
        shown.add_row(place(one.series), *cells)
    state.print_table(shown)
    for one in made:
        for example in one.result.examples:
            state.stdout.print(f"{place(one.series)} {_example_text(example)}")


def _example_text(example: dict[str, Any]) -> str:
    if "column" not in example:
        what = "not at the exchange any more" if example["change"] == "vanished" else "not recorded"
        return f"{example['time']} {what}"
    by = example["relative_difference"]
    how_much = "" if by is None else f" ({by:.2%})"
    return (
        f"{example['time']} {example['column']}: recorded {example['recorded']},"
        f" the exchange has {example['other']}{how_much}"
    )
