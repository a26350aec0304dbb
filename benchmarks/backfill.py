"""Candles a second from a local exchange: a plain ccxt loop that stores nothing, freqtrade, and our recorder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import peer_freqtrade
from benchmarks.measure import ROOT, Row, child, medians

START, END = "20230101", "20240901"
CANDLES = 609 * 24 * 60

LOOP = """
import asyncio, ccxt.async_support as ccxt
gateway, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

async def main():
    exchange = ccxt.binance({"enableRateLimit": False,
                             "options": {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False}})
    exchange.urls["api"]["public"] = f"{gateway}/api.binance.com/api/v3"
    began = time.perf_counter()
    await exchange.load_markets()
    eight = asyncio.Semaphore(8)

    async def page(since):
        async with eight:
            return len(await exchange.fetch_ohlcv("BTC/USDT", "1m", since, 1000))

    counts = await asyncio.gather(*(page(t) for t in range(first, last, 60_000_000)))
    facts["seconds"] = time.perf_counter() - began
    facts["candles"] = sum(counts)
    await exchange.close()

asyncio.run(main())
"""

OURS = """
from zvt_crypto.core.config import load_settings
from zvt_crypto.domain import kdata, entities
from zvt_crypto.core.tables import tables
from zvt_crypto.recorders.run import Run, Selection
from zvt_crypto.exchanges.client import import_exchange
import_exchange("binance")
first, last = int(sys.argv[2]), int(sys.argv[3])
run = Run(load_settings(gateway=sys.argv[1], data_path=sys.argv[4], rate_limit=False, archives=False),
          Selection("binance", (tables["cryptopair_1m_kdata"],), codes=("btcusdt",), start=first, end=last))
began = time.perf_counter()
report = run.start()
facts["seconds"] = time.perf_counter() - began
facts["candles"] = report.rows
assert not report.failed, report.failed
"""


def run(runs: int = 5) -> tuple[str, list[Row], list[str]]:
    """All three against one sandbox whose pages are rendered beforehand, in turn."""
    freqtrade = peer_freqtrade.install()
    ours, loop, command, peer = [], [], [], []
    with tempfile.TemporaryDirectory() as name, Sandboxed() as gateway:
        folder = Path(name)
        for attempt in range(runs + 1):
            one = folder / str(attempt)
            facts = [
                child(OURS, gateway, *_span(), str(one / "api"), environment={"ZVT_HOME": name}),
                child(LOOP, gateway, *_span()),
                _command(gateway, one / "cli"),
                peer_freqtrade.download(freqtrade, gateway, one / "freqtrade", f"{START}-{END}"),
            ]
            for fact in facts:
                if abs(fact["candles"] - CANDLES) > 1_500:
                    raise RuntimeError(f"expected about {CANDLES} candles: {fact}")
            if attempt:  # the first round renders the sandbox's pages
                for kept, fact in zip((ours, loop, command, peer), facts, strict=True):
                    kept.append(fact)
    return "Backfill", _rows(medians(ours), medians(loop), medians(command), medians(peer)), [
        f"Medians of {runs} rounds of {CANDLES:,} 1m candles from one local sandbox with its pages rendered beforehand,"
        " no rate limits. The loop: `ccxt.async_support.binance.fetch_ohlcv`, eight at a time, storing nothing; ours:"
        " the recorder, checked and stored. freqtrade's `download-data` and `zvt-crypto record` are timed as whole"
        " processes, start-up included."
    ]  # fmt: skip


def _rows(ours: Any, loop: Any, command: Any, peer: Any) -> list[Row]:
    def rate(facts: Any, key: str) -> float:
        return float(facts["candles"] / facts[key])

    return [
        Row(
            "candles/s against a ccxt loop that stores nothing",
            f"{rate(ours, 'seconds'):,.0f}",
            f"{rate(loop, 'seconds'):,.0f}",
            rate(ours, "seconds") / rate(loop, "seconds"),
            1.5,
        ),
        Row(
            "candles/s against freqtrade download-data",
            f"{rate(command, 'wall'):,.0f}",
            f"{rate(peer, 'wall'):,.0f}",
            rate(command, "wall") / rate(peer, "wall"),
            3,
        ),
        Row(
            "peak MB against freqtrade download-data",
            f"{command['peak_mb']:.0f}",
            f"{peer['peak_mb']:.0f}",
            command["peak_mb"] / peer["peak_mb"],
            0.5,
            at_least=False,
        ),
    ]


class Sandboxed:
    """The sandbox as a process; yields its URL."""

    def __enter__(self) -> str:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "zvt_crypto.sandbox", "--port", "0", "--seed", "7"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()[-1]

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()


def _span() -> tuple[str, str]:
    from zvt_crypto.core.levels import parse_time

    return str(parse_time(START)), str(parse_time(END))


def _command(gateway: str, folder: Path) -> dict[str, float]:
    began = time.perf_counter()
    done = subprocess.Popen(
        [sys.executable, "-m", "zvt_crypto.cli", "record", "--provider", "binance", "--codes", "btcusdt",
         "--levels", "1m", "--timerange", f"{START}-{END}", "--json", "--no-progress"],
        stdout=subprocess.PIPE,
        env=os.environ
        | {
            "ZVT_HOME": str(folder),
            "ZVT_CRYPTO_GATEWAY": gateway,
            "ZVT_CRYPTO_RATE_LIMIT": "false",
            "ZVT_CRYPTO_ARCHIVES": "false",
            "PYTHONPATH": str(ROOT),
        },
    )  # fmt: skip
    assert done.stdout is not None
    output = done.stdout.read()
    _, status, usage = os.wait4(done.pid, 0)
    if status:
        raise RuntimeError(output.decode()[-2000:])
    wall = time.perf_counter() - began
    return {"wall": wall, "peak_mb": usage.ru_maxrss / 1024, "candles": _stored(folder)}


def _stored(folder: Path) -> float:
    """Rows in the table, counted by a process of its own."""
    script = (
        "import sqlite3; facts['n'] = sqlite3.connect(sys.argv[1])"
        ".execute('SELECT count(*) FROM rows').fetchone()[0]"
    )
    path = folder / "data" / "binance" / "binance_cryptopair_1m_kdata.db"
    return float(child(script, str(path))["n"])
