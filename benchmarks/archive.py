"""Candles a second from a public archive: months of zip files from a local exchange to committed rows."""

from __future__ import annotations

import tempfile
import urllib.request
from pathlib import Path

from benchmarks.backfill import Sandboxed
from benchmarks.measure import Row, child, medians

YEAR = 2023
MONTHS = 12
MINUTES_OF = {1: 31 * 1440, 12: 365 * 1440}

OURS = """
from zvt_crypto.core.config import load_settings
from zvt_crypto.core.levels import parse_time
from zvt_crypto.domain import kdata, entities
from zvt_crypto.core.tables import tables
from zvt_crypto.recorders.report import Silent
from zvt_crypto.recorders.run import Run, Selection
from zvt_crypto.exchanges.client import import_exchange
import_exchange("binance")
import aiohttp, pyarrow.csv
spec = tables["cryptopair_1m_kdata"]
settings = load_settings(gateway=sys.argv[1], data_path=sys.argv[2], rate_limit=False)
# The list of instruments and the clock are fetched once, before.
Run(settings, Selection("binance", (spec,), codes=("btcusdt",), start=parse_time("2022-12-31"),
                        end=parse_time("2022-12-31T01:00:00Z"))).start()
class Clock(Silent):
    def started(self, outcome):
        self.began = time.perf_counter()

    def finished(self, outcome):
        facts["seconds"] = time.perf_counter() - self.began

selected = Selection("binance", (spec,), codes=("btcusdt",), start=parse_time(sys.argv[3]), end=parse_time(sys.argv[4]))
report = Run(settings, selected, Clock()).start()
facts["candles"], facts["requests"] = report.rows, report.requests
assert not report.failed and not report.outcomes[0].notes, report
"""


def run(runs: int = 5) -> tuple[str, list[Row], list[str]]:
    """One month, and a year; the sandbox has packed its files beforehand."""
    rates: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name, Sandboxed() as gateway:
        _pack(gateway)
        for months, minutes in MINUTES_OF.items():
            end = f"{YEAR + 1}-01-01" if months == MONTHS else f"{YEAR}-{1 + months:02}-01"
            facts = []
            for attempt in range(runs):
                folder = Path(name) / f"{months}-{attempt}"
                arguments = (gateway, str(folder), f"{YEAR}-01-01", end)
                facts.append(child(OURS, *arguments, environment={"ZVT_HOME": name}))
                if facts[-1]["candles"] != minutes or facts[-1]["requests"] != 2 * months:
                    raise RuntimeError(f"expected {minutes} candles from {months} files: {facts[-1]}")
            middle = medians(facts)
            rates[months] = middle["candles"] / middle["seconds"]
    mark = 500_000
    rows = [
        Row(f"{label}, candles/s", f"{rates[months]:,.0f}", f"{mark:,} wanted", rates[months] / mark, 1)
        for months, label in ((1, "one month"), (MONTHS, "twelve months"))
    ]
    return "Archives", rows, [
        f"Medians of {runs} runs: zip files of 1m candles from one local sandbox that has packed them beforehand,"
        " timed from the first request to the last commit: fetched, compared with their checksums, unpacked, parsed,"
        " checked, committed with their coverage. No peer: the ratio is to the mark of 500,000 candles/s."
    ]  # fmt: skip


def _pack(gateway: str) -> None:
    for month in range(1, MONTHS + 1):
        name = f"BTCUSDT-1m-{YEAR}-{month:02}.zip"
        url = f"{gateway}/data.binance.vision/data/spot/monthly/klines/BTCUSDT/1m/{name}"
        with urllib.request.urlopen(url) as answer:
            answer.read()
