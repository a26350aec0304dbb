"""Pages into complete windows, by the data received; knows nothing of venues."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

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
