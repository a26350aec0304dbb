"""``python -m benchmarks [name ...]``: run some benchmarks, all by default, and print their tables.

A name stands for its family, too: ``stream`` runs ``stream_messages``, ``stream_tables`` and the others.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import sys
from pathlib import Path

from benchmarks import measure

_HELP = {"__main__", "captures", "flood", "measure"}
NAMES = sorted(
    module.name
    for module in pkgutil.iter_modules([str(Path(__file__).parent)])
    if module.name not in _HELP and not module.name.startswith("peer_")
)


def main(arguments: list[str]) -> int:
    """Run the named benchmarks; the tables also go to ``build/benchmarks.md``."""
    chosen = {asked: [name for name in NAMES if f"{name}_".startswith(f"{asked}_")] for asked in arguments}
    unknown = [asked for asked, names in chosen.items() if not names]
    if unknown:
        sys.stderr.write(f"unknown benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}\n")
        return 2
    parts = [measure.machine(), ""]
    for name in list(dict.fromkeys(itertools.chain(*chosen.values()))) or NAMES:
        title, rows, notes = importlib.import_module(f"benchmarks.{name}").run()
        parts += [measure.show(title, rows, notes), ""]
    sys.stdout.write(f"{measure.machine()}\n")
    last_run = measure.ROOT / "build" / "benchmarks.md"
    last_run.parent.mkdir(exist_ok=True)
    last_run.write_text("\n".join(parts), encoding="utf-8")
    sys.stdout.write(f"as Markdown: {last_run}\n")
    return 0


sys.exit(main(sys.argv[1:]))
