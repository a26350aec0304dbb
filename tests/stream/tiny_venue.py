"""A venue that only tests have: its frames, and a server whose moods tests choose."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web

from zvt_crypto.core.config import Settings
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.schemas import TRADES
from zvt_crypto.exchanges.streaming import (
    BookUpdate,
    Confirmed,
    Limits,
    Missed,
    Reader,
    Refused,
    Streams,
    Topic,
    Trades,
)
from zvt_crypto.exchanges.wire import Wire

URL = "wss://stream.binance.com/ws"


class _Frame(msgspec.Struct):
    """One kind of each field: rows of a topic, a book, topics that are confirmed, one that is refused."""

    name: str | None = None
    rows: list[int] | None = None
    ok: list[str] | None = None
    no: str | None = None
    book: str | None = None
    missed: bool = False


class TinyStreams(Streams):
    feeds = {"cryptopair": frozenset({"trades", "order_book"})}
    limits = Limits(topics_per_frame=3, frames_per_second=500.0)

    def endpoint(self, topic: Topic) -> str:
        return URL

    def subscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        return [{"do": "sub", "names": [name_of(topic) for topic in topics], "number": number}]

    def unsubscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        return [{"do": "unsub", "names": [name_of(topic) for topic in topics], "number": number}]

    def reader(self) -> Reader:
        return _Reader()

    def trades(self, instrument: Instrument, rows: Sequence[Any]) -> Any:
        return TRADES.empty_table()


class _Reader(Reader):
    def key(self, topic: Topic) -> str:
        return name_of(topic)

    def read(self, frame: str) -> Sequence[Any] | None:
        if frame == "pong":
            return None
        said = msgspec.json.decode(frame, type=_Frame)
        if said.missed:
            return (Missed("a hole"),)
        if said.no is not None:
            return (Refused(self.topics.get(said.no), f"no {said.no}"),)
        if said.ok is not None:
            return (Confirmed([self.topics[name] for name in said.ok if name in self.topics]),)
        topic = self.topics.get(said.name or said.book or "")
        if topic is None:
            return ()
        if said.book is not None:
            return (BookUpdate(topic, True, [], []),)
        return (Trades(topic, said.rows or []),)


def name_of(topic: Topic) -> str:
    return topic.instrument.code if topic.feed == "trades" else f"{topic.instrument.code}-book"


def topic(code: str, feed: Any = "trades") -> Topic:
    return Topic(feed, Instrument("cryptopair", code, code.upper(), code))


class TinyServer:
    """Confirms all but ``unknown``, which it refuses by name, or not by name, or leaves out of its answer.

    Attributes:
        asked: What it was asked for, in order: ``(connection, do, names)``.
        is_deaf: It answers nothing.
        refused_handshakes: So many are turned down.
    """

    def __init__(self, unknown: Sequence[str] = (), refuses: str = "by name") -> None:
        self.unknown, self.refuses = set(unknown), refuses
        self.asked: list[tuple[int, str, list[str]]] = []
        self.asked_at: list[float] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.attempts: list[float] = []
        self.is_deaf = False
        self.refused_handshakes = 0
        self.url = ""

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.attempts.append(time.monotonic())
        if len(self.attempts) <= self.refused_handshakes:
            return web.Response(status=503)
        peer = web.WebSocketResponse()
        await peer.prepare(request)
        self.sockets.append(peer)
        number = len(self.sockets)
        async for message in peer:
            frame = json.loads(message.data)
            self.asked.append((number, frame["do"], frame["names"]))
            self.asked_at.append(time.monotonic())
            if frame["do"] == "sub" and not self.is_deaf:
                await self._answer(peer, frame["names"])
        return peer

    async def _answer(self, peer: web.WebSocketResponse, names: list[str]) -> None:
        bad = [name for name in names if name in self.unknown]
        if self.refuses == "by name":
            for name in bad:
                await peer.send_json({"no": name})
        elif self.refuses == "as a whole" and bad:
            await peer.send_json({"no": ""})
            return
        good = [name for name in names if name not in bad]
        if good:
            await peer.send_json({"ok": good})

    async def say(self, **frame: Any) -> None:
        """Send a frame on the newest connection."""
        await self.sockets[-1].send_json(frame)

    async def say_text(self, text: str) -> None:
        await self.sockets[-1].send_str(text)

    def cut(self) -> None:
        """End the newest connection without a word."""
        self.sockets[-1]._req.transport.abort()

    @property
    def open(self) -> list[web.WebSocketResponse]:
        return [peer for peer in self.sockets if not peer.closed]

    def names(self, do: str = "sub", connection: int | None = None) -> list[list[str]]:
        return [names for one, kind, names in self.asked if kind == do and connection in (None, one)]

    def wire(self) -> Wire:
        return Wire("binance", Settings(gateway=self.url))

    async def __aenter__(self) -> TinyServer:
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for peer in self.open:
            with contextlib.suppress(ConnectionError):
                await peer.close()
        await self._runner.cleanup()
