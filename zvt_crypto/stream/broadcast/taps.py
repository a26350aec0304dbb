"""One topic of a source, and the channels that are filled from it."""

from __future__ import annotations

import logging
from collections import OrderedDict
from itertools import compress
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import ZvtCryptoError
from zvt_crypto.exchanges.streaming import Candles, Funding, Topic, Trades
from zvt_crypto.stream.broadcast.producers import Producer
from zvt_crypto.stream.broadcast.sources import BookView, Source

logger = logging.getLogger(__name__)

#: What comes of rows that are not as documented, when they are made into columns.
_UNREADABLE: Final = (ArithmeticError, LookupError, TypeError, ValueError, ZvtCryptoError)
#: Trades that are remembered, so that one which a venue sends again is not told again.
MOST_IDS: Final = 5_000


class Tap:
    """Collects what a topic brings until it is turned into messages, all at once.

    Args:
        source: Where the topic is streamed.
        topic: Which.
    """

    def __init__(self, source: Source, topic: Topic) -> None:
        self.source = source
        self.topic = topic
        self.producers: list[Producer] = []
        self._waiting: list[Any] = []
        self._book: BookView | None = None
        self._seen = _Seen(MOST_IDS, is_counting=source.has_consecutive_ids(topic))
        self._since: int | None = None
        self._lost_at: int | None = None

    def add(self, producer: Producer) -> None:
        """Fill another channel; it begins where the topic is."""
        self.producers.append(producer)
        if self._since is not None:
            producer.live(self.now())

    def now(self) -> int:
        """The exchange's time, epoch ms."""
        return self.source.now(self.topic.instrument.entity_type)

    def received(self, message: Trades | Candles | Funding) -> None:
        """Rows have come."""
        if isinstance(message, Funding):
            self._waiting.append(message)
        elif self._waiting and isinstance(self._waiting[-1], list):
            self._waiting[-1] += message.rows
        else:
            self._waiting.append(list(message.rows))

    def book(self, book: BookView) -> None:
        """The book has changed; only its newest state is of interest."""
        self._book = book

    def live(self, since: int) -> None:
        """Nothing is missing from now on."""
        self._waiting.append(_Live(since))

    def lost(self, reason: str) -> None:
        """Something may be missing from now on; a book that was not shown yet is not shown any more."""
        self._book = None
        self._waiting.append(_Lost(self.now(), reason))

    def turn(self) -> None:
        """Turn what has come into messages of the channels."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if isinstance(one, _Live):
                self._set_live(one.since)
            elif isinstance(one, _Lost):
                self._set_lost(one)
            else:
                self._rows(one)
        book, self._book = self._book, None
        if book is not None:
            self._produce(book)

    def tick(self) -> None:
        """Have the channels do what is due."""
        now = self.now()
        for producer in self.producers:
            producer.tick(now)

    def _set_live(self, since: int) -> None:
        self._since = since
        for producer in self.producers:
            if self._lost_at is not None and producer.log.state == "disconnected":
                producer.gap(self._lost_at, since, "the stream was interrupted")
            producer.live(since)
        self._lost_at = None

    def _set_lost(self, lost: _Lost) -> None:
        if self._since is not None:
            self._lost_at, self._since = lost.at, None
        self._seen.forget_count()
        for producer in self.producers:
            producer.lost(lost.reason)

    def _rows(self, rows: Any) -> None:
        if isinstance(rows, Funding):
            self._produce(rows)
            return
        is_tape = self.topic.feed == "trades"
        convert = self.source.trades if is_tape else self.source.candles
        try:
            table = convert(self.topic, rows)
        except _UNREADABLE as error:
            logger.error("%s cannot be read: %s", self.topic, error)
            now = self.now()
            for producer in self.producers:
                producer.gap(now, now, "what came cannot be read")
            return
        if is_tape:
            self._trades(table)
        else:
            self._produce(table)

    def _trades(self, trades: pa.Table) -> None:
        before = self._seen.last_ts
        new, hole = self._seen.new(trades)
        if hole is not None and self._since is not None and before is not None:
            end = pc.max(new["ts"]).as_py()
            for producer in self.producers:
                producer.gap(before, end, hole)
        if new.num_rows:
            self._produce(new)

    def _produce(self, rows: Any) -> None:
        for producer in self.producers:
            producer.rows(rows)


class _Live:
    def __init__(self, since: int) -> None:
        self.since = since


class _Lost:
    def __init__(self, at: int, reason: str) -> None:
        self.at = at
        self.reason = reason


class _Seen:
    """Trades that came already.

    Args:
        most: So many ids are remembered.
        is_counting: Whether ids are numbers without holes.
    """

    def __init__(self, most: int, *, is_counting: bool) -> None:
        self._most = most
        self._is_counting = is_counting
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._last: int | None = None
        self.last_ts: int | None = None

    def forget_count(self) -> None:
        """A hole would be no news: it is told that something is missing."""
        self._last = None

    def new(self, trades: pa.Table) -> tuple[pa.Table, str | None]:
        """Those that did not come before, and which ids are missing before or among them."""
        ids = trades["trade_id"].to_pylist()
        is_new = [self._note(trade_id) for trade_id in ids]
        while len(self._ids) > self._most:
            self._ids.popitem(last=False)
        if not all(is_new):
            trades = trades.filter(pa.array(is_new, pa.bool_()))
            ids = list(compress(ids, is_new))
        if not ids:
            return trades, None
        # Mostly there are a few: lists take a tenth of the time that arrays do.
        keys = [int(trade_id) for trade_id in ids] if self._is_counting else trades["ts"].to_pylist()
        trades = _in_order(trades, keys)
        self.last_ts = trades["ts"][-1].as_py()
        return trades, self._hole(keys) if self._is_counting else None

    def _note(self, trade_id: str) -> bool:
        if trade_id in self._ids:
            return False
        self._ids[trade_id] = None
        return True

    def _hole(self, numbers: list[int]) -> str | None:
        newest = max(numbers)
        last, self._last = self._last, max(newest, self._last or 0)
        expected = min(numbers) if last is None else last + 1
        missing = newest - expected + 1 - sum(number >= expected for number in numbers)
        return f"{missing} trades before {newest} are missing" if missing > 0 else None


def _in_order(trades: pa.Table, keys: list[int]) -> pa.Table:
    """Trades by their keys: some venues send the newest first."""
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return trades if order == list(range(len(keys))) else trades.take(pa.array(order))
