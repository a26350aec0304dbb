"""What public archives of files share: periods by name, CSV, packed files that are kept, S3's errors."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, parse_time
from zvt_crypto.sandbox.venue import Answer

_PUBLISHED_AFTER_MS: Final = 6 * HOUR_MS
_MONDAY: Final = 4 * DAY_MS
_LEVEL: Final = 1


def period(text: str, now: int) -> tuple[int, int] | None:
    """The time of a month (``2024-01``) or a day (``2024-01-15``), None until it is published.

    Days are published on the next day, months on the first Monday of the next month.
    """
    is_month = re.fullmatch(r"\d{4}-\d\d", text) is not None
    if not is_month and not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return None
    try:
        first = dt.date.fromisoformat(f"{text}-01" if is_month else text)
    except ValueError:
        return None
    start = parse_time(first)
    if not is_month:
        end = published = start + DAY_MS
    else:
        end = parse_time((first + dt.timedelta(days=31)).replace(day=1))
        published = end + (_MONDAY - end) % (7 * DAY_MS)
    return (start, end) if now >= published + _PUBLISHED_AFTER_MS else None


def csv_text(header: str | None, *columns: str | pa.Array) -> bytes:
    """Lines of columns of text, after a header if there is one; a column may be one text for all rows."""
    lines = pc.binary_join_element_wise(*columns, ",")
    count = len(lines)
    _, offsets, data = pc.binary_join_element_wise(lines, "\n", "").buffers()
    size = int(np.frombuffer(offsets, np.int32, count + 1)[-1]) if count else 0
    body: bytes = data.slice(0, size).to_pybytes() if size else b""
    return body if header is None else header.encode() + b"\n" + body


def zipped(name: str, text: bytes) -> bytes:
    """A zip file with one file; the same text gives the same bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        archive.writestr(_member(name), text, compresslevel=_LEVEL)
    return packed.getvalue()


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_DEFLATED
    return member


def gzipped(text: bytes) -> bytes:
    """A gzip file; the same text gives the same bytes."""
    return gzip.compress(text, _LEVEL, mtime=0)


def checksum(name: str, packed: bytes) -> bytes:
    """What ``sha256sum`` prints."""
    return f"{hashlib.sha256(packed).hexdigest()}  {name}\n".encode()


def not_there(path: str) -> Answer:
    """S3's answer to the path of a file that it does not have."""
    return s3_error(404, "NoSuchKey", "The specified key does not exist.", f"<Key>{path[1:]}</Key>")


def s3_error(status: int, code: str, message: str, more: str = "") -> Answer:
    """S3's answer to a request that fails."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
        f"{more}<RequestId>0</RequestId><HostId>0</HostId></Error>"
    )
    return Answer(body.encode(), status, {}, "application/xml")


class KeptFiles:
    """Files by their path, made once; the least recently used go first.

    Args:
        megabytes: How much to keep.
    """

    def __init__(self, megabytes: float = 256) -> None:
        self._room = int(megabytes * 1e6)
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def get(self, path: str, make: Callable[[], bytes]) -> bytes:
        """The file of a path, which ``make`` makes where it is not kept."""
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        packed = self._kept[path] = make()
        self._size += len(packed)
        while self._size > self._room:
            self._size -= len(self._kept.popitem(last=False)[1])
        return packed
