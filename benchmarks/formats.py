"""What columnar copies of settled candles could be kept in: time to a pandas frame, and bytes a row."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.measure import Row, child, medians
from benchmarks.query import CANDLES

#: Rows of a file, as in a segment.
FILE_ROWS = 1 << 16

OURS = "Arrow IPC uncompressed"
OTHERS = ("Arrow IPC lz4", "Parquet uncompressed", "Parquet zstd")

#: One format in a folder: written once, then read from all its files into one frame of six of the columns.
SCRIPT = """
import statistics
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.ipc as ipc, pyarrow.parquet as pq

folder, kind, codec = Path(sys.argv[1]), *sys.argv[3].rsplit(" ", 1)
file_rows, reads = int(sys.argv[4]), int(sys.argv[5])
names = ("ts", "open", "high", "low", "close", "volume", "turnover", "trade_count")
six = list(names[:6])
some = ipc.IpcReadOptions(included_fields=list(range(6)))
codec = None if codec == "uncompressed" else codec

def write(table, path):
    if kind == "Parquet":
        # Prices and amounts hardly repeat: without dictionaries Parquet is smaller here, and faster.
        pq.write_table(table, path, compression=codec or "none", use_dictionary=False)
        return
    with ipc.new_file(path, table.schema, options=ipc.IpcWriteOptions(compression=codec)) as file:
        file.write_table(table)

def one(path):
    if kind == "Parquet":
        return pq.ParquetFile(path, memory_map=True).read(columns=six)
    return ipc.open_file(pa.memory_map(str(path)), options=some).read_all()

def frame():
    table = pa.concat_tables([one(path) for path in paths])
    return table.set_column(0, "timestamp", table["ts"].cast(pa.timestamp("ms"))).to_pandas()

candles = np.load(sys.argv[2])
whole = pa.table({name: candles[i].astype("int64" if name in ("ts", "trade_count") else "float64")
                  for i, name in enumerate(names)})
for number in range(0, len(whole), file_rows):
    write(whole.slice(number, file_rows), folder / f"{number:012d}")
paths = sorted(folder.iterdir())
for _ in range(3):
    frame()
seconds = []
for _ in range(reads):
    began = time.perf_counter()
    answer = frame()
    seconds.append(time.perf_counter() - began)
    assert answer["close"].equals(whole["close"].to_pandas()) and answer.shape == (len(whole), 6)
    del answer
facts["rate"] = len(whole) / statistics.median(seconds)
facts["bytes"] = sum(path.stat().st_size for path in paths) / len(whole)
"""


def run(rounds: int = 3, n: int = 1_000_000, reads: int = 9) -> tuple[str, list[Row], list[str]]:
    """Every format in turn, a process each."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in (OURS, *OTHERS)}
    with tempfile.TemporaryDirectory() as name:
        candles = str(Path(name) / "candles.npy")
        child(CANDLES, candles, str(n))
        for number in range(rounds):
            for kind, facts in found.items():
                folder = Path(name) / f"{number} {kind}"
                folder.mkdir()
                facts.append(child(SCRIPT, str(folder), candles, kind, str(FILE_ROWS), str(reads)))
    middle = {kind: medians(facts) for kind, facts in found.items()}
    ours = middle[OURS]
    rows = [
        Row(
            f"{OURS} against {kind}, rows/s",
            f"{ours['rate']:,.0f}",
            f"{middle[kind]['rate']:,.0f}",
            ours["rate"] / middle[kind]["rate"],
            1,
        )
        for kind in OTHERS
    ]
    sizes = ", ".join(f"{kind} {fact['bytes']:.1f}" for kind, fact in middle.items())
    return "Formats of segments", rows, [
        f"Medians of {rounds} rounds of {reads} reads after 3: {n:,} candles of eight columns in files of {FILE_ROWS:,} rows, every"
        " file memory-mapped, into one pandas frame of timestamp and OHLCV; the disk is warm, and pyarrow's own defaults"
        " stand where nothing is named, but that Parquet does without dictionaries, which cost it time and bytes here.",
        f"Bytes a row: {sizes}.",
    ]  # fmt: skip
