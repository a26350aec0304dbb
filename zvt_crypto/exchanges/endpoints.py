"""Where an exchange's public API is, and how many requests go out to it, without loading ccxt for it."""

from __future__ import annotations

from dataclasses import dataclass

from zvt_crypto.exchanges.headers import UsedWeight


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The public API of one exchange.

    Attributes:
        url: Scheme and host.
        pace_ms: What one request of the usual cost takes of the exchange's budget, in ms.
        used_weight: The header by which it counts all requests of an address, whoever makes them; None where
            it has none.
    """

    url: str
    pace_ms: float
    used_weight: UsedWeight | None = None

    @property
    def requests_per_minute(self) -> int:
        """Requests of the usual cost that go out in a minute at most."""
        return int(60_000 / self.pace_ms)
