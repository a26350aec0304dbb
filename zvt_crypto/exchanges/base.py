"""The contract of a venue: what each venue file declares and answers."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import pyarrow as pa

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import unknown_value
from zvt_crypto.core.levels import DAY_MS, ceil_ms
from zvt_crypto.exchanges.client import Client
from zvt_crypto.exchanges.instruments import Instruments, assets_of, from_markets
from zvt_crypto.exchanges.paging import find_first


@dataclass(frozen=True, slots=True)
class Instrument:
    """A market of a venue, as far as fetching its data needs it.

    Attributes:
        entity_type: ``cryptopair`` or ``cryptoperp``.
        code: Our code, such as ``btcusdt``.
        symbol: ccxt's unified symbol.
        native_id: The venue's own name.
    """

    entity_type: str
    code: str
    symbol: str
    native_id: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a venue serves.

    Attributes:
        entity_types: Kinds of market that can be recorded.
        levels: Candle levels that the venue itself serves.
        candle_page: Most candles that one request returns.
        history: False where candles cannot be fetched back to the listing.
    """

    entity_types: tuple[str, ...]
    levels: tuple[str, ...]
    candle_page: int
    history: bool = True


class Venue(ABC):
    """One exchange. Subclasses hold the venue's quirks and nothing else.

    A venue file defines one subclass; ``venues()`` finds it. Methods are coroutines that make exactly one
    request through ``client`` unless they say otherwise, and raise errors of ``zvt_crypto.core.errors``.
    """

    #: Provider name, equal to the exchange's.
    name: ClassVar[str]
    #: ccxt class that serves each entity type.
    ccxt_ids: ClassVar[Mapping[str, str]]
    #: ccxt constructor options, so that loading markets makes only the calls that are needed.
    ccxt_options: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    capabilities: ClassVar[Capabilities]

    def __init__(self, client: Client) -> None:
        self.client = client

    async def fetch_instruments(self, entity_type: str) -> Instruments:
        """All markets of an entity type, active or not, in the stored columns of its table.

        For ``cryptoasset``, the currencies of all markets.
        """
        if entity_type == "cryptoasset":
            return assets_of([m for kind in self.ccxt_ids for m in await self.client.markets(kind)])
        markets = await self.client.markets(entity_type)
        return from_markets(self.name, entity_type, markets, await self.extras(entity_type, markets))

    async def extras(
        self, entity_type: str, markets: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Columns of the instrument tables that ccxt's market structure does not hold, by native id.

        May make a request. Venues override it; ``market["info"]`` is the venue's own description.
        """
        return {}

    def instrument(self, row: Mapping[str, Any]) -> Instrument:
        """What fetching needs of a row of the entity tables."""
        return Instrument(row["entity_type"], row["code"], row["symbol"], row["native_id"])

    async def find_listing(self, instrument: Instrument) -> int | None:
        """Open time of the first daily candle, epoch ms; None where there is none yet.

        Walks back page by page. Venues that answer with the first candle directly override it.
        """

        async def fetch_page(start: int, end: int) -> pa.Table:
            return await self.fetch_candle_page(instrument, "1d", start, end)

        now = await self.client.now(instrument.entity_type)
        return await find_first(fetch_page, ceil_ms(now, DAY_MS), DAY_MS, self.capabilities.candle_page)

    @abstractmethod
    async def fetch_candle_page(self, instrument: Instrument, level: str, start: int, end: int) -> pa.Table:
        """One page of candles that open in ``[start, end)``, in the schema of the candle tables.

        ``end - start`` is at most ``capabilities.candle_page`` steps. Rows come as the venue sent them: maybe
        unordered, doubled, or cut; unfinished ones are left out only where the venue marks them.
        """


@cache
def venues() -> dict[str, type[Venue]]:
    """Every venue that has a file in this package, by name."""
    package = importlib.import_module("zvt_crypto.exchanges")
    found: dict[str, type[Venue]] = {}
    for module_info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        for item in vars(module).values():
            # Where it is defined comes first: Python 3.10 takes ``Callable[...]`` for a class until it looks.
            is_local = getattr(item, "__module__", None) == module.__name__
            if is_local and isinstance(item, type) and issubclass(item, Venue) and item is not Venue:
                found[item.name] = item
    return found


def venue_class(provider: str) -> type[Venue]:
    """The venue of a provider name.

    Raises:
        InvalidArgument: No venue has that name.
    """
    known = venues()
    if provider not in known:
        raise unknown_value("provider", provider, known)
    return known[provider]


@contextlib.asynccontextmanager
async def open_venue(provider: str, settings: Settings) -> AsyncIterator[Venue]:
    """A venue with a client of its own, closed in the end.

    Raises:
        InvalidArgument: No venue has that name.
    """
    kind = venue_class(provider)
    async with Client(kind, settings) as client:
        yield kind(client)
