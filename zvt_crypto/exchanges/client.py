"""ccxt's clients as ours: one instance per ccxt class, our errors, retries, pauses, the exchange's clock."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from zvt_crypto.core.config import Settings
from zvt_crypto.exchanges.budget import Pause
from zvt_crypto.exchanges.connection import Connection
from zvt_crypto.exchanges.rawrows import RowLayout
from zvt_crypto.exchanges.transport import Transport

if TYPE_CHECKING:
    from zvt_crypto.exchanges.base import Venue


class Client:
    """A venue's requests. An asynchronous context manager; many coroutines may use it at once.

    Args:
        venue: Class of the venue, which names the ccxt classes and their options.
        settings: Gateway, limits and how often to retry. Pauses that a venue imposes are kept in ``state``
            beside the data folder.
    """

    def __init__(self, venue: type[Venue], settings: Settings) -> None:
        self.venue = venue
        self.settings = settings
        self._connections: dict[str, Connection] = {}

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._connections.values():
            await connection.close()

    async def call(
        self, entity_type: str, method: str, params: Mapping[str, Any], *, subject: str | None = None
    ) -> Any:
        """The decoded answer of one of ccxt's implicit methods, such as ``publicGetTime``.

        Args:
            entity_type: Which ccxt class to use.
            method: Name of the implicit method.
            params: The request's parameters.
            subject: What is asked about, for error messages.

        Raises:
            ZvtCryptoError: What ``ccxt_errors`` makes of the failure, after the last attempt.
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
    ) -> pa.Table:
        """The rows of an implicit method's answer as columns, read from the text; raises as ``call`` does."""
        return await self._connection(entity_type).request_rows(method, dict(params), layout, subject)

    async def markets(self, entity_type: str) -> list[dict[str, Any]]:
        """ccxt's market structures of all markets of an entity type, active or not."""
        kind = "spot" if entity_type == "cryptopair" else "swap"
        return [market for market in await self._connection(entity_type).markets() if market.get(kind)]

    async def now(self, entity_type: str) -> int:
        """The exchange's time in epoch milliseconds; its clock is asked once, then ours is corrected by it."""
        return int(time.time() * 1000) + await self.clock_offset(entity_type)

    async def clock_offset(self, entity_type: str) -> int:
        """How many milliseconds the exchange's clock is ahead of this machine's."""
        return await self._connection(entity_type).offset_ms()

    def _connection(self, entity_type: str) -> Connection:
        ccxt_id = self.venue.ccxt_ids[entity_type]
        if ccxt_id not in self._connections:
            self._connections[ccxt_id] = self._connect(ccxt_id)
        return self._connections[ccxt_id]

    def _connect(self, ccxt_id: str) -> Connection:
        # ccxt costs a second to import, so it is imported by whoever talks to an exchange.
        ccxt = importlib.import_module("ccxt.async_support")
        exchange: Any = type(ccxt_id, (Transport, getattr(ccxt, ccxt_id)), {})(
            {
                "enableRateLimit": self.settings.rate_limit,
                "timeout": int(self.settings.timeout_seconds * 1000),
                "enableLastHttpResponse": False,
                "enableLastJsonResponse": False,
                "options": dict(self.venue.ccxt_options.get(ccxt_id, {})),
            }
        )
        exchange.pause = Pause(ccxt_id, self.settings.data_path.parent / "state" / f"{ccxt_id}.json")
        exchange.slots = asyncio.Semaphore(self.settings.concurrency)
        if self.settings.gateway:
            exchange.use_gateway(self.settings.gateway)
        return Connection(exchange, ccxt.BaseError, self.settings)
