"""How well an exchange answers, measured by every process that asks it: a day of minutes in a small file.

The file holds totals and 1,440 records of fixed size, one per minute of the day, which is where the record of
a minute has its place; what a place held of the day before is overwritten. Each record has a checksum. A
request is entered once it is over, under a lock that is held for microseconds: a process that is killed
leaves its finished requests there, and nothing half-written that would count.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from zvt_crypto.core.errors import RegionBlocked, RetriableError, ZvtCryptoError
from zvt_crypto.core.levels import MINUTE_MS
from zvt_crypto.exchanges.ccxt_errors import our_error
from zvt_crypto.exchanges.statefile import Record, locked

logger = logging.getLogger(__name__)

State = Literal["operational", "degraded", "down", "unknown"]

MINUTES: Final = 24 * 60
_HOUR: Final = 60
#: Minutes, back from the last one with a request, that tell the state.
_NEWEST: Final = 5
#: Share of the newest requests that may fail where nothing is wrong.
_USUAL_FAILURES: Final = 0.05

#: The fields of ``Counts``, of all time and then of each minute, after its number.
_TOTALS: Final = Record("QQdd", mark=b"zrh1")
_RECORD: Final = Record("QIIdd")
_RECORD_TYPE: Final = np.dtype(
    [("minute", "<u8"), ("requests", "<u4"), ("failures", "<u4"), ("latency_ms", "<f8"), ("cost_ms", "<f8")]
)

#: Attempts to lock the file, without a pause: whoever has it is done in microseconds. What cannot be entered
#: then waits for the next request.
_LOCK_ATTEMPTS: Final = 20
#: Attempts, 1 ms apart, when the client closes.
_LAST_ATTEMPTS: Final = 100

Records = npt.NDArray[Any]


class Counts(NamedTuple):
    """Requests of some time.

    Attributes:
        requests: All of them.
        failures: Those that the exchange did not answer, or refused whoever asks.
        latency_ms: Time that the others took, ms, in all.
        cost_ms: What they took of the exchange's budget, ms of its time.
    """

    requests: int = 0
    failures: int = 0
    latency_ms: float = 0.0
    cost_ms: float = 0.0

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(
            self.requests + other.requests,
            self.failures + other.failures,
            self.latency_ms + other.latency_ms,
            self.cost_ms + other.cost_ms,
        )

    @property
    def error_rate(self) -> float | None:
        """Share of the requests that failed; None without requests."""
        return self.failures / self.requests if self.requests else None

    @property
    def mean_latency_ms(self) -> float | None:
        """Mean time to an answer; None without answers."""
        answered = self.requests - self.failures
        return self.latency_ms / answered if answered else None


@dataclass(frozen=True, slots=True)
class Health:
    """What was measured of one or several exchanges.

    Attributes:
        totals: Of all time, as far as the files go back.
        records: One per file and minute with requests, in order of time, none older than a day.
        now: Minute since the epoch at which they were read.
    """

    totals: Counts
    records: Records
    now: int

    def last(self, minutes: int) -> Counts:
        """The requests of the last so many minutes."""
        return _sum(self.records[self.records["minute"] + minutes > self.now])

    @property
    def hour(self) -> Counts:
        """The requests of the last hour."""
        return self.last(_HOUR)

    @property
    def used_ratio(self) -> float:
        """Share of the budget that went out in the last whole minute, 0 where none did."""
        return _sum(self.records[self.records["minute"] + 1 == self.now]).cost_ms / MINUTE_MS

    @property
    def uptime_pct(self) -> float | None:
        """Minutes with an answer, in percent of the last day's minutes with requests; None without any."""
        asked = np.unique(self.records["minute"])
        answered = np.unique(self.records["minute"][self.records["requests"] > self.records["failures"]])
        return 100 * len(answered) / len(asked) if len(asked) else None

    @property
    def state(self) -> State:
        """What the newest requests of the last hour say: ``unknown`` where there were none."""
        recent = self.records[self.records["minute"] + _HOUR > self.now]
        if not len(recent):
            return "unknown"
        newest = _sum(recent[recent["minute"] + _NEWEST > recent["minute"].max()])
        if newest.failures == newest.requests:
            return "down"
        return "degraded" if newest.failures > _USUAL_FAILURES * newest.requests else "operational"


def health_path(state_dir: Path, exchange: str) -> Path:
    """The file of an exchange, by ccxt's id."""
    return state_dir / f"{exchange}.health"


def read_health(paths: Sequence[Path]) -> Health:
    """What the files say together; one that is not there, or is damaged, says nothing."""
    now = _minute()
    totals, parts = Counts(), [np.empty(0, _RECORD_TYPE)]
    for path in paths:
        of_file, records = _read(path)
        totals = totals.plus(of_file)
        parts.append(records)
    joined = np.concatenate(parts)
    joined = joined[(joined["minute"] + MINUTES > now) & (joined["minute"] <= now)]
    return Health(totals, np.sort(joined, order="minute"), now)


class HealthLog:
    """Enters one client's requests to one exchange.

    If the file cannot be used, a warning says so once, and nothing is measured.

    Args:
        exchange: ccxt's id of the exchange.
        path: File that the processes share; made when first needed.
    """

    def __init__(self, exchange: str, path: Path) -> None:
        self.exchange = exchange
        self.path = path
        self._waiting: dict[int, Counts] = {}
        self._is_usable = True

    @contextlib.contextmanager
    def request(self, cost_ms: float) -> Iterator[None]:
        """Measure what is done inside, one request, which takes so much of the exchange's budget."""
        began = time.perf_counter()
        try:
            yield
        except Exception as error:
            self._add(is_failure(error, self.exchange), began, cost_ms)
            raise
        self._add(False, began, cost_ms)

    def close(self) -> None:
        """Enter what could not be entered at once."""
        for _ in range(_LAST_ATTEMPTS):
            if not self._waiting or not self._is_usable:
                return
            self._enter()
            if self._waiting:
                time.sleep(0.001)

    def _add(self, is_failed: bool, began: float, cost_ms: float) -> None:
        latency = 0.0 if is_failed else (time.perf_counter() - began) * 1000
        minute = _minute()
        one = Counts(1, int(is_failed), latency, cost_ms)
        self._waiting[minute] = self._waiting.get(minute, Counts()).plus(one)
        self._enter()

    def _enter(self) -> None:
        if not self._is_usable:
            self._waiting.clear()
            return
        for _ in range(_LOCK_ATTEMPTS):
            try:
                _add_to_file(self.path, self._waiting)
            except BlockingIOError:
                continue
            except (ImportError, OSError) as error:
                logger.warning(
                    "%s: requests are not measured, because %s: %s", self.exchange, self.path, error
                )
                self._is_usable = False
            self._waiting.clear()
            return


def is_failure(error: Exception, exchange: str) -> bool:
    """Whether an error is the exchange's: it cannot be reached, refuses everyone, or talks nonsense.

    One that answers a wrong question with an error works as it should.
    """
    ours = error if isinstance(error, ZvtCryptoError) else our_error(error, exchange)
    return isinstance(ours, (RetriableError, RegionBlocked))


def _add_to_file(path: Path, counts: dict[int, Counts]) -> None:
    """Add counts by minute to the file.

    Raises:
        BlockingIOError: Another process has locked the file.
        OSError: The file cannot be made, locked, read or written.
        ImportError: This system has no such locks.
    """
    with locked(path) as file:
        totals = _locked_totals(file, path)
        for minute, added in counts.items():
            place = _TOTALS.size + minute % MINUTES * _RECORD.size
            known = _RECORD.decode(os.pread(file, _RECORD.size, place))
            before = Counts(*known[1:]) if known is not None and known[0] == minute else Counts()
            os.pwrite(file, _RECORD.encode(minute, *before.plus(added)), place)
            totals = totals.plus(added)
        os.pwrite(file, _TOTALS.encode(*totals), 0)


def _locked_totals(file: int, path: Path) -> Counts:
    """The totals of an open file; one that is damaged or of another layout is emptied."""
    content = os.pread(file, _TOTALS.size, 0)
    totals = _TOTALS.decode(content)
    if totals is not None:
        return Counts(*totals)
    if content:
        logger.warning("%s is not readable and is made anew", path)
        os.ftruncate(file, 0)
    return Counts()


def _read(path: Path) -> tuple[Counts, Records]:
    """Totals and sound records of a file, in the order of their places."""
    nothing = Counts(), np.empty(0, _RECORD_TYPE)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return nothing
    except OSError as error:
        logger.warning("%s cannot be read: %s", path, error)
        return nothing
    totals = _TOTALS.decode(content[: _TOTALS.size])
    if totals is None:
        return nothing
    # Places that were never written are zeros, or beyond the end.
    places = range(_TOTALS.size, len(content) - _RECORD.size + 1, _RECORD.size)
    found = (_RECORD.decode(content[place : place + _RECORD.size]) for place in places)
    return Counts(*totals), np.array([record for record in found if record is not None], _RECORD_TYPE)


def _sum(records: Records) -> Counts:
    requests, failures = (int(records[name].sum()) for name in ("requests", "failures"))
    return Counts(requests, failures, float(records["latency_ms"].sum()), float(records["cost_ms"].sum()))


def _minute() -> int:
    """Minutes since the epoch, by this machine's clock."""
    return time.time_ns() // (MINUTE_MS * 1_000_000)
