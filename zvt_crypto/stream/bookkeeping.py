"""Keeps the order books of live topics: begins them, and begins them anew when they lose their place."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import orjson

from zvt_crypto.core.errors import NotSupported, ProviderUnavailable, RetriableError, ZvtCryptoError
from zvt_crypto.exchanges.base import Instrument, Venue
from zvt_crypto.exchanges.streaming import BookUpdate, Candles, Funding, Topic, Trades
from zvt_crypto.stream.books import BookState, OrderBook

logger = logging.getLogger(__name__)

#: Seconds before the second attempt in a row, at most; each further one doubles it.
FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 60.0
#: A book that was in step for so many seconds begins anew without waiting.
_HELD_SECONDS: Final = 60.0
#: Seconds that a venue has to send the snapshot of a new subscription.
SNAPSHOT_WAIT: Final = 10.0
#: Updates that are kept for a snapshot that is under way; beyond, the oldest are dropped, and a snapshot that
#: is older than the others is asked for again. More than three minutes of Binance's ten a second.
_KEPT_UPDATES: Final = 2_000
#: Venues count contracts in at most so many decimals.
_CONTRACT_DECIMALS: Final = 8


class Feed(Protocol):
    """What is needed of a ``LiveFeed``."""

    def add(self, topics: Iterable[Topic], listener: BookKeeper) -> None:
        """Have the keeper told of topics."""

    def remove(self, topics: Iterable[Topic], listener: BookKeeper) -> None:
        """Tell it no more."""

    def renew(self, topic: Topic, reason: str) -> None:
        """Subscribe to a topic anew; the keeper is told ``lost``, then ``live``."""


@dataclass(slots=True, eq=False)
class _Kept:
    """A book and what keeping it takes.

    Attributes:
        topic: The topic as the feed's messages carry it.
        book: Its book.
        by_rest: Whether it begins with an answer over REST.
        is_streamed: Whether the feed says that nothing is missing.
        waiting: Updates that are kept for the snapshot that is under way.
        fetching: Fetches it.
        renewal: Subscribes anew, unless the book is live by then.
        attempts: Beginnings since the book was last in step for long.
        live_since: Monotonic seconds when it last became live.
    """

    topic: Topic
    book: OrderBook
    by_rest: bool
    is_streamed: bool = False
    waiting: deque[BookUpdate] = field(default_factory=lambda: deque(maxlen=_KEPT_UPDATES))
    fetching: asyncio.Task[None] | None = None
    renewal: asyncio.TimerHandle | None = None
    attempts: int = 0
    live_since: float | None = None

    @property
    def is_fetching(self) -> bool:
        """Whether a snapshot is under way."""
        return self.fetching is not None and not self.fetching.done()

    def rest(self) -> None:
        """End whatever is under way."""
        if self.fetching is not None:
            self.fetching.cancel()
        if self.renewal is not None:
            self.renewal.cancel()
        self.waiting.clear()


class BookKeeper:
    """The listener of a feed's order books; an asynchronous context manager.

    One keeper serves all who want a feed's books: a snapshot on the stream comes once for each subscription,
    so a second keeper would have to have it renewed under the first.

    Args:
        venue: Whose books; its client fetches snapshots where the stream has none.
        feed: Brings the updates.
        on_book: Is told after each update of a book that is ``LIVE``.
        on_stale: Is told once when a book ceases to be ``LIVE``, and why.
        on_refused: Is told when there will be no book: the venue streams or serves none.
        first_wait: Seconds before the second attempt in a row to begin a book, at most.
        snapshot_wait: Seconds for the snapshot of a subscription, before it is renewed.

    Attributes:
        books: The books that are kept, in whatever state, by topic.

    Raises:
        NotSupported: The venue streams nothing.
    """

    def __init__(
        self,
        venue: Venue,
        feed: Feed,
        on_book: Callable[[Topic, OrderBook], None],
        on_stale: Callable[[Topic, str], None],
        on_refused: Callable[[Topic, ZvtCryptoError], None],
        *,
        first_wait: float = FIRST_WAIT,
        snapshot_wait: float = SNAPSHOT_WAIT,
    ) -> None:
        if venue.streams is None:
            raise NotSupported(f"{venue.exchange} is not streamed")
        self._venue = venue
        self._streams = venue.streams
        self._feed = feed
        self._on_book = on_book
        self._on_stale = on_stale
        self._on_refused = on_refused
        self._first_wait = first_wait
        self._snapshot_wait = snapshot_wait
        self.books: dict[Topic, OrderBook] = {}
        self._kept: dict[Topic, _Kept] = {}
        #: By the identity of the topic that messages carry: hashing it costs more than a small update.
        self._by_identity: dict[int, _Kept] = {}

    async def __aenter__(self) -> BookKeeper:
        return self

    async def __aexit__(self, *_: object) -> None:
        kept = list(self._kept.values())
        self.remove(list(self._kept))
        tasks = [one.fetching for one in kept if one.fetching is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    def add(self, topics: Iterable[Topic]) -> None:
        """Keep the books of topics; those that are kept already stay as they are.

        Raises:
            NotSupported: The venue does not stream one of them; then none is added.
        """
        new = [topic for topic in dict.fromkeys(topics) if topic not in self._kept]
        for topic in new:
            by_rest = topic.instrument.entity_type in self._streams.book_by_rest
            self.books[topic] = OrderBook(topic, self._streams)
            self._kept[topic] = _Kept(topic, self.books[topic], by_rest)
        try:
            self._feed.add(new, self)
        except NotSupported:
            for topic in new:
                self._forget(topic)
            raise

    def remove(self, topics: Iterable[Topic]) -> None:
        """Keep the books of topics no more."""
        gone = [topic for topic in dict.fromkeys(topics) if topic in self._kept]
        self._feed.remove(gone, self)
        for topic in gone:
            self._forget(topic)

    # What the feed tells.

    def received(self, message: Trades | Candles | BookUpdate | Funding) -> None:
        """Apply an update."""
        kept = self._by_identity.get(id(message.topic)) or self._known(message.topic)
        if kept is None or not kept.is_streamed or not isinstance(message, BookUpdate):
            return
        book = kept.book
        was_live = book.state is BookState.LIVE
        if kept.by_rest and (kept.is_fetching or not was_live):
            kept.waiting.append(message)
        if book.apply(message) is BookState.LIVE:
            self._tell(kept, was_live)
        elif was_live:
            self._fell(kept, message)

    def live(self, topic: Topic, since: int) -> None:
        """Begin the book, or wait for the snapshot with which the stream begins it."""
        kept = self._known(topic)
        if kept is None:
            return
        kept.is_streamed = True
        if kept.by_rest:
            self._fetch(kept)
        else:
            self._renew_in(self._snapshot_wait, kept, "no snapshot has come")

    def lost(self, topic: Topic, reason: str) -> None:
        """Claim nothing until the stream is live again."""
        kept = self._known(topic)
        if kept is None:
            return
        kept.rest()
        kept.is_streamed = False
        if kept.book.state is BookState.LIVE:
            kept.book.set_stale("lost", reason)
            self._on_stale(kept.topic, reason)

    def refused(self, topic: Topic, error: ZvtCryptoError) -> None:
        """There will be no book."""
        kept = self._known(topic)
        if kept is not None:
            self._forget(topic)
            self._on_refused(kept.topic, error)

    # What becomes of a book.

    def _known(self, topic: Topic) -> _Kept | None:
        """What is kept under a topic equal to this one, which the feed's messages carry from now on."""
        kept = self._kept.get(topic)
        if kept is not None:
            self._by_identity.pop(id(kept.topic), None)
            kept.topic = topic
            self._by_identity[id(topic)] = kept
        return kept

    def _forget(self, topic: Topic) -> None:
        kept = self._kept.pop(topic)
        del self.books[topic]
        self._by_identity.pop(id(kept.topic), None)
        kept.rest()
        # Whoever still holds the book must not read what nobody keeps.
        kept.book.set_stale("lost", "it is not kept any more")

    def _tell(self, kept: _Kept, was_live: bool) -> None:
        if not was_live:
            kept.live_since = time.monotonic()
        elif kept.by_rest and kept.book.is_thin and not kept.is_fetching:
            # What is left of the last snapshot is right, so the book stays live until the next one is there.
            self._fetch(kept)
        self._on_book(kept.topic, kept.book)

    def _fell(self, kept: _Kept, update: BookUpdate) -> None:
        """Begin the book anew; the update that did not fit is the first that the next snapshot must reach."""
        reason = kept.book.reason
        self._on_stale(kept.topic, reason)
        if not kept.by_rest:
            self._renew_in(self._pause(kept), kept, reason)
        elif not kept.is_fetching:
            kept.waiting.append(update)
            self._fetch(kept)

    def _pause(self, kept: _Kept) -> float:
        """Seconds before the next attempt: none after a book that was in step for long."""
        if kept.live_since is not None and time.monotonic() - kept.live_since > _HELD_SECONDS:
            kept.attempts = 0
        kept.attempts += 1
        if kept.attempts == 1:
            return 0.0
        longest = min(LONGEST_WAIT, self._first_wait * 2.0 ** min(kept.attempts - 2, 10))
        return random.uniform(0, longest)  # noqa: S311

    def _renew_in(self, seconds: float, kept: _Kept, reason: str) -> None:
        if kept.renewal is not None:
            kept.renewal.cancel()

        def renew() -> None:
            if kept.book.state is not BookState.LIVE:
                self._feed.renew(kept.topic, reason)

        kept.renewal = asyncio.get_running_loop().call_later(seconds, renew)

    def _fetch(self, kept: _Kept) -> None:
        kept.fetching = asyncio.create_task(self._begin(kept))
        kept.fetching.add_done_callback(_log_failure)

    async def _begin(self, kept: _Kept) -> None:
        """Fetch snapshots until one joins the updates."""
        while True:
            await asyncio.sleep(self._pause(kept))
            try:
                snapshot, limit = await self._snapshot(kept.topic)
            except RetriableError as error:
                logger.warning("%s: no snapshot for %s: %s", self._venue.exchange, kept.topic, error)
                continue
            except ZvtCryptoError as error:
                self._feed.remove([kept.topic], self)
                self.refused(kept.topic, error)
                return
            if self._join(kept, snapshot, limit):
                return

    async def _snapshot(self, topic: Topic) -> tuple[BookUpdate, int]:
        """The book as the stream would tell it, and how many levels were asked for.

        Raises:
            ZvtCryptoError: As ``Venue.fetch_order_book`` does, or the book has no number.
        """
        instrument = topic.instrument
        depth = max(self._venue.capabilities.book_depths[instrument.entity_type])
        row = (await self._venue.fetch_order_book(instrument, depth)).to_pylist()[0]
        if row["sequence"] is None:
            raise ProviderUnavailable(
                f"{self._venue.exchange} sent an order book of {instrument.symbol} without its number",
                exchange=self._venue.exchange,
            )
        bids, asks = (as_streamed(instrument, orjson.loads(row[side])) for side in ("bids", "asks"))
        return BookUpdate(topic, True, bids, asks, last=row["sequence"], ts=row["ts"]), depth

    def _join(self, kept: _Kept, snapshot: BookUpdate, limit: int) -> bool:
        """Begin with a snapshot and what has come meanwhile; an update that does not fit stays in waiting."""
        book, waiting = kept.book, kept.waiting
        was_live = book.state is BookState.LIVE
        book.restart(snapshot, limit)
        while waiting and book.apply(waiting[0]) is BookState.LIVE:
            waiting.popleft()
        if book.state is BookState.LIVE:
            kept.live_since = time.monotonic()
            self._on_book(kept.topic, book)
            return True
        logger.info("%s: %s begins anew: %s", self._venue.exchange, kept.topic, book.reason)
        if was_live:
            self._on_stale(kept.topic, book.reason)
        return False


def as_streamed(instrument: Instrument, levels: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Levels of an answer over REST, in base currency, with amounts as the venue counts them.

    A whole book is converted once, where updates would have to be converted each time.
    """
    size = instrument.contract_size
    if size is None or not levels:
        return [(price, volume) for price, volume in levels]
    price, volume = np.array(levels).T
    contracts = volume * price / size if instrument.inverse else volume / size
    # Division leaves 2.9999999999999996 where the venue said 3.
    return list(zip(price.tolist(), np.round(contracts, _CONTRACT_DECIMALS).tolist(), strict=True))


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("an order book cannot be begun", exc_info=task.exception())
