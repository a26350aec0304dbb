"""Twelve simulated hours at high speed with a fault every simulated minute: the tables against the source."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import ROOT, Row
from zvt_crypto.core.config import load_settings
from zvt_crypto.core.levels import HOUR_MS, MINUTE_MS, subtract_spans
from zvt_crypto.core.tables import TableSpec, tables
from zvt_crypto.domain import load_tables
from zvt_crypto.sandbox import Sandbox, SimulatedMarket
from zvt_crypto.sandbox.events import TradeSpan
from zvt_crypto.store import coverage
from zvt_crypto.store.engine import Store

HOURS = 12.0
SPEED = 24.0
SYMBOL: Final = "BTC/USDT"
_START: Final = 1_795_000_000_000
#: No faults for so many real seconds at the end, in which what is missing is fetched.
_CALM_SECONDS: Final = 100.0
_FAULTS: Final = (
    "ws_disconnect,times=1",
    "ws_silence:1.5,times=1",
    "ws_duplicate,times=5",
    "ws_reorder,times=5",
    "ws_skip,times=3",
    "ws_garbage,times=1",
    "ws_rename,times=1",
    "ws_flood:3,times=5",
    "ws_refuse,times=1",
    "status:500,times=2",
    "disconnect,times=1",
    "status:429,times=1,retry_after=1",
)


def run(hours: float = HOURS, speed: float = SPEED) -> tuple[str, list[Row], list[str]]:
    """Stream trades and candles of a market whose clock runs fast, and compare them with it."""
    began = time.time()
    market = SimulatedMarket(1, now=lambda: int(_START + (time.time() - began) * 1000 * speed))
    with tempfile.TemporaryDirectory() as folder, Sandbox(market, tick_ms=20) as box:
        seconds = hours * 3600 / speed
        struck = _stream(box, Path(folder), seconds, speed)
        found = [_compare(market, Path(folder), spec, hours) for spec in _specs()]
    rows = [row for one in found for row in one]
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(struck.items()))
    return (
        f"Streams: {hours:g} simulated hours with faults",
        rows,
        [
            f"{SYMBOL} on binance at {speed:g} times real speed, a fault each simulated minute: {faults}.",
        ],
    )


def _stream(box: Sandbox, folder: Path, seconds: float, speed: float) -> Counter[str]:
    """Run the command, with a fault every simulated minute; how many of each there were."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "ZVT_CRYPTO_GATEWAY": box.url,
        "ZVT_CRYPTO_DATA_PATH": str(folder / "data"),
        "ZVT_HOME": str(folder),
        "ZVT_CRYPTO_RATE_LIMIT": "false",
        "ZVT_CRYPTO_RETRY_WAIT_SECONDS": "0.1",
    }
    command = [
        sys.executable,
        "-m",
        "zvt_crypto.cli",
        "stream",
        "--provider",
        "binance",
        "--codes",
        "btcusdt",
    ]
    command += ["--trades", "--levels", "1m", "--no-progress", "--for", str(seconds)]
    struck: Counter[str] = Counter()
    draw = random.Random(1)  # noqa: S311 - a seed, so that runs are alike
    began = time.monotonic()
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(60 / speed)
            if 5 < time.monotonic() - began < seconds - _CALM_SECONDS:
                fault = draw.choice(_FAULTS)
                box.faults = [fault]
                struck[fault.partition(",")[0].partition(":")[0]] += 1
            else:
                box.faults = []
    return struck


def _specs() -> list[TableSpec]:
    load_tables()
    return [tables["cryptotrade"], tables["cryptopair_1m_kdata"]]


def _compare(market: SimulatedMarket, folder: Path, spec: TableSpec, hours: float) -> list[Row]:
    """What the ledger calls recorded against the market: rows missing, rows twice or never there, time missing."""
    store = Store(load_settings(data_path=folder / "data"))
    with store.connect("binance", spec) as connection:
        spans = coverage.covered(connection, 1)
        names = ["ts", "trade_id"] if spec.feed == "trades" else ["ts"]
        stored: Any = connection.query(f"SELECT {', '.join(names)} FROM rows ORDER BY ts").to_pylist()
        streamed = sum(b - a for a, b in coverage.answered_by(connection, 1).get(coverage.STREAM, []))
    start, end = spans[0][0], spans[-1][1]
    keys = [tuple(int(row[name]) for name in names) for row in stored if start <= row["ts"] < end]
    if spec.feed == "trades":
        source = market.trades(TradeSpan(SYMBOL, start, end))
        wanted = set(zip(source.ts.tolist(), source.id.tolist(), strict=True))
    else:
        wanted = {(ts,) for ts in market.candles(SYMBOL, "1m", start, end).ts.tolist()}
    missing, extra = len(wanted - set(keys)), len(keys) - len(wanted & set(keys))
    holes = sum(b - a for a, b in subtract_spans([(start, end)], spans))
    recorded, by_stream = (end - start) / HOUR_MS, streamed / HOUR_MS
    what = f"{spec.feed} over {recorded:.1f} h, {len(wanted):,}"
    rows = [
        Row(f"{spec.feed}: hours in the ledger", f"{recorded:.1f}", f"{hours:.1f}", recorded / hours, 0.98),
        Row(f"{what}: missing", f"{missing:,}", "0", missing, 0, at_least=False),
        Row(f"{what}: twice, or never there", f"{extra:,}", "0", extra, 0, at_least=False),
        Row(f"{what}: minutes not in the ledger", f"{holes / MINUTE_MS:.1f}", "0", holes, 0, at_least=False),
    ]
    if spec.feed == "trades":
        rows.append(Row("of it by stream, h", f"{by_stream:.1f}", f"{recorded:.1f}", by_stream / recorded, 0))
    return rows
