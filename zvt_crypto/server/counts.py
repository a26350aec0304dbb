"""Requests counted in this process, as a storage of the package limits."""

from __future__ import annotations

import threading
import time
from typing import Final

from limits.storage import Storage

#: How often counts that are over are removed.
_SWEEP_SECONDS: Final = 60.0


class MemoryCounts(Storage):
    """Counts by key, each until its end.

    The storage of the package limits itself starts a thread with almost every request, to remove such counts.
    """

    STORAGE_SCHEME = ["zvt-crypto-memory"]

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False) -> None:
        super().__init__(uri, wrap_exceptions)
        self._counts: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()
        self._next_sweep = 0.0

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        """Nothing can fail here."""
        return ()

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count a key up; its time of ``expiry`` seconds begins with the first."""
        now = time.time()
        with self._lock:
            if now >= self._next_sweep:
                self._counts = {key: count for key, count in self._counts.items() if count[1] > now}
                self._next_sweep = now + _SWEEP_SECONDS
            count, end = self._counts.get(key, (0, 0.0))
            if end <= now:
                count, end = 0, now + expiry
            self._counts[key] = count + amount, end
            return count + amount

    def get(self, key: str) -> int:
        """The count of a key."""
        count, end = self._counts.get(key, (0, 0.0))
        return count if end > time.time() else 0

    def get_expiry(self, key: str) -> float:
        """When the count of a key ends, epoch seconds."""
        now = time.time()
        return max(now, self._counts.get(key, (0, now))[1])

    def check(self) -> bool:
        """Always there."""
        return True

    def reset(self) -> int | None:
        """Forget all counts; returns how many there were."""
        with self._lock:
            count = len(self._counts)
            self._counts = {}
            return count

    def clear(self, key: str) -> None:
        """Forget the count of a key."""
        with self._lock:
            self._counts.pop(key, None)
