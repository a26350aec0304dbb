"""Row faults: wrong candles in an answer that is otherwise right.

Which rows are hit depends on the page alone, so the same question is damaged in the same way each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from zvt_crypto.sandbox.events import Array, Fundings, Trades
from zvt_crypto.sandbox.faults import Fault
from zvt_crypto.sandbox.market import Candles

#: Candles, or trades or funding events, which have no candle's columns.
Rows = Any


def damaged(rows: Rows, fault: Fault, seed: int = 0) -> Rows:
    """The rows as a row fault leaves them; ``repeat`` needs a memory and is done in ``pages``."""
    if not len(rows) or fault.kind == "empty_rows":
        return rows.take(slice(0, 0))
    rng = np.random.default_rng([seed, int(rows.ts[0]), len(rows)])
    return _DAMAGE[fault.kind](rows, fault, rng)


def _duplicate(rows: Rows, fault: Fault, rng: np.random.Generator) -> Rows:
    times = np.ones(len(rows), np.int64)
    times[_picked(rows, fault, rng)] = 2
    return rows.take(np.repeat(np.arange(len(rows)), times))


def _reorder(rows: Rows, fault: Fault, rng: np.random.Generator) -> Rows:
    order = rng.permutation(len(rows))
    # A permutation may be the identity, or be ascending again once a venue has reversed it.
    return rows.take(np.roll(np.arange(len(rows)), 1) if len(rows) < 4 else order)


def _missing(rows: Rows, fault: Fault, rng: np.random.Generator) -> Rows:
    keep = np.ones(len(rows), bool)
    keep[_picked(rows, fault, rng)] = False
    return rows.take(keep)


def _nan(rows: Rows, fault: Fault, rng: np.random.Generator) -> Rows:
    column = _column(rows, fault)
    values = getattr(rows, column).copy()
    values[_picked(rows, fault, rng)] = np.nan
    return rows.with_columns(nan_text=fault.word("text"), **{column: values})


def _negative(rows: Rows, fault: Fault, rng: np.random.Generator) -> Rows:
    column = _column(rows, fault)
    values = getattr(rows, column).copy()
    picked = _picked(rows, fault, rng)
    values[picked] = -np.maximum(values[picked], 1e-8)
    return rows.with_columns(**{column: values})


def _high_below_low(rows: Rows, fault: Fault, rng: np.random.Generator) -> Rows:
    if not isinstance(rows, Candles):
        return rows
    picked = _picked(rows, fault, rng)
    high, low = rows.high.copy(), rows.low.copy()
    # Where both are equal, an exchange of the two would change nothing.
    below = np.where(high == low, low * 0.5, low)
    high[picked], low[picked] = below[picked], rows.high[picked]
    return rows.with_columns(high=high, low=low)


def _column(rows: Rows, fault: Fault) -> str:
    """The column to hit: that of the fault, or what stands for a candle's close."""
    column = fault.word("column")
    return column if hasattr(rows, column) else _VALUE[type(rows)]


def _picked(rows: Rows, fault: Fault, rng: np.random.Generator) -> Array:
    wanted = int(fault.number("rows")) or len(rows)
    return rng.choice(len(rows), size=min(wanted, len(rows)), replace=False)


_VALUE: Final = {Candles: "close", Trades: "price", Fundings: "rate"}
_DAMAGE: Final[dict[str, Callable[[Rows, Fault, np.random.Generator], Rows]]] = {
    "duplicate": _duplicate,
    "reorder": _reorder,
    "missing": _missing,
    "nan": _nan,
    "negative": _negative,
    "high_below_low": _high_below_low,
}
