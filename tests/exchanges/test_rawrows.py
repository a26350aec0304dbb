"""Text into columns: exact, and nothing broken gets through."""

import contextlib
import json
import logging

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.core.errors import ProviderUnavailable
from zvt_crypto.exchanges.rawrows import SKIP, RowLayout, cut_rows

LAYOUT = RowLayout(
    {"ts": pa.int64(), "open": pa.float64(), "unused": SKIP, "count": pa.int64(), "last": pa.float64()}
)

digits = st.text("0123456789", min_size=1, max_size=25)
decimals = st.one_of(
    st.builds("{}.{}".format, st.integers(0, 10**18), digits),
    st.integers(0, 10**30).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(0, 1e-300).map(repr),
)
integers = st.integers(-(2**63), 2**63 - 1)


def read(body, layout=LAYOUT):
    """The way a body takes in the client."""
    return layout.read(*cut_rows(body))


@given(
    st.lists(st.tuples(integers, decimals, st.text(max_size=3), integers, decimals), min_size=1, max_size=4)
)
def test_numbers_are_read_exactly(rows):
    body = ",".join(f'[{ts},"{a}",{json.dumps(x)},{n},"{b}"]' for ts, a, x, n, b in rows)
    table = read(f"[{body}]")
    assert table.schema == LAYOUT.schema
    assert table["ts"].to_pylist() == [row[0] for row in rows]
    assert table["open"].to_pylist() == [float(row[1]) for row in rows]
    assert table["count"].to_pylist() == [row[3] for row in rows]
    assert table["last"].to_pylist() == [float(row[4]) for row in rows]


def test_usual_rows_are_not_decoded_as_json(caplog):
    caplog.set_level(logging.DEBUG, "zvt_crypto.exchanges.rawrows")
    assert read('[[1,"2.5","x",3,"4"],[2,"2.5","x",3,"4"]]').num_rows == 2
    assert caplog.records == []


@pytest.mark.parametrize(
    "body",
    [
        '[[1, "2.5", "x", 3, "4"], [2, "2.5", "x", 3, "4"]]',
        '[\n [\n  1,\n  "2.5",\n  "x",\n  3,\n  "4"\n ],\n [2, "2.5", "x", 3, "4"]\n]',
        '[[1,"2.5","x",3,"4","new"],[2,"2.5","x",3,"4","new"]]',
        '[[1,2.5,"x",3,"4"],[2,"2.5","x",3,"4"]]',
        '[[1,"\\u0032.5","x",3,"4"],[2,"2.5","x",3,"4"]]',
    ],
    ids=["blanks", "pretty", "a new column", "quotes differ", "escape"],
)
def test_other_forms_of_the_same_rows_are_read_too(body):
    assert read(body).equals(read('[[1,"2.5","x",3,"4"],[2,"2.5","x",3,"4"]]'))


def test_missing_values_are_null():
    table = read('[[1,"","x",null,""],[2,"","x",null,""]]')
    assert table["open"].to_pylist() == table["count"].to_pylist() == [None, None]


def test_rows_are_found_in_an_envelope():
    layout = RowLayout({"ts": pa.int64(), "open": pa.float64()}, path=("result", "list"))
    plain, spaced = (
        '{"retCode":0,"result":{"list":[[1,"2"]]}}',
        '{"retCode": 0, "result": {"list": [ [1, "2"] ]}}',
    )
    assert cut_rows(plain) == ({"retCode": 0, "result": {"list": []}}, '1,"2"')
    assert read(plain, layout).equals(read(spaced, layout))
    assert read('{"retCode":0,"result":{"list":[]}}', layout).num_rows == 0
    with pytest.raises(ProviderUnavailable, match="no rows"):
        read('{"retCode":0,"result":{}}', layout)


BODY = '{"code":"0","data":[[1,"2.5","x",3,"4"],[2,"2.5","x",3,"4"],[3,"2.5","x",3,"4"]],"msg":""}'
DATA = RowLayout(
    {
        name: None if name == "unused" else LAYOUT.schema.field(name).type
        for name in ("ts", "open", "unused", "count", "last")
    },
    path=("data",),
)


@pytest.mark.parametrize("length", range(len(BODY)))
def test_a_cut_body_is_never_read(length):
    with pytest.raises((ValueError, ProviderUnavailable)):
        read(BODY[:length], DATA)


@given(st.integers(0, len(BODY) - 1), st.sampled_from(["", *'[],"{}x']))
def test_a_lost_or_changed_mark_is_never_read_as_other_rows(position, replacement):
    body = BODY[:position] + replacement + BODY[position + 1 :]
    try:
        expected = DATA.from_lists(DATA.find(orjson.loads(body)))
    except (orjson.JSONDecodeError, ProviderUnavailable):
        # No JSON: refused, unless what is broken is only a mark beside untouched values.
        expected = read(BODY, DATA)
        with contextlib.suppress(ValueError, ProviderUnavailable):
            assert read(body, DATA).equals(expected)
    else:
        assert read(body, DATA).equals(expected)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param('1,"2","x",3', id="too short"),
        pytest.param("", id="empty row"),
        pytest.param('1,"two","x",3,"4"', id="a word"),
        pytest.param('1,"2","x",3.5,"4"', id="half a trade"),
        pytest.param('1,true,"x",3,"4"', id="a truth"),
        pytest.param('99999999999999999999,"2","x",3,"4"', id="too large"),
    ],
)
def test_rows_that_are_no_numbers_are_refused(rows):
    with pytest.raises(ProviderUnavailable):
        LAYOUT.from_text(rows)
