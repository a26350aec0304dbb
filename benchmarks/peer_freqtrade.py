"""freqtrade in a virtual environment of its own: its downloads from the sandbox, and its loader."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from benchmarks import peer_venv

#: Stores candles (an array of ts and OHLCV rows in a file) in a folder, as ``download-data`` does.
STORE = """
import numpy as np, pandas as pd
from pathlib import Path
from freqtrade.data.history import get_datahandler
from freqtrade.enums import CandleType
ts, *values = np.load(sys.argv[2])[:6]
frame = pd.DataFrame(dict(zip(("open", "high", "low", "close", "volume"), values)))
frame.insert(0, "date", pd.to_datetime(ts.astype("int64"), unit="ms", utc=True))
get_datahandler(Path(sys.argv[1]), "feather").ohlcv_store("BTC/USDT", "1m", frame, CandleType.SPOT)
"""

#: Its public loader on that folder. Filling gaps, its default, would take longer and change nothing here.
READ = """
from pathlib import Path
from freqtrade.data.history import load_pair_history

def read():
    return load_pair_history("BTC/USDT", "1m", Path(sys.argv[1]), data_format="feather", fill_up_missing=False)
"""


def install() -> Path:
    """Install freqtrade where it is not yet; returns its command."""
    return peer_venv.install("freqtrade").with_name("freqtrade")


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
