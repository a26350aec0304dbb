from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from zvt_crypto.core.levels import HOUR_MS, MINUTE_MS
from zvt_crypto.core.tables import tables
from zvt_crypto.domain.entities import PAIR
from zvt_crypto.domain.kdata import COLUMNS
from zvt_crypto.quality.gaps import ABSENT, UNCONFIRMED, UNRECORDED
from zvt_crypto.quality.summary import recorded_codes, recorded_tables, summarise
from zvt_crypto.store.writer import Entity, SeriesWriter, write_entities

START = 1_704_067_200_000
MINUTES = tables["cryptopair_1m_kdata"]


def minute(number):
    return START + number * MINUTE_MS


@pytest.fixture
def write(store):
    """Stores a candle at each minute given."""

    def written(code, minutes, answered=(), empty=(), spec=MINUTES, provider="binance"):
        ts = START + np.array(sorted(minutes), np.int64) * MINUTE_MS
        ones = {column.name: np.ones(len(ts)) for column in COLUMNS}
        batch = pa.table({"ts": ts, **ones}).cast(spec.schema)
        spans = [
            [(START + a * MINUTE_MS, START + b * MINUTE_MS) for a, b in given] for given in (answered, empty)
        ]
        with store.connect(provider, spec) as connection:
            writer = SeriesWriter(connection, spec)
            key = writer.entity_key(Entity(f"cryptopair_{provider}_{code}", code, None))
            writer.write_page(key, batch, answered=spans[0], empty=spans[1])

    return written


def test_counts_span_and_kinds_of_gaps(store, write):
    write("btcusdt", {0, 1, 5, 9, 12}, answered=[(0, 8)], empty=[(10, 11)])
    write("ethusdt", range(100), answered=[(0, 100)])
    found = summarise(store, "binance", MINUTES)
    assert (found.rows, found.path) == (105, store.path("binance", MINUTES))
    assert found.bytes_per_row == found.disk_bytes / 105
    btc, eth = found.series
    assert (btc.rows, btc.first, btc.last) == (5, START, minute(12))
    assert [btc.gaps.missing_in(kind) for kind in (ABSENT, UNRECORDED, UNCONFIRMED)] == [5, 2, 1]
    assert (eth.rows, len(eth.gaps)) == (100, 0)


def test_within_times_asked_about(store, write):
    write("btcusdt", range(10, 20), answered=[(0, 20)])
    [series] = summarise(store, "binance", MINUTES, start=minute(5), end=minute(22)).series
    assert (series.rows, series.gaps.missing_in(ABSENT), series.gaps.missing_in(UNRECORDED)) == (10, 5, 2)
    [series] = summarise(store, "binance", MINUTES, start=minute(12), end=minute(15)).series
    assert (series.rows, series.first, len(series.gaps)) == (3, minute(12), 0)


def test_a_symbol_without_rows(store, write):
    write("btcusdt", (), answered=[(0, 5)])
    [series] = summarise(store, "binance", MINUTES).series
    assert (series.rows, series.first, len(series.gaps)) == (0, None, 0)
    [series] = summarise(store, "binance", MINUTES, start=START, end=START + HOUR_MS).series
    assert [series.gaps.missing_in(kind) for kind in (ABSENT, UNRECORDED)] == [5, 55]


def test_only_some_codes(store, write):
    write("btcusdt", {0})
    write("ethusdt", {0})
    assert recorded_codes(store, "binance", MINUTES) == ["btcusdt", "ethusdt"]
    assert [s.code for s in summarise(store, "binance", MINUTES, codes=["ethusdt"]).series] == ["ethusdt"]


def test_recorded_tables_are_found_by_their_files(store, write):
    assert list(recorded_tables(store)) == []
    write("btcusdt", {0})
    write("btcusdt", {0}, provider="okx")
    (store.data_path / "state").mkdir()
    (store.data_path / "note.txt").write_text("")
    with store.connect("okx", PAIR) as connection:
        ids = ["cryptopair_okx_btcusdt"]
        head = {
            "id": ids,
            "entity_id": ids,
            "entity_type": ["cryptopair"],
            "exchange": ["okx"],
            "code": ["btcusdt"],
        }
        write_entities(connection, PAIR, pa.table(head))
    assert list(recorded_tables(store)) == [("binance", MINUTES), ("okx", PAIR), ("okx", MINUTES)]
    assert list(recorded_tables(store, "binance")) == [("binance", MINUTES)]
    assert (summarise(store, "okx", PAIR).rows, recorded_codes(store, "okx", PAIR)) == (1, ["btcusdt"])
