from __future__ import annotations

import math
from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.core.levels import HOUR_MS, MINUTE_MS
from zvt_crypto.core.trade_bars import candles_from_trades

FIRST = 1_704_067_200_000

trades = st.lists(
    st.tuples(
        st.integers(FIRST, FIRST + 5 * MINUTE_MS),
        st.one_of(st.none(), st.integers(0, 999_999)),
        st.integers(1, 10**7).map(lambda ticks: ticks / 100),
        st.integers(1, 10**9).map(lambda lots: lots / 1000),
    ),
    max_size=40,
)
steps = st.sampled_from([MINUTE_MS, 5 * MINUTE_MS, HOUR_MS])


def table(rows):
    schema = [
        ("ts", pa.int64()),
        ("nanosecond", pa.int64()),
        ("price", pa.float64()),
        ("volume", pa.float64()),
    ]
    columns = list(zip(*rows, strict=True)) or [[] for _ in schema]
    return pa.table(
        [pa.array(c, kind) for c, (_, kind) in zip(columns, schema, strict=True)],
        names=[n for n, _ in schema],
    )


def one_by_one(rows, step):
    """The candles by a loop over the trades, with sums as fractions."""
    found = {}
    for ts, _, price, volume in sorted(rows, key=lambda row: (row[0], row[1] or 0)):
        candle = found.setdefault(ts - ts % step, [price, price, price, price, Fraction(0), 0.0, 0])
        candle[1], candle[2], candle[3] = max(candle[1], price), min(candle[2], price), price
        candle[4] += Fraction(round(volume * 1000), 1000)
        candle[5] += price * volume
        candle[6] += 1
    return found


@given(trades, steps)
def test_equals_a_loop_over_the_trades(rows, step):
    found = candles_from_trades(table(rows), step).to_pylist()
    wanted = one_by_one(rows, step)
    assert [candle.pop("ts") for candle in found] == sorted(wanted)
    for candle, (_, expected) in zip(found, sorted(wanted.items()), strict=True):
        *prices, volume, turnover, count = expected
        assert [candle[name] for name in ("open", "high", "low", "close")] == prices
        assert candle["volume"] == float(volume)
        assert math.isclose(candle["turnover"], turnover, rel_tol=1e-12)
        assert candle["trade_count"] == count


def test_without_trades_there_are_no_candles_and_a_stretch_without_them_has_none():
    assert candles_from_trades(table([]), MINUTE_MS).num_rows == 0
    rows = [(FIRST, None, 1.0, 1.0), (FIRST + 3 * MINUTE_MS, None, 2.0, 1.0)]
    assert candles_from_trades(table(rows), MINUTE_MS)["ts"].to_pylist() == [FIRST, FIRST + 3 * MINUTE_MS]


@pytest.mark.parametrize("columns", [["ts", "price", "volume"], ["ts", "price", "volume", "nanosecond"]])
def test_trades_of_one_millisecond_keep_their_order(columns):
    rows = [(FIRST, 5, 3.0, 1.0), (FIRST, 1, 1.0, 1.0), (FIRST, 9, 2.0, 1.0)]
    candle = candles_from_trades(table(rows).select(columns), MINUTE_MS).to_pylist()[0]
    by_id, by_nanosecond = (3.0, 2.0), (1.0, 2.0)
    assert (candle["open"], candle["close"]) == (by_nanosecond if "nanosecond" in columns else by_id)
