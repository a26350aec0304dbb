"""How a recording looks while it happens: bars on a terminal, a line per symbol elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from zvt_crypto.cli.naming import label
from zvt_crypto.recorders.report import Outcome

#: With more symbols than that, only those under way have a bar.
_BARS_KEPT: Final = 12


class Watch:
    """Follows a run and shows nothing: which symbols came to their end, and how long each took."""

    def __init__(self) -> None:
        self._began: dict[int, float] = {}
        self._seconds: dict[int, float] = {}

    def planned(self, outcome: Outcome, rows: int) -> None:
        """The clock of a symbol runs from here, unless ``started`` comes."""
        self._began[id(outcome)] = time.monotonic()

    def started(self, outcome: Outcome) -> None:
        """The first page of a symbol is asked for."""
        self._began[id(outcome)] = time.monotonic()

    def advanced(self, outcome: Outcome, rows: int) -> None:
        """Nothing to note."""

    def finished(self, outcome: Outcome) -> None:
        """The symbol's clock stops."""
        self._seconds[id(outcome)] = time.monotonic() - self._began.get(id(outcome), time.monotonic())

    def seconds(self, outcome: Outcome) -> float | None:
        """How long a symbol took, None where it did not come to its end."""
        return self._seconds.get(id(outcome))

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Lines(Watch):
    """One line per symbol as it ends, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._planned: dict[int, int] = {}

    def planned(self, outcome: Outcome, rows: int) -> None:
        """Remember how much is to come."""
        super().planned(outcome, rows)
        self._planned[id(outcome)] = rows

    def finished(self, outcome: Outcome) -> None:
        """Tell of the symbol."""
        super().finished(outcome)
        planned = self._planned.get(id(outcome), 0)
        if outcome.errors:
            text = "failed"
        elif not planned:
            text = "already recorded"
        else:
            text = f"{outcome.rows:,} rows in {self.seconds(outcome) or 0:.1f} s"
        self._console.print(f"{label(outcome)}: {text}", markup=False)


class Bars(Watch):
    """A bar per symbol and one for all, with the time that is left.

    Args:
        console: Where to draw.
        expected: Rows that each table is thought to need, so that the overall bar knows of tables whose
            turn has not come.
    """

    def __init__(self, console: Console, expected: Mapping[str, int]) -> None:
        super().__init__()
        self._expected = dict(expected)
        self._total = sum(self._expected.values())
        self._bars: dict[int, TaskID] = {}
        self._rich = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
        )
        self._overall = self._rich.add_task("all", total=self._total or None)

    def planned(self, outcome: Outcome, rows: int) -> None:
        """Add the symbol's bar; what a table was thought to need gives way to its first plan."""
        super().planned(outcome, rows)
        self._total += rows - self._expected.pop(outcome.table, 0)
        self._rich.update(self._overall, total=self._total)
        if rows:
            visible = len(self._bars) < _BARS_KEPT
            self._bars[id(outcome)] = self._rich.add_task(escape(label(outcome)), total=rows, visible=visible)

    def advanced(self, outcome: Outcome, rows: int) -> None:
        """Move the symbol's bar and the overall one."""
        self._rich.advance(self._overall, rows)
        if id(outcome) in self._bars:
            self._rich.update(self._bars[id(outcome)], advance=rows, visible=True)

    def finished(self, outcome: Outcome) -> None:
        """Mark the symbol's bar, or take it away where there are many."""
        super().finished(outcome)
        bar = self._bars.get(id(outcome))
        if bar is not None:
            mark = " [red]failed[/red]" if outcome.errors else ""
            visible = len(self._bars) <= _BARS_KEPT or bool(outcome.errors)
            self._rich.update(bar, description=escape(label(outcome)) + mark, visible=visible)

    def __enter__(self) -> Bars:
        self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rich.stop()


def watch(console: Console, *, show: bool, expected: Mapping[str, int]) -> Watch:
    """What fits: bars on a terminal, lines elsewhere, nothing where nothing is wanted."""
    if not show:
        return Watch()
    return Bars(console, expected) if console.is_terminal else Lines(console)
