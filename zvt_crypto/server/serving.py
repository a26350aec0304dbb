"""The server as a process: uvicorn in front of the application and its streams, until SIGINT or SIGTERM."""

from __future__ import annotations

import contextlib
import functools
import gc
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

import uvicorn

from zvt_crypto.api import catalogue
from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.server.app import create_app
from zvt_crypto.server.gateway import asgi_application
from zvt_crypto.server.liveservice import LiveService
from zvt_crypto.server.protocol import MOST_HEAD_BYTES, TimedProtocol
from zvt_crypto.server.wsprotocol import WebSocketProtocol

#: How long requests under way may go on after the signal to end.
_GRACE_SECONDS: Final = 10
_KEEP_ALIVE_SECONDS: Final = 30


def serve(
    settings: Settings, host: str, port: int, on_ready: Callable[[str], None], *, access_log: bool = False
) -> None:
    """Answer requests until SIGINT or SIGTERM; what is under way then is given ten seconds to end.

    Args:
        settings: Where the data is, and the limits.
        host: Address to listen at.
        port: Port to listen at; 0 takes a free one.
        on_ready: Called with the base URL once requests are answered.
        access_log: Whether each request is logged.

    Raises:
        InvalidArgument: The address cannot be listened at.
        ConfigError: A limit cannot be kept as configured.
    """
    with contextlib.closing(_listening(host, port)) as listener:
        server = server_of(
            settings, LiveService(settings), lambda: on_ready(_url(listener)), access_log=access_log
        )
        # What zvt has of its own takes seconds to find out.
        threading.Thread(target=_load_catalogue, name="zvt-catalogue", daemon=True).start()
        with _ended_by_signals(server):
            server.run(sockets=[listener])


def server_of(
    settings: Settings, live: LiveService, on_ready: Callable[[], None], *, access_log: bool = False
) -> uvicorn.Server:
    """The server, to be run with sockets that listen.

    Args:
        settings: Where the data is, and the limits.
        live: The streams behind ``/ws``; begun and ended with the server.
        on_ready: Called once requests are answered.
        access_log: Whether each request is logged.

    Raises:
        ConfigError: A limit cannot be kept as configured.
    """
    protocol: Any = functools.partial(
        TimedProtocol,
        receive_seconds=settings.receive_timeout_seconds,
        send_seconds=settings.send_timeout_seconds,
    )
    websocket: Any = functools.partial(WebSocketProtocol, service=live)
    config = uvicorn.Config(
        asgi_application(create_app(settings, live), settings),
        http=protocol,
        ws=websocket,
        lifespan="off",
        log_config=None,
        log_level="info" if access_log else "error",
        access_log=access_log,
        # uvicorn would believe any client of this machine; see ``limits.apply_limits``.
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
    )
    return _Server(config, live, on_ready)


def _load_catalogue() -> None:
    """Find out what zvt has of its own, and leave what is loaded then to itself.

    The garbage collector would look at all of it again and again, for a tenth of a second each time, in which
    nothing is streamed.
    """
    catalogue.load()
    gc.collect()
    gc.freeze()


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, live: LiveService, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._live = live
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and tell it."""
        for listener in sockets or ():
            # What is accepted inherits it; asyncio sets it only where the socket says IPPROTO_TCP. Without, a
            # message waits for the one before it to be acknowledged, 40 ms.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._live.start()
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is under way, then the streams."""
        await super().shutdown(sockets)
        await self._live.close()


@contextlib.contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """SIGINT and SIGTERM end the server, also before and after uvicorn's own handlers are there.

    uvicorn raises each signal again when it has ended; to end as asked is no failure.
    """

    def end(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise InvalidArgument(
            f"cannot listen at {host}:{port}: {error.strerror or error}",
            suggestions=("choose another --port; 0 takes a free one",),
            host=host,
            port=port,
        ) from error


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
