"""Keys that tell rows of one entity and time apart, such as ids of trades.

They are text to users. Venues mostly count, so an id that is a plain whole number is kept as an integer,
which takes a third of the room and sorts as the venue counts; every other id is kept as text.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

#: Longest number that surely fits into eight bytes.
_DIGITS: Final = 18


def plain_numbers(keys: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which keys are kept as integers: decimal digits without a leading zero, at most eighteen."""
    is_short = pc.less_equal(pc.binary_length(keys), _DIGITS)
    is_padded = pc.and_not(pc.starts_with(keys, "0"), pc.equal(keys, "0"))
    found = pc.and_not(pc.and_(pc.ascii_is_decimal(keys), is_short), is_padded)
    are_plain: npt.NDArray[np.bool_] = pc.fill_null(found, False).to_numpy()
    return are_plain


def kept_key_sql(value: str) -> str:
    """SQL of what is kept for a key's text, by the rule of ``plain_numbers``."""
    is_plain = (
        f"CAST({value} AS TEXT) NOT GLOB '*[^0-9]*' AND length({value}) <= {_DIGITS}"
        f" AND CAST(CAST({value} AS INTEGER) AS TEXT) = CAST({value} AS TEXT)"
    )
    return f"CASE WHEN {is_plain} THEN CAST({value} AS INTEGER) ELSE CAST({value} AS TEXT) END"


def kept_parts(batch: pa.Table, name: str) -> list[pa.Table]:
    """A batch with its keys as they are kept: integers, text, or two batches where it has both."""
    plain = plain_numbers(batch[name])
    if plain.all():
        return [_with_integers(batch, name)]
    if not plain.any():
        return [batch]
    return [_with_integers(batch.filter(pa.array(plain)), name), batch.filter(pa.array(~plain))]


def in_order(batch: pa.Table, name: str) -> pa.Table:
    """Rows by time and key, in SQLite's order of what is kept; of rows alike in both the last one stays."""
    ts = batch["ts"].to_numpy()
    if np.all(ts[1:] > ts[:-1]):
        return batch
    plain = plain_numbers(batch[name])
    numbers = np.zeros(len(ts), np.int64)
    numbers[plain] = batch[name].filter(pa.array(plain)).cast(pa.int64()).to_numpy()
    texts = np.zeros(len(ts), np.int64)
    if plain.all():
        steps, further = np.diff(ts), np.diff(numbers) > 0
        if np.all((steps > 0) | ((steps == 0) & further)):
            return batch
    else:
        # SQLite sorts text by its bytes, after all numbers.
        encoded = batch[name].cast(pa.binary()).combine_chunks()
        ranks = pc.rank(encoded, sort_keys="ascending", tiebreaker="dense").to_numpy().astype(np.int64)
        texts = np.where(plain, 0, ranks)
    order = np.lexsort((texts, numbers, ts))
    columns = [values[order] for values in (ts, numbers, texts)]
    is_last = np.append(np.any([column[1:] != column[:-1] for column in columns], axis=0), True)
    return batch.take(pa.array(order[is_last]))


def _with_integers(batch: pa.Table, name: str) -> pa.Table:
    numbers: Any = batch[name].cast(pa.int64())
    return batch.set_column(batch.schema.get_field_index(name), name, numbers)
