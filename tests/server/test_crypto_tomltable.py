"""One table of a TOML text changes, and nothing else does."""

import importlib
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from zvt_crypto.core.errors import ConfigError
from zvt_crypto.server.tomltable import with_values

tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

TABLE = ("exchange", "okx")
TEXT = """\
# what the house records
concurrency = 4  # all of them
admin_token = "a [exchange.okx] secret"

[exchange.binance]
concurrency = 2
# okx is slow today

[exchange.okx]  # slow
# since Monday
timeout_seconds = 30   # seconds
concurrency=3

# candles
[[schedule]]
name = "candles"
"""


def changed(text, **values):
    return with_values(text, TABLE, values, "config.toml")


def test_a_value_changes_where_it_is():
    assert changed(TEXT, timeout_seconds=12.5) == TEXT.replace("= 30   #", "= 12.5   #")


def test_a_value_is_added_to_its_table():
    assert changed(TEXT, enabled=False) == TEXT.replace("concurrency=3\n", "concurrency=3\nenabled = false\n")


def test_a_value_is_taken_out():
    assert changed(TEXT, concurrency=None) == TEXT.replace("concurrency=3\n", "")
    assert changed(TEXT, rate_limit=None) == TEXT


def test_a_table_is_added():
    assert changed("", concurrency=1) == "[exchange.okx]\nconcurrency = 1\n"
    assert changed("a = 1", concurrency=1) == "a = 1\n\n[exchange.okx]\nconcurrency = 1\n"


def test_windows_line_ends_stay():
    assert changed("a = 1\r\n", concurrency=1) == "a = 1\r\n\r\n[exchange.okx]\r\nconcurrency = 1\r\n"


@pytest.mark.parametrize(
    "text",
    [
        "exchange = { okx = { concurrency = 1 } }\n",
        "exchange.okx.concurrency = 1\n",
        "[exchange]\nokx.concurrency = 1\n",
        'note = """\n[exchange.okx]\nconcurrency = 1\n"""\n',
        "[exchange.okx]\n'concurrency' = 1\n",
        "exchange = 3\n",
        "[exchange]\nokx = 3\n",
        "a = \n",
    ],
)
def test_another_notation_is_refused(text):
    with pytest.raises(ConfigError):
        changed(text, concurrency=2)


keys = st.sampled_from(["enabled", "concurrency", "timeout_seconds", "rate_limit"])
values = st.one_of(st.booleans(), st.integers(1, 64), st.floats(0.001, 600))
headers = st.sampled_from(["[exchange.okx]", "[exchange.binance]", "[[schedule]]", "[ exchange . okx ] # x"])
lines = st.one_of(
    headers,
    st.builds("{} = {}  # {}".format, keys, st.integers(1, 9), st.text("abc#=[] ", max_size=8)),
    st.builds("# {}".format, st.text("abc#=[] ", max_size=8)),
    st.just(""),
    st.just("text = '''"),
    st.just("'''"),
)


@given(st.lists(lines, max_size=20), st.dictionaries(keys, st.none() | values, min_size=1))
def test_whatever_the_file_it_says_the_same_but_for_the_table(rows, given_values):
    text = "\n".join(rows)
    try:
        before = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assume(False)
    try:
        after_text = changed(text, **given_values)
    except ConfigError:
        assume(False)
    after = tomllib.loads(after_text)
    wanted = {**before.get("exchange", {}).get("okx", {}), **given_values}
    assert after["exchange"].pop("okx") == {key: value for key, value in wanted.items() if value is not None}
    before.setdefault("exchange", {}).pop("okx", None)
    assert after == before
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        line for line in after_text.splitlines() if line.startswith("#")
    ]
    assert changed(after_text, **given_values) == after_text
