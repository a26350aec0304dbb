from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.core.levels import MINUTE_MS
from zvt_crypto.quality.gaps import (
    ABSENT,
    AFTER_DELISTING,
    BEFORE_LISTING,
    CONTRADICTED,
    KINDS,
    OUTAGE,
    UNCONFIRMED,
    UNRECORDED,
    cut,
    find_gaps,
    find_missing_events,
    marked,
    within_life,
)

STEP = MINUTE_MS
positions = st.integers(0, 40)
spans = st.lists(st.tuples(positions, positions).map(sorted), max_size=5)


def times(*minutes: int) -> np.ndarray:
    return np.array(minutes, np.int64) * STEP


def scaled(found: list[list[int]]) -> list[tuple[int, int]]:
    return [(lower * STEP, upper * STEP) for lower, upper in found]


def test_complete_series_has_no_gap():
    assert len(find_gaps(times(0, 1, 2, 3), STEP, [(0, 4 * STEP)], 0, 4 * STEP)) == 0


def test_kinds_follow_what_was_answered():
    gaps = find_gaps(times(2, 5, 9), STEP, [(0, 7 * STEP)], 0, 11 * STEP, empty_once=[(7 * STEP, 8 * STEP)])
    assert [(g["start"] // STEP, g["end"] // STEP, g["missing"], g["kind"]) for g in gaps.to_list()] == [
        (0, 2, 2, ABSENT),
        (3, 5, 2, ABSENT),
        (6, 7, 1, ABSENT),
        (7, 8, 1, UNCONFIRMED),
        (8, 9, 1, UNRECORDED),
        (10, 11, 1, UNRECORDED),
    ]
    assert gaps.count(ABSENT) == 3
    assert gaps.missing_in(UNRECORDED, UNCONFIRMED) == 3


def test_empty_series_is_one_gap():
    gaps = find_gaps(times(), STEP, [], 3 * STEP, 7 * STEP)
    assert gaps.to_list() == [
        {"start": 3 * STEP, "end": 7 * STEP, "missing": 4, "kind": UNRECORDED},
    ]


def test_range_off_the_grid_counts_candles_that_open_inside():
    gaps = find_gaps(times(), STEP, [(1, 3 * STEP + 1)], STEP - 1, 4 * STEP + 1)
    assert [(g["start"] // STEP, g["end"] // STEP, g["kind"]) for g in gaps.to_list()] == [
        (1, 4, ABSENT),
        (4, 5, UNRECORDED),
    ]


@given(st.sets(positions), spans, spans, positions, positions)
def test_equals_a_minute_by_minute_look(present, answered, empty, start, end):
    gaps = find_gaps(times(*sorted(present)), STEP, scaled(answered), start * STEP, end * STEP, scaled(empty))
    found = {
        minute: KINDS[code]
        for lower, upper, code in zip(gaps.start, gaps.end, gaps.kind_code, strict=True)
        for minute in range(lower // STEP, upper // STEP)
    }

    def inside(minute, among):
        return any(lower <= minute < upper for lower, upper in among)

    def kind(minute):
        if inside(minute, answered):
            return ABSENT
        return UNCONFIRMED if inside(minute, empty) else UNRECORDED

    assert found == {m: kind(m) for m in range(start, end) if m not in present}
    assert gaps.missing.sum() == len(found)
    touching = gaps.start[1:] == gaps.end[:-1]
    assert not np.any(touching & (gaps.kind_code[1:] == gaps.kind_code[:-1])), "neighbours of a kind are one"


def test_a_million_candles_take_no_loop():
    ts = np.arange(1_000_000, dtype=np.int64) * STEP
    gaps = find_gaps(np.delete(ts, slice(10, 999_990, 7)), STEP, [(0, ts[500_000])], 0, 1_000_000 * STEP)
    assert gaps.missing.sum() == len(range(10, 999_990, 7))


HOUR = 60 * MINUTE_MS


def hours(*numbers: float) -> np.ndarray:
    return np.array([round(number * HOUR) for number in numbers], np.int64)


ALWAYS = [(0, 1 << 60)]


@pytest.mark.parametrize(
    ("times", "said", "found"),
    [
        ((0, 8, 16, 24), None, []),
        ((0, 8, 24, 32), None, [(16, 24, 1)]),
        ((0, 8, 40, 48), None, [(16, 40, 3)]),
        ((0, 8, 16, 20, 24, 28), None, []),
        ((0, 4, 8, 16, 24, 32), None, []),
        ((0, 8, 16, 17, 18, 20, 21, 22), None, [(19, 20, 1)]),
        ((0, 8, 24, 32, 48, 56), None, [(16, 24, 1), (40, 48, 1)]),
        ((0, 16, 24, 32), None, [(8, 16, 1)]),
        ((0, 8.001, 24, 32.002), None, [(16.001, 24.001, 1)]),
        ((0, 8), None, []),
        ((0,), None, []),
        ((0, 16), (np.nan, 8.0), [(8, 16, 1)]),
        ((0, 8, 16), (np.nan, 8.0, 4.0), [(12, 16, 1)]),
    ],
)
def test_missing_funding_events_follow_from_their_neighbours(times, said, found):
    gaps = find_missing_events(hours(*times), ALWAYS, None if said is None else np.array(said))
    hours_of = [(start / HOUR, end / HOUR) for start, end in gaps.spans()]
    assert hours_of == [
        (pytest.approx(start, abs=0.01), pytest.approx(end, abs=0.01)) for start, end, _ in found
    ]
    assert gaps.missing.tolist() == [count for _, _, count in found]


def test_a_missing_funding_event_is_of_the_kind_that_the_ledger_tells():
    events = hours(0, 8, 24, 32, 48, 56, 72, 80)
    said = np.array([np.nan, 8, 16, 8, 8, 8, 16, 8])
    gaps = find_missing_events(events, [(0, 50 * HOUR)], said, empty_once=[(50 * HOUR, 90 * HOUR)])
    assert [gap["kind"] for gap in gaps.to_list()] == [ABSENT, CONTRADICTED, UNCONFIRMED]
    assert [gap["kind"] for gap in find_missing_events(events, [], None).to_list()] == [UNRECORDED] * 3


def test_the_life_of_a_market_cuts_its_gaps():
    gaps = find_gaps(times(10, 11), STEP, [(0, 20 * STEP)], 0, 20 * STEP)
    living = within_life(gaps, 5 * STEP - 1, 15 * STEP + 1)
    assert [(g["start"] // STEP, g["end"] // STEP, g["kind"]) for g in living.to_list()] == [
        (0, 5, BEFORE_LISTING),
        (5, 10, ABSENT),
        (12, 16, ABSENT),
        (16, 20, AFTER_DELISTING),
    ]
    assert within_life(gaps, None, None) is gaps


@given(st.sets(positions), spans, positions, positions, st.sets(positions))
def test_cuts_and_marks_change_no_candle(present, answered, lower, upper, edges):
    gaps = find_gaps(times(*sorted(present)), STEP, scaled(answered), 0, 41 * STEP)
    parted = cut(gaps, times(*sorted(edges)))
    assert parted.opens().tolist() == gaps.opens().tolist()
    assert (
        np.repeat(parted.kind_code, parted.missing).tolist()
        == np.repeat(gaps.kind_code, gaps.missing).tolist()
    )
    assert not any(start < edge * STEP < end for start, end in parted.spans() for edge in edges)
    lower, upper = sorted((lower, upper))
    painted = marked(gaps, times(lower), times(upper), OUTAGE)
    kinds = dict(zip(painted.opens().tolist(), np.repeat(painted.kind_code, painted.missing), strict=True))
    before = dict(zip(gaps.opens().tolist(), np.repeat(gaps.kind_code, gaps.missing), strict=True))
    assert kinds == {
        ts: KINDS.index(OUTAGE) if lower * STEP <= ts < upper * STEP else code for ts, code in before.items()
    }
