"""One venue's live topics over as few connections as its limits allow."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Final

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import NotSupported, RetriableError, SkippableError
from zvt_crypto.exchanges.base import Venue
from zvt_crypto.exchanges.streaming import Streams, Topic
from zvt_crypto.exchanges.throttle import Budget, Priority
from zvt_crypto.exchanges.wire import PING_SECONDS, Line, OnFrame, Wire
from zvt_crypto.stream.topics import Listener, State, Subscription, Timing, TopicHealth
from zvt_crypto.stream.upstream import Upstream

__all__ = ["Listener", "LiveFeed", "State", "Timing", "TopicHealth"]

logger = logging.getLogger(__name__)

#: A trade must be so much older than the answer that tells of it, in ms, to have been due on the stream; of
#: short patience, a sixth.
_GRACE_MS: Final = 5_000
#: Messages that are further ahead of the exchange's clock, in ms, tell nothing of its time.
_MOST_AHEAD_MS: Final = 60_000


class LiveFeed:
    """Keeps topics subscribed; an asynchronous context manager, used from one event loop.

    However many listeners a topic has, the venue is asked for it once. Lost connections are made anew; what
    was missed meanwhile is for the listeners to fetch: they are told ``lost`` and then ``live``.

    Args:
        venue: Whose; its client is used for looking after silent topics.
        settings: Gateway, data folder.
        timing: How long it waits.

    Raises:
        NotSupported: The venue streams nothing.
    """

    def __init__(self, venue: Venue, settings: Settings, *, timing: Timing | None = None) -> None:
        if venue.streams is None:
            raise not_streamed(venue.exchange)
        self.venue = venue
        self.streams: Streams = venue.streams
        self._settings = settings
        self._timing = timing or Timing()
        self._wires: dict[str, Wire] = {}
        self._budgets: dict[str, Budget] = {}
        self._offsets: dict[str, int] = {}
        self._upstreams: dict[tuple[str, str], list[Upstream]] = {}
        self._keeping: dict[Upstream, asyncio.Task[None]] = {}
        self._home: dict[Topic, tuple[Subscription, Upstream]] = {}
        self._ended_reconnects = self._ended_unreadable = 0
        self._watching: asyncio.Task[None] | None = None
        self._probes: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> LiveFeed:
        self._watching = _watched(asyncio.create_task(self._watch()), self.venue.exchange)
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._keeping.values(), *self._probes]
        if self._watching is not None:
            tasks.append(self._watching)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for wire in self._wires.values():
            await wire.__aexit__()

    def add(self, topics: Iterable[Topic], listener: Listener) -> None:
        """Have a listener told of topics; those that nobody listens to yet are subscribed.

        Raises:
            NotSupported: The venue does not stream one of them; then none is added.
        """
        wanted = list(dict.fromkeys(topics))
        for topic in wanted:
            if not self.streams.serves(topic):
                raise NotSupported(f"{self.venue.exchange} does not stream {topic}")
        new: dict[tuple[str, str], list[Subscription]] = {}
        for topic in wanted:
            known = self._home.get(topic)
            if known is not None:
                self._join(known[0], listener)
                continue
            place = (topic.instrument.entity_type, self.streams.endpoint(topic))
            new.setdefault(place, []).append(Subscription(topic, [listener], self._timing.patience))
        for place, subscriptions in new.items():
            self._spread(place, subscriptions)

    def remove(self, topics: Iterable[Topic], listener: Listener) -> None:
        """Tell a listener no more; topics that nobody listens to are unsubscribed."""
        for topic in topics:
            known = self._home.get(topic)
            if known is None or listener not in known[0].listeners:
                continue
            subscription, upstream = known
            subscription.listeners.remove(listener)
            if not subscription.listeners:
                del self._home[topic]
                upstream.remove(subscription)
                if not len(upstream):
                    self._end(upstream)

    def renew(self, topic: Topic, reason: str) -> None:
        """Subscribe to a topic anew: a book that has lost its place, say."""
        known = self._home.get(topic)
        if known is not None and known[0].health.state is not State.REFUSED:
            logger.info("%s: %s is subscribed anew: %s", self.venue.exchange, topic, reason)
            known[1].renew(known[0], reason)

    def health(self) -> list[TopicHealth]:
        """What is known of each topic."""
        return [subscription.health for subscription, _ in self._home.values()]

    def health_of(self, topic: Topic) -> TopicHealth | None:
        """What is known of one; listeners may add what only they see: rows and lag."""
        known = self._home.get(topic)
        return known[0].health if known is not None else None

    @property
    def reconnects(self) -> int:
        """How often a connection had to be made anew."""
        return self._ended_reconnects + sum(one.reconnects for one in self._all())

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return sum(one.is_connected for one in self._all())

    @property
    def unreadable(self) -> int:
        """How many messages could not be read."""
        return self._ended_unreadable + sum(one.unreadable for one in self._all())

    async def ask_time(self, entity_type: str) -> None:
        """Ask for the exchange's time; before, and without a connection, ``now`` tells this machine's."""
        if entity_type not in self._offsets:
            try:
                self._offsets[entity_type] = await self.venue.client.clock_offset(entity_type)
            except RetriableError as error:
                logger.info("%s: its time cannot be asked for: %s", self.venue.exchange, error)

    def now(self, entity_type: str) -> int:
        """The exchange's time, epoch ms, by its clock when it was last asked and by its messages."""
        return time.time_ns() // 1_000_000 + self._offsets.get(entity_type, 0)

    def heard(self, entity_type: str, ts: int) -> None:
        """A message has told of something that happened at this time, epoch ms: it is no earlier there."""
        if 0 < ts - self.now(entity_type) < _MOST_AHEAD_MS:
            self._offsets[entity_type] = ts - time.time_ns() // 1_000_000
            self.venue.client.heard(entity_type, ts)

    # Topics and connections.

    def _join(self, subscription: Subscription, listener: Listener) -> None:
        if listener in subscription.listeners:
            return
        subscription.listeners.append(listener)
        if subscription.error is not None:
            listener.refused(subscription.topic, subscription.error)
        elif subscription.health.state is State.LIVE:
            listener.live(subscription.topic, self.now(subscription.topic.instrument.entity_type))

    def _spread(self, place: tuple[str, str], subscriptions: list[Subscription]) -> None:
        """Put subscriptions where there is room, on new connections where there is none."""
        upstreams = self._upstreams.setdefault(place, [])
        while subscriptions:
            room = self.streams.limits.topics - len(upstreams[-1]) if upstreams else 0
            if room <= 0:
                upstreams.append(self._new_upstream(place))
                continue
            taken, subscriptions = subscriptions[:room], subscriptions[room:]
            self._home.update((one.topic, (one, upstreams[-1])) for one in taken)
            upstreams[-1].add(taken)

    def _new_upstream(self, place: tuple[str, str]) -> Upstream:
        entity_type, endpoint = place

        async def connect(on_frame: OnFrame) -> Line:
            return await self._connect(entity_type, endpoint, on_frame)

        number = sum(map(len, self._upstreams.values())) + 1
        name = f"{self.venue.exchange} stream {number}"
        upstream = Upstream(name, self.streams, connect, lambda: self.now(entity_type), self._timing)
        self._keeping[upstream] = _watched(asyncio.create_task(upstream.run()), name)
        return upstream

    def _end(self, upstream: Upstream) -> None:
        """Close a connection that nothing is subscribed on; where all else was refused, there is none."""
        task = self._keeping.pop(upstream, None)
        if task is not None:
            task.cancel()
        for upstreams in self._upstreams.values():
            if upstream in upstreams:
                upstreams.remove(upstream)
                self._ended_reconnects += upstream.reconnects
                self._ended_unreadable += upstream.unreadable

    async def _connect(self, entity_type: str, endpoint: str, on_frame: OnFrame) -> Line:
        ccxt_id = (self.streams.ccxt_ids or self.venue.ccxt_ids)[entity_type]
        if ccxt_id not in self._wires:
            # Two pings without an answer end a connection, and the third finds it dead.
            ping_seconds = min(PING_SECONDS, self._timing.dead / 3)
            self._wires[ccxt_id] = Wire(ccxt_id, self._settings, ping_seconds=ping_seconds)
            state = self._settings.data_path.parent / "state"
            # All processes of this address share it, so that none makes the venue ban the others.
            self._budgets[ccxt_id] = Budget(
                f"{ccxt_id} connections", state / f"{ccxt_id}.connections", 0.0, Priority.LIVE
            )
        await self._budgets[ccxt_id].take(60_000 / self.streams.limits.connections_per_minute)
        self._offsets[entity_type] = await self.venue.client.clock_offset(entity_type, fresh=True)
        url = await self.streams.url(endpoint, entity_type, self.venue.client)
        return await self._wires[ccxt_id].connect(url, on_frame)

    def _all(self) -> list[Upstream]:
        return [upstream for upstreams in self._upstreams.values() for upstream in upstreams]

    # Silence.

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._timing.check)
            now = time.monotonic()
            for upstream in self._all():
                upstream.check(now)
                silent = now - upstream.last_sign
                if upstream.is_connected and silent > self._timing.dead:
                    upstream.drop(f"no sign of life for {silent:.0f} s")
                    continue
                for one in upstream.subscriptions:
                    if one.health.state is State.LIVE and now - one.heard > one.patience:
                        one.heard = now
                        self._probe(one, upstream)

    def _probe(self, subscription: Subscription, upstream: Upstream) -> None:
        task = asyncio.create_task(self._look(subscription, upstream))
        self._probes.add(task)
        task.add_done_callback(self._probes.discard)

    async def _look(self, subscription: Subscription, upstream: Upstream) -> None:
        """Ask over HTTP whether a silent topic's market has traded: then the stream is dead, else quiet."""
        topic, patience, heard = subscription.topic, subscription.patience, subscription.heard
        now = self.now(topic.instrument.entity_type)
        start, end = now - int(patience * 1000), now - min(_GRACE_MS, int(patience * 1000 / 6))
        try:
            parts = self.venue.fetch_trades(topic.instrument, start, end)
            has_traded = any([part.rows.num_rows > 0 async for part in parts])
        except (RetriableError, SkippableError) as error:
            logger.info("%s: whether %s is quiet cannot be asked: %s", self.venue.exchange, topic, error)
            return
        if subscription.heard != heard:
            return  # it has spoken meanwhile
        if has_traded:
            subscription.patience = subscription.least_patience
            reason = f"silent for {patience:.0f} s while the market trades"
            logger.warning("%s: %s is subscribed anew: %s", self.venue.exchange, topic, reason)
            upstream.renew(subscription, reason)
        else:
            subscription.patience = min(2 * patience, self._timing.longest_patience)


def not_streamed(exchange: str) -> NotSupported:
    """The error of an exchange, or a provider, that streams nothing."""
    return NotSupported(
        f"{exchange} is not streamed",
        suggestions=("record it without streaming", "see what `zvt-crypto providers` lists"),
    )


def _watched(task: asyncio.Task[None], name: str) -> asyncio.Task[None]:
    """A task whose failure, which nobody foresaw, is told."""

    def tell(done: asyncio.Task[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            logger.error("%s: it has ended", name, exc_info=error)

    task.add_done_callback(tell)
    return task
