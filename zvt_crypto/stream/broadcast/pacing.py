"""How often something may happen."""

from __future__ import annotations


class TokenBucket:
    """Allows a rate, and bursts.

    Args:
        rate: Tokens a second.
        burst: Most tokens at once; the bucket is full at first.
        now: Monotonic seconds.
    """

    __slots__ = ("_burst", "_rate", "_since", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._since = now

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._since) * self._rate)
        self._since = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def wait(self) -> float:
        """Seconds from the last ``take`` until there is a token."""
        return max(0.0, (1 - self._tokens) / self._rate)
