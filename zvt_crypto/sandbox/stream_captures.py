"""Recorded streams, sent again as they were: to whom subscribes, at their own pace or another.

Beside recorded answers (see ``captures``), a capture of a stream has a line ``URL <-> time`` for a
connection, ``URL <- time: text`` for a frame of the client, which is skipped, and ``time: text`` for one of
the exchange; times are epoch seconds. The exchange's clock is that of the capture: it stands at its beginning
until somebody subscribes. Who subscribes gets everything from the beginning; what is past comes at once.
"""

from __future__ import annotations

import heapq
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.core.levels import DAY_MS
from zvt_crypto.sandbox.captures import Captures, capture_lines
from zvt_crypto.sandbox.events import Array, Book, Fundings, Trades, TradeSpan
from zvt_crypto.sandbox.feeder import Told
from zvt_crypto.sandbox.market import Candles, Instrument, Market, Span
from zvt_crypto.sandbox.streams import Frame, Session, Subscription
from zvt_crypto.sandbox.venue import concrete_classes

_CONNECTION: Final = re.compile(r"(wss?://\S+) <-> [0-9.]+")
_FRAME: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?): (.*)")


#: What was recorded: channel and market, in the venue's words and in an order of each replay's own.
Key = tuple[str, str]


class Message(NamedTuple):
    """A message of an exchange as it was recorded.

    Attributes:
        number: Its place among all that were recorded of a venue.
        ts: When it was received, epoch ms.
        text: The frame or, where a replay has translated it, what ``Replay.frame`` makes one of.
    """

    number: int
    ts: int
    text: str


class Trade(NamedTuple):
    """A recorded trade.

    Attributes:
        ts: Epoch ms.
        nanosecond: After ``ts``.
        id: Its number.
        price: In quote currency.
        volume: In base currency.
        is_buy: Whether the taker bought.
    """

    ts: int
    nanosecond: int
    id: int
    price: float
    volume: float
    is_buy: bool


class BookChange(NamedTuple):
    """A recorded message of an order book.

    Attributes:
        ts: When it was received, epoch ms.
        is_snapshot: Whether the levels are the whole book; else those that changed.
        bids: Prices and volumes in base currency; 0 removes a level.
        asks: As ``bids``.
    """

    ts: int
    is_snapshot: bool
    bids: Sequence[tuple[float, float]]
    asks: Sequence[tuple[float, float]]


class ReplayClock:
    """The time of a capture, epoch ms: stands at its beginning, runs once somebody has subscribed, and ends.

    Args:
        start: Time of the first message.
        end: Time of the last one.
        speed: How many times as fast as it was; None is at its end at once.
    """

    def __init__(self, start: int, end: int, speed: float | None) -> None:
        self.start = start
        self._end = end
        self._speed = speed
        self._began: float | None = None

    def begin(self) -> None:
        """Let it run, if it does not yet."""
        if self._began is None:
            self._began = time.monotonic()

    def now(self) -> int:
        """The time by now."""
        if self._began is None:
            return self.start
        if self._speed is None:
            return self._end
        passed = int((time.monotonic() - self._began) * 1000 * self._speed)
        return min(self.start + passed, self._end)


class Replay(ABC):
    """The recorded streams of a venue, or of one of its API families.

    Args:
        messages: What the exchange sent, on all connections, in order of time.
        answers: Recorded answers.
        speed: See ``ReplayClock``.

    Attributes:
        recorded_hosts: Hosts that the capture was made at.
        hosts: Hosts of today's streams, whose ``StreamVenue`` answers the client.
        rest_hosts: Hosts of today's answers.
        serves_answers: Whether the recorded answers are of today's layout.
    """

    recorded_hosts: ClassVar[tuple[str, ...]]
    hosts: ClassVar[tuple[str, ...]]
    rest_hosts: ClassVar[tuple[str, ...]]
    serves_answers: ClassVar[bool] = True

    def __init__(self, messages: Sequence[Message], answers: Captures, speed: float | None) -> None:
        self.answers = answers
        self.clock = ReplayClock(messages[0].ts, messages[-1].ts, speed)
        self._messages: dict[Key, list[Message]] = {}
        for message in messages:
            key = self.key_of(message.text)
            if key is not None:
                self._messages.setdefault(key, []).append(message)

    @cached_property
    def eve(self) -> int:
        """The time for who connects, epoch ms: before all that was recorded, so there are no past trades."""
        trades = (trade.ts for instrument in self.instruments() for trade in self.trades(instrument))
        return min((self.clock.start, *trades)) - 1

    def messages(self, subscription: Subscription) -> Sequence[Message]:
        """What was recorded of a subscription; nothing if it was not."""
        return self._messages.get(self.key(subscription), ())

    @abstractmethod
    def key_of(self, text: str) -> Key | None:
        """What a recorded message is of; None for those that are not sent again."""

    @abstractmethod
    def key(self, subscription: Subscription) -> Key:
        """What a subscription asks for."""

    @abstractmethod
    def frame(self, session: Session, subscription: Subscription, message: Message) -> Frame:
        """A recorded message as it is sent to who subscribed so."""

    @abstractmethod
    def instruments(self) -> Iterable[Instrument]:
        """The instruments that were recorded."""

    @abstractmethod
    def trades(self, instrument: Instrument) -> Iterable[Trade]:
        """The recorded trades of an instrument, in order of time."""

    def book_changes(self, instrument: Instrument) -> Iterable[BookChange]:
        """The recorded order book; nothing where it begins with a recorded answer."""
        return ()


class CaptureMarket(Market):
    """What REST answers while streams are replayed: trades and order books so far, but no candles."""

    def __init__(self, replays: Iterable[Replay]) -> None:
        self._replays = {i.symbol: (i, replay) for replay in replays for i in replay.instruments()}
        self._rows: dict[str, Trades] = {}
        clocks = [replay.clock for _, replay in self._replays.values()]
        super().__init__((i for i, _ in self._replays.values()), clocks[0].now if clocks else None)

    def book(self, symbol: str, depth: int, now: int) -> Book:
        """See ``Market``; before there was one it is the first one."""
        return self._book(self.instrument(symbol), depth, now)

    def extent(self, span: Span, now: int | None = None) -> tuple[int, int]:
        """See ``Market``."""
        return span.start, span.start

    def _bars(self, span: Span, now: int | None) -> Candles:
        return Candles.empty()

    def _trades(self, span: TradeSpan) -> Trades:
        if span.symbol not in self._rows:
            instrument, replay = self._replays[span.symbol]
            trades = list(replay.trades(instrument))
            columns = map(np.array, zip(*trades, strict=True))
            self._rows[span.symbol] = Trades(*columns) if trades else Trades.empty()
        return span.limited(span.chosen(self._rows[span.symbol]))

    def _fundings(self, instrument: Instrument, start: int, end: int) -> Fundings:
        return Fundings.empty()

    def _book(self, instrument: Instrument, depth: int, at: int) -> Book:
        sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
        number = 0
        for number, change in enumerate(self._replays[instrument.symbol][1].book_changes(instrument), 1):
            if change.ts > at and number > 1:
                number -= 1
                break
            for side, levels in zip(sides, (change.bids, change.asks), strict=True):
                if change.is_snapshot:
                    side.clear()
                side.update(levels)
        bids, asks = (_best(side, depth, reverse) for side, reverse in zip(sides, (True, False), strict=True))
        return Book(at, number, bids, asks)


def _best(side: Mapping[float, float], depth: int, reverse: bool) -> Array:
    levels = sorted(((price, volume) for price, volume in side.items() if volume), reverse=reverse)
    return np.array(levels[:depth], float).reshape(-1, 2)


class StreamCaptures:
    """All recorded streams of a sandbox.

    Args:
        paths: Capture files; those with recorded answers alone belong to the streams of their venue.
        speed: See ``ReplayClock``.

    Attributes:
        replays: By host of today's streams.
        market: What was traded.

    Raises:
        InvalidArgument: A file cannot be read, holds nothing that was recorded, or is of an unknown venue.
    """

    def __init__(self, paths: Iterable[str | Path], speed: float | None = 1.0) -> None:
        if speed is not None and not speed > 0:
            raise InvalidArgument(f"speed {speed:g} of a replay is not above 0")
        answers = Captures()
        messages = _read(paths, answers)
        kinds = [kind for kind in concrete_classes() if issubclass(kind, Replay)]
        known = {host: kind for kind in kinds for host in kind.recorded_hosts}
        unknown = messages.keys() - known.keys()
        if unknown:
            raise InvalidArgument(
                f"streams of {', '.join(sorted(unknown))} cannot be replayed",
                suggestions=(f"those of {', '.join(sorted(known))} can",),
            )
        made = [
            kind(_numbered(told), answers, speed)
            for kind in kinds
            if (told := [frame for host in kind.recorded_hosts for frame in messages.get(host, ())])
        ]
        self.replays = {host: replay for replay in made for host in replay.hosts}
        self.market = CaptureMarket(made)
        self._answering = {host: replay for replay in made for host in replay.rest_hosts}

    def now(self, host: str) -> int | None:
        """The time at a host over REST; None if none of its streams was recorded."""
        replay = self._answering.get(host)
        return None if replay is None else replay.clock.now()

    def answer(self, host: str, path: str, query: Mapping[str, str]) -> bytes | None:
        """The recorded body of a request, or None."""
        replay = self._answering.get(host)
        if replay is None or not replay.serves_answers:
            return None
        return replay.answers.find(host, path, query) or replay.answers.find_like(host, path, query)


@dataclass(slots=True)
class _Position:
    subscription: Subscription
    messages: Sequence[Message]
    sent: int = 0


class ReplayFeeder:
    """Feeds one connection with what was recorded; see ``Feeding``."""

    def __init__(self, replay: Replay, session: Session) -> None:
        self._replay = replay
        self._session = session
        self._positions: dict[Hashable, _Position] = {}

    @property
    def books(self) -> set[tuple[str, int | None]]:
        """See ``Feeding``."""
        return set()

    def begin(self) -> list[Told]:
        """See ``Feeding``."""
        wanted = self._session.subscriptions
        for key in [key for key in self._positions if key not in wanted]:
            del self._positions[key]
        for key, subscription in wanted.items():
            position = self._positions.get(key)
            if position is None or position.subscription is not subscription:
                self._positions[key] = _Position(subscription, self._replay.messages(subscription))
                self._replay.clock.begin()
        return []

    def tick(self) -> Iterator[Told]:
        """See ``Feeding``: in the order in which it was recorded."""
        now = self._replay.clock.now()
        due = (self._due(position, now) for position in list(self._positions.values()))
        for subscription, message in heapq.merge(*due, key=lambda item: item[1].number):
            yield Told(subscription, [self._replay.frame(self._session, subscription, message)])

    def _due(self, position: _Position, now: int) -> Iterator[tuple[Subscription, Message]]:
        while position.sent < len(position.messages) and position.messages[position.sent].ts <= now:
            message = position.messages[position.sent]
            position.sent += 1
            yield position.subscription, message


def decimals(step: str) -> int:
    """Decimal digits of a step such as ``0.00010000``: 4."""
    exponent = Decimal(step).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def listing_time(clock: ReplayClock) -> int:
    """A time when instruments were listed, of which captures do not tell: a day before."""
    return clock.start - DAY_MS


def _numbered(frames: list[tuple[float, str]]) -> list[Message]:
    """Frames of several connections, with their times in epoch seconds, in order of time."""
    ordered = sorted(frames, key=lambda frame: frame[0])
    return [Message(number, int(time * 1000), text) for number, (time, text) in enumerate(ordered)]


def _read(paths: Iterable[str | Path], answers: Captures) -> dict[str, list[tuple[float, str]]]:
    """The exchange's frames by recorded host, with their times; answers are added to ``answers``."""
    messages: dict[str, list[tuple[float, str]]] = {}
    for path in paths:
        lines = capture_lines(path)
        host = ""
        count = answers.add(lines)
        for line in lines:
            connection, frame = _CONNECTION.fullmatch(line), _FRAME.fullmatch(line)
            if connection:
                host = urlsplit(connection[1]).hostname or ""
            elif frame and host:
                messages.setdefault(host, []).append((float(frame[1]), frame[2]))
                count += 1
        if not count:
            raise InvalidArgument(
                f"{path} holds nothing that was recorded", suggestions=("see the sandbox's stream_captures",)
            )
    return messages
