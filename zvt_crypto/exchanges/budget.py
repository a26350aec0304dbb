"""What a venue has told us to wait: bans and pauses, shared by all requests and kept across restarts."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import Final

import orjson

from zvt_crypto.core.errors import RateLimitExceeded
from zvt_crypto.core.levels import iso

logger = logging.getLogger(__name__)

#: Longest wait, in seconds, that a request sits out; a longer ban fails at once.
PATIENCE_SECONDS: Final = 120.0

#: No venue bans for longer than three days (Binance, "IP Limits"); a file that says more is damaged.
_LONGEST_SECONDS: Final = 3 * 86_400.0


class Pause:
    """Holds back every request to one host of a venue until the time that the venue gave.

    The end of the pause is kept in a file, which is read before each request: a ban outlives the process, and
    other processes behind the same address keep to it too. Where it cannot be written, a warning says so and
    the pause holds for this client only. The venue's published weights are the business of ``throttle``.

    Args:
        exchange: ccxt's id of the exchange, for messages.
        path: File that keeps the pause; made when first needed.
        patience: Longest wait in seconds; beyond it ``wait`` raises.
    """

    def __init__(self, exchange: str, path: Path, patience: float = PATIENCE_SECONDS) -> None:
        self.exchange = exchange
        self.path = path
        self.patience = patience
        self._own_until_ms = 0.0
        self._complaint = ""

    def remaining(self) -> float:
        """Seconds until requests may go on; 0 if they may now."""
        seconds = max(self._own_until_ms, self._shared_until_ms()) / 1000 - time.time()
        if seconds > _LONGEST_SECONDS:
            self._complain(f"{self.path} holds a pause of {seconds / 86_400:.0f} days and is ignored")
            return 0.0
        return max(seconds, 0.0)

    def hold(self, seconds: float, reason: str = "the exchange refuses them") -> None:
        """Let no request out for that long from now; a longer pause that runs already stays."""
        seconds = min(seconds, _LONGEST_SECONDS)
        if seconds <= self.remaining():
            return
        until_ms = int((time.time() + seconds) * 1000)
        logger.warning("%s: no requests before %s, because %s", self.exchange, iso(until_ms), reason)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft = self.path.with_suffix(f".{os.getpid()}.tmp")
            draft.write_bytes(orjson.dumps({"until_ms": until_ms}))
            draft.replace(self.path)
        except OSError as error:
            logger.warning("%s is not writable, so this pause is not shared: %s", self.path, error)
            self._own_until_ms = until_ms

    async def wait(self) -> None:
        """Return once requests may go out.

        Raises:
            RateLimitExceeded: That is further away than ``patience``.
        """
        while (seconds := self.remaining()) > 0:
            if seconds > self.patience:
                until = iso(int((time.time() + seconds) * 1000))
                raise RateLimitExceeded(
                    f"{self.exchange} lets no request through before {until}",
                    retry_after=seconds,
                    exchange=self.exchange,
                )
            await asyncio.sleep(seconds)

    def _shared_until_ms(self) -> float:
        try:
            return float(orjson.loads(self.path.read_bytes())["until_ms"])
        except FileNotFoundError:
            return 0.0
        except (KeyError, TypeError, ValueError, OSError) as error:
            self._complain(f"{self.path} is not readable and is ignored: {error}")
            return 0.0

    def _complain(self, complaint: str) -> None:
        """Say it once, not before each request."""
        if complaint != self._complaint:
            logger.warning(complaint)
            self._complaint = complaint
