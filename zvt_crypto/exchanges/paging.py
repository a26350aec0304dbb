"""Pages into complete windows, by the data received; knows nothing of venues."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import DataQualityFailure
from zvt_crypto.core.levels import iso

#: 2010-01-01
_NO_CANDLES_BEFORE: Final = 1_262_304_000_000

FetchPage = Callable[[int, int], Awaitable[pa.Table]]


@dataclass(frozen=True, slots=True)
class Window:
    """What an exchange has for a window.

    Attributes:
        batch: Its rows as received: all inside the window, maybe unordered or doubled.
        empty_confirmed: True where it answered twice that there are none.
        requests: Requests that it took.
    """

    batch: pa.Table
    empty_confirmed: bool
    requests: int


@dataclass(frozen=True, slots=True)
class Part:
    """A page of a feed, and the stretch of time that is complete once it is stored.

    Attributes:
        rows: Rows as received: maybe unordered, doubled, or outside of the stretch.
        start: From here on ...
        stop: ... up to here (exclusive, epoch ms) all rows of the venue are in this part or an earlier one.
        requests: Requests that it took.
    """

    rows: pa.Table
    start: int
    stop: int
    requests: int = 1


#: Asks for the page at a cursor; answers its rows and the cursor of the next page, None after the last one.
AskPage = Callable[[Any], Awaitable[tuple[pa.Table, Any]]]


async def walk_up(ask: AskPage, cursor: Any, start: int, end: int) -> AsyncIterator[Part]:
    """The rows of ``[start, end)`` from a venue whose pages go forward in time.

    The last millisecond of a page may go on in the next one, so it counts as complete only then. A page
    without rows is asked for again before it is believed.

    Args:
        ask: See ``AskPage``. The rows may begin before ``start`` and go beyond ``end``.
        cursor: That of the first page.
        start: First time, epoch ms.
        end: End of the times, exclusive.

    Raises:
        DataQualityFailure: A page leads to itself, or does not begin where the one before it ended.
    """
    at = start
    while at < end:
        rows, following, requests = await _confirmed(ask, cursor)
        last = pc.max(rows["ts"]).as_py() if rows.num_rows else None
        if following is None or (last is not None and last >= end):
            yield Part(_inside(rows, start, end), at, end, requests)
            return
        if following == cursor or (last is not None and last < at and at > start):
            raise _no_progress(cursor, rows)
        reached = at if last is None else max(at, last)
        yield Part(_inside(rows, start, end), at, reached, requests)
        at, cursor = reached, following


async def walk_down(ask: AskPage, cursor: Any, start: int, end: int) -> AsyncIterator[Part]:
    """The rows of ``[start, end)`` from a venue whose pages go back in time; as ``walk_up``.

    The rows of the first page may begin after ``end``: the walk goes on until it is below.
    """
    upper = end
    while upper > start:
        rows, following, requests = await _confirmed(ask, cursor)
        first = pc.min(rows["ts"]).as_py() if rows.num_rows else None
        if following is None or (first is not None and first < start):
            yield Part(_inside(rows, start, end), start, upper, requests)
            return
        if following == cursor or (first is not None and first >= upper and upper < end):
            raise _no_progress(cursor, rows)
        reached = upper if first is None else min(upper, first + 1)
        yield Part(_inside(rows, start, end), reached, upper, requests)
        upper, cursor = reached, following


def newest_page(rows: pa.Table, start: int, end: int) -> Part:
    """The part that a venue's newest rows make up, where it serves no older ones.

    Without any rows nothing is known. ``end`` must not be after the time of the request.
    """
    if not rows.num_rows:
        return Part(rows, end, end)
    # The oldest millisecond may have rows that did not fit into the page.
    oldest = pc.min(rows["ts"]).as_py() + 1
    return Part(_inside(rows, start, end), min(max(start, oldest), end), end)


async def _confirmed(ask: AskPage, cursor: Any) -> tuple[pa.Table, Any, int]:
    """A page, asked for twice if it has no rows, and how many requests that took."""
    rows, following = await ask(cursor)
    if rows.num_rows:
        return rows, following, 1
    return *await ask(cursor), 2


def _no_progress(cursor: Any, rows: pa.Table) -> DataQualityFailure:
    times = f"rows of {iso(rows['ts'][0].as_py())}" if rows.num_rows else "no rows"
    return DataQualityFailure(
        f"the exchange answers page {cursor!r} with {times}: the same page again, or another range",
        cursor=str(cursor),
    )


async def fetch_window(fetch_page: FetchPage, start: int, end: int, step: int) -> Window:
    """Ask for ``[start, end)`` until the answers leave nothing open.

    A short page is not the end: what lies before its first and after its last row is asked for again, until
    the exchange answers with nothing. So it matters neither from which side a venue fills a page nor how
    many rows it really sends. An empty window is asked for twice.

    Args:
        fetch_page: Asks for the rows that open in ``[lower, upper)``.
        start: First open time, epoch ms.
        end: Open time at which to stop, exclusive.
        step: Distance of two rows, in ms.

    Raises:
        DataQualityFailure: A page holds nothing of what was asked for, so paging would never end.
    """
    parts: list[pa.Table] = []
    requests = 0
    todo = [(start, end)]
    while todo:
        lower, upper = todo.pop()
        page = await fetch_page(lower, upper)
        requests += 1
        inside = _inside(page, lower, upper)
        parts.append(inside)
        if inside.num_rows:
            ts = inside["ts"].to_numpy()
            rests = ((lower, int(ts.min())), (int(ts.max()) + step, upper))
            todo += [span for span in rests if span[0] < span[1]]
        elif page.num_rows:
            raise DataQualityFailure(
                f"the exchange answers {iso(lower)} to {iso(upper)} with rows of"
                f" {iso(page['ts'][0].as_py())}: the same page again, or another range",
                asked=[iso(lower), iso(upper)],
            )
        elif requests == 1:
            todo.append((lower, upper))
    batch = parts[0] if len(parts) == 1 else pa.concat_tables(parts)
    return Window(batch, empty_confirmed=not batch.num_rows, requests=requests)


def _inside(page: pa.Table, lower: int, upper: int) -> pa.Table:
    ts = page["ts"].to_numpy()
    inside = (ts >= lower) & (ts < upper)
    return page if inside.all() else page.filter(pa.array(inside))


async def find_first(fetch_page: FetchPage, end: int, step: int, width: int) -> int | None:
    """Open time of the first row before ``end``, found by walking back in windows of ``width`` steps.

    The newest windows may be empty (the market is delisted). Once there are rows, the walk ends at the second
    window in a row without any, at the latest at the start of 2010, before which no exchange had candles.

    Returns:
        The time in epoch ms, None where there are no rows at all.
    """
    first: int | None = None
    empty = 0
    upper = end
    while upper > _NO_CANDLES_BEFORE and (first is None or empty < 2):
        lower = max(upper - width * step, _NO_CANDLES_BEFORE)
        window = await fetch_window(fetch_page, lower, upper, step)
        if window.batch.num_rows:
            first, empty = pc.min(window.batch["ts"]).as_py(), 0
        else:
            empty += 1
        upper = lower
    return first
