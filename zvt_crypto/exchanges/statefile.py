"""Small files that the processes of a machine share: records with checksums, changed under a lock."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_CHECKSUM: Final = struct.Struct("<I")


class Record:
    """Fields of fixed size, between a mark and the CRC-32 of both.

    Args:
        fields: Their format as ``struct`` writes it, such as ``4d``; stored little-endian, without padding.
        mark: Bytes that tell the layout; none where records follow one that has them.
    """

    def __init__(self, fields: str, mark: bytes = b"") -> None:
        self._fields = struct.Struct(f"<{fields}")
        self._mark = mark
        self.size = len(mark) + self._fields.size + _CHECKSUM.size

    def encode(self, *values: Any) -> bytes:
        """The bytes of a record, ``size`` of them."""
        content = self._mark + self._fields.pack(*values)
        return content + _CHECKSUM.pack(zlib.crc32(content))

    def decode(self, content: bytes) -> tuple[Any, ...] | None:
        """The reverse of ``encode``; None for bytes that are damaged or of another layout."""
        body, checksum = content[: -_CHECKSUM.size], content[-_CHECKSUM.size :]
        is_sound = len(content) == self.size and checksum == _CHECKSUM.pack(zlib.crc32(body))
        if not is_sound or not body.startswith(self._mark):
            return None
        return self._fields.unpack(body[len(self._mark) :])


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """The descriptor of a file, made when first needed, which no other process has locked meanwhile.

    The file is opened each time, which takes microseconds: it may be deleted, and a lock belongs to an open
    file, which forked processes would share.

    Raises:
        BlockingIOError: Another process has locked the file.
        OSError: The file cannot be made or locked.
        ImportError: This system has no such locks.
    """
    import fcntl

    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield file
        finally:
            # Closing would not do where a process was forked meanwhile.
            fcntl.flock(file, fcntl.LOCK_UN)
    finally:
        os.close(file)
