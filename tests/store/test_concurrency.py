"""One writer and four reading processes on one table."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from two_processes import SPEC, Process

#: Longer by hand: ``CONCURRENCY_SECONDS=60 pytest tests/store/test_concurrency.py``.
SECONDS = float(os.environ.get("CONCURRENCY_SECONDS", "8"))
BLOCK = 70_000

#: Every transaction gives all rows of both symbols the same number: a reader that sees two has torn them.
READER = """
import sys
sys.path.insert(0, sys.argv[2])
from two_processes import *
store = Process(sys.argv[1]).store
queries = [
    Query(SPEC, "binance", columns=("timestamp", "code", "trade_count", "close")),
    Query(SPEC, "binance", columns=("trade_count",), order="desc", limit=3_000),
    Query(SPEC, "binance", codes=("btcusdt",)),
]
count, seen = 0, set()
print("ready", flush=True)
while not Path(sys.argv[3]).exists():
    for query in queries:
        rows = read(store, query)
        generations = set(rows["trade_count"].unique().to_pylist())
        assert len(generations) == 1, generations
        assert rows.num_rows in (2 * 70_000, 3_000, 70_000)
        seen |= generations
        count += 1
    generations = set()
    for batch in stream(store, queries[0], rows=20_000):
        generations |= set(batch["trade_count"].unique().to_pylist())
    assert len(generations) == 1, generations
print(count, len(seen))
"""


@pytest.mark.timeout(SECONDS + 110)
def test_readers_see_whole_transactions_and_nobody_is_locked_out(store, tmp_path):
    side, stop = Process(store.data_path), tmp_path / "stop"
    side.write("btcusdt", 0, BLOCK, 1)
    side.write("ethusdt", 0, BLOCK, 2)
    side.sql("UPDATE rows SET trade_count = 0")
    arguments = [str(store.data_path), str(Path(__file__).parent), str(stop)]
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    assert [reader.stdout.readline() for reader in readers] == ["ready\n"] * 4
    written, end = 0, time.monotonic() + SECONDS
    with store.connect("binance", SPEC) as connection:
        while time.monotonic() < end and not any(reader.poll() for reader in readers):
            written += 1
            with connection.transaction():
                connection.run(f"UPDATE rows SET trade_count = {written} WHERE entity = 1")
                connection.run(f"UPDATE rows SET trade_count = {written} WHERE entity = 2")
                # Now and then history counts as settled, and readers make segments of it.
                if written % 3:
                    connection.run("UPDATE chunks SET written_at = 0")
            time.sleep(0.3)
    stop.touch()
    answers = [reader.communicate(timeout=100) for reader in readers]
    assert [reader.returncode for reader in readers] == [0] * 4, [error for _, error in answers]
    counts = [tuple(map(int, answer.split())) for answer, _ in answers]
    assert all(queries > 3 and generations > 1 for queries, generations in counts), (written, counts)
    assert list(store.path("binance", SPEC).with_suffix(".segments").glob("*/*.arrow"))
