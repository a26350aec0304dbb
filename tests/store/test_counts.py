"""Counts of rows, which are kept for each version of a chunk."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from zvt_crypto.core.config import Settings
from zvt_crypto.core.tables import CHUNK_ROWS
from zvt_crypto.domain import load_tables
from zvt_crypto.store.compaction import compact
from zvt_crypto.store.counts import Condition
from zvt_crypto.store.engine import Store
from zvt_crypto.store.history import History
from zvt_crypto.store.writer import Entity, SeriesWriter

SPEC = load_tables().find("CryptoPair1mKdata")
STEP = SPEC.step
#: So that rows lie in three chunks.
FIRST = 27 * SPEC.chunk_ms - 300 * STEP


def rows(numbers):
    ts = [FIRST + number * STEP for number in sorted(numbers)]
    price = [1.0] * len(ts)
    return pa.table(
        {
            "ts": ts,
            **dict.fromkeys(("open", "high", "low", "close"), price),
            "volume": [float(number % 3) for number in sorted(numbers)],
            "turnover": price,
            "trade_count": pa.nulls(len(ts), pa.int64()),
        }
    ).cast(SPEC.schema)


def write(store, numbers):
    with store.connect("binance", SPEC) as connection:
        writer = SeriesWriter(connection, SPEC)
        key = writer.entity_key(Entity("cryptopair_binance_btcusdt", "btcusdt", None))
        writer.write_page(key, rows(numbers))


def count(store, start=None, end=None, condition=None):
    with store.reading("binance", SPEC) as connection:
        history = History(connection, SPEC)
        (series,) = history.series()
        return history.count(series, start, end, condition)


NUMBERS = st.sets(
    st.one_of(st.integers(0, 600), st.integers(CHUNK_ROWS, CHUNK_ROWS + 600)), min_size=1, max_size=60
)
EDGES = st.one_of(st.none(), st.integers(-5, 700), st.integers(CHUNK_ROWS - 5, CHUNK_ROWS + 700))


@hypothesis_settings(max_examples=40)
@given(
    first=NUMBERS,
    later=st.lists(NUMBERS, max_size=3),
    ranges=st.lists(st.tuples(EDGES, EDGES), min_size=1, max_size=5),
    deleted=st.integers(0, 600),
)
def test_counts_are_those_of_the_rows_after_every_change(tmp_path_factory, first, later, ranges, deleted):
    store = Store(Settings(data_path=tmp_path_factory.mktemp("counts")))
    there = set(first)
    write(store, first)

    def agree():
        for start, end in ranges:
            low = None if start is None else FIRST + start * STEP
            high = None if end is None else FIRST + end * STEP
            inside = {n for n in there if (start is None or n >= start) and (end is None or n < end)}
            assert count(store, low, high) == count(store, low, high) == len(inside)
            more = Condition("r.volume > ?", (-1.0,))
            assert count(store, low, high, more) == len(inside)

    agree()
    for numbers in later:
        write(store, numbers)
        there |= numbers
        agree()
    with store.connect("binance", SPEC) as connection:
        connection.run(f"DELETE FROM {SPEC.name} WHERE timestamp = {FIRST + deleted * STEP}")
    there.discard(deleted)
    if there:
        agree()


@pytest.mark.parametrize("damage", [False, True])
def test_segments_tell_how_many_rows_they_have(tmp_path, damage):
    store = Store(Settings(data_path=tmp_path))
    write(store, range(300, 300 + 5_000))
    made = compact(store, "binance", SPEC)
    assert made.made == 1
    if damage:
        for path in tmp_path.rglob("*.arrow"):
            path.write_bytes(b"no segment")
    assert count(store) == 5_000
    with store.connect("binance", SPEC) as connection:
        connection.run(f"DELETE FROM rows WHERE ts < {FIRST + 310 * STEP}")
    assert count(store) == 4_990
