"""What one connection is told at a tick: its subscriptions, and how far each of them is."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from zvt_crypto.core.levels import level_ms
from zvt_crypto.sandbox.events import Book
from zvt_crypto.sandbox.news import News
from zvt_crypto.sandbox.streams import Frame, Session, StreamVenue, Subscription

#: There is always a new prediction of a payment, so it is not sent at every tick.
_FUNDING_EVERY_MS: Final = 1000


class Told(NamedTuple):
    """Frames, and the subscription that they belong to: None for answers and heartbeats."""

    subscription: Subscription | None
    frames: Sequence[Frame]


class Feeding(Protocol):
    """What feeds one connection."""

    @property
    def books(self) -> set[tuple[str, int | None]]:
        """The order books of the market that are subscribed to: symbol and depth."""

    def begin(self) -> list[Told]:
        """Take over what the venue has changed in the session's subscriptions; their first frames."""

    def tick(self) -> Iterator[Told]:
        """What is new for this connection."""


@dataclass(slots=True)
class _Position:
    """How far a subscription is: when it was told last (candles under way, books, payments), and what."""

    subscription: Subscription
    since: int
    book: Book | None = None
    candle: tuple[float, ...] | None = None

    def is_due(self, now: int, least: int = 0) -> bool:
        return now - self.since >= max(self.subscription.every, least)


class Feeder:
    """Feeds one connection with what a market has; see ``Feeding``."""

    def __init__(self, venue: StreamVenue, session: Session, news: News) -> None:
        self._venue = venue
        self._session = session
        self._news = news
        self._positions: dict[Hashable, _Position] = {}

    @property
    def books(self) -> set[tuple[str, int | None]]:
        """See ``Feeding``."""
        wanted = (position.subscription for position in self._positions.values())
        return {(one.symbol, one.depth) for one in wanted if one.feed == "order_book"}

    def begin(self) -> list[Told]:
        """See ``Feeding``."""
        told: list[Told] = []
        wanted = self._session.subscriptions
        for key in [key for key in self._positions if key not in wanted]:
            del self._positions[key]
        for key, subscription in wanted.items():
            position = self._positions.get(key)
            if position is None or position.subscription is not subscription:
                self._positions[key] = position = _Position(subscription, self._session.now)
                told += self._snapshot(position)
        return told

    def tick(self) -> Iterator[Told]:
        """See ``Feeding``: one subscription after the other."""
        self._session.now = self._news.now
        for position in list(self._positions.values()):
            feed = position.subscription.feed
            if feed == "trades":
                yield from self._trades(position)
            elif feed == "candles":
                yield from self._candles(position)
            elif feed == "order_book":
                yield from self._book(position)
            else:
                yield from self._funding(position)

    def _snapshot(self, position: _Position) -> Iterator[Told]:
        subscription = position.subscription
        if subscription.feed == "order_book":
            position.book = self._news.book(subscription.symbol, subscription.depth)
            frames = self._venue.book_snapshot(self._session, subscription, position.book)
            yield Told(subscription, frames)

    def _trades(self, position: _Position) -> Iterator[Told]:
        subscription = position.subscription
        rows = self._news.trades(subscription.symbol)
        if len(rows):
            yield Told(subscription, self._venue.trades(self._session, subscription, rows))

    def _candles(self, position: _Position) -> Iterator[Told]:
        subscription, news = position.subscription, self._news
        step = subscription.step or level_ms(str(subscription.level))
        closed = news.closed_candles(subscription.symbol, step, subscription.offset)
        if len(closed):
            yield Told(subscription, self._venue.candles(self._session, subscription, closed, True))
        if not position.is_due(news.now):
            return
        rows = news.open_candle(subscription.symbol, step, subscription.offset)
        state = (int(rows.ts[-1]), float(rows.close[-1]), float(rows.volume[-1])) if len(rows) else None
        if state is not None and state != position.candle:
            position.since, position.candle = news.now, state
            yield Told(subscription, self._venue.candles(self._session, subscription, rows, False))

    def _book(self, position: _Position) -> Iterator[Told]:
        subscription, news = position.subscription, self._news
        after = news.book(subscription.symbol, subscription.depth)
        before = after if position.book is None else position.book
        if not position.is_due(news.now) or after.sequence == before.sequence:
            return
        changes = news.changes(subscription.symbol, subscription.depth, before)
        if len(changes):
            position.since, position.book = news.now, after
            frames = self._venue.book_update(self._session, subscription, before, after, changes)
            yield Told(subscription, frames)

    def _funding(self, position: _Position) -> Iterator[Told]:
        subscription = position.subscription
        funding = self._news.funding(subscription.symbol)
        if funding is not None and position.is_due(self._news.now, _FUNDING_EVERY_MS):
            position.since = self._news.now
            yield Told(subscription, self._venue.funding(self._session, subscription, funding))
