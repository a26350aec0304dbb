"""Files of public archives: which periods they hold, fetched, verified, and read into parts."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gzip
import hashlib
import re
import tempfile
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import IO, Final

import pyarrow as pa

from zvt_crypto.core.errors import ArchiveUnusable
from zvt_crypto.core.levels import DAY_MS, ceil_ms, floor_ms
from zvt_crypto.exchanges.archive_csv import CsvLayout, FileTimes, Stream
from zvt_crypto.exchanges.archive_files import ArchiveFile
from zvt_crypto.exchanges.client import Client
from zvt_crypto.exchanges.paging import Part

Span = tuple[int, int]

_EPOCH: Final = dt.datetime(1970, 1, 1)
_LARGEST_CHECKSUM: Final = 4096
_CHUNK: Final = 1 << 20
_CHECKSUM: Final = re.compile(r"([0-9a-fA-F]{64})\s+\*?(\S+)\s*")
#: What zipfile, gzip and zlib raise for files that are damaged, encrypted or packed in a way of their own.
_DAMAGED: Final = (
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True)
class FileForm:
    """How a kind of file is read.

    Attributes:
        layout: Its columns.
        rows: Makes rows of its columns, given the file's times; they have the schema of the feed.
        schema: That schema.
        largest: Most bytes that such a file can have, unpacked.
    """

    layout: CsvLayout
    rows: Callable[[pa.Table, FileTimes], pa.Table]
    schema: pa.Schema
    largest: int


async def fetch_parts(
    client: Client, entity_type: str, file: ArchiveFile, form: FileForm
) -> AsyncIterator[Part]:
    """The rows of a file, a few megabytes of text at a time.

    Unpacking and parsing are done in another thread, one step ahead of what is asked for. Files need not be
    in order, so the last part alone, which has no rows, makes the file's period complete.

    Raises:
        ArchiveUnusable: The file is not there, or is not what its checksum and name say.
    """
    with tempfile.TemporaryFile() as packed:
        requests = await _fetch(client, entity_type, file, form, packed)
        tables = _tables(packed, file, form)
        count = 0
        async with client.unpacking:
            ahead = asyncio.create_task(asyncio.to_thread(next, tables, None))
            try:
                while (rows := await ahead) is not None:
                    ahead = asyncio.create_task(asyncio.to_thread(next, tables, None))
                    count += rows.num_rows
                    yield Part(rows, file.end, file.end, requests=0)
            finally:
                await asyncio.wait([ahead])  # before the file is closed
    if not count:
        raise ArchiveUnusable(f"{file.name} has no rows")
    yield Part(form.schema.empty_table(), file.start, file.end, requests)


async def _fetch(
    client: Client, entity_type: str, file: ArchiveFile, form: FileForm, packed: IO[bytes]
) -> int:
    """Fetch a file and verify it, twice at most; returns the number of requests."""
    try:
        return await _fetch_once(client, entity_type, file, form, packed)
    except _Mismatch:
        return file.requests + await _fetch_once(client, entity_type, file, form, packed)


async def _fetch_once(
    client: Client, entity_type: str, file: ArchiveFile, form: FileForm, packed: IO[bytes]
) -> int:
    checksum = None
    if file.checksum_path is not None:
        with tempfile.TemporaryFile() as text:
            await client.download(entity_type, file.host, file.checksum_path, text, _LARGEST_CHECKSUM)
            checksum = _checksum(text, file)
    # Deflate makes nothing longer than a few bytes in each block.
    await client.download(entity_type, file.host, file.path, packed, form.largest)
    await asyncio.to_thread(_verify, packed, file, checksum, form.largest)
    return file.requests


class _Mismatch(ArchiveUnusable):
    """The file is damaged; it may come whole the next time."""


def _checksum(text: IO[bytes], file: ArchiveFile) -> str:
    """The SHA-256 that a file of one line, ``{hex digits}  {name}``, tells of a file."""
    text.seek(0)
    content = text.read().decode("ascii", "replace")
    found = _CHECKSUM.fullmatch(content)
    if found is None or found[2] != file.name:
        raise _Mismatch(f"the checksum of {file.name} is not one: {content[:80]!r}")
    return found[1].lower()


def _verify(packed: IO[bytes], file: ArchiveFile, checksum: str | None, largest: int) -> None:
    """Compare a file with its checksum; without one, unpack it for the checksum that gzip has inside."""
    packed.seek(0)
    if checksum is not None:
        digest = hashlib.sha256()
        while chunk := packed.read(_CHUNK):
            digest.update(chunk)
        if digest.hexdigest() != checksum:
            raise _Mismatch(f"{file.name} is not what its checksum says")
        return
    size = 0
    try:
        with _unpacked(packed, file, largest) as stream:
            while chunk := stream.read(_CHUNK):
                size += len(chunk)
                if size > largest:
                    raise ArchiveUnusable(f"{file.name} is larger than any such file should be")
    except _DAMAGED as error:
        raise _Mismatch(f"{file.name} is damaged: {error}") from error


def _tables(packed: IO[bytes], file: ArchiveFile, form: FileForm) -> Iterator[pa.Table]:
    times = FileTimes(file)
    try:
        with _unpacked(packed, file, form.largest) as stream:
            for columns in form.layout.tables(stream, file.name, form.largest):
                yield form.rows(columns, times)
    except _DAMAGED as error:
        raise ArchiveUnusable(f"{file.name} is damaged: {error}") from error


@contextlib.contextmanager
def _unpacked(packed: IO[bytes], file: ArchiveFile, largest: int) -> Iterator[Stream]:
    """The one CSV file in a zip or gzip file."""
    packed.seek(0)
    if not file.name.endswith(".zip"):
        with gzip.open(packed) as stream:
            yield stream
        return
    with zipfile.ZipFile(packed) as archive:
        members = archive.infolist()
        wanted = f"{file.name.removesuffix('.zip')}.csv"
        if [member.filename for member in members] != [wanted]:
            names = ", ".join(member.filename for member in members[:3]) or "nothing"
            raise ArchiveUnusable(f"{file.name} holds {names} instead of {wanted}")
        if members[0].file_size > largest:
            raise ArchiveUnusable(f"{file.name} is larger than any such file should be")
        with archive.open(members[0]) as member_stream:
            yield member_stream


def whole_months(start: int, end: int) -> list[Span]:
    """The calendar months (UTC) that lie wholly in ``[start, end)``."""
    found = []
    lower = _month_after(start - 1)
    while (upper := _month_after(lower)) <= end:
        found.append((lower, upper))
        lower = upper
    return found


def whole_days(start: int, end: int) -> list[Span]:
    """The days (UTC) that lie wholly in ``[start, end)``."""
    first, last = ceil_ms(start, DAY_MS), floor_ms(end, DAY_MS)
    return [(day, day + DAY_MS) for day in range(first, last, DAY_MS)]


def month_text(ts: int) -> str:
    """The month as in ``2024-01``."""
    return f"{_moment(ts):%Y-%m}"


def day_text(ts: int) -> str:
    """The day as in ``2024-01-15``."""
    return f"{_moment(ts):%Y-%m-%d}"


def _month_after(ts: int) -> int:
    """When the next month begins."""
    moment = _moment(ts)
    following = dt.datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1)
    return (following - _EPOCH) // dt.timedelta(milliseconds=1)


def _moment(ts: int) -> dt.datetime:
    return _EPOCH + dt.timedelta(milliseconds=ts)
