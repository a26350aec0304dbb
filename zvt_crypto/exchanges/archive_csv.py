"""The CSV of public archives as Arrow columns: headers found out, the unit of its times found out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv

from zvt_crypto.core.errors import ArchiveUnusable
from zvt_crypto.core.levels import iso
from zvt_crypto.exchanges.archive_files import ArchiveFile

Integers = npt.NDArray[np.int64]

#: Bytes of text that are parsed at a time, and the longest line.
_BLOCK: Final = 1 << 22
_FIRST_BLOCK: Final = 1 << 19
#: Times of this century below the first number are in its unit, whose nanoseconds are the second.
_UNITS: Final = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3), (10**20, 1))
_NUMBER: Final = re.compile(r"-?[0-9.]+")


class Stream(Protocol):
    """What is read from."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


@dataclass(frozen=True)
class CsvLayout:
    """The columns of a kind of file, in the order in which files without a header have them.

    Attributes:
        columns: Arrow type by the name that headers use; None for columns that are not read.
        optional: How many of the last columns files may lack.
    """

    columns: Mapping[str, pa.DataType | None]
    optional: int = 0

    @property
    def kept(self) -> dict[str, pa.DataType]:
        """The columns that are read."""
        return {name: kind for name, kind in self.columns.items() if kind is not None}

    def tables(self, stream: Stream, name: str, largest: int) -> Iterator[pa.Table]:
        """The rows of a file, a few megabytes of text at a time.

        A line that repeats the header, as files have that were joined from others, is left out.

        Args:
            stream: The unpacked file.
            name: Its name, for messages.
            largest: Bytes after which it is given up.

        Raises:
            ArchiveUnusable: It has other columns, a row that cannot be read, or is too large.
        """
        names: list[str] = []
        header = ",".join(self.columns).encode()
        for block in _blocks(stream, name, largest):
            lines = block
            if not names:
                first = block.partition(b"\n")[0].rstrip(b"\r")
                names = self._names(first, name)
                header = first if not _is_data(first) else header
            if header in lines:
                lines = lines.replace(header + b"\r\n", b"").replace(header + b"\n", b"")
            if lines:
                yield self._read(lines, names, name)

    def _names(self, first: bytes, file: str) -> list[str]:
        """The names of a file's columns, from its header or by their number."""
        fields = first.decode("ascii", "replace").split(",")
        if not _is_data(first):
            if self.kept.keys() <= set(fields):
                return fields
        elif len(self.columns) - self.optional <= len(fields) <= len(self.columns):
            return list(self.columns)[: len(fields)]
        raise ArchiveUnusable(
            f"{file} has other columns than known: {first[:120].decode('ascii', 'replace')!r}"
        )

    def _read(self, lines: bytes, names: list[str], file: str) -> pa.Table:
        try:
            return pa_csv.read_csv(
                pa.py_buffer(lines),
                pa_csv.ReadOptions(column_names=names, use_threads=False),
                pa_csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
                pa_csv.ConvertOptions(
                    column_types=self.kept,
                    include_columns=list(self.kept),
                    null_values=["", "NaN", "nan"],
                    true_values=["true", "True", "TRUE", "1"],
                    false_values=["false", "False", "FALSE", "0"],
                ),
            )
        except pa.ArrowInvalid as error:
            raise ArchiveUnusable(f"{file} has a row that cannot be read: {error}") from error


class FileTimes:
    """Times of a file as epoch milliseconds, in whatever unit the file has them.

    Binance changed its spot files from milliseconds to microseconds with 2025, and Bybit writes seconds with
    a fraction, so the first time of a file decides.

    Args:
        file: The period that all its times must lie in.
    """

    def __init__(self, file: ArchiveFile) -> None:
        self.file = file
        self._nanoseconds = 0

    def split(self, values: pa.ChunkedArray) -> tuple[Integers, pa.Array]:
        """Epoch ms, and the nanoseconds after them; NULL if none of these times is finer than a millisecond.

        Raises:
            ArchiveUnusable: A time is missing, or lies outside the file's period.
        """
        numbers: npt.NDArray[Any] = values.to_numpy()
        if values.null_count or not np.isfinite(numbers).all():
            raise ArchiveUnusable(f"{self.file.name} has rows without a time")
        if not self._nanoseconds:
            self._nanoseconds = next((ns for below, ns in _UNITS if numbers[0] < below), 1)
        unit = self._nanoseconds
        if numbers.dtype.kind == "f":
            # A float holds microseconds of this century exactly, but no nanoseconds.
            numbers, unit = np.rint(numbers * (unit / 1000)), 1000
        start, end = (time * 1_000_000 // unit for time in (self.file.start, self.file.end))
        inside = (numbers >= start) & (numbers < end)
        if not inside.all():
            raise self._outside(numbers[int(np.argmin(inside))], unit)
        ts, rest = np.divmod(numbers.astype(np.int64) * unit, 1_000_000)
        return ts, pa.array(rest) if rest.any() else pa.nulls(len(rest), pa.int64())

    def _outside(self, number: float, unit: int) -> ArchiveUnusable:
        file = self.file
        period = f"{iso(file.start)} to {iso(file.end)}"
        return ArchiveUnusable(
            f"{file.name} has a row outside of {period}: its time is {number * (unit / 1e9):.3f} s"
        )


def _is_data(line: bytes) -> bool:
    return _NUMBER.fullmatch(line.partition(b",")[0].decode("ascii", "replace")) is not None


def _blocks(stream: Stream, name: str, largest: int) -> Iterator[bytes]:
    """Whole lines, up to about ``_BLOCK`` bytes at a time; the first are few: storing begins soon."""
    rest, total = b"", 0
    size = min(_FIRST_BLOCK, _BLOCK)
    while chunk := stream.read(size):
        size = min(2 * size, _BLOCK)
        total += len(chunk)
        cut = chunk.rfind(b"\n") + 1
        if total > largest or (not cut and len(rest) + len(chunk) > _BLOCK):
            raise ArchiveUnusable(f"{name} is larger than any such file should be, or has no lines")
        if cut:
            yield rest + chunk[:cut]
            rest = chunk[cut:]
        else:
            rest += chunk
    if rest:
        yield rest if rest.endswith(b"\n") else rest + b"\n"
