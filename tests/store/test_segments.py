import errno
import logging
import os
import subprocess
import sys
from pathlib import Path
from threading import Event, get_ident

import pyarrow as pa
import pytest
from two_processes import FIRST, MINUTE, SPEC, Process, candles

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import StoreFull
from zvt_crypto.store import coverage
from zvt_crypto.store.compaction import compact
from zvt_crypto.store.engine import Store
from zvt_crypto.store.history import History
from zvt_crypto.store.maker import Maker, maker
from zvt_crypto.store.reader import Query, read
from zvt_crypto.store.segments import ChunkVersion, Segments

ROWS = 140_000
BTC = Query(SPEC, "binance", codes=("btcusdt",))


@pytest.fixture
def table(store):
    """140,000 candles of one symbol, in three chunks, the first and last of them in part."""
    side = Process(store.data_path)
    side.write("btcusdt", 0, ROWS, 7)
    return side


def files(store):
    return sorted(store.path("binance", SPEC).with_suffix(".segments").glob("*/*"))


def a_minute_passes(table):
    table.sql("UPDATE chunks SET written_at = 0")


def in_sql(store, query=BTC):
    """The same query where no segment is looked at."""
    return read(Store(Settings(data_path=store.data_path, segments=False)), query)


def test_history_that_was_just_written_gets_no_segment(store, table):
    assert read(store, BTC).num_rows == ROWS
    assert files(store) == []


def test_the_first_read_of_settled_history_makes_segments(store, table):
    a_minute_passes(table)
    plain = in_sql(store)
    assert files(store) == []
    first = read(store, BTC)
    assert maker.wait(60)
    made = files(store)
    assert len(made) == 3
    assert sum(pa.ipc.open_file(str(path)).read_all().num_rows for path in made) == ROWS
    assert first.equals(plain)


def test_the_segments_and_nothing_else_answer_a_warm_query(store, table):
    """Rows that are gone behind the back of every trigger are still in the answer."""
    a_minute_passes(table)
    whole = read(store, BTC)
    assert maker.wait(60)
    for trigger in ("rows_update", "rows_delete"):
        table.sql(f"DROP TRIGGER {trigger}")
    table.sql(f"UPDATE rows SET trade_count = -1 WHERE ts > {FIRST}")
    assert read(store, BTC).equals(whole)
    assert in_sql(store)["trade_count"].to_pylist()[-1] == -1


@pytest.mark.parametrize(
    "change",
    [
        f"DELETE FROM rows WHERE ts = {FIRST + 100 * MINUTE}",
        f"UPDATE rows SET trade_count = 3 WHERE ts = {FIRST + 100 * MINUTE}",
        f"UPDATE rows SET ts = {FIRST - 7 * MINUTE} WHERE ts = {FIRST + 100_000 * MINUTE}",
        f"DELETE FROM {SPEC.name} WHERE timestamp = {FIRST + 100 * MINUTE}",
        f"UPDATE {SPEC.name} SET close = 1.5 WHERE timestamp = {FIRST + 100 * MINUTE}",
        f"INSERT INTO {SPEC.name} (entity_id, timestamp, open, high, low, close, volume)"
        f" VALUES ('cryptopair_binance_btcusdt', {FIRST - MINUTE}, 1.0, 1.0, 1.0, 1.0, 1.0)",
        "DELETE FROM rows",
        None,
    ],
    ids=str,
)
def test_whoever_changes_a_row_makes_its_segment_stale(store, table, change):
    compact(store, "binance", SPEC)
    before = read(store, BTC)
    if change is None:
        table.write("btcusdt", 65_000, 10, seed=8)
    else:
        table.sql(change)
    after = read(store, BTC)
    assert not after.equals(before)
    assert after.equals(in_sql(store))


def test_a_row_removed_by_hand_is_fetched_again_by_the_next_backfill(store, table):
    with store.connect("binance", SPEC) as connection:
        coverage.add(connection, 1, (FIRST, FIRST + ROWS * MINUTE))
        connection.run(f"DELETE FROM rows WHERE ts = {FIRST + 5 * MINUTE}")
        lost = coverage.missing(connection, 1, FIRST, FIRST + ROWS * MINUTE, MINUTE)
    assert lost == [(FIRST + 5 * MINUTE, FIRST + 6 * MINUTE)]


def cut(path, other):
    path.write_bytes(path.read_bytes()[:-4_000])


def empty(path, other):
    path.write_bytes(b"")


def flip(path, other):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def write(path, table):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def take_anothers(path, other):
    path.write_bytes(other.read_bytes())


def claim_anothers_name(path, other):
    """Another chunk's rows under this one's name, inside too, but of another number."""
    table = pa.ipc.open_file(str(other)).read_all()
    facts = {**table.schema.metadata, b"segment": path.name.encode()}
    facts[b"rows"] = b"5"
    write(path, table.replace_schema_metadata(facts))


def lose_a_column(path, other):
    table = pa.ipc.open_file(str(path)).read_all()
    write(path, table.drop(["close"]))


@pytest.mark.parametrize("damage", [cut, empty, flip, take_anothers, claim_anothers_name, lose_a_column])
def test_a_damaged_or_foreign_segment_is_ignored_and_made_anew(store, table, damage, caplog):
    compact(store, "binance", SPEC)
    damage(*files(store)[:2])
    with caplog.at_level(logging.WARNING):
        assert read(store, BTC).equals(in_sql(store))
    assert "ignored" in caplog.text
    again = compact(store, "binance", SPEC)
    assert (again.made, again.kept) == (1, 2)
    assert read(store, BTC).equals(in_sql(store))


def test_the_folder_can_be_deleted_at_any_moment(store, table):
    compact(store, "binance", SPEC)
    whole = read(store, BTC)
    for path in files(store):
        path.unlink()
    assert whole.equals(in_sql(store))
    assert read(store, BTC).equals(whole)


def test_versions_of_a_restored_backup_never_come_again(store, table):
    """A file that is put back and written once more must not come to a version with other rows."""
    database = store.path("binance", SPEC)
    with store.connect("binance", SPEC) as connection:
        connection.query("PRAGMA wal_checkpoint(TRUNCATE)")
    backup = database.read_bytes()
    table.write("btcusdt", 10, 5, seed=100)
    compact(store, "binance", SPEC)
    read(store, BTC)
    for path in database.parent.glob(database.name + "*"):
        path.unlink()
    database.write_bytes(backup)
    table.write("btcusdt", 10, 5, seed=101)
    assert read(store, BTC).equals(in_sql(store))


def test_a_database_made_anew_has_no_use_for_the_old_ones_segments(store, table):
    compact(store, "binance", SPEC)
    database = store.path("binance", SPEC)
    for path in database.parent.glob(database.name + "*"):
        path.unlink()
    table.write("btcusdt", 0, 5_000, seed=9)
    assert read(store, BTC).num_rows == 5_000
    assert compact(store, "binance", SPEC).dropped == 3


def test_older_versions_are_dropped(store, table):
    compact(store, "binance", SPEC)
    table.write("btcusdt", 10, 5, seed=100)
    compact(store, "binance", SPEC)
    assert len(files(store)) == 3
    compact(store, "binance", SPEC)
    assert compact(store, "binance", SPEC).made == 0


def test_what_a_killed_writer_left_is_dropped(store, table):
    compact(store, "binance", SPEC)
    draft = files(store)[0].with_suffix(".arrow.1.1.tmp")
    draft.write_bytes(b"half")
    assert compact(store, "binance", SPEC).dropped == 1
    assert not draft.exists()


def test_a_folder_that_cannot_be_written_costs_speed_only(store, table, caplog):
    a_minute_passes(table)
    store.path("binance", SPEC).with_suffix(".segments").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        assert read(store, BTC).num_rows == ROWS
        assert maker.wait(60)
    assert caplog.text.count("no segments are made") == 1


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from two_processes import Process, SPEC
from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import StoreFull
from zvt_crypto.store import coverage
from zvt_crypto.store.compaction import compact
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    compact(Process(sys.argv[1]).store, "binance", SPEC)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_segment_that_cannot_be_written_whole_leaves_nothing(store, table):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(store.data_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(("StoreFull", "ConfigError")), done.stderr
    assert files(store) == []
    assert read(store, BTC).num_rows == ROWS


def test_a_full_disk_is_named(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    segments = Segments(tmp_path / "table.db", "uid", SPEC.schema)
    state = ChunkVersion(1, 2, 3)
    segments.folder.mkdir(parents=True)
    draft = segments.folder / f"{state.name}.{os.getpid()}.{get_ident()}.tmp"
    draft.symlink_to("/dev/full")
    with pytest.raises(StoreFull, match="no room") as caught:
        segments.save(state, candles([FIRST], 1))
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert list(segments.folder.iterdir()) == []


def test_many_processes_may_make_the_same_segments_at_once(store, table):
    a_minute_passes(table)
    here = str(Path(__file__).parent)
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); from two_processes import *;"
        "print(read(Process(sys.argv[1]).store, Query(SPEC, 'binance')).num_rows)"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(store.data_path), here], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    assert [process.communicate()[0].strip() for process in running] == [str(ROWS)] * 4
    assert len(files(store)) == 3
    assert read(store, BTC).equals(in_sql(store))


def test_reading_side_by_side_keeps_to_the_snapshot(store, table):
    """Threads have snapshots of their own; a chunk that changed in between is read in the first one."""
    with store.reading("binance", SPEC) as connection:
        history = History(connection, SPEC, reopen=lambda: store.reading("binance", SPEC), use_segments=False)
        series = history.series()[0]
        before = history.rows(series, SPEC.columns, 0, 1 << 60)
        table.write("btcusdt", 70_000, 5, seed=100)
        table.sql(f"DELETE FROM rows WHERE ts = {FIRST}")
        again = history.rows(series, SPEC.columns, 0, 1 << 60)
        assert again.equals(before)
    assert read(store, BTC).num_rows == ROWS - 1


def test_a_short_script_leaves_segments_behind(store, table):
    a_minute_passes(table)
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); from two_processes import *;"
        "print(read(Process(sys.argv[1]).store, Query(SPEC, 'binance')).num_rows)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(store.data_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(ROWS)
    assert done.stderr == ""
    assert files(store)
    assert read(store, BTC).equals(in_sql(store))


class TestMaker:
    def test_jobs_are_done_once_and_in_order(self):
        own, done = Maker(), []
        for key in (1, 2, 1, 3):
            own.ask(key, lambda key=key: done.append(key))
        assert own.wait(10)
        assert sorted(done) in ([1, 2, 3], [1, 1, 2, 3])

    def test_a_failure_drops_what_waits_and_later_jobs_run_again(self, caplog):
        own, done, go = Maker(), [], Event()

        def fail():
            go.wait(10)
            raise StoreFull("the disk has no room")

        own.ask("first", fail)
        own.ask("second", lambda: done.append("second"))
        go.set()
        assert own.wait(10)
        assert "the disk has no room" in caplog.text
        assert done == []
        own.ask("third", lambda: done.append("third"))
        assert own.wait(10)
        assert done == ["third"]


def test_a_query_has_a_damaged_segment_made_anew(store, table):
    a_minute_passes(table)
    compact(store, "binance", SPEC)
    cut(files(store)[0], None)
    assert read(store, BTC).equals(in_sql(store))
    assert maker.wait(60)
    assert compact(store, "binance", SPEC).kept == 3


def test_a_query_with_a_large_limit_has_segments_made_too(store, table):
    a_minute_passes(table)
    last = Query(SPEC, "binance", codes=("btcusdt",), limit=100_000, order="desc")
    assert read(store, last).equals(in_sql(store, last))
    assert maker.wait(60)
    assert len(files(store)) == 3
