"""The Flask application as an ASGI application, with what it cannot do itself.

A request takes a thread only when all of it is there, an answer is sent in pieces that a slow client can
take in time, and a stream stops when nobody is left to read it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Final

from a2wsgi import WSGIMiddleware
from flask import Flask
from starlette.middleware.cors import CORSMiddleware

from zvt_crypto.core.config import Settings
from zvt_crypto.server.limits import MOST_BODY_BYTES
from zvt_crypto.server.refusals import BODY_TOO_LARGE, BUSY, Refusal

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

_GONE: Final = "zvt_crypto.gone"
#: Bytes that the server hands to a connection at once.
_PIECE_BYTES: Final = 1 << 18
#: Bytes of a body too large that are read all the same, so that the client gets to read why it is refused.
_MOST_DISCARDED_BYTES: Final = 1 << 25


def asgi_application(app: Flask, settings: Settings) -> Asgi:
    """The whole of what is served."""
    served: Asgi = Gateway(app, settings)
    if settings.cors_origins:
        served = CORSMiddleware(
            served,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST", "PUT"),
            allow_headers=("Authorization", "If-None-Match"),
            expose_headers=(
                "ETag",
                "Retry-After",
                "X-RateLimit-Limit",
                "X-RateLimit-Remaining",
                "X-RateLimit-Reset",
                "X-Trace-Id",
            ),
        )
    return served


class Gateway:
    """An ASGI application that runs a Flask application in threads.

    Args:
        app: The application.
        settings: How many threads, streams and requests there may be.
    """

    def __init__(self, app: Flask, settings: Settings) -> None:
        # Streams keep their threads for long; there is one for each of them besides those of short answers.
        workers = settings.server_threads + settings.server_streams
        threads: Any = WSGIMiddleware
        self._threads: Asgi = threads(_UntilGone(app), workers=workers, send_queue_size=1)
        self._most = settings.server_requests
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._threads(scope, receive, send)
            return
        if self._under_way >= self._most:
            await _refuse(send, BUSY)
            return
        self._under_way += 1
        try:
            await self._answer(scope, receive, send)
        finally:
            self._under_way -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _whole_body(receive)
        if body is None:
            return
        if len(body) > MOST_BODY_BYTES:
            await _refuse(send, BODY_TOO_LARGE)
            return

        async def received() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        gone = threading.Event()
        watch = asyncio.create_task(_note_end(receive, gone))
        try:
            await self._threads({**scope, _GONE: gone}, received, _in_pieces(send))
        finally:
            gone.set()
            watch.cancel()


class _UntilGone:
    """A WSGI application that does not go on for a client that has left."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        gone: threading.Event = environ["asgi.scope"][_GONE]
        if gone.is_set():
            return ()
        return _Parts(self._app(environ, start_response), gone)


class _Parts:
    """The parts of an answer, up to the moment at which the client has left."""

    def __init__(self, parts: Any, gone: threading.Event) -> None:
        self._parts = parts
        self._gone = gone

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            if self._gone.is_set():
                return
            yield part

    def close(self) -> None:
        """Free what the answer holds: snapshots, and its slot among the streams."""
        self._parts.close()


async def _whole_body(receive: Receive) -> bytes | None:
    """The body of a request, or more than the allowed bytes of it; None where the client has left."""
    body = bytearray()
    discarded = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        if len(body) <= MOST_BODY_BYTES:
            body += part
        else:
            discarded += len(part)
        if not message.get("more_body") or discarded > _MOST_DISCARDED_BYTES:
            return bytes(body)


async def _note_end(receive: Receive, gone: threading.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


def _in_pieces(send: Send) -> Send:
    """Sends bodies piece by piece, each when the client has read the one before."""

    async def sent(message: Message) -> None:
        body = message.get("body", b"")
        if len(body) <= _PIECE_BYTES:
            await send(message)
            return
        rest = memoryview(body)
        while len(rest) > _PIECE_BYTES:
            await send({"type": message["type"], "body": rest[:_PIECE_BYTES], "more_body": True})
            rest = rest[_PIECE_BYTES:]
        await send({**message, "body": rest})

    return sent


async def _refuse(send: Send, refusal: Refusal) -> None:
    headers, body = refusal.headers_and_body()
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
