"""What a recording would take: ranges, requests, rows, bytes and minutes, without recording."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from zvt_crypto.core.errors import RetriableError, SkippableError, ZvtCryptoError
from zvt_crypto.core.levels import HOUR_MS, MINUTE_MS, ceil_ms
from zvt_crypto.exchanges.paging import Part
from zvt_crypto.recorders.backfill import Job
from zvt_crypto.recorders.feeds import Feed, Span
from zvt_crypto.recorders.planning import Window, not_recorded, plan_windows
from zvt_crypto.store.engine import Store, disk_bytes

#: Pages of trades that are fetched to learn how many there are.
_SAMPLES: Final = 48
_SAMPLE_MS: Final = 2 * MINUTE_MS
#: Bytes of a row where the table has too few rows to tell.
_USUAL_BYTES: Final = {"candles": 55.0, "trades": 45.0, "funding": 60.0}
_ROWS_THAT_TELL: Final = 10_000
_USUAL_FUNDING_HOURS: Final = 8.0


@dataclass(slots=True)
class Forecast:
    """What one symbol of one table would take.

    Attributes:
        table: Name of the table.
        entity_id: The entity.
        ranges: What is missing and can be had, half-open spans in epoch ms.
        files: Files of the venue's archive among it.
        requests: HTTP requests for rows, those for files included.
        rows: Rows.
        bytes: Growth of the database.
        seconds: Time that the requests take under the venue's budget, one process alone.
        samples: Requests that this forecast took.
        error: What cannot be had although it was asked for, or why there is no forecast.
    """

    table: str
    entity_id: str
    ranges: list[Span] = field(default_factory=list)
    files: int = 0
    requests: int = 0
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0
    samples: int = 0
    error: ZvtCryptoError | None = None


async def forecast(store: Store, feed: Feed, job: Job, *, force: bool) -> Forecast:
    """What a job would take; what goes wrong is in the answer's ``error``.

    Raises:
        FatalError: The exchange cannot be asked at all.
    """
    made = Forecast(feed.spec.name, job.entity.entity_id)
    missing = job.wanted
    if not force:
        missing = not_recorded(store, feed.venue.name, feed.spec, job.entity.entity_id, job.start, job.end)
    settings = feed.venue.client.settings
    windows = plan_windows(
        feed,
        job.instrument,
        missing,
        job.now,
        parallel=settings.concurrency,
        archives=settings.archives,
    )
    made.ranges = [span for span in missing if any(_overlap(span, window) for window in windows)]
    earliest = feed.earliest(job.instrument, job.now)
    if missing and missing[0][0] < ceil_ms(earliest, feed.step):
        made.error = feed.shortfall(job.instrument, [(missing[0][0], min(earliest, missing[-1][1]))])
    try:
        await _count(made, feed, job, windows)
    except (RetriableError, SkippableError) as error:
        made.error = error
    made.bytes = round(made.rows * _bytes_per_row(store, feed))
    return made


class _Rate(NamedTuple):
    """What a millisecond of a feed holds, and the requests that it takes."""

    rows: float
    requests: float


async def _count(made: Forecast, feed: Feed, job: Job, windows: Sequence[Window]) -> None:
    files = [window.file for window in windows if window.file is not None]
    rest = [(window.start, window.end) for window in windows if window.file is None]
    rate = await _rate(made, feed, job, windows)
    counted = [_of_window(feed, job, rate, span) for span in rest]
    made.files = len(files)
    made.rows = sum(rows for rows, _ in counted)
    made.rows += round(rate.rows * sum(file.end - file.start for file in files))
    asked = sum(requests for _, requests in counted)
    made.requests = asked + sum(file.requests for file in files)
    if rest:
        first = _first(feed.fetch(job.instrument, *rest[0]))
        made.seconds = asked * await feed.venue.client.price(first)


def _of_window(feed: Feed, job: Job, rate: _Rate, span: Span) -> tuple[int, int]:
    """Rows and requests of a window that the exchange is asked for."""
    length = span[1] - span[0]
    rows, requests = round(rate.rows * length), rate.requests * length
    if feed.spec.feed == "candles":
        return rows, 1
    if feed.spec.feed == "funding":
        return rows, max(1, math.ceil(requests))
    if feed.venue.capabilities.trades[job.instrument.entity_type] == "recent":
        return feed.venue.capabilities.trade_page[job.instrument.entity_type], 1
    # The last page of a window is filled in part.
    return rows, int(requests) + 1


async def _rate(made: Forecast, feed: Feed, job: Job, windows: Sequence[Window]) -> _Rate:
    kind, capabilities = job.instrument.entity_type, feed.venue.capabilities
    if feed.spec.feed == "candles":
        return _Rate(1 / feed.step, 0.0)
    if feed.spec.feed == "funding":
        events = 1 / ((job.instrument.funding_interval_hours or _USUAL_FUNDING_HOURS) * HOUR_MS)
        return _Rate(events, events / capabilities.funding_page)
    if not windows or capabilities.trades[kind] == "recent":
        return _Rate(0.0, 0.0)
    return await _sampled_rate(made, feed, job, windows)


async def _sampled_rate(made: Forecast, feed: Feed, job: Job, windows: Sequence[Window]) -> _Rate:
    """The rates of pages that begin at times spread evenly over what is missing.

    Their mean counts: all rows over all time of the pages would give quiet times, in which a page lasts
    longer, too much weight.
    """
    total = sum(window.end - window.start for window in windows)
    samples = min(_SAMPLES, max(1, total // _SAMPLE_MS))
    spans = [_at(windows, total * (2 * i + 1) // (2 * samples)) for i in range(samples)]
    pages = await asyncio.gather(*(_first(feed.fetch(job.instrument, *span)) for span in spans))
    made.samples = sum(page.requests for page in pages)
    page_size = feed.venue.capabilities.trade_page[job.instrument.entity_type]
    rates = []
    for page, (start, end) in zip(pages, spans, strict=True):
        length = page.stop - page.start
        if length:
            is_whole = length == end - start
            rows = page.rows.num_rows / length
            rates.append((rows, rows / page_size if is_whole else 1 / length))
    return _Rate(*np.mean(rates, axis=0).tolist()) if rates else _Rate(0.0, 0.0)


def _at(windows: Sequence[Window], offset: int) -> Span:
    """Some minutes at the time so far into all windows; venues answer with their first page or their last."""
    for window in windows:
        if offset < window.end - window.start:
            return window.start + offset, min(window.start + offset + _SAMPLE_MS, window.end)
        offset -= window.end - window.start
    return windows[-1].start, windows[-1].end


async def _first(parts: AsyncIterator[Part]) -> Part:
    async for part in parts:
        return part
    raise AssertionError("a feed has at least one part")


def _bytes_per_row(store: Store, feed: Feed) -> float:
    """Bytes of a row on disk, from the table itself where it has enough of them."""
    if store.exists(feed.venue.name, feed.spec):
        with store.connect(feed.venue.name, feed.spec) as connection:
            rows = int(connection.value("SELECT count(*) FROM rows"))
        if rows >= _ROWS_THAT_TELL:
            return disk_bytes(store.path(feed.venue.name, feed.spec)) / rows
    return _USUAL_BYTES[feed.spec.feed]


def _overlap(span: Span, window: Window) -> bool:
    return window.start < span[1] and span[0] < window.end
