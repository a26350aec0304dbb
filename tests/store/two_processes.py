"""What the tests of two processes on one table do in either of them; run as a program it serves requests."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from zvt_crypto.core.config import Settings
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import load_tables
from zvt_crypto.store.compaction import compact
from zvt_crypto.store.engine import Store
from zvt_crypto.store.reader import Query, read, stream
from zvt_crypto.store.writer import Entity, SeriesWriter, check

load_tables()
SPEC = tables["cryptopair_1m_kdata"]
MINUTE = 60_000
#: Begins in the middle of a chunk.
FIRST = 1_700_000_040_000


def candles(ts, seed):
    """Candles of these times, different for every seed, some without a turnover."""
    rng = np.random.default_rng(seed)
    low = np.round(rng.uniform(1, 1000, len(ts)), 2)
    high = np.round(low + rng.uniform(0, 5, len(ts)), 2)
    # A price that is no short decimal is kept as it is beside scaled ones.
    close = np.where(rng.random(len(ts)) < seed % 2 / 1000, (low + high) / 3 * 1.5, high)
    turnover = pa.array(np.round(rng.gamma(2, 50, len(ts)), 6), mask=rng.random(len(ts)) < 0.1)
    return pa.table(
        {
            "ts": pa.array(ts, pa.int64()),
            "open": low,
            "high": high,
            "low": low,
            "close": np.clip(close, low, high),
            "volume": np.round(rng.gamma(2, 6, len(ts)), 5),
            "turnover": turnover,
            "trade_count": rng.integers(0, 5000, len(ts)),
        }
    )


class Process:
    """One side."""

    def __init__(self, data_path):
        self.store = Store(Settings(data_path=Path(data_path)))

    def write(self, code, first, count, seed):
        with self.store.connect("binance", SPEC) as connection:
            writer = SeriesWriter(connection, SPEC)
            key = writer.entity_key(Entity(f"cryptopair_binance_{code}", code, code))
            ts = FIRST + np.arange(first, first + count) * MINUTE
            writer.write_page(key, check(SPEC, candles(ts, seed)).batch)

    def sql(self, statement):
        with self.store.connect("binance", SPEC) as connection, connection.transaction():
            connection.run(statement)

    def compact(self):
        compact(self.store, "binance", SPEC)

    def query(self, path, streamed, **arguments):
        arguments = {n: tuple(v) if isinstance(v, list) else v for n, v in arguments.items()}
        query = Query(SPEC, "binance", **arguments)
        if streamed:
            batches = list(stream(self.store, query, rows=streamed))
            answer = pa.concat_tables(batches) if batches else read(self.store, query)
        else:
            answer = read(self.store, query)
        with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, answer.schema) as writer:
            writer.write_table(answer)


def serve():
    process = Process(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        getattr(process, request.pop("do"))(**request)
        print("done", flush=True)


if __name__ == "__main__":
    serve()
