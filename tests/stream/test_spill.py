"""Pages on disk: what was put aside comes back as it was, whatever became of the files."""

import logging
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.core.tables import tables
from zvt_crypto.domain import load_tables
from zvt_crypto.store import coverage
from zvt_crypto.store.writer import Entity, Page, check
from zvt_crypto.stream.spill import Spills

load_tables()
SPEC = tables["cryptotrade"]
ENTITIES = {
    1: Entity("cryptopair_binance_btcusdt", "btcusdt", "BTC/USDT"),
    2: Entity("cryptoperp_binance_ethusdt", "ethusdt", None),
}
SPANS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)), max_size=3).map(
    lambda spans: tuple((start, start + width) for start, width in spans)
)


def rows(*times):
    n = len(times)
    columns = {
        "ts": pa.array(times, pa.int64()),
        "trade_id": [f"é-{ts}" for ts in times],
        "price": [ts + 0.1 for ts in times],
        "volume": [1.5] * n,
        "side": [None if ts % 2 else "buy" for ts in times],
        "nanosecond": pa.nulls(n, pa.int64()),
    }
    return check(SPEC, pa.table(columns, SPEC.schema)).batch


PAGES = st.lists(
    st.builds(
        lambda key, times, answered, streamed, source: Page(
            key, rows(*sorted(times)), answered, source=source, streamed=streamed
        ),
        st.sampled_from(sorted(ENTITIES)),
        st.sets(st.integers(1, 10**6), max_size=5),
        SPANS,
        SPANS,
        st.sampled_from([coverage.STREAM, coverage.REST]),
    ),
    min_size=1,
    max_size=5,
)


def page(*times, key=1):
    return Page(key, rows(*times), ((times[0], times[-1]),), source=coverage.STREAM)


@pytest.fixture
def spills(tmp_path):
    return Spills(tmp_path / "spill", SPEC)


def numbered(spilled):
    """The pages again, with the keys that they had."""
    keys = {entity: key for key, entity in ENTITIES.items()}
    return [one.page(keys[one.entity]) for one in spilled]


@given(PAGES)
def test_pages_come_back_as_they_were(tmp_path_factory, pages):
    spills = Spills(tmp_path_factory.mktemp("spill"), SPEC)
    spills.write(pages, ENTITIES)
    (path,) = spills.files()
    found, is_whole = spills.read(path)
    assert (numbered(found), is_whole) == (pages, True)


def test_files_are_in_order(spills):
    for ts in (10, 20, 30):
        spills.write([page(ts, ts + 1)], ENTITIES)
    found = [spills.read(path)[0][0].batch["ts"][0].as_py() for path in spills.files()]
    assert found == [10, 20, 30]


def test_there_is_nothing_at_first(spills, tmp_path):
    assert spills.files() == []
    assert not (tmp_path / "spill").exists(), "a folder is made when it is needed"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_of_a_torn_file_the_pages_before_the_damage_are_read(spills, caplog, share):
    pages = [page(ts, ts + 5) for ts in range(0, 100, 10)]
    spills.write(pages, ENTITIES)
    (path,) = spills.files()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with caplog.at_level(logging.ERROR):
        spilled, is_whole = spills.read(path)
    found = numbered(spilled)
    assert not is_whole
    assert found == pages[: len(found)]
    assert len(found) < len(pages)
    assert share < 0.5 or found
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1 and str(path) in told[0] and f"{len(found)} pages" in told[0]


@pytest.mark.parametrize("content", [b"", b"nonsense" * 100, b"\xff" * 1000])
def test_a_file_that_is_none_of_ours_is_told(spills, caplog, content):
    spills.write([page(1, 2)], ENTITIES)
    (path,) = spills.files()
    path.write_bytes(content)
    assert spills.read(path) == ([], False)
    assert "is damaged" in caplog.text


def test_a_file_with_other_columns_is_told(spills, tmp_path, caplog):
    path = tmp_path / "0.arrow"
    table = pa.table({"ts": [1], "price": [2.0]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    assert spills.read(path) == ([], False)
    assert "its columns are ['ts', 'price']" in caplog.text


def test_a_page_without_its_facts_is_told(spills, tmp_path, caplog):
    path = tmp_path / "0.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SPEC.schema) as stream:
        stream.write_table(rows(1, 2))
    assert spills.read(path) == ([], False)
    assert "is damaged" in caplog.text


def test_a_file_that_another_process_has_stored_is_no_damage(spills, tmp_path, caplog):
    assert spills.read(tmp_path / "gone.arrow") == ([], True)
    assert not caplog.records


_FULL = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
sys.path.insert(0, sys.argv[2])
from test_spill import ENTITIES, SPEC, Spills, page
spills = Spills(Path(sys.argv[1]), SPEC)
spills.write([page(1, 2)], ENTITIES)
try:
    spills.write([page(*range(50_000))], ENTITIES)
except OSError as error:
    print(type(error).__name__, [path.suffix for path in Path(sys.argv[1]).iterdir()])
"""


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    here = Path(__file__)
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path / "spill"), str(here.parent)],
        cwd=here.parents[2],
        env={"PYTHONPATH": str(here.parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "OSError ['.arrow']\n", done.stderr
