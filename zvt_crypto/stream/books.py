"""An order book kept in step with a stream, which claims nothing once it may have lost a change."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

from zvt_crypto.core.errors import OrderBookDesync
from zvt_crypto.exchanges.books import order_book_row
from zvt_crypto.exchanges.objects import base_volume
from zvt_crypto.exchanges.streaming import BookUpdate, Streams, Topic

#: Levels on each side that a checksum is computed of, at most: OKX and Bitget take 25, Kraken 10.
_CHECKED_LEVELS: Final = 25

_UNBOUNDED: Final = -math.inf

#: How a book loses its place: an update does not follow the one before; a snapshot is older than the updates
#: that were kept for it; the venue's checksum is another; a bid is as high as an ask; a level is none (its
#: price is "NaN", say); the stream was lost.
Cause = Literal["gap", "old_snapshot", "checksum", "crossed", "no_level", "lost"]


class BookState(Enum):
    """``LIVE`` is the only state in which a book can be read."""

    SYNCING = "syncing"
    LIVE = "live"
    STALE = "stale"


_LIVE: Final = BookState.LIVE


class OrderBook:
    """The order book of one topic.

    It begins with a snapshot and follows the updates for as long as each passes the checks that the venue
    makes possible: by number, by checksum, and that it is not crossed. After a failed check it is ``STALE``
    and empty until the next snapshot.

    Args:
        topic: Whose book.
        streams: The venue's, for what it says of its books.

    Attributes:
        topic: Whose book.
        state: Whether it can be read; ``SYNCING`` until its first snapshot.
        reason: Why it is ``STALE``, for a person.
        last: The venue's number of its state; None where there is none.
        ts: Time of its state by the venue's clock, epoch ms; None where no message has told one.
        resyncs: How often it lost its place, by cause.
    """

    def __init__(self, topic: Topic, streams: Streams) -> None:
        self.topic = topic
        self.state = BookState.SYNCING
        self.reason = ""
        self.last: int | None = None
        self.ts: int | None = None
        self.resyncs: Counter[Cause] = Counter()
        self._streams = streams
        self._cut = topic.depth if topic.instrument.entity_type in streams.keeps_depth else None
        self._bids = _Side((), 1.0)
        self._asks = _Side((), -1.0)
        self._is_joining = False

    def apply(self, update: BookUpdate) -> BookState:
        """Take in a message of the stream; changes are ignored unless the book is ``LIVE``."""
        last, ts = update.last, update.ts
        if update.is_snapshot:
            self._begin(update)
        elif self.state is _LIVE and (last is None or self._follows(update, last)):
            try:
                if update.bids:
                    self._bids.change(update.bids)
                if update.asks:
                    self._asks.change(update.asks)
            except ValueError as error:
                self.set_stale("no_level", str(error))
                return self.state
            if last is not None:
                self.last = last
            if ts is not None:
                self.ts = ts
            self._check(update.checksum)
        return self.state

    def restart(self, snapshot: BookUpdate, limit: int) -> BookState:
        """Begin with a snapshot that did not come on the stream.

        The updates that follow may begin before it: those that lie wholly before it are skipped, and the
        first of the others must reach back to it.

        Args:
            snapshot: Has a number, and amounts as the stream counts them.
            limit: Levels that were asked for. A side with as many has more in truth: what lies beyond its
                last level is unknown, and stays out of the book.
        """
        self._begin(snapshot, limit)
        self._is_joining = True
        return self.state

    def set_stale(self, cause: Cause, reason: str) -> None:
        """Give up what is known until the next snapshot."""
        if self.state is BookState.STALE:
            return
        self.state = BookState.STALE
        self.reason = reason
        self.resyncs[cause] += 1
        self.last = self.ts = None
        self._bids, self._asks = _Side((), 1.0), _Side((), -1.0)

    @property
    def is_thin(self) -> bool:
        """Whether so much of a cut snapshot has been used up that it is time for another."""
        bids, asks = self._bids, self._asks
        return len(bids.order) < bids.least or len(asks.order) < asks.least

    def best_bids(self, depth: int) -> list[tuple[float, float]]:
        """Price and amount in base currency of the best levels that are known, best first.

        Raises:
            OrderBookDesync: The book is not ``LIVE``.
        """
        return self._best(self._bids, depth)

    def best_asks(self, depth: int) -> list[tuple[float, float]]:
        """As ``best_bids``."""
        return self._best(self._asks, depth)

    def snapshot(self, depth: int, now: int) -> pa.Table:
        """The book as one row in ``schemas.ORDER_BOOK``.

        Args:
            depth: Levels on each side.
            now: The exchange's time, epoch ms, for venues whose messages have none.

        Raises:
            OrderBookDesync: The book is not ``LIVE``.
        """
        bids, asks = self.best_bids(depth), self.best_asks(depth)
        return order_book_row(now if self.ts is None else self.ts, self.last, depth, bids, asks)

    def _begin(self, snapshot: BookUpdate, limit: int | None = None) -> None:
        self.state = BookState.LIVE
        self.reason = ""
        self.last, self.ts = snapshot.last, snapshot.ts
        self._is_joining = False
        least = 0 if limit is None else min(self.topic.depth or limit, limit // 2)
        try:
            self._bids = _Side(snapshot.bids, 1.0, limit, least)
            self._asks = _Side(snapshot.asks, -1.0, limit, least)
        except ValueError as error:
            self.set_stale("no_level", str(error))
        else:
            self._check(snapshot.checksum)

    def _follows(self, update: BookUpdate, last: int) -> bool:
        """Whether a numbered update is to be applied; the book is stale where it does not fit."""
        ours, previous = self.last, update.previous
        if ours is None:
            return True
        if self._is_joining and last <= ours:
            return False
        if previous is not None:
            fits = previous == ours or (self._is_joining and previous < ours)
        else:
            fits = (last if update.first is None else update.first) <= ours + 1 <= last
        if not fits:
            self._lose_place(update, ours)
        self._is_joining = False
        return fits

    def _lose_place(self, update: BookUpdate, ours: int) -> None:
        if update.previous is not None:
            words = f"update {update.last} follows {update.previous}"
        else:
            words = f"the next update is {update.last if update.first is None else update.first}"
        if self._is_joining:
            self.set_stale("old_snapshot", f"{words}, the snapshot is {ours}")
        else:
            self.set_stale("gap", f"{words}, the book is at {ours}")

    def _check(self, checksum: int | None) -> None:
        """Cut the book to what the venue tells of, and see whether it can be true."""
        bids, asks = self._bids, self._asks
        if self._cut is not None:
            bids.cut(self._cut)
            asks.cut(self._cut)
        if checksum is not None:
            ours = self._streams.checksum(bids.best(_CHECKED_LEVELS), asks.best(_CHECKED_LEVELS))
            if ours != checksum:
                self.set_stale("checksum", f"its checksum is {ours}, the venue's {checksum}")
                return
        if bids.order and asks.order and bids.order[-1] >= -asks.order[-1]:
            self.set_stale("crossed", f"the best bid is {bids.order[-1]}, the best ask {-asks.order[-1]}")

    def _best(self, side: _Side, depth: int) -> list[tuple[float, float]]:
        instrument = self.topic.instrument
        if self.state is not BookState.LIVE:
            words = self.reason or "its first snapshot has not come yet"
            raise OrderBookDesync(
                f"the order book of {instrument.symbol} is {self.state.value}: {words}",
                symbol=instrument.symbol,
                state=self.state.value,
            )
        levels = [level[:2] for level in side.best(depth)]
        if instrument.contract_size is None or not levels:
            return levels
        price, amount = np.array(levels).T
        return list(zip(price.tolist(), base_volume(instrument, amount, price).tolist(), strict=True))


class _Side:
    """One side of a book.

    A level's key is its price, for asks its negative: the greatest key is the best on both sides.

    Args:
        levels: Tuples that begin with price and amount; those without an amount are left out.
        sign: What makes a key of a price.
        limit: Levels that were asked for; None where these are all there are.
        least: Levels that it should know at least, if it does not know all.

    Attributes:
        levels: Levels as they came, by key.
        order: The keys, ascending. To keep them so costs less than to look for the best when they are wanted.
        reach: Key beyond which levels are unknown.
        least: Levels that it should know at least.

    Raises:
        ValueError: A price or an amount is none.
    """

    __slots__ = ("levels", "least", "order", "reach", "sign")

    def __init__(self, levels: Sequence[Any], sign: float, limit: int | None = None, least: int = 0) -> None:
        self.sign = sign
        self.levels = {sign * level[0]: level for level in levels if level[1] and _checked(level)}
        self.order = sorted(self.levels)
        is_cut = limit is not None and len(self.order) >= limit
        self.reach = self.order[0] if is_cut else _UNBOUNDED
        self.least = least if is_cut else 0

    def change(self, changes: Sequence[Any]) -> None:
        """Set the levels that have an amount, remove the others.

        Raises:
            ValueError: A price or an amount is none.
        """
        levels, order, sign = self.levels, self.order, self.sign
        for level in changes:
            key = sign * level[0]
            if level[1] > 0:
                if key in levels:
                    levels[key] = level
                elif key >= self.reach:
                    levels[key] = level
                    insort(order, key)
                else:
                    _checked(level)
            elif key in levels and level[1] == 0:
                del levels[key]
                del order[bisect_left(order, key)]
            elif level[1] != 0:
                _checked(level)

    def cut(self, depth: int) -> None:
        """Drop the levels beyond the best ``depth``."""
        if len(self.order) > depth:
            beyond = self.order[:-depth]
            for key in beyond:
                del self.levels[key]
            del self.order[: len(beyond)]

    def best(self, depth: int) -> list[Any]:
        """The best levels, best first."""
        return list(map(self.levels.__getitem__, self.order[: -depth - 1 : -1]))


def _checked(level: Any) -> bool:
    """True; raises ``ValueError`` unless price and amount are positive numbers."""
    if 0 < level[0] < math.inf and 0 < level[1] < math.inf:
        return True
    raise ValueError(f"a level of the book is {level[:2]}")
