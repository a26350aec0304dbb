from __future__ import annotations

import datetime as dt
import math
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zvt_crypto.server.rowjson import json_rows

_INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(
    ['"', "\\", "\n", "\x00", "\x1f", "\x7f", "é", "\u2028", "𝄞", "{", "},{"]
)
_TIMES = st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2099, 12, 31)).map(
    lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000)
)
KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "text": (pa.string(), _TEXT),
    "same": (pa.string(), st.just('a"b')),
    "number": (pa.float64(), st.floats(width=64)),
    "count": (pa.int64(), _INT64),
    "flag": (pa.bool_(), st.booleans()),
    "time": (pa.timestamp("ms"), _TIMES),
}


def expected(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dt.datetime):
        return value.isoformat(timespec="milliseconds" if value.microsecond else "seconds") + "Z"
    return value


def plain(rows: pa.Table) -> list[dict[str, Any]]:
    return [{name: expected(value) for name, value in row.items()} for row in rows.to_pylist()]


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=8))
    count = draw(st.integers(0, 6))
    columns = []
    for kind in kinds:
        dtype, values = KINDS[kind]
        nullable = draw(st.booleans())
        filled = draw(st.lists(st.none() | values if nullable else values, min_size=count, max_size=count))
        columns.append(pa.array(filled, dtype))
    names = draw(st.lists(_TEXT, min_size=len(kinds), max_size=len(kinds), unique=True))
    rows = pa.table(columns, names=names)
    # As they come from the store: in several chunks, of which some begin within their buffers.
    cut = draw(st.integers(0, count))
    return pa.concat_tables([rows.slice(0, cut), rows.slice(cut)])


@settings(deadline=None, max_examples=300)
@given(tables())
def test_rows_are_what_orjson_makes_of_them(rows: pa.Table) -> None:
    assert orjson.loads(b"[" + json_rows(rows) + b"]") == plain(rows)


@settings(deadline=None, max_examples=50)
@given(tables())
def test_each_line_is_one_row(rows: pa.Table) -> None:
    text = json_rows(rows, separator="\n")
    assert [orjson.loads(line) for line in text.split(b"\n") if line] == plain(rows)


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_come_back_bit_for_bit(numbers: list[float]) -> None:
    found = orjson.loads(b"[" + json_rows(pa.table({"number": numbers})) + b"]")
    assert [float(row["number"]).hex() for row in found] == [number.hex() for number in numbers]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_separators_stand_between_rows_only(count: int) -> None:
    rows = pa.table({"a": pa.array(range(count), pa.int64())})
    assert json_rows(rows) == b",".join(b'{"a":%d}' % i for i in range(count))
