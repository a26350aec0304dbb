import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from two_processes import FIRST, MINUTE, SPEC, Process, candles

from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.core.levels import iso
from zvt_crypto.core.tables import tables
from zvt_crypto.store.answer import time_texts
from zvt_crypto.store.pool import pool
from zvt_crypto.store.reader import Cursor, Query, cursor_of, public_schema, read, stream
from zvt_crypto.store.writer import Entity, SeriesWriter, write_entities

FAST = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
CODES = ("btcusdt", "dogeusdt", "ethusdt")


@pytest.fixture
def table(store):
    """Three symbols: one over two chunks, one in part of them, one of few rows; the times cross."""
    side = Process(store.data_path)
    side.write("ethusdt", 0, 70_000, 7)
    side.write("btcusdt", 40_000, 9_000, 8)
    side.write("dogeusdt", 69_990, 20, 9)
    return side


@given(st.lists(st.integers(0, 4_102_444_799_999), max_size=20), st.sampled_from([1, 1000]))
def test_times_are_written_as_everywhere(times, step):
    ts = np.array(times, np.int64) // step * step
    assert time_texts(ts).to_pylist() == [iso(int(t)) for t in ts]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("size", [7, 1_000, 30_000])
def test_pages_after_a_cursor_are_the_whole(store, table, order, size):
    columns = ("timestamp", "entity_id", "close")
    whole = read(store, Query(SPEC, "binance", columns=columns, order=order, start=FIRST + 39_000 * MINUTE))
    whole = whole.slice(0, 20 * size)
    pages, after = [], None
    while sum(page.num_rows for page in pages) < whole.num_rows:
        query = Query(
            SPEC,
            "binance",
            columns=columns,
            order=order,
            start=FIRST + 39_000 * MINUTE,
            limit=size,
            after=after,
        )
        pages.append(read(store, query))
        after = cursor_of(pages[-1], SPEC)
    assert pa.concat_tables(pages).slice(0, whole.num_rows).equals(whole)


def test_a_cursor_stays_right_while_rows_arrive(store, table):
    query = Query(SPEC, "binance", start=FIRST + 69_995 * MINUTE, limit=7)
    first = read(store, query)
    assert first["code"].to_pylist() == ["dogeusdt", "ethusdt"] * 3 + ["dogeusdt"]
    # Before the cursor and after it.
    table.write("btcusdt", 69_996, 2, 1)
    table.write("btcusdt", 69_998, 2, 1)
    rest = read(store, Query(SPEC, "binance", start=FIRST + 69_995 * MINUTE, after=cursor_of(first, SPEC)))
    assert rest["code"].to_pylist()[:3] == ["ethusdt", "btcusdt", "dogeusdt"]


@given(
    width=st.integers(1, 200_000),
    order=st.sampled_from(["asc", "desc"]),
    limit=st.one_of(st.none(), st.integers(1, 90_000)),
    codes=st.one_of(st.none(), st.sampled_from([CODES[:1], CODES[1:]])),
    columns=st.sampled_from([None, ("timestamp", "vwap")]),
)
@hypothesis_settings(max_examples=25, **FAST)
def test_a_stream_is_the_answer_in_parts(store, table, width, order, limit, codes, columns):
    query = Query(SPEC, "binance", codes=codes, order=order, limit=limit, columns=columns)
    batches = list(stream(store, query, rows=max(width, 3_000)))
    assert all(batch.num_rows <= max(width, 3_000) for batch in batches)
    assert pa.concat_tables(batches).equals(read(store, query))


def test_a_stream_sees_one_state_of_the_table(store, table):
    batches = stream(store, Query(SPEC, "binance", columns=("timestamp", "volume")), rows=5_000)
    seen = [next(batches)]
    table.sql("UPDATE rows SET volume = volume + 1")
    seen += batches
    later = read(store, Query(SPEC, "binance", columns=("timestamp", "volume")))
    assert sum(batch.num_rows for batch in seen) == later.num_rows
    volume = pa.concat_tables(seen)["volume"].to_numpy()
    assert (volume < later["volume"].to_numpy()).all()


def test_a_stream_jumps_over_years_without_rows(store):
    side = Process(store.data_path)
    with store.connect("binance", SPEC) as connection:
        writer = SeriesWriter(connection, SPEC)
        key = writer.entity_key(Entity("cryptopair_binance_btcusdt", "btcusdt", None))
        for ts in (0, FIRST):
            writer.write_page(key, candles([ts], 1))
    for order in ("asc", "desc"):
        batches = list(stream(side.store, Query(SPEC, "binance", order=order), rows=1_000))
        assert [batch.num_rows for batch in batches] == [1, 1]


def test_rows_by_their_ids(store, table):
    times = [FIRST + i * MINUTE for i in (0, 69_999, 41_000)]
    ids = [f"cryptopair_binance_ethusdt_{iso(t)}" for t in times]
    ids += [f"cryptopair_binance_btcusdt_{iso(times[2])}", "cryptopair_binance_xrpusdt_2024-01-01", "nothing"]
    found = read(store, Query(SPEC, "binance", ids=tuple(ids)))
    assert found["id"].to_pylist() == [ids[0], ids[3], ids[2], ids[1]]
    last = read(store, Query(SPEC, "binance", ids=tuple(ids), order="desc", limit=2))
    assert last["id"].to_pylist() == [ids[1], ids[2]]
    few = read(store, Query(SPEC, "binance", ids=tuple(ids), codes=("btcusdt",), end=times[2] + 1))
    assert few["id"].to_pylist() == [ids[3]]
    assert read(store, Query(SPEC, "binance", ids=("nothing",))).num_rows == 0


def test_twelve_thousand_ids_at_once(store, table):
    ids = [f"cryptopair_binance_ethusdt_{iso(FIRST + i * MINUTE)}" for i in range(0, 60_000, 5)]
    assert read(store, Query(SPEC, "binance", ids=tuple(ids)))["id"].to_pylist() == ids


def test_texts_with_sql_in_them_are_texts(store, table):
    for text in ("x' OR '1'='1", '"; DROP TABLE rows; --', "%", "\x00", "💥"):
        for name in ("codes", "entity_ids", "ids"):
            assert read(store, Query(SPEC, "binance", **{name: (text,)})).num_rows == 0
        for wrong in ({"columns": (text,)}, {"order": text}, {"fill": text}, {"resample": text}):
            with pytest.raises(InvalidArgument):
                Query(SPEC, "binance", **wrong)
    assert read(store, Query(SPEC, "binance")).num_rows == 79_020


def test_an_answer_without_rows_has_the_columns_and_types_of_any(store, table):
    schema = public_schema(SPEC)
    for query in (
        Query(SPEC, "nobody"),
        Query(SPEC, "binance", codes=("xrpusdt",)),
        Query(SPEC, "binance", start=0, end=1),
        Query(SPEC, "binance", start=FIRST * 2),
    ):
        assert read(store, query).schema.equals(schema)
        assert list(stream(store, query)) == []
    with pytest.raises(InvalidArgument, match="after end"):
        Query(SPEC, "binance", start=5, end=5)


class TestPool:
    def test_a_connection_waits_for_the_next_query(self, store, table):
        pool.close()
        seen = set()
        for _ in range(3):
            with store.reading("binance", SPEC) as connection:
                seen.add(id(connection))
        assert len(seen) == 1

    def test_a_file_that_came_to_the_same_path_is_not_mistaken_for_the_old_one(self, store, table):
        assert read(store, Query(SPEC, "binance", codes=("dogeusdt",))).num_rows == 20
        database = store.path("binance", SPEC)
        for path in database.parent.glob(database.name + "*"):
            path.unlink()
        assert read(store, Query(SPEC, "binance", codes=("dogeusdt",))).num_rows == 0
        table.write("dogeusdt", 0, 5, 1)
        assert read(store, Query(SPEC, "binance", codes=("dogeusdt",))).num_rows == 5

    def test_a_failed_query_closes_its_connection(self, store, table):
        pool.close()
        with pytest.raises(ZeroDivisionError), store.reading("binance", SPEC) as connection:
            raise ZeroDivisionError
        with store.reading("binance", SPEC) as another:
            assert another is not connection

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_child_opens_its_own(self, store, table):
        script = (
            "import os, sys; sys.path.insert(0, sys.argv[2]); from two_processes import *\n"
            "store, query = Process(sys.argv[1]).store, Query(SPEC, 'binance', codes=('dogeusdt',))\n"
            "assert read(store, query).num_rows == 20\n"
            "child = os.fork()\n"
            "assert read(store, query).num_rows == 20\n"
            "if not child: os._exit(0)\n"
            "assert os.waitpid(child, 0)[1] == 0\n"
            "assert read(store, query).num_rows == 20\n"
        )
        here = str(Path(__file__).parent)
        subprocess.run([sys.executable, "-c", script, str(store.data_path), here], check=True)


def test_entities_page_by_cursor_with_and_without_a_listing_date(store):
    spec = tables["cryptopair"]
    codes = [f"c{i}usdt" for i in range(9)]
    batch = pa.table(
        {
            "id": [f"cryptopair_okx_{code}" for code in codes],
            "entity_id": [f"cryptopair_okx_{code}" for code in codes],
            "timestamp": pa.array([None, 5, 5, None, 7, 1, 1, 1, None], pa.int64()),
            "entity_type": ["cryptopair"] * 9,
            "exchange": ["okx"] * 9,
            "code": codes,
        }
    )
    with store.connect("okx", spec) as connection:
        write_entities(connection, spec, batch)
    for order in ("asc", "desc"):
        whole = read(store, Query(spec, "okx", order=order))
        seen, after = [], None
        while len(seen) < 9:
            page = read(store, Query(spec, "okx", order=order, limit=2, after=after))
            seen += page["code"].to_pylist()
            after = cursor_of(page, spec)
        assert seen == whole["code"].to_pylist()
        assert read(store, Query(spec, "okx", order=order, after=after)).num_rows == 0
    assert cursor_of(whole.slice(8), spec) == Cursor(-1, "cryptopair_okx_c0usdt")
