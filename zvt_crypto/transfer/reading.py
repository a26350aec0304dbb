"""Reading files in batches. Others wrote them, so everything is checked before it is used."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from zvt_crypto.core.errors import DataQualityFailure, InvalidArgument, ZvtCryptoError, unknown_value

#: Rows of a batch at most.
BATCH_ROWS: Final = 1 << 16

#: Bytes of a batch of a file on average, above which it is mapped instead of read.
_LARGE_BATCH: Final = 64 << 20

_NOT_READABLE: Final = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR)


class DataFile(Protocol):
    """An open file.

    Attributes:
        names: Its columns.
        metadata: Metadata of its schema.
    """

    names: list[str]
    metadata: Mapping[bytes, bytes] | None

    def tables(self, columns: Mapping[str, pa.DataType]) -> Iterator[pa.Table]:
        """The rows in order; columns are taken for the types given only where the format has none."""


@contextlib.contextmanager
def open_data(path: Path) -> Iterator[DataFile]:
    """Open a file of one of the formats.

    Raises:
        InvalidArgument: There is no such file, or its ending is of no format.
        DataQualityFailure: It is damaged.
    """
    if path.suffix not in READERS:
        raise unknown_value(f"ending of {path}:", path.suffix, READERS)
    with contextlib.ExitStack() as opened:
        with _unreadable(path):
            data = READERS[path.suffix](path, opened)
        yield data


def batches(path: Path, data: DataFile, columns: Mapping[str, pa.DataType]) -> Iterator[pa.Table]:
    """Columns of a file in batches of at most ``BATCH_ROWS`` rows.

    Args:
        path: The file, for the errors.
        data: The same, open.
        columns: Columns wanted, with the types that they have where the format knows none.

    Raises:
        DataQualityFailure: The file is damaged.
    """
    with _unreadable(path):
        for table in data.tables(columns):
            # Offsets that lead nowhere would make Arrow read memory that is not there.
            table.validate(full=True)
            for first in range(0, table.num_rows, BATCH_ROWS):
                yield table.slice(first, BATCH_ROWS)


class _Parquet:
    def __init__(self, path: Path, opened: contextlib.ExitStack) -> None:
        self._file = opened.enter_context(
            pa.parquet.ParquetFile(str(path), pre_buffer=False, buffer_size=BATCH_ROWS)
        )
        self.names: list[str] = self._file.schema_arrow.names
        self.metadata: Mapping[bytes, bytes] | None = self._file.schema_arrow.metadata

    def tables(self, columns: Mapping[str, pa.DataType]) -> Iterator[pa.Table]:
        for batch in self._file.iter_batches(BATCH_ROWS, columns=list(columns), use_threads=False):
            yield pa.Table.from_batches([batch])


class _Ipc:
    def __init__(self, path: Path, opened: contextlib.ExitStack) -> None:
        source = opened.enter_context(pa.OSFile(str(path)))
        self._file = opened.enter_context(pa.ipc.open_file(source))
        if path.stat().st_size > _LARGE_BATCH * max(1, self._file.num_record_batches):
            # Of a batch that is too large for memory, the system loads and drops pieces by itself.
            mapped = opened.enter_context(pa.memory_map(str(path)))
            self._file = opened.enter_context(pa.ipc.open_file(mapped))
        self.names: list[str] = self._file.schema.names
        self.metadata: Mapping[bytes, bytes] | None = self._file.schema.metadata

    def tables(self, columns: Mapping[str, pa.DataType]) -> Iterator[pa.Table]:
        for i in range(self._file.num_record_batches):
            yield pa.Table.from_batches([self._file.get_batch(i)]).select(list(columns))


class _Csv:
    metadata: Mapping[bytes, bytes] | None = None

    def __init__(self, path: Path, opened: contextlib.ExitStack) -> None:
        self._path = str(path)
        _check_last_line(path)
        with pa.csv.open_csv(self._path) as reader:
            self.names: list[str] = reader.schema.names

    def tables(self, columns: Mapping[str, pa.DataType]) -> Iterator[pa.Table]:
        # A text of two quotes is an empty one, nothing at all is NULL; names such as NA and NULL are texts.
        options = pa.csv.ConvertOptions(
            include_columns=list(columns),
            column_types=columns,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        with pa.csv.open_csv(self._path, convert_options=options) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])


def _check_last_line(path: Path) -> None:
    """A file that is cut within a number would be read with another number."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read() not in (b"\n", b"\r"):
                raise pa.ArrowInvalid("it ends within a line")


#: Ending of a file's name -> what reads it.
READERS: Final[dict[str, Any]] = {".parquet": _Parquet, ".feather": _Ipc, ".csv": _Csv, ".arrow": _Ipc}


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put a file's name before the message of an error that does not know it."""
    try:
        yield
    except ZvtCryptoError as error:
        raise type(error)(f"{path}: {error.message}", suggestions=error.suggestions) from error


@contextlib.contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        raise _reading_error(path, error) from error


def _reading_error(path: Path, error: Exception) -> ZvtCryptoError:
    number = getattr(error, "errno", None)
    if number in _NOT_READABLE:
        return InvalidArgument(
            f"{path} cannot be read: {os.strerror(number)}",
            suggestions=("name a file or folder that exists and that you may read",),
            path=str(path),
        )
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return DataQualityFailure(
        f"{path} is damaged or is no {path.suffix[1:]} file: {reason}",
        suggestions=("make the file again, or leave it out",),
        path=str(path),
    )
