"""From the columns of a file to a batch of a table: times to epoch milliseconds, values to their types."""

from __future__ import annotations

from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import DataQualityFailure
from zvt_crypto.core.levels import DAY_MS, parse_time
from zvt_crypto.core.tables import ARROW_TYPE, Column, TableSpec
from zvt_crypto.store.layout import ENTITY_HEAD
from zvt_crypto.transfer.report import Rejected

#: End of the times that can be stored, epoch ms, exclusive.
TIME_END: Final = parse_time("2099-12-31") + DAY_MS

_ZONE: Final = r"([zZ]|[+-]\d\d(:?\d\d)?)$"
_CLOCK: Final = r"\d[T ]\d"
_HEAD_TIMES: Final = ("timestamp", "list_date", "end_date")


class Converted(NamedTuple):
    """Rows of a file as a batch.

    Attributes:
        batch: The rows in the types of the table; of a series, in its schema.
        rejected: Rows that were left out, by reason.
    """

    batch: pa.Table
    rejected: dict[str, Rejected]


def columns_of(spec: TableSpec) -> tuple[Column, ...]:
    """The columns that a file of a table can have, besides the time of a series."""
    if spec.layout == "series":
        return spec.columns
    head = (Column(name, "time" if name in _HEAD_TIMES else "text", "") for name in ENTITY_HEAD)
    return (*head, *spec.columns)


def needed_columns(spec: TableSpec) -> tuple[str, ...]:
    """The columns that a file of a table must have, besides the time of a series."""
    if spec.layout == "entities":
        return ("id", "entity_id", "entity_type", "exchange", "code")
    # What has a unit are prices and amounts, without which a row tells nothing.
    return tuple(c.name for c in spec.columns if c.unit) or tuple(c.name for c in spec.columns)


def to_series(spec: TableSpec, rows: pa.Table, time_column: str) -> Converted:
    """Rows of a series as a batch; columns that the file lacks are NULL.

    Args:
        spec: The table.
        rows: The file's rows.
        time_column: Name of their time: a timestamp of any unit, with or without a zone (without means
            UTC), or ISO 8601 text.

    Raises:
        DataQualityFailure: A value is not of its column's type, or a time is finer than a millisecond.
    """
    ts = epoch_ms(time_column, rows[time_column])
    values = [
        _value(c, rows[c.name]) if c.name in rows.column_names else _nulls(c, rows) for c in spec.columns
    ]
    batch = pa.table([ts, *values], schema=spec.schema)
    is_time = pc.fill_null(pc.and_(pc.greater_equal(ts, 0), pc.less(ts, TIME_END)), False)
    kept = batch.filter(is_time)
    lost = batch.num_rows - kept.num_rows
    return Converted(kept, {"timestamp is missing or outside 1970-2099": Rejected(lost)} if lost else {})


def to_entities(spec: TableSpec, rows: pa.Table) -> Converted:
    """Rows of a table of entities as a batch; columns that the file lacks are left out.

    Raises:
        DataQualityFailure: A value is not of its column's type.
    """
    known = [c for c in columns_of(spec) if c.name in rows.column_names]
    batch = pa.table({c.name: _value(c, rows[c.name]) for c in known})
    parts = [batch[name] for name in ("entity_type", "exchange", "code")]
    fits = pc.and_(
        pc.equal(pc.binary_join_element_wise(*parts, "_"), batch["id"]),
        pc.equal(batch["id"], batch["entity_id"]),
    )
    fits = pc.and_(fits, pc.equal(parts[0], spec.entity_type))
    for part in parts:
        fits = pc.and_(
            fits, pc.and_(pc.greater(pc.utf8_length(part), 0), pc.invert(pc.match_substring(part, "_")))
        )
    kept = batch.filter(pc.fill_null(fits, False))
    lost = batch.num_rows - kept.num_rows
    return Converted(kept, {"id does not fit entity_type, exchange and code": Rejected(lost)} if lost else {})


def epoch_ms(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times as epoch milliseconds UTC.

    Raises:
        DataQualityFailure: The column holds no times, or such as are finer than a millisecond.
    """
    try:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = _parsed(column.cast(pa.string()))
        if pa.types.is_date(column.type):
            column = column.cast(pa.timestamp("ms"))
        if pa.types.is_null(column.type):
            return column.cast(pa.int64())
        if pa.types.is_timestamp(column.type):
            return column.cast(pa.timestamp("ms", column.type.tz)).cast(pa.int64())
    except pa.ArrowException as error:
        raise _wrong(name, error) from error
    raise DataQualityFailure(
        f"column {name!r} holds {column.type}, no times",
        suggestions=("write timestamps, or ISO 8601 text such as 2024-01-31T12:00:00Z",),
    )


def _parsed(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times of ISO 8601 texts, as fine as they can be told, so that nothing is cut off unseen."""
    first = texts.drop_null().slice(0, 1)
    # The end of a mere date looks like a zone.
    has_zone = pc.and_(pc.match_substring_regex(first, _ZONE), pc.match_substring_regex(first, _CLOCK))
    return texts.cast(pa.timestamp("ns", "UTC" if pc.any(has_zone).as_py() else None))


def _value(column: Column, values: pa.ChunkedArray) -> pa.ChunkedArray:
    if column.type == "time":
        return epoch_ms(column.name, values)
    kind = ARROW_TYPE[column.type]
    try:
        if pa.types.is_floating(values.type) and column.type == "int":
            # What pandas makes of whole numbers some of which are missing.
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        return values.cast(kind)
    except pa.ArrowException as error:
        raise _wrong(column.name, error) from error


def _nulls(column: Column, rows: pa.Table) -> pa.ChunkedArray:
    return pa.chunked_array([pa.nulls(rows.num_rows, ARROW_TYPE[column.type])])


def _wrong(name: str, error: Exception) -> DataQualityFailure:
    text = str(error).splitlines()[0]
    return DataQualityFailure(
        f"column {name!r}: {text}", suggestions=("correct the file and import it again",), column=name
    )
