"""The command line as users start it: a process of its own, real files, the sandbox over a socket."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from zvt_crypto.cli import main
from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import level_ms, parse_time
from zvt_crypto.domain import load_tables
from zvt_crypto.sandbox import Sandbox, SimulatedMarket
from zvt_crypto.store.engine import Store
from zvt_crypto.store.writer import Entity, SeriesWriter

ROOT = Path(__file__).resolve().parents[2]
#: The sandbox's time.
NOW = parse_time("2024-03-01T12:30:00Z")
FIRST = parse_time("2024-01-01")


class Cli:
    """Runs ``python -m zvt_crypto.cli`` with a data folder of its own."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.data_path = folder / "data"
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "ZVT_HOME": str(folder),
            "ZVT_CRYPTO_DATA_PATH": str(self.data_path),
            "COLUMNS": "200",
            **{f"ZVT_CRYPTO_{name.upper()}": value for name, value in settings.items()},
        }

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "zvt_crypto.cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
        )

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run to the end; the exit code must be ``code``."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What a run with ``--json`` writes."""
        return json.loads(self(*arguments, "--json", code=code).stdout)


class Inside:
    """Runs the command line in this process, with the data folder of a ``Cli``: quicker."""

    def __init__(self, cli: Cli, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder, self.data_path = cli.folder, cli.data_path
        self._capfd = capfd

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main(arguments)
        out, err = self._capfd.readouterr()
        assert end.value.code == code, f"{out}\n{err}"
        return subprocess.CompletedProcess(arguments, code, out, err)

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code).stdout)


@pytest.fixture
def inside(cli: Cli, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Inside]:
    monkeypatch.chdir(cli.folder)
    for name, value in cli.environment.items():
        monkeypatch.setenv(name, value)
    logger = logging.getLogger("zvt_crypto")
    level = logger.level
    yield Inside(cli, capfd)
    logger.setLevel(level)


@pytest.fixture
def new_cli(tmp_path: Path) -> Callable[..., Cli]:
    """Makes a command line with settings of its own."""
    return lambda **settings: Cli(tmp_path, **settings)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """With nothing recorded and no exchange to reach."""
    return Cli(tmp_path, gateway="http://127.0.0.1:9", retry_wait_seconds="0.01", max_attempts="1")


@pytest.fixture(scope="session")
def market() -> SimulatedMarket:
    return SimulatedMarket(7, NOW)


@pytest.fixture
def exchange(tmp_path: Path, box: Sandbox) -> Cli:
    """A command line whose calls go to the sandbox."""
    return Cli(tmp_path, gateway=box.url, rate_limit="false", retry_wait_seconds="0.01")


def candles(level: str, count: int, holes: tuple[int, ...] = ()) -> pa.Table:
    ts = FIRST + np.arange(count) * level_ms(level)
    close = np.round(100 + np.sin(np.arange(count) / 50) * 10, 2)
    opened = np.append(close[:1], close[:-1])
    table = pa.table(
        {
            "ts": ts,
            "open": opened,
            "high": np.maximum(opened, close) + 0.5,
            "low": np.minimum(opened, close) - 0.5,
            "close": close,
            "volume": np.arange(count) % 17 + 0.25,
            "turnover": close * 2,
            "trade_count": pa.nulls(count, pa.int64()),
        }
    )
    return table.take(np.delete(np.arange(count), list(holes)))


Fill = Callable[..., None]


@pytest.fixture
def fill(cli: Cli) -> Fill:
    """Stores candles from 2024-01-01 on, without an exchange."""
    store = Store(Settings(data_path=cli.data_path))
    tables = load_tables()

    def filled(
        name: str,
        code: str,
        label: str,
        count: int,
        *,
        holes: tuple[int, ...] = (),
        answered: int | None = None,
        provider: str = "binance",
    ) -> None:
        spec = tables.find(name)
        assert spec.level is not None
        with store.connect(provider, spec) as connection:
            writer = SeriesWriter(connection, spec)
            key = writer.entity_key(Entity(f"{spec.entity_type}_{provider}_{code}", code, label))
            until = FIRST + (count if answered is None else answered) * level_ms(spec.level)
            writer.write_page(key, candles(spec.level, count, holes), answered=[(FIRST, until)])

    return filled


@pytest.fixture
def recorded(inside: Inside, fill: Fill) -> Inside:
    """A command line over two pairs of one-minute candles, one with holes, and a perpetual's hours."""
    fill("CryptoPair1mKdata", "btcusdt", "BTC/USDT", 300, holes=(10, 11, 12, 200), answered=100)
    fill("CryptoPair1mKdata", "ethusdt", "ETH/USDT", 50)
    fill("CryptoPerp1hKdata", "btcusdt", "BTC/USDT:USDT", 48)
    return inside
