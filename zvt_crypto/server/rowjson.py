"""Arrow rows as a JSON array of objects, column by column: no Python object per value."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.store.answer import time_texts

_COMMA: Final = ord(",")


class _Texts(NamedTuple):
    """The values of a column as JSON, with what stands on both sides of each."""

    before: str
    values: pa.Array
    after: str


def json_rows(rows: pa.Table, separator: str = ",") -> bytes:
    """Each row as an object, joined by a separator; without the array's brackets.

    Times (naive UTC) become ISO 8601 with ``Z``; NULL, NaN and infinities become null.
    """
    if not rows.num_rows:
        return b""
    # Joining is most of the work: what is the same in all rows is one text with the keys around it.
    pieces: list[pa.Array | str] = []
    text = "{"
    numbers: list[tuple[pa.Array, _Texts]] = []
    last = rows.num_columns - 1
    for i, (name, column) in enumerate(zip(rows.column_names, rows.columns, strict=True)):
        end = "," if i < last else "}"
        text += f"{orjson.dumps(name).decode()}:"
        constant = _constant(column)
        if constant is not None:
            text += constant + end
            continue
        array = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
        before, values, after = _texts(array, end, numbers)
        pieces += [text + before, values]
        text = after
    text += separator
    if not pieces:
        whole: str = text * rows.num_rows
        return whole[: -len(separator)].encode()
    joined = pc.binary_join_element_wise(*pieces, text, "")
    return bytes(_bytes_of(joined)[: -len(separator)])


def _constant(column: pa.ChunkedArray) -> str | None:
    """The one JSON text of a column whose values are all alike."""
    if column.null_count == len(column):
        return "null"
    if pa.types.is_string(column.type) and not column.null_count:
        first = column[0]
        if pc.all(pc.equal(column, first)).as_py():
            return orjson.dumps(first.as_py()).decode()
    return None


def _texts(array: pa.Array, end: str, numbers: list[tuple[pa.Array, _Texts]]) -> _Texts:
    """The texts of an array, each followed by ``end``; ``numbers`` are the arrays written before."""
    kind = array.type
    if pa.types.is_floating(kind) or (pa.types.is_integer(kind) and not array.null_count):
        # Some columns are others under a further name.
        found = next((texts for earlier, texts in numbers if end == "," and earlier.equals(array)), None)
        if found is None:
            found = _numbers(array, end)
            numbers.append((array, found))
        return found
    if pa.types.is_timestamp(kind):
        return _quoted(_times(array), end)
    if pa.types.is_string(kind):
        if _needs_escape(array):
            values = pa.array([orjson.dumps(value).decode() for value in array.to_pylist()], pa.string())
            return _Texts("", values, end)
        return _quoted(array, end)
    return _Texts("", array.cast(pa.string()).fill_null("null"), end)


def _numbers(array: pa.Array, end: str) -> _Texts:
    """Numbers as orjson writes them all at once; what it puts between two belongs to the first."""
    values = np.ascontiguousarray(array.to_numpy(zero_copy_only=False))
    text = np.frombuffer(bytearray(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)), np.uint8)
    text[-1] = _COMMA
    offsets = np.empty(len(array) + 1, np.int32)
    offsets[0] = 1
    offsets[1:] = np.flatnonzero(text == _COMMA) + 1
    if end != ",":
        text[offsets[1:] - 1] = ord(end)
    return _Texts("", _string_array(offsets, text), "")


def _times(array: pa.Array) -> pa.Array:
    ms = array.cast(pa.timestamp("ms")).cast(pa.int64())
    texts = time_texts(ms.fill_null(0).to_numpy())
    return texts if not array.null_count else pc.if_else(array.is_valid(), texts, None)


def _quoted(texts: pa.Array, end: str) -> _Texts:
    if not texts.null_count:
        return _Texts('"', texts, f'"{end}')
    return _Texts("", pc.binary_join_element_wise('"', texts, '"', "").fill_null("null"), end)


def _needs_escape(array: pa.Array) -> bool:
    text = np.frombuffer(_bytes_of(array), np.uint8)
    return bool((text < ord(" ")).any() or (text == ord('"')).any() or (text == ord("\\")).any())


def _bytes_of(texts: pa.Array) -> memoryview:
    """The bytes of all texts, one after the other."""
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32, len(texts) + 1, texts.offset * 4)
    return memoryview(b"" if data is None else data)[int(bounds[0]) : int(bounds[-1])]


def _string_array(offsets: npt.NDArray[np.int32], text: npt.NDArray[np.uint8]) -> pa.Array:
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(text))
