import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.core import levels
from zvt_crypto.core.errors import InvalidArgument

SPAN = st.tuples(st.integers(0, 60), st.integers(0, 60))


def times(spans):
    return {t for start, end in spans for t in range(start, end)}


@given(st.lists(SPAN))
def test_merge_keeps_the_same_times_in_the_fewest_spans(spans):
    merged = levels.merge_spans(spans)
    assert times(merged) == times(spans)
    assert all(a[1] < b[0] for a, b in zip(merged, merged[1:], strict=False))


@given(st.lists(SPAN), st.lists(SPAN))
def test_subtract_is_set_difference(wanted, covered):
    assert times(levels.subtract_spans(wanted, covered)) == times(wanted) - times(covered)


@given(st.lists(SPAN), st.integers(1, 7))
def test_windows_cover_the_spans_once(spans, width):
    windows = levels.spans_to_windows(levels.merge_spans(spans), width)
    assert sum(end - start for start, end in windows) == len(times(spans))
    assert times(windows) == times(spans)
    assert all(0 < end - start <= width for start, end in windows)


@given(st.integers(0, 2_000_000_000_000), st.sampled_from(sorted(levels.LEVEL_MS)))
def test_floor_and_ceil_enclose_the_time(ts, level):
    step = levels.level_ms(level)
    assert levels.floor_ms(ts, step) <= ts <= levels.ceil_ms(ts, step)
    assert levels.floor_ms(ts, step) % step == levels.ceil_ms(ts, step) % step == 0
    assert levels.ceil_ms(ts, step) - levels.floor_ms(ts, step) in (0, step)


@given(st.integers(0, 4_000_000_000_000))
def test_iso_text_parses_to_the_same_time(ts):
    assert levels.parse_time(levels.iso(ts)) == ts


@pytest.mark.parametrize(
    "value",
    [
        "2024-06-01",
        "20240601",
        "2024-06-01T00:00:00Z",
        "2024-06-01 00:00",
        "2024-06-01T02:00:00+02:00",
        "1717200000000",
        1717200000000,
        dt.date(2024, 6, 1),
        dt.datetime(2024, 6, 1),
        dt.datetime(2024, 6, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))),
    ],
    ids=repr,
)
def test_every_notation_of_a_time_means_the_same(value):
    assert levels.parse_time(value) == 1717200000000


@pytest.mark.parametrize(
    "value", ["", "yesterday", "2024-13-01", "24", None, True, -1, 1e9, "9999-01-01"], ids=repr
)
def test_what_is_no_time_is_refused_with_its_name_and_value(value):
    with pytest.raises(InvalidArgument, match="start_timestamp") as caught:
        levels.parse_time(value, name="start_timestamp")
    assert repr(value) in str(caught.value) and "20240131" in caught.value.one_line()


def test_a_candle_is_finished_one_step_after_it_opened():
    assert levels.finished_end(60_000 * 5 + 59_999, 60_000) == 60_000 * 5
    assert levels.finished_end(60_000 * 6, 60_000) == 60_000 * 6


def test_unknown_level_names_the_allowed_ones():
    with pytest.raises(InvalidArgument, match="'2m'") as caught:
        levels.level_ms("2m")
    assert "1m" in caught.value.one_line()
