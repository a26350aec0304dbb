"""Doubles that stand for decimals, as venues send them, and the integers behind them."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

#: Powers of ten up to this one, and integers below 2**53, make ``value * scale`` and its way back exact.
MAX_DIGITS: Final = 15
EXACT: Final = float(1 << 53)

Floats = npt.NDArray[np.float64]


def to_integers(values: Floats, scale: float | Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """The integers that values become by a power of ten.

    Args:
        values: float64 of any shape, without NaN.
        scale: A power of ten up to ``10**MAX_DIGITS``, or one for each value.

    Returns:
        The integers, as float64, and where they are exact: ``integer / scale`` is the value to the bit.
    """
    integers = np.rint(values * scale)
    is_exact: npt.NDArray[np.bool_] = (np.abs(integers) < EXACT) & (integers / scale == values)
    return integers, is_exact
