"""freqtrade in a virtual environment of its own, pointed at the sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import ROOT

VENV = ROOT / "build" / "freqtrade"


def install() -> Path:
    """Install freqtrade where it is not yet; returns its command."""
    command = VENV / "bin" / "freqtrade"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([str(VENV / "bin" / "pip"), "install", "--quiet", "freqtrade"], check=True)
    return command


def download(command: Path, gateway: str, folder: Path, timerange: str) -> dict[str, float]:
    """Run ``download-data`` for BTC/USDT 1m; returns wall seconds, peak MB and candles stored."""
    base = f"{gateway}/api.binance.com/api/v3"
    # Without these it would fetch public archives, and keep to the live exchange's rate limit.
    plain = {"enableRateLimit": False, "urls": {"api": {"public": base, "private": base}}}
    plain["options"] = {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False}
    config = {
        "exchange": {
            "name": "binance",
            "pair_whitelist": ["BTC/USDT"],
            "only_from_ccxt": True,
            "ccxt_config": plain,
            "ccxt_async_config": plain,
        },
        "stake_currency": "USDT",
        "dry_run": True,
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    began = time.perf_counter()
    done = subprocess.Popen(
        [
            str(command), "download-data", "--config", str(folder / "config.json"), "--userdir", str(folder),
            "--datadir", str(folder / "data"), "--timeframes", "1m", "--pairs", "BTC/USDT", "--timerange", timerange,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONPATH": ""},
    )  # fmt: skip
    assert done.stdout is not None
    output = done.stdout.read().decode()
    _, status, usage = os.wait4(done.pid, 0)
    wall = time.perf_counter() - began
    files = list((folder / "data").glob("BTC_USDT-1m.feather"))
    if status or not files:
        raise RuntimeError(output[-2000:])
    return {"wall": wall, "peak_mb": usage.ru_maxrss / 1024, "candles": float(_rows(files[0]))}


def _rows(path: Path) -> int:
    import pyarrow.feather as feather

    return int(feather.read_table(path).num_rows)
