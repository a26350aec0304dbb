"""Rows on their way into a table: in memory while the table takes them, on disk while it does not.

A page is given up only when neither takes it, and then its time is not entered in the ledger: what is lost is
known, and is fetched again where the venue serves it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from zvt_crypto.core.errors import StoreBusy, StoreFull
from zvt_crypto.core.levels import subtract_spans
from zvt_crypto.recorders.backfill import TableThread
from zvt_crypto.store.writer import Page
from zvt_crypto.stream.series import LATE_MS
from zvt_crypto.stream.spill import Spilled, Spills

logger = logging.getLogger(__name__)

#: Rows that wait in memory before the oldest go to disk, and before they are given up where the disk is full.
MOST_ROWS: Final = 200_000
MOST_ROWS_AT_ALL: Final = 1_000_000
#: Seconds between attempts while the table is locked or its disk is full.
RETRY_SECONDS: Final = 1.0
#: Rows of one transaction.
_ROWS_AT_ONCE: Final = 100_000


@dataclass(slots=True)
class Backlog:
    """What has not reached the table.

    Attributes:
        rows: Rows in memory.
        spilled_rows: Rows that went to disk so far.
        files: Files on disk that wait.
        dropped_rows: Rows that neither took.
        stored_rows: Rows that were committed.
        stalled_since: Epoch seconds since when the table takes nothing; None while it does.
    """

    rows: int = 0
    spilled_rows: int = 0
    files: int = 0
    dropped_rows: int = 0
    stored_rows: int = 0
    stalled_since: float | None = None


class PageQueue:
    """Stores pages of one table in the order in which they come.

    Args:
        table: The table's thread.
        folder: Where pages wait while the table takes none; those that an earlier process left are stored
            first.
        on_dropped: Is told of pages that are given up.
        most_rows: See ``MOST_ROWS``.
        most_rows_at_all: See ``MOST_ROWS_AT_ALL``.
        retry_seconds: See ``RETRY_SECONDS``.
    """

    def __init__(
        self,
        table: TableThread,
        folder: Path,
        on_dropped: Callable[[Sequence[Page]], None],
        *,
        most_rows: int = MOST_ROWS,
        most_rows_at_all: int = MOST_ROWS_AT_ALL,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self.table = table
        self.backlog = Backlog()
        self._spills = Spills(folder, table.writer.spec)
        self._on_dropped = on_dropped
        self._most_rows = most_rows
        self._most_rows_at_all = most_rows_at_all
        self._retry_seconds = retry_seconds
        self._waiting: deque[Page] = deque()
        #: What the table is given now, as far as it is nowhere else.
        self._storing: list[Page] = []
        #: Entities of whose last page it is not known whether a damaged file had it.
        self._doubtful: set[int] = set()
        self._woken = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._closing = False
        self._told_full = False

    async def replay(self) -> None:
        """Store what an earlier process left on disk, unless the table takes nothing now."""
        while (files := self._spills.files()) and await self._store_file(files[0]):
            pass

    def start(self) -> None:
        """Begin to store, in a task."""
        self._running = asyncio.create_task(self._run())

    def check(self) -> None:
        """Tell whether rows are stored.

        Raises:
            FatalError: They are not, and will not be: the table cannot be written.
        """
        if self._running is not None and self._running.done():
            self._running.result()

    def put(self, page: Page) -> None:
        """Take a page; returns at once."""
        self._waiting.append(page)
        self.backlog.rows += page.batch.num_rows
        self._woken.set()
        if self.backlog.rows > self._most_rows:
            self._relieve(self._most_rows // 2)

    async def close(self, seconds: float) -> None:
        """Store what waits, for so long; what is left then goes to disk. Nothing may be put in any more.

        Raises:
            FatalError: The table cannot be written.
        """
        self._closing = True
        self._woken.set()
        until = time.monotonic() + seconds
        try:
            if self._running is not None:
                await self._running
            while (self._waiting or self._spills.files()) and time.monotonic() < until:
                if not await self._step():
                    await asyncio.sleep(self._retry_seconds)
        finally:
            self._relieve(0)
            if self._waiting:
                self._give_up(0)

    async def _run(self) -> None:
        self._woken.set()
        while not self._closing:
            await self._woken.wait()
            self._woken.clear()
            while (self._waiting or self._spills.files()) and not self._closing:
                if not await self._step():
                    await asyncio.sleep(self._retry_seconds)

    async def _step(self) -> bool:
        """Store some of the oldest; whether the table took them."""
        files = self._spills.files()
        if files:
            return await self._store_file(files[0])
        rows = 0
        while self._waiting and rows < _ROWS_AT_ONCE:
            self._storing.append(self._waiting.popleft())
            rows += self._storing[-1].batch.num_rows
        is_stored = await self._store(tuple(self._storing))
        # What was put aside meanwhile comes, and counts, once more with its file.
        taken, self._storing = self._storing, []
        if is_stored and taken:
            self.backlog.rows -= rows
            self.backlog.stored_rows += rows
        elif not is_stored:
            self._waiting.extendleft(reversed(taken))
            if self.backlog.rows > self._most_rows:
                self._relieve(self._most_rows // 2)
        return is_stored

    async def _store(self, pages: Sequence[Page]) -> bool:
        """Whether the table took pages, in one transaction."""
        name = self.table.writer.spec.name
        sure = [
            _entering_after(page, page.answered[0][0] + LATE_MS)
            if page.key in self._doubtful and page.answered
            else page
            for page in pages
        ]
        try:
            await self.table.call(lambda: self.table.writer.write_pages(sure))
        except (StoreBusy, StoreFull) as error:
            if self.backlog.stalled_since is None:
                self.backlog.stalled_since = time.time()
                logger.warning("%s takes no rows, which wait meanwhile: %s", name, error.message)
            return False
        if self.backlog.stalled_since is not None:
            logger.warning("%s takes rows again", name)
            self.backlog.stalled_since = None
        self._doubtful.difference_update(page.key for page in pages if page.answered)
        return True

    async def _store_file(self, path: Path) -> bool:
        """Store a file that waits on disk, and whether the table took it."""
        spilled, is_whole = await asyncio.to_thread(self._spills.read, path)
        try:
            pages = await self.table.call(lambda: self._with_keys(spilled))
        except (StoreBusy, StoreFull):
            return False
        if not await self._store(pages):
            return False
        self.backlog.stored_rows += _rows(pages)
        if not is_whole:
            self._doubtful.update(self.table.writer.known_entities)
        # A crash in between stores the pages twice, which changes nothing.
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self.backlog.files = len(self._spills.files())
        return True

    def _with_keys(self, spilled: Sequence[Spilled]) -> list[Page]:
        entities = {one.entity for one in spilled}
        key_of = {entity: self.table.writer.entity_key(entity) for entity in entities}
        return [one.page(key_of[one.entity]) for one in spilled]

    def _relieve(self, leave: int) -> None:
        """Move the oldest pages to disk until so many rows are left, or give them up if it is full."""
        taken = self._oldest(leave)
        is_nothing = not taken and (leave or not self._storing)
        if is_nothing or self._put_aside(taken):
            return
        self._waiting.extendleft(reversed(taken))
        if self.backlog.rows > self._most_rows_at_all:
            self._give_up(self._most_rows_at_all // 2)

    def _oldest(self, leave: int) -> list[Page]:
        """Take the oldest pages off the queue until so many rows are left; for 0, those without rows, too."""
        taken: list[Page] = []
        rows = self.backlog.rows
        while self._waiting and (rows > leave or not leave):
            taken.append(self._waiting.popleft())
            rows -= taken[-1].batch.num_rows
        return taken

    def _put_aside(self, pages: Sequence[Page]) -> bool:
        """Move pages to disk, and whether that took them.

        What the table is given now goes first: no file may hold what is newer than what a crash would lose,
        since a page enters the last second of the one before it in the ledger.
        """
        pages = [*self._storing, *pages]
        try:
            self._spills.write(pages, self.table.writer.known_entities)
        except OSError as error:
            if not self._told_full:
                self._told_full = True
                logger.error("rows that wait cannot be put aside: %s", error)
            return False
        self._told_full = False
        self._storing = []
        rows = _rows(pages)
        self.backlog.rows -= rows
        self.backlog.spilled_rows += rows
        self.backlog.files = len(self._spills.files())
        self._woken.set()
        return True

    def _give_up(self, leave: int) -> None:
        """Drop the oldest pages, and say whose."""
        dropped = self._oldest(leave)
        rows = _rows(dropped)
        self.backlog.rows -= rows
        self.backlog.dropped_rows += rows
        logger.error("%s: %d rows are given up, to be fetched again", self.table.writer.spec.name, rows)
        newest = {page.key: page.batch["ts"][-1].as_py() for page in dropped if page.batch.num_rows}
        self._waiting = deque(_entering_after(page, newest.get(page.key)) for page in self._waiting)
        self._on_dropped(dropped)


def _rows(pages: Sequence[Page]) -> int:
    return sum(page.batch.num_rows for page in pages)


def _entering_after(page: Page, ts: int | None) -> Page:
    """A page that enters nothing up to a time in the ledger: the rows of the page before it are lost."""
    if ts is None:
        return page
    return replace(page, answered=tuple(subtract_spans(page.answered, [(0, ts + 1)])))
