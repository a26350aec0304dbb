"""What an entry of the schedule does when it is due, in a form that can be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import DataQualityFailure
from zvt_crypto.core.levels import DAY_MS, floor_ms, iso
from zvt_crypto.quality.series import RecordedSeries
from zvt_crypto.recorders.repairing import Repair, repair
from zvt_crypto.recorders.report import Outcome, Progress, Report
from zvt_crypto.recorders.run import Run, Selection
from zvt_crypto.scheduling.queueing import Cancelled, TableKey

#: Makes what is to be recorded at a time, epoch ms by this machine's clock.
Plan = Callable[[int], Sequence[Selection]]


class Work(Protocol):
    """What an entry does, again and again."""

    @property
    def tables(self) -> frozenset[TableKey]:
        """The tables that it writes to."""

    def run(self, report: Report) -> None:
        """Do it once, noting in ``report`` what becomes of it.

        Raises:
            Cancelled: ``cancel`` was called before or meanwhile.
            ZvtCryptoError: It could not be brought to its end; what was stored stays.
        """

    def cancel(self) -> None:
        """End a run that is under way, and let none begin; any thread may call."""


class Recording:
    """Records selections one after the other.

    Args:
        settings: Limits and paths.
        plan: Makes the selections; their tables are always the same.
    """

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self._settings = settings
        self._plan = plan
        self._runs = _Runs()
        self.tables = frozenset(
            (selection.provider, spec.name) for selection in plan(now_ms()) for spec in selection.tables
        )

    def run(self, report: Report) -> None:
        """See ``Work``."""
        for selection in self._plan(now_ms()):
            run = self._runs.make(self._settings, selection)
            try:
                run.start()
            except asyncio.CancelledError:
                raise Cancelled from None
            finally:
                report.outcomes.extend(run.report.outcomes)
                report.seconds += run.report.seconds

    def cancel(self) -> None:
        """See ``Work``."""
        self._runs.cancel()


class Repairing:
    """Heals the holes of recorded series.

    Args:
        settings: Limits and paths.
        tables: The tables that may be written to.
        choose: Finds the series that are recorded by now.
        days: How many days back, None for everything that is recorded.
    """

    def __init__(
        self,
        settings: Settings,
        tables: frozenset[TableKey],
        choose: Callable[[], Sequence[RecordedSeries]],
        days: int | None,
    ) -> None:
        self.tables = tables
        self._settings = settings
        self._choose = choose
        self._days = days
        self._runs = _Runs()

    def run(self, report: Report) -> None:
        """See ``Work``."""
        start = None if self._days is None else floor_ms(now_ms(), DAY_MS) - self._days * DAY_MS
        began = time.monotonic()
        runs: list[Run] = []

        def make_run(settings: Settings, selection: Selection, progress: Progress | None) -> Run:
            runs.append(self._runs.make(settings, selection, progress))
            return runs[-1]

        try:
            made = repair(self._settings, self._choose(), start=start, make_run=make_run)
        except BaseException as error:
            report.outcomes.extend(outcome for run in runs for outcome in run.report.outcomes)
            if isinstance(error, asyncio.CancelledError):
                raise Cancelled from None
            raise
        finally:
            report.seconds = time.monotonic() - began
        report.outcomes.extend(_healed(one) for one in made)

    def cancel(self) -> None:
        """See ``Work``."""
        self._runs.cancel()


class _Runs:
    """The runs of a work, one at a time; any thread may cancel the one that is under way, and all to come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: CancellableRun | None = None
        self._is_cancelled = False

    def make(
        self, settings: Settings, selection: Selection, progress: Progress | None = None
    ) -> CancellableRun:
        """The next run, which is to be started at once.

        Raises:
            Cancelled: ``cancel`` was called before.
        """
        with self._lock:
            if self._is_cancelled:
                raise Cancelled
            self._newest = CancellableRun(settings, selection, progress)
            return self._newest

    def cancel(self) -> None:
        """End the run that is under way, and let none begin."""
        with self._lock:
            self._is_cancelled = True
            if self._newest is not None:
                self._newest.cancel()


class CancellableRun(Run):
    """A run that another thread can end: pages that are committed stay, the one in flight is dropped."""

    _loop: asyncio.AbstractEventLoop | None = None
    _task: asyncio.Task[None] | None = None
    _is_cancelled = False

    async def _record(self) -> None:
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        if self._is_cancelled:
            raise asyncio.CancelledError
        await super()._record()

    def cancel(self) -> None:
        """End it; ``start`` then raises ``asyncio.CancelledError``. After its end this does nothing."""
        self._is_cancelled = True
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                loop.call_soon_threadsafe(task.cancel)


def _healed(one: Repair) -> Outcome:
    """What became of a series, as runs tell it."""
    errors = list(one.errors)
    if one.remaining and not errors:
        left = one.after.gaps.take(one.after.can_be_healed | one.after.is_unproven).spans()
        what = f"{one.series.spec.name} of {one.series.entity_id}"
        errors.append(
            DataQualityFailure(
                f"{what} lacks {one.remaining:,} rows after the repair",
                suggestions=("the next repair asks again; `zvt-crypto gaps` says what is known of them",),
                missing=[[iso(start), iso(end)] for start, end in left[:100]],
            )
        )
    return Outcome(one.series.spec.name, one.series.entity_id, one.healed, one.requests, errors)


def now_ms() -> int:
    """This machine's time, epoch ms."""
    return int(time.time() * 1000)
