"""Rows that venues send as JSON objects, as Arrow columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import ProviderUnavailable
from zvt_crypto.exchanges.base import Instrument

Floats = npt.NDArray[np.float64]
Column: TypeAlias = pa.Array | pa.ChunkedArray

_LONGEST: Final = 80


def columns_of(rows: Any, fields: Mapping[str, pa.DataType], optional: tuple[str, ...] = ()) -> pa.Table:
    """Decoded rows as columns of these names and types; numbers may come as text.

    Args:
        rows: A list of objects.
        fields: Arrow type by the venue's name of a field; others are left out.
        optional: Fields that may be missing or empty, which gives NULL.

    Raises:
        ProviderUnavailable: The rows are no objects, lack a field, or hold a value of another kind.
    """
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ProviderUnavailable(f"the exchange sent no rows: {_start(rows)}")
    try:
        columns = {
            name: [row.get(name) or None for row in rows] if name in optional else [row[name] for row in rows]
            for name in fields
        }
        typed = [_typed(values, fields[name]) for name, values in columns.items()]
    except KeyError as error:
        raise ProviderUnavailable(f"the exchange sent a row without {error}: {_start(rows)}") from error
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise ProviderUnavailable(f"the exchange's rows hold a value of another kind: {error}") from error
    return pa.table(typed, names=list(fields))


def split_time(ns: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, pa.Array]:
    """Epoch nanoseconds as epoch milliseconds and the nanoseconds after them."""
    values = np.asarray(ns.to_numpy(zero_copy_only=False) if isinstance(ns, pa.Array) else ns.to_numpy())
    return pa.array(values // 1_000_000), pa.array(values % 1_000_000)


def base_volume(instrument: Instrument, contracts: Floats, price: Floats) -> Floats:
    """Amounts in base currency of amounts in contracts."""
    size = instrument.contract_size
    if size is None:
        return contracts
    if instrument.inverse:
        return contracts * size / price
    # Sizes are decimals: rounding keeps 3 * 0.1 from becoming 0.30000000000000004. A float holds 15 digits.
    volume = contracts * size
    before_point = np.ceil(np.log10(np.maximum(np.abs(volume), 1.0)))
    unit = 10.0 ** np.clip(15 - before_point, 0, 12)
    rounded: Floats = np.round(volume * unit) / unit
    return rounded


def taker_sides(buys: npt.NDArray[np.bool_]) -> pa.Array:
    """``buy`` where the taker bought, ``sell`` elsewhere."""
    return pc.if_else(pa.array(buys), "buy", "sell")


def synthetic_ids(time: Column, price: Column, volume: Column, side: Column) -> pa.Array:
    """Ids for trades of a venue that gives none: what they are, and which of those that are alike.

    A trade has the same id in every page that holds all those like it in its millisecond. In a page that is
    cut among them the ones that are there have the first of the ids, so pages that overlap add up to as many
    trades as there were: ``1700000000000-42000.5-0.01-buy-0``.
    """
    texts = [pc.fill_null(pc.cast(column, pa.string()), "") for column in (time, price, volume, side)]
    alike = pc.binary_join_element_wise(*texts, "-")
    if isinstance(alike, pa.ChunkedArray):
        alike = alike.combine_chunks()
    group = alike.dictionary_encode().indices.to_numpy()
    order = np.argsort(group, kind="stable")
    firsts = np.flatnonzero(np.diff(group[order], prepend=-1))
    lengths = np.diff(firsts, append=len(order))
    ordinal = np.empty(len(order), np.int64)
    ordinal[order] = np.arange(len(order)) - np.repeat(firsts, lengths)
    return pc.binary_join_element_wise(alike, pc.cast(pa.array(ordinal), pa.string()), "-")


def _typed(values: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        # Text where a number is wanted, or the other way round.
        if pa.types.is_string(kind):
            return pa.array([None if value is None else str(value) for value in values], kind)
        return pc.cast(pa.array(values, pa.string()), kind)


def _start(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= _LONGEST else text[:_LONGEST] + "...")
