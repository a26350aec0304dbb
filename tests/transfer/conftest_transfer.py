"""Stores filled with candles, a second one to import into, and what is in them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import level_ms, parse_time
from zvt_crypto.domain import load_tables
from zvt_crypto.store import coverage
from zvt_crypto.store.engine import Store
from zvt_crypto.store.reader import Query, read
from zvt_crypto.store.writer import Entity, SeriesWriter

FIRST = parse_time("2024-01-01")


def candles(spec, numbers):
    """Candles at these numbers of the level's grid, counted from 2024-01-01."""
    numbers = np.array(sorted(numbers), np.int64)
    close = np.round(100 + np.sin(numbers / 50) * 10, 2)
    return pa.table(
        {
            "ts": FIRST + numbers * level_ms(spec.level),
            "open": close,
            "high": close + 0.5,
            "low": close - 0.5,
            "close": close,
            "volume": numbers % 17 + 0.25,
            "turnover": pa.array(close * 2, mask=numbers % 5 == 0),
            "trade_count": pa.array(numbers, mask=numbers % 3 == 0),
        }
    ).cast(spec.schema)


@pytest.fixture
def write(store):
    """Stores candles at numbers of the grid, with the numbers that were answered for."""

    def written(
        table, code, numbers, *, answered=(), name=None, provider="binance", exchange=None, into=store
    ):
        spec = load_tables().find(table)
        step = level_ms(spec.level)
        spans = [(FIRST + a * step, FIRST + b * step) for a, b in answered]
        entity = Entity(f"{spec.entity_type}_{exchange or provider}_{code}", code, name)
        with into.connect(provider, spec) as connection:
            writer = SeriesWriter(connection, spec)
            writer.write_page(writer.entity_key(entity), candles(spec, numbers), answered=spans)

    return written


@pytest.fixture
def other(tmp_path):
    """Another data folder, to import into."""
    return Store(Settings(data_path=tmp_path / "other", busy_timeout_seconds=2.0))


def rows(store, table, provider="binance"):
    return read(store, Query(load_tables().find(table), provider)).to_pylist()


def ledger(store, table, entity_id, provider="binance"):
    """Spans answered for, in numbers of the grid."""
    spec = load_tables().find(table)
    step = level_ms(spec.level)
    with store.connect(provider, spec) as connection:
        key = connection.value("SELECT key FROM entities WHERE entity_id = ?", (entity_id,))
        spans = coverage.covered(connection, key)
    return [((a - FIRST) / step, (b - FIRST) / step) for a, b in spans]
