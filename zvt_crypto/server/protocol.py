"""Connections that do not wait for ever: for a request that never ends, or a client that never reads.

uvicorn limits neither. What it refuses by itself, it refuses in plain text; here it is in our form.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from zvt_crypto.server.refusals import HEADERS_TOO_LARGE, NOT_HTTP, TARGET_TOO_LONG, TOO_SLOW, Refusal

logger = logging.getLogger(__name__)

#: Bytes of a request's first line and headers: room for 20,000 characters each of codes and entity ids.
MOST_HEAD_BYTES: Final = 1 << 16
#: A refused client that is still sending would lose the answer if the connection were closed at once.
_LINGER_SECONDS: Final = 5.0


class TimedProtocol(H11Protocol):
    """One connection.

    Args:
        receive_seconds: How long a request may take to arrive.
        send_seconds: How long bytes of an answer may wait for the client to read them.
        **options: As uvicorn gives them.
    """

    def __init__(self, *, receive_seconds: float, send_seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._receive_seconds = receive_seconds
        self._send_seconds = send_seconds
        self._receiving: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None
        self._refused = False
        self._handed_over = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected; its request is expected."""
        super().connection_made(transport)
        # Any byte that waits is noticed, not only 64 KiB of them.
        transport.set_write_buffer_limits(high=0)
        self._receiving = self.loop.call_later(self._receive_seconds, self._receives_too_slowly)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, from either side."""
        self._forget_receiving()
        self._forget_sending()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        if self._refused:
            return
        super().data_received(data)
        self._watch_request()

    def on_response_complete(self) -> None:
        """An answer is out; bytes of the next request may be there already."""
        super().on_response_complete()
        self._watch_request()

    def pause_writing(self) -> None:
        """The client reads more slowly than the answer is made."""
        super().pause_writing()
        if self._sending is None:
            self._sending = self.loop.call_later(self._send_seconds, self._reads_too_slowly)

    def resume_writing(self) -> None:
        """The client has read all that there was."""
        self._forget_sending()
        super().resume_writing()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """The connection goes to another protocol, with the buffers that it expects."""
        self._forget_receiving()
        self._forget_sending()
        self.transport.set_write_buffer_limits()
        self._handed_over = True
        super().handle_websocket_upgrade(event)
        early = self.conn.trailing_data[0]
        if early:
            # A client should wait for the answer, but what it sent is no part of the request.
            self.transport.get_protocol().data_received(early)  # type: ignore[attr-defined]

    def send_400_response(self, msg: str) -> None:
        """Refuse what h11 does not take for a request; called where its error is being handled."""
        error = sys.exc_info()[1]
        refusal = NOT_HTTP
        if isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == HEADERS_TOO_LARGE.status:
            is_first_line = b"\n" not in self.conn.trailing_data[0]
            refusal = TARGET_TOO_LONG if is_first_line else HEADERS_TOO_LARGE
        self._refuse(refusal)

    def _watch_request(self) -> None:
        """Expect the rest of a request that is there in part; stop where there is none."""
        if self._refused or self._handed_over or self.transport.is_closing():
            return
        state = self.conn.their_state
        if state is h11.SEND_BODY or (state is h11.IDLE and self.conn.trailing_data[0]):
            if self._receiving is None:
                self._receiving = self.loop.call_later(self._receive_seconds, self._receives_too_slowly)
        else:
            self._forget_receiving()

    def _receives_too_slowly(self) -> None:
        self._receiving = None
        if self.transport.is_closing():
            return
        logger.info("%s did not finish its request in %g s", self.client, self._receive_seconds)
        if self.conn.our_state is h11.IDLE and not self.conn.trailing_data[0]:
            self.transport.abort()
        else:
            self._refuse(TOO_SLOW)

    def _reads_too_slowly(self) -> None:
        self._sending = None
        logger.info("%s read nothing of its answer for %g s", self.client, self._send_seconds)
        self.transport.abort()

    def _refuse(self, refusal: Refusal) -> None:
        self._refused = True
        self._forget_receiving()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            # An answer is on its way, which cannot be taken back.
            self.transport.abort()
            return
        headers, body = refusal.headers_and_body()
        for event in (
            h11.Response(status_code=refusal.status, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event))
        if self.cycle is not None:
            # The application has nobody to answer any more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.flow.resume_reading()
            self.loop.call_later(_LINGER_SECONDS, self.transport.abort)
        else:
            self.transport.close()

    def _forget_receiving(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None

    def _forget_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
