"""Killed with SIGKILL at random moments and run again: the table equals the source."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from conftest_recorders import DAY, NOW, Recorder, expected, same

from zvt_crypto.sandbox.events import TradeSpan

#: The full trial takes 30; every run of the suite takes fewer.
KILLS = int(os.environ.get("ZVT_CRYPTO_TEST_KILLS", "6"))
START = NOW - 40 * DAY

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from conftest_recorders import Recorder
recorder = Recorder(sys.argv[1], Path(sys.argv[2]))
sys.stdout.write("begun\\n"); sys.stdout.flush()
report = recorder.record(sys.argv[5], codes=("btcusdt", "ethusdt"), start=int(sys.argv[4]), end=int(sys.argv[6]))
sys.exit(report.exit_code)
"""


def kill_again_and_again(box, tmp_path, table, start):
    """Begins the run and kills it, some times over."""
    here = str(Path(__file__).parent)
    command = [
        sys.executable,
        "-c",
        SCRIPT,
        box.url,
        str(tmp_path),
        here,
        str(start),
        table,
        str(NOW - 5_000),
    ]
    moments = random.Random(20240610)
    killed = 0
    for _ in range(KILLS):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(Path.cwd())}
        )
        assert process.stdout.readline() == b"begun\n"
        time.sleep(moments.uniform(0.05, 1.6))
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert killed >= KILLS // 2, "the run was over before most of the kills"


def test_sigkill_loses_nothing_and_doubles_nothing(box, market, tmp_path):
    # Slow enough to be hit in the middle.
    box.faults = ["slow:0.2,path=klines"]
    kill_again_and_again(box, tmp_path, "CryptoPair1mKdata", START)
    box.faults = []
    recorder = Recorder(box.url, tmp_path)
    assert recorder.record("CryptoPair1mKdata", codes=("btcusdt", "ethusdt"), start=START).exit_code == 0
    for symbol, entity_id in (
        ("BTC/USDT", "cryptopair_binance_btcusdt"),
        ("ETH/USDT", "cryptopair_binance_ethusdt"),
    ):
        full = expected(market, symbol, "1m", START + -START % 60_000, NOW - NOW % 60_000)
        assert same(recorder.rows("CryptoPair1mKdata", entity_id), full)
    again = recorder.record("CryptoPair1mKdata", codes=("btcusdt", "ethusdt"), start=START)
    assert again.requests == 0


def test_sigkill_among_trades(box, market, tmp_path):
    start, end = NOW - 3 * 3_600_000, NOW - 5_000
    box.faults = ["slow:0.1,path=aggTrades"]
    kill_again_and_again(box, tmp_path, "CryptoTrade", start)
    box.faults = []
    recorder = Recorder(box.url, tmp_path)
    report = recorder.record("CryptoTrade", codes=("btcusdt", "ethusdt"), start=start, end=end)
    assert report.exit_code == 0
    for symbol, entity_id in (
        ("BTC/USDT", "cryptopair_binance_btcusdt"),
        ("ETH/USDT", "cryptopair_binance_ethusdt"),
    ):
        found, wanted = recorder.rows("CryptoTrade", entity_id), market.trades(TradeSpan(symbol, start, end))
        assert found["trade_id"].to_pylist() == wanted.id.astype(str).tolist()
        assert found["price"].to_pylist() == wanted.price.tolist()
    again = recorder.record("CryptoTrade", codes=("btcusdt", "ethusdt"), start=start, end=end)
    assert again.requests == 0
