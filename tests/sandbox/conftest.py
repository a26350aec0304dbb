"""Fixtures: a sandbox on a socket, a plain HTTP client, ccxt clients behind the gateway, recorded answers."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
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
def deep_and_sorted() -> Callable[[list[float], list[float], int], None]:
    """Fails unless both sides of an order book have so many prices, from the best on, and do not cross."""

    def check(bids: list[float], asks: list[float], depth: int) -> None:
        assert len(bids) == len(asks) == depth
        assert bids == sorted(bids, reverse=True) and asks == sorted(asks) and bids[0] < asks[0]

    return check


@pytest.fixture
def same_shape() -> Callable[..., None]:
    """Fails where an answer lacks a recorded key or has a value of another JSON type."""

    def compare(ours: Any, theirs: Any, exact: bool = True, where: str = "$") -> None:
        assert type(ours) is type(theirs), f"{where}: {ours!r} where the venue sends {theirs!r}"
        if isinstance(theirs, dict):
            missing, extra = theirs.keys() - ours.keys(), ours.keys() - theirs.keys()
            assert not missing, f"{where} lacks {missing}"
            assert not (exact and extra), f"{where} has also {extra}"
            for key in theirs:
                compare(ours[key], theirs[key], exact, f"{where}.{key}")
        elif isinstance(theirs, list) and theirs and not isinstance(theirs[0], dict | list):
            assert {type(v) for v in ours} <= {type(v) for v in theirs}, where
        elif isinstance(theirs, list) and theirs:
            assert ours, f"{where} is empty"
            for number, item in enumerate(ours):
                compare(item, theirs[0], exact, f"{where}[{number}]")

    return compare
