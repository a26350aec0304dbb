"""Recorded answers, served again word for word.

A capture is a text file (also gzipped) with lines ``URL -> time: body``; all other lines are skipped, but see
``stream_captures``.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from zvt_crypto.core.errors import InvalidArgument

Key = tuple[str, str, frozenset[tuple[str, str]]]
_LINE: Final = re.compile(r"(https?://\S+) -> [0-9.]+: (.*)")
#: Parameters that say how much is wanted, not of what.
_SIZES: Final = frozenset({"limit", "sz", "count", "depth"})


class Captures:
    """Recorded bodies by host, path and query, whatever the order of its parameters.

    Args:
        paths: Capture files; of several answers to one URL the last one counts.

    Raises:
        InvalidArgument: A file cannot be read or holds no recorded answer.
    """

    def __init__(self, paths: Iterable[str | Path] = ()) -> None:
        self._bodies: dict[Key, bytes] = {}
        for path in paths:
            if not self.add(capture_lines(path)):
                raise InvalidArgument(
                    f"{path} holds no recorded answer", suggestions=("each is a line: URL -> time: body",)
                )

    def add(self, lines: Iterable[str]) -> int:
        """Take the answers of a capture's lines; how many there were."""
        found = [match for match in map(_LINE.fullmatch, lines) if match]
        for match in found:
            url = urlsplit(match[1])
            query = frozenset(parse_qsl(url.query, keep_blank_values=True))
            self._bodies[url.hostname or "", url.path, query] = match[2].encode()
        return len(found)

    def find(self, host: str, path: str, query: Mapping[str, str]) -> bytes | None:
        """The recorded body of a request, or None."""
        return self._bodies.get((host, path, frozenset(query.items()))) if self._bodies else None

    def find_like(self, host: str, path: str, query: Mapping[str, str]) -> bytes | None:
        """The recorded body of a request for the same thing, or None.

        Parameters that only one of the two requests has do not count, nor do those that say how much it is.
        """
        for (its_host, its_path, its_query), body in self._bodies.items():
            if (its_host, its_path) != (host, path):
                continue
            common = (item for item in its_query if item[0] in query and item[0] not in _SIZES)
            if all(query[name] == value for name, value in common):
                return body
        return None


def capture_lines(path: str | Path) -> list[str]:
    """The lines of a capture file.

    Raises:
        InvalidArgument: It cannot be read.
    """
    try:
        raw = Path(path).read_bytes()
        return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode().splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path} cannot be read: {error}") from error
