"""Connections that wait between the queries of a process: opening one takes longer than a small query."""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Final

from zvt_crypto.store.sqlite import Connection

#: Connections that wait at once, in all; the ones used longest ago are closed first.
_IDLE_CONNECTIONS: Final = 16

#: What tells one file from another that has come to its path since: device and inode.
FileId = tuple[int, int]


class Pool:
    """Open connections by file. Each is used by one thread at a time; any thread may take it next."""

    def __init__(self) -> None:
        self._idle: list[tuple[Path, FileId, Connection]] = []
        self._lock = Lock()

    @contextlib.contextmanager
    def connection(self, path: Path, open_new: Callable[[], Connection]) -> Iterator[Connection]:
        """A connection to the file at ``path``: one that waits, or what ``open_new`` gives.

        It waits for the next query afterwards, unless this one failed.
        """
        connection = self._take(path, _file_id(path)) or open_new()
        # Not the one asked above: a new file is made by opening it.
        file = _file_id(path)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if file is None:
            connection.close()
        else:
            self._put(path, file, connection)

    def close(self) -> None:
        """Close what waits."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, _, connection in idle:
            connection.close()

    def forget(self) -> None:
        """In a forked child: neither use nor close what belongs to the parent."""
        _inherited.append(self._idle)
        self._idle = []
        self._lock = Lock()

    def _take(self, path: Path, file: FileId | None) -> Connection | None:
        with self._lock:
            found = [entry for entry in self._idle if entry[0] == path]
            # The file was replaced or deleted while its connections waited.
            stale = [entry for entry in found if entry[1] != file]
            usable = [entry for entry in found if entry[1] == file]
            taken = stale + usable[-1:]
            self._idle = [entry for entry in self._idle if not any(entry is other for other in taken)]
        for _, _, connection in stale:
            connection.close()
        return usable[-1][2] if usable else None

    def _put(self, path: Path, file: FileId, connection: Connection) -> None:
        with self._lock:
            self._idle.append((path, file, connection))
            oldest = self._idle.pop(0)[2] if len(self._idle) > _IDLE_CONNECTIONS else None
        if oldest is not None:
            oldest.close()


def _file_id(path: Path) -> FileId | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


#: Connections of parent processes, kept so that nothing collects and thereby closes them.
_inherited: Final[list[object]] = []

#: The one pool of a process.
pool: Final = Pool()
atexit.register(pool.close)
if hasattr(os, "register_at_fork"):  # there is no fork on Windows
    os.register_at_fork(after_in_child=pool.forget)
