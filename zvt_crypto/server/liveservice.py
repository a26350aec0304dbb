"""The streams of a server: its hub, who may connect, and what is measured of both."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import DAY_MS
from zvt_crypto.server.wsadmission import Admission
from zvt_crypto.stream.broadcast.channels import STREAMS, symbol_of
from zvt_crypto.stream.broadcast.hub import Hub
from zvt_crypto.stream.broadcast.sources import OpenSource
from zvt_crypto.stream.broadcast.venuesource import venue_sources

_REPORT_SECONDS: Final = 2.0
_SAMPLE_SECONDS: Final = 60.0
_DAY_SECONDS: Final = DAY_MS / 1000
_STREAM_OF: Final = {feed: stream for stream, feed in STREAMS.items()}


@dataclass(frozen=True, slots=True)
class TopicReport:
    """One subscription at an exchange.

    Attributes:
        provider: The data source.
        symbol: The market, as in messages of ``/ws``.
        stream: Name of the stream.
        state: ``waiting``, ``live``, ``lost`` or ``refused``; nothing is missing where it is ``live``.
        last_message: Epoch seconds of the newest message; None before the first.
        lag_ms: Age of the newest row when it came; None where unknown.
        resyncs: How often it was subscribed, or its book begun, anew.
    """

    provider: str
    symbol: str
    stream: str
    state: str
    last_message: float | None
    lag_ms: float | None
    resyncs: int


@dataclass(frozen=True, slots=True)
class LiveReport:
    """The streams of a server at one moment.

    Attributes:
        clients: Connections to ``/ws``.
        subscriptions: Those of all clients.
        sent: Messages of channels that were sent so far.
        dropped: Messages that were not, by reason.
        reconnects: Connections that had to be made anew, by provider.
        reconnects_24h: The same of the last day, of all providers.
        dropped_24h: Messages that clients missed in the last day.
        topics: What is subscribed to at exchanges.
    """

    clients: int = 0
    subscriptions: int = 0
    sent: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    reconnects: Mapping[str, int] = field(default_factory=dict)
    reconnects_24h: int = 0
    dropped_24h: int = 0
    topics: tuple[TopicReport, ...] = ()


class LiveService:
    """The streams of one server.

    Args:
        settings: Limits, and what is recorded.
        open_source: Opens the live data of a provider; that of its exchange where None.

    Attributes:
        sent: Messages of channels that were sent.
        dropped: Messages that were not, by reason; ``conflated`` ones gave way to newer states.
        clients: How many are connected.
    """

    def __init__(self, settings: Settings, open_source: OpenSource | None = None) -> None:
        self.settings = settings
        self.hub = Hub(open_source or venue_sources(settings))
        self.admission = Admission(settings.stream_connections_per_client, settings.stream_connections)
        self.sent = 0
        self.dropped: Counter[str] = Counter()
        self.clients = 0
        self._reconnects = _OfADay()
        self._dropped = _OfADay()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sample: asyncio.TimerHandle | None = None
        self._last = LiveReport()

    async def start(self) -> None:
        """Begin; clients may connect from now on, in this event loop."""
        self._loop = asyncio.get_running_loop()
        self._take_sample()

    async def close(self) -> None:
        """End all streams."""
        self._loop = None
        if self._sample is not None:
            self._sample.cancel()
        await self.hub.close()

    def report(self) -> LiveReport:
        """How things stand. For other threads than that of the event loop, which makes it."""
        loop = self._loop
        if loop is not None:
            making = asyncio.run_coroutine_threadsafe(self._make_report(), loop)
            try:
                self._last = making.result(_REPORT_SECONDS)
            except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
                making.cancel()
        return self._last

    async def _make_report(self) -> LiveReport:
        self._note()
        reconnects = {name: source.reconnects for name, source in self.hub.sources().items()}
        return LiveReport(
            clients=self.clients,
            subscriptions=self.hub.subscriptions,
            sent=self.sent,
            dropped=dict(self.dropped),
            reconnects=reconnects,
            reconnects_24h=self._reconnects.value,
            dropped_24h=self._dropped.value,
            topics=tuple(self._topics()),
        )

    def _topics(self) -> list[TopicReport]:
        return [
            TopicReport(
                provider,
                symbol_of(one.topic.instrument),
                _STREAM_OF[one.topic.feed],
                one.state.value,
                one.last_message,
                one.lag_ms,
                source.resyncs(one.topic),
            )
            for provider, source in self.hub.sources().items()
            for one in source.health()
        ]

    def _take_sample(self) -> None:
        self._note()
        self._sample = asyncio.get_running_loop().call_later(_SAMPLE_SECONDS, self._take_sample)

    def _note(self) -> None:
        now = time.monotonic()
        self._reconnects.note(sum(one.reconnects for one in self.hub.sources().values()), now)
        missed = sum(count for reason, count in self.dropped.items() if reason != "conflated")
        self._dropped.note(missed, now)


class _OfADay:
    """How much a total has grown in the last day, or since the beginning where that is later."""

    def __init__(self) -> None:
        self._totals: deque[tuple[float, int]] = deque([(float("-inf"), 0)])

    @property
    def value(self) -> int:
        return self._totals[-1][1] - self._totals[0][1]

    def note(self, total: int, now: float) -> None:
        """The total at these monotonic seconds."""
        if now - self._totals[-1][0] >= _SAMPLE_SECONDS:
            self._totals.append((now, total))
        else:
            self._totals[-1] = self._totals[-1][0], total
        while len(self._totals) > 1 and self._totals[1][0] < now - _DAY_SECONDS:
            self._totals.popleft()
