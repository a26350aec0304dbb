"""Where an exchange's public API is, and how many requests go out to it, without loading ccxt for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The public API of one exchange.

    Attributes:
        url: Scheme and host.
        pace_ms: What one request of the usual cost takes of the exchange's budget, in ms.
    """

    url: str
    pace_ms: float

    @property
    def requests_per_minute(self) -> int:
        """Requests of the usual cost that go out in a minute at most."""
        return int(60_000 / self.pace_ms)
