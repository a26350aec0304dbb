from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.core.levels import MINUTE_MS
from zvt_crypto.quality.gaps import ABSENT, KINDS, UNCONFIRMED, UNRECORDED, find_gaps

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
