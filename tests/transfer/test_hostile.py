"""Files that others wrote: each that cannot be imported is one clear error, and the others are stored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from conftest_transfer import FIRST, candles, ledger, rows

from zvt_crypto.core.errors import (
    DataQualityFailure,
    InvalidArgument,
    StoreCorrupt,
    SymbolMappingError,
)
from zvt_crypto.core.levels import MINUTE_MS
from zvt_crypto.domain import load_tables
from zvt_crypto.transfer.exporting import Destination, Selection, export
from zvt_crypto.transfer.importing import import_files

ROOT = Path(__file__).resolve().parents[2]
MINUTES = load_tables()["cryptopair_1m_kdata"]
BTC = "cryptopair_binance_btcusdt"
FOLDER = "provider=binance/table=cryptopair_1m_kdata/code=btcusdt"
HEAD = "timestamp,open,high,low,close,volume,turnover,trade_count\n"


@pytest.fixture
def good(store, write, tmp_path):
    """A folder with one sound file."""
    write("CryptoPair1mKdata", "ethusdt", range(10))
    export(store, [Selection("binance", MINUTES)], Destination(tmp_path / "in"))
    return tmp_path / "in"


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def frame(n=3, **columns):
    stored = candles(MINUTES, range(n))
    times = stored["ts"].cast(pa.timestamp("ms"))
    made = {"timestamp": times} | {name: stored[name] for name in stored.column_names[1:]} | columns
    return pa.table({name: values for name, values in made.items() if values is not None})


LINE = "2024-01-01T00:00:00Z,1,1,1,1,1,,\n"
ONE = HEAD + LINE
BAD = {
    "no parquet at all": (f"{FOLDER}/data.parquet", "this is no parquet file", DataQualityFailure, "damaged"),
    "empty": (f"{FOLDER}/data.feather", "", DataQualityFailure, "damaged"),
    "empty csv": (f"{FOLDER}/data.csv", "", DataQualityFailure, "Empty CSV"),
    "text in numbers": (f"{FOLDER}/data.csv", HEAD + LINE.replace(",1,", ",one,", 1), DataQualityFailure, "'one'"),
    "csv cut within a number": (f"{FOLDER}/data.csv", ONE[:-5], DataQualityFailure, "ends within a line"),
    "no time": (f"{FOLDER}/data.csv", HEAD + LINE.replace("2024-01-01T00", "soon"), DataQualityFailure, "soon"),
    "finer than ms": (
        f"{FOLDER}/data.csv", HEAD + LINE.replace("00Z", "00.0001Z"), DataQualityFailure, "'timestamp'",
    ),
    "columns missing": (
        f"{FOLDER}/data.parquet", frame(high=None, volume=None), DataQualityFailure, "lacks the columns high, volume",
    ),
    "no time column": (f"{FOLDER}/data.parquet", frame(timestamp=None), DataQualityFailure, "timestamp"),
    "integers for times": (
        f"{FOLDER}/data.parquet", frame(timestamp=[1, 2, 3]), DataQualityFailure, "holds int64, no times",
    ),
    "broken count": (f"{FOLDER}/data.parquet", frame(trade_count=[1.5, 2, 3]), DataQualityFailure, "'trade_count'"),
    "nested": (f"{FOLDER}/data.parquet", frame(open=[[1.0]] * 3), DataQualityFailure, "'open'"),
    "unknown table": (
        FOLDER.replace("1m", "2m") + "/data.csv", ONE, InvalidArgument, "unknown table 'cryptopair_2m_kdata'",
    ),
    "provider that leads out": (
        FOLDER.replace("binance", "..%2F..%2Fx") + "/data.csv", ONE, InvalidArgument, "'../../x' cannot name a provider",
    ),
    "provider with a quote": (FOLDER.replace("binance", "a'b") + "/data.csv", ONE, InvalidArgument, "a'b"),
    "no provider": (FOLDER.replace("binance", "") + "/data.csv", ONE, InvalidArgument, "'' cannot name"),
    "code that leads out": (
        FOLDER.replace("btcusdt", "..%2F..%2Fx") + "/data.csv", ONE, SymbolMappingError, "'../../x' is no code",
    ),
    "code in capitals": (FOLDER.replace("btcusdt", "BTCUSDT") + "/data.csv", ONE, SymbolMappingError, "no code"),
    "code of SQL": (FOLDER.replace("btcusdt", "x'; DROP TABLE rows") + "/d.csv", ONE, SymbolMappingError, "no code"),
    "no code": (f"{Path(FOLDER).parent}/data.csv", ONE, SymbolMappingError, "'' is no code"),
    "exchange that is none": (f"{FOLDER}/exchange=a_b/data.csv", ONE, SymbolMappingError, "a_b"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "kind", "says"), BAD.values(), ids=BAD.keys())
def test_one_clear_error_and_the_others_are_stored(other, good, name, content, kind, says):
    path = put(good, name, content)
    report = import_files(other, [good])
    [error] = report.errors
    assert type(error) is kind
    assert says in error.message
    assert path.name in error.message
    assert error.suggestions
    assert (report.rows, report.files, report.exit_code) == (10, 1, 3)
    alone = import_files(other, [path])
    assert alone.exit_code == kind.exit_code
    assert [folder.name for folder in other.data_path.iterdir()] == ["binance"]
    assert len(list(other.data_path.rglob("*.db"))) == 1


@pytest.mark.parametrize("form", ["parquet", "feather", "arrow"])
def test_cut_short(store, other, write, tmp_path, form):
    write("CryptoPair1mKdata", "btcusdt", range(2000))
    report = export(store, [Selection("binance", MINUTES)], Destination(tmp_path / "in", form=form))
    whole = report.outcomes[0].path.read_bytes()
    report.outcomes[0].path.write_bytes(whole[: len(whole) // 2])
    [error] = import_files(other, [tmp_path / "in"]).errors
    assert isinstance(error, DataQualityFailure)
    assert not other.exists("binance", MINUTES)


NAMED = {
    "3m": ("BTC_USDT-3m.feather", "unknown timeframe"),
    "months": ("BTC_USDT-1Mo.feather", "unknown timeframe"),
    "mark": ("BTC_USDT_USDT-1h-mark.feather", "no market"),
    "funding": ("BTC_USDT_USDT-8h-funding_rate.feather", "unknown timeframe"),
    "spot of three": ("BTC_USDT_USDT-1h.feather", "no market"),
    "futures of two": ("BTC_USDT-1h-futures.feather", "no market"),
    "trades": ("BTC_USDT-trades.feather", "neither the folders nor the name"),
    "any": ("notes.parquet", "neither the folders nor the name"),
    "csv": ("BTC_USDT-1m.csv", "neither the folders nor the name"),
    "no format": ("BTC_USDT-1m.json", "allowed: .arrow, .csv, .feather, .parquet"),
}


@pytest.mark.parametrize(("name", "says"), NAMED.values(), ids=NAMED.keys())
def test_names_that_tell_nothing(other, good, name, says):
    path = good / name
    if path.suffix == ".parquet":
        pq.write_table(frame(), path)
    elif path.suffix == ".feather":
        pa.feather.write_feather(frame(), path)
    else:
        path.write_text(ONE)
    [error] = import_files(other, [path], provider="binance").errors
    assert isinstance(error, InvalidArgument)
    assert says in error.one_line()
    assert str(path) in error.message
    walked = import_files(other, [good])
    assert (walked.errors, walked.skipped, walked.rows) == ([], 1, 10)


def test_freqtrades_files_need_a_provider(other, tmp_path):
    pa.feather.write_feather(
        frame().rename_columns(["date", *frame().column_names[1:]]), tmp_path / "A_B-1m.feather"
    )
    with pytest.raises(InvalidArgument, match="does not tell its provider") as raised:
        import_files(other, [tmp_path])
    assert "--provider" in raised.value.one_line()
    with pytest.raises(InvalidArgument, match="cannot name a provider"):
        import_files(other, [tmp_path], provider="../x")
    assert import_files(other, [tmp_path], provider="binance").rows == 3


def test_a_name_that_leads_nowhere(other, good, tmp_path):
    report = import_files(other, [tmp_path / "gone.parquet", tmp_path / "gone", good])
    assert [error.message.split()[-3:] for error in report.errors] == [["is", "not", "there"]] * 2
    assert (report.rows, report.exit_code) == (10, 3)


def test_nothing_to_import(other, tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(InvalidArgument, match="holds no files that can be imported"):
        import_files(other, [tmp_path / "in"])
    put(tmp_path, "in/readme.txt", "hello")
    with pytest.raises(InvalidArgument, match="only 1 others"):
        import_files(other, [tmp_path / "in"])
    [error] = import_files(other, [tmp_path / f"{FOLDER}/data.csv"]).errors
    assert isinstance(error, InvalidArgument)
    assert "is not there" in error.message


def test_another_provider_than_the_folders_say(other, good):
    [error] = import_files(other, [good], provider="okx").errors
    assert "is of provider 'binance', not of 'okx'" in error.message


def test_rows_that_cannot_be_true_are_counted_and_the_others_stored(other, tmp_path):
    prices = np.full(8, 5.0)
    low = prices.copy()
    low[[2, 3]] = 6.0
    times = FIRST + np.arange(8) * MINUTE_MS
    times[5] += 1000
    stamps = pa.array(times, mask=np.arange(8) == 7).cast(pa.timestamp("ms", "Europe/Berlin"))
    table = frame(8, timestamp=stamps, open=prices, high=prices, low=low, close=prices)
    report = import_files(other, [put(tmp_path, f"{FOLDER}/data.parquet", table)])
    [error] = report.errors
    assert isinstance(error, DataQualityFailure)
    assert "high below or low above another price (2 rows, first at 2024-01-01T00:02:00Z)" in error.message
    assert "timestamp is not on the 1m grid (1 rows, first at 2024-01-01T00:05:01Z)" in error.message
    assert "timestamp is missing or outside 1970-2099 (1 rows)" in error.message
    assert error.details == {"rows": 4}
    assert (report.rows, report.exit_code) == (4, 3)
    assert [row["timestamp"].minute for row in rows(other, "CryptoPair1mKdata")] == [0, 1, 4, 6]
    assert ledger(other, "CryptoPair1mKdata", BTC) == [(0, 2), (4, 5), (6, 7)]


def test_all_rows_rejected(other, tmp_path):
    report = import_files(other, [put(tmp_path, f"{FOLDER}/data.parquet", frame(open=[-1.0] * 3))])
    assert (report.rows, report.exit_code) == (0, 1)
    assert not other.exists("binance", MINUTES)


def test_a_file_with_wrong_rows_proves_nothing_more_than_the_others(store, other, write, tmp_path):
    write("CryptoPair1mKdata", "btcusdt", range(6), answered=[(0, 20)])
    export(store, [Selection("binance", MINUTES)], Destination(tmp_path / "in"))
    path = tmp_path / "in" / FOLDER / "data.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(1, "open", pa.array([1e9, *table["close"].to_pylist()[1:]])), path)
    report = import_files(other, [path])
    assert (report.rows, len(report.errors)) == (5, 1)
    assert ledger(other, "CryptoPair1mKdata", BTC) == [(1, 6)]


@pytest.mark.parametrize(
    "stamps",
    [
        pa.array([FIRST // 1000 + 60 * i for i in range(3)]).cast(pa.timestamp("s")),
        pa.array([(FIRST + MINUTE_MS * i) * 1000 for i in range(3)]).cast(pa.timestamp("us")),
        pa.array([(FIRST + MINUTE_MS * i) * 10**6 for i in range(3)]).cast(pa.timestamp("ns", "Asia/Tokyo")),
        pa.array(["2024-01-01", "2024-01-01 00:01", "2024-01-01T00:02:00.000000"]),
        pa.array(["2024-01-01T00:00:00Z", "2024-01-01 00:01:00+00:00", "2024-01-01T02:02:00+02:00"]),
        pa.array(["2024-01-01T00:00Z", "2024-01-01T00:01Z", "2024-01-01T00:02Z"]).dictionary_encode(),
    ],
    ids=lambda stamps: f"{stamps.type} {stamps[0]}",
)
def test_times_in_any_notation(other, tmp_path, stamps):
    assert import_files(other, [put(tmp_path, f"{FOLDER}/any.parquet", frame(timestamp=stamps))]).errors == []
    assert [row["timestamp"].minute for row in rows(other, "CryptoPair1mKdata")] == [0, 1, 2]
    assert ledger(other, "CryptoPair1mKdata", BTC) == [(0, 3)]


def test_files_of_pandas_and_of_no_order(other, tmp_path):
    path = put(tmp_path, f"{FOLDER}/part-0.parquet", "")
    made = frame(6).to_pandas()
    assert made["trade_count"].dtype == float
    pd.concat([made.iloc[3:], made.iloc[:4]]).assign(note="x").to_parquet(path)
    assert import_files(other, [path]).errors == []
    assert [row["trade_count"] for row in rows(other, "CryptoPair1mKdata")] == [None, 1, 2, None, 4, 5]
    assert ledger(other, "CryptoPair1mKdata", BTC) == [(0, 6)]


def labelled(path, **changes):
    table = pq.read_table(path)
    label = json.loads(table.schema.metadata[b"zvt_crypto"]) | changes
    pq.write_table(table.replace_schema_metadata({b"zvt_crypto": json.dumps(label)}), path)


@pytest.mark.parametrize(
    "changes",
    [
        {"coverage": [[0, 1 << 62]]},
        {"coverage": [[-5, 10]]},
        {"coverage": [[10, 5]]},
        {"coverage": [["0); DROP TABLE rows", 5]]},
        {"coverage": None},
        {"format": 2},
        {"table": 7},
    ],
    ids=str,
)
def test_labels_that_are_wrong(other, good, changes):
    path = next(good.rglob("*.parquet"))
    labelled(path, **changes)
    [error] = import_files(other, [path]).errors
    assert isinstance(error, DataQualityFailure)
    assert "the file's own label is wrong" in error.message
    assert not other.data_path.exists()


@pytest.mark.parametrize(
    "changes", [{"provider": "../x"}, {"table": "../x"}, {"code": "../x"}, {"code": None}], ids=str
)
def test_labels_that_lead_out(other, good, tmp_path, changes):
    path = next(good.rglob("*.parquet"))
    labelled(path, **changes)
    moved = path.rename(tmp_path / "file.parquet")
    [error] = import_files(other, [moved]).errors
    assert error.exit_code == 2
    assert not other.data_path.exists()


def test_a_label_does_without_folders(other, good, tmp_path):
    moved = next(good.rglob("*.parquet")).rename(tmp_path / "file.parquet")
    assert import_files(other, [moved]).rows == 10
    assert rows(other, "CryptoPair1mKdata")[0]["entity_id"] == "cryptopair_binance_ethusdt"


def test_folders_count_more_than_the_label_which_then_proves_nothing(store, other, write, tmp_path):
    write("CryptoPair1mKdata", "btcusdt", {0, 1, 4}, answered=[(0, 9)], name="BTC/USDT")
    export(store, [Selection("binance", MINUTES)], Destination(tmp_path / "in"))
    (tmp_path / "in/provider=binance").rename(tmp_path / "in/provider=okx")
    assert import_files(other, [tmp_path / "in"]).rows == 3
    [row, *_] = rows(other, "CryptoPair1mKdata", "okx")
    assert (row["entity_id"], row["name"]) == ("cryptopair_okx_btcusdt", None)
    assert ledger(other, "CryptoPair1mKdata", row["entity_id"], "okx") == [(0, 2), (4, 5)]


def test_rows_of_other_entities(store, other, tmp_path):
    ids = ["cryptopair_binance_btcusdt", "cryptopair_okx_btcusdt", "cryptoperp_binance_btcusdt", "x"]
    table = pa.table(
        {
            "id": ids, "entity_id": ids, "entity_type": ["cryptopair"] * 2 + ["cryptoperp"] * 2,
            "exchange": ["binance"] * 4, "code": ["btcusdt"] * 3 + [None],
        }
    )  # fmt: skip
    report = import_files(other, [put(tmp_path, "provider=binance/table=cryptopair/data.parquet", table)])
    [error] = report.errors
    assert "id does not fit entity_type, exchange and code (3 rows)" in error.message
    assert [row["entity_id"] for row in rows(other, "CryptoPair")] == ids[:1]


def test_a_damaged_database_does_not_stop_other_tables(other, good):
    spec = load_tables()["cryptopair_1h_kdata"]
    path = put(good, FOLDER.replace("1m", "1h") + "/data.csv", HEAD + LINE)
    put(other.data_path, other.path("binance", spec).relative_to(other.data_path), "no database" * 999)
    report = import_files(other, [path, good])
    assert [type(error) for error in report.errors] == [StoreCorrupt]
    assert (report.rows, report.exit_code) == (10, 3)


FUZZ = """
import random, sys
from pathlib import Path
from zvt_crypto.core.config import Settings
from zvt_crypto.store.engine import Store
from zvt_crypto.transfer.importing import import_files
folder = Path(sys.argv[1])
for path in sorted(folder.rglob("data.*")):
    whole, chance = path.read_bytes(), random.Random(path.name)
    for _ in range(25):
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 5)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        import_files(Store(Settings(data_path=sys.argv[2])), [path])
    path.write_bytes(whole)
print("survived")
"""


def test_damage_anywhere_is_an_error_and_no_crash(store, write, tmp_path):
    write("CryptoPair1mKdata", "btcusdt", range(40), answered=[(0, 50)], name="BTC/USDT")
    for form in ("parquet", "feather", "arrow", "csv"):
        export(store, [Selection("binance", MINUTES)], Destination(tmp_path / "in", form=form))
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, tmp_path / "in", tmp_path / "into"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "survived\n", done.stderr[-2000:]
