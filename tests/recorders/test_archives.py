"""Files of public archives to the table: chosen, verified, and done without where they are no good."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest_recorders import NOW, Recorder, expected, same

from zvt_crypto.core.levels import parse_time
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import funding, trades  # noqa: F401
from zvt_crypto.sandbox import Sandbox, SimulatedMarket
from zvt_crypto.sandbox.events import TradeSpan
from zvt_crypto.sandbox.market import Instrument

BTC = "cryptopair_binance_btcusdt"
START = parse_time("2024-03-20")
END_1M = NOW - NOW % 60_000
MONTHS = (parse_time("2024-04-01"), parse_time("2024-06-01"))
MINUTE, DAY = 60_000, 86_400_000
SELECTED = {"start": START, "codes": ("btcusdt",)}


@pytest.fixture
def recorder(box, tmp_path):
    return Recorder(box.url, tmp_path, archives=True)


def ledger(recorder, name="cryptopair_1m_kdata", provider="binance"):
    with recorder.store.connect(provider, tables[name]) as connection:
        rows = connection.query("SELECT source, start, stop FROM coverage ORDER BY start").to_pylist()
    return [(row["source"], row["start"], row["stop"]) for row in rows]


def of_archive(box):
    return [request.path for request in box.requests if request.host == "data.binance.vision"]


def klines(box):
    # The listing is found by a daily candle.
    return [r for r in box.requests if r.path == "/api/v3/klines" and r.query["interval"] != "1d"]


def is_complete(recorder, market, start=START):
    return same(recorder.rows("CryptoPair1mKdata", BTC), expected(market, "BTC/USDT", "1m", start, END_1M))


def test_whole_months_come_from_files_and_the_rest_from_requests(recorder, box, market):
    report = recorder.record("CryptoPair1mKdata", **SELECTED)
    assert report.exit_code == 0 and report.outcomes[0].notes == []
    assert is_complete(recorder, market)
    folder = "/data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024"
    files = [f"{folder}-{month}.zip{more}" for month in ("04", "05") for more in ("", ".CHECKSUM")]
    assert sorted(of_archive(box)) == files
    # 12 and 9.5 days of 1,440 candles in pages of 1,000.
    assert len(klines(box)) == 18 + 14
    assert ledger(recorder) == [("rest", START, MONTHS[0]), ("archive", *MONTHS), ("rest", MONTHS[1], END_1M)]
    box.forget_requests()
    assert recorder.record("CryptoPair1mKdata", **SELECTED).requests == 0
    assert box.requests == [] or not klines(box)


def test_months_in_microseconds_and_with_a_header(tmp_path):
    market = SimulatedMarket(seed=4, now=parse_time("2025-02-20"))
    with Sandbox(market) as box:
        recorder = Recorder(box.url, tmp_path, archives=True)
        span = {"start": parse_time("2024-12-01"), "end": parse_time("2025-02-01")}
        for code, symbol, entity_id in (
            ("btcusdt", "BTC/USDT", BTC),
            ("btcusdt-perp", "BTC/USDT:USDT", "cryptoperp_binance_btcusdt"),
        ):
            name = f"{'CryptoPair' if entity_id == BTC else 'CryptoPerp'}15mKdata"
            assert recorder.record(name, codes=(code,), **span).exit_code == 0
            wanted = expected(market, symbol, "15m", *span.values())
            assert same(recorder.rows(name, entity_id), wanted)
        assert len(of_archive(box)) == 8 and not klines(box)


def test_archives_can_be_switched_off(recorder, box):
    settings = recorder.settings.model_copy(update={"archives": False})
    assert recorder.record("CryptoPair1hKdata", settings=settings, start=parse_time("2023-01-01")).requests
    assert of_archive(box) == []


def test_a_file_that_saves_no_request_is_left_alone(recorder, box):
    # A month of hours is one page; two months of quarters are two files of three pages each.
    assert recorder.record("CryptoPair1hKdata", **SELECTED).exit_code == 0
    assert of_archive(box) == []
    assert recorder.record("CryptoPair15mKdata", **SELECTED).exit_code == 0
    assert len(of_archive(box)) == 4


APRIL = "path=1m-2024-04.zip"


@pytest.mark.parametrize(
    ("fault", "note"),
    [
        (f"status:404,{APRIL}", "the archive has no"),
        (f"status:403,{APRIL}", "HTTP 403"),
        (f"status:500,{APRIL}", "HTTP 500"),
        (f"cut:length,{APRIL}", "checksum"),
        (f"cut:close,{APRIL}", "cannot be fetched"),
        (f"empty,{APRIL}", "checksum"),
        (f"html:200,{APRIL}", "checksum"),
        (f"disconnect,{APRIL}", "cannot be fetched"),
        (f"timeout,{APRIL}", "no answer in time"),
        ("status:404,path=1m-2024-04.zip.CHECKSUM", "the archive has no"),
        ("empty_rows,path=1m-2024-04", "no rows"),
        ("missing,rows=44,path=1m-2024-04", "pieces"),
    ],
)
def test_requests_make_up_for_a_file_that_is_no_good(recorder, box, market, fault, note):
    settings = recorder.settings.model_copy(update={"max_attempts": 2, "timeout_seconds": 0.7})
    box.faults = [fault]
    report = recorder.record("CryptoPair1mKdata", settings=settings, **SELECTED)
    assert report.exit_code == 0, report.failed
    assert any(note in text for text in report.outcomes[0].notes), report.outcomes[0].notes
    assert is_complete(recorder, market)
    assert ("archive", *MONTHS) not in ledger(recorder)


def test_a_damaged_file_is_fetched_once_more(recorder, box, market):
    box.faults = [f"cut:length,{APRIL},times=1,after=1"]
    report = recorder.record("CryptoPair1mKdata", **SELECTED)
    assert report.exit_code == 0 and report.outcomes[0].notes == []
    assert ledger(recorder)[1] == ("archive", *MONTHS)
    assert sum("2024-04" in path for path in of_archive(box)) == 4
    assert report.requests == 32 + 4 + 2


def test_a_host_that_fails_is_not_asked_for_every_file(recorder, box, market):
    settings = recorder.settings.model_copy(update={"max_attempts": 2})
    box.faults = ["status:503,path=data.binance.vision"]
    report = recorder.record("CryptoPair1mKdata", settings=settings, start=parse_time("2023-10-01"))
    assert report.exit_code == 0 and len(report.outcomes[0].notes) == 8
    # Eight months; four are asked for at once, each twice.
    assert len(of_archive(box)) <= 8
    assert is_complete(recorder, market, parse_time("2023-10-01"))


def test_requests_fill_the_holes_of_a_file(recorder, box, market):
    box.faults = ["missing,rows=5,path=1m-2024-04"]
    report = recorder.record("CryptoPair1mKdata", **SELECTED)
    assert report.exit_code == 0, report.failed
    assert is_complete(recorder, market)
    in_april = [row for row in ledger(recorder) if MONTHS[0] <= row[1] < parse_time("2024-05-01")]
    holes = [stop - start for source, start, stop in in_april if source == "rest"]
    assert sum(holes) == 5 * MINUTE and 1 <= len(holes) <= 5
    assert len(klines(box)) == 32 + len(holes)


@pytest.mark.parametrize("fault", ["nan,rows=3", "negative,rows=3", "high_below_low,rows=3"])
def test_requests_replace_rows_of_a_file_that_cannot_be_true(recorder, box, market, fault):
    box.faults = [f"{fault},path=1m-2024-04"]
    report = recorder.record("CryptoPair1mKdata", **SELECTED)
    assert report.exit_code == 0, report.failed
    assert "were left out" in report.outcomes[0].notes[0]
    assert is_complete(recorder, market)


@pytest.mark.parametrize("fault", ["duplicate", "reorder"])
def test_order_and_repetition_in_a_file_do_not_matter(recorder, box, market, fault):
    box.faults = [f"{fault},path=data.binance.vision"]
    report = recorder.record("CryptoPair1mKdata", **SELECTED)
    assert report.exit_code == 0 and report.outcomes[0].notes == []
    assert is_complete(recorder, market)
    assert len(klines(box)) == 32


def small_market(now="2024-06-10T12:34:30Z"):
    """Markets with five trades a minute, or a few more: volumes of a few whole coins allow no more."""
    listed = parse_time("2024-05-01")
    common = {"price_digits": 2, "quantity_digits": 0, "listed": listed, "daily_turnover": 1.0}
    return SimulatedMarket(
        seed=6,
        now=parse_time(now),
        instruments=(
            Instrument("TRX", "USDT", **common),
            Instrument("TRX", "USDT", "USDT", **common),
            Instrument("TRX", "USD", "TRX", **common),
        ),
    )


@pytest.fixture(scope="module")
def quiet():
    market = small_market()
    with Sandbox(market) as box:
        yield market, box


def trade_rows(recorder, provider, entity_id):
    return recorder.rows("CryptoTrade", entity_id, provider).to_pylist()


DAYS = {"start": parse_time("2024-06-05T06:00Z"), "end": parse_time("2024-06-08T06:00Z")}


@pytest.mark.parametrize("code", ["trxusdt", "trxusdt-perp"])
def test_trades_by_file_are_those_by_request(quiet, tmp_path, code):
    market, box = quiet
    both = []
    for archives in (True, False):
        recorder = Recorder(box.url, tmp_path / str(archives), archives=archives)
        box.forget_requests()
        report = recorder.record("CryptoTrade", codes=(code,), **DAYS)
        assert report.exit_code == 0 and not report.outcomes[0].notes
        assert bool(of_archive(box)) == archives
        both.append(trade_rows(recorder, "binance", report.outcomes[0].entity_id))
        if archives:
            sources = [row[0] for row in ledger(recorder, "cryptotrade")]
            assert sources == ["rest", "archive", "rest"]
    assert both[0] == both[1] and len(both[0]) > 1000


def test_a_broken_day_of_trades_is_asked_for_page_by_page(quiet, tmp_path):
    market, box = quiet
    box.faults = ["cut:length,path=2024-06-06.zip", "nan,rows=4,path=2024-06-07"]
    recorder = Recorder(box.url, tmp_path, archives=True)
    report = recorder.record("CryptoTrade", codes=("trxusdt",), **DAYS)
    box.faults = []
    assert report.exit_code == 0 and len(report.outcomes[0].notes) == 2
    wanted = market.trades(TradeSpan("TRX/USDT", DAYS["start"], DAYS["end"]))
    found = trade_rows(recorder, "binance", "cryptopair_binance_trxusdt")
    assert [row["trade_id"] for row in found] == [str(number) for number in wanted.id]
    assert [row["price"] for row in found] == wanted.price.tolist()


@pytest.mark.parametrize("symbol", ["TRX/USDT:USDT", "TRX/USD:TRX"])
@pytest.mark.parametrize("fault", [None, "reorder", "duplicate"])
def test_days_of_trades_of_bybits_contracts(quiet, tmp_path, symbol, fault):
    market, box = quiet
    box.faults = [] if fault is None else [f"{fault},path=public.bybit.com"]
    recorder = Recorder(box.url, tmp_path, archives=True)
    span = {"start": parse_time("2024-06-05"), "end": parse_time("2024-06-07")}
    report = recorder.record("CryptoTrade", provider="bybit", codes=(symbol,), **span)
    box.faults = []
    assert report.exit_code == 0, report.failed
    entity_id = report.outcomes[0].entity_id
    wanted = market.trades(TradeSpan(symbol, *span.values()))
    found = sorted(trade_rows(recorder, "bybit", entity_id), key=lambda row: row["trade_id"])
    assert [row["ts"] for row in found] == wanted.ts.tolist()
    assert [row["trade_id"][-12:] for row in found] == [f"{number:012}" for number in wanted.id]
    assert [row["side"] for row in found] == ["buy" if is_buy else "sell" for is_buy in wanted.is_buy]
    assert [row["volume"] for row in found] == pytest.approx(wanted.volume.tolist(), rel=1e-6)
    # Bybit writes four decimal digits of a second.
    assert [row["nanosecond"] for row in found] == (wanted.nanosecond // 100_000 * 100_000).tolist()


def test_bybits_spot_files_are_not_used(quiet, tmp_path):
    _, box = quiet
    box.forget_requests()
    recorder = Recorder(box.url, tmp_path, archives=True)
    report = recorder.record("CryptoTrade", provider="bybit", codes=("trxusdt",), **DAYS)
    assert report.failed and not [r for r in box.requests if r.host == "public.bybit.com"]


def test_a_trade_that_bybit_answers_has_its_files_id(quiet, tmp_path):
    """The newest trades by request, and a day later by file: each is there once."""
    clock = [parse_time("2024-06-08T00:00:20Z")]
    market = small_market()
    market._now = lambda: clock[0]
    with Sandbox(market) as box:
        entity = "cryptoperp_bybit_trxusdt"
        recorder = Recorder(box.url, tmp_path, archives=True)
        chosen = {"provider": "bybit", "codes": None, "entity_ids": (entity,)}
        recorder.record("CryptoTrade", start=parse_time("2024-06-07T23:59Z"), **chosen)
        first = trade_rows(recorder, "bybit", entity)
        assert first
        clock[0] = parse_time("2024-06-10")
        span = {"start": parse_time("2024-06-07"), "end": parse_time("2024-06-08")}
        report = recorder.record("CryptoTrade", force=True, **span, **chosen)
        assert report.exit_code == 0, report.failed
        wanted = market.trades(TradeSpan("TRX/USDT:USDT", *span.values()))
        found = [row for row in trade_rows(recorder, "bybit", entity) if row["ts"] < span["end"]]
        assert len(found) == len(wanted)


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from conftest_recorders import Recorder
recorder = Recorder(sys.argv[1], Path(sys.argv[2]), archives=True)
sys.stdout.write("begun\\n"); sys.stdout.flush()
sys.exit(recorder.record("CryptoPair1mKdata", start=int(sys.argv[4])).exit_code)
"""


def test_sigkill_amid_files_loses_nothing(box, market, tmp_path):
    start = parse_time("2023-10-01")
    box.faults = ["slow:0.1,path=vision"]
    command = [sys.executable, "-c", SCRIPT, box.url, str(tmp_path), str(Path(__file__).parent), str(start)]
    moments = random.Random(20240610)
    killed = 0
    for _ in range(4):
        environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert process.stdout.readline() == b"begun\n"
        time.sleep(moments.uniform(0.3, 1.2))
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert killed >= 2, "the run was over before most of the kills"
    box.faults = []
    recorder = Recorder(box.url, tmp_path, archives=True)
    assert recorder.record("CryptoPair1mKdata", start=start).exit_code == 0
    assert is_complete(recorder, market, start)
    assert recorder.record("CryptoPair1mKdata", start=start).requests == 0
