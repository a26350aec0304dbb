"""The thread that makes segments after the queries that found none have been answered."""

from __future__ import annotations

import atexit
import logging
import os
from collections import deque
from collections.abc import Callable, Hashable
from threading import Condition, Thread
from typing import Final

from zvt_crypto.core.errors import ZvtCryptoError

logger = logging.getLogger(__name__)

#: How long the end of a process may wait for segments that are still to be made.
_PATIENCE_SECONDS: Final = 2.0


class Maker:
    """Does jobs one after the other in a thread that lives as long as there are any."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[Hashable, Callable[[], object]]] = deque()
        self._known: set[Hashable] = set()
        self._changed = Condition()
        self._is_running = False

    def ask(self, key: Hashable, job: Callable[[], object]) -> None:
        """Have a job done, unless one of the same key waits already."""
        with self._changed:
            if key in self._known:
                return
            self._known.add(key)
            self._jobs.append((key, job))
            if not self._is_running:
                self._is_running = True
                Thread(target=self._run, name="zvt-crypto segments", daemon=True).start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do; False if that took longer than the timeout, in seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_running, timeout)

    def finish(self) -> None:
        """At the end of the process: wait a little, then leave the rest to the next one."""
        if not self.wait(_PATIENCE_SECONDS):
            with self._changed:
                self._jobs.clear()
            self.wait(_PATIENCE_SECONDS)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._jobs:
                    self._known.clear()
                    self._is_running = False
                    self._changed.notify_all()
                    return
                _, job = self._jobs.popleft()
            try:
                job()
            except ZvtCryptoError as error:
                # The answers are complete without; later queries ask again.
                logger.warning("no segments are made: %s", error.message)
                with self._changed:
                    self._jobs.clear()


#: The one of a process.
maker: Final = Maker()
atexit.register(maker.finish)
if hasattr(os, "register_at_fork"):  # threads do not live on in a forked child
    os.register_at_fork(after_in_child=maker.__init__)  # type: ignore[misc]
