"""What every benchmark needs: medians of repeated runs, child processes with their peak memory, one table."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: ours, the peer's, their ratio and the mark that it should reach.

    ``at_least`` tells which side of the mark is good.
    """

    what: str
    ours: str
    peer: str
    ratio: float
    mark: float
    at_least: bool = True

    @property
    def reached(self) -> bool:
        """Whether the ratio is on the good side of its mark."""
        return self.ratio >= self.mark if self.at_least else self.ratio <= self.mark


def child(
    script: str, *arguments: str, environment: dict[str, str] | None = None, python: str = sys.executable
) -> Any:
    """Run Python code in a fresh process.

    Returns:
        The JSON of the last line it prints, with ``wall`` (seconds) and ``peak_mb`` added.
    """
    wrapped = (
        "import json, resource, sys, time\n_began = time.perf_counter()\nfacts = {}\n"
        f"{script}\n"
        "facts['wall'] = time.perf_counter() - _began\n"
        "facts['peak_mb'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "sys.stdout.write('\\n' + json.dumps(facts))\n"
    )
    done = subprocess.run(
        [python, "-c", wrapped, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {}),
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """The median of each number over the runs."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def working_zvt(folder: Path) -> dict[str, str]:
    """Environment in which plain zvt can be imported: a copy of the installed one with the file it lacks."""
    import importlib.util

    spec = importlib.util.find_spec("zvt")
    assert spec is not None and spec.origin is not None
    target = folder / "peer" / "zvt"
    if not target.exists():
        shutil.copytree(Path(spec.origin).parent, target)
        shutil.copyfile(ROOT / "zvt_crypto" / "zvt_config.json", target / "config.json")
    return {"PYTHONPATH": f"{target.parent}:{ROOT}", "ZVT_HOME": str(folder / "zvt-home")}


def machine() -> str:
    """Cores, Python and the versions of what is measured, one line."""
    packages = " ".join(
        f"{name} {version(name)}"
        for name in ("zvt", "ccxt", "pandas", "pyarrow", "adbc-driver-sqlite", "sqlalchemy")
    )
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, {packages}"


def show(title: str, rows: list[Row], notes: list[str]) -> str:
    """Print the rows; returns them as a Markdown table."""
    console = Console(width=140)
    table = Table(title=title)
    for heading in ("what", "zvt-crypto", "peer", "ratio", "mark", ""):
        table.add_column(heading)
    lines = [f"### {title}", "", "| what | zvt-crypto | peer | ratio | mark |", "|---|---|---|---|---|"]
    for row in rows:
        sign = "≥" if row.at_least else "≤"
        cells = [row.what, row.ours, row.peer, f"{row.ratio:.2f}", f"{sign} {row.mark:g}"]
        table.add_row(*cells, "reached" if row.reached else "[red]below[/red]")
        lines.append(f"| {' | '.join(cells)} |")
    console.print(table)
    for note in notes:
        console.print(note)
    return "\n".join([*lines, "", *(f"{note}  " for note in notes)])


def peak_mb_of_children() -> float:
    """Peak resident memory of the largest child process that has ended, in MB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
