"""What other programs find in the files."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pytest
from conftest_transfer import rows

from zvt_crypto.core.errors import InvalidArgument, SymbolMappingError
from zvt_crypto.domain import load_tables
from zvt_crypto.store.writer import write_entities
from zvt_crypto.transfer.exporting import Destination, Selection, export

TABLES = ("CryptoPair1mKdata", "CryptoPair1hKdata", "CryptoPerp1dKdata")


@pytest.fixture
def filled(store, write):
    write("CryptoPair1mKdata", "btcusdt", range(50), name="BTC/USDT")
    write("CryptoPair1mKdata", "ethusdt", range(20), name="ETH/USDT")
    write("CryptoPair1hKdata", "btcusdt", range(30), provider="okx", name="BTC/USDT")
    write("CryptoPerp1dKdata", "btcusd-btc", range(7), name="BTC/USD:BTC")
    return store


def selections(store):
    return [
        Selection(provider, spec)
        for provider in ("binance", "okx")
        for spec in map(load_tables().find, TABLES)
        if store.exists(provider, spec)
    ]


@pytest.mark.parametrize("form", ["parquet", "feather", "arrow", "csv"])
def test_hive_is_one_dataset(filled, tmp_path, form):
    out = tmp_path / "out"
    report = export(filled, selections(filled), Destination(out, form=form))
    assert [str(outcome.path.relative_to(out)) for outcome in report.outcomes] == [
        f"provider=binance/table=cryptopair_1m_kdata/code=btcusdt/data.{form}",
        f"provider=binance/table=cryptopair_1m_kdata/code=ethusdt/data.{form}",
        f"provider=binance/table=cryptoperp_1d_kdata/code=btcusd-btc/data.{form}",
        f"provider=okx/table=cryptopair_1h_kdata/code=btcusdt/data.{form}",
    ]
    assert report.bytes == sum(path.stat().st_size for path in out.rglob(f"*.{form}"))
    dataset = pa.dataset.dataset(
        out, format="ipc" if form in ("arrow", "feather") else form, partitioning="hive"
    )
    found = dataset.to_table(filter=pa.dataset.field("table") == "cryptopair_1m_kdata").to_pylist()
    expected = rows(filled, "CryptoPair1mKdata")
    assert sorted((row["code"], row["close"], row["volume"]) for row in found) == sorted(
        (row["code"], row["close"], row["volume"]) for row in expected
    )
    assert dataset.count_rows() == 107


def test_pandas_reads_each_format(filled, tmp_path):
    readers = {
        "parquet": pd.read_parquet,
        "feather": pd.read_feather,
        "arrow": pd.read_feather,
        "csv": pd.read_csv,
    }
    for form, reader in readers.items():
        export(filled, selections(filled), Destination(tmp_path / form, form=form))
        folder = tmp_path / form / "provider=binance/table=cryptopair_1m_kdata/code=btcusdt"
        frame = reader(folder / f"data.{form}")
        assert list(frame.columns)[:8] == [
            "timestamp", "open", "high", "low", "close", "volume", "turnover", "trade_count",
        ]  # fmt: skip
        assert pd.to_datetime(frame["timestamp"]).iloc[1] == pd.Timestamp("2024-01-01T00:01:00Z")
        assert frame["turnover"].isna().sum() == 10
    assert len(pd.read_parquet(tmp_path / "parquet")) == 107
    head = (tmp_path / "csv/provider=binance/table=cryptopair_1m_kdata/code=btcusdt/data.csv").read_text()
    assert head.splitlines()[1] == '"2024-01-01T00:00:00Z",100,100.5,99.5,100,0.25,,'


def test_freqtrades_names_columns_and_types(filled, tmp_path):
    chosen = [selection for selection in selections(filled) if selection.provider == "binance"]
    export(filled, chosen, Destination(tmp_path / "out", "freqtrade", "feather"))
    found = sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()
    )
    assert found == [
        "BTC_USDT-1m.feather",
        "ETH_USDT-1m.feather",
        "futures/BTC_USD_BTC-1d-futures.feather",
    ]
    frame = pd.read_feather(tmp_path / "out/futures/BTC_USD_BTC-1d-futures.feather")
    assert [(name, str(kind)) for name, kind in frame.dtypes.items()] == [
        ("date", "datetime64[ms, UTC]"),
        *((name, "float64") for name in ("open", "high", "low", "close", "volume")),
    ]
    assert frame["date"].iloc[6] == pd.Timestamp("2024-01-07", tz="UTC")


def test_freqtrades_layout_is_refused_where_it_has_no_place(filled, tmp_path):
    for form in ("csv", "arrow"):
        with pytest.raises(InvalidArgument, match=f"freqtrade reads no {form} files"):
            Destination(tmp_path, "freqtrade", form)
    there = Destination(tmp_path, "freqtrade", "feather")
    with pytest.raises(InvalidArgument, match="binance, okx"):
        export(filled, selections(filled), there)
    with pytest.raises(InvalidArgument, match="CryptoPair holds no candles"):
        export(filled, [Selection("binance", load_tables().find("CryptoPair"))], there)
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]


def test_a_market_whose_currencies_are_not_known(store, write, tmp_path):
    minutes = load_tables().find("CryptoPair1mKdata")
    write("CryptoPair1mKdata", "btcusdt", range(3), name="Bitcoin")
    write("CryptoPair1mKdata", "ethusdt", range(3), name="ETH/USDT")
    there = Destination(tmp_path / "out", "freqtrade", "feather")
    report = export(store, [Selection("binance", minutes)], there)
    [error] = report.errors
    assert isinstance(error, SymbolMappingError)
    assert "record them with `zvt-crypto record --provider binance --entities`" in error.one_line()
    assert (report.rows, report.exit_code) == (3, 3)
    pair = "cryptopair_binance_btcusdt"
    spec = load_tables().find("CryptoPair")
    with store.connect("binance", spec) as connection:
        known = {"id": pair, "entity_id": pair, "entity_type": "cryptopair", "exchange": "binance"}
        write_entities(
            connection, spec, pa.Table.from_pylist([known | {"code": "btcusdt", "symbol": "BTC/USDT"}])
        )
    assert export(store, [Selection("binance", minutes)], there).errors == []
    assert (tmp_path / "out/BTC_USDT-1m.feather").exists()


def test_two_markets_with_one_name_of_freqtrades(store, write, tmp_path):
    write("CryptoPair1mKdata", "a.busdt", range(3), name="A.B/USDT")
    write("CryptoPair1mKdata", "a$busdt", range(4), name="A$B/USDT")
    there = Destination(tmp_path / "out", "freqtrade", "feather")
    report = export(store, [Selection("binance", load_tables().find("CryptoPair1mKdata"))], there)
    [error] = report.errors
    assert "has the same name there" in error.message
    assert len(pd.read_feather(tmp_path / "out/A_B_USDT-1m.feather")) == report.rows
