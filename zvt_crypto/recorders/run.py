"""One run of the recorder: a provider, some tables, some symbols, a range of time."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import FatalError, InvalidArgument, NotSupported, RetriableError, SkippableError
from zvt_crypto.core.levels import ceil_ms, iso
from zvt_crypto.core.symbols import parse_notation
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.exchanges.base import Venue, open_venue, venues
from zvt_crypto.recorders.backfill import Backfill, Job, TableThread
from zvt_crypto.recorders.books import depth_of, record_books
from zvt_crypto.recorders.deriving import derive
from zvt_crypto.recorders.entities import (
    entity_spec,
    keep_list_date,
    record_entities,
    select_entities,
)
from zvt_crypto.recorders.feeds import CandleFeed, Feed, Span, feed_of, serves
from zvt_crypto.recorders.forecast import Forecast, forecast
from zvt_crypto.recorders.report import Outcome, Progress, Report, Silent
from zvt_crypto.store.engine import Store
from zvt_crypto.store.writer import Entity

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Level of the candles from which others are made.
DERIVED_FROM: Final = "1m"


@dataclass(frozen=True, slots=True)
class Selection:
    """What to record.

    Attributes:
        provider: The data source.
        tables: The tables, in order.
        codes: Markets in any notation; None with no ``entity_ids`` means all that trade now.
        entity_ids: Markets by entity id.
        entity_type: Only markets of this type, which is also what a code means that does not tell.
        exchanges: The exchanges of a provider that serves many.
        start: First time in epoch ms, None for the listing.
        end: End (exclusive) in epoch ms, None for the last finished candle.
        force: Fetch again what is recorded already.
        stop_at_failure: Fetch nothing more after the first symbol that fails.
        pause_seconds: Pause between two windows of a worker.
        derive: Levels of candles to make from recorded candles of one minute.
        depth: Price levels of order books, None for the most that one cheap request gives.
        spans: By entity id, the only stretches of time that count, half-open, in epoch ms; None means all.
    """

    provider: str
    tables: tuple[TableSpec, ...]
    codes: tuple[str, ...] | None = None
    entity_ids: tuple[str, ...] | None = None
    entity_type: str | None = None
    exchanges: tuple[str, ...] | None = None
    start: int | None = None
    end: int | None = None
    force: bool = False
    stop_at_failure: bool = False
    pause_seconds: float = 0.0
    derive: tuple[str, ...] = ()
    depth: int | None = None
    spans: Mapping[str, tuple[Span, ...]] | None = None

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

    def forecast(self) -> list[Forecast]:
        """What recording would fetch; nothing is stored but the exchange's list of markets.

        Trades are counted by samples, which takes some requests. Order books are one request each.

        Raises:
            ZvtCryptoError: The exchange cannot be asked.
        """
        made: list[Forecast] = []
        run_coroutine(self._forecast(made))
        return made

    async def _forecast(self, made: list[Forecast]) -> None:
        for exchange in self.exchanges():
            async with open_venue(self.selection.provider, self.settings, exchange) as venue:
                for spec in self.selection.tables:
                    if spec.layout == "series" and spec.feed != "orderbooks":
                        feed = feed_of(venue, spec)
                        for job in await self._jobs(feed, await self.markets(venue, spec)):
                            made.append(await forecast(self.store, feed, job, force=self.selection.force))

    async def markets(self, venue: Venue, spec: TableSpec) -> list[dict[str, Any]]:
        """The rows of the entity tables that the selection means for a table."""
        return [
            row
            for kind, names in self._named(venue, spec).items()
            for row in await self._entities(venue, spec, kind, names)
        ]

    async def _record(self) -> None:
        for exchange in self.exchanges():
            async with open_venue(self.selection.provider, self.settings, exchange) as venue:
                for spec in self.selection.tables:
                    await self._record_table(venue, spec)

    def exchanges(self) -> tuple[str | None, ...]:
        """The exchanges of a provider that serves many; None for a provider that is an exchange itself."""
        named = self.selection.exchanges or (None,)
        provider = venues().get(self.selection.provider)
        if provider is None or provider.serves_many:
            return named
        return (None,) if named == (None,) or provider.exchange in named else ()

    async def _record_table(self, venue: Venue, spec: TableSpec) -> None:
        if spec.layout == "entities":
            self.report.outcomes.append(await record_entities(self.store, venue, spec))
            return
        if spec.feed == "orderbooks":
            await self._record_books(venue, spec)
        else:
            await self._record_series(feed_of(venue, spec), await self.markets(venue, spec))

    async def _record_books(self, venue: Venue, spec: TableSpec) -> None:
        # A depth that cannot be had is told before anything is asked for or written.
        depths = {kind: depth_of(venue, kind, self.selection.depth) for kind in self._named(venue, spec)}
        entities = await self.markets(venue, spec)
        outcomes = [Outcome(spec.name, row["entity_id"]) for row in entities]
        self.report.outcomes += outcomes
        await record_books(self.store, venue, spec, entities, outcomes, depths, self.progress)

    async def _record_series(self, feed: Feed, entities: Sequence[dict[str, Any]]) -> None:
        table = TableThread(self.store, feed.venue.name, feed.spec)
        try:
            backfill = Backfill(
                feed,
                table,
                concurrency=feed.venue.client.settings.concurrency,
                archives=self.settings.archives,
                force=self.selection.force,
                stop_at_failure=self.selection.stop_at_failure,
                pause_seconds=self.selection.pause_seconds,
                progress=self.progress,
            )
            jobs = await self._jobs(feed, entities)
            await backfill.run(jobs)
        finally:
            table.close()
        await self._derive(feed, jobs)

    async def _derive(self, feed: Feed, jobs: Sequence[Job]) -> None:
        """Make the levels wanted from the finest recorded one."""
        if isinstance(feed, CandleFeed) and feed.level == DERIVED_FROM:
            for level in self.selection.derive:
                self.report.outcomes += await derive(self.store, feed, jobs, level, self.progress)

    def _named(self, venue: Venue, spec: TableSpec) -> dict[str, list[str]]:
        """The names that the selection has for markets of a table, by entity type; none means all of it.

        Raises:
            NotSupported: The venue has no such rows for one of the types, or for none where none is named.
        """
        selection = self.selection
        default = selection.entity_type or spec.entity_type
        kinds = (selection.entity_type,) if selection.entity_type else spec.entity_types
        named: dict[str, list[str]] = {kind: [] for kind in kinds}
        for text in (*(selection.codes or ()), *(selection.entity_ids or ())):
            kind = parse_notation(text).entity_type
            # What is of a type that is not meant is looked for among the others, and told to be unknown.
            named[kind if kind in named else default].append(text)
        wanted = {kind: names for kind, names in named.items() if names}
        if not wanted:
            wanted = {kind: [] for kind in named if serves(type(venue), spec, kind)} or named
        for kind in wanted:
            if not serves(type(venue), spec, kind):
                raise NotSupported(
                    f"{venue.exchange} serves no {spec.feed} of {kind}",
                    suggestions=("see `zvt-crypto providers` for what each serves",),
                )
        return wanted

    async def _entities(
        self, venue: Venue, spec: TableSpec, kind: str, names: Sequence[str]
    ) -> list[dict[str, Any]]:
        """The markets meant; the exchange's list is recorded first where it does not hold them all."""
        instruments = entity_spec(kind)

        def select() -> tuple[list[dict[str, Any]], list[Any]]:
            return select_entities(
                self.store, venue.name, instruments, codes=names, exchanges=(venue.exchange,)
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

    async def _jobs(self, feed: Feed, entities: Sequence[dict[str, Any]]) -> list[Job]:
        jobs = []
        for row in entities:
            outcome = Outcome(feed.spec.name, row["entity_id"])
            self.report.outcomes.append(outcome)
            try:
                jobs.append(await self._job(feed, row, outcome))
            except (RetriableError, SkippableError) as error:
                outcome.errors.append(error)
        return jobs

    async def _job(self, feed: Feed, row: dict[str, Any], outcome: Outcome) -> Job:
        venue = feed.venue
        listed = await self.listed_at(venue, row)
        now = await venue.client.now(row["entity_type"])
        ends = [feed.final_end(now), self.selection.end or now]
        if row["end_date"] is not None:
            # A delisted market has nothing after its last minute.
            ends.append(ceil_ms(int(row["end_date"].timestamp() * 1000), feed.step))
        return Job(
            instrument=venue.instrument(row),
            entity=Entity(row["entity_id"], row["code"], row["name"]),
            start=ceil_ms(max(listed, self.selection.start or 0), feed.step),
            end=ceil_ms(min(ends), feed.step),
            now=now,
            outcome=outcome,
            spans=None if self.selection.spans is None else self.selection.spans.get(row["entity_id"], ()),
        )

    async def listed_at(self, venue: Venue, row: dict[str, Any]) -> int:
        """When the market began, from its row or found by asking for its first candle, and then kept."""
        if row["list_date"] is not None:
            return int(row["list_date"].timestamp() * 1000)
        listed = await venue.find_listing(venue.instrument(row))
        if listed is None:
            return self.selection.start or 0
        keep_list_date(self.store, venue.name, entity_spec(row["entity_type"]), row, listed)
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
