"""Windows out of pages, whatever the venue's page size and order; no network."""

import asyncio

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.core.errors import DataQualityFailure
from zvt_crypto.core.levels import DAY_MS, parse_time
from zvt_crypto.exchanges.paging import fetch_window, find_first

STEP = 60_000


class History:
    """A market's rows in memory, answered in pages as venues do."""

    def __init__(self, times, cap=10**6, newest=False, spoil=lambda times: times):
        self.times, self.cap, self.newest, self.spoil = sorted(times), cap, newest, spoil
        self.asked = []

    async def page(self, start, end):
        self.asked.append((start, end))
        times = [t for t in self.times if start <= t < end]
        times = times[-self.cap :][::-1] if self.newest else times[: self.cap]
        times = self.spoil(times)
        return pa.table({"ts": pa.array(times, pa.int64()), "open": pa.array(times, pa.float64())})


def window(history, start, end):
    return asyncio.run(fetch_window(history.page, start, end, STEP))


@given(
    st.sets(st.integers(0, 39)), st.integers(1, 50), st.booleans(), st.integers(0, 20), st.integers(21, 40)
)
def test_every_row_of_the_window_arrives_once(present, cap, newest, first, stop):
    history = History([n * STEP for n in present], cap, newest)
    found = window(history, first * STEP, stop * STEP)
    assert sorted(found.batch["ts"].to_pylist()) == [n * STEP for n in sorted(present) if first <= n < stop]
    assert found.empty_confirmed == (found.batch.num_rows == 0)
    assert found.requests == len(history.asked) <= 3 * (stop - first)


def test_a_full_page_costs_one_request():
    assert window(History(range(0, 10 * STEP, STEP)), 0, 10 * STEP).requests == 1


def test_an_empty_answer_is_believed_the_second_time():
    history = History([])
    found = window(history, 0, 10 * STEP)
    assert (found.empty_confirmed, found.requests, history.asked) == (True, 2, [(0, 10 * STEP)] * 2)


def test_an_answer_that_was_empty_by_mistake_is_not_believed():
    answers = [[], [0, STEP]]
    history = History([0, STEP], spoil=lambda times: answers.pop(0))
    found = window(history, 0, 2 * STEP)
    assert (found.batch["ts"].to_pylist(), found.empty_confirmed) == ([0, STEP], False)


def test_rows_outside_the_window_vanish():
    unfinished = History([0, STEP], spoil=lambda times: [-STEP, *times, 2 * STEP])
    assert window(unfinished, 0, 2 * STEP).batch["ts"].to_pylist() == [0, STEP]


def test_a_repeated_page_ends_with_a_clear_error():
    history = History(range(0, 10 * STEP, STEP), spoil=lambda times: [0, STEP])
    with pytest.raises(DataQualityFailure, match="same page again") as caught:
        window(history, 0, 10 * STEP)
    assert len(history.asked) == 2
    assert "1970-01-01T00:02:00Z" in caught.value.message


END = parse_time("2024-06-01")


@given(
    st.integers(1, 4000),
    st.integers(0, 3000),
    st.sampled_from([100, 300, 1000]),
    st.sets(st.integers(0, 3000), max_size=30),
    st.booleans(),
)
def test_the_listing_is_found_past_gaps_and_after_a_delisting(age, delisted_for, width, gaps, newest):
    days = [n for n in range(delisted_for, delisted_for + age) if n not in gaps and n < 5000]
    history = History([END - (n + 1) * DAY_MS for n in days], width, newest)
    first = asyncio.run(find_first(history.page, END, DAY_MS, width))
    assert first == (history.times[0] if history.times else None)


def test_a_market_without_rows_has_no_listing_and_ends_the_search():
    history = History([])
    assert asyncio.run(find_first(history.page, END, DAY_MS, 1000)) is None
    assert min(start for start, _ in history.asked) == parse_time("2010-01-01")
