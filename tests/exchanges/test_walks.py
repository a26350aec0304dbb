"""Feeds out of pages, forward and back in time, whatever the page's size and its cuts; no network."""

import asyncio

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.core.errors import DataQualityFailure
from zvt_crypto.exchanges.paging import newest_page, walk_down, walk_up

#: Many rows in few milliseconds, so that pages are cut inside of one.
TIMES = st.lists(st.integers(1000, 1020), max_size=40).map(sorted)
BOUNDS = st.tuples(st.integers(990, 1025), st.integers(1, 30)).map(lambda b: (b[0], b[0] + b[1]))


def table(rows):
    return pa.table(
        {"ts": pa.array([ts for ts, _ in rows], pa.int64()), "id": [number for _, number in rows]}
    )


def collected(walk):
    async def main():
        return [part async for part in walk]

    return asyncio.run(main())


class Venue:
    """Rows in memory, asked for from a time on (or before it) and then by id."""

    def __init__(self, times, size, rng=None, empty_at=None):
        self.rows = [(ts, number) for number, ts in enumerate(times)]
        self.size, self.rng, self.empty_at = size, rng, empty_at
        self.requests = 0

    def answer(self, rows):
        self.requests += 1
        if self.requests == self.empty_at:
            rows = []
        if self.rng:
            rows = rows + self.rng.sample(rows, len(rows) // 2)
            self.rng.shuffle(rows)
        return table(rows)

    async def up(self, cursor):
        kind, value = cursor
        page = self.answer([row for row in self.rows if row[kind] >= value][: self.size])
        return page, (1, max(page["id"].to_pylist()) + 1) if page.num_rows else None

    async def down(self, cursor):
        kind, value = cursor
        page = self.answer([row for row in self.rows if row[kind] < value][-self.size :])
        return page, (1, min(page["id"].to_pylist())) if page.num_rows else None

    def wanted(self, start, stop):
        return {row for row in self.rows if start <= row[0] < stop}


def assert_complete(parts, venue, start, end):
    """All rows are there, each stretch's as soon as its part is; the stretches make up the whole."""
    seen = set()
    for part in parts:
        seen |= set(zip(part.rows["ts"].to_pylist(), part.rows["id"].to_pylist(), strict=True))
        assert venue.wanted(part.start, part.stop) <= seen
    assert seen == venue.wanted(start, end)
    found = sorted((part.start, part.stop) for part in parts if part.start != part.stop)
    assert (found[0][0], found[-1][1]) == (start, end)
    assert all(stop == begin for (_, stop), (begin, _) in zip(found, found[1:], strict=False))
    assert sum(part.requests for part in parts) == venue.requests


@given(TIMES, BOUNDS, st.integers(1, 9), st.none() | st.integers(1, 5), st.none() | st.randoms())
def test_up(times, bounds, size, empty_at, rng):
    start, end = bounds
    venue = Venue(times, size, rng, empty_at)
    assert_complete(collected(walk_up(venue.up, (0, start), start, end)), venue, start, end)


@given(TIMES, BOUNDS, st.integers(1, 9), st.none() | st.integers(1, 5), st.none() | st.randoms())
def test_down(times, bounds, size, empty_at, rng):
    start, end = bounds
    venue = Venue(times, size, rng, empty_at)
    assert_complete(collected(walk_down(venue.down, (0, end), start, end)), venue, start, end)


@given(TIMES, BOUNDS, st.integers(1, 9))
def test_down_from_rows_after_the_end(times, bounds, size):
    """Where a venue only starts at what is newest."""
    start, end = bounds
    venue = Venue(times, size)
    assert_complete(collected(walk_down(venue.down, (1, 10**6), start, end)), venue, start, end)


@given(TIMES, BOUNDS, st.integers(1, 9))
def test_the_newest_page(times, bounds, size):
    start, end = bounds
    venue = Venue(times, size)
    part = newest_page(table(venue.rows[-size:]), start, end)
    assert start <= part.start <= part.stop == end
    got = set(zip(part.rows["ts"].to_pylist(), part.rows["id"].to_pylist(), strict=True))
    assert venue.wanted(part.start, part.stop) <= got <= venue.wanted(start, end)
    if not times:
        assert part.start == end


@pytest.mark.parametrize(("walk", "page"), [(walk_up, [1000, 1005]), (walk_down, [1095, 1099])])
@pytest.mark.parametrize("cursors", [["same"], ["one", "other"]])
def test_a_page_that_comes_again_ends_the_walk(walk, page, cursors):
    """Also where cursors go to and fro, as those that a filter depends on may."""
    asked = []

    async def ask(cursor):
        asked.append(cursor)
        assert len(asked) < 10
        rows = page if len(asked) % 2 else page[1:] if walk is walk_down else page[:1]
        return table([(ts, ts) for ts in rows]), cursors[len(asked) % len(cursors)]

    with pytest.raises(DataQualityFailure, match="same page again"):
        collected(walk(ask, "first", 1000, 1100))
