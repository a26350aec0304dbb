"""How many WebSocket connections there may be, of one client and of all."""

from __future__ import annotations

from collections import Counter

from zvt_crypto.server.refusals import Refusal


class Admission:
    """Counts connections by client. Used from one event loop.

    Args:
        of_one: Most of one client at once; 0 is no limit.
        of_all: Most of all clients at once.
    """

    def __init__(self, of_one: int, of_all: int) -> None:
        self._of_one = of_one
        self._of_all = of_all
        self._open: Counter[str] = Counter()

    def enter(self, client: str) -> Refusal | None:
        """Count a connection, or tell why there may not be another one."""
        if self._open.total() >= self._of_all:
            return Refusal(
                503,
                "CRYPTO_SERVER_BUSY",
                f"{self._of_all} WebSocket connections are open, which is as many as there may be",
                "connect again in a while",
            )
        if self._of_one and self._open[client] >= self._of_one:
            return Refusal(
                429,
                "CRYPTO_RATE_LIMIT_EXCEEDED",
                f"{self._of_one} WebSocket connections of one address are open, as many as there may be",
                "close one, or subscribe to more on the ones that are open",
            )
        self._open[client] += 1
        return None

    def leave(self, client: str) -> None:
        """A connection has ended."""
        self._open[client] -= 1
        if self._open[client] <= 0:
            del self._open[client]
