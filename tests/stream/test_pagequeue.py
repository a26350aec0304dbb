"""Rows on their way into a table that now and then takes none: they wait, go to disk, and come in order."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from live_helpers import TRADES, ledger, locked, stored, until
from test_spill import page, rows

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import StoreCorrupt
from zvt_crypto.recorders.backfill import TableThread
from zvt_crypto.store import coverage
from zvt_crypto.store.engine import Store
from zvt_crypto.store.writer import Entity, Page, SeriesWriter
from zvt_crypto.stream.pagequeue import PageQueue

BTC = Entity("cryptopair_binance_btcusdt", "btcusdt", "BTC/USDT")
ETH = Entity("cryptopair_binance_ethusdt", "ethusdt", "ETH/USDT")


class Queue:
    """A queue into a table, and what it gave up."""

    def __init__(self, store, folder, **limits):
        self.table = TableThread(store, "binance", TRADES)
        self.keys = [self.table.writer.entity_key(entity) for entity in (BTC, ETH)]
        self.dropped = []
        self.queue = PageQueue(self.table, folder, self.dropped.extend, **{"retry_seconds": 0.05, **limits})
        self.backlog = self.queue.backlog

    def put(self, *times, key=1):
        self.queue.put(page(*times, key=key))

    def put_as_live_tables_do(self, ts):
        """A page for each entity, which enters the last second of the page before it in the ledger."""
        for key in self.keys:
            new, span = rows(*range(ts, ts + 1000, 200)), (ts - 1000, ts)
            self.queue.put(Page(key, new, (span,), source=coverage.STREAM))


@pytest.fixture
def store(tmp_path):
    return Store(Settings(data_path=tmp_path / "data", busy_timeout_seconds=0.05))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spill"


@pytest.fixture
def path(store):
    with store.connect("binance", TRADES) as connection:
        for entity in (BTC, ETH):
            SeriesWriter(connection, TRADES).entity_key(entity)
    return store.path("binance", TRADES)


def run(use):
    return asyncio.run(asyncio.wait_for(use, 60))


def times(store, entity=BTC):
    return stored(store, "binance", TRADES, entity.entity_id)["ts"].to_pylist()


def entered(store, entity=BTC):
    return ledger(store, "binance", TRADES, entity.entity_id).get("stream", [])


def test_rows_and_what_they_cover_are_stored_together(store, folder):
    async def use():
        one = Queue(store, folder)
        one.queue.start()
        one.put(10, 20)
        one.put(30, 50)
        one.put(15, 25, key=2)
        await until(lambda: one.backlog.stored_rows == 6)
        assert (one.backlog.rows, one.backlog.files) == (0, 0)
        await one.queue.close(1)
        one.table.close()

    run(use())
    assert (times(store), times(store, ETH)) == ([10, 20, 30, 50], [15, 25])
    assert (entered(store), entered(store, ETH)) == ([(10, 20), (30, 50)], [(15, 25)])
    assert not folder.exists()


def test_rows_wait_while_another_process_writes(store, path, folder, caplog):
    async def use():
        one = Queue(store, folder)
        one.queue.start()
        with locked(path):
            for ts in range(0, 100, 10):
                one.put(ts, ts + 5)
            await until(lambda: one.backlog.stalled_since)
            assert (one.backlog.rows, one.backlog.stored_rows, one.backlog.files) == (20, 0, 0)
        await until(lambda: one.backlog.stored_rows == 20)
        assert one.backlog.stalled_since is None
        await one.queue.close(1)
        one.table.close()

    with caplog.at_level(logging.WARNING):
        run(use())
    assert len(times(store)) == 20
    told = [record.getMessage() for record in caplog.records]
    assert [text.partition(",")[0] for text in told] == [
        "cryptotrade takes no rows",
        "cryptotrade takes rows again",
    ]


def test_beyond_the_limit_they_go_to_disk_and_come_back_in_order(store, path, folder):
    def numbered(number):
        """Trades of five milliseconds, of which the next page has four as well, at another price."""
        new = rows(*range(number, number + 5))
        price = pa.array([float(number + 1)] * 5)
        return Page(1, new.set_column(new.column_names.index("price"), "price", price), source="stream")

    async def use():
        one = Queue(store, folder, most_rows=20)
        one.queue.start()
        with locked(path):
            for number in range(100):
                one.queue.put(numbered(number))
                await asyncio.sleep(0.002)
            assert one.backlog.rows <= 20
            assert one.backlog.files == len(list(folder.glob("*.arrow"))) > 5
        await until(lambda: not one.backlog.rows and not one.backlog.files)
        assert one.backlog.stored_rows >= one.backlog.spilled_rows >= 450
        await one.queue.close(1)
        one.table.close()

    run(use())
    prices = stored(store, "binance", TRADES, BTC.entity_id)["price"].to_pylist()
    assert prices == [*map(float, range(1, 101)), *[100.0] * 4]
    assert list(folder.iterdir()) == []


def test_what_an_earlier_process_left_is_stored_first(store, path, folder):
    async def leave():
        one = Queue(store, folder)
        one.queue.start()
        with locked(path):
            one.put(10, 20)
            await one.queue.close(0.1)
            one.table.close()

    async def find():
        one = Queue(store, folder)
        await one.queue.replay()
        found = times(store), entered(store)
        one.table.close()
        return found

    run(leave())
    assert len(list(folder.iterdir())) == 1
    # The table is made anew, with other keys.
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    with store.connect("binance", TRADES) as connection:
        SeriesWriter(connection, TRADES).entity_key(ETH)
    assert run(find()) == ([10, 20], [(10, 20)])
    assert list(folder.iterdir()) == []


def test_replay_gives_up_while_the_table_takes_nothing(store, path, folder):
    async def use():
        one = Queue(store, folder)
        with locked(path):
            one.put(10, 20)
            one.queue.start()
            await one.queue.close(0.1)
            await one.queue.replay()
            one.table.close()

    run(use())
    assert len(list(folder.iterdir())) == 1


_KILLED = """
import asyncio, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_pagequeue import *
async def use():
    store = Store(Settings(data_path=Path(sys.argv[1]), busy_timeout_seconds=0.05))
    one = Queue(store, Path(sys.argv[2]), most_rows=10)
    one.queue.start()
    for ts in range(0, 10**9, 10):
        one.put(ts, ts + 5)
        print(ts, len(list(Path(sys.argv[2]).glob("*.arrow"))), flush=True)
        await asyncio.sleep(0.001)
asyncio.run(use())
"""


def test_sigkill_with_files_on_disk(store, path, folder):
    here = Path(__file__)
    with locked(path):
        process = subprocess.Popen(
            [sys.executable, "-c", _KILLED, str(store.data_path), str(folder), str(here.parent)],
            cwd=here.parents[2],
            env=os.environ | {"PYTHONPATH": str(here.parents[2])},
            stdout=subprocess.PIPE,
            text=True,
        )
        while int(process.stdout.readline().split()[1]) < 5:
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
    files = len(list(folder.glob("*.arrow")))

    async def use():
        one = Queue(store, folder)
        await one.queue.replay()
        one.table.close()

    run(use())
    found = times(store)
    assert files >= 5 and len(found) >= 25
    # All that was put aside, in one piece; what was in memory is gone, and not in the ledger.
    assert found == [ts for start in range(0, found[-1], 10) for ts in (start, start + 5)]
    assert entered(store) == [(ts, ts + 5) for ts in range(0, found[-1], 10)]
    assert not list(folder.glob("*.arrow"))


def test_a_torn_file_does_not_stop_the_others(store, path, folder, caplog):
    async def use():
        one = Queue(store, folder, most_rows=12)
        one.queue.start()
        with locked(path):
            for ts in range(0, 20_000, 1000):
                one.put_as_live_tables_do(ts)
                await asyncio.sleep(0.002)
            torn = sorted(folder.glob("*.arrow"))[1]
            content = torn.read_bytes()
            torn.write_bytes(content[: len(content) // 2])
        await until(lambda: not one.backlog.rows and not list(folder.glob("*.arrow")))
        await one.queue.close(1)
        one.table.close()

    run(use())
    assert caplog.text.count("is damaged") == 1
    everything = list(range(0, 20_000, 200))
    for entity in (BTC, ETH):
        found = times(store, entity)
        assert found[0] == 0 and found[-1] == 19_800
        lost = sorted(set(everything) - set(found))
        assert not [ts for ts in lost if any(a <= ts < b for a, b in entered(store, entity))]
        # A second more than the rows that are lost is not entered, and no more than that.
        size = sum(b - a for a, b in entered(store, entity))
        assert 20_000 - size <= (lost[-1] - lost[0] + 200 if lost else 0) + 1_001


class TestFullDisk:
    """No room for files: a plain file stands where their folder would be."""

    @pytest.fixture
    def folder(self, tmp_path):
        path = tmp_path / "spill"
        path.write_text("")
        return path

    def test_rows_stay_in_memory_which_is_told_once(self, store, path, folder, caplog):
        async def use():
            one = Queue(store, folder, most_rows=10)
            one.queue.start()
            with locked(path):
                for ts in range(0, 300, 10):
                    one.put(ts, ts + 5)
                    await asyncio.sleep(0.002)
                assert one.backlog.rows == 60
            await until(lambda: one.backlog.stored_rows == 60)
            await one.queue.close(1)
            one.table.close()
            assert one.dropped == []

        with caplog.at_level(logging.ERROR):
            run(use())
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == 1 and told[0].startswith("rows that wait cannot be put aside: ")
        assert len(times(store)) == 60

    def test_the_oldest_are_given_up_in_the_end_and_never_entered(self, store, path, folder, caplog):
        async def use():
            one = Queue(store, folder, most_rows=10, most_rows_at_all=40)
            for ts in range(0, 10_000, 1000):
                one.put_as_live_tables_do(ts)
            dropped = one.backlog.dropped_rows
            assert dropped and dropped == sum(page.batch.num_rows for page in one.dropped)
            one.queue.start()
            await until(lambda: one.backlog.stored_rows == 100 - dropped)
            await one.queue.close(1)
            one.table.close()
            return {page.key: page.batch["ts"][-1].as_py() for page in one.dropped}

        with caplog.at_level(logging.ERROR):
            found = run(use())
        assert "rows are given up, to be fetched again" in caplog.text
        for entity, newest in zip((BTC, ETH), (found[1], found[2]), strict=True):
            assert times(store, entity) == list(range(newest + 200, 10_000, 200))
            assert entered(store, entity) == [(newest + 1, 9_000)]

    def test_what_is_left_at_the_end_is_counted(self, store, path, folder):
        async def use():
            one = Queue(store, folder)
            one.queue.start()
            with locked(path):
                one.put(10, 20)
                await one.queue.close(0.1)
            one.table.close()
            assert one.backlog.dropped_rows == 2
            assert [page.answered for page in one.dropped] == [((10, 20),)]

        run(use())
        assert (times(store), entered(store)) == ([], [])


def test_a_table_that_cannot_be_written_is_told_at_once(store, path, folder):
    async def use():
        one = Queue(store, folder)
        one.queue.start()
        one.put(10, 20)
        await until(lambda: one.backlog.stored_rows == 2)
        one.queue.check()
        for file in path.parent.glob(f"{path.name}*"):
            with file.open("r+b") as content:
                content.write(b"\x00" * file.stat().st_size)
        one.put(30, 40)
        with pytest.raises(StoreCorrupt):
            await until(one.queue.check)
        with pytest.raises(StoreCorrupt):
            await one.queue.close(1)
        one.table.close()
        # What came since is put aside.
        assert len(list(folder.glob("*.arrow"))) == 1

    run(use())
