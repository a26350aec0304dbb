"""Numbers as JSON text: what is written reads back as the same float64, without an exponent."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zvt_crypto.sandbox.wire import decimal_text, json_rows, step_text

FLOATS = st.floats(min_value=1e-12, max_value=1e15)


@given(st.lists(FLOATS | st.just(0.0), min_size=1), st.none() | st.integers(0, 9))
def test_text_reads_back_equal(values: list[float], digits: int | None) -> None:
    texts = decimal_text(np.array(values), digits).to_pylist()
    assert [float(text) for text in texts] == values
    assert not any(set(text) - set("0123456789.") for text in texts)


@given(st.lists(st.integers(0, 10**15), min_size=1), st.integers(1, 8))
def test_whole_units_are_padded(units: list[int], digits: int) -> None:
    values = np.array(units) / 10.0**digits
    texts = decimal_text(values, digits).to_pylist()
    assert all(len(text.partition(".")[2]) == digits for text in texts)
    assert [int(text.replace(".", "")) for text in texts] == units


def test_more_digits_than_the_venue_writes_are_kept() -> None:
    assert decimal_text(np.array([0.09946999000000001, 1.0]), 8).to_pylist() == ["0.09946999000000001", "1"]


@pytest.mark.parametrize(
    ("digits", "padded", "text"), [(2, None, "0.01"), (0, None, "1"), (2, 8, "0.01000000")]
)
def test_steps(digits: int, padded: int | None, text: str) -> None:
    assert step_text(digits, padded) == text


@pytest.mark.parametrize("digits", [None, 2])
def test_negative_numbers(digits: int | None) -> None:
    assert decimal_text(np.array([-1.25, 2.5]), digits).to_pylist() == ["-1.25", "2.5"]


def test_no_number_is_written_as_wanted() -> None:
    assert decimal_text(np.array([np.nan, 2.5]), 8, "").to_pylist() == ["", "2.5"]


@given(st.lists(st.tuples(st.integers(0, 2**53), FLOATS), max_size=20))
def test_rows_are_json(rows: list[tuple[int, float]]) -> None:
    ts = np.array([r[0] for r in rows], np.int64)
    price = np.array([r[1] for r in rows], np.float64)
    made = json.loads(json_rows("[", decimal_text(ts), ',"', decimal_text(price), '"]'))
    assert [(a, float(b)) for a, b in made] == rows
