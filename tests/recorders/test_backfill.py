"""Candles from a socket to the table: complete, once, in the right ranges."""

import pyarrow as pa
import pytest
from conftest_recorders import DAY, NOW, Recorder, expected, same

from zvt_crypto.core.errors import DataQualityFailure, PairNotFound, ProviderUnavailable
from zvt_crypto.core.levels import parse_time
from zvt_crypto.sandbox import ReplayMarket, Sandbox

START = NOW - 2 * DAY
END_1M = NOW - NOW % 60_000
BTC = "cryptopair_binance_btcusdt"

PLACES = [
    ("binance", "BTC/USDT", "btcusdt", "CryptoPair", "cryptopair_binance_btcusdt"),
    ("binance", "BTC/USDT:USDT", "btcusdt-perp", "CryptoPerp", "cryptoperp_binance_btcusdt"),
    ("okx", "BTC/USDT", "BTC-USDT", "CryptoPair", "cryptopair_okx_btcusdt"),
    ("okx", "BTC/USDT:USDT", "BTC-USDT-SWAP", "CryptoPerp", "cryptoperp_okx_btcusdt"),
]


def klines(box):
    return [request for request in box.requests if "kline" in request.path or "candles" in request.path]


@pytest.mark.parametrize("level", ["1m", "1h", "1d"])
@pytest.mark.parametrize(("provider", "symbol", "code", "prefix", "entity_id"), PLACES)
def test_the_table_equals_the_market(recorder, market, provider, symbol, code, prefix, entity_id, level):
    start = START if level == "1m" else START - 60 * DAY
    name = f"{prefix}{level}Kdata"
    report = recorder.record(name, provider=provider, codes=(code,), start=start)
    assert report.exit_code == 0, [o.errors for o in report.failed]
    step = {"1m": 60_000, "1h": 3_600_000, "1d": DAY}[level]
    wanted = expected(market, symbol, level, start + -start % step, NOW - NOW % step)
    found = recorder.rows(name, entity_id, provider)
    assert found["ts"].to_pylist() == wanted["ts"].to_pylist()
    for column in ("open", "high", "low", "close", "volume", "turnover"):
        assert found[column].to_pylist() == pytest.approx(wanted[column].to_pylist(), rel=1e-12), column
    if provider == "binance":
        assert same(found, wanted)
    else:
        assert found["trade_count"].null_count == found.num_rows


def test_a_second_run_asks_for_nothing_and_a_longer_one_for_the_rest(recorder, box, market):
    recorder.record("CryptoPair1mKdata", start=START)
    box.forget_requests()
    again = recorder.record("CryptoPair1mKdata", start=START)
    assert again.rows == again.requests == 0 and klines(box) == []
    longer = recorder.record("CryptoPair1mKdata", start=START - DAY)
    assert longer.rows == 1440
    found = recorder.rows("CryptoPair1mKdata", BTC)
    assert same(found, expected(market, "BTC/USDT", "1m", START - DAY - START % 60_000 + 60_000, END_1M))


def test_force_fetches_again(recorder, box):
    recorder.record("CryptoPair1hKdata", start=START)
    box.forget_requests()
    assert recorder.record("CryptoPair1hKdata", start=START, force=True).rows == 47
    assert klines(box)


def test_rows_removed_through_zvts_view_are_fetched_again(recorder):
    recorder.record("CryptoPair1hKdata", start=START)
    before = recorder.rows("CryptoPair1hKdata", BTC)
    from zvt_crypto.core.tables import tables

    with recorder.store.connect("binance", tables["cryptopair_1h_kdata"]) as connection:
        first = before["ts"][5].as_py()
        connection.run(f"DELETE FROM cryptopair_1h_kdata WHERE timestamp = {first}")
    assert recorder.rows("CryptoPair1hKdata", BTC).num_rows == before.num_rows - 1
    assert recorder.record("CryptoPair1hKdata", start=START).rows == 1
    assert recorder.rows("CryptoPair1hKdata", BTC).equals(before)
    assert recorder.record("CryptoPair1hKdata", start=START).requests == 0


def test_without_a_start_the_listing_is_found_once_and_kept(recorder, box, market):
    report = recorder.record("CryptoPair1dKdata", codes=("solusdt",))
    assert report.exit_code == 0
    found = recorder.rows("CryptoPair1dKdata", "cryptopair_binance_solusdt")
    wanted = expected(market, "SOL/USDT", "1d", 0, NOW - NOW % DAY)
    assert found["ts"].to_pylist() == wanted["ts"].to_pylist()
    from zvt_crypto.recorders.entities import entity_spec, select_entities

    rows, _ = select_entities(recorder.store, "binance", entity_spec("cryptopair"), codes=["solusdt"])
    assert rows[0]["list_date"] is not None
    box.forget_requests()
    recorder.record("CryptoPair1dKdata", codes=("solusdt",))
    assert klines(box) == []


def test_an_unfinished_candle_is_not_stored(recorder):
    recorder.record("CryptoPair1hKdata", start=START)
    last = recorder.rows("CryptoPair1hKdata", BTC)["ts"][-1].as_py()
    assert last == NOW - NOW % 3_600_000 - 3_600_000


def test_unknown_pairs_are_named_and_the_rest_goes_on(recorder):
    report = recorder.record("CryptoPair1hKdata", codes=("btcusdt", "btcusdd", "ethusdt"), start=START)
    assert report.exit_code == 3 and report.rows == 94
    (failed,) = report.failed
    assert isinstance(failed.errors[0], PairNotFound) and "btcusdt" in failed.errors[0].one_line()
    assert recorder.record("CryptoPair1hKdata", codes=("nonsense",), start=START).exit_code == 2


def test_missing_candles_are_not_invented_nor_asked_for_again(market, tmp_path):
    full = expected(market, "BTC/USDT", "1m", NOW - 2 * DAY - NOW % 60_000, END_1M)
    holes = {0, 1, 700, 701, 702, 999, 1000, 1001, 2000, full.num_rows - 1}
    kept = full.filter(pa.array([i not in holes for i in range(full.num_rows)]))
    path = tmp_path / "holes.csv"
    kept.select(["ts", "open", "high", "low", "close", "volume"]).to_pandas().to_csv(path, index=False)
    with Sandbox(ReplayMarket({"BTC/USDT": path}, now=NOW)) as box:
        recorder = Recorder(box.url, tmp_path)
        assert recorder.record("CryptoPair1mKdata", start=START).exit_code == 0
        found = recorder.rows("CryptoPair1mKdata", BTC)
        assert found["ts"].to_pylist() == kept["ts"].to_pylist()
        assert found["close"].to_pylist() == kept["close"].to_pylist()
        assert recorder.record("CryptoPair1mKdata", start=START).requests == 0


HEALING = [
    "status:429,path=klines,times=3,retry_after=0.05",
    "status:418,path=klines,times=1,retry_after=0.05",
    "status:503,path=klines,times=3",
    "status:500,path=klines,times=3",
    "html:502,path=klines,times=2",
    "html:200,path=klines,times=2",
    "cut,path=klines,times=2",
    "cut:close,path=klines,times=2",
    "empty,path=klines,times=2",
    "disconnect,path=klines,times=2",
    "timeout,path=klines,times=1",
    "maintenance,path=klines,times=1",
    "duplicate,path=klines",
    "reorder,path=klines",
    "nan,path=klines,times=1",
    "negative,path=klines,times=1",
    "high_below_low,path=klines,times=1",
    "empty_rows,path=klines,times=1",
    "status:503,path=exchangeInfo,times=1",
]


@pytest.mark.parametrize("fault", HEALING)
def test_a_passing_fault_costs_nothing(recorder, box, market, fault):
    box.faults = [fault]
    report = recorder.record("CryptoPair1mKdata", start=START)
    assert report.exit_code == 0, [o.errors for o in report.failed]
    found = recorder.rows("CryptoPair1mKdata", BTC)
    assert same(found, expected(market, "BTC/USDT", "1m", START + -START % 60_000, END_1M))


LASTING = [
    ("status:503,path=klines", ProviderUnavailable, 1),
    ("html:502,path=klines", ProviderUnavailable, 1),
    ("disconnect,path=klines", ProviderUnavailable, 1),
    ("repeat,path=klines", DataQualityFailure, 3),
]


@pytest.mark.parametrize(("fault", "error", "exit_code"), LASTING, ids=[f for f, _, _ in LASTING])
def test_a_lasting_fault_is_named_and_the_next_run_completes(recorder, box, market, fault, error, exit_code):
    box.faults = [fault]
    report = recorder.record("CryptoPair1mKdata", start=START)
    assert isinstance(report.failed[0].errors[0], error)
    assert report.exit_code in (1, exit_code)
    box.faults = []
    assert recorder.record("CryptoPair1mKdata", start=START).exit_code == 0
    found = recorder.rows("CryptoPair1mKdata", BTC)
    assert same(found, expected(market, "BTC/USDT", "1m", START + -START % 60_000, END_1M))


@pytest.mark.parametrize(
    "fault", ["nan,path=klines,after=1", "negative,path=klines", "high_below_low,path=klines"]
)
def test_rows_that_stay_wrong_are_left_out_and_the_good_ones_kept(recorder, box, market, fault):
    box.faults = [fault]
    report = recorder.record("CryptoPair1mKdata", start=START)
    assert report.exit_code == 3
    assert isinstance(report.failed[0].errors[0], DataQualityFailure)
    full = expected(market, "BTC/USDT", "1m", START + -START % 60_000, END_1M)
    stored = recorder.rows("CryptoPair1mKdata", BTC)
    assert 0.99 * full.num_rows < stored.num_rows < full.num_rows
    box.faults = []
    assert recorder.record("CryptoPair1mKdata", start=START).rows > 0
    found = recorder.rows("CryptoPair1mKdata", BTC)
    assert same(found, full)


def test_one_symbol_failing_leaves_the_others_complete(recorder, box):
    box.faults = ["status:503,path=klines,symbol=ETHUSDT"]
    report = recorder.record("CryptoPair1hKdata", codes=("btcusdt", "ethusdt", "solusdt"), start=START)
    assert report.exit_code == 3 and report.rows == 94
    assert [o.entity_id for o in report.failed] == ["cryptopair_binance_ethusdt"]


def test_an_exchange_that_is_gone_is_not_asked_for_every_symbol(recorder, box):
    recorder.record("CryptoPair")
    box.faults = ["status:503,path=klines"]
    report = recorder.record("CryptoPair1hKdata", codes=None, start=START)
    assert report.exit_code == 1 and len(report.failed) == len(report.outcomes) > 8
    assert len(klines(box)) <= 8 * 4 + 3 * 4 + 8


def test_two_recorders_at_once(recorder, market):
    import threading

    reports = []
    threads = [
        threading.Thread(target=lambda: reports.append(recorder.record("CryptoPair1mKdata", start=START)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.exit_code for report in reports] == [0, 0]
    found = recorder.rows("CryptoPair1mKdata", BTC)
    assert same(found, expected(market, "BTC/USDT", "1m", START + -START % 60_000, END_1M))


def test_instruments(recorder):
    report = recorder.record("CryptoPair", "CryptoPerp", "CryptoAsset", codes=None)
    assert report.exit_code == 0
    from zvt_crypto.core.tables import tables
    from zvt_crypto.store.reader import Query, read

    pairs = read(recorder.store, Query(tables["cryptopair"], "binance")).to_pylist()
    btc = next(row for row in pairs if row["code"] == "btcusdt")
    assert (btc["symbol"], btc["native_id"], btc["base_symbol"], btc["is_active"]) == (
        "BTC/USDT",
        "BTCUSDT",
        "btc",
        True,
    )
    assert btc["price_step"] > 0 and btc["qty_step"] > 0 and btc["min_notional"] > 0
    assert any(row["is_active"] is False for row in pairs)
    perps = read(recorder.store, Query(tables["cryptoperp"], "binance")).to_pylist()
    assert {row["settlement_symbol"] for row in perps} == {"usdt"}
    assert {row["funding_interval_hours"] for row in perps} == {1.0, 4.0, 8.0}
    assets = read(recorder.store, Query(tables["cryptoasset"], "binance")).to_pylist()
    assert {"btc", "usdt"} <= {row["code"] for row in assets}


def test_times_are_utc_whatever_the_machine_thinks(recorder, monkeypatch):
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        recorder.record("CryptoPair1dKdata", start=parse_time("2024-06-01"))
        assert recorder.rows("CryptoPair1dKdata", BTC)["ts"][0].as_py() == parse_time("2024-06-01")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_schema_is_that_of_the_table(recorder):
    recorder.record("CryptoPair1hKdata", start=START)
    assert recorder.rows("CryptoPair1hKdata", BTC).schema.types[0] == pa.int64()
