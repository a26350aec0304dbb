"""One market's rows of one table while they come in live: what is complete, and what is missing."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import DAY_MS
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.streaming import Topic
from zvt_crypto.recorders.report import Outcome
from zvt_crypto.store.coverage import Span
from zvt_crypto.store.writer import Entity

#: A trade may arrive after later ones, but not by more than this, in ms.
LATE_MS: Final = 1_000
#: How far, in ms, what is fetched reaches into what is streamed.
OVERLAP_MS: Final = 5_000


@dataclass(slots=True, eq=False)
class Series:
    """One market in one table.

    Attributes:
        topic: What is subscribed for it.
        instrument: The market.
        entity: What its rows are stored under.
        key: The table's number for it.
        outcome: What has become of it, for the report.
        rows: Rows of messages that wait to be stored, as the venue sent them.
        since: Exchange time from which on the stream has no hole; None while it has one.
        until: Exchange time up to which the ledger has the rows of that stream; None before its first row.
        missing_from: Exchange time since when something is missing that is still to be fetched; None where
            nothing is.
        lost_at: Monotonic seconds since when the stream has a hole; None while it has none.
        gaps: Stretches that the venue could not give any more.
        is_begun: Whether it has rows, or is to have rows, of before the stream's first.
    """

    topic: Topic
    instrument: Instrument
    entity: Entity
    key: int
    outcome: Outcome
    rows: list[Any] = field(default_factory=list)
    since: int | None = None
    until: int | None = None
    missing_from: int | None = None
    lost_at: float | None = field(default_factory=time.monotonic)
    gaps: int = 0
    is_begun: bool = False
    _last_id: int | None = None

    def went_live(self, since: int) -> None:
        """Nothing is missing from this exchange time on."""
        self.since, self.until, self.lost_at, self._last_id = since, None, None, None

    def lose(self) -> None:
        """Something may be missing from now on: what the ledger does not have yet is to be fetched."""
        if self.since is not None:
            begin = self.until if self.until is not None else self.since
            self.miss(begin)
        self.since = self.until = self._last_id = None
        if self.lost_at is None:
            self.lost_at = time.monotonic()

    def miss(self, start: int) -> None:
        """What began at this exchange time is to be fetched."""
        self.missing_from = start if self.missing_from is None else min(start, self.missing_from)
        self.is_begun = True

    def begin(self, start: int) -> None:
        """What the stream brings is entered from this exchange time on."""
        self.since = self.until = start
        self.is_begun = True

    def enter(self, trades: pa.Table, now: int, *, consecutive_ids: bool) -> tuple[list[Span], list[Span]]:
        """Take note of the stream's newest trades.

        Args:
            trades: As the venue sent them.
            now: The exchange's time, epoch ms.
            consecutive_ids: Whether ids are numbers that count without holes.

        Returns:
            What is to be fetched although the stream is live: before its first trade, and where ids have
            holes; and what is complete once these trades are stored.
        """
        if self.since is None:
            return [], []
        fetched: list[Span] = []
        if self.until is None:
            first = pc.min(trades["ts"]).as_py() + 1
            if first < self.since - LATE_MS:
                # Some venues begin with trades of before, and some that lie between may be missing.
                fetched.append((max(first - 1, self.since - DAY_MS), self.since))
            elif self.is_begun and self.since < first:
                fetched.append((self.since, first))
            self.begin(max(self.since, first))
        if consecutive_ids:
            for hole in self._holes(trades):
                fetched.append(hole)
                self.begin(hole[1])
        # A time that cannot be must not make the ledger run ahead.
        return fetched, self._claim(min(pc.max(trades["ts"]).as_py(), now))

    def _claim(self, newest: int) -> list[Span]:
        """The stretch that is complete once all rows up to a time are stored, and not in the ledger yet."""
        end = newest - LATE_MS
        if self.until is None or end <= self.until:
            return []
        begin, self.until = self.until, end
        return [(begin, end)]

    def _holes(self, trades: pa.Table) -> list[Span]:
        """The stretch in which trades are lost, where ids count without holes."""
        ids = trades["trade_id"].cast(pa.int64()).to_numpy()
        ts = trades["ts"].to_numpy()
        order = np.argsort(ids, kind="stable")
        ids, ts = ids[order], ts[order]
        before = int(ids[0]) - 1 if self._last_id is None else self._last_id
        is_new = ids > before
        ids, ts = ids[is_new], ts[is_new]
        if not len(ids):
            return []
        steps = np.diff(ids, prepend=before)
        is_hole = steps > 1
        self._last_id = int(ids[-1])
        if not is_hole.any():
            return []
        # One stretch for all of them: what the ledger has of it already is not fetched again.
        first, last = np.flatnonzero(is_hole)[[0, -1]]
        begin = int(ts[first - 1]) if first else int(ts[0])
        return [(begin if self.until is None else min(begin, self.until), int(ts[last]) + 1)]
