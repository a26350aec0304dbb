"""The scheduler: starts each entry's runs on time, and keeps what became of them."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final

from apscheduler.events import EVENT_JOB_MAX_INSTANCES
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import EXIT_FAILED, EXIT_OK, EXIT_PARTIAL, ZvtCryptoError
from zvt_crypto.core.schedules import Cadence, ScheduleEntry
from zvt_crypto.recorders.report import Outcome, Report
from zvt_crypto.scheduling.history import (
    CANCELLED,
    DONE,
    FAILED,
    PARTIAL,
    ErrorLine,
    History,
    RunRecord,
)
from zvt_crypto.scheduling.lockfile import ProcessLock
from zvt_crypto.scheduling.places import history_path, lock_path
from zvt_crypto.scheduling.queueing import Cancelled, TableQueue
from zvt_crypto.scheduling.works import Work, now_ms

logger = logging.getLogger(__name__)

#: Errors, and incomplete symbols, that are kept of a run.
_KEPT: Final = 100
_STATES: Final = {EXIT_OK: DONE, EXIT_PARTIAL: PARTIAL}


@dataclass(frozen=True, slots=True)
class Planned:
    """An entry and what it does."""

    entry: ScheduleEntry
    work: Work


class Scheduler:
    """Runs entries when they are due, as a context: it holds the data folder's schedule alone.

    An entry runs once at a time. What falls due meanwhile, or while the process could not run, is made up for
    by one run; so is, at the start, what fell due since the last run that came to an end. Entries that share
    a table wait for each other.

    Args:
        settings: Where the data and the history are.
        planned: The entries; their names are unique.
        on_end: Is told of each run that ends, from the run's thread, one at a time.

    Raises:
        StoreBusy: On entering: another process runs this data folder's schedule.
    """

    def __init__(
        self, settings: Settings, planned: Sequence[Planned], on_end: Callable[[RunRecord], None]
    ) -> None:
        self.settings = settings
        self.planned = tuple(planned)
        self.interrupted: list[RunRecord] = []
        self._on_end = on_end
        self._telling = threading.Lock()
        self._lock = ProcessLock(lock_path(settings))
        self._queue = TableQueue()
        self._missed: set[str] = set()
        self._is_stopping = threading.Event()
        self._scheduler = BackgroundScheduler(
            timezone=dt.timezone.utc,
            executors={"default": ThreadPoolExecutor(max(1, len(self.planned)))},
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
        )
        self._scheduler.add_listener(self._note_missed, EVENT_JOB_MAX_INSTANCES)

    def __enter__(self) -> Scheduler:
        self._lock.acquire(f"the schedule of {self.settings.data_path}")
        try:
            self._history = History(
                history_path(self.settings), busy_timeout=self.settings.busy_timeout_seconds
            )
            self.interrupted = self._history.end_interrupted()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._history.close()
        self._lock.release()

    def start(self, *, once: bool = False) -> None:
        """Begin; returns at once.

        Args:
            once: Run every entry once, now, instead of when it is due.
        """
        # A run that is still under way when the next is due is made up for, which is no reason to warn.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        ended = self._history.last_ended()
        now = dt.datetime.now(dt.timezone.utc)
        for planned in self.planned:
            entry, cadence = planned.entry, planned.entry.cadence
            # A repair has nothing to look after before the others have recorded something.
            never = now_ms() if entry.repair else -1
            is_late = ended.get(entry.name, never) < cadence.last(now_ms())
            self._scheduler.add_job(
                self._run,
                None if once else GridTrigger(cadence),
                [planned],
                id=entry.name,
                name=entry.name,
                **({"next_run_time": now} if is_late and not once else {}),
            )
        self._scheduler.start()

    def wake(self) -> None:
        """Look at the clock again: after a machine slept, waits that began before have not gone on."""
        self._scheduler.wakeup()

    def stop(self) -> None:
        """Let nothing more begin, cancel what is under way, and return once its outcome is kept."""
        self._is_stopping.set()
        self._queue.close()
        if not self._scheduler.running:
            return
        self._scheduler.pause()
        self._scheduler.remove_all_jobs()
        for planned in self.planned:
            planned.work.cancel()
        self._scheduler.shutdown(wait=True)

    def _note_missed(self, event: Any) -> None:
        self._missed.add(event.job_id)

    def _run(self, planned: Planned) -> None:
        """One run, and another one if the entry fell due again meanwhile."""
        name = planned.entry.name
        is_due = True
        while is_due:
            try:
                with self._queue.turn(planned.work.tables):
                    self._missed.discard(name)
                    self._run_in_turn(planned)
            except Cancelled:
                return
            except ZvtCryptoError as error:
                logger.error("%s: its outcome cannot be kept: %s", name, error.one_line())
            is_due = name in self._missed and not self._is_stopping.is_set()

    def _run_in_turn(self, planned: Planned) -> None:
        report = Report()
        begun = self._history.begin(planned.entry.name, now_ms())
        failure: Exception | None = None
        try:
            planned.work.run(report)
        except Exception as error:  # noqa: BLE001 - whatever one run dies of, the others go on
            failure = error
            logger.debug("%s failed", planned.entry.name, exc_info=True)
        record = _ended(begun, report, failure)
        try:
            self._history.finish(record)
        finally:
            with self._telling:
                self._on_end(record)


class GridTrigger(BaseTrigger):
    """The moments of a cadence; APScheduler's own interval trigger leaves the grid after a late run."""

    def __init__(self, cadence: Cadence) -> None:
        self.cadence = cadence

    def get_next_fire_time(self, previous_fire_time: dt.datetime | None, now: dt.datetime) -> dt.datetime:
        """The first moment after the last one, or after ``now``."""
        after = previous_fire_time or now
        moment = self.cadence.next(round(after.timestamp() * 1000))
        return dt.datetime.fromtimestamp(moment / 1000, dt.timezone.utc)


def _ended(begun: RunRecord, report: Report, failure: Exception | None) -> RunRecord:
    exit_code = _exit_code(report, failure)
    errors = [] if failure is None or exit_code is None else [_line(failure)]
    errors += [_line(error) for outcome in report.failed for error in outcome.errors]
    return replace(
        begun,
        finished=now_ms(),
        state=CANCELLED if exit_code is None else _STATES.get(exit_code, FAILED),
        rows=report.rows,
        requests=report.requests,
        exit_code=exit_code,
        errors=tuple(dict.fromkeys(errors))[:_KEPT],
        missing=tuple(_missing(outcome) for outcome in report.failed[:_KEPT]),
    )


def _exit_code(report: Report, failure: Exception | None) -> int | None:
    if isinstance(failure, Cancelled):
        return None
    if failure is None:
        return report.exit_code
    if report.rows:
        return EXIT_PARTIAL
    return failure.exit_code if isinstance(failure, ZvtCryptoError) else EXIT_FAILED


def _line(error: Exception) -> ErrorLine:
    if isinstance(error, ZvtCryptoError):
        return ErrorLine(error.code, " ".join(error.one_line().split()))
    return ErrorLine(ZvtCryptoError.code, f"unexpected {type(error).__name__}: {error}".strip())


def _missing(outcome: Outcome) -> str:
    """A symbol that is not complete, with the times that the exchange did not give."""
    spans = [span for error in outcome.errors for span in error.details.get("missing", ())]
    times = f" {spans[0][0]} to {spans[-1][1]}" if spans else ""
    return f"{outcome.table} {outcome.entity_id}{times}"
