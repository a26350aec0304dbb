"""Rows of a JSON answer as Arrow columns, without a Python object per cell.

Venues send candles as lists of numbers, plain or in quotes: ``[[1700000000000,"1.5",...],...]``. Once the
brackets between the rows are line ends, that text is CSV, and ``pyarrow.csv`` reads it into columns several
times faster than a JSON decoder makes lists of it. Whatever does not look exactly like that (blanks between
the values, rows of another width, escapes) goes through orjson, which also judges whether it is JSON at all.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.csv as pa_csv

from zvt_crypto.core.errors import ProviderUnavailable

logger = logging.getLogger(__name__)

_ROW_STARTS_LINE: Final = bytes.maketrans(b"[", b"\n")

#: Marks a value in a row that nobody wants.
SKIP: Final = None


class RowLayout:
    """What the values of a row are, in the venue's order.

    Args:
        columns: Name and Arrow type (int64 or float64) of each value; ``SKIP`` as type leaves one out.
        path: Keys that lead from the answer to its rows, such as ``("data",)``.
        optional: So many of the last values may be missing, from all rows or some; they are NULL then.
    """

    def __init__(
        self, columns: Mapping[str, pa.DataType | None], path: Sequence[str] = (), optional: int = 0
    ) -> None:
        self.path = tuple(path)
        self.width = len(columns)
        self.least = self.width - optional
        self._shorter = RowLayout(dict(list(columns.items())[:-1]), path, optional - 1) if optional else None
        self.kept = tuple(
            (i, name, kind) for i, (name, kind) in enumerate(columns.items()) if kind is not SKIP
        )
        self.schema = pa.schema([(name, kind) for _, name, kind in self.kept])
        # "],[" becomes a comma and a line end, so each line ends with an empty value.
        self._read = pa_csv.ReadOptions(column_names=[*columns, "end of row"], use_threads=True)
        # A row that is empty must fail, not vanish.
        self._parse = pa_csv.ParseOptions(quote_char=False, ignore_empty_lines=False)
        self._convert = pa_csv.ConvertOptions(
            column_types=self.schema,
            include_columns=self.schema.names,
            # An empty text is left to JSON, which tells it from a lost value.
            null_values=["null"],
            check_utf8=False,
        )

    def read(self, answer: Any, text: str | None) -> pa.Table:
        """Columns of what ``cut_rows`` returned.

        Raises:
            ProviderUnavailable: The rows are not where they should be, or are no rows of numbers.
        """
        rows = self.find(answer)
        if text is None:
            return self.from_lists(rows)
        if rows != []:
            raise ProviderUnavailable(f"the exchange's rows are not where they should be: {_start(answer)}")
        return self.from_text(text)

    def from_text(self, text: str) -> pa.Table:
        """Columns of rows given as text, the outer brackets cut off: ``1,"2"],[3,"4"``.

        Raises:
            ProviderUnavailable: The text is not JSON, or the values are not numbers.
        """
        table = self._read_csv(text)
        if table is not None:
            return table
        logger.debug("rows in another form than usual are decoded as JSON: %.60s", text)
        try:
            return self.from_lists(orjson.loads(f"[[{text}]]"))
        except orjson.JSONDecodeError as error:
            raise ProviderUnavailable(f"the exchange's rows are cut or garbled: {_start(text)}") from error

    def from_lists(self, rows: Any) -> pa.Table:
        """Columns of decoded rows.

        Raises:
            ProviderUnavailable: The rows are not lists of numbers, as many as the layout has.
        """
        if not isinstance(rows, list):
            raise ProviderUnavailable(f"the exchange sent no rows: {_start(rows)}")
        for row in rows:
            if not isinstance(row, list) or len(row) < self.least:
                raise ProviderUnavailable(f"the exchange sent a row that is cut: {_start(row)}")
        try:
            columns = [
                pa.array([_number(row[i] if i < len(row) else None, kind) for row in rows], kind)
                for i, _, kind in self.kept
            ]
        except (TypeError, ValueError, OverflowError) as error:
            raise ProviderUnavailable(
                f"the exchange's rows hold something that is no number: {error}"
            ) from error
        return pa.table(columns, schema=self.schema)

    def find(self, answer: Any) -> Any:
        """The rows inside a decoded answer; None where the path leads nowhere."""
        for key in self.path:
            answer = answer.get(key) if isinstance(answer, dict) else None
        return answer

    def _read_csv(self, text: str) -> pa.Table | None:
        """Columns of rows in the usual form, None if they are not: brackets out of place, say."""
        if self._shorter is not None and text.partition("]")[0].count(",") < self.width - 1:
            shorter = self._shorter._read_csv(text)
            return None if shorter is None else self._padded(shorter)
        raw = text.encode()
        lines = raw.translate(_ROW_STARTS_LINE, b'"]')
        rows = lines.count(b"\n") + 1
        quotes = len(raw) - len(lines) - (rows - 1)
        # Deleting quotes and brackets would hide a lost one; their number tells.
        if quotes % (2 * rows) != 0:
            return None
        try:
            table = pa_csv.read_csv(pa.py_buffer(lines + b","), self._read, self._parse, self._convert)
        except pa.ArrowInvalid:
            return None
        return table if table.num_rows == rows else None

    def _padded(self, table: pa.Table) -> pa.Table:
        """The columns of a shorter layout as this one's, NULL where it has none."""
        for field in list(self.schema)[table.num_columns :]:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
        return table


def cut_rows(body: str) -> tuple[Any, str | None]:
    """Decode an answer with its rows cut out: an empty list is in their place.

    Returns:
        The decoded rest, and the rows' text for ``RowLayout.from_text``; None if there are no rows in
        plain form, and then nothing was cut out.

    Raises:
        ValueError: What is left is not JSON (the answer was cut short, say).
    """
    start, end = body.find("[["), body.rfind("]]")
    if start < 0 or end < start:
        return orjson.loads(body), None
    return orjson.loads(f"{body[:start]}[]{body[end + 2 :]}"), body[start + 2 : end]


def _number(value: Any, kind: pa.DataType) -> int | float | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        raise TypeError(f"{value!r}")
    if pa.types.is_floating(kind):
        return float(value)
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"{value!r} where a whole number is expected")
    return int(value)


def _start(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 60 else text[:60] + "...")
