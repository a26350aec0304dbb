"""Columns of numbers to the JSON text that venues send: decimal notation, never an exponent."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.sandbox.market import Array

_EXACT: Final = 2.0**53


def decimal_text(values: Array, digits: int | None = None, nan_text: str = "NaN") -> pa.Array:
    """Each number as text that reads back as the same float64.

    Args:
        values: Integers or floats.
        digits: Write so many decimal digits, as venues that pad do; where that would change a value of the
            column, and where it is None, the shortest text that reads back equal is written instead.
        nan_text: Text of a value that is no number.
    """
    if values.dtype.kind == "i":
        return pa.array(values).cast(pa.string())
    if digits is not None and _fits(values, digits):
        return _fixed(values, digits)
    text = pa.array(values).cast(pa.string())
    bad = np.isnan(values)
    if pc.any(pc.match_substring(text, "e")).as_py() or bad.any():
        text = pa.array([_positional(v, nan_text) for v in values.tolist()], pa.string())
    return text


def json_rows(*parts: str | pa.Array) -> bytes:
    """A JSON array of rows; a row is the parts joined, columns giving one text for each row."""
    joined = pc.binary_join_element_wise(*parts[:-1], f"{parts[-1]},", "")
    count = len(joined)
    if not count:
        return b"[]"
    _, offsets, data = joined.buffers()
    bounds = np.frombuffer(offsets, np.int32, count + 1, joined.offset * 4)
    start, stop = int(bounds[0]), int(bounds[count]) - 1
    rows: bytes = data.slice(start, stop - start).to_pybytes()
    return b"[" + rows + b"]"


def step_text(digits: int, padded: int | None = None) -> str:
    """The smallest step of a number with so many decimal digits, such as ``0.01``, padded if wanted."""
    return f"{10.0**-digits:.{max(digits, padded or 0)}f}"


def _fits(values: Array, digits: int) -> bool:
    units = np.rint(values * 10.0**digits)
    return bool(np.all((np.abs(units) < _EXACT) & (units >= 0) & (units / 10.0**digits == values)))


def _fixed(values: Array, digits: int) -> pa.Array:
    units = np.rint(values * 10.0**digits).astype(np.int64)
    if digits == 0:
        return pa.array(units).cast(pa.string())
    whole, rest = (pa.array(part).cast(pa.string()) for part in np.divmod(units, 10**digits))
    return pc.binary_join_element_wise(whole, pc.utf8_lpad(rest, digits, "0"), ".")


def _positional(value: Any, nan_text: str) -> str:
    return nan_text if np.isnan(value) else str(np.format_float_positional(value, trim="-"))
