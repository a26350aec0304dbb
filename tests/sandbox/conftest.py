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


@pytest.fixture(scope="session")
def real() -> Path:
    if not REAL.is_dir():
        pytest.skip(f"no recorded market data at {REAL}")
    return REAL


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(seed=1) as running:
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
    """Makes a real ccxt client whose calls all go to the sandbox."""

    def made(name: str, box: Sandbox, **options: Any) -> Any:
        exchange = getattr(ccxt, name)({"timeout": 5000, "enableRateLimit": False, **options})
        base = box.url.removeprefix("http://")

        def walk(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: walk(item) for key, item in value.items()}
            if not isinstance(value, str):
                return value
            value = value.replace("{hostname}", exchange.hostname or "")
            match = re.match(r"(https?|wss?)://([^/]+)(.*)$", value)
            return f"http://{base}/{match[2].split(':')[0]}{match[3]}" if match else value

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
