"""One connection to a venue that is kept for as long as topics need it: subscribed, read, and made anew."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from zvt_crypto.core.errors import (
    FatalError,
    NotSupported,
    RetriableError,
    SkippableError,
    StreamDisconnected,
    ZvtCryptoError,
)
from zvt_crypto.exchanges.streaming import (
    BookUpdate,
    Candles,
    Confirmed,
    Funding,
    Message,
    Reader,
    Refused,
    Streams,
    Topic,
    Trades,
)
from zvt_crypto.exchanges.wire import Line, OnFrame
from zvt_crypto.stream.topics import State, Subscription, Timing

logger = logging.getLogger(__name__)

_LONGEST_EXCERPT: Final = 200
#: Messages that cannot be read are told of once for each thing that is wrong with them, so many at most.
_MOST_TOLD: Final = 20
#: Seconds between two looks for an answer.
_LOOK_SECONDS: Final = 0.02

Connect = Callable[[OnFrame], Awaitable[Line]]
Clock = Callable[[], int]


class Upstream:
    """Keeps one connection.

    Args:
        name: For log lines.
        streams: The venue's frames.
        connect: Makes a connection; waits until the venue allows another one.
        clock: The exchange's time, epoch ms.
        timing: How long it waits.

    Attributes:
        name: For log lines.
        reconnects: How often the connection had to be made anew.
        unreadable: How many messages could not be read.
        is_connected: Whether there is a connection now.
    """

    def __init__(self, name: str, streams: Streams, connect: Connect, clock: Clock, timing: Timing) -> None:
        self.name = name
        self.reconnects = 0
        self.unreadable = 0
        self.is_connected = False
        self._streams = streams
        self._connect = connect
        self._clock = clock
        self._timing = timing
        self._last_frame = self._last_message = time.monotonic()
        #: By the identity of the topic, which messages carry: to hash its fields costs more than to decode.
        self._subscriptions: dict[int, Subscription] = {}
        self._reader: Reader | None = None
        self._line: Line | None = None
        self._connected_at = math.inf
        self._number = 0
        self._unclear_since: float | None = None
        self._told: set[str] = set()
        self._wanted = asyncio.Event()
        #: Held by who sends: frames keep their order and their pace, and answers what they are about.
        self._sending = asyncio.Lock()
        self._asks_singly = False
        self._refusals: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._subscriptions)

    @property
    def subscriptions(self) -> list[Subscription]:
        """What is subscribed here."""
        return list(self._subscriptions.values())

    @property
    def last_sign(self) -> float:
        """Monotonic seconds of the connection's last sign of life."""
        return self._last_frame if self._line is None else max(self._last_frame, self._line.heard)

    def add(self, subscriptions: Iterable[Subscription]) -> None:
        """Subscribe to more."""
        new = list(subscriptions)
        self._subscriptions.update((id(one.topic), one) for one in new)
        self._wanted.set()
        self._later(self._ask(new))

    def remove(self, subscription: Subscription) -> None:
        """Subscribe to less."""
        if self._forget(subscription):
            self._later(self._take_back(subscription))

    def renew(self, subscription: Subscription, reason: str) -> None:
        """Subscribe to a topic anew, unless that is under way."""
        if subscription.asked is None:
            return
        subscription.health.renewals += 1
        subscription.forget_answer()
        subscription.set_lost(reason)
        self._later(self._renew(subscription))

    def drop(self, reason: str) -> None:
        """Give the connection up; a new one is made."""
        if self._line is not None:
            self._later(self._line.close(reason))

    async def run(self) -> None:
        """Keep the connection, while something is subscribed, until cancelled."""
        attempt = 0
        try:
            while True:
                await self._wanted.wait()
                try:
                    error = await self._keep()
                except (SkippableError, FatalError) as refusal:
                    for one in self.subscriptions:
                        self._give_up(one, refusal)
                    continue
                self._lose(error.message)
                if not self._subscriptions:
                    continue
                attempt = 0 if self._has_held() else attempt + 1
                self.reconnects += 1
                wait = self._pause(attempt)
                logger.warning("%s: %s; connecting anew in %.1f s", self.name, error.message, wait)
                await asyncio.sleep(wait)
        finally:
            for task in self._tasks:
                task.cancel()

    def check(self, now: float) -> None:
        """Look after what time brings; called about every second.

        Args:
            now: Monotonic seconds.
        """
        if not self.is_connected:
            return
        if self._unclear_since is not None and now - self._unclear_since > self._timing.clear:
            self._unclear_since = None
            self._clear()
        if self._asks_singly:
            return
        for one in self.subscriptions:
            if one.asked is None or one.confirmed or now - one.asked <= self._timing.confirm:
                continue
            if self._last_message <= one.asked:
                self.drop("the venue answers nothing")
                return
            logger.info("%s: %s is not confirmed, and subscribed anew", self.name, one.topic)
            self.renew(one, "the venue confirms no subscription")

    # One life of a connection.

    async def _keep(self) -> ZvtCryptoError:
        """Connect, subscribe, and wait for the end; returns why it came."""
        line: Line | None = None
        self._connected_at = math.inf
        try:
            self._reader = self._streams.reader()
            line = self._line = await self._connect(partial(self._on_frame, self._reader))
            self.is_connected = True
            self._connected_at = self._last_frame = self._last_message = time.monotonic()
            await self._ask(self.subscriptions)
            return await line.ended
        except RetriableError as error:
            return error
        finally:
            self.is_connected = False
            self._line = self._reader = None
            if line is not None:
                await line.close()

    def _has_held(self) -> bool:
        return time.monotonic() - self._connected_at > self._timing.held

    def _pause(self, attempt: int) -> float:
        """Seconds before the next attempt."""
        longest = min(self._timing.longest_wait, self._timing.first_wait * 2.0 ** min(attempt, 10))
        return random.uniform(0, longest)  # noqa: S311

    def _lose(self, reason: str) -> None:
        self._unclear_since = None
        for one in self.subscriptions:
            one.forget_answer()
            one.set_lost(reason)

    async def _ask(self, subscriptions: Sequence[Subscription]) -> None:
        async with self._sending:
            await self._subscribe(subscriptions)

    async def _renew(self, subscription: Subscription) -> None:
        async with self._sending:
            if id(subscription.topic) in self._subscriptions:
                await self._say(self._line, self._streams.unsubscribe, [subscription.topic])
                await self._subscribe([subscription])

    async def _take_back(self, subscription: Subscription) -> None:
        async with self._sending:
            await self._say(self._line, self._streams.unsubscribe, [subscription.topic])

    async def _subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Subscribe to what is still wanted; nothing where there is no connection, which asks by itself."""
        line, reader = self._line, self._reader
        wanted = [one for one in subscriptions if id(one.topic) in self._subscriptions]
        if reader is None:
            return
        reader.expect(one.topic for one in wanted)
        at_once = self._streams.limits.topics_per_frame
        for start in range(0, len(wanted), at_once):
            if self._line is not line:
                return
            chunk = wanted[start : start + at_once]
            for one in chunk:
                one.ask(time.monotonic())
            await self._say(line, self._streams.subscribe, [one.topic for one in chunk])

    async def _say(
        self, line: Line | None, frames_of: Callable[[Sequence[Topic], int], list[Any]], topics: list[Topic]
    ) -> None:
        """Send the frames about topics, no faster than the venue allows, while the connection holds."""
        self._number += 1
        with contextlib.suppress(StreamDisconnected):  # whoever keeps the connection is told too
            for frame in frames_of(topics, self._number):
                if line is None or self._line is not line:
                    return
                await line.send(frame)
                await asyncio.sleep(1 / self._streams.limits.frames_per_second)

    def _later(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What the frames say.

    def _on_frame(self, reader: Reader, frame: str) -> bool:
        if reader is not self._reader:
            return True  # of a connection that was given up
        self._last_frame = time.monotonic()
        try:
            messages = reader.read(frame)
        except msgspec.DecodeError as error:
            self._not_understood(frame, error)
            return True
        if messages is None:
            return False
        if messages:
            self._last_message = self._last_frame
        for message in messages:
            self._hand_on(message)
        return True

    def _hand_on(self, message: Message) -> None:
        if isinstance(message, (Trades, Candles, BookUpdate, Funding)):
            subscription = self._subscriptions.get(id(message.topic))
            if subscription is not None:
                subscription.heard_from(self._last_frame)
                if subscription.health.state is not State.LIVE:
                    self._confirm([subscription])
                subscription.receive(message)
        elif isinstance(message, Confirmed):
            known = (self._subscriptions.get(id(topic)) for topic in message.topics)
            self._confirm([one for one in known if one is not None])
        elif isinstance(message, Refused):
            self._refused(message)
        else:
            self._unclear(message.reason)

    def _confirm(self, subscriptions: Iterable[Subscription]) -> None:
        now = self._clock()
        for one in subscriptions:
            if one.asked is not None:
                one.confirmed = True
                if self._unclear_since is None:
                    one.set_live(now)

    def _not_understood(self, frame: str, error: msgspec.DecodeError) -> None:
        self.unreadable += 1
        text = str(error)
        if text not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(text)
            logger.error("%s: a message cannot be read: %s: %.*s", self.name, text, _LONGEST_EXCERPT, frame)
        self._unclear("a message cannot be read")

    def _unclear(self, reason: str) -> None:
        """Something of any topic here is missing; they are live again when nothing goes wrong for a while."""
        self._unclear_since = time.monotonic()
        for one in self.subscriptions:
            one.set_lost(reason)

    def _clear(self) -> None:
        """What is received counts as complete again; a book only after the whole of it has come once more."""
        books = [one for one in self.subscriptions if one.topic.feed == "order_book"]
        self._confirm(one for one in self.subscriptions if one.confirmed and one not in books)
        for one in books:
            self.renew(one, "changes of the book may be missing")

    # What the venue does not stream.

    def _unanswered(self) -> list[Subscription]:
        return [one for one in self.subscriptions if one.asked is not None and not one.confirmed]

    def _refused(self, message: Refused) -> None:
        waiting = self._unanswered()
        named = next((one for one in waiting if one.topic is message.topic), None)
        if named is not None:
            self._give_up(named, self._refusal(named, message.reason))
        elif message.topic is None and (waiting or self._asks_singly):
            self._refusals.append(message.reason)
            if not self._asks_singly:
                self._asks_singly = True
                self._later(self._ask_singly())
        else:
            logger.warning("%s: the venue refuses something: %s", self.name, message.reason)

    async def _ask_singly(self) -> None:
        """Subscribe one after the other, where the venue does not tell which of many it refuses."""
        try:
            async with self._sending:
                line = self._line
                await asyncio.sleep(self._timing.settle)
                waiting = self._unanswered()
                for one in waiting:
                    one.forget_answer()
                for one in waiting:
                    if self._line is not line:
                        return  # where there is a new one, all are asked for
                    await self._ask_for_one(one)
        finally:
            self._asks_singly = False

    async def _ask_for_one(self, one: Subscription) -> None:
        line, until = self._line, time.monotonic() + self._timing.confirm
        self._refusals.clear()
        await self._subscribe([one])
        while self._line is line and not one.confirmed and time.monotonic() < until:
            if self._refusals:
                self._give_up(one, self._refusal(one, self._refusals[0]))
                return
            if id(one.topic) not in self._subscriptions:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    def _refusal(self, subscription: Subscription, reason: str) -> NotSupported:
        venue = self.name.partition(" ")[0]
        return NotSupported(
            f"{venue} does not stream {subscription.topic}: {reason}",
            suggestions=("leave it out", "record it without streaming"),
        )

    def _give_up(self, subscription: Subscription, error: ZvtCryptoError) -> None:
        self._forget(subscription)
        subscription.set_refused(error)

    def _forget(self, subscription: Subscription) -> bool:
        """Want a topic no more; whether it was wanted."""
        if self._subscriptions.pop(id(subscription.topic), None) is None:
            return False
        if self._reader is not None:
            self._reader.forget([subscription.topic])
        if not self._subscriptions:
            self._wanted.clear()
            self.drop("nothing is subscribed any more")
        return True
