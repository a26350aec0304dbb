"""Columnar copies of settled chunks beside the database: fast to read, never trusted blindly, safe to delete.

A segment holds the decoded rows of one entity's chunk as an uncompressed Arrow IPC file, which is read by
mapping it. Name and contents tell the chunk's version, which every change of its rows replaces; a reader
takes a segment only if that is the version in its own snapshot of the database. Files are written under
another name, renamed, and never changed afterwards.
"""

from __future__ import annotations

import errno
import logging
import os
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from threading import Lock, get_ident
from typing import Final, NamedTuple

import pyarrow as pa

from zvt_crypto.core.errors import ConfigError, StoreFull

logger = logging.getLogger(__name__)

_FORMAT: Final = "1"
_ENDING: Final = ".arrow"
#: Mapped segments that one process keeps open.
_OPEN_SEGMENTS: Final = 2_048


class ChunkVersion(NamedTuple):
    """A state of one entity's chunk of rows."""

    entity: int
    chunk: int
    version: int

    @property
    def name(self) -> str:
        """Name of its segment."""
        return f"{self.entity}-{self.chunk}-{self.version:016x}{_ENDING}"


class Segments:
    """The segments of one table.

    Args:
        database: Path of the table's database.
        uid: The database's own id: a file that was deleted and made anew has another.
        schema: ``ts`` and the stored columns.
    """

    def __init__(self, database: Path, uid: str, schema: pa.Schema) -> None:
        self.folder = database.with_suffix(".segments") / uid
        self.schema = schema

    def load(self, version: ChunkVersion, *, open_new: bool = True, keep: bool = True) -> pa.Table | None:
        """The rows of a chunk in a version; None where there is no sound segment of it.

        Args:
            version: What is wanted.
            open_new: Whether to open and check a segment that this process does not have open.
            keep: Whether it then stays open for later queries.
        """
        return _opened.get(self.folder / version.name, version, self.schema, open_new=open_new, keep=keep)

    def count(self, version: ChunkVersion) -> int | None:
        """How many rows a segment says it has, without a look at them; None where there is no segment."""
        try:
            with pa.memory_map(str(self.folder / version.name)) as file:
                facts = pa.ipc.open_file(file).schema.metadata or {}
        except (OSError, pa.ArrowException):
            return None
        if (facts.get(b"format"), facts.get(b"segment")) != (_FORMAT.encode(), version.name.encode()):
            return None
        return int(facts[b"rows"])

    def save(self, version: ChunkVersion, rows: pa.Table) -> int:
        """Keep the rows of a chunk in a version, and drop its other versions; returns the bytes written.

        Raises:
            StoreFull: The disk is full; nothing is left behind.
            ConfigError: The folder cannot be written.
        """
        path = self.folder / version.name
        draft = path.with_name(f"{path.name}.{os.getpid()}.{get_ident()}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            size = _write(draft, version, rows)
            draft.replace(path)
        except OSError as error:
            _unlink(draft)
            raise _write_error(path, error) from error
        for other in self._versions_beside(path, version):
            _unlink(other)
        return size

    def drop(self, keep: set[str]) -> int:
        """Delete all files but those of these names, other databases' too; returns how many."""
        stale = [path for path in self.folder.parent.glob("*/*") if path.parent != self.folder]
        stale += [path for path in self.folder.glob("*") if path.name not in keep]
        for path in stale:
            _unlink(path)
        return len(stale)

    def _versions_beside(self, path: Path, version: ChunkVersion) -> Iterator[Path]:
        found = self.folder.glob(f"{version.entity}-{version.chunk}-*{_ENDING}")
        return (other for other in found if other != path)


class _Opened:
    """Mapped segments, the most recently used ones; each is checked in full when it is first opened."""

    def __init__(self) -> None:
        self._tables: OrderedDict[Path, tuple[tuple[int, int], pa.Table | None]] = OrderedDict()
        self._lock = Lock()

    def get(
        self, path: Path, version: ChunkVersion, schema: pa.Schema, *, open_new: bool, keep: bool
    ) -> pa.Table | None:
        try:
            found = path.stat()
        except OSError:
            return None
        # Reading a mapped page that is gone kills the process: a file that was cut since is mapped anew.
        state = (found.st_size, found.st_mtime_ns)
        with self._lock:
            known = self._tables.get(path)
            if known is not None and known[0] == state:
                self._tables.move_to_end(path)
                return known[1]
        if not open_new:
            return None
        table = _map(path, version, schema)
        if not keep:
            return table
        with self._lock:
            self._tables[path] = (state, table)
            while len(self._tables) > _OPEN_SEGMENTS:
                self._tables.popitem(last=False)
        return table


_opened: Final = _Opened()


def _write(path: Path, version: ChunkVersion, rows: pa.Table) -> int:
    # Buffers as they will be read: what is written may share larger ones with other rows.
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows.combine_chunks())
    rows = pa.ipc.open_stream(sink.getvalue()).read_all()
    facts = _facts(version, rows)
    with pa.OSFile(str(path), "wb") as file:
        with pa.ipc.new_file(file, rows.schema.with_metadata(facts)) as writer:
            writer.write_table(rows)
        return int(file.tell())


def _map(path: Path, version: ChunkVersion, schema: pa.Schema) -> pa.Table | None:
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowException) as error:
        logger.warning("%s is damaged and is ignored: %s", path, error)
        return None
    facts = {name.decode(): text.decode() for name, text in (table.schema.metadata or {}).items()}
    table = table.replace_schema_metadata(None)
    if not table.schema.equals(schema) or facts != _facts(version, table):
        logger.warning("%s does not hold the rows that its name tells and is ignored", path)
        return None
    return table


def _facts(version: ChunkVersion, rows: pa.Table) -> dict[str, str]:
    """What a segment says about itself, all of which must be so when it is opened."""
    facts = {"format": _FORMAT, "segment": version.name, "rows": str(rows.num_rows)}
    return facts | {f"crc32 {name}": str(_checksum(rows[name])) for name in rows.column_names}


def _checksum(column: pa.ChunkedArray) -> int:
    total = 0
    for chunk in column.chunks:
        for buffer in chunk.buffers():
            if buffer is not None:
                total = zlib.crc32(buffer, total)
    return total


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # Windows keeps a file that another process has mapped
        logger.info("%s stays until the next compaction: %s", path, error)


def _write_error(path: Path, error: OSError) -> StoreFull | ConfigError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"the disk has no room for {path}", path=str(path))
    return ConfigError(
        f"{path} cannot be written: {error}",
        suggestions=("check the folder's permissions",),
        path=str(path),
    )
