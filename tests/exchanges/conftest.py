"""The real client against the sandbox, or against a server that answers what a test tells it."""

import asyncio
import contextlib
import json
from pathlib import Path

import hypothesis
import pytest
from aiohttp import web
from venue_helpers import query_of

from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import parse_time
from zvt_crypto.exchanges.base import venue_class
from zvt_crypto.exchanges.client import Client
from zvt_crypto.sandbox import SimulatedMarket

#: The sandbox's clock stands still, half a minute into a candle.
NOW = parse_time("2024-06-10T12:34:30Z")
PAYLOADS = Path(__file__).resolve().parents[2] / ".." / "shared" / "real" / "payloads"


# The first example of a process pays for imports.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def market():
    return SimulatedMarket(seed=5, now=NOW)


@pytest.fixture
def quick(tmp_path):
    """Settings that fail fast and keep everything in the test's folder."""

    def made(url, **changed):
        values = {
            "data_path": tmp_path / "data",
            "gateway": url,
            "rate_limit": False,
            "timeout_seconds": 2,
            "max_attempts": 3,
            "retry_wait_seconds": 0.01,
            **changed,
        }
        return Settings(**values)

    return made


@pytest.fixture
def opened(box, quick):
    """Opens a venue, such as ``okx`` or ``ccxt:gate``, on the sandbox; gives the venue."""

    @contextlib.asynccontextmanager
    async def open_it(provider="binance", *, patience=120.0, **changed):
        kind = venue_class(*provider.split(":"))
        async with Client(kind, quick(box.url, **changed), patience=patience) as client:
            yield kind(client)

    return open_it


class Script:
    """A server that gives the answers it is told, the last one for ever, and keeps count."""

    def __init__(self, *answers):
        self.answers = answers
        self.paths = []
        self.under_way = self.most_under_way = 0
        self.seconds = 0.0

    async def handle(self, request):
        number = len(self.paths)
        self.paths.append(request.path_qs)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(self.seconds)
        self.under_way -= 1
        status, body, *headers = self.answers[min(number, len(self.answers) - 1)]
        kind = "text/html" if body.startswith("<") else "application/json"
        return web.Response(
            status=status, text=body, content_type=kind, headers=headers[0] if headers else None
        )


@pytest.fixture
def scripted(quick):
    """Opens a venue, named as for ``opened``, on a scripted server; gives the venue."""

    @contextlib.asynccontextmanager
    async def open_it(script, provider="binance", **changed):
        runner = web.ServerRunner(web.Server(script.handle), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        kind = venue_class(*provider.split(":"))
        try:
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            async with Client(kind, quick(url, **changed)) as client:
                yield kind(client)
        finally:
            await runner.cleanup()

    return open_it


@pytest.fixture(scope="session")
def script():
    return Script


@pytest.fixture
def provider(request):
    """The venue that a module is about, named as for ``opened``: its ``PROVIDER``, else binance."""
    return getattr(request.module, "PROVIDER", "binance")


@pytest.fixture
def asked(opened, provider):
    """Runs ``await use(venue)`` against the sandbox; gives the result."""

    def run(use, *, provider=provider):
        async def main():
            async with opened(provider) as venue:
                return await use(venue)

        return asyncio.run(main())

    return run


@pytest.fixture
def served(scripted, provider):
    """Runs ``await use(venue)`` against a server, such as a ``Script``; gives the result."""

    def run(server, use, *, provider=provider, **changed):
        async def main():
            async with scripted(server, provider, **changed) as venue:
                return await use(venue)

        return asyncio.run(main())

    return run


@pytest.fixture
def told(served, script):
    """Runs ``await use(venue)`` against a server that gives these answers; gives the result and the requests.

    An answer is a body, or a status and a body; a body that is no text is sent as JSON.
    """

    def replied(answer):
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        return status, body if isinstance(body, str) else json.dumps(body)

    def run(use, *answers, **changed):
        server = script(*map(replied, answers))
        return served(server, use, **changed), server.paths

    return run


@pytest.fixture
def queried(told):
    """As ``told``, with the queries in place of the requests."""

    def run(use, *answers, **changed):
        result, paths = told(use, *answers, **changed)
        return result, [query_of(path) for path in paths]

    return run


@pytest.fixture
def refused(told):
    """Runs ``await use(venue)`` with one attempt against a server that gives these answers; gives the error.

    It must be of this very class: a subclass would be treated otherwise.
    """

    def run(kind, use, *answers, **changed):
        with pytest.raises(kind) as caught:
            told(use, *answers, max_attempts=1, **changed)
        assert type(caught.value) is kind
        return caught.value

    return run


@pytest.fixture
def payload(provider):
    """The text of a recorded answer of the module's venue."""
    folder = PAYLOADS / provider
    if not folder.is_dir():
        pytest.skip(f"no recorded market data at {folder}")
    return lambda name: (folder / f"http_{name}.json").read_text()
