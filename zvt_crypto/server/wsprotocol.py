"""WebSocket connections: handshake, frames, and clients that do not read, over uvicorn's listener.

The protocol itself is that of the package websockets, without its I/O; see RFC 6455. What channels say is not
framed here: those bytes are made once for all clients, and written as they are.
"""

from __future__ import annotations

import asyncio
import logging
import os
from http import HTTPStatus
from typing import Any, Final, cast

from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from zvt_crypto.core.config import Settings
from zvt_crypto.server.limits import network_of
from zvt_crypto.server.liveservice import LiveService
from zvt_crypto.server.refusals import NO_SUCH_PATH, NOT_WEBSOCKET, ORIGIN_REFUSED, Refusal
from zvt_crypto.server.wssession import INTERNAL_ERROR, Session

logger = logging.getLogger(__name__)

PATH: Final = "/ws"
#: Bytes of a client's message: room for 200 symbols with their places to resume at.
MOST_MESSAGE_BYTES: Final = 1 << 16
#: Bytes that wait for a client at which it counts as not reading, and at which it reads again.
_HIGH_WATER: Final = 1 << 18
_LOW_WATER: Final = 1 << 16
_BEAT_SECONDS: Final = 1.0
_PING_SECONDS: Final = 20.0
_PONG_SECONDS: Final = 20.0
#: How long a client has to answer a close, and to read why it was refused.
_LINGER_SECONDS: Final = 3.0
_GOING_AWAY: Final = 1001
_INVALID_DATA: Final = 1007
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class WebSocketProtocol(asyncio.Protocol):
    """One connection; uvicorn makes it when a request asks for an upgrade, and hands it that request.

    Args:
        config: uvicorn's; not used.
        server_state: uvicorn's, which ends with its connections.
        app_state: uvicorn's; not used.
        service: The streams.
    """

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], *, service: LiveService
    ) -> None:
        self._connections: set[Any] = server_state.connections
        self._service = service
        self._settings = service.settings
        self._loop = asyncio.get_running_loop()
        self._protocol = ServerProtocol(max_size=MOST_MESSAGE_BYTES)
        self._transport: asyncio.Transport
        self._session: Session | None = None
        self._client = "unknown"
        self._fragments: list[bytes] = []
        self._opcode = Opcode.TEXT
        self._is_reading = True
        self._is_closing = False
        self._heard_at = self._pinged_at = self._loop.time()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is handed over."""
        # uvloop's are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, from either side."""
        self._connections.discard(self)
        for timer in self._timers.values():
            timer.cancel()
        self._end_session()

    def data_received(self, data: bytes) -> None:
        """The request, and then frames."""
        self._heard_at = self._loop.time()
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._open(event)
            elif not self._is_closing:
                self._frame(event)
        if self._session is None and not self._is_closing:
            self._refuse(NOT_WEBSOCKET)
        if self._protocol.parser_exc is not None and self._session is not None:
            self._broke_protocol(self._session, self._protocol.parser_exc)
        self._write_protocol()

    def eof_received(self) -> None:
        """The client sends no more: the connection ends."""
        self._is_closing = True
        self._end_session()

    def pause_writing(self) -> None:
        """The client reads more slowly than there is to write."""
        if self._session is not None:
            self._session.pause()
        self._after(self._settings.send_timeout_seconds, "stall", self._stalled)

    def resume_writing(self) -> None:
        """The client has read most of it."""
        self._cancel("stall")
        if self._session is not None:
            self._session.resume()

    def shutdown(self) -> None:
        """The server ends; called by uvicorn."""
        self.close(_GOING_AWAY, "the server ends")

    # Peer of the session

    def write(self, data: bytes) -> None:
        """Send frames that are made already."""
        if not self._is_closing and not self._transport.is_closing():
            self._transport.write(data)

    def close(self, code: int, reason: str) -> None:
        """Say why, and end the connection, also if the client does not answer."""
        if self._is_closing:
            return
        self._is_closing = True
        logger.info('%s - "WebSocket %s" closed by us: %d %s', self._client, PATH, code, reason)
        if self._protocol.state is OPEN:
            self._protocol.send_close(code, reason)
        self._end_session()
        self._write_protocol()
        self._set_reading(True)
        self._after(_LINGER_SECONDS, "linger", self._transport.abort)

    def read_on(self, wanted: bool) -> None:
        """Whether the client's bytes are read."""
        if not self._is_closing:
            self._set_reading(wanted)

    # Handshake

    def _open(self, request: Request) -> None:
        self._client = self._address(request)
        refusal = self._objection(request)
        if refusal is not None:
            self._refuse(refusal)
            return
        response = self._protocol.accept(request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self._refuse(_not_a_handshake(self._protocol.handshake_exc))
            return
        network = network_of(self._client)
        refusal = self._service.admission.enter(network)
        if refusal is not None:
            self._refuse(refusal)
            return
        logger.info('%s - "WebSocket %s" accepted', self._client, PATH)
        self._protocol.send_response(response)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER, low=_LOW_WATER)
        self._service.clients += 1
        self._session = Session(self._service, self, self._client)
        self._network = network
        self._after(_BEAT_SECONDS, "beat", self._beat)

    def _objection(self, request: Request) -> Refusal | None:
        if request.path.partition("?")[0] != PATH:
            return NO_SUCH_PATH
        origins = request.headers.get_all("Origin")
        hosts = request.headers.get_all("Host")
        if not all(_is_allowed(origin, hosts, self._settings) for origin in origins):
            return ORIGIN_REFUSED
        return None

    def _address(self, request: Request) -> str:
        """The client's, as the trusted proxies in front tell it."""
        peer = self._transport.get_extra_info("peername")
        hops = self._settings.trusted_proxies
        forwarded = ",".join(request.headers.get_all("X-Forwarded-For")).split(",")
        if hops and len(forwarded) >= hops and forwarded[-hops].strip():
            return forwarded[-hops].strip()
        return str(peer[0]) if isinstance(peer, tuple) else "unknown"

    def _refuse(self, refusal: Refusal) -> None:
        logger.info('%s - "WebSocket" refused: %d %s', self._client, refusal.status, refusal.message)
        self._is_closing = True
        found, body = refusal.headers_and_body()
        headers = Headers([(name.decode(), value.decode()) for name, value in found])
        phrase = HTTPStatus(refusal.status).phrase
        self._transport.write(Response(refusal.status, phrase, headers, body).serialize())
        self._transport.close()

    # Frames

    def _frame(self, frame: Any) -> None:
        assert isinstance(frame, Frame)
        session = self._session
        if session is None:
            return
        if frame.opcode is Opcode.CLOSE:
            logger.info('%s - "WebSocket %s" closed by the client', self._client, PATH)
            self._is_closing = True
            self._end_session()
            self._after(_LINGER_SECONDS, "linger", self._transport.abort)
            return
        if not session.frame():
            self._fragments.clear()
            return
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._data(session, frame)

    def _data(self, session: Session, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self._opcode = frame.opcode
            self._fragments = []
        self._fragments.append(bytes(frame.data))
        if not frame.fin:
            return
        data, self._fragments = b"".join(self._fragments), []
        if self._opcode is Opcode.BINARY:
            session.offend(
                "CRYPTO_INVALID_REQUEST", "binary messages are not understood", "send JSON as text"
            )
        elif not _is_utf8(data):
            session.offend("CRYPTO_INVALID_REQUEST", "the message is not UTF-8", "send JSON in UTF-8")
            self.close(_INVALID_DATA, "not UTF-8")
        else:
            session.text(data)

    def _broke_protocol(self, session: Session, error: Exception) -> None:
        """Say in our form what is wrong; the close frame stands ready already."""
        if self._is_closing:
            return
        is_large = isinstance(error, PayloadTooBig)
        message = (
            f"the message is larger than {MOST_MESSAGE_BYTES // 1024} KiB"
            if is_large
            else f"the frame is not allowed: {error}"
        )
        session.last_word(
            "CRYPTO_REQUEST_TOO_LARGE" if is_large else "CRYPTO_INVALID_REQUEST",
            message,
            "send less at once" if is_large else "send frames as RFC 6455 has them",
        )
        self._is_closing = True
        self._end_session()
        self._after(_LINGER_SECONDS, "linger", self._transport.abort)

    def _write_protocol(self) -> None:
        """Write what the protocol has to say: pongs, closes, the handshake's answer."""
        for part in self._protocol.data_to_send():
            if self._transport.is_closing():
                return
            if part:
                self._transport.write(part)
            elif self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()

    # Time

    def _beat(self) -> None:
        self._after(_BEAT_SECONDS, "beat", self._beat)
        session = self._session
        if session is None or self._is_closing:
            return
        now = self._loop.time()
        if self._pinged_at > self._heard_at:
            if now - self._pinged_at > _PONG_SECONDS:
                self.close(INTERNAL_ERROR, f"no pong within {_PONG_SECONDS:.0f} s")
                return
        elif now - self._heard_at > _PING_SECONDS and "stall" not in self._timers:
            self._pinged_at = now
            self._protocol.send_ping(os.urandom(4))
            self._write_protocol()
        session.beat()

    def _stalled(self) -> None:
        logger.info('%s - "WebSocket %s" reads nothing: cut off', self._client, PATH)
        self._is_closing = True
        self._end_session()
        self._transport.abort()

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.end()
            self._service.clients -= 1
            self._service.admission.leave(self._network)

    def _set_reading(self, wanted: bool) -> None:
        if wanted == self._is_reading or self._transport.is_closing():
            return
        self._is_reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _after(self, seconds: float, name: str, call: Any) -> None:
        self._cancel(name)
        self._timers[name] = self._loop.call_later(seconds, call)

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()


def _is_allowed(origin: str, hosts: list[str], settings: Settings) -> bool:
    """Whether pages of an origin may connect: those of this server, and those of the settings."""
    if origin in settings.cors_origins:
        return True
    scheme, _, place = origin.casefold().partition("://")
    if scheme not in _DEFAULT_PORTS or len(hosts) != 1:
        return False
    # A proxy in front may speak TLS where this server does not: the scheme is not compared.
    host, port = hosts[0].casefold(), _DEFAULT_PORTS[scheme]
    return place == host or f"{place}:{port}" == host or place == f"{host}:{port}"


def _not_a_handshake(error: Exception | None) -> Refusal:
    if not isinstance(error, InvalidHandshake):
        return NOT_WEBSOCKET
    return NOT_WEBSOCKET._replace(message=f"{NOT_WEBSOCKET.message}: {error}")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
