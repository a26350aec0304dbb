"""Certificates of series that are sound, and of series that are not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from zvt_crypto.core.levels import MINUTE_MS
from zvt_crypto.core.trade_bars import candles_from_trades
from zvt_crypto.domain import load_tables
from zvt_crypto.quality.certificate import Health, certify
from zvt_crypto.quality.holes import find_holes
from zvt_crypto.quality.series import recorded_series
from zvt_crypto.store.writer import Entity, SeriesWriter

tables = load_tables()
MINUTES, TRADES = tables["cryptopair_1m_kdata"], tables["cryptotrade"]
START = 1_704_067_200_000
COUNT = 200
BTC = Entity("cryptopair_binance_btcusdt", "btcusdt", "BTC/USDT")


@pytest.fixture
def write(store):
    def written(spec, batch, answered=((0, COUNT),)):
        with store.connect("binance", spec) as connection:
            writer = SeriesWriter(connection, spec)
            spans = [(START + a * MINUTE_MS, START + b * MINUTE_MS) for a, b in answered]
            writer.write_page(
                writer.entity_key(BTC), batch.select(spec.schema.names).cast(spec.schema), answered=spans
            )

    return written


def trades():
    rng = np.random.default_rng(5)
    ts = np.sort(START + rng.integers(0, COUNT * MINUTE_MS, 5000))
    return pa.table(
        {
            "ts": ts,
            "trade_id": [str(number) for number in range(len(ts))],
            "price": np.round(100 + rng.random(len(ts)), 2),
            "volume": np.round(rng.random(len(ts)) + 0.001, 3),
            "side": ["buy"] * len(ts),
            "nanosecond": pa.nulls(len(ts), pa.int64()),
        }
    )


CANDLES = candles_from_trades(trades(), MINUTE_MS)


def certificate(store, spec=MINUTES, **span):
    [series] = recorded_series(store, "binance", spec)
    return certify(store, series, made_at=START, versions={"zvt-crypto": "x"}, **span)


def changed(minute, **values):
    table = CANDLES
    for name, value in values.items():
        column = table[name].to_pylist()
        column[minute] = value
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(column))
    return table


def test_a_complete_series(store, write):
    write(MINUTES, CANDLES)
    write(TRADES, trades())
    made = certificate(store)
    assert (made["complete"], made["reasons"], made["coverage"]) == (True, [], 1.0)
    assert (made["rows"], made["rows_expected"], made["gaps"]) == (COUNT, COUNT, {})
    assert (made["start"], made["end"]) == ("2024-01-01T00:00:00Z", "2024-01-01T03:20:00Z")
    against = made["candles_against_trades"]
    assert (against["compared"], against["differing"], against["not_compared"]) == (COUNT, 0, ["trade_count"])
    assert (made["entity_id"], made["level"], made["made_at"]) == (
        BTC.entity_id,
        "1m",
        "2024-01-01T00:00:00Z",
    )
    assert json.loads(json.dumps(made)) == made
    assert certificate(store, TRADES)["complete"] is True


def test_holes_that_can_be_healed_are_a_reason(store, write):
    write(MINUTES, CANDLES.take(np.delete(np.arange(COUNT), [5, 50])), answered=[(0, 50), (51, COUNT)])
    made = certificate(store)
    assert made["complete"] is False
    assert made["reasons"] == ["1 hole of 1 row can be healed"]
    assert made["gaps"] == {"unrecorded": {"holes": 1, "missing": 1}, "absent": {"holes": 1, "missing": 1}}
    assert made["coverage"] == pytest.approx(1 - 1 / COUNT)
    assert (made["rows"], made["rows_expected"]) == (COUNT - 2, COUNT)


def test_rows_that_cannot_be_true_are_counted(store, write):
    write(MINUTES, changed(3, high=1.0).append_column("x", CANDLES["ts"]))
    write(MINUTES, changed(9, low=-1.0).slice(9, 1))
    with store.connect("binance", MINUTES) as connection:
        connection.run(
            f"UPDATE {MINUTES.name} SET timestamp = timestamp + 1 WHERE timestamp = {START + 7 * MINUTE_MS}"
        )
    made = certificate(store)
    assert made["complete"] is False
    assert made["off_grid"] == 1
    assert made["not_positive_prices"] == 1
    assert made["broken_rules"] == {rule.name: 1 for rule in MINUTES.rules[1:]}


def test_candles_are_held_against_their_trades_where_these_are_covered(store, write):
    write(MINUTES, changed(3, close=100.5, high=200.0, trade_count=1))
    write(TRADES, trades(), answered=[(0, 100)])
    made = certificate(store)
    against = made["candles_against_trades"]
    assert (against["compared"], against["differing"]) == (100, 1)
    assert set(against["columns"]) == {"close", "high"}
    assert against["worst_relative_difference"] == pytest.approx(0.5, abs=0.01)
    assert made["reasons"] == ["1 candle unlike those of the recorded trades"]


def test_trades_that_were_not_answered_for_are_a_reason(store, write):
    write(TRADES, trades(), answered=[(0, 50), (100, COUNT)])
    assert certificate(store, TRADES)["reasons"] == ["75.0000% of the time is recorded"]
    [series] = recorded_series(store, "binance", TRADES)
    found = find_holes(store, series)
    assert [(hole["kind"], hole["start"], hole["end"]) for hole in found.to_list()] == [
        ("unrecorded", START + 50 * MINUTE_MS, START + 100 * MINUTE_MS)
    ]
    assert found.can_be_healed.all()


def test_the_hash_is_that_of_the_rows_alone(store, write, tmp_path):
    write(MINUTES, CANDLES)
    write(TRADES, trades())
    whole, of_trades = certificate(store)["sha256"], certificate(store, TRADES)["sha256"]
    half = START + 100 * MINUTE_MS
    parts = {certificate(store, end=half)["sha256"], certificate(store, start=half)["sha256"], whole}
    assert len(parts) == 3
    script = (
        "import sys; from pathlib import Path; from zvt_crypto.core.config import Settings;"
        "from zvt_crypto.domain import load_tables; from zvt_crypto.quality.certificate import certify;"
        "from zvt_crypto.quality.series import recorded_series; from zvt_crypto.store.engine import Store;"
        "store = Store(Settings(data_path=Path(sys.argv[1]), segments=False)); t = load_tables();"
        "[print(certify(store, s, made_at=0, versions={})['sha256'])"
        " for n in sys.argv[2:] for s in recorded_series(store, 'binance', t[n])]"
    )
    command = [sys.executable, "-c", script, str(store.data_path), MINUTES.name, TRADES.name]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path.cwd()).stdout
    assert shown.split() == [whole, of_trades]
    write(MINUTES, changed(3, close=CANDLES["open"][3].as_py() + 1e-9).slice(3, 1))
    assert certificate(store)["sha256"] != whole
    write(MINUTES, CANDLES.slice(3, 1))
    assert certificate(store)["sha256"] == whole


def test_the_hash_does_not_depend_on_batches():
    batch = trades().cast(TRADES.schema)
    whole, parts = Health(TRADES), Health(TRADES)
    whole.take(batch)
    for first in range(0, batch.num_rows, 64):
        parts.take(batch.slice(first, 64))
    assert parts.sha256() == whole.sha256() != Health(TRADES).sha256()
    texts = [
        pa.table({**{n: batch[n][:2] for n in batch.column_names}, "trade_id": ids})
        for ids in (["ab", "c"], ["a", "bc"])
    ]
    hashes = []
    for two in texts:
        health = Health(TRADES)
        health.take(two.cast(TRADES.schema))
        hashes.append(health.sha256())
    assert hashes[0] != hashes[1]


def test_doubled_rows_are_counted_across_batches():
    batch = CANDLES.select(MINUTES.schema.names).cast(MINUTES.schema)
    health = Health(MINUTES)
    health.take(batch.slice(0, 10))
    health.take(batch.slice(9, 10))
    assert (health.duplicates, health.reasons()) == (1, ["1 row doubled"])


def test_a_volume_in_contracts_is_seen_by_its_turnover(store, write):
    """A perpetual of 0.001 bitcoin a contract, whose volume was taken as it came."""
    write(MINUTES, changed(3, volume=CANDLES["volume"][3].as_py() * 1000))
    made = certificate(store)
    assert (made["complete"], made["turnover_unlike_price"]) == (False, 1)
    assert made["reasons"] == ["1 row: turnover is not volume times price"]
    write(MINUTES, changed(3, turnover=None))
    assert certificate(store)["turnover_unlike_price"] == 0, "NULL tells nothing"
