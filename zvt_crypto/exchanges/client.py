"""The way to an exchange: the only module that imports ccxt, and not before something is asked."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

import pyarrow as pa

from zvt_crypto.core.config import Settings, switched_off
from zvt_crypto.core.errors import ArchiveUnusable, NotSupported, RetriableError, unknown_value
from zvt_crypto.core.lazy import make_lazy
from zvt_crypto.exchanges.budget import PATIENCE_SECONDS, Pause
from zvt_crypto.exchanges.connection import Connection
from zvt_crypto.exchanges.health import HealthLog, health_path
from zvt_crypto.exchanges.rawrows import RowLayout
from zvt_crypto.exchanges.throttle import Budget, Priority
from zvt_crypto.exchanges.transport import PRICING, Priced, Transport

if TYPE_CHECKING:
    from zvt_crypto.exchanges.base import Venue


T = TypeVar("T")

#: The package's name, and the provider's that serves what it knows and no venue file does.
CCXT: Final = "ccxt"


#: Files of an archive that are fetched at once, and that are unpacked at once: rows come faster than they are
#: stored even so.
_DOWNLOADS: Final = 4
_UNPACKED: Final = 2


class Client:
    """A venue's requests. An asynchronous context manager; many coroutines may use it at once.

    Args:
        venue: Class of the venue, which names the ccxt classes and their options.
        settings: Gateway, budget, attempts, time-outs.
        state_dir: Folder that keeps the pauses which the venue imposes; by default ``state`` beside the data
            folder, so that all processes of a machine keep to them.
        patience: Longest pause, in seconds, that is sat out; a longer one raises ``RateLimitExceeded``.
        priority: Of its requests, where other clients take from the same budget.
    """

    def __init__(
        self,
        venue: type[Venue],
        settings: Settings,
        *,
        state_dir: Path | None = None,
        patience: float = PATIENCE_SECONDS,
        priority: Priority = Priority.BACKFILL,
    ) -> None:
        self.venue = venue
        self.settings = settings.of_exchange(venue.exchange)
        self._state_dir = state_dir or settings.data_path.parent / "state"
        self._patience = patience
        self._priority = priority
        self._connections: dict[str, Connection] = {}
        self.unpacking = asyncio.Semaphore(_UNPACKED)
        self._downloads = asyncio.Semaphore(_DOWNLOADS)
        self._failing_hosts: set[str] = set()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        connections = list(self._connections.values())
        self._connections.clear()
        await asyncio.gather(*(connection.close() for connection in connections))

    async def call(
        self, entity_type: str, method: str, params: Mapping[str, Any], *, subject: str | None = None
    ) -> Any:
        """The decoded answer of one of ccxt's implicit methods, such as ``publicGetTime``.

        Args:
            entity_type: Which ccxt class to use.
            method: Name of the implicit method.
            params: The request's parameters.
            subject: The unified symbol that is asked about, for error messages.

        Raises:
            ZvtCryptoError: What ``ccxt_errors`` makes of the failure, after the last attempt;
                ``details["attempts"]`` says how many there were.
        """
        return await self._connection(entity_type).request(method, dict(params), subject)

    async def rows(
        self,
        entity_type: str,
        method: str,
        params: Mapping[str, Any],
        layout: RowLayout,
        *,
        subject: str | None = None,
        judge: Callable[[pa.Table], None] | None = None,
    ) -> pa.Table:
        """The rows of an implicit method's answer as columns, read from the text; raises as ``call`` does.

        ``judge`` may raise one of our errors about the rows; a retriable one is tried again.
        """
        connection = self._connection(entity_type)
        return await connection.request_rows(method, dict(params), layout, subject, judge)

    async def unified(
        self,
        entity_type: str,
        method: str,
        *args: Any,
        read: Callable[[Any], T],
        params: Mapping[str, Any] | None = None,
        subject: str | None = None,
    ) -> T:
        """What a unified method of ccxt's makes of the answer to its request, read by ``read``.

        Args:
            entity_type: Which ccxt class to use.
            method: Name of the method, such as ``fetch_ohlcv``.
            args: Its arguments in order.
            read: Is given what it returns. It may raise one of our errors; a retriable one is tried again.
            params: Its last argument: parameters of the exchange's own.
            subject: As in ``call``, which it also raises as.
        """
        connection = self._connection(entity_type)
        return await connection.unified(method, args, dict(params or {}), read, subject)

    async def download(self, entity_type: str, host: str, path: str, target: IO[bytes], largest: int) -> None:
        """Fetch a file of a public archive, ``https://{host}{path}``, over what ``target`` holds.

        A host that fails a file for good is not asked for any other: its files can be done without.

        Args:
            entity_type: Whose connection to use.
            host: Host name.
            path: Path on it.
            target: The file.
            largest: Most bytes to accept.

        Raises:
            ArchiveUnusable: The file cannot be had.
        """
        async with self._downloads:
            if host in self._failing_hosts:
                raise ArchiveUnusable(f"{host}{path} is left out: {host} failed before")
            try:
                await self._connection(entity_type).download(host, path, target, largest)
            except RetriableError as error:
                self._failing_hosts.add(host)
                raise ArchiveUnusable(error.message, **error.details) from error

    async def markets(self, entity_type: str) -> list[dict[str, Any]]:
        """Market structures of ccxt for all markets of an entity type, active or not; loaded once.

        Pairs are spot markets, perpetuals are swaps: dated futures and options are left out.
        """
        kind = "spot" if entity_type == "cryptopair" else "swap"
        return [market for market in await self._connection(entity_type).markets() if market.get(kind)]

    async def now(self, entity_type: str) -> int:
        """The exchange's time in epoch milliseconds UTC; its clock is asked every ten minutes."""
        return time.time_ns() // 1_000_000 + await self.clock_offset(entity_type)

    async def clock_offset(self, entity_type: str, *, fresh: bool = False) -> int:
        """How many milliseconds the exchange's clock is ahead of this machine's; ``fresh`` asks it now."""
        return await self._connection(entity_type).offset_ms(fresh=fresh)

    def heard(self, entity_type: str, ts: int) -> None:
        """The exchange has told of something that happened at this time, epoch ms: it is no earlier there."""
        self._connection(entity_type).heard(ts)

    async def price(self, asked: Awaitable[Any]) -> float:
        """Seconds of the venue's budget that the first request of a call takes; the request is not made.

        0 with ``settings.rate_limit`` off. Markets and clock must be known already.
        """
        token = PRICING.set(True)
        try:
            await asked
        except Priced as priced:
            return priced.seconds
        finally:
            PRICING.reset(token)
        return 0.0

    def _connection(self, entity_type: str) -> Connection:
        ccxt_id = self.venue.ccxt_ids.get(entity_type)
        if ccxt_id is None:
            what = f"entity type of {self.venue.name}"
            raise unknown_value(what, entity_type, self.venue.ccxt_ids, error=NotSupported)
        if ccxt_id not in self._connections:
            self._connections[ccxt_id] = self._connect(ccxt_id)
        return self._connections[ccxt_id]

    def _connect(self, ccxt_id: str) -> Connection:
        settings = self.settings
        if not settings.is_enabled(self.venue.exchange):
            raise switched_off(self.venue.exchange)
        options = dict(self.venue.ccxt_options.get(ccxt_id, {}))
        exchange_class, failure = import_exchange(ccxt_id)
        exchange: Any = type(ccxt_id, (Transport, exchange_class), {})(
            {
                "enableRateLimit": settings.rate_limit,
                "timeout": int(settings.timeout_seconds * 1000),
                "enableLastHttpResponse": False,
                "enableLastJsonResponse": False,
                "options": options,
                # Some exchanges know this option; ccxt itself asks for currencies where ``has`` says so.
                "has": {"fetchCurrencies": False} if options.get("fetchCurrencies") is False else {},
                # If told to, aiohttp reads the environment for each request; so only where there is a proxy.
                "aiohttp_trust_env": settings.gateway is None and bool(urllib.request.getproxies()),
            }
        )
        exchange.pause = Pause(ccxt_id, self._state_dir / f"{ccxt_id}.json", self._patience)
        exchange.budget = Budget(
            ccxt_id, self._state_dir / f"{ccxt_id}.budget", exchange.rateLimit, self._priority
        )
        exchange.health = HealthLog(ccxt_id, health_path(self._state_dir, ccxt_id))
        endpoint = self.venue.endpoints.get(ccxt_id)
        exchange.used_weight = endpoint and endpoint.used_weight
        exchange.slots = asyncio.Semaphore(settings.concurrency)
        if settings.gateway is not None:
            exchange.use_gateway(settings.gateway)
            if settings.gateway.startswith("http://"):
                exchange.timeout_on_exit = 0  # what ccxt waits for TLS connections to end
        return Connection(exchange, failure, settings, self.venue.clocks.get(ccxt_id))


def exchange_ids() -> list[str]:
    """Every exchange that ccxt has a class for, by its id; none of them is imported."""
    spec = importlib.util.find_spec(CCXT)
    assert spec is not None and spec.submodule_search_locations is not None
    folder = Path(next(iter(spec.submodule_search_locations))) / "async_support"
    return sorted(path.stem for path in folder.glob("[a-z0-9]*.py"))


def unopened(ccxt_id: str) -> Any:
    """An instance of a ccxt class that makes no request: it is asked what the exchange has."""
    exchange_class, _ = import_exchange(ccxt_id)
    return exchange_class()


def import_exchange(ccxt_id: str) -> tuple[type, type[Exception]]:
    """A ccxt class and ccxt's root error, without the hundred other exchanges that ``import ccxt`` loads.

    Those are loaded when someone, such as the user's own code, asks the package for a name.
    """
    make_lazy("ccxt", None)
    package = importlib.import_module("ccxt")
    make_lazy("ccxt.async_support", list(package.__path__))
    errors = importlib.import_module("ccxt.base.errors")
    # Some of its modules take these from the package itself, which must not be loaded for them.
    vars(package).update({name: kind for name, kind in vars(errors).items() if isinstance(kind, type)})
    vars(package)["Exchange"] = importlib.import_module("ccxt.base.exchange").Exchange
    module = importlib.import_module(f"ccxt.async_support.{ccxt_id}")
    kind = getattr(module, ccxt_id)
    _show_classes("ccxt.async_support", kind)
    return kind, errors.BaseError


def import_streaming(ccxt_id: str) -> tuple[type, type, type[Exception]]:
    """A class of ccxt.pro, the class of ccxt's WebSocket connections, and ccxt's root error; as lightly."""
    _, failure = import_exchange(ccxt_id)
    make_lazy("ccxt.pro", list(sys.modules[CCXT].__path__))
    module = importlib.import_module(f"ccxt.pro.{ccxt_id}")
    kind = getattr(module, ccxt_id)
    _show_classes("ccxt.pro", kind)
    connections = importlib.import_module("ccxt.async_support.base.ws.client")
    return kind, connections.Client, failure


def _show_classes(package: str, kind: type) -> None:
    """Put a class and those that it derives from where the package has them once it is loaded.

    Until then their modules stand there, which have the same names.
    """
    for parent in kind.__mro__:
        if parent.__module__ == f"{package}.{parent.__name__}":
            setattr(sys.modules[package], parent.__name__, parent)
