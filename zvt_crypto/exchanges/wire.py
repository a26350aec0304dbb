"""WebSocket connections of an exchange, kept by ccxt.pro: frames go to us as text, before ccxt decodes them.

ccxt connects, sends each exchange's own pings, answers its heartbeats and notices missing pongs. It does not
connect again by itself, and it does not know what was subscribed: that is the business of who uses this.
"""

from __future__ import annotations

import asyncio
import logging
import time
import urllib.request
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import StreamDisconnected
from zvt_crypto.exchanges.client import import_streaming
from zvt_crypto.exchanges.transport import redirected

logger = logging.getLogger(__name__)

#: Called with each frame; says whether it was ours.
OnFrame = Callable[[str], bool]

#: Name of the future by which ccxt tells the end of a connection.
_END: Final = "end"
#: Messages after which others get their turn in the event loop.
_TURN: Final = 256
#: Seconds between two pings of ours, at most; ccxt gives a connection up when two in a row have no answer.
PING_SECONDS: Final = 20.0
#: Seconds that an exchange has to answer our closing frame.
_CLOSE_SECONDS: Final = 1.0
#: Closing code of a connection that ended without one (RFC 6455, section 7.4.1).
_ABNORMAL: Final = 1006
_CLOSED: Final = "closed by us"
#: What ccxt's handlers raise at frames that they do not expect.
_NOT_UNDERSTOOD: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class Line:
    """One connection. Made by ``Wire.connect``.

    Attributes:
        url: Where it leads.
        ended: Done when the connection is lost; its result is the error that says why.
    """

    def __init__(self, url: str, client: Any, failure: type[Exception]) -> None:
        self.url = url
        self.ended: asyncio.Future[StreamDisconnected] = asyncio.get_running_loop().create_future()
        self._client = client
        self._failure = failure
        self._end = client.future(_END)
        self._end.add_done_callback(self._note_end)

    async def connect(self, session: Any) -> None:
        """Wait for the handshake.

        Raises:
            StreamDisconnected: It failed.
        """
        connected = self._client.connect(session)
        await asyncio.wait({connected, self.ended}, return_when=asyncio.FIRST_COMPLETED)
        if self.ended.done():
            raise self.ended.result()

    async def send(self, frame: Any) -> None:
        """Send a text, or anything else as JSON.

        Raises:
            StreamDisconnected: The connection is lost.
        """
        try:
            await self._client.send(frame)
        except (OSError, self._failure) as error:
            raise self._lost(error) from error

    @property
    def heard(self) -> float:
        """Monotonic seconds of its last sign of life, which the answer to a ping is too."""
        seconds: float = self._client.heard
        return seconds

    async def close(self, reason: str = _CLOSED) -> None:
        """Close it; ``ended`` is done then, and says why."""
        self._settle(StreamDisconnected(reason))
        if self._client.connecting:
            # The handshake cannot be called off; what comes of it is closed at once.
            self._client.connected.add_done_callback(lambda _: asyncio.ensure_future(self._client.close()))
        closing = asyncio.ensure_future(self._client.close())
        # ``asyncio.wait_for`` may forget, before Python 3.12, that it was cancelled.
        done, _ = await asyncio.wait({closing}, timeout=_CLOSE_SECONDS)
        if done:
            closing.result()
        else:
            closing.cancel()

    def _note_end(self, end: asyncio.Future[Any]) -> None:
        error = None if end.cancelled() else end.exception()
        self._settle(self._lost(error) if error is not None else StreamDisconnected(_CLOSED))

    def _settle(self, error: StreamDisconnected) -> None:
        if not self.ended.done():
            self.ended.set_result(error)

    def _lost(self, error: BaseException) -> StreamDisconnected:
        return StreamDisconnected(f"{_host(self.url)}: {str(error) or type(error).__name__}")


class Wire:
    """Makes connections with one of ccxt.pro's classes. An asynchronous context manager.

    Args:
        ccxt_id: Name of the class.
        settings: Gateway.
        ping_seconds: Seconds between two pings of ours, at most.
    """

    def __init__(self, ccxt_id: str, settings: Settings, *, ping_seconds: float = PING_SECONDS) -> None:
        kind, self._client_kind, self._failure = _classes(ccxt_id)
        self._gateway = settings.gateway
        self._ping_ms = ping_seconds * 1000
        trusts_environment = settings.gateway is None and bool(urllib.request.getproxies())
        self._exchange: Any = kind({"enableRateLimit": False, "aiohttp_trust_env": trusts_environment})
        if settings.gateway is not None and settings.gateway.startswith("http://"):
            self._exchange.timeout_on_exit = 0

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exchange.close()

    async def connect(self, url: str, on_frame: OnFrame) -> Line:
        """A new connection.

        Args:
            url: The exchange's own, ``wss://...``.
            on_frame: Is given every text and binary frame, in order. What it does not take for its own goes
                to ccxt. An error that it raises ends the connection.

        Raises:
            StreamDisconnected: The exchange cannot be reached, or refuses.
        """
        exchange = self._exchange
        exchange.open()
        client = self._client_kind(
            redirected(url, self._gateway),
            exchange.handle_message,
            lambda client, error: None,
            lambda client, code: None,
            lambda client: None,
            self._options(),
        )
        client.on_frame = on_frame
        line = Line(url, client, self._failure)
        try:
            await line.connect(exchange.session)
        except BaseException:
            await line.close()
            raise
        return line

    def _options(self) -> Mapping[str, Any]:
        exchange = self._exchange
        usual: Mapping[str, Any] = exchange.streaming
        return {
            **usual,
            "ping": getattr(exchange, "ping", None),
            "keepAlive": min(usual.get("keepAlive", self._ping_ms), self._ping_ms),
            "asyncio_loop": exchange.asyncio_loop,
        }


@cache
def _classes(ccxt_id: str) -> tuple[Any, Any, type[Exception]]:
    """An exchange's class of ccxt.pro, the class of its connections, and ccxt's root error."""
    exchange_kind, client_kind, failure = import_streaming(ccxt_id)
    return exchange_kind, type("RawClient", (_RawClient, client_kind), {"failure": failure}), failure


class _RawClient:
    """What becomes of ccxt's connection: frames are handed out as they come, and its receiving loop holds.

    ccxt's own loop takes messages out of aiohttp's buffer behind its back: under load aiohttp then thinks for
    ever that the buffer is full, and reads no more. It also ends without a word at a handler's first error.
    """

    failure: type[Exception]
    on_frame: OnFrame
    url: str
    connection: Any
    closed: Callable[[], bool]
    handle_message: Callable[[Any], None]
    on_error: Callable[[Exception], None]
    on_close: Callable[[int], None]
    heard = 0.0
    receiving: asyncio.Task[None] | None = None

    def receive_loop(self) -> None:
        self.receiving = asyncio.create_task(self._receive())

    async def _receive(self) -> None:
        received = 0
        try:
            while not self.closed():
                message = await self.connection.receive()
                self.heard = time.monotonic()
                self.handle_message(message)
                received += 1
                if not received % _TURN:
                    # Where messages wait, receiving does not let go of the event loop.
                    await asyncio.sleep(0)
        except (OSError, RuntimeError) as error:
            self.on_error(self.failure(str(error)))
        except Exception as error:
            logger.exception("%s: a frame cannot be handled", _host(self.url))
            self.on_error(self.failure(f"{type(error).__name__}: {error}"))
        else:
            self.on_close(_ABNORMAL)

    def handle_text_or_binary_message(self, data: str | bytes) -> None:
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
        if self.on_frame(text):
            return
        try:
            super().handle_text_or_binary_message(text)  # type: ignore[misc]
        except (self.failure, *_NOT_UNDERSTOOD) as error:
            logger.debug("ccxt does not understand a frame of %s: %s", _host(self.url), error)


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]
