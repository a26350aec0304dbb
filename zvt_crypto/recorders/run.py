"""One run of the recorder: a provider, some tables, some symbols, a range of time."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import FatalError, InvalidArgument, RetriableError, SkippableError
from zvt_crypto.core.levels import ceil_ms, finished_end, iso, level_ms
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.exchanges.base import Venue, open_venue
from zvt_crypto.recorders.backfill import Backfill, Job, TableThread
from zvt_crypto.recorders.entities import (
    entity_spec,
    keep_list_date,
    record_entities,
    select_entities,
)
from zvt_crypto.recorders.report import Outcome, Progress, Report, Silent
from zvt_crypto.store.engine import Store
from zvt_crypto.store.writer import Entity

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Selection:
    """What to record.

    Attributes:
        provider: The data source.
        tables: The tables, in order.
        codes: Markets in any notation; None with no ``entity_ids`` means all that trade now.
        entity_ids: Markets by entity id.
        exchanges: Only markets of these exchanges.
        start: First time in epoch ms, None for the listing.
        end: End (exclusive) in epoch ms, None for the last finished candle.
        force: Fetch again what is recorded already.
        stop_at_failure: Fetch nothing more after the first symbol that fails.
        pause_seconds: Pause between two pages of a worker.
    """

    provider: str
    tables: tuple[TableSpec, ...]
    codes: tuple[str, ...] | None = None
    entity_ids: tuple[str, ...] | None = None
    exchanges: tuple[str, ...] | None = None
    start: int | None = None
    end: int | None = None
    force: bool = False
    stop_at_failure: bool = False
    pause_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise InvalidArgument(
                f"start {iso(self.start)} is not before end {iso(self.end)}",
                suggestions=("swap them, or leave the end out to record up to now",),
            )


class Run:
    """Records a selection.

    Args:
        settings: Limits and paths.
        selection: What to record.
        progress: Is told what happens.
    """

    def __init__(self, settings: Settings, selection: Selection, progress: Progress | None = None) -> None:
        self.settings = settings
        self.selection = selection
        self.progress = progress or Silent()
        self.store = Store(settings)
        self.report = Report()

    def start(self) -> Report:
        """Record everything, whether or not an event loop runs in this thread already (as in a notebook).

        Raises:
            FatalError: Nothing more could be done; what was committed before stays.
        """
        began = time.monotonic()
        try:
            run_coroutine(self._record())
        finally:
            self.report.seconds = time.monotonic() - began
        return self.report

    async def _record(self) -> None:
        async with open_venue(self.selection.provider, self.settings) as venue:
            for spec in self.selection.tables:
                if spec.layout == "entities":
                    self.report.outcomes.append(await record_entities(self.store, venue, spec))
                else:
                    await self._record_series(venue, spec)

    async def _record_series(self, venue: Venue, spec: TableSpec) -> None:
        entities = await self._entities(venue, spec)
        table = TableThread(self.store, venue.name, spec)
        try:
            backfill = Backfill(
                venue,
                spec,
                table,
                concurrency=self.settings.concurrency,
                force=self.selection.force,
                stop_at_failure=self.selection.stop_at_failure,
                pause_seconds=self.selection.pause_seconds,
                progress=self.progress,
            )
            jobs = await self._jobs(venue, spec, entities)
            await backfill.run(jobs)
        finally:
            table.close()

    async def _entities(self, venue: Venue, spec: TableSpec) -> list[dict[str, Any]]:
        """The markets meant; the exchange's list is recorded first where it does not hold them all."""
        selection, instruments = self.selection, entity_spec(spec.entity_type)

        def select() -> tuple[list[dict[str, Any]], list[Any]]:
            return select_entities(
                self.store,
                venue.name,
                instruments,
                codes=selection.codes,
                entity_ids=selection.entity_ids,
                exchanges=selection.exchanges,
            )

        found, errors = select()
        if errors or not found:
            outcome = await record_entities(self.store, venue, instruments)
            fatal = [error for error in outcome.errors if isinstance(error, (FatalError, RetriableError))]
            if fatal:
                raise fatal[0]
            found, errors = select()
        for error in errors:
            name = str(error.details.get("value", "?"))
            self.report.outcomes.append(Outcome(spec.name, name, errors=[error]))
        return found

    async def _jobs(self, venue: Venue, spec: TableSpec, entities: Sequence[dict[str, Any]]) -> list[Job]:
        assert spec.level is not None
        step = level_ms(spec.level)
        jobs = []
        for row in entities:
            outcome = Outcome(spec.name, row["entity_id"])
            self.report.outcomes.append(outcome)
            try:
                listed = await self._listed_at(venue, spec, row)
                now = await venue.client.now(spec.entity_type)
            except (RetriableError, SkippableError) as error:
                outcome.errors.append(error)
                continue
            start = max(listed, self.selection.start or 0)
            end = min(finished_end(now, step), self.selection.end or now)
            jobs.append(
                Job(
                    instrument=venue.instrument(row),
                    entity=Entity(row["entity_id"], row["code"], row["name"]),
                    start=ceil_ms(start, step),
                    end=ceil_ms(end, step),
                    outcome=outcome,
                )
            )
        return jobs

    async def _listed_at(self, venue: Venue, spec: TableSpec, row: dict[str, Any]) -> int:
        """When the market began, from its row or found by asking for its first candle, and then kept."""
        if row["list_date"] is not None:
            return int(row["list_date"].timestamp() * 1000)
        listed = await venue.find_listing(venue.instrument(row))
        if listed is None:
            return self.selection.start or 0
        keep_list_date(self.store, venue.name, entity_spec(spec.entity_type), row, listed)
        return listed


def run_coroutine(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in a thread of its own where this one has a running loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        is_main = threading.current_thread() is threading.main_thread()
        if sys.version_info < (3, 11) and sys.platform != "win32" and is_main:
            coroutine = _cancelled_by_ctrl_c(coroutine)
        return asyncio.run(coroutine)
    result: list[T] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            result.append(asyncio.run(coroutine))
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread
            failure.append(error)

    thread = threading.Thread(target=target, name="zvt-crypto-run")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


async def _cancelled_by_ctrl_c(coroutine: Coroutine[Any, Any, T]) -> T:
    """What ``asyncio.run`` does by itself from Python 3.11 on: Ctrl-C cancels, and strikes no other line."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    pressed = False

    def cancel() -> None:
        nonlocal pressed
        pressed = True
        if task is not None:
            task.cancel()

    loop.add_signal_handler(signal.SIGINT, cancel)
    try:
        return await coroutine
    except asyncio.CancelledError:
        if pressed:
            raise KeyboardInterrupt from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGINT)
