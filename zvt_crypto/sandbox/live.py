"""The connections to venues' streams: the handshake, a clock that ticks for all of them, and the sending.

At every tick each connection is told what the market has that is new. A client that reads more slowly than it
is told makes the clock wait; one that does not read at all is disconnected.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from aiohttp import WSMsgType, web

from zvt_crypto.sandbox.faults import FaultPlan
from zvt_crypto.sandbox.feeder import Feeder, Feeding, Told
from zvt_crypto.sandbox.market import Market
from zvt_crypto.sandbox.news import News
from zvt_crypto.sandbox.stream_captures import ReplayFeeder, StreamCaptures
from zvt_crypto.sandbox.stream_faults import ABNORMAL, Spoiler
from zvt_crypto.sandbox.streams import Close, Session, StreamVenue, discover
from zvt_crypto.sandbox.venue import Answer, Venue

#: Bytes that may wait for a client to read them.
_MOST_WAITING: Final = 1 << 24
_PATIENCE_SECONDS: Final = 30.0
_LOOK_AGAIN_SECONDS: Final = 0.005
#: First bytes of frames that are whole: opcode and FIN.
_TEXT: Final = 0x81
_CLOSE: Final = 0x88


class ConnectionState(NamedTuple):
    """A connection to a venue's streams.

    Attributes:
        number: Connections are numbered from 1 on.
        host: The venue's own host name.
        path: Path on it.
        subscriptions: The venue's own names of what is subscribed to.
        sent: Messages sent.
        received: Messages received.
    """

    number: int
    host: str
    path: str
    subscriptions: tuple[str, ...]
    sent: int
    received: int


class Connection:
    """One client of a venue's streams.

    Args:
        venue: Answers the client.
        session: What the venue remembers of it.
        feeder: What it is told.
        faults: What goes wrong.
    """

    def __init__(self, venue: StreamVenue, session: Session, feeder: Feeding, faults: FaultPlan) -> None:
        self.session = session
        self.sent = 0
        self.received = 0
        self._venue = venue
        self._feeder = feeder
        self._spoiler = Spoiler(faults, session.host + session.path)
        self._socket = web.WebSocketResponse(autoping=False, compress=False)
        self._transport: asyncio.Transport | None = None
        self._heartbeat_at = time.monotonic() + (venue.heartbeat_seconds or 0)

    @property
    def state(self) -> ConnectionState:
        """What it is by now."""
        session = self.session
        channels = tuple(wanted.channel for wanted in session.subscriptions.values())
        return ConnectionState(session.number, session.host, session.path, channels, self.sent, self.received)

    @property
    def books(self) -> set[tuple[str, int | None]]:
        """The order books that it is told of."""
        return self._feeder.books

    async def accept(self, request: web.BaseRequest) -> None:
        """Complete the handshake and send what comes first."""
        await self._socket.prepare(request)
        transport = request.transport
        self._transport = transport if isinstance(transport, asyncio.Transport) else None
        await self._send([Told(None, self._venue.opened(self.session))])
        await self._send(self._feeder.begin())

    async def listen(self, on_change: Callable[[], None]) -> web.WebSocketResponse:
        """Answer the client's frames until the connection ends."""
        async for message in self._socket:
            if message.type is WSMsgType.PING:
                with contextlib.suppress(ConnectionError):  # it may have ended meanwhile
                    if self._spoiler.answers_pings:
                        await self._socket.pong(message.data)
            elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                self.received += 1
                text = (
                    message.data if isinstance(message.data, str) else message.data.decode("utf-8", "replace")
                )
                await self._send([Told(None, self._venue.received(self.session, text))])
                await self._send(self._feeder.begin())
                on_change()
        return self._socket

    async def tick(self) -> None:
        """Send what is new, and the heartbeat if it is time."""
        await self._send(self._feeder.tick())
        every, now = self._venue.heartbeat_seconds, time.monotonic()
        if every is not None and now >= self._heartbeat_at:
            self._heartbeat_at = now + every
            await self._send([Told(None, self._venue.heartbeat(self.session))])

    def drop(self) -> None:
        """End it without a close frame."""
        if self._transport is not None:
            self._transport.abort()

    async def _send(self, told: Iterable[Told]) -> None:
        messages, end = self._spoiler.sent(told)
        if messages and self._transport is not None and not self._transport.is_closing():
            self.sent += len(messages)
            self._transport.write(b"".join([_frame(_TEXT, message) for message in messages]))
            await self._drained(self._transport)
        if end is not None:
            self._end(end)

    def _end(self, end: Close) -> None:
        if end.code == ABNORMAL or self._transport is None:
            self.drop()
            return
        # Not the socket's own close, which waits for the client's answer while others wait for their tick.
        self._transport.write(_frame(_CLOSE, end.code.to_bytes(2, "big") + end.reason.encode()))
        self._transport.close()

    async def _drained(self, transport: asyncio.Transport) -> None:
        waiting_since = time.monotonic()
        while transport.get_write_buffer_size() > _MOST_WAITING:
            if time.monotonic() - waiting_since > _PATIENCE_SECONDS:
                self.drop()
                return
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)


class Live:
    """All connections, and the clock.

    Args:
        market: What is streamed.
        venues: The venues over REST by host name.
        faults: What goes wrong.
        tick_ms: Real time between two ticks.
        captures: Recorded streams, which are sent instead of the market's where there are any of a host.
    """

    def __init__(
        self,
        market: Market,
        venues: Mapping[str, Venue],
        faults: FaultPlan,
        tick_ms: int = 50,
        captures: StreamCaptures | None = None,
    ) -> None:
        self.streams = discover(market, venues)
        self.connections: list[Connection] = []
        self._news = News(market)
        self._faults = faults
        self._captures = captures
        self._tick_seconds = tick_ms / 1000
        self._accepted = 0

    async def serve(
        self, request: web.BaseRequest, host: str, path: str, query: Mapping[str, str]
    ) -> web.WebSocketResponse | Answer:
        """Serve one connection to ``wss://{host}{path}?{query}`` until it ends; an answer turns it down."""
        venue = self.streams.get(host)
        if venue is None:
            known = sorted(self.streams)
            return Answer.json({"error": f"no streams at {host!r}", "known": known}, 404)
        refused = self._faults.strike(("ws_refuse",), host + path, frozenset(), one=True)
        if refused:
            return Answer(b"", int(refused[0].number("status")))
        if not self.connections:
            self._news.begin()
        replay = None if self._captures is None else self._captures.replays.get(host)
        now = self._news.now if replay is None else replay.eve
        session = Session(self._accepted + 1, host, path, query, now)
        refusal = venue.refuse(session)
        if refusal is not None:
            return refusal
        self._accepted += 1
        feeder: Feeding = (
            Feeder(venue, session, self._news) if replay is None else ReplayFeeder(replay, session)
        )
        return await self._serve(request, Connection(venue, session, feeder, self._faults))

    async def run(self) -> None:
        """Tick for ever."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + self._tick_seconds, loop.time())
            await asyncio.sleep(due - loop.time())
            if self.connections:
                self._news.tick()
            for connection in list(self.connections):
                await connection.tick()

    def drop(self) -> None:
        """End all connections without a word."""
        for connection in self.connections:
            connection.drop()

    def summary(self) -> dict[str, Any]:
        """Hosts and connections, for people and tests."""
        streams: dict[str, list[str]] = {}
        for host, venue in self.streams.items():
            streams.setdefault(venue.name, []).append(host)
        connections = [state._asdict() for state in self.states()]
        return {"streams": streams, "accepted": self._accepted, "connections": connections}

    def states(self) -> list[ConnectionState]:
        """The connections that there are."""
        return [connection.state for connection in self.connections.copy()]

    async def _serve(self, request: web.BaseRequest, connection: Connection) -> web.WebSocketResponse:
        self.connections.append(connection)
        try:
            await connection.accept(request)
            return await connection.listen(self._watch)
        finally:
            self.connections.remove(connection)
            self._watch()
            if not self.connections:
                self._news.end()

    def _watch(self) -> None:
        self._news.forget_books(set().union(*(connection.books for connection in self.connections)))


def _frame(kind: int, payload: bytes) -> bytes:
    """A whole frame as a server sends it (RFC 6455, section 5.2)."""
    length = len(payload)
    if length < 126:
        return bytes((kind, length)) + payload
    if length < 1 << 16:
        return bytes((kind, 126)) + length.to_bytes(2, "big") + payload
    return bytes((kind, 127)) + length.to_bytes(8, "big") + payload
