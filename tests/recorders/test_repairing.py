"""Repairs against the sandbox: healed, proven, rebuilt of trades, and killed half-way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pytest
from conftest_recorders import DAY, NOW, Recorder, expected, same

from zvt_crypto.core.levels import HOUR_MS, MINUTE_MS, parse_time
from zvt_crypto.domain import load_tables
from zvt_crypto.quality.holes import find_holes
from zvt_crypto.quality.series import recorded_series
from zvt_crypto.recorders.repairing import repair
from zvt_crypto.sandbox import ReplayMarket, Sandbox
from zvt_crypto.store import coverage, proofs

tables = load_tables()
KDATA = "CryptoPair1mKdata"
SPEC = tables.find(KDATA)
BTC = "cryptopair_binance_btcusdt"
START = NOW - NOW % DAY - DAY


def series_of(recorder, spec=SPEC, provider="binance"):
    return recorded_series(recorder.store, provider, spec)


def kinds(recorder, number=0, **chosen):
    return find_holes(recorder.store, series_of(recorder, **chosen)[number]).by_kind()


def remove(recorder, *times):
    with recorder.store.connect("binance", SPEC) as connection:
        connection.run(f"DELETE FROM {SPEC.name} WHERE timestamp IN ({', '.join(map(str, times))})")


def requests(box, word="klines"):
    return sum(word in request.path for request in box.requests)


def test_removed_rows_and_rows_that_a_page_lacked_come_back_in_few_requests(recorder, box, market):
    box.faults = ["missing:3,path=klines"]
    recorder.record(KDATA, start=START, end=START + DAY)
    box.faults = []
    missing = kinds(recorder)["absent"]["missing"]
    assert missing > 0
    remove(recorder, START + 7 * MINUTE_MS, START + 9 * MINUTE_MS, START + 1400 * MINUTE_MS)
    box.forget_requests()
    [done] = repair(recorder.settings, series_of(recorder))
    assert (done.healed, done.proved, done.remaining, done.errors) == (missing + 3, 0, 0, [])
    asked = [request for request in box.requests if request.query.get("interval") == "1m"]
    assert len(asked) == 2, "a day of candles is two pages"
    assert same(recorder.rows(KDATA, BTC), expected(market, "BTC/USDT", "1m", START, START + DAY))
    box.forget_requests()
    [again] = repair(recorder.settings, series_of(recorder))
    assert (again.healed, again.asked, requests(box)) == (0, [], 0)


def test_what_stays_empty_is_proven_once_and_asked_for_again_only_on_demand(tmp_path):
    lacking, whole = replayed(tmp_path, "lacking", (10, 11, 300)), replayed(tmp_path, "whole")
    with Sandbox(lacking) as box, Sandbox(whole) as healthy:
        recorder = Recorder(box.url, tmp_path)
        recorder.record(KDATA, start=START, end=START + 600 * MINUTE_MS)
        assert kinds(recorder) == {"absent": {"holes": 2, "missing": 3}}
        [first] = repair(recorder.settings, series_of(recorder))
        assert (first.proved, first.healed, first.remaining, first.errors) == (2, 0, 0, [])
        [series] = series_of(recorder)
        assert find_holes(recorder.store, series).is_proven.all()
        with recorder.store.connect("binance", SPEC) as connection:
            [proof, _] = proofs.read(connection, series.key)
        assert (proof.kind, proof.start) == ("absent", START + 10 * MINUTE_MS)
        assert {"answered": True, "source": "rest"} in proof.evidence
        assert "asked_again" in proof.evidence[-1]
        box.forget_requests()
        [second] = repair(recorder.settings, [series])
        assert (second.asked, second.proved, requests(box)) == ([], 0, 0)
        [third] = repair(Recorder(healthy.url, tmp_path).settings, [series], again=True)
        assert (third.healed, third.after.by_kind()) == (3, {})


def test_a_range_keeps_the_rest_as_it_is(recorder, box):
    recorder.record(KDATA, start=START, end=START + DAY)
    early, late = START + 5 * MINUTE_MS, START + 900 * MINUTE_MS
    remove(recorder, early, late)
    [done] = repair(recorder.settings, series_of(recorder), start=START + 600 * MINUTE_MS)
    assert (done.healed, done.remaining) == (1, 0)
    assert kinds(recorder) == {"unrecorded": {"holes": 1, "missing": 1}}


def test_a_row_removed_here_and_gone_at_the_exchange_is_proven_absent(recorder, box):
    recorder.record(KDATA, start=START, end=START + 60 * MINUTE_MS)
    remove(recorder, START + 20 * MINUTE_MS)
    box.faults = ["empty_rows,path=klines"]
    [done] = repair(recorder.settings, series_of(recorder))
    assert (done.healed, done.proved, done.remaining, done.errors) == (0, 1, 0, [])
    assert kinds(recorder) == {"absent": {"holes": 1, "missing": 1}}


def test_an_exchange_that_fails_proves_nothing(recorder, box):
    recorder.record(KDATA, start=START, end=START + 300 * MINUTE_MS)
    remove(recorder, START + 20 * MINUTE_MS)
    before = kinds(recorder)
    box.faults = ["status:503,path=klines"]
    [done] = repair(recorder.settings, series_of(recorder))
    assert (done.proved, done.healed, done.remaining) == (0, 0, 1)
    assert done.errors[0].code == "CRYPTO_PROVIDER_UNAVAILABLE"
    assert kinds(recorder) == before


def test_candles_that_an_exchange_lost_are_made_of_its_trades(recorder, market, tmp_path):
    start, end = START, START + 20 * MINUTE_MS
    wanted = expected(market, "BTC/USDT", "1m", start, end)
    path = tmp_path / "lacking.feather"
    pyarrow.feather.write_feather(wanted.take(np.setdiff1d(np.arange(20), [3, 4, 9, 15])), path)
    recorder.record("CryptoTrade", start=start, end=end)
    with Sandbox(ReplayMarket({"BTC/USDT": path}, "1m", NOW)) as box:
        recorder = Recorder(box.url, tmp_path)
        recorder.record(KDATA, start=start, end=end)
        assert kinds(recorder) == {"contradicted": {"holes": 3, "missing": 4}}
        [untouched] = repair(recorder.settings, series_of(recorder), from_trades=False)
        assert (untouched.rebuilt, untouched.healed, untouched.remaining) == (0, 0, 4)
        [done] = repair(recorder.settings, series_of(recorder))
    assert (done.rebuilt, done.healed, done.remaining, done.errors) == (4, 4, 0, [])
    found = recorder.rows(KDATA, BTC)
    for name in ("ts", "open", "high", "low", "close", "volume"):
        assert found[name].to_pylist() == wanted[name].to_pylist(), name
    assert np.allclose(found["turnover"], wanted["turnover"], rtol=1e-9)
    assert found["trade_count"].null_count == 4
    [series] = series_of(recorder)
    with recorder.store.connect("binance", SPEC) as connection:
        assert coverage.TRADES in coverage.answered_by(connection, series.key)
        assert {proof.kind for proof in proofs.read(connection, series.key)} == {proofs.REBUILT}


def test_a_delisted_market_has_nothing_left_to_ask_for(box, tmp_path):
    box.faults = []
    with Sandbox(type(box.market)(3, parse_time("2025-06-01T00:00:30Z"))) as late:
        recorder = Recorder(late.url, tmp_path)
        delisted = parse_time("2025-05-20T03:00:00Z")
        recorder.record("CryptoPair1hKdata", codes=("eosusdt",), start=delisted - 2 * DAY)
        spec = tables.find("CryptoPair1hKdata")
        [series] = series_of(recorder, spec)
        holes = find_holes(recorder.store, series, delisted - DAY, delisted + DAY)
        assert [kind for kind in holes.by_kind() if kind not in ("after_delisting", "absent")] == []
        late.forget_requests()
        [done] = repair(recorder.settings, [series], start=delisted - DAY, end=delisted + DAY)
        assert done.remaining == 0
        assert all("unrecorded" not in holes for holes in (done.after.by_kind(), done.before.by_kind()))


def replayed(folder, name, without=()):
    """A market of two hours of two pairs, some minutes of both left out."""
    ts = START + np.setdiff1d(np.arange(600), list(without)) * MINUTE_MS
    prices = {column: np.full(len(ts), 100.0) for column in ("open", "high", "low", "close", "volume")}
    path = folder / f"{name}.feather"
    pyarrow.feather.write_feather(pa.table({"ts": ts, **prices}), path)
    return ReplayMarket({"BTC/USDT": path, "ETH/USDT": path}, "1m", NOW)


def test_an_outage_of_one_venue_and_not_of_another(tmp_path):
    stopped, whole = replayed(tmp_path, "stopped", range(100, 130)), replayed(tmp_path, "whole")
    with Sandbox(stopped) as here, Sandbox(whole) as there:
        for box, provider in ((here, "binance"), (there, "okx")):
            recorder = Recorder(box.url, tmp_path)
            recorder.record(
                KDATA,
                provider=provider,
                codes=("btcusdt", "ethusdt"),
                start=START,
                end=START + 600 * MINUTE_MS,
            )
        recorder = Recorder(here.url, tmp_path)
        assert kinds(recorder) == {"outage": {"holes": 1, "missing": 30}}
        done = repair(recorder.settings, series_of(recorder))
    assert [(one.proved, one.healed, one.remaining) for one in done] == [(1, 0, 0), (1, 0, 0)]
    [series, _] = series_of(recorder)
    with recorder.store.connect("binance", SPEC) as connection:
        [proof] = proofs.read(connection, series.key)
    assert (proof.kind, proof.stop - proof.start) == ("outage", 30 * MINUTE_MS)
    assert {"second_venue": "okx", "candles": 30} in proof.evidence


def test_missing_funding_events_come_back(recorder, box):
    box.faults = ["missing:2,path=fundingRate"]
    recorder.record("CryptoFunding", codes=("btcusdt-perp",), start=START - 20 * DAY, end=START)
    funding = tables["cryptofunding"]
    lost = kinds(recorder, spec=funding)
    assert sum(kind["missing"] for kind in lost.values()) > 0
    box.faults = []
    [done] = repair(recorder.settings, series_of(recorder, funding))
    assert (done.healed, done.remaining, done.errors) == (lost["absent"]["missing"], 0, [])
    assert kinds(recorder, spec=funding) == {}


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from conftest_recorders import Recorder
from test_repairing import series_of
from zvt_crypto.recorders.repairing import repair
recorder = Recorder(sys.argv[1], Path(sys.argv[2]))
sys.stdout.write("begun\\n"); sys.stdout.flush()
repair(recorder.settings, series_of(recorder))
"""


def test_sigkill_in_a_repair_and_then_again(recorder, box, market, tmp_path):
    days = 12
    first = START - days * DAY
    recorder.record(KDATA, start=first, end=START)
    remove(recorder, *(first + n * 700 * MINUTE_MS for n in range(days * 2)))
    box.faults = ["slow:0.15,path=klines"]
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", SCRIPT, box.url, str(tmp_path), here]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(Path.cwd())}
    )
    assert process.stdout.readline() == b"begun\n"
    box.forget_requests()
    give_up = time.monotonic() + 30
    while requests(box) < 3:
        assert time.monotonic() < give_up
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    box.faults = []
    [done] = repair(recorder.settings, series_of(recorder))
    assert (done.remaining, done.errors, done.after.by_kind()) == (0, [], {})
    assert same(recorder.rows(KDATA, BTC), expected(market, "BTC/USDT", "1m", first, START))


def test_a_thin_market_is_proven_by_its_trades_without_a_request(tmp_path):
    ts = START + np.arange(0, 600, 3) * MINUTE_MS
    prices = {column: np.full(len(ts), 100.0) for column in ("open", "high", "low", "close", "volume")}
    candles, trades = tmp_path / "thin.feather", tmp_path / "trades.feather"
    pyarrow.feather.write_feather(pa.table({"ts": ts, **prices}), candles)
    made = {
        "timestamp": ts + 5,
        "trade_id": np.arange(len(ts)),
        "price": prices["open"],
        "quantity": prices["open"],
    }
    pyarrow.feather.write_feather(pa.table({**made, "side": ["buy"] * len(ts)}), trades)
    market = ReplayMarket({"BTC/USDT": candles}, "1m", NOW, trades={"BTC/USDT": trades})
    with Sandbox(market) as box:
        recorder = Recorder(box.url, tmp_path)
        for name in (KDATA, "CryptoTrade"):
            recorder.record(name, start=START, end=START + 10 * HOUR_MS)
        assert set(kinds(recorder)) == {"no_trade"}
        box.forget_requests()
        [done] = repair(recorder.settings, series_of(recorder))
        assert (done.asked, done.proved, done.remaining) == ([], 200, 0)
        assert requests(box) == 0


@pytest.mark.parametrize("width", [1, 5, 1000])
def test_holes_share_requests_up_to_a_page(width):
    from zvt_crypto.recorders.repairing import _clustered

    spans = [(0, 2), (4, 5), (9, 30), (31, 32)]
    clusters = _clustered(spans, width)
    assert all(any(a <= start and end <= b for a, b in clusters) for start, end in spans)
    assert all(b - a <= max(width, 21) for a, b in clusters)
    assert len(clusters) == {1: 4, 5: 3, 1000: 1}[width]
