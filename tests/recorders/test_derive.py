"""Coarser candles made of recorded ones: equal to the exchange's own, resumable, and only where all is known."""

import pytest
from conftest_recorders import NOW, Recorder, expected, tables

from zvt_crypto.core.errors import DataQualityFailure
from zvt_crypto.core.levels import floor_ms
from zvt_crypto.domain import load_tables
from zvt_crypto.sandbox import ReplayMarket, Sandbox
from zvt_crypto.store import coverage

load_tables()
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
BTC = "cryptopair_binance_btcusdt"
START = floor_ms(NOW, DAY) - 3 * DAY


def sources(recorder, spec):
    with recorder.store.connect("binance", spec) as connection:
        rows = connection.query("SELECT start, stop, source FROM coverage ORDER BY start")
    return [tuple(row.values()) for row in rows.to_pylist()]


@pytest.mark.parametrize("provider", ["binance", "okx"])
def test_every_level_equals_the_exchanges_own(recorder, market, box, provider):
    levels = ("5m", "15m", "30m", "1h", "4h", "1d")
    report = recorder.record("CryptoPair1mKdata", provider=provider, start=START, derive=levels)
    assert report.exit_code == 0, [o.errors for o in report.failed]
    derived = {outcome.table: outcome for outcome in report.outcomes[1:]}
    for level in levels:
        spec = tables.candles("cryptopair", level)
        found = recorder.rows(spec.class_name, f"cryptopair_{provider}_btcusdt", provider)
        wanted = expected(market, "BTC/USDT", level, START, NOW - NOW % spec.step)
        assert found["ts"].to_pylist() == wanted["ts"].to_pylist()
        for column in ("open", "high", "low", "close", "volume", "turnover"):
            assert found[column].to_pylist() == pytest.approx(wanted[column].to_pylist(), rel=1e-12)
        assert derived[spec.name].rows == found.num_rows and 1 <= derived[spec.name].requests <= 3


def test_the_ledger_says_that_they_were_derived_and_a_second_run_makes_nothing(recorder, box):
    recorder.record("CryptoPair1mKdata", start=START, derive=("1h",))
    hours = tables["cryptopair_1h_kdata"]
    assert sources(recorder, hours) == [(START, floor_ms(NOW, HOUR), coverage.DERIVED)]
    box.forget_requests()
    again = recorder.record("CryptoPair1mKdata", start=START, derive=("1h",))
    assert again.rows == 0 and not [r for r in box.requests if r.query.get("interval") == "1h"]
    assert recorder.record("CryptoPair1hKdata", start=START).requests == 0, "nothing is left to fetch"


def test_bars_whose_time_is_not_all_known_are_not_made(recorder):
    recorder.record("CryptoPair1mKdata", start=START, end=START + 90 * MINUTE)
    recorder.record("CryptoPair1mKdata", start=START + 100 * MINUTE, end=START + 5 * HOUR, derive=("1h",))
    hours = recorder.rows("CryptoPair1hKdata", BTC)
    assert [(ts - START) // HOUR for ts in hours["ts"].to_pylist()] == [2, 3, 4]
    recorder.record("CryptoPair1mKdata", start=START, end=START + 5 * HOUR, derive=("1h",))
    assert recorder.rows("CryptoPair1hKdata", BTC).num_rows == 5


def test_candles_that_differ_from_the_exchanges_own_are_not_kept(recorder, box):
    box.faults = ["missing:30,path=klines,times=1"]
    recorder.record("CryptoPair1mKdata", start=START, end=START + DAY)
    minutes = tables["cryptopair_1m_kdata"]
    with recorder.store.connect("binance", minutes) as connection, connection.transaction():
        connection.run("UPDATE rows SET volume = volume * 2 WHERE ts % 7200000 = 0")
    report = recorder.record("CryptoPair1mKdata", start=START, end=START + DAY, derive=("1h",))
    (error,) = report.outcomes[-1].errors
    assert isinstance(error, DataQualityFailure) and "volume of 2024-06-07T00:00:00Z" in error.message
    assert recorder.rows("CryptoPair1hKdata", BTC).num_rows == 0 and report.exit_code == 3


@pytest.mark.real_data
def test_real_candles_with_holes(tmp_path, real_candles):
    """A month of a real perpetual with minutes missing, replayed: bars of what there is, as the exchange has them."""
    file = real_candles / "btc-perp-1m-2022-01.csv.gz"
    now = 1_643_673_600_000
    with Sandbox(ReplayMarket({"BTC/USDT": file}, now=now)) as box:
        recorder = Recorder(box.url, tmp_path)
        start = now - 20 * DAY
        report = recorder.record("CryptoPair1mKdata", start=start, end=now, derive=("1h", "1d"))
        assert report.exit_code == 0, [o.errors for o in report.failed]
        derived = recorder.rows("CryptoPair1hKdata", BTC)
        fetched = Recorder(box.url, tmp_path / "own")
        fetched.record("CryptoPair1hKdata", start=start, end=now)
        own = fetched.rows("CryptoPair1hKdata", BTC)
        assert derived["close"].to_pylist() == own["close"].to_pylist() and derived.num_rows > 470
        assert derived["volume"].to_pylist() == pytest.approx(own["volume"].to_pylist(), rel=1e-12)
