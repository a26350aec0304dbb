"""Import time and memory against zvt's own import."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.measure import Row, child, medians, working_zvt

#: What a user writes first; `import zvt_crypto` alone loads nothing heavy, so it would be no fair figure.
OURS = "from zvt_crypto import CryptoPair, CryptoPair1mKdata"
PEER = "import zvt"


def run(runs: int = 7) -> tuple[str, list[Row], list[str]]:
    """Both imports in turn, each in a fresh process with a warm disk."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = working_zvt(folder)
        own_environment = {"ZVT_HOME": str(folder / "own-home")}
        for script, env in ((OURS, own_environment), (PEER, environment)):
            child(script, environment=env)
        pairs = [
            (child(OURS, environment=own_environment), child(PEER, environment=environment))
            for _ in range(runs)
        ]
    ours, peer = medians([a for a, _ in pairs]), medians([b for _, b in pairs])
    rows = [
        Row(
            "import, seconds",
            f"{ours['wall']:.2f}",
            f"{peer['wall']:.2f}",
            ours["wall"] / peer["wall"],
            0.5,
            at_least=False,
        ),
        Row(
            "import, peak MB",
            f"{ours['peak_mb']:.0f}",
            f"{peer['peak_mb']:.0f}",
            ours["peak_mb"] / peer["peak_mb"],
            0.8,
            at_least=False,
        ),
    ]
    return "Import", rows, [f"Medians of {runs} fresh processes: `{OURS}` against `{PEER}`."]
