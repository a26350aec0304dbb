"""What the headers of an exchange's answers say."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

#: Share of a minute's request weight beyond which requests may have to wait.
_MUCH: Final = 0.9


def header(headers: Mapping[str, str], name: str) -> str:
    """The value of a header, whose name is in any case; empty where there is none."""
    return next((value.strip() for key, value in headers.items() if key.lower() == name.lower()), "")


@dataclass(frozen=True, slots=True)
class UsedWeight:
    """The header that tells how much request weight an address has used in the exchange's minute.

    Attributes:
        name: Of the header.
        per_minute: How much it may use; our own requests at their full pace use no more.
    """

    name: str
    per_minute: int

    def pause(self, headers: Mapping[str, str]) -> float:
        """Seconds until the minute is over, if no request should go out before; else 0.

        That is where more than 90 % is used, and more than our own requests can have used so early in the
        minute: other programs use the same address, and together they would go beyond the limit.
        """
        used = header(headers, self.name)
        second = int(_answered_at(headers)) % 60
        # The time is cut to seconds, so this one counts as over.
        if not used.isdigit() or int(used) <= self.per_minute * max(_MUCH, (second + 1) / 60):
            return 0.0
        return 60.0 - second


def _answered_at(headers: Mapping[str, str]) -> float:
    """Epoch seconds by the exchange's clock, or by this machine's where the answer has no date."""
    try:
        return email.utils.parsedate_to_datetime(header(headers, "date")).timestamp()
    except ValueError:
        return time.time()
