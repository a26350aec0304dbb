"""What a live series says is complete: never a time of which a trade is lost and not asked for."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.core.levels import DAY_MS, merge_spans, subtract_spans
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.schemas import TRADES
from zvt_crypto.exchanges.streaming import Topic
from zvt_crypto.recorders.report import Outcome
from zvt_crypto.store.writer import Entity
from zvt_crypto.stream.series import LATE_MS, Series

PAIR = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTCUSDT")
BEGIN, FAR = 1_700_000_000_000, 1 << 60


def series():
    entity = Entity("cryptopair_binance_btcusdt", "btcusdt", "BTC/USDT")
    return Series(Topic("trades", PAIR), PAIR, entity, 1, Outcome("cryptotrade", entity.entity_id))


def trades(*rows):
    """Trades of (time, id)."""
    return pa.table(
        {
            "ts": [ts for ts, _ in rows],
            "trade_id": [str(number) for _, number in rows],
            "price": [1.0] * len(rows),
            "volume": [1.0] * len(rows),
            "side": pa.nulls(len(rows), pa.string()),
            "nanosecond": pa.nulls(len(rows), pa.int64()),
        },
        TRADES,
    )


def enter(one, *rows, now=FAR, consecutive_ids=True):
    return one.enter(trades(*rows), now, consecutive_ids=consecutive_ids)


#: (ms after the trade before, ms until it arrives, whether it is lost, whether it comes twice)
FLOW = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 7, 400, 2_500]), st.integers(0, LATE_MS - 1), st.booleans(), st.booleans()
    ),
    min_size=1,
    max_size=40,
)


@given(FLOW, st.lists(st.integers(1, 9), min_size=1, max_size=40), st.booleans(), st.integers(-3_000, 3_000))
def test_a_lost_trade_is_never_entered_unless_it_is_asked_for(flow, sizes, is_begun, ahead):
    ts, arriving, lost = BEGIN, [], []
    for number, (gap, delay, is_lost, is_double) in enumerate(flow):
        ts += gap
        if is_lost:
            lost.append(ts)
        else:
            arriving += [(ts + delay, (ts, number))] * (1 + is_double)
    arriving = [row for _, row in sorted(arriving)]
    one = series()
    if is_begun:
        one.miss(BEGIN - 10_000)
    # The exchange's clock is known to some milliseconds, and the first trades may be older than the answer.
    one.went_live(BEGIN + ahead)
    fetched, complete = [], []
    for size in sizes:
        batch, arriving = arriving[:size], arriving[size:]
        if batch:
            asked, entered = enter(one, *batch)
            fetched += asked
            complete += entered
            newest = max(ts for ts, _ in batch)
            assert all(end <= newest - LATE_MS for _, end in entered)
    assert all(start < end for start, end in fetched + complete)
    only_streamed = subtract_spans(complete, fetched)
    assert not [ts for ts in lost if any(start <= ts < end for start, end in only_streamed)]
    # Between the first stretch and the last nothing is left out.
    assert len(merge_spans(fetched + complete)) <= 1


def test_what_is_complete_grows_with_the_rows():
    one = series()
    one.went_live(BEGIN)
    assert enter(one, (BEGIN + 100, 1), (BEGIN + 1_500, 2)) == ([], [(BEGIN + 101, BEGIN + 500)])
    assert enter(one, (BEGIN + 1_400, 3)) == ([], [])
    assert enter(one, (BEGIN + 9_000, 4)) == ([], [(BEGIN + 500, BEGIN + 8_000)])


def test_what_lies_between_the_answer_and_the_first_trade_is_asked_for_where_it_joins_something():
    fresh, known = series(), series()
    known.miss(BEGIN - 60_000)
    for one in (fresh, known):
        one.went_live(BEGIN)
    assert enter(fresh, (BEGIN + 100, 1))[0] == []
    assert enter(known, (BEGIN + 100, 1))[0] == [(BEGIN, BEGIN + 101)]


@pytest.mark.parametrize("early", [50_000, DAY_MS - 1, 400 * DAY_MS])
def test_from_trades_of_before_the_stream_on_all_is_fetched(early):
    one = series()
    one.went_live(BEGIN)
    fetched, complete = enter(one, (BEGIN - early, 1), (BEGIN + 3_000, 2))
    assert complete == [(BEGIN, BEGIN + 2_000)]
    # A time that cannot be must not have years fetched.
    assert fetched == [(max(BEGIN - early, BEGIN - DAY_MS), BEGIN)]


def test_a_hole_in_the_ids_is_asked_for_with_what_was_not_entered():
    one = series()
    one.went_live(BEGIN)
    enter(one, (BEGIN + 100, 10), (BEGIN + 5_000, 11))
    fetched, complete = enter(one, (BEGIN + 6_000, 12), (BEGIN + 7_000, 15), (BEGIN + 9_500, 16))
    assert fetched == [(BEGIN + 4_000, BEGIN + 7_001)]
    assert complete == [(BEGIN + 7_001, BEGIN + 8_500)]


def test_a_hole_between_two_batches():
    one = series()
    one.went_live(BEGIN)
    enter(one, (BEGIN + 100, 10), (BEGIN + 5_000, 11))
    assert enter(one, (BEGIN + 6_000, 14))[0] == [(BEGIN + 4_000, BEGIN + 6_001)]


def test_ids_that_do_not_count_are_not_looked_at():
    one = series()
    one.went_live(BEGIN)
    fetched, _ = one.enter(trades((BEGIN + 1, "7c9c1d8a"), (BEGIN + 2, "x")), FAR, consecutive_ids=False)
    assert fetched == []


def test_a_trade_from_the_future_does_not_make_the_ledger_run_ahead():
    one = series()
    one.went_live(BEGIN)
    now = BEGIN + 5_000
    assert enter(one, (BEGIN + 100, 1), (BEGIN + 10**9, 2), now=now)[1] == [(BEGIN + 101, now - LATE_MS)]


class TestLosing:
    def test_what_is_not_in_the_ledger_is_missing(self):
        one = series()
        one.went_live(BEGIN)
        enter(one, (BEGIN + 100, 1), (BEGIN + 3_000, 2))
        one.lose()
        assert (one.missing_from, one.since, one.until) == (BEGIN + 2_000, None, None)

    def test_a_stream_without_a_row_is_missing_as_a_whole(self):
        one = series()
        one.went_live(BEGIN)
        one.lose()
        assert one.missing_from == BEGIN

    def test_losing_again_keeps_the_first_time(self):
        one = series()
        one.miss(BEGIN - 5)
        one.went_live(BEGIN)
        one.lose()
        one.lose()
        assert one.missing_from == BEGIN - 5
        assert one.lost_at is not None

    def test_rows_of_a_lost_stream_enter_nothing(self):
        one = series()
        assert enter(one, (BEGIN, 1), (BEGIN + 9_000, 5)) == ([], [])

    def test_ids_begin_anew_with_the_next_stream(self):
        one = series()
        one.went_live(BEGIN)
        enter(one, (BEGIN + 100, 1))
        one.lose()
        one.went_live(BEGIN + 60_000)
        fetched, _ = enter(one, (BEGIN + 61_000, 900), (BEGIN + 61_001, 901))
        assert fetched == [(BEGIN + 60_000, BEGIN + 61_001)]
