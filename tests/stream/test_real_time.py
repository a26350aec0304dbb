"""``record_data(real_time=True)``: zvt's verb, history and then live, in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zvt_crypto.core.config import load_settings
from zvt_crypto.core.levels import HOUR_MS, iso
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import load_tables
from zvt_crypto.sandbox import Sandbox
from zvt_crypto.sandbox.events import TradeSpan
from zvt_crypto.store import coverage
from zvt_crypto.store.engine import Store

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
from zvt_crypto import CryptoTrade
CryptoTrade.record_data(
    provider="binance", codes=["btcusdt"], start_timestamp=sys.argv[1], real_time=True
)
"""


@pytest.fixture(scope="module")
def box():
    with Sandbox(seed=1) as running:
        yield running


def stored(folder):
    load_tables()
    store = Store(load_settings(data_path=folder / "data"))
    spec = tables["cryptotrade"]
    if not store.exists("binance", spec):
        return [], []
    with store.connect("binance", spec) as connection:
        rows = connection.query("SELECT ts, trade_id FROM rows ORDER BY ts, trade_id").to_pylist()
        return [(row["ts"], int(row["trade_id"])) for row in rows], coverage.covered(connection, 1)


def test_history_and_live_trades_join(tmp_path, box):
    start = box.market.now() - HOUR_MS
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ZVT_HOME": str(tmp_path),
        "ZVT_CRYPTO_DATA_PATH": str(tmp_path / "data"),
        "ZVT_CRYPTO_GATEWAY": box.url,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, iso(start)], env=environment, stderr=subprocess.PIPE, text=True
    )
    began = box.market.now()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        rows, spans = stored(tmp_path)
        if len(spans) == 1 and spans[0][1] > began + 12_000:
            break
        time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode != 0 and "KeyboardInterrupt" in told
    rows, spans = stored(tmp_path)
    assert len(spans) == 1 and spans[0][0] <= start
    source = box.market.trades(TradeSpan("BTC/USDT", *spans[0]))
    assert set(zip(source.ts.tolist(), source.id.tolist(), strict=True)) <= set(rows)
    assert len(rows) == len(set(rows))
