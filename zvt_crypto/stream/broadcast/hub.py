"""Channels for however many clients, each from one subscription at its exchange.

What exchanges send is collected for a few milliseconds, turned into messages once, and written to each client
once. A hub belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from zvt_crypto.core.errors import RetriableError, ZvtCryptoError
from zvt_crypto.stream.broadcast.channellog import ChannelLog
from zvt_crypto.stream.broadcast.channels import Channel
from zvt_crypto.stream.broadcast.finding import Wanted, feed_of, find
from zvt_crypto.stream.broadcast.intake import Intake
from zvt_crypto.stream.broadcast.producers import Producer, producer_of
from zvt_crypto.stream.broadcast.sources import OpenSource, Source
from zvt_crypto.stream.broadcast.taps import Tap
from zvt_crypto.stream.broadcast.wiremessages import Message, event
from zvt_crypto.stream.topics import TopicHealth

#: How long messages are collected before they are written.
TICK_SECONDS: Final = 0.005
#: How long a channel that nobody wants any more is kept for who comes back.
LINGER_SECONDS: Final = 30.0
#: Most channels at once: each is a subscription at an exchange, and memory.
MOST_CHANNELS: Final = 2_000
#: Seconds as which a turn counts at most, and the weight of the newest in the mean of them.
_LONGEST_TURN: Final = 0.2
_WEIGHT: Final = 0.1
_DUE_SECONDS: Final = 1.0


class TooManySubscriptions(RetriableError):
    """As many channels are subscribed to as there may be."""

    code = "CRYPTO_TOO_MANY_SUBSCRIPTIONS"
    http_status = 429
    default_suggestions = ("unsubscribe from what is not needed any more",)


class Subscriber(Protocol):
    """Whoever is sent messages of channels."""

    def deliver(self, batch: Sequence[Delivery]) -> None:
        """Messages of this moment, to be written at once."""

    def refused(self, lane: Subscription, error: ZvtCryptoError) -> None:
        """The channel has come to its end, and so has the subscription."""


@dataclass(eq=False, slots=True)
class Subscription:
    """That a client is sent a channel's messages.

    Attributes:
        channel: Which.
        subscriber: To whom.
        name: What the client calls it, in JSON; None where it has given no name.
        log: What the channel says.
        first: What the client is to be sent first: the newest state, or what it has missed.
    """

    channel: Channel
    subscriber: Subscriber
    name: bytes | None
    log: ChannelLog
    first: list[Message] = field(default_factory=list)


#: A subscription, messages of its channel, and all of these as frames for clients that gave it no name.
Delivery = tuple[Subscription, Sequence[Message], bytes]


@dataclass(eq=False, slots=True)
class _Open:
    """A channel that is filled."""

    producer: Producer
    tap: Tap
    subscriptions: list[Subscription] = field(default_factory=list)
    end: asyncio.TimerHandle | None = None


class Hub:
    """All channels of a process.

    Args:
        open_source: Opens a provider's live data when somebody asks for it first.
        tick_seconds: How long messages are collected.
        linger_seconds: How long a channel is kept that nobody wants.
    """

    def __init__(
        self,
        open_source: OpenSource,
        *,
        tick_seconds: float = TICK_SECONDS,
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        self._open_source = open_source
        self._tick_seconds = tick_seconds
        self._linger_seconds = linger_seconds
        self._sources: dict[str, asyncio.Task[Source]] = {}
        self._intakes: dict[str, Intake] = {}
        self._open: dict[Channel, _Open] = {}
        self._turn_seconds = 0.0
        self._tick: asyncio.TimerHandle | None = None
        self._due: asyncio.TimerHandle | None = None

    @property
    def subscriptions(self) -> int:
        """How many there are, of all clients."""
        return sum(len(one.subscriptions) for one in self._open.values())

    def sources(self) -> dict[str, Source]:
        """The providers whose live data is open."""
        return {
            provider: task.result()
            for provider, task in self._sources.items()
            if task.done() and not task.cancelled() and task.exception() is None
        }

    def health(self) -> list[tuple[str, TopicHealth]]:
        """Provider and state of each topic that is streamed."""
        return [(name, health) for name, source in self.sources().items() for health in source.health()]

    async def close(self) -> None:
        """End all of it; clients are not told."""
        for timer in (self._tick, self._due, *(one.end for one in self._open.values())):
            if timer is not None:
                timer.cancel()
        self._open.clear()
        opened, opening = self.sources(), list(self._sources.values())
        self._sources.clear()
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        await asyncio.gather(*(source.close() for source in opened.values()))

    # Finding and joining channels.

    async def find(self, wanted: Wanted) -> list[Channel | ZvtCryptoError]:
        """The channel of each symbol, or why there is none.

        Raises:
            ZvtCryptoError: None of them can be had: an unknown stream, provider, interval or depth.
        """
        feed_of(wanted.stream)
        return await find(wanted, await self._source(wanted.provider))

    def join(
        self,
        channel: Channel,
        subscriber: Subscriber,
        name: bytes | None = None,
        resume: tuple[str, int] | None = None,
    ) -> Subscription:
        """Send a client a channel's messages from now on.

        Args:
            channel: As ``find`` answered it.
            subscriber: The client.
            name: What it calls the channel, in JSON.
            resume: Epoch and number of the last message that it has; what followed is in
                ``Subscription.first``, or an event ``gap`` and the newest state where that is not known.

        Raises:
            TooManySubscriptions: There are as many channels as there may be.
            NotSupported: The provider does not stream it.
        """
        opened = self._opened(channel)
        if opened.end is not None:
            opened.end.cancel()
            opened.end = None
        log = opened.producer.log
        subscription = Subscription(channel, subscriber, name, log, _first(log, resume))
        opened.subscriptions.append(subscription)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """Send no more of it; a channel that nobody wants is given up after a while."""
        opened = self._open.get(subscription.channel)
        if opened is None or subscription not in opened.subscriptions:
            return
        opened.subscriptions.remove(subscription)
        if not opened.subscriptions:
            loop = asyncio.get_running_loop()
            opened.end = loop.call_later(self._linger_seconds, self._retire, subscription.channel)

    def _opened(self, channel: Channel) -> _Open:
        if channel in self._open:
            return self._open[channel]
        if len(self._open) >= MOST_CHANNELS and not self._retire_idle():
            raise TooManySubscriptions(f"{MOST_CHANNELS} channels are open, as many as there may be")
        assert channel.topic is not None
        tap = self._intakes[channel.provider].tap(channel.topic)
        producer = producer_of(channel)
        tap.add(producer)
        opened = self._open[channel] = _Open(producer, tap)
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(_DUE_SECONDS, self._do_due)
        return opened

    def _retire(self, channel: Channel) -> None:
        opened = self._open.pop(channel)
        opened.tap.producers.remove(opened.producer)
        if not opened.tap.producers:
            self._intakes[channel.provider].end(opened.tap)

    def _retire_idle(self) -> bool:
        """Give up the channel that nobody has wanted for longest; False where there is none."""
        idle = [
            (one.end.when(), channel.key, channel)
            for channel, one in self._open.items()
            if one.end is not None
        ]
        if not idle:
            return False
        channel = min(idle)[2]
        timer = self._open[channel].end
        assert timer is not None
        timer.cancel()
        self._retire(channel)
        return True

    async def _source(self, provider: str) -> Source:
        task = self._sources.get(provider)
        if task is None:
            intake = Intake(self._schedule, self._refuse)
            task = asyncio.create_task(self._begin(provider, intake))
            self._sources[provider], self._intakes[provider] = task, intake
        try:
            # Others may wait for it, too.
            return await asyncio.shield(task)
        except ZvtCryptoError:
            if self._sources.get(provider) is task:
                del self._sources[provider], self._intakes[provider]
            raise

    async def _begin(self, provider: str, intake: Intake) -> Source:
        source = await self._open_source(provider, intake)
        intake.source = source
        return source

    # Messages.

    def _schedule(self) -> None:
        """Something has come in: have it written soon."""
        if self._tick is None:
            # Where turns take long, fewer of them that write more leave time for everything else.
            pause = max(self._tick_seconds, self._turn_seconds / 2)
            self._tick = asyncio.get_running_loop().call_later(pause, self._turn)

    def _turn(self) -> None:
        """Turn what came in into messages, and have each client's written."""
        began = time.monotonic()
        self._tick = None
        for intake in self._intakes.values():
            intake.turn()
        self._fan_out()
        # A mean of the last ones: a single one that the machine held up is no reason to wait as long again.
        took = min(time.monotonic() - began, _LONGEST_TURN)
        self._turn_seconds += _WEIGHT * (took - self._turn_seconds)

    def _do_due(self) -> None:
        """Have the channels do what is due by the clock."""
        self._due = None
        if not self._open:
            return
        self._due = asyncio.get_running_loop().call_later(_DUE_SECONDS, self._do_due)
        for tap in {id(one.tap): one.tap for one in self._open.values()}.values():
            tap.tick()
        self._fan_out()

    def _fan_out(self) -> None:
        batches: defaultdict[Subscriber, list[Delivery]] = defaultdict(list)
        for opened in self._open.values():
            messages = opened.producer.log.collect()
            if not messages:
                continue
            frames = b"".join([message.frame for message in messages])
            for subscription in opened.subscriptions:
                batches[subscription.subscriber].append((subscription, messages, frames))
        for subscriber, batch in batches.items():
            subscriber.deliver(batch)

    def _refuse(self, tap: Tap, error: ZvtCryptoError) -> None:
        """Bring the channels of a topic to their end."""
        for channel, opened in [item for item in self._open.items() if item[1].tap is tap]:
            subscriptions, opened.subscriptions = opened.subscriptions, []
            if opened.end is not None:
                opened.end.cancel()
            self._retire(channel)
            for subscription in subscriptions:
                subscription.subscriber.refused(subscription, error)


def _first(log: ChannelLog, resume: tuple[str, int] | None) -> list[Message]:
    snapshot = log.snapshot()
    newest = [] if snapshot is None else [snapshot]
    if resume is None:
        return newest
    missed = log.since(*resume)
    if missed is not None:
        return missed
    reason = "what followed is not kept any more" if resume[0] == log.epoch else "the channel began anew"
    facts = {"first_sequence": resume[1] + 1} if resume[0] == log.epoch else {}
    return [event(log.channel, log.sequence, "gap", **facts, reason=reason), *newest]
