"""Entries of the schedule: what is allowed, what is due when, and what a wrong one is told."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.core.config import load_settings
from zvt_crypto.core.errors import ConfigError
from zvt_crypto.core.levels import iso, parse_time
from zvt_crypto.core.schedules import Cadence, ScheduleEntry

GOOD = {"name": "candles", "provider": "okx", "codes": ["btcusdt"]}
NOON = parse_time("2024-03-01T12:00:00Z")


@pytest.fixture
def config(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    monkeypatch.setenv("ZVT_CRYPTO_CONFIG", str(path))
    return path


def entry(**values):
    return ScheduleEntry.model_validate({**GOOD, **values})


def error_of(config, text):
    config.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    line = caught.value.one_line()
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("values", "when", "due"),
    [
        ({}, "close", "2024-03-01T12:00:05Z"),
        ({"levels": ["4h", "1h"]}, "close", "2024-03-01T12:00:05Z"),
        ({"levels": ["1h"], "funding": True, "delay_seconds": 20}, "close", "2024-03-01T12:00:20Z"),
        ({"funding": True}, "funding", "2024-03-01T12:05:05Z"),
        ({"trades": True}, "5m", "2024-03-01T12:00:05Z"),
        ({"orderbooks": True, "every": "90s"}, "90s", "2024-03-01T12:00:05Z"),
        ({"every": "1h", "delay_seconds": 0}, "1h", "2024-03-01T13:00:00Z"),
        ({"every": "daily 03:30"}, "daily 03:30", "2024-03-02T03:30:00Z"),
        ({"repair": True}, "daily 03:30", "2024-03-02T03:30:00Z"),
        ({"entities": True, "codes": []}, "daily 00:10", "2024-03-02T00:10:00Z"),
    ],
)
def test_when_an_entry_is_due(values, when, due):
    made = entry(**values)
    assert made.when == when
    assert iso(made.cadence.next(NOON)) == due


@given(
    st.integers(1, 400 * 86_400_000),
    st.integers(0, 400 * 86_400_000),
    st.integers(0, 4_000_000_000_000),
)
def test_a_cadence_is_a_grid(step, offset, now):
    cadence = Cadence(step, offset)
    last, due = cadence.last(now), cadence.next(now)
    assert last <= now < due
    assert due - last == step
    assert (last - offset) % step == 0
    assert cadence.next(last) == due


def test_what_is_recorded_and_how_far_back_by_default():
    assert (entry().candle_levels, entry().days_back) == (("1m",), 2)
    assert entry(trades=True).candle_levels == ()
    assert (entry(repair=True).candle_levels, entry(repair=True).days_back) == ((), None)
    assert entry(repair=True, codes=[]).kind == "repair"
    assert entry(repair=True, days=7).days_back == 7


def test_lists_may_be_written_as_on_the_command_line():
    assert entry(codes="btcusdt, ethusdt", levels="1m,1h").codes == ("btcusdt", "ethusdt")


def test_entries_are_read_from_the_file_and_from_the_environment(config, monkeypatch):
    assert load_settings().schedule == ()
    config.write_text('[[schedule]]\nname = "all"\nprovider = "okx"\nall = true\nperps = true\n')
    (read,) = load_settings().schedule
    assert (read.name, read.all_markets, read.perps) == ("all", True, True)
    monkeypatch.setenv("ZVT_CRYPTO_SCHEDULE", '[{"name": "e", "provider": "okx", "entities": true}]')
    assert [read.name for read in load_settings().schedule] == ["e"]


def test_an_entry_made_in_python_is_taken_as_it_is(config):
    made = entry()
    assert load_settings(schedule=(made,)).schedule == (made,)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('every = "5 parsecs"', ("'5 parsecs'", '"close"', '"15m"', "daily 03:30")),
        ('every = "0s"', ("'0s'",)),
        ('every = "9999d"', ("'9999d'",)),
        ('every = "daily 24:00"', ("daily 24:00",)),
        ('every = "close"\ntrades = true', ("needs levels",)),
        ('levels = ["2m"]', ("levels", "'2m'", "1m, ")),
        ("evry = 1", ("'evry'", "did you mean every")),
        ("days = 0", ("days = 0", "greater than or equal to 1")),
        ("delay_seconds = -1", ("delay_seconds = -1",)),
        ('trades = "perhaps"', ("trades = 'perhaps'",)),
        ("all = true", ("codes", "exclude")),
        ("entities = true", ("entities", "without codes")),
        ("repair = true\norderbooks = true", ("repair", "without orderbooks")),
    ],
)
def test_a_wrong_entry_is_named_with_its_value_and_what_is_allowed(config, lines, words):
    text = f'[[schedule]]\nname = "candles"\nprovider = "okx"\ncodes = ["btcusdt"]\n{lines}\n'
    line = error_of(config, text)
    assert line.startswith("schedule entry 'candles': ")
    assert str(config) in line
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[schedule]]\nprovider = "okx"\nall = true\n', "entry number 1: name is missing"),
        ('[[schedule]]\nname = "a"\nprovider = "okx"\n', "no markets are named"),
        ('[[schedule]]\nname = ""\nprovider = "okx"\nall = true\n', "number 1: name = ''"),
        ('[[schedule]]\nname = "a\\nb"\nprovider = "okx"\nall = true\n', "one line"),
        ('[schedule]\nname = "a"\n', "[[schedule]]"),
        ("schedule = [1]\n", "entry number 1"),
        (
            '[[schedule]]\nname = "a"\nprovider = "okx"\nall = true\n' * 2,
            "two schedule entries are called 'a'",
        ),
    ],
)
def test_what_is_no_entry_at_all(config, text, words):
    assert words in error_of(config, text)


def test_times_of_a_day_are_utc():
    due = entry(every="daily 3:30").cadence.next(NOON)
    assert dt.datetime.fromtimestamp(due / 1000, dt.timezone.utc).strftime("%H:%M") == "03:30"
