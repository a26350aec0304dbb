"""What differs between candles, trades and funding events when they are fetched."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable
from typing import ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import ArchiveUnusable, NotSupported
from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, finished_end, iso, spans_to_windows
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.exchanges.archive_files import ArchiveFile
from zvt_crypto.exchanges.base import Instrument, Venue
from zvt_crypto.exchanges.paging import Part, fetch_window

Span = tuple[int, int]

#: Longest time between two funding events of any venue, with some room.
_LONGEST_FUNDING_MS: Final = DAY_MS + HOUR_MS
_USUAL_FUNDING_MS: Final = 8 * HOUR_MS
_YEAR_MS: Final = 366 * DAY_MS


class Feed(ABC):
    """How the rows of a table are fetched from a venue.

    Args:
        venue: Where from.
        spec: The table.
    """

    #: How long the newest rows may take until the venue shows them; so much is left to the next run.
    lag_ms: ClassVar[int] = 0

    def __init__(self, venue: Venue, spec: TableSpec) -> None:
        self.venue = venue
        self.spec = spec
        self.step = spec.step

    def final_end(self, now: int) -> int:
        """End (exclusive) of the times whose rows change no more at the exchange's time ``now``."""
        return finished_end(now - self.lag_ms, self.step)

    def earliest(self, instrument: Instrument, now: int) -> int:
        """First time of which the venue still serves rows, epoch ms; 0 where it serves all."""
        return 0

    @abstractmethod
    def windows(self, instrument: Instrument, spans: Iterable[Span], parallel: int) -> list[Span]:
        """Missing spans cut into what is fetched at a time, ``parallel`` of them at once."""

    def files(self, instrument: Instrument, spans: Iterable[Span], now: int) -> list[ArchiveFile]:
        """Files of the venue's archive in missing spans that save requests."""
        found = (
            self.venue.archive_files(instrument, self.spec.feed, self.spec.level, start, end, now)
            for start, end in spans
        )
        return [file for files in found for file in files if self._is_worth(instrument, file)]

    def fetch_file(self, instrument: Instrument, file: ArchiveFile) -> AsyncIterator[Part]:
        """The rows of a file, as ``fetch``."""
        return self.venue.fetch_archive(instrument, self.spec.feed, self.spec.level, file)

    def _is_worth(self, instrument: Instrument, file: ArchiveFile) -> bool:
        return True

    @abstractmethod
    def fetch(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """The rows in ``[start, end)`` in the table's schema, page by page."""

    def amount(self, start: int, end: int) -> int:
        """What a stretch of time counts for in the progress: its candles, or else its minutes."""
        return (end - start) // max(self.step, MINUTE_MS)

    def shortfall(self, instrument: Instrument, missing: list[Span]) -> NotSupported:
        """The error that tells what a venue did not give although nothing went wrong."""
        spans = f"{iso(missing[0][0])} to {iso(missing[-1][1])}"
        what = f"{self.what} of {instrument.symbol}"
        return NotSupported(
            f"{self.venue.exchange} serves no {what} for {spans}",
            suggestions=(f"{self._advice(instrument)}, or take them from another provider",),
            missing=[[iso(start), iso(end)] for start, end in missing[:100]],
        )

    @property
    def what(self) -> str:
        """What the rows are, for messages."""
        return self.spec.feed

    def _advice(self, instrument: Instrument) -> str:
        return "record it before the venue forgets"


class CandleFeed(Feed):
    """Candles: windows of one page each."""

    def __init__(self, venue: Venue, spec: TableSpec) -> None:
        super().__init__(venue, spec)
        assert spec.level is not None
        self.level = spec.level

    @property
    def what(self) -> str:
        """With the level."""
        return f"{self.level} candles"

    def earliest(self, instrument: Instrument, now: int) -> int:
        """Some venues serve only so many of the newest candles."""
        reach = self.venue.capabilities.candle_reach.get(instrument.entity_type)
        return 0 if reach is None else finished_end(now, self.step) - reach * self.step

    def windows(self, instrument: Instrument, spans: Iterable[Span], parallel: int) -> list[Span]:
        """See ``Feed``."""
        return spans_to_windows(
            spans, self.venue.capabilities.candle_page[instrument.entity_type] * self.step
        )

    def _is_worth(self, instrument: Instrument, file: ArchiveFile) -> bool:
        return self._pages(instrument, file) > file.requests

    async def fetch_file(self, instrument: Instrument, file: ArchiveFile) -> AsyncIterator[Part]:
        """See ``Feed``; the rows, then a part without rows for each run of candles that has no hole.

        So what the file lacks stays missing, and the exchange is asked for it.

        Raises:
            ArchiveUnusable: To ask for what it lacks takes as many requests as to ask for everything.
        """
        times = []
        requests = 0
        async for part in super().fetch_file(instrument, file):
            times.append(part.rows["ts"].to_numpy())
            requests += part.requests
            if part.rows.num_rows:
                yield Part(part.rows, file.end, file.end, requests=0)
        ts = np.concatenate(times)
        if not np.all(ts[1:] > ts[:-1]):
            ts = np.unique(ts)
        ts = ts[ts % self.step == 0]
        ends = np.append(np.flatnonzero(np.diff(ts) > self.step), len(ts) - 1)
        if not len(ts) or len(ends) > self._pages(instrument, file):
            raise ArchiveUnusable(f"{file.name} has {len(ts)} {self.what}, in {len(ends)} pieces")
        for first, last in zip(np.append(0, ends[:-1] + 1), ends, strict=True):
            yield Part(part.rows.slice(0, 0), int(ts[first]), int(ts[last]) + self.step, requests)
            requests = 0

    def _pages(self, instrument: Instrument, file: ArchiveFile) -> int:
        return len(self.windows(instrument, [(file.start, file.end)], 1))

    async def fetch(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """See ``Feed``; one part, in which what is missing was asked for twice.

        It tells nothing of candles that the venue has dropped meanwhile, being no more among its newest.
        """

        async def fetch_page(lower: int, upper: int) -> pa.Table:
            return await self.venue.fetch_candle_page(instrument, self.level, lower, upper)

        window = await fetch_window(fetch_page, start, end, self.step)
        since = start
        if instrument.entity_type in self.venue.capabilities.candle_reach:
            earliest = self.earliest(instrument, await self.venue.client.now(instrument.entity_type))
            first = pc.min(window.batch["ts"]).as_py()
            since = max(start, min(earliest, end if first is None else first))
        yield Part(window.batch, since, end, window.requests)

    def _advice(self, instrument: Instrument) -> str:
        reach = self.venue.capabilities.candle_reach.get(instrument.entity_type)
        if reach is None:
            return super()._advice(instrument)
        hours = reach * self.step / HOUR_MS
        return f"only its newest {reach} candles can be had: record at least every {hours:g} hours"


class TradeFeed(Feed):
    """Trades: windows of time that are paged through one by one."""

    lag_ms = 2_000
    _SHORTEST_MS: Final = 15 * MINUTE_MS

    def windows(self, instrument: Instrument, spans: Iterable[Span], parallel: int) -> list[Span]:
        """See ``Feed``; two windows for each of ``parallel``, but none shorter than a quarter of an hour."""
        spans = list(spans)
        if not spans:
            return []
        if self.venue.capabilities.trades.get(instrument.entity_type) == "recent":
            # One page is all there is, and it reaches back from now.
            return [(spans[0][0], spans[-1][1])]
        total = sum(end - start for start, end in spans)
        width = min(max(total // (2 * parallel), self._SHORTEST_MS), DAY_MS)
        return spans_to_windows(spans, width)

    def fetch(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """See ``Feed``."""
        return self.venue.fetch_trades(instrument, start, end)

    def _advice(self, instrument: Instrument) -> str:
        page = self.venue.capabilities.trade_page.get(instrument.entity_type)
        if page is None or self.venue.capabilities.trades.get(instrument.entity_type) != "recent":
            return super()._advice(instrument)
        return f"only its newest {page} trades can be had: record more often"


class FundingFeed(Feed):
    """Funding events, each with the hours since the one before."""

    lag_ms = 5 * MINUTE_MS

    def windows(self, instrument: Instrument, spans: Iterable[Span], parallel: int) -> list[Span]:
        """See ``Feed``."""
        return spans_to_windows(spans, _YEAR_MS)

    def _is_worth(self, instrument: Instrument, file: ArchiveFile) -> bool:
        """Where a page holds fewer events than the file at the usual eight hours."""
        events = (file.end - file.start) // _USUAL_FUNDING_MS
        return events > file.requests * self.venue.capabilities.funding_page

    async def fetch(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """See ``Feed``; one part, since an event's interval follows from the event before."""
        parts = [
            part
            async for part in self.venue.fetch_funding(instrument, max(start - _LONGEST_FUNDING_MS, 0), end)
        ]
        rows = with_intervals(pa.concat_tables(part.rows for part in parts))
        ts = rows["ts"].to_numpy()
        rows = rows.filter(pa.array((ts >= start) & (ts < end)))
        since = max(start, min(part.start for part in parts))
        yield Part(rows, min(since, end), end, sum(part.requests for part in parts))


def with_intervals(rows: pa.Table) -> pa.Table:
    """Funding events by time, each once, with the hours since the one before; NULL for the first.

    Venues book a payment some milliseconds after it is due, so the hours are rounded to whole minutes.

    Args:
        rows: In ``exchanges.schemas.FUNDING``.
    """
    ts, last = np.unique(rows["ts"].to_numpy()[::-1], return_index=True)
    rows = rows.take(pa.array(rows.num_rows - 1 - last))
    minutes = np.round(np.diff(ts) / MINUTE_MS)
    hours = pa.array(np.append(np.nan, minutes / 60)[: len(ts)], pa.float64(), from_pandas=True)
    return rows.add_column(2, "funding_interval_hours", hours)


class RangeFeed(Feed):
    """Rows of any other feed: what the venue's method of that name yields, a month at a time."""

    _WINDOW_MS: Final = 30 * DAY_MS

    def windows(self, instrument: Instrument, spans: Iterable[Span], parallel: int) -> list[Span]:
        """See ``Feed``."""
        return spans_to_windows(spans, self._WINDOW_MS)

    def fetch(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """See ``Feed``."""
        parts: AsyncIterator[Part] = getattr(self.venue, f"fetch_{self.spec.feed}")(instrument, start, end)
        return parts


_FEEDS: Final[dict[str, type[Feed]]] = {"candles": CandleFeed, "trades": TradeFeed, "funding": FundingFeed}


def feed_of(venue: Venue, spec: TableSpec) -> Feed:
    """How a table is fetched from a venue.

    Raises:
        NotSupported: The venue has no method for the feed.
    """
    if spec.feed not in _FEEDS and not hasattr(venue, f"fetch_{spec.feed}"):
        raise NotSupported(f"{venue.exchange} serves no {spec.feed}")
    return _FEEDS.get(spec.feed, RangeFeed)(venue, spec)


def serves(venue: type[Venue], spec: TableSpec, entity_type: str) -> bool:
    """Whether a venue has rows for a table of a kind of market."""
    capabilities = venue.capabilities
    if entity_type not in capabilities.entity_types or entity_type not in spec.entity_types:
        return False
    known = {
        "candles": spec.level in capabilities.levels,
        "trades": entity_type in capabilities.trades,
        "funding": capabilities.funding is not None,
        "orderbooks": entity_type in capabilities.book_depths,
    }
    return known.get(spec.feed, hasattr(venue, f"fetch_{spec.feed}"))
