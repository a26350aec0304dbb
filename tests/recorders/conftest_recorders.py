"""The market behind the sandbox and runs of the real recorder against it."""

import pyarrow as pa
import pytest

from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import parse_time
from zvt_crypto.core.tables import tables
from zvt_crypto.domain import load_tables
from zvt_crypto.recorders.run import Run, Selection
from zvt_crypto.sandbox import SimulatedMarket
from zvt_crypto.store.engine import Store
from zvt_crypto.store.reader import Query, read

load_tables()
#: The sandbox's clock stands still, half a minute into a candle.
NOW = parse_time("2024-06-10T12:34:30Z")
DAY = 86_400_000


@pytest.fixture(scope="module")
def market():
    return SimulatedMarket(seed=3, now=NOW)


class Recorder:
    """Runs selections with settings that fail fast, and reads back what was stored."""

    def __init__(self, url, folder, archives=False):
        self.settings = Settings(
            data_path=folder / "data",
            gateway=url,
            rate_limit=False,
            timeout_seconds=2,
            max_attempts=4,
            retry_wait_seconds=0.02,
            busy_timeout_seconds=2,
            archives=archives,
        )
        self.store = Store(self.settings)

    def record(self, *names, provider="binance", codes=("btcusdt",), settings=None, **selection):
        specs = tuple(tables.find(name) for name in names)
        selection = Selection(provider, specs, codes=codes, **selection)
        return Run(settings or self.settings, selection).start()

    def rows(self, name, entity_id, provider="binance"):
        spec = tables.find(name)
        found = read(self.store, Query(spec, provider, entity_ids=(entity_id,)))
        stored = [found["timestamp"].cast(pa.int64())] + [found[c.name] for c in spec.columns]
        return pa.table(stored, names=spec.schema.names)


@pytest.fixture
def recorder(box, tmp_path):
    return Recorder(box.url, tmp_path)


def expected(market, symbol, level, start, end):
    """The market's own candles as the table should hold them."""
    schema = tables["cryptopair_1m_kdata"].schema
    return market.candles(symbol, level, start, end).table().select(schema.names).cast(schema)


def same(found, wanted):
    return found.cast(wanted.schema).equals(wanted)


@pytest.fixture(scope="session")
def real_candles():
    from pathlib import Path

    return Path(__file__).resolve().parents[2] / ".." / "shared" / "real" / "candles"
