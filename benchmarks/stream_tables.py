"""Trades from a socket to committed rows, for ten minutes: rate, memory, and whether every one is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Row

RATE = 100_000
SECONDS = 600
#: Until then caches fill and buffers grow to their size.
_SETTLED_SECONDS = 60
#: What is stored so long after the last trade counts.
_DRAIN_SECONDS = 6


def run(seconds: int = SECONDS, rate: int = RATE) -> tuple[str, list[Row], list[str]]:
    """Stream into a table what a local server sends as Binance would."""
    with tempfile.TemporaryDirectory() as folder, _sandbox() as sandbox, _flood(sandbox, rate) as flood:
        statuses, sent = _stream(Path(folder), flood, seconds)
    stored = [(one["written"], one["tables"][0]["stored_rows"]) for one in statuses]
    growing = [one for one, after in zip(stored, stored[1:], strict=False) if 0 < one[1] < after[1]]
    per_second = (growing[-1][1] - growing[0][1]) / (growing[-1][0] - growing[0][0])
    settled = [one["rss"] for one in statuses if one["written"] > statuses[0]["written"] + _SETTLED_SECONDS]
    settled = settled or [one["rss"] for one in statuses[len(statuses) // 2 :]]
    tables = statuses[-1]["tables"][0]
    rows = [
        Row(
            "trades/s from socket to committed rows",
            f"{per_second:,.0f}",
            f"{rate:,} (mark)",
            per_second / rate,
            0.99,
        ),
        Row(
            "MB at the end against those after a minute",
            f"{settled[-1]:.0f}",
            f"{settled[0]:.0f}",
            settled[-1] / settled[0],
            1.1,
            at_least=False,
        ),
        Row(
            "trades stored of those sent",
            f"{tables['stored_rows']:,}",
            f"{sent:,}",
            tables["stored_rows"] / sent,
            1.0,
        ),
    ]
    return (
        f"Streams: {seconds} s into a table",
        rows,
        [
            f"A process of its own sends {rate:,} different trades a second in Binance's frames over one connection;"
            f" `zvt-crypto stream` stores them: {tables['spilled_rows']:,} rows waited on disk meanwhile,"
            f" {tables['dropped_rows']:,} were dropped.",
        ],
    )


def _stream(folder: Path, gateway: int, seconds: int) -> tuple[list[dict[str, Any]], int]:
    """The statuses of a run, each with its memory in MB, and how many trades were sent."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "ZVT_CRYPTO_GATEWAY": f"http://127.0.0.1:{gateway}",
        "ZVT_CRYPTO_DATA_PATH": str(folder / "data"),
        "ZVT_HOME": str(folder),
    }
    command = [sys.executable, "-m", "zvt_crypto.cli", "stream", "--json", "--provider", "binance"]
    command += ["--codes", "btcusdt", "--trades"]
    statuses = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        began = time.monotonic()
        stopped = 0.0
        for line in process.stdout:
            status = json.loads(line)
            status["rss"] = _megabytes(process.pid)
            statuses.append(status)
            if not stopped and time.monotonic() - began > seconds:
                stopped = time.monotonic()
                _ask(gateway, "stop")
            if stopped and time.monotonic() - stopped > _DRAIN_SECONDS:
                process.terminate()
    return statuses, int(_ask(gateway, "count"))


def _megabytes(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _ask(gateway: int, what: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway}/flood/{what}") as answer:
        text: str = answer.read().decode()
    return text


class _Server:
    """A process that prints where it listens."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def __enter__(self) -> int:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := re.search(r"(?::|^)(\d{4,5})\b", line):
                return int(found[1])
        raise RuntimeError("the server has ended")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def _sandbox() -> _Server:
    return _Server(["-m", "zvt_crypto.cli", "sandbox", "--port", "0", "--json"])


def _flood(sandbox: int, rate: int) -> _Server:
    return _Server(["-m", "benchmarks.flood", str(sandbox), str(rate)])
