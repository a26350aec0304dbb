"""What an examination finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about an installation.

    Attributes:
        area: What was looked at, in one or two words.
        state: ``ok``, ``warn`` (works, with a trap) or ``fail`` (something will not work).
        what: The fact.
        todo: What to do next, empty where nothing is to be done.
    """

    area: str
    state: str
    what: str
    todo: str = ""
