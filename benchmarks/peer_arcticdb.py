"""ArcticDB on local LMDB storage, in a virtual environment of its own."""

from __future__ import annotations

from pathlib import Path

from benchmarks import peer_venv

#: Stores candles (an array of ts and OHLCV rows in a file) in its natural form: times as the index.
STORE = """
import arcticdb, numpy as np, pandas as pd
ts, *values = np.load(sys.argv[2])[:6]
frame = pd.DataFrame(dict(zip(("open", "high", "low", "close", "volume"), values)))
frame.index = pd.DatetimeIndex(pd.to_datetime(ts.astype("int64"), unit="ms"), name="timestamp")
arcticdb.Arctic(f"lmdb://{sys.argv[1]}").create_library("candles").write("btcusdt", frame)
"""

READ = """
import arcticdb
library = arcticdb.Arctic(f"lmdb://{sys.argv[1]}")["candles"]

def read():
    return library.read("btcusdt").data
"""


def install() -> Path:
    """Install ArcticDB where it is not yet; returns the Python that has it."""
    return peer_venv.install("arcticdb")
