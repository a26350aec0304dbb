"""The recorded rows of one series in the stored columns, as the rules and comparisons take them."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from zvt_crypto.core.tables import TableSpec
from zvt_crypto.quality.series import RecordedSeries
from zvt_crypto.store.engine import Store
from zvt_crypto.store.reader import Query, read, stream


def stored_rows(store: Store, series: RecordedSeries, start: int, end: int) -> Iterator[pa.Table]:
    """The rows in ``[start, end)`` in the table's schema, in order, in batches of bounded size."""
    if start < end:
        yield from (_stored(series.spec, rows) for rows in stream(store, _query(series, start, end)))


def stored_table(store: Store, series: RecordedSeries, start: int, end: int) -> pa.Table:
    """The same as one table."""
    if start >= end:
        return series.spec.schema.empty_table()
    return _stored(series.spec, read(store, _query(series, start, end)))


def _query(series: RecordedSeries, start: int, end: int) -> Query:
    columns = ("timestamp", *(column.name for column in series.spec.columns))
    return Query(
        series.spec,
        series.provider,
        entity_ids=(series.entity_id,),
        start=start,
        end=end,
        columns=columns,
    )


def _stored(spec: TableSpec, rows: pa.Table) -> pa.Table:
    ts = rows["timestamp"].cast(pa.int64())
    return pa.table([ts, *(rows[column.name] for column in spec.columns)], schema=spec.schema)
