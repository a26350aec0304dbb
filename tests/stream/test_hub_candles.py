"""Candles under way: made of trades, and closed where the venue does not say when."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.core.trade_bars import candles_from_trades
from zvt_crypto.exchanges.schemas import TRADES
from zvt_crypto.stream.broadcast.candlemaking import GRACE_MS, Candle, CandleCloser, CandleMaker

MINUTE = 60_000
START = 1_717_200_000_000

Trade = tuple[int, float, float]


def table(trades: Sequence[Trade]) -> pa.Table:
    columns = {
        "ts": [ts for ts, _, _ in trades],
        "trade_id": [str(i) for i in range(len(trades))],
        "price": [price for _, price, _ in trades],
        "volume": [volume for _, _, volume in trades],
        "side": ["buy" for _ in trades],
        "nanosecond": [None for _ in trades],
    }
    return pa.table(columns, schema=TRADES)


def maker(since: int = START) -> CandleMaker:
    made = CandleMaker(MINUTE)
    made.live(since)
    return made


def test_states_follow_the_trades_and_the_next_candle_closes() -> None:
    made = maker()
    [state] = made.add(table([(START, 10.0, 1.0), (START + 5, 12.0, 0.1)]))
    assert state == Candle(START, 10.0, 12.0, 10.0, 12.0, 1.1)
    [state] = made.add(table([(START + 7, 9.0, 0.2)]))
    assert state == Candle(START, 10.0, 12.0, 9.0, 9.0, 1.3)
    closed, opened = made.add(table([(START + MINUTE, 11.0, 1.0)]))
    assert closed == Candle(START, 10.0, 12.0, 9.0, 9.0, 1.3, is_closed=True)
    assert opened == Candle(START + MINUTE, 11.0, 11.0, 11.0, 11.0, 1.0)


def test_a_candle_without_a_next_one_is_closed_by_the_clock() -> None:
    made = maker()
    made.add(table([(START, 10.0, 1.0)]))
    assert made.close(START + MINUTE) == []
    assert made.close(START + MINUTE + GRACE_MS - 1) == []
    [closed] = made.close(START + MINUTE + GRACE_MS)
    assert closed.is_closed
    assert made.close(START + 10 * MINUTE) == []
    # A trade that comes even later corrects it.
    [corrected] = made.add(table([(START + 1, 11.0, 0.5)]))
    assert corrected == Candle(START, 10.0, 11.0, 10.0, 11.0, 1.5, is_closed=True)
    [opened] = made.add(table([(START + MINUTE, 12.0, 1.0)]))
    assert not opened.is_closed


def test_the_first_candle_is_partial_and_never_closed() -> None:
    made = maker(since=START + 1)
    [state] = made.add(table([(START + 30_000, 10.0, 1.0)]))
    assert (state.is_partial, state.is_closed) == (True, False)
    [opened] = made.add(table([(START + MINUTE, 10.0, 1.0)]))
    assert (opened.ts, opened.is_partial) == (START + MINUTE, False)
    [closed] = made.close(START + 3 * MINUTE)
    assert (closed.ts, closed.is_closed) == (START + MINUTE, True)


def test_a_candle_with_an_interruption_is_partial() -> None:
    made = maker()
    made.add(table([(START, 10.0, 1.0)]))
    made.lost()
    made.live(START + 30_000)
    [state] = made.add(table([(START + 40_000, 11.0, 1.0)]))
    assert (state.open, state.is_partial) == (10.0, True)
    assert made.close(START + 2 * MINUTE) == []
    [whole] = made.add(table([(START + 2 * MINUTE, 11.0, 1.0)]))
    assert not whole.is_partial


def test_trades_before_the_stream_is_live_make_no_truth() -> None:
    made = CandleMaker(MINUTE)
    [state] = made.add(table([(START, 10.0, 1.0)]))
    assert state.is_partial


def test_trades_of_candles_long_past_change_nothing() -> None:
    made = maker()
    for minute in range(3):
        made.add(table([(START + minute * MINUTE, 10.0, 1.0)]))
    assert made.add(table([(START, 99.0, 1.0)])) == []


TRADE = st.tuples(
    st.integers(START, START + 5 * MINUTE - 1),
    st.integers(1, 10_000).map(lambda n: n / 100),
    st.integers(1, 10_000).map(lambda n: n / 1000),
)


@given(st.lists(TRADE, min_size=1, max_size=40, unique_by=lambda trade: trade[0]), st.data())
def test_closed_candles_are_those_of_all_trades_however_they_are_cut(
    trades: list[Trade], data: st.DataObject
) -> None:
    trades.sort()
    made = maker()
    told: list[Candle] = []
    rest = trades
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        part, rest = rest[:size], rest[size:]
        told += made.add(table(data.draw(st.permutations(part))))
    told += made.close(START + 10 * MINUTE)
    expected = candles_from_trades(table(trades), MINUTE).to_pylist()
    closed = {one.ts: one for one in told if one.is_closed}
    names = ("ts", "open", "high", "low", "close", "volume")
    assert [[getattr(one, name) for name in names] for one in closed.values()] == [
        [row[name] for name in names] for row in expected
    ]


def state(ts: int, close: float = 10.0) -> Candle:
    return Candle(ts, 10.0, 12.0, 9.0, close, 1.0)


def closer() -> CandleCloser:
    found = CandleCloser(MINUTE)
    found.live()
    return found


def test_the_next_candle_closes_the_one_before() -> None:
    found = closer()
    assert found.add(state(START)) == [state(START)]
    assert found.add(state(START, 11.0)) == [state(START, 11.0)]
    closed, opened = found.add(state(START + MINUTE))
    assert (closed.close, closed.is_closed) == (11.0, True)
    assert opened == state(START + MINUTE)


def test_the_clock_closes_where_no_candle_follows_and_later_states_stay_closed() -> None:
    found = closer()
    found.add(state(START))
    assert found.close(START + MINUTE) == []
    [closed] = found.close(START + MINUTE + GRACE_MS)
    assert closed.is_closed
    assert found.close(START + MINUTE + GRACE_MS) == []
    [corrected] = found.add(state(START, 11.0))
    assert (corrected.close, corrected.is_closed) == (11.0, True)
    assert [one.ts for one in found.add(state(START + MINUTE))] == [START + MINUTE]


def test_a_candle_whose_end_may_have_been_missed_is_not_closed() -> None:
    found = closer()
    found.add(state(START))
    found.lost()
    found.live()
    assert found.add(state(START + MINUTE)) == [state(START + MINUTE)]
    assert found.close(START + 3 * MINUTE) != []
