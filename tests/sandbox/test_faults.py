"""Faults: their notation, when they strike, and what they do to rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.core.levels import MINUTE_MS, parse_time
from zvt_crypto.sandbox import KINDS, Fault, FaultPlan, SimulatedMarket, parse_fault
from zvt_crypto.sandbox.damage import damaged

START = parse_time("2024-03-01")
ROWS = SimulatedMarket(seed=2).candles("BTC/USDT", "1m", START, START + 50 * MINUTE_MS)
WORD = st.text("abcdefghijklmnopqrstuvwxyz/0123456789", min_size=1)
NOBODY: frozenset[str] = frozenset()


@given(
    st.sampled_from(sorted(KINDS)),
    st.none() | WORD,
    st.none() | WORD,
    st.none() | st.integers(0, 9),
    st.integers(0, 9),
    st.integers(1, 9),
    st.none() | st.floats(0, 1),
)
def test_the_text_of_a_fault_reads_back(kind, path, symbol, times, after, every, probability) -> None:
    fault = Fault(kind, path, symbol, times, after, every, probability, dict(KINDS[kind].defaults))
    assert parse_fault(str(fault)) == fault


def test_the_example() -> None:
    fault = parse_fault("status:429,path=klines,times=3,retry_after=2")
    assert fault == Fault("status", path="klines", times=3, params={"status": 429, "retry_after": 2})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("statsu:429", "did you mean status"),
        ("status:429,pth=klines", "did you mean path"),
        ("status:many", "status 'many' of a fault is not a number"),
        ("status:42", "status 42 is no HTTP status"),
        ("timeout:3", "takes no value"),
        ("slow:1,times=1.5", "times '1.5' of a fault is not a whole number"),
        ("slow,forever", "'forever' in fault 'slow,forever' is not key=value"),
        ("slow,every=0", "every must be at least 1"),
        ("slow,probability=2", "not between 0 and 1"),
        ("cut:half", "allowed: close, length"),
        ("nan,column=price", "unknown column of fault 'nan' 'price'"),
    ],
)
def test_a_wrong_fault_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_fault(text)
    assert says in caught.value.one_line()


def strikes(text: str, count: int) -> str:
    plan = FaultPlan([text], seed=5)
    return "".join("x" if plan.strike(KINDS, "h/klines", NOBODY) else "." for _ in range(count))


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("slow", "xxxxxx"),
        ("slow,times=2", "xx...."),
        ("slow,after=2", "..xxxx"),
        ("slow,every=3", "..x..x"),
        ("slow,after=1,every=2,times=1", "..x..."),
        ("slow,path=trades", "......"),
        ("slow,path=h/kl", "xxxxxx"),
        ("slow,probability=0", "......"),
        ("slow,probability=1", "xxxxxx"),
    ],
)
def test_when_a_fault_strikes(text: str, pattern: str) -> None:
    assert strikes(text, len(pattern)) == pattern


def test_chance_is_repeatable_and_near_its_probability() -> None:
    drawn = strikes("slow,probability=0.3", 400)
    assert drawn == strikes("slow,probability=0.3", 400)
    assert 80 < drawn.count("x") < 160


@pytest.mark.parametrize(("symbol", "hit"), [("BTC/USDT", True), ("btc-usdt", True), ("ETHUSDT", False)])
def test_a_fault_for_one_symbol(symbol: str, hit: bool) -> None:
    plan = FaultPlan([Fault("slow", symbol=symbol)])
    assert bool(plan.strike(KINDS, "h/p", frozenset({"BTCUSDT"}))) is hit


def test_of_several_answers_only_the_first_is_counted() -> None:
    plan = FaultPlan(["status:429,times=1", "status:503,times=1"])
    struck = [plan.strike(KINDS, "h/p", NOBODY, one=True) for _ in range(3)]
    assert [[f.number("status") for f in faults] for faults in struck] == [[429], [503], []]


def test_row_faults() -> None:
    def after(text: str):
        return damaged(ROWS, parse_fault(text))

    assert len(after("empty_rows")) == 0
    assert len(after("duplicate")) == 100
    assert len(after("duplicate:3")) == 53
    assert len(after("missing:4")) == 46
    assert sorted(after("reorder").ts.tolist()) == ROWS.ts.tolist() != after("reorder").ts.tolist()
    assert np.isnan(after("nan:2,column=high").high).sum() == 2
    assert (after("negative:5").close < 0).sum() == 5
    wrong = after("high_below_low:7")
    assert (wrong.high < wrong.low).sum() == 7
    assert np.array_equal(after("missing:4").ts, after("missing:4").ts)


def test_damage_leaves_the_market_alone() -> None:
    before = ROWS.close.copy()
    for kind in ("negative", "nan", "high_below_low", "reorder"):
        damaged(ROWS, Fault(kind))
    assert np.array_equal(ROWS.close, before)
