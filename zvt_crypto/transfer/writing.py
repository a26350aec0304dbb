"""Writing files in batches, under a name of their own until they are whole."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from zvt_crypto.core.errors import ConfigError, StoreFull, ZvtCryptoError
from zvt_crypto.store.answer import iso_texts

#: A draft that nobody has written to for so long belongs to an export that was killed.
_STALE_SECONDS: Final = 3600
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Write = Callable[[pa.Table], None]


class DestinationClosed(ConfigError):
    """The folder cannot be written, which is likely to be the same for the next file."""


@contextlib.contextmanager
def new_file(path: Path, form: str, schema: pa.Schema) -> Iterator[Write]:
    """Write a file: it has its name once it is whole, and an earlier one of that name stays until then.

    Args:
        path: The file; its folder is made.
        form: Key of ``FORMATS``.
        schema: Columns; the metadata is kept where the format can.

    Yields:
        A function that appends a table of the schema.

    Raises:
        StoreFull: The disk is full.
        DestinationClosed: The folder or the file cannot be written.
    """
    # Names that begin with a dot are no data to Arrow, pandas and our own import.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
    with _destination_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale_drafts(path)
        try:
            with pa.OSFile(str(draft), "wb") as sink, FORMATS[form](sink, schema) as writer:
                yield writer.write_table
            draft.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise


def _parquet(sink: Any, schema: pa.Schema) -> Any:
    return pa.parquet.ParquetWriter(sink, schema, compression="zstd")


def _feather(sink: Any, schema: pa.Schema) -> Any:
    return pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="lz4"))


def _arrow(sink: Any, schema: pa.Schema) -> Any:
    return pa.ipc.new_file(sink, schema)


class _Csv:
    """CSV with times as ISO 8601 text; NULL is an empty field."""

    def __init__(self, sink: Any, schema: pa.Schema) -> None:
        fields = [pa.field(f.name, pa.string()) if pa.types.is_timestamp(f.type) else f for f in schema]
        self._writer = pa.csv.CSVWriter(sink, pa.schema(fields))

    def write_table(self, table: pa.Table) -> None:
        for i, field in enumerate(table.schema):
            if pa.types.is_timestamp(field.type):
                table = table.set_column(i, field.name, iso_texts(table.column(i)))
        self._writer.write_table(table)

    def __enter__(self) -> _Csv:
        return self

    def __exit__(self, *raised: object) -> None:
        self._writer.close()


#: Format, which is also the ending of its files -> what writes it.
FORMATS: Final[dict[str, Callable[[Any, pa.Schema], Any]]] = {
    "parquet": _parquet,
    "feather": _feather,
    "csv": _Csv,
    "arrow": _arrow,
}


def _remove_stale_drafts(path: Path) -> None:
    for old in path.parent.glob(f".{glob.escape(path.name)}.*.draft"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > _STALE_SECONDS:
                old.unlink()


@contextlib.contextmanager
def _destination_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _destination_error(path, error) from error


def _destination_error(path: Path, error: OSError) -> ZvtCryptoError:
    if error.errno in _NO_SPACE:
        return StoreFull(
            f"the disk has no room for {path}",
            suggestions=("free disk space, or export to another folder with --out",),
            path=str(path),
        )
    reason = os.strerror(error.errno) if error.errno else str(error)
    return DestinationClosed(
        f"{path} cannot be written: {reason}",
        suggestions=("check the folder's permissions, or export to another one with --out",),
        path=str(path),
    )
