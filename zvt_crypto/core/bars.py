"""Coarser candles from finer ones, and candles for the stretches in which nothing was traded.

Pure functions over the rows of one entity: a table with ``ts`` (int64, epoch ms, ascending and unique) and
stored columns of its spec, or some of them. How a column takes part is said by ``Column.bar``.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.decimals import EXACT, MAX_DIGITS, Floats, to_integers
from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.core.levels import LEVEL_MS, ceil_ms, level_ms
from zvt_crypto.core.tables import TableSpec

Integers = npt.NDArray[np.int64]

_REDUCE: Final[dict[str, np.ufunc]] = {"max": np.maximum, "min": np.minimum, "sum": np.add}
#: Limits of a bar's integers and of their sum, in the order in which they are tried. The largest scale below
#: them need not be searched: below 2**51 the integers of a scale that is exact, with zeros put to them, are
#: those of every larger one, and what has more digits is left with one scale that may be exact.
_LIMITS: Final = ((EXACT / 4, EXACT), (EXACT, EXACT), (EXACT / 4, 2.0**62), (EXACT, 2.0**62))
_POWERS: Final = np.array([float(10**digits) for digits in range(MAX_DIGITS + 1)])


def resample(spec: TableSpec, rows: pa.Table, step: int, known_end: int) -> pa.Table:
    """The candles of a coarser level that rows add up to; a bar without any row is left out.

    A sum is that of the decimals which the values stand for, rounded once: 0.1 and 0.2 make 0.3. Where no
    power of ten up to 10**15 makes exact integers of a bar's values, or their sum reaches 2**62, it is the
    correctly rounded sum of the doubles. Either way a bar depends on no other bar's rows.

    A sum, maximum or minimum over a NULL is NULL: what is partly unknown is unknown, and a sum of the rest
    would pass for the whole. The first and last value are those of the first and last row, NULL or not.

    Args:
        spec: The table of the finer candles.
        rows: Its rows of one entity, see the module.
        step: Length of the bars in ms; the grid starts at the epoch.
        known_end: End (exclusive, ms) of the time up to which the rows are known. Rows that open at it or
            later enter no bar.

    Returns:
        The columns of ``rows`` in their types, ``ts`` the bar's open time, then ``is_finished`` (bool):
        whether the bar ended by ``known_end``. The table's own level leaves the rows as they are.

    Raises:
        InvalidArgument: The table has no level, ``step`` is no multiple of it, or a column does not follow
            from finer rows.
    """
    level = _level_of(spec, step)
    rows = rows.slice(0, int(np.searchsorted(rows["ts"].to_numpy(), known_end)))
    if step != level:
        rows = _bars(spec, rows.combine_chunks(), step)
    return rows.append_column("is_finished", pa.array(rows["ts"].to_numpy() + step <= known_end))


def fill_forward(
    spec: TableSpec, rows: pa.Table, step: int, start: int, end: int, before: pa.Table | None
) -> pa.Table:
    """The rows with a flat candle at every time of the grid that has none.

    It opens and closes at the close of the last real row before it. Its sums are 0, or NULL where that row
    has NULL, since the venue does not give the field; ``is_finished``, if there, is true; anything else is
    NULL. Without a row to go on from, filling begins at the first real row. Real rows stay to the bit,
    those off the grid too.

    Args:
        spec: The table of the rows.
        rows: Its rows of one entity in [start, end), see the module; the closing price must be among them.
        step: Distance of the grid in ms; it starts at the epoch.
        start: First time (ms) to fill.
        end: End (exclusive, ms) of what is filled; after it nothing is.
        before: The last row before ``start`` with the same columns; None or empty if there is none.

    Returns:
        The columns of ``rows`` in their types, then ``is_filled`` (bool): true for what was filled in.

    Raises:
        InvalidArgument: The closing price is not among the columns.
    """
    if before is None:
        before = rows.slice(0, 0)
    shared = [name for name in rows.column_names if name in before.column_names]
    real = pa.concat_tables([before.select(shared), rows], promote_options="default").combine_chunks()
    missing = _missing(real["ts"].to_numpy(), step, start, end)
    # All positions count from the first of ``rows``; a row before it is at a negative one.
    at = np.searchsorted(rows["ts"].to_numpy(), missing)
    source = np.insert(np.arange(rows.num_rows), at, at - 1) + before.num_rows
    is_filled = pa.array(np.insert(np.zeros(rows.num_rows, bool), at, True))
    columns = _flat(spec, real.take(pa.array(source)).select(rows.column_names), is_filled)
    columns["ts"] = pa.array(np.insert(rows["ts"].to_numpy(), at, missing))
    return pa.table({**columns, "is_filled": is_filled})


def _level_of(spec: TableSpec, step: int) -> int:
    """The table's own level in ms, once ``step`` is found to be made of it."""
    if spec.level is None:
        raise InvalidArgument(f"{spec.class_name} has no level: its rows make no candles", value=str(step))
    level = level_ms(spec.level)
    if step >= level and step % level == 0:
        return level
    wanted = next((name for name, length in LEVEL_MS.items() if length == step), f"{step} ms")
    coarser = [name for name, length in LEVEL_MS.items() if length > level]
    raise InvalidArgument(
        f"{spec.level} candles do not add up to candles of {wanted}",
        suggestions=(f"allowed: {', '.join(coarser)}" if coarser else f"{spec.level} is the coarsest level",),
        value=str(step),
    )


def _bars(spec: TableSpec, rows: pa.Table, step: int) -> pa.Table:
    rules = {column.name: column.bar for column in spec.columns}
    bar = rows["ts"].to_numpy() // step
    starts = np.flatnonzero(np.diff(bar, prepend=-1))
    columns = {"ts": pa.array(bar[starts] * step)}
    for name in rows.column_names:
        if name != "ts":
            rule = rules.get(name)
            if rule is None:
                raise InvalidArgument(
                    f"{name} of a coarser candle does not follow from finer ones", value=name
                )
            columns[name] = _column_of_bars(rows[name], rule, starts)
    return pa.table(columns)


def _column_of_bars(column: pa.ChunkedArray, rule: str, starts: Integers) -> pa.ChunkedArray | pa.Array:
    if rule == "first":
        return column.take(pa.array(starts))
    if rule == "last":
        return column.take(pa.array(np.append(starts[1:], len(column))[: len(starts)] - 1))
    is_unknown = None
    if column.null_count:
        is_unknown = np.logical_or.reduceat(column.is_null().to_numpy(), starts)
        column = column.fill_null(0)
    values = column.to_numpy()
    if rule == "sum" and values.dtype.kind == "f":
        reduced = decimal_sums(values, np.diff(starts, append=len(values)))
    else:
        reduced = _REDUCE[rule].reduceat(values, starts)
    return pa.array(reduced, column.type, mask=is_unknown)


def decimal_sums(values: Floats, counts: Integers) -> Floats:
    """The sums of ``resample``: each bar within the first limits that are exact for it."""
    sums = np.empty(len(counts))
    left = np.arange(len(counts))
    for limit, sum_limit in _LIMITS:
        found, is_exact = _sums_of_decimals(values, counts, limit, sum_limit)
        sums[left[is_exact]] = found[is_exact]
        if is_exact.all():
            return sums
        values, counts, left = values[np.repeat(~is_exact, counts)], counts[~is_exact], left[~is_exact]
    sums[left] = _sums_one_by_one(values, counts)
    return sums


def _sums_of_decimals(
    values: Floats, counts: Integers, limit: float, sum_limit: float
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Sums by the largest power of ten that keeps a bar's integers and their sum below the limits.

    Returns:
        The sums, and which of them are exact but for one rounding at the end.
    """
    starts = _starts(counts)
    sizes = np.abs(values)
    digits = np.minimum(
        _most_digits(np.maximum.reduceat(sizes, starts), limit),
        # The size of a bar is itself a rounded sum, so stay clear of the limit.
        _most_digits(np.add.reduceat(sizes, starts), sum_limit * (1 - 2.0**-40)),
    )
    scales = _POWERS[np.maximum(digits, 0)]
    integers, is_exact = to_integers(values, np.repeat(scales, counts))
    is_exact &= np.repeat(digits >= 0, counts)
    totals = np.add.reduceat(np.where(is_exact, integers, 0.0).astype(np.int64), starts)
    sums = totals / scales
    # Python divides integers of any size with one rounding, numpy rounds large ones before it divides.
    large = np.flatnonzero(np.abs(totals) >= EXACT)
    ratios = zip(totals[large].tolist(), scales[large].tolist(), strict=True)
    sums[large] = [total / int(scale) for total, scale in ratios]
    return sums, np.logical_and.reduceat(is_exact, starts)


def _most_digits(sizes: Floats, limit: float) -> Integers:
    """The most decimals with which sizes stay below the limit as integers; -1 where none do at all."""
    return np.asarray(MAX_DIGITS - np.searchsorted(limit / _POWERS[::-1], sizes, side="right"))


def _sums_one_by_one(values: Floats, counts: Integers) -> list[float]:
    """Correctly rounded sums of anything."""
    numbers = values.tolist()
    bounds = zip(_starts(counts).tolist(), np.cumsum(counts).tolist(), strict=True)
    return [math.fsum(numbers[start:end]) for start, end in bounds]


def _starts(counts: Integers) -> Integers:
    return np.cumsum(counts) - counts


def _missing(real: Integers, step: int, start: int, end: int) -> Integers:
    """The times of the grid in [start, end), from the first real row on, that are not among the real ones."""
    if not len(real):
        return real
    first = ceil_ms(max(start, int(real[0])), step)
    grid = np.arange(first, end, step, dtype=np.int64)
    is_missing = np.ones(len(grid), bool)
    place, off_grid = np.divmod(real - first, step)
    is_missing[place[(place >= 0) & (place < len(grid)) & (off_grid == 0)]] = False
    missing: Integers = grid[is_missing]
    return missing


def _flat(spec: TableSpec, rows: pa.Table, is_filled: pa.Array) -> dict[str, pa.ChunkedArray | pa.Array]:
    """The columns with flat candles where ``rows``, filled in, repeats the row before."""
    rules = {column.name: column.bar for column in spec.columns}
    close = next((rows[name] for name in rows.column_names if rules.get(name) == "last"), None)
    if close is None:
        raise InvalidArgument("candles cannot be filled forward without their closing price")
    columns = {}
    for name in rows.column_names:
        column, rule = rows[name], rules.get(name)
        if name == "is_finished":
            flat: Any = True
        elif rule == "sum":
            flat = pc.if_else(column.is_null(), column, pa.scalar(0, column.type))
        else:
            flat = close if rule else pa.scalar(None, column.type)
        columns[name] = pc.if_else(is_filled, flat, column)
    return columns
