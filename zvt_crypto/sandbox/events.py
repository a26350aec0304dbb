"""What a market has beside candles: trades, funding events and order books, as columns.

Times are epoch milliseconds UTC, ranges are half-open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Rows = TypeVar("Rows", "Trades", "Fundings")


@dataclass(frozen=True, slots=True)
class Trades:
    """Trades in order of time and id.

    Attributes:
        ts: Time, epoch ms.
        nanosecond: Nanoseconds after ``ts``, for venues that tell them.
        id: Number of the trade; later trades have larger ones.
        price: In quote currency.
        volume: In base currency.
        is_buy: Whether the taker bought.
        nan_text: How a venue writes a number that is none; only faults make such numbers.
    """

    ts: Array
    nanosecond: Array
    id: Array
    price: Array
    volume: Array
    is_buy: Array
    nan_text: str = field(default="NaN", kw_only=True)

    def __len__(self) -> int:
        return len(self.ts)

    @staticmethod
    def empty() -> Trades:
        """No trades."""
        integers, floats = np.zeros(0, np.int64), np.zeros(0)
        return Trades(integers, integers, integers, floats, floats, np.zeros(0, bool))

    def take(self, which: slice | Array) -> Trades:
        """The rows of a slice, of positions or of a mask."""
        return _taken(self, which)

    def with_columns(self, **columns: Any) -> Trades:
        """The same rows with some columns replaced."""
        return replace(self, **columns)

    @property
    def turnover(self) -> Array:
        """Value of each trade in quote currency."""
        return np.asarray(self.price * self.volume)


@dataclass(frozen=True, slots=True)
class Fundings:
    """Funding events in order of time.

    Attributes:
        ts: Time of the payment, epoch ms; may lie off the full second.
        rate: What longs pay to shorts, as a fraction.
        mark_price: In quote currency; 0 where a replayed file does not tell.
        nan_text: See ``Trades``.
    """

    ts: Array
    rate: Array
    mark_price: Array
    nan_text: str = field(default="NaN", kw_only=True)

    def __len__(self) -> int:
        return len(self.ts)

    @staticmethod
    def empty() -> Fundings:
        """No events."""
        return Fundings(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))

    def take(self, which: slice | Array) -> Fundings:
        """The rows of a slice, of positions or of a mask."""
        return _taken(self, which)

    def with_columns(self, **columns: Any) -> Fundings:
        """The same rows with some columns replaced."""
        return replace(self, **columns)


@dataclass(frozen=True, slots=True)
class Book:
    """An order book at one moment.

    Attributes:
        ts: When this state began, epoch ms.
        sequence: Number of its state, ascending with time.
        bids: Prices and volumes (base currency), shape (levels, 2), highest price first.
        asks: As ``bids``, lowest price first.
    """

    ts: int
    sequence: int
    bids: Array
    asks: Array


@dataclass(frozen=True, slots=True)
class TradeSpan:
    """Which trades are asked for.

    Attributes:
        symbol: Unified symbol.
        start: First time, epoch ms.
        end: End of the times, exclusive, epoch ms.
        after_id: Only trades with a larger id.
        before_id: Only trades with a smaller id.
        limit: At most so many trades.
        newest: Whether ``limit`` keeps the newest instead of the oldest.
    """

    symbol: str
    start: int = 0
    end: int = 1 << 53
    after_id: int | None = None
    before_id: int | None = None
    limit: int | None = None
    newest: bool = False

    def chosen(self, rows: Trades) -> Trades:
        """Those of some trades, in order of time, that the span is about, its limit left aside."""
        first, stop = (int(i) for i in np.searchsorted(rows.ts, (self.start, self.end)))
        rows = rows if stop - first == len(rows) else rows.take(slice(first, stop))
        if self.after_id is None and self.before_id is None:
            return rows
        keep = np.ones(len(rows), bool)
        if self.after_id is not None:
            keep &= rows.id > self.after_id
        if self.before_id is not None:
            keep &= rows.id < self.before_id
        return rows if keep.all() else rows.take(keep)

    def limited(self, rows: Trades) -> Trades:
        """As many of some trades as the limit allows."""
        if self.limit is None or len(rows) <= self.limit:
            return rows
        return rows.take(slice(len(rows) - self.limit, None) if self.newest else slice(0, self.limit))


def joined(parts: Sequence[Trades]) -> Trades:
    """All rows of ``parts``, one after the other."""
    if not parts:
        return Trades.empty()
    return Trades(*(np.concatenate([getattr(p, name) for p in parts]) for name in _TRADE_COLUMNS))


def _taken(rows: Rows, which: slice | Array) -> Rows:
    names = [f.name for f in fields(rows) if f.name != "nan_text"]
    return replace(rows, **{name: getattr(rows, name)[which] for name in names})


_TRADE_COLUMNS = tuple(f.name for f in fields(Trades) if f.name != "nan_text")
