"""Fenced blocks of the documentation, and how a test runs them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def blocks(path, language):
    """Texts of the blocks of a language, in order."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(path):
    """Shell commands of a document, comments and empty lines left out."""
    for block in blocks(path, "bash"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def run(words, environment, *, package=ROOT):
    """Run a command of ours with the interpreter that runs the tests."""
    assert words[0] == "zvt-crypto", words
    return execute(["-m", "zvt_crypto.cli", *words[1:]], environment, package=package)


def execute(arguments, environment, *, package=ROOT):
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=environment["ZVT_HOME"],
        env=os.environ | {"PYTHONPATH": str(package)} | environment,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout
