"""What is exported and imported again is the same, for every format and layout."""

from __future__ import annotations

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest_transfer import FIRST, ledger, rows
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import MINUTE_MS
from zvt_crypto.domain import load_tables
from zvt_crypto.store.engine import Store
from zvt_crypto.store.reader import Query, read
from zvt_crypto.store.writer import Entity, SeriesWriter, write_entities
from zvt_crypto.transfer.exporting import Destination, Selection, export
from zvt_crypto.transfer.importing import import_files
from zvt_crypto.transfer.writing import FORMATS

MINUTES = load_tables()["cryptopair_1m_kdata"]
BTC = "cryptopair_binance_btcusdt"
PRICES = ["timestamp", "open", "high", "low", "close", "volume"]

PRICE = st.one_of(st.decimals("0.00000001", 10**7, places=8).map(float), st.floats(1e-12, 1e12))
AMOUNT = st.one_of(st.just(0.0), PRICE)
ROW = st.tuples(
    st.integers(0, 40),
    PRICE,
    AMOUNT,
    st.one_of(st.none(), AMOUNT),
    st.one_of(st.none(), st.integers(0, 2**53)),
)


def export_all(store, folder, layout="hive", form="parquet", provider="binance"):
    specs = [s for s in load_tables().values() if store.exists(provider, s)]
    report = export(store, [Selection(provider, s) for s in specs], Destination(folder, layout, form))
    assert report.errors == []
    return report


def import_all(store, *paths, provider=None):
    report = import_files(store, paths, provider=provider)
    assert report.errors == []
    return report


def batch_of(drawn):
    by_minute = {minute: rest for minute, *rest in drawn}
    minutes = sorted(by_minute)
    price, volume, turnover, count = zip(*(by_minute[m] for m in minutes), strict=True)
    prices = dict.fromkeys(("open", "high", "low", "close"), pa.array(price, pa.float64()))
    return pa.table(
        {
            "ts": FIRST + np.array(minutes, np.int64) * MINUTE_MS,
            **prices,
            "volume": pa.array(volume, pa.float64()),
            "turnover": pa.array(turnover, pa.float64()),
            "trade_count": pa.array(count, pa.int64()),
        }
    )


@pytest.mark.parametrize("form", FORMATS)
@given(st.lists(ROW, min_size=1, max_size=12))
@hypothesis_settings(max_examples=12, deadline=None)
def test_hive_to_the_bit(form, drawn):
    with TemporaryDirectory() as folder:
        first, second = (Store(Settings(data_path=Path(folder, name))) for name in ("a", "b"))
        with first.connect("binance", MINUTES) as connection:
            writer = SeriesWriter(connection, MINUTES)
            writer.write_page(writer.entity_key(Entity(BTC, "btcusdt", None)), batch_of(drawn))
        export_all(first, Path(folder, "out"), form=form)
        import_all(second, Path(folder, "out"))
        query = Query(MINUTES, "binance")
        assert read(second, query).equals(read(first, query))


@pytest.mark.parametrize("form", ["feather", "parquet"])
@given(st.lists(ROW, min_size=1, max_size=12))
@hypothesis_settings(max_examples=12, deadline=None)
def test_freqtrade_to_the_bit(form, drawn):
    with TemporaryDirectory() as folder:
        first, second = (Store(Settings(data_path=Path(folder, name))) for name in ("a", "b"))
        with first.connect("binance", MINUTES) as connection:
            writer = SeriesWriter(connection, MINUTES)
            writer.write_page(writer.entity_key(Entity(BTC, "btcusdt", "BTC/USDT")), batch_of(drawn))
        export_all(first, Path(folder, "out"), "freqtrade", form)
        import_all(second, Path(folder, "out"), provider="binance")
        query = Query(MINUTES, "binance", columns=tuple(PRICES))
        assert read(second, query).equals(read(first, query))


@pytest.mark.parametrize("form", ["parquet", "feather", "arrow"])
def test_what_was_proven_stays_proven(store, other, write, tmp_path, form):
    write("CryptoPair1mKdata", "btcusdt", {0, 1, 5, 9, 30}, answered=[(0, 12)], name="BTC/USDT")
    export_all(store, tmp_path / "out", form=form)
    import_all(other, tmp_path / "out")
    assert ledger(other, "CryptoPair1mKdata", BTC) == [(0, 12), (30, 31)]
    assert rows(other, "CryptoPair1mKdata") == rows(store, "CryptoPair1mKdata")
    assert rows(other, "CryptoPair1mKdata")[0]["name"] == "BTC/USDT"


def test_csv_proves_only_its_rows(store, other, write, tmp_path):
    write("CryptoPair1mKdata", "btcusdt", {0, 1, 5}, answered=[(0, 12)])
    export_all(store, tmp_path / "out", form="csv")
    import_all(other, tmp_path / "out")
    assert ledger(other, "CryptoPair1mKdata", BTC) == [(0, 2), (5, 6)]


def test_what_was_removed_is_not_proven(store, other, write, tmp_path):
    write("CryptoPair1mKdata", "btcusdt", range(10), answered=[(0, 10)])
    with store.connect("binance", MINUTES) as connection:
        connection.run(f"DELETE FROM {MINUTES.name} WHERE timestamp = {FIRST + 4 * MINUTE_MS}")
    export_all(store, tmp_path / "out")
    import_all(other, tmp_path / "out")
    assert ledger(other, "CryptoPair1mKdata", BTC) == [(0, 4), (5, 10)]


def test_a_row_removed_here_that_a_file_lacks_stays_marked(store, other, write, tmp_path):
    write("CryptoPair1mKdata", "btcusdt", {0, 1, 3, 4})
    export_all(store, tmp_path / "out", form="csv")
    write("CryptoPair1mKdata", "btcusdt", range(5), answered=[(0, 5)], into=other)
    with other.connect("binance", MINUTES) as connection:
        connection.run(f"DELETE FROM {MINUTES.name}")
    import_all(other, tmp_path / "out")
    with other.connect("binance", MINUTES) as connection:
        assert connection.query("SELECT ts FROM removed")[0].to_pylist() == [FIRST + 2 * MINUTE_MS]


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_files_twice_change_nothing(store, other, write, tmp_path, form):
    write("CryptoPair1mKdata", "btcusdt", {*range(100), *range(150, 200)}, answered=[(0, 120)])
    export_all(store, tmp_path / "out", form=form)
    import_all(other, tmp_path / "out")
    before = rows(other, "CryptoPair1mKdata"), ledger(other, "CryptoPair1mKdata", BTC)
    import_all(other, tmp_path / "out")
    assert (rows(other, "CryptoPair1mKdata"), ledger(other, "CryptoPair1mKdata", BTC)) == before
    with other.connect("binance", MINUTES) as connection:
        kept = connection.query("SELECT state, source FROM coverage").to_pylist()
    assert {tuple(entry.values()) for entry in kept} == {("answered", "import")}


def test_a_range_of_times_and_its_part_of_the_ledger(store, other, write, tmp_path):
    write("CryptoPair1mKdata", "btcusdt", {0, 1, 5, 9}, answered=[(0, 12)])
    write("CryptoPair1mKdata", "ethusdt", {0, 1}, answered=[(0, 12)])
    chosen = Selection("binance", MINUTES, None, FIRST + 4 * MINUTE_MS, FIRST + 8 * MINUTE_MS)
    report = export(store, [chosen], Destination(tmp_path / "out"))
    assert [(o.rows, o.path is None) for o in report.outcomes] == [(1, False), (0, True)]
    assert report.files == 2 - 1
    import_all(other, tmp_path / "out")
    assert ledger(other, "CryptoPair1mKdata", BTC) == [(4, 8)]


def test_many_batches(store, other, write, tmp_path, monkeypatch):
    monkeypatch.setattr("zvt_crypto.transfer.exporting._BATCH_ROWS", 100)
    monkeypatch.setattr("zvt_crypto.transfer.reading.BATCH_ROWS", 70)
    write(
        "CryptoPair1mKdata", "btcusdt", [*range(500), *range(900, 1000)], answered=[(0, 700)], name="BTC/USDT"
    )
    for form in FORMATS:
        out, store_of_form = tmp_path / form, Store(Settings(data_path=tmp_path / f"data-{form}"))
        export_all(store, out, form=form)
        import_all(store_of_form, out)
        assert rows(store_of_form, "CryptoPair1mKdata") == [
            row | {"name": None if form == "csv" else "BTC/USDT"} for row in rows(store, "CryptoPair1mKdata")
        ]
        proven = [(0, 500), (900, 1000)] if form == "csv" else [(0, 700), (900, 1000)]
        assert ledger(store_of_form, "CryptoPair1mKdata", BTC) == proven
    export_all(store, tmp_path / "ft", "freqtrade", "feather")
    import_all(other, tmp_path / "ft", provider="binance")
    assert ledger(other, "CryptoPair1mKdata", BTC) == [(0, 500), (900, 999)]


def test_the_last_candle_of_freqtrade_is_asked_for_again(store, other, write, tmp_path):
    write("CryptoPair1mKdata", "btcusdt", range(5), name="BTC/USDT")
    export_all(store, tmp_path / "out", "freqtrade", "feather")
    import_all(other, tmp_path / "out", provider="binance")
    assert len(rows(other, "CryptoPair1mKdata")) == 5
    assert ledger(other, "CryptoPair1mKdata", BTC) == [(0, 4)]


def test_freqtrades_files_do_not_blank_what_they_lack(store, write, tmp_path):
    write("CryptoPair1mKdata", "btcusdt", range(10), name="BTC/USDT")
    export_all(store, tmp_path / "out", "freqtrade", "feather")
    path = tmp_path / "out" / "BTC_USDT-1m.feather"
    frame = pd.read_feather(path)
    frame.loc[4, "volume"] = 77.0
    frame.to_feather(path)
    before = rows(store, "CryptoPair1mKdata")
    import_all(store, path, provider="binance")
    after = rows(store, "CryptoPair1mKdata")
    assert before[1]["turnover"] is not None
    assert [row for i, row in enumerate(after) if i != 4] == [row for i, row in enumerate(before) if i != 4]
    # What belonged to another volume is no longer true.
    assert (after[4]["volume"], after[4]["turnover"], after[4]["trade_count"]) == (77.0, None, None)


@pytest.mark.parametrize("form", FORMATS)
def test_tables_of_entities(store, other, tmp_path, form):
    spec = load_tables().find("CryptoPair")
    ids = [f"cryptopair_binance_{code}" for code in ("btcusdt", "naeur", "a%2dbusd", "币usdt")]
    batch = pa.table(
        {
            "id": ids,
            "entity_id": ids,
            "timestamp": pa.array([FIRST, None, FIRST, FIRST + 1], pa.int64()),
            "entity_type": ["cryptopair"] * 4,
            "exchange": ["binance"] * 4,
            "code": [one.rpartition("_")[2] for one in ids],
            "name": ["BTC/USDT", "NA/EUR", 'A-B,"/USD', "币/USDT"],
            "list_date": pa.array([FIRST, None, None, None], pa.int64()),
            "base_symbol": ["btc", "na", "", None],
            "price_step": [0.01, None, 1e-8, 0.1],
            "is_active": [True, False, None, True],
        }
    )
    with store.connect("binance", spec) as connection:
        write_entities(connection, spec, batch)
    report = export_all(store, tmp_path / "out", form=form)
    assert report.outcomes[0].path == tmp_path / f"out/provider=binance/table=cryptopair/data.{form}"
    import_all(other, tmp_path / "out")
    import_all(other, tmp_path / "out")
    assert rows(other, "CryptoPair") == rows(store, "CryptoPair")


def test_codes_and_exchanges_of_any_spelling(store, other, write, tmp_path):
    for code, exchange in itertools.product(
        ("btcusdt", "a%2db%2fusdt", "币安人生usdt", "btcusd-btc"), ("kraken", "gate")
    ):
        write("CryptoPerp1hKdata", code, {0, 1}, exchange=exchange, provider="ccxt")
    report = export_all(store, tmp_path / "out", provider="ccxt")
    assert len({outcome.path for outcome in report.outcomes}) == 8
    import_all(other, tmp_path / "out")
    assert rows(other, "CryptoPerp1hKdata", "ccxt") == rows(store, "CryptoPerp1hKdata", "ccxt")
    frame = pd.read_parquet(tmp_path / "out")
    assert set(frame["code"]) == {"btcusdt", "a%2db%2fusdt", "币安人生usdt", "btcusd-btc"}
    assert set(frame["exchange"]) == {"kraken", "gate"}
