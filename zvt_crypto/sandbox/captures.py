"""Recorded answers, served again word for word.

A capture is a text file (also gzipped) with lines ``URL -> time: body``; all other lines are skipped.
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
            self._bodies.update(_recorded(Path(path)))

    def find(self, host: str, path: str, query: Mapping[str, str]) -> bytes | None:
        """The recorded body of a request, or None."""
        return self._bodies.get((host, path, frozenset(query.items()))) if self._bodies else None


def _recorded(path: Path) -> dict[Key, bytes]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path} cannot be read: {error}") from error
    bodies = {}
    for match in map(_LINE.fullmatch, text.splitlines()):
        if match:
            url = urlsplit(match[1])
            query = frozenset(parse_qsl(url.query, keep_blank_values=True))
            bodies[(url.hostname or "", url.path, query)] = match[2].encode()
    if not bodies:
        raise InvalidArgument(
            f"{path} holds no recorded answer", suggestions=("each is a line: URL -> time: body",)
        )
    return bodies
