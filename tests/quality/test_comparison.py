from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.domain import load_tables
from zvt_crypto.quality.comparison import Comparison, compare

tables = load_tables()
MINUTES, TRADES = tables["cryptopair_1m_kdata"], tables["cryptotrade"]


def candles(closes, count=None):
    """Candles at the minutes that are keys, of these closes; None is NULL."""
    ts = [minute * 60_000 for minute in closes]
    close = pa.array(list(closes.values()), pa.float64())
    ones = pa.array(np.ones(len(ts)))
    columns = {name: ones for name in ("open", "high", "low", "volume", "turnover")}
    counts = pa.array([count] * len(ts), pa.int64())
    table = pa.table({"ts": pa.array(ts, pa.int64()), **columns, "close": close, "trade_count": counts})
    return table.select(MINUTES.schema.names).cast(MINUTES.schema)


def trades(rows):
    return pa.table(
        {
            "ts": pa.array([ts for ts, _, _ in rows], pa.int64()),
            "trade_id": pa.array([key for _, key, _ in rows], pa.string()),
            "price": pa.array([price for _, _, price in rows], pa.float64()),
            "volume": pa.array([1.0] * len(rows), pa.float64()),
            "side": pa.array(["buy"] * len(rows), pa.string()),
            "nanosecond": pa.nulls(len(rows), pa.int64()),
        }
    )


def test_each_kind_of_difference_with_its_example():
    found = compare(MINUTES, candles({0: 1.0, 1: 2.0, 2: 3.0}), candles({1: 2.0, 2: 4.0, 5: 9.0}))
    result = found.result
    assert (result.compared, result.changed, result.vanished, result.lacking) == (2, 1, 1, 1)
    assert (result.columns["close"].rows, result.worst) == (1, 0.25)
    assert result.examples == [
        {"time": "1970-01-01T00:00:00Z", "change": "vanished"},
        {
            "time": "1970-01-01T00:02:00Z",
            "change": "changed",
            "column": "close",
            "recorded": 3.0,
            "other": 4.0,
            "relative_difference": 0.25,
        },
        {"time": "1970-01-01T00:05:00Z", "change": "lacking"},
    ]
    assert found.differing["ts"].to_pylist() == [120_000, 300_000]


@pytest.mark.parametrize(
    ("mine", "theirs", "changed"), [(None, 5, 1), (5, None, 0), (None, None, 0), (0, 0, 0)]
)
def test_what_the_other_side_does_not_give_says_nothing(mine, theirs, changed):
    assert compare(MINUTES, candles({0: 1.0}, mine), candles({0: 1.0}, theirs)).result.changed == changed


@pytest.mark.parametrize(("tolerance", "changed"), [(0.0, 1), (1e-9, 0), (1e-13, 1)])
def test_tolerance(tolerance, changed):
    pair = candles({0: 100.0}), candles({0: 100.0 * (1 + 1e-12)})
    assert compare(MINUTES, *pair, tolerance=tolerance).result.changed == changed


def test_only_the_columns_asked_for():
    pair = candles({0: 1.0}, 5), candles({0: 2.0}, 6)
    assert list(compare(MINUTES, *pair, columns=["trade_count"]).result.columns) == ["trade_count"]


def test_rows_with_a_key_are_matched_by_it():
    mine = trades([(0, "1", 5.0), (0, "2", 6.0), (7, "1", 7.0)])
    theirs = trades([(0, "2", 6.5), (0, "3", 6.0), (7, "1", 7.0)])
    found = compare(TRADES, mine, theirs)
    assert (found.result.compared, found.result.changed) == (2, 1)
    assert [(one["change"], one["trade_id"]) for one in found.result.examples] == [
        ("changed", "2"),
        ("vanished", "1"),
        ("lacking", "3"),
    ]


@pytest.mark.parametrize("empty", [0, 1])
def test_nothing_on_one_side(empty):
    sides = [candles({}), candles({0: 1.0, 1: 1.0})]
    result = compare(MINUTES, sides[empty], sides[1 - empty]).result
    assert (result.vanished, result.lacking) == ((0, 2), (2, 0))[empty]
    keyed = [trades([]), trades([(0, "a", 1.0)])]
    assert compare(TRADES, keyed[empty], keyed[1 - empty]).result.differing == 1


some = st.dictionaries(st.integers(0, 30), st.sampled_from([1.0, 1.5, 2.0]), max_size=30)


@given(some, some, st.integers(0, 31))
def test_parts_add_up_to_the_whole_and_equal_a_dict(mine, theirs, split):
    mine, theirs = dict(sorted(mine.items())), dict(sorted(theirs.items()))
    whole = compare(MINUTES, candles(mine), candles(theirs)).result
    summed = Comparison()
    for lower, upper in ((0, split), (split, 31)):
        parts = [{k: v for k, v in side.items() if lower <= k < upper} for side in (mine, theirs)]
        summed.add(compare(MINUTES, *map(candles, parts)).result)
    assert summed.as_dict() == whole.as_dict()
    both = mine.keys() & theirs.keys()
    assert whole.changed == sum(mine[k] != theirs[k] for k in both)
    assert (whole.vanished, whole.lacking) == (len(mine.keys() - both), len(theirs.keys() - both))
