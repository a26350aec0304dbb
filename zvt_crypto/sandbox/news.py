"""What a market has that is new since the last tick: made once, for all connections.

A tick covers the time ``(last, now]``. However long that is, its trades and closed candles are all there, and
an order book's changes tell every level that any state shown in between has changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from zvt_crypto.core.levels import HOUR_MS, MINUTE_MS
from zvt_crypto.sandbox.events import Array, Book, Trades, TradeSpan
from zvt_crypto.sandbox.market import Candles, Market, Span
from zvt_crypto.sandbox.streams import Changes, NextFunding

#: Steps of a book that are kept for those who are told of it less often than every tick.
_STEPS_KEPT: Final = 200
#: A payment is due within this time at most.
_FUNDING_AHEAD_MS: Final = 25 * HOUR_MS

Made = TypeVar("Made")


class _Step(NamedTuple):
    """What leads from a state of a book, by its number, to the next one that was shown."""

    before: int
    changes: Changes


class News:
    """The newest of a market.

    Args:
        market: Which one; its books are shown as of the last tick as long as there are ticks.
    """

    def __init__(self, market: Market) -> None:
        self.market = market
        self.last = self.now = market.now()
        self._made: dict[Hashable, Any] = {}
        self._books: dict[tuple[str, int], Book] = {}
        self._steps: dict[tuple[str, int], deque[_Step]] = {}

    def begin(self) -> None:
        """Nothing before this moment is news."""
        self.last = self.now = self.market.published = self.market.now()
        self._made.clear()
        self._books.clear()
        self._steps.clear()

    def end(self) -> None:
        """No ticks follow: order books are shown as of any time again."""
        self.market.published = None

    def tick(self) -> bool:
        """Advance to the market's time; false where that stands still."""
        self.last, self.now = self.now, max(self.now, self.market.now())
        self.market.published = self.now
        self._made.clear()
        for symbol, depth in list(self._books):
            self._advance_book(symbol, depth)
        return self.now > self.last

    def trades(self, symbol: str) -> Trades:
        """The trades of this tick."""
        span = TradeSpan(symbol, self.last + 1, self.now + 1)
        return self._once(("trades", symbol), lambda: self.market.trades(span, self.now))

    def closed_candles(self, symbol: str, step: int, offset: int) -> Candles:
        """The candles that ended in this tick."""
        if (self.now - offset) // step == (self.last - offset) // step:
            return Candles.empty()
        return self._once(("closed", symbol, step, offset), lambda: self._closed(symbol, step, offset))

    def open_candle(self, symbol: str, step: int, offset: int) -> Candles:
        """The candle under way, as one row; none where the market has not begun it."""
        return self._once(("open", symbol, step, offset), lambda: self._open(symbol, step, offset))

    def book(self, symbol: str, depth: int | None) -> Book:
        """The state of an order book; from now on its changes are kept."""
        key = (symbol, self.market.book_levels if depth is None else depth)
        if key not in self._books:
            self._books[key] = self.market.book(*key, self.now)
            self._steps[key] = deque(maxlen=_STEPS_KEPT)
        return self._books[key]

    def changes(self, symbol: str, depth: int | None, before: Book) -> Changes:
        """What leads from an earlier state of a book to that of ``book``."""
        key = (symbol, self.market.book_levels if depth is None else depth)
        return self._once(("changes", *key, before.sequence), lambda: self._changes(key, before))

    def forget_books(self, watched: set[tuple[str, int | None]]) -> None:
        """Keep the changes of these books only: pairs of symbol and depth."""
        keep = {(symbol, self.market.book_levels if depth is None else depth) for symbol, depth in watched}
        for key in self._books.keys() - keep:
            del self._books[key], self._steps[key]

    def funding(self, symbol: str) -> NextFunding | None:
        """The next payment of a perpetual; None where none is known."""
        return self._once(("funding", symbol), lambda: self._funding(symbol))

    def _once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made

    def _closed(self, symbol: str, step: int, offset: int) -> Candles:
        rows = self.market.bars(Span(symbol, step, self.last - step + 1, self.now + 1, offset), self.now)
        return rows.between(0, self.now - step + 1)

    def _open(self, symbol: str, step: int, offset: int) -> Candles:
        return self.market.bars(Span(symbol, step, self.now - step + 1, self.now + 1, offset), self.now)

    def _advance_book(self, symbol: str, depth: int) -> None:
        before, after = self._books[symbol, depth], self.market.book(symbol, depth, self.now)
        if after.sequence == before.sequence:
            return
        self._books[symbol, depth] = after
        self._steps[symbol, depth].append(_Step(before.sequence, _difference(before, after)))

    def _changes(self, key: tuple[str, int], before: Book) -> Changes:
        steps = [step for step in self._steps[key] if step.before >= before.sequence]
        if not steps or steps[0].before != before.sequence:
            return _difference(before, self._books[key])
        if len(steps) == 1:
            return steps[0].changes
        bids, asks = (_last_of_each([getattr(s.changes, side) for s in steps]) for side in ("bids", "asks"))
        return Changes(bids[::-1], asks)

    def _funding(self, symbol: str) -> NextFunding | None:
        events = self.market.fundings(symbol, self.now + 1, self.now + _FUNDING_AHEAD_MS)
        minute = self.open_candle(symbol, MINUTE_MS, 0)
        if not len(events) or not len(minute):
            return None
        return NextFunding(self.now, float(minute.close[-1]), float(events.rate[0]), int(events.ts[0]))


def _difference(before: Book, after: Book) -> Changes:
    return Changes(_changed(before.bids, after.bids, -1), _changed(before.asks, after.asks, 1))


def _changed(before: Array, after: Array, order: int) -> Array:
    """Levels of ``after`` that ``before`` has not, and with volume 0 those that are gone, best first.

    Args:
        before: Prices and volumes, shape (levels, 2), best first.
        after: As ``before``.
        order: 1 where the lowest price is the best, -1 where the highest is.
    """
    old, new = before[::order], after[::order]
    at = np.searchsorted(old[:, 0], new[:, 0])
    known = at < len(old)
    same = np.zeros(len(new), bool)
    same[known] = (old[at[known]] == new[known]).all(axis=1)
    gone = old[np.isin(old[:, 0], new[:, 0], assume_unique=True, invert=True), 0]
    levels = np.concatenate([new[~same], np.column_stack([gone, np.zeros(len(gone))])])
    return np.asarray(levels[np.argsort(levels[:, 0], kind="stable")][::order])


def _last_of_each(parts: list[Array]) -> Array:
    """The last volume of each price, by ascending price."""
    levels = np.concatenate([np.zeros((0, 2)), *parts])[::-1]
    _, first = np.unique(levels[:, 0], return_index=True)
    return np.asarray(levels[first])
