"""The sandbox as a server of HTTP and WebSocket: in a thread, in the foreground, or as a process of its own.

A venue's ``https://{host}{path}`` is found at ``http://{address}/{host}{path}``, which is where the setting
``ZVT_CRYPTO_GATEWAY`` sends a client; its streams, ``wss://{host}{path}``, at ``ws://{address}/{host}{path}``.
``GET /`` tells what there is and who is connected. ``POST /_faults`` with
``{"faults": ["status:429,times=3"]}`` replaces the faults in force, ``DELETE /_faults`` ends them, and
``DELETE /_connections`` cuts all streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

import orjson
from aiohttp import web

from zvt_crypto.core.errors import InvalidArgument, ZvtCryptoError
from zvt_crypto.sandbox.captures import Captures
from zvt_crypto.sandbox.exchange import Exchange, Outcome
from zvt_crypto.sandbox.faults import Fault, FaultPlan
from zvt_crypto.sandbox.live import ConnectionState, Live
from zvt_crypto.sandbox.market import Market
from zvt_crypto.sandbox.simulated import SimulatedMarket
from zvt_crypto.sandbox.stream_captures import StreamCaptures
from zvt_crypto.sandbox.venue import Answer

_REQUESTS_KEPT: Final = 200_000
_START_SECONDS: Final = 30.0


class Request(NamedTuple):
    """A request that the sandbox received; ``time`` is epoch seconds."""

    time: float
    host: str
    path: str
    query: Mapping[str, str]


class Sandbox:
    """A local exchange that answers over HTTP; as a context manager it runs in a thread of its own.

    Args:
        market: What is traded; None simulates from ``seed``.
        faults: Faults in force from the start, or their texts.
        port: Port to listen at; 0 takes a free one.
        host: Address to listen at.
        captures: Files of recorded answers, which take precedence over generated ones.
        seed: Seed of the simulated market and of what faults draw.
        tick_ms: Real time between two looks of the streams at the market.
        book_step_ms: How long an order book stays as it is; None leaves it to the market.
        stream_captures: Files of recorded streams and of the answers that belong to them: the market.
        speed: How many times as fast as it was recorded a stream is sent; None sends it all at once.

    Raises:
        InvalidArgument: An argument is wrong, or a file cannot be read.
    """

    def __init__(
        self,
        market: Market | None = None,
        faults: Iterable[Fault | str] = (),
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        captures: Iterable[str | Path] = (),
        seed: int = 0,
        tick_ms: int = 50,
        book_step_ms: int | None = None,
        stream_captures: Iterable[str | Path] = (),
        speed: float | None = 1.0,
    ) -> None:
        if tick_ms < 1 or (book_step_ms is not None and book_step_ms < 1):
            raise InvalidArgument("tick_ms and book_step_ms must be at least 1")
        paths = tuple(stream_captures)
        streams = StreamCaptures(paths, speed) if paths else None
        if streams is not None:
            if market is not None:
                raise InvalidArgument("a sandbox has recorded streams or a market, not both")
            market = streams.market
        self.market = SimulatedMarket(seed) if market is None else market
        if book_step_ms is not None:
            self.market.book_step_ms = book_step_ms
        self.host = host
        self.port = port
        self._plan = FaultPlan(faults, seed)
        self._exchange = Exchange(self.market, self._plan, Captures(captures), seed, streams)
        self._live = Live(self.market, self._exchange.venues, self._plan, tick_ms, streams)
        self._requests: deque[Request] = deque(maxlen=_REQUESTS_KEPT)
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """Base URL, such as ``http://127.0.0.1:8000``; right once the sandbox runs."""
        return f"http://{self.host}:{self.port}"

    @property
    def requests(self) -> list[Request]:
        """The requests to venues so far, the oldest first (the last 200,000 are kept)."""
        return list(self._requests.copy())

    @property
    def connections(self) -> list[ConnectionState]:
        """The connections to streams that there are now."""
        return self._live.states()

    def drop_connections(self) -> None:
        """Cut all connections to streams, as if the line were dead."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._live.drop)

    def forget_requests(self) -> None:
        """Start ``requests`` anew."""
        self._requests.clear()

    @property
    def faults(self) -> FaultPlan:
        """The faults in force; may be changed while the sandbox runs, also by assigning a list."""
        return self._plan

    @faults.setter
    def faults(self, faults: Iterable[Fault | str]) -> None:
        self._plan.set(faults)
        self._exchange.pages.forget_repeats()

    def start(self) -> Sandbox:
        """Run in a thread; returns when requests are answered.

        Raises:
            InvalidArgument: The address cannot be listened at.
        """
        self._thread = threading.Thread(target=self._run_in_thread, name="zvt-crypto-sandbox", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            raise InvalidArgument(f"the sandbox did not start within {_START_SECONDS:.0f} seconds")
        if self._failure is not None:
            raise cannot_listen(self.host, self.port, self._failure) from self._failure
        return self

    def stop(self) -> None:
        """End the server and its thread; requests under way are dropped."""
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def serve(self, on_ready: Callable[[str], None], *, signals: bool = False) -> None:
        """Answer requests until ``stop`` or, if wanted, SIGINT or SIGTERM.

        Args:
            on_ready: Called with the base URL once requests are answered.
            signals: Whether to end on SIGINT and SIGTERM; only in the main thread.
        """
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = web.Server(self._handle, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self.host, self.port)
            await site.start()
            self.port = runner.addresses[0][1]
            if signals:
                self._stop_on_signals()
            on_ready(self.url)
            await self._tick_until_stopped(self._stop)
        finally:
            self._live.drop()
            await runner.cleanup()

    async def _tick_until_stopped(self, stop: asyncio.Event) -> None:
        ticks, stopped = asyncio.ensure_future(self._live.run()), asyncio.ensure_future(stop.wait())
        done, running = await asyncio.wait((ticks, stopped), return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            task.cancel()
        for task in done:
            task.result()  # an error in a tick ends the sandbox

    def _run_in_thread(self) -> None:
        try:
            asyncio.run(self.serve(lambda url: self._ready.set()))
        except OSError as error:
            self._failure = error
        finally:
            self._ready.set()

    def _stop_on_signals(self) -> None:
        if self._loop is None or self._stop is None:
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt ends the loop
                self._loop.add_signal_handler(number, self._stop.set)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        host, _, path = request.path[1:].partition("/")
        if host == "":
            return _response(Answer.json({**self._exchange.summary(), **self._live.summary()}))
        if host == "_faults":
            return _response(await self._change_faults(request))
        if host == "_connections":
            return _response(self._change_connections(request))
        query = dict(request.query)
        self._requests.append(Request(time.time(), host, f"/{path}", query))
        if request.headers.get("Upgrade", "").lower() == "websocket":
            served = await self._live.serve(request, host, f"/{path}", query)
            return _response(served) if isinstance(served, Answer) else served
        outcome = self._exchange.answer(host, f"/{path}", query)
        if outcome.pause:
            await asyncio.sleep(outcome.pause)
        if outcome.fault is not None:
            return await _spoiled(request, outcome)
        return _response(outcome.answer)

    async def _change_faults(self, request: web.BaseRequest) -> Answer:
        try:
            if request.method == "POST":
                self.faults = _fault_texts(await request.read())
            elif request.method == "DELETE":
                self.faults = ()
        except ZvtCryptoError as error:
            return Answer.json(error.as_dict(), error.http_status)
        return Answer.json({"faults": self._exchange.summary()["faults"]})

    def _change_connections(self, request: web.BaseRequest) -> Answer:
        if request.method == "DELETE":
            self._live.drop()
        return Answer.json({"connections": [state._asdict() for state in self._live.states()]})


async def _spoiled(request: web.BaseRequest, outcome: Outcome) -> web.StreamResponse:
    """Send an answer with a fault on the way: ``timeout``, ``disconnect`` or ``cut``."""
    fault, body = outcome.fault, outcome.answer.body
    half = body[: max(1, len(body) // 2)]
    if fault is not None and fault.kind == "cut" and fault.word("mode") == "length":
        return _response(Answer(half, outcome.answer.status, outcome.answer.headers))
    if fault is not None and fault.kind == "cut":
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(half)
        if request.transport is not None:
            request.transport.close()
        return response
    if fault is not None and fault.kind == "timeout":
        while request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(0.02)
    if request.transport is not None:
        request.transport.abort()
    return _response(outcome.answer)


def _response(answer: Answer) -> web.Response:
    return web.Response(
        body=answer.body, status=answer.status, headers=answer.headers, content_type=answer.content_type
    )


def _fault_texts(body: bytes) -> list[str]:
    try:
        wanted = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidArgument(f"the body is not JSON: {error}") from error
    texts = wanted.get("faults") if isinstance(wanted, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidArgument('the body has no list "faults"', suggestions=('send {"faults": []}',))
    return texts


def cannot_listen(host: str, port: int, error: OSError) -> InvalidArgument:
    """The error of an address that is taken or not ours."""
    return InvalidArgument(
        f"cannot listen at {host}:{port}: {error.strerror or error}",
        suggestions=("choose another port; 0 takes a free one",),
    )
