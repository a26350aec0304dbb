"""What is under a file's name is whole, whatever happens while it is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from zvt_crypto.core.errors import ConfigError, StoreCorrupt, StoreFull
from zvt_crypto.domain import load_tables
from zvt_crypto.transfer.exporting import Destination, Selection, export

ROOT = Path(__file__).resolve().parents[2]
SPEC = load_tables()["cryptopair_1m_kdata"]
DATA = "provider=binance/table=cryptopair_1m_kdata/code=btcusdt/data."

#: Exports into argv[2] in format argv[3]; argv[4] is the largest file allowed, 0 for any.
SCRIPT = """
import resource, signal, sys
from pathlib import Path
from zvt_crypto.core.config import Settings
from zvt_crypto.domain import load_tables
from zvt_crypto.store.engine import Store
from zvt_crypto.transfer.exporting import Destination, Selection, export
spec = load_tables()["cryptopair_1m_kdata"]
if int(sys.argv[4]):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
report = export(
    Store(Settings(data_path=sys.argv[1], segments=False)),
    [Selection("binance", spec)],
    Destination(Path(sys.argv[2]), form=sys.argv[3]),
)
print(report.fatal and type(report.fatal).__name__)
"""


@pytest.fixture
def start(store, tmp_path):
    def started(form, limit=0):
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, store.data_path, tmp_path / "out", form, str(limit)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )

    return started


def drafts(folder):
    return [path for path in folder.rglob(".*") if path.is_file()]


def test_sigkill_leaves_no_half_file(store, write, start, tmp_path):
    write("CryptoPair1mKdata", "btcusdt", range(250_000))
    out = tmp_path / "out"
    for _ in range(2):
        process = start("csv")
        while not drafts(out) and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert drafts(out)
        assert not (out / f"{DATA}csv").exists()
    for draft in drafts(out)[:1]:
        os.utime(draft, (1, 1))
    left = len(drafts(out))
    assert export(store, [Selection("binance", SPEC)], Destination(out, form="csv")).errors == []
    with (out / f"{DATA}csv").open() as file:
        assert sum(1 for _ in file) == 250_001
    assert len(drafts(out)) == left - 1


def test_an_earlier_file_stays_until_the_new_one_is_whole(store, write, start, tmp_path):
    write("CryptoPair1mKdata", "btcusdt", range(10))
    there = Destination(tmp_path / "out")
    assert export(store, [Selection("binance", SPEC)], there).rows == 10
    write("CryptoPair1mKdata", "btcusdt", range(100_000))
    process = start("parquet", limit=100_000)
    assert process.communicate()[0].strip() == "StoreFull"
    assert pq.read_metadata(tmp_path / f"out/{DATA}parquet").num_rows == 10
    assert drafts(tmp_path / "out") == []
    assert export(store, [Selection("binance", SPEC)], there).rows == 100_000
    assert pq.read_metadata(tmp_path / f"out/{DATA}parquet").num_rows == 100_000


@pytest.mark.parametrize("form", ["parquet", "feather", "csv", "arrow"])
def test_full_disk(store, write, start, tmp_path, form):
    write("CryptoPair1mKdata", "btcusdt", range(20_000))
    assert start(form, limit=50_000).communicate()[0].strip() == "StoreFull"
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_what_is_no_folder(store, write, tmp_path):
    write("CryptoPair1mKdata", "btcusdt", range(5))
    write("CryptoPair1mKdata", "ethusdt", range(5))
    (tmp_path / "out").write_text("a file")
    report = export(store, [Selection("binance", SPEC)], Destination(tmp_path / "out"))
    [error] = report.errors
    assert isinstance(error, ConfigError)
    assert "cannot be written: Not a directory" in error.message
    assert "--out" in error.one_line()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is closed to the superuser")
def test_closed_folder(store, write, tmp_path):
    write("CryptoPair1mKdata", "btcusdt", range(5))
    (tmp_path / "out").mkdir(mode=0o500)
    report = export(store, [Selection("binance", SPEC)], Destination(tmp_path / "out"))
    assert [type(error) for error in report.errors] == [ConfigError]
    assert "Permission denied" in report.errors[0].message


def test_a_folder_where_the_file_should_be(store, write, tmp_path):
    write("CryptoPair1mKdata", "btcusdt", range(5))
    (tmp_path / f"out/{DATA}parquet").mkdir(parents=True)
    report = export(store, [Selection("binance", SPEC)], Destination(tmp_path / "out"))
    assert not isinstance(report.errors[0], StoreFull)
    assert "Is a directory" in report.errors[0].message
    assert drafts(tmp_path / "out") == []


def test_a_damaged_table_does_not_stop_the_others(store, write, tmp_path):
    write("CryptoPair1mKdata", "btcusdt", range(5))
    damaged = load_tables()["cryptopair_1h_kdata"]
    store.path("binance", damaged).write_text("no database" * 999)
    chosen = [Selection("binance", damaged), Selection("binance", SPEC)]
    report = export(store, chosen, Destination(tmp_path / "out"))
    assert [type(error) for error in report.errors] == [StoreCorrupt]
    assert (report.rows, report.exit_code) == (5, 3)


IMPORT = """
import resource, signal, sys
from pathlib import Path
from zvt_crypto.core.config import Settings
from zvt_crypto.store.engine import Store
from zvt_crypto.transfer.importing import import_files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
report = import_files(Store(Settings(data_path=sys.argv[2])), [Path(sys.argv[1])])
print(type(report.fatal).__name__, len(report.outcomes), len(report.errors), report.files, report.exit_code)
"""


def test_import_onto_a_full_disk(store, write, tmp_path):
    for code in ("btcusdt", "ethusdt"):
        write("CryptoPair1mKdata", code, range(20_000))
    export(store, [Selection("binance", SPEC)], Destination(tmp_path / "out"))
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, tmp_path / "out", tmp_path / "into"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "StoreFull 1 1 0 1\n", done.stderr
