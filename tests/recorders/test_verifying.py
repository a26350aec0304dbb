"""Recorded rows against the sandbox: unchanged, changed since, vanished, lacking, and put right."""

from __future__ import annotations

import numpy as np
import pyarrow.feather
import pytest
from conftest_recorders import DAY, NOW, Recorder, expected, same

from zvt_crypto.core.levels import MINUTE_MS
from zvt_crypto.domain import load_tables
from zvt_crypto.quality.series import recorded_series
from zvt_crypto.recorders.verifying import Sample, verify
from zvt_crypto.sandbox import ReplayMarket, Sandbox, SimulatedMarket
from zvt_crypto.store import proofs

tables = load_tables()
KDATA = "CryptoPair1mKdata"
SPEC = tables.find(KDATA)
BTC = "cryptopair_binance_btcusdt"
START = NOW - NOW % DAY - 6 * DAY
ALL = Sample(share=1.0)


def series_of(recorder, spec=SPEC):
    return recorded_series(recorder.store, "binance", spec)


def change(recorder, minute, **values):
    """Change a row as if the exchange had answered something else when it was recorded."""
    sets = ", ".join(f"{name} = {value!r}" for name, value in values.items())
    with recorder.store.connect("binance", SPEC) as connection:
        connection.run(f"UPDATE {SPEC.name} SET {sets} WHERE timestamp = {START + minute * MINUTE_MS}")


def test_unchanged_rows_of_a_sample_and_of_the_newest_day(recorder, box):
    recorder.record(KDATA, start=START)
    box.forget_requests()
    [found] = verify(recorder.settings, series_of(recorder), sample=Sample(windows=3))
    assert (found.result.differing, found.errors, found.fixed) == (0, [], 0)
    assert found.of == 10
    assert 3 <= len(found.windows) <= 5
    assert found.windows[-1][1] == NOW - NOW % MINUTE_MS
    assert found.result.compared == sum(end - start for start, end in found.windows) // MINUTE_MS
    assert found.requests == sum("klines" in request.path for request in box.requests)


def test_what_a_venue_serves_no_more_has_not_vanished(recorder, tmp_path):
    """Kraken has the newest 720 candles."""
    recorder.record(KDATA, provider="kraken", start=NOW - 600 * MINUTE_MS)
    series = recorded_series(recorder.store, "kraken", SPEC)
    with Sandbox(SimulatedMarket(seed=3, now=NOW + 480 * MINUTE_MS)) as later:
        [found] = verify(Recorder(later.url, tmp_path).settings, series, sample=ALL)
    assert (found.result.compared, found.result.differing, found.errors) == (240, 0, [])


def test_the_seed_decides_which_windows():
    windows = [(n, n + 1) for n in range(100)]
    assert Sample(seed=1).draw(windows) == Sample(seed=1).draw(windows) != Sample(seed=2).draw(windows)
    assert Sample(share=1.0).draw(windows) == windows
    assert len(Sample(share=0.011).draw(windows)) == 2
    assert Sample().draw([]) == []


def test_changed_vanished_and_lacking_rows_are_told_and_nothing_is_written(recorder, box, market):
    recorder.record(KDATA, start=START, end=START + 2 * DAY)
    change(recorder, 10, close=1.0)
    change(recorder, 1500, volume=0.5, turnover=7.0)
    with recorder.store.connect("binance", SPEC) as connection:
        connection.run(f"DELETE FROM {SPEC.name} WHERE timestamp = {START + 99 * MINUTE_MS}")
    before = recorder.rows(KDATA, BTC)
    [found] = verify(recorder.settings, series_of(recorder), sample=ALL)
    result = found.result
    assert (result.compared, result.changed, result.vanished, result.lacking) == (2879, 2, 0, 1)
    assert {name: column.rows for name, column in result.columns.items()} == {
        "close": 1,
        "volume": 1,
        "turnover": 1,
    }
    assert result.examples[0]["recorded"] == 1.0
    assert (
        result.examples[0]["other"]
        == expected(market, "BTC/USDT", "1m", START, START + DAY)["close"][10].as_py()
    )
    assert same(recorder.rows(KDATA, BTC), before)


def test_fix_writes_what_the_exchange_has_and_notes_it(recorder, box, market):
    recorder.record(KDATA, start=START, end=START + DAY)
    change(recorder, 10, close=1.0)
    [found] = verify(recorder.settings, series_of(recorder), sample=ALL, fix=True)
    assert (found.fixed, found.result.changed) == (1, 1)
    assert same(recorder.rows(KDATA, BTC), expected(market, "BTC/USDT", "1m", START, START + DAY))
    [series] = series_of(recorder)
    with recorder.store.connect("binance", SPEC) as connection:
        [proof] = proofs.read(connection, series.key)
    assert (proof.kind, proof.evidence) == (proofs.CORRECTED, ({"changed": {"close": 1}, "lacking": 0},))
    [again] = verify(recorder.settings, [series], sample=ALL)
    assert again.result.differing == 0


def test_rows_that_the_exchange_has_no_more_stay(recorder, market, tmp_path):
    recorder.record(KDATA, start=START, end=START + 300 * MINUTE_MS)
    wanted = expected(market, "BTC/USDT", "1m", START, START + 300 * MINUTE_MS)
    path = tmp_path / "lacking.feather"
    pyarrow.feather.write_feather(wanted.take(np.setdiff1d(np.arange(300), [7, 250])), path)
    with Sandbox(ReplayMarket({"BTC/USDT": path}, "1m", NOW)) as later:
        recorder = Recorder(later.url, tmp_path)
        [found] = verify(recorder.settings, series_of(recorder), sample=ALL, fix=True)
    assert (found.result.vanished, found.result.changed, found.fixed) == (2, 0, 0)
    assert [one["time"][11:16] for one in found.result.examples] == ["00:07", "04:10"]
    assert recorder.rows(KDATA, BTC).num_rows == 300


def test_only_a_range(recorder, box):
    recorder.record(KDATA, start=START, end=START + 2 * DAY)
    change(recorder, 10, close=1.0)
    [found] = verify(recorder.settings, series_of(recorder), sample=ALL, start=START + DAY)
    assert (found.result.compared, found.result.changed) == (1440, 0)
    [found] = verify(recorder.settings, series_of(recorder), sample=ALL, end=START + DAY)
    assert (found.result.compared, found.result.changed) == (1440, 1)


@pytest.mark.parametrize(
    ("name", "code", "column"),
    [("CryptoTrade", "btcusdt", "price"), ("CryptoFunding", "btcusdt-perp", "funding_rate")],
)
def test_trades_and_funding_events(recorder, box, name, code, column):
    spec = tables.find(name)
    start = NOW - 30 * MINUTE_MS if name == "CryptoTrade" else NOW - 30 * DAY
    recorder.record(name, codes=(code,), start=start)
    [series] = series_of(recorder, spec)
    [found] = verify(recorder.settings, [series], sample=ALL)
    assert found.result.compared > 0
    assert (found.result.differing, found.errors) == (0, [])
    with recorder.store.connect("binance", spec) as connection:
        connection.run(f"UPDATE {spec.name} SET {column} = 0.5 WHERE timestamp = (SELECT max(ts) FROM rows)")
    [found] = verify(recorder.settings, [series], sample=ALL, fix=True)
    assert list(found.result.columns) == [column]
    assert found.fixed == found.result.changed >= 1
    assert verify(recorder.settings, [series], sample=ALL)[0].result.differing == 0


def test_an_exchange_that_fails_is_told(recorder, box):
    recorder.record(KDATA, start=START, end=START + DAY)
    box.faults = ["status:503,path=klines"]
    [found] = verify(recorder.settings, series_of(recorder))
    assert found.errors[0].code == "CRYPTO_PROVIDER_UNAVAILABLE"
    assert found.result.compared == 0
