"""Fixtures: a sandbox on a socket, a plain HTTP client, ccxt clients behind the gateway, recorded answers."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import aiohttp
import ccxt.async_support as ccxt
import pytest

from zvt_crypto.sandbox import Sandbox, SimulatedMarket

REAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "real"


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class HandClock:
    """An exchange's clock that tests move."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def forward(self, ms: int) -> int:
        """Let time pass; the new time."""
        self.now += ms
        return self.now


class Peer:
    """A plain WebSocket client of the sandbox."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, frame: Any) -> None:
        await self.socket.send_str(frame if isinstance(frame, str) else json.dumps(frame))

    async def ask(self, frame: Any) -> Any:
        """Send a frame; the next message."""
        await self.send(frame)
        return await self.receive()

    async def text(self, seconds: float = 10) -> str:
        """The next message as it is.

        Raises:
            ConnectionError: There will be none: its text is the code of the end, if there is one.
            TimeoutError: None came in time.
        """
        while True:
            message = await self.socket.receive(timeout=seconds)
            if message.type is aiohttp.WSMsgType.TEXT:
                return str(message.data)
            if message.type is not aiohttp.WSMsgType.PONG:
                code = self.socket.close_code
                raise ConnectionError("no close code" if code is None else f"{code:d}")

    async def receive(self, seconds: float = 10) -> Any:
        """The next message, decoded; see ``text``."""
        return json.loads(await self.text(seconds))

    async def until(self, is_last: Callable[[Any], bool], seconds: float = 10) -> list[Any]:
        """All messages to the first one that is the last."""
        received = [await self.receive(seconds)]
        while not is_last(received[-1]):
            received.append(await self.receive(seconds))
        return received

    async def rest(self, quiet: float = 0.05) -> list[Any]:
        """All messages, decoded, until none comes for a while in which the sandbox was not busy either."""
        return [json.loads(text) for text in await self.rest_of_texts(quiet)]

    async def rest_of_texts(self, quiet: float = 0.05) -> list[str]:
        """As ``rest``, not decoded."""
        received: list[str] = []
        rounds = 0
        while rounds < 2:
            await asyncio.sleep(quiet / 2)
            await self.socket.ping(b"rest")
            message = await self.socket.receive(timeout=10)
            rounds += 1
            while message.type is not aiohttp.WSMsgType.PONG:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return received
                rounds = 0
                received.append(str(message.data))
                message = await self.socket.receive(timeout=10)
        return received


@pytest.fixture
def talk() -> Callable[..., Any]:
    """Runs ``await use(*peers)`` with one plain connection for each address, such as a venue's host and path."""

    def run(box: Sandbox, use: Callable[..., Awaitable[Any]], *addresses: str) -> Any:
        async def session() -> Any:
            async with aiohttp.ClientSession() as http:
                base = box.url.replace("http", "ws")
                sockets = [
                    await http.ws_connect(f"{base}/{address}", autoping=False) for address in addresses
                ]
                result = await use(*map(Peer, sockets))
            while box.connections:
                await asyncio.sleep(0.005)
            return result

        return asyncio.run(session())

    return run


@pytest.fixture(scope="session")
def real() -> Path:
    if not REAL.is_dir():
        pytest.skip(f"no recorded market data at {REAL}")
    return REAL


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(seed=1) as running:
        yield running


@pytest.fixture
def clock(request: pytest.FixtureRequest) -> HandClock:
    """The clock of ``paced``, at the module's ``NOW``."""
    return HandClock(request.module.NOW)


@pytest.fixture
def paced(clock: HandClock) -> Iterator[Sandbox]:
    """A sandbox whose time passes when a test says so."""
    with Sandbox(SimulatedMarket(1, now=clock), tick_ms=5) as running:
        yield running


@pytest.fixture(scope="module")
def still(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox whose clock stands still at the module's ``NOW``."""
    with Sandbox(SimulatedMarket(1, now=request.module.NOW)) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_faults_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in {"box", "still"} & set(request.fixturenames):
        request.getfixturevalue(name).faults = []


@pytest.fixture
def fetch() -> Callable[..., Reply]:
    """Fetches a URL; an HTTP error status is a reply too."""

    def fetched(url: str, method: str = "GET", body: bytes | None = None, timeout: float = 10) -> Reply:
        request = urllib.request.Request(url, body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as reply:
                return Reply(reply.status, dict(reply.headers), reply.read())
        except urllib.error.HTTPError as error:
            return Reply(error.code, dict(error.headers), error.read())

    return fetched


@pytest.fixture
def get(still: Sandbox, fetch: Callable[..., Reply]) -> Callable[..., Reply]:
    """Asks ``still`` for a path below an API, such as ``api.bybit.com/v5``; None leaves a parameter out."""

    def got(api: str, path: str, /, **query: Any) -> Reply:
        told = {name: value for name, value in query.items() if value is not None}
        return fetch(f"{still.url}/{api}/{path}?{urlencode(told)}")

    return got


@pytest.fixture
def ask(get: Callable[..., Reply], request: pytest.FixtureRequest) -> Callable[..., Reply]:
    """Asks ``still`` for a path below the module's ``API``."""
    return partial(get, request.module.API)


@pytest.fixture
def client() -> Callable[..., Any]:
    """Makes a real ccxt client whose calls all go to the sandbox; ``kind`` may be ``ccxt.pro``."""

    def made(name: str, box: Sandbox, kind: Any = ccxt, **options: Any) -> Any:
        exchange = getattr(kind, name)({"timeout": 5000, "enableRateLimit": False, **options})
        base = box.url.removeprefix("http://")

        def walk(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: walk(item) for key, item in value.items()}
            if not isinstance(value, str):
                return value
            value = value.replace("{hostname}", exchange.hostname or "")
            match = re.match(r"(https?|wss?)://([^/]+)(.*)$", value)
            if match is None:
                return value
            scheme = "ws" if match[1].startswith("ws") else "http"
            return f"{scheme}://{base}/{match[2].split(':')[0]}{match[3]}"

        exchange.urls["api"] = walk(exchange.urls["api"])
        if hasattr(exchange, "get_exceptions_by_url"):
            # ccxt chooses Binance's error classes by the original URL.
            original = exchange.get_exceptions_by_url
            exchange.get_exceptions_by_url = lambda url, key: original(
                url.replace(f"{box.url}/", "https://"), key
            )
        return exchange

    return made


@pytest.fixture
def with_client() -> Callable[..., Any]:
    """Runs ``await use(exchange)`` with a ccxt client, which is closed afterwards."""

    def run(exchange: Any, use: Callable[[Any], Awaitable[Any]]) -> Any:
        async def session() -> Any:
            try:
                return await use(exchange)
            finally:
                await exchange.close()

        return asyncio.run(session())

    return run


@pytest.fixture
def book_flaws() -> Callable[[list[float], list[float], int], list[str]]:
    """Lists what an order book lacks: so many prices on each side, from the best on, that do not cross."""

    def flaws(bids: list[float], asks: list[float], depth: int) -> list[str]:
        wanted = {
            f"{depth} bids, not {len(bids)}": len(bids) == depth,
            f"{depth} asks, not {len(asks)}": len(asks) == depth,
            "bids from the highest on": bids == sorted(bids, reverse=True),
            "asks from the lowest on": asks == sorted(asks),
            "a best bid below the best ask": bids[:1] < asks[:1],
        }
        return [words for words, holds in wanted.items() if not holds]

    return flaws


@pytest.fixture
def shape_differences() -> Callable[..., list[str]]:
    """Lists where an answer lacks a recorded key or has a value of another JSON type.

    Keys that were not recorded are differences too, unless ``exact`` is False.
    """

    def differences(ours: Any, theirs: Any, exact: bool = True, where: str = "$") -> list[str]:
        if type(ours) is not type(theirs):
            return [f"{where}: {ours!r} where the venue sends {theirs!r}"]
        if isinstance(theirs, dict):
            missing = [f"{where} lacks {key}" for key in theirs.keys() - ours.keys()]
            extra = [f"{where} has also {key}" for key in ours.keys() - theirs.keys() if exact]
            below = [
                differences(ours[key], theirs[key], exact, f"{where}.{key}") for key in theirs if key in ours
            ]
            return [*missing, *extra, *chain.from_iterable(below)]
        if not isinstance(theirs, list) or not theirs:
            return []
        if not isinstance(theirs[0], dict | list):
            kinds = {type(value) for value in ours} - {type(value) for value in theirs}
            return [f"{where} has values of {kind}" for kind in kinds]
        if not ours:
            return [f"{where} is empty"]
        below = [differences(item, theirs[0], exact, f"{where}[{n}]") for n, item in enumerate(ours)]
        return list(chain.from_iterable(below))

    return differences
