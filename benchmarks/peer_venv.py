"""Peers in virtual environments of their own under ``build/``, since few of them install beside zvt's pins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.measure import ROOT, child


def install(package: str) -> Path:
    """Install a package where it is not yet; returns the Python that has it."""
    venv = ROOT / "build" / package
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    find = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    if subprocess.run([str(python), "-c", find]).returncode:
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
        subprocess.run(pip, check=True)
    return python


def versions(python: str | Path, *packages: str) -> str:
    """Names and versions of packages of an environment, for the notes under a table."""
    script = (
        "from importlib.metadata import version\n"
        "facts['text'] = ', '.join(f'{name} {version(name)}' for name in sys.argv[1:])"
    )
    return str(child(script, *packages, python=str(python))["text"])
