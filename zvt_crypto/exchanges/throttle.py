"""The request budget of one exchange, shared by all processes of a machine: a leaky bucket in a small file.

The arithmetic is the generic cell rate algorithm (GCRA) with ccxt's costs: a request takes
``rateLimit * cost`` milliseconds of the exchange's time, and the next may go out once these are over. Nothing
is reserved ahead: a request is entered when it goes out, so a process that dies while it waits takes nothing
with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Final

from zvt_crypto.exchanges.statefile import Record, locked

logger = logging.getLogger(__name__)

#: How long, in ms, those who go first count as busy after they last asked.
RECENT_MS: Final = 5_000.0

_RECORD: Final = Record("4d", mark=b"zrb1")

#: Attempts, 1 ms apart, to lock a file that is never locked for longer than a read and a write.
_LOCK_ATTEMPTS: Final = 3_000


class Priority(IntEnum):
    """Who goes first where the budget is short."""

    ORDERS = 0
    LIVE = 1
    BACKFILL = 2


@dataclass(frozen=True, slots=True)
class Bucket:
    """What the processes tell each other. Times are epoch ms by this machine's clock.

    Attributes:
        due: When what has gone out is paid for (the "theoretical arrival time"): a request may go out then.
        cost: What the last request took, in ms; ``due`` was never further away than that.
        orders_asked: When a client for orders last asked.
        live_asked: When a client for live data last asked.
    """

    due: float
    cost: float = 0.0
    orders_asked: float = 0.0
    live_asked: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request that wants to go out.

    Attributes:
        cost: What it takes of the budget, in ms.
        asked: Epoch ms since when it waits. Time before that is not made up for: no bursts after a rest.
        credit: Longest delay, in ms, that is made up for if the process wakes up late.
        priority: Whose request it is.
    """

    cost: float
    asked: float
    credit: float
    priority: Priority = Priority.BACKFILL


def admit(bucket: Bucket, request: Request, now: float) -> tuple[Bucket, float]:
    """The bucket after a request has asked, and the ms that it has to wait before it asks again; 0 is: go.

    Where a higher priority asked within ``RECENT_MS``, a request leaves the bucket unused for as long as the
    last request took, once for each such priority. So the higher one is next whenever it waits, and a lower
    one uses at most half of the budget.

    Over any time the admitted costs are at most that time, ``credit``, and one more request.
    """
    due = min(bucket.due, now + bucket.cost)  # further away only if the clock was set back
    bucket = replace(bucket, due=due)
    if request.priority == Priority.ORDERS:
        bucket = replace(bucket, orders_asked=now)
    elif request.priority == Priority.LIVE:
        bucket = replace(bucket, live_asked=now)
    higher = (bucket.orders_asked, bucket.live_asked)[: request.priority]
    busy = sum(0 <= now - asked < RECENT_MS for asked in higher)
    wait = due + busy * bucket.cost - now
    if wait > 0:
        return bucket, wait
    start = now if busy else min(max(due, request.asked, now - request.credit), now)
    return replace(bucket, due=start + request.cost, cost=request.cost), 0.0


def encode(bucket: Bucket) -> bytes:
    """The file's content."""
    return _RECORD.encode(bucket.due, bucket.cost, bucket.orders_asked, bucket.live_asked)


def decode(content: bytes) -> Bucket:
    """The reverse of ``encode``.

    Raises:
        ValueError: The content is damaged, or of another layout.
    """
    found = _RECORD.decode(content)
    if found is None:
        raise ValueError(f"{len(content)} bytes that are no record of a request budget")
    return Bucket(*found)


class Budget:
    """One exchange's budget, as one client takes from it. Its coroutines take turns in the order they come.

    If the file cannot be used, a warning says so once, and the client keeps to the budget on its own.

    Args:
        exchange: ccxt's id of the exchange, for messages.
        path: File that the processes share; made when first needed.
        credit: Longest delay, in ms, that is made up for after a late wake-up; ccxt's is its ``rateLimit``.
        priority: Of this client's requests.
    """

    def __init__(
        self, exchange: str, path: Path, credit: float, priority: Priority = Priority.BACKFILL
    ) -> None:
        self.exchange = exchange
        self.path = path
        self.credit = credit
        self.priority = priority
        self._turn = asyncio.Lock()
        self._own: Bucket | None = None

    async def take(self, cost: float) -> None:
        """Return once a request that takes ``cost`` ms may go out."""
        request = Request(cost, _epoch_ms(), self.credit, self.priority)
        async with self._turn:
            while (wait := await self._ask(request)) > 0:
                await asyncio.sleep(wait / 1000)

    async def _ask(self, request: Request) -> float:
        for _ in range(_LOCK_ATTEMPTS):
            if self._own is not None:
                break
            try:
                return _ask_file(self.path, request)
            except BlockingIOError:
                await asyncio.sleep(0.001)
            except (ImportError, OSError) as error:
                self._own = self._alone(str(error))
        own = self._own or self._alone("another process keeps it locked")
        self._own, wait = admit(own, request, _epoch_ms())
        return wait

    def _alone(self, reason: str) -> Bucket:
        logger.warning(
            "%s: the request budget is not shared with other processes, because %s cannot be used: %s",
            self.exchange,
            self.path,
            reason,
        )
        return Bucket(due=_epoch_ms())


def _ask_file(path: Path, request: Request) -> float:
    """What ``admit`` says of the bucket in the file, which is changed accordingly.

    Raises:
        BlockingIOError: Another process has locked the file.
        OSError: The file cannot be made, locked, read or written.
        ImportError: This system has no such locks.
    """
    with locked(path) as file:
        now = _epoch_ms()
        bucket, wait = admit(_read(file, path, now), request, now)
        os.pwrite(file, encode(bucket), 0)
    return wait


def _read(file: int, path: Path, now: float) -> Bucket:
    content = os.pread(file, _RECORD.size, 0)
    try:
        return decode(content) if content else Bucket(due=now)
    except ValueError as error:
        logger.warning("%s is not readable and is made anew: %s", path, error)
        return Bucket(due=now)


def _epoch_ms() -> float:
    return time.time() * 1000
