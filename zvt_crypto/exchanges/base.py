"""The contract of a venue: what each venue file declares and answers."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal

import pyarrow as pa

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import InvalidArgument, NotSupported, unknown_value
from zvt_crypto.core.levels import DAY_MS, ceil_ms
from zvt_crypto.exchanges.archive_files import ArchiveFile
from zvt_crypto.exchanges.client import Client
from zvt_crypto.exchanges.connection import Clock
from zvt_crypto.exchanges.endpoints import Endpoint
from zvt_crypto.exchanges.instruments import Instruments, assets_of, from_markets
from zvt_crypto.exchanges.paging import Part, find_first
from zvt_crypto.exchanges.streaming import Streams
from zvt_crypto.exchanges.throttle import Priority

#: How far back a feed can be fetched: to the listing, or only what is newest.
Reach = Literal["history", "recent"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """A market of a venue, as far as fetching its data needs it.

    Attributes:
        entity_type: ``cryptopair`` or ``cryptoperp``.
        code: Our code, such as ``btcusdt``.
        symbol: ccxt's unified symbol.
        native_id: The venue's own name.
        contract_size: Base currency of one contract, quote currency where inverse; None for pairs.
        inverse: Whether a contract is an amount of the quote currency.
        funding_interval_hours: Hours between funding events as the venue announces them now; None for pairs
            and where it does not.
        list_date: First trade, epoch ms, where known.
    """

    entity_type: str
    code: str
    symbol: str
    native_id: str
    contract_size: float | None = None
    inverse: bool = False
    funding_interval_hours: float | None = None
    list_date: int | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a venue serves.

    Attributes:
        entity_types: Kinds of market that can be recorded.
        levels: Candle levels that the venue itself serves.
        candle_page: Most candles that one request returns, by entity type.
        candle_reach: How many finished candles back from now can be fetched at all, by entity type; types
            that are not here reach back to the listing.
        trades: How far back trades can be fetched, by entity type; types that are not here have none.
        trade_page: Most trades that one request returns, by entity type.
        funding: How far back funding events can be fetched; None where there are none.
        funding_page: Most funding events that one request returns.
        book_depths: The depths that an order book can be asked for, ascending, by entity type; types that
            are not here have none. Where any depth up to a largest one will do, only that is named.
    """

    entity_types: tuple[str, ...]
    levels: tuple[str, ...]
    candle_page: Mapping[str, int]
    candle_reach: Mapping[str, int] = field(default_factory=dict)
    trades: Mapping[str, Reach] = field(default_factory=dict)
    trade_page: Mapping[str, int] = field(default_factory=dict)
    funding: Reach | None = None
    funding_page: int = 100
    book_depths: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


class Venue(ABC):
    """One exchange. Subclasses hold the venue's quirks and nothing else.

    A venue file defines one subclass; ``venues()`` finds it. Methods are coroutines that make exactly one
    request through ``client`` unless they say otherwise, and raise errors of ``zvt_crypto.core.errors``.
    """

    #: Provider name, equal to the exchange's where the provider serves one exchange only.
    name: ClassVar[str]
    #: The exchange in entity ids and in the column ``exchange``; ``name`` unless a subclass says otherwise.
    exchange: ClassVar[str]
    #: Whether the class stands for many exchanges, of which ``of_exchange`` takes one.
    serves_many: ClassVar[bool] = False
    #: ccxt class that serves each entity type.
    ccxt_ids: ClassVar[Mapping[str, str]]
    #: The public API behind each ccxt class, as the exchange's documents and ccxt have them.
    endpoints: ClassVar[Mapping[str, Endpoint]] = {}
    #: ccxt constructor options, so that loading markets makes only the calls that are needed.
    ccxt_options: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: What tells the time, by ccxt class that has no ``fetchTime``.
    clocks: ClassVar[Mapping[str, Clock]] = {}
    capabilities: ClassVar[Capabilities]
    #: What it streams; None where nothing is.
    streams: ClassVar[Streams | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in vars(cls) and "exchange" not in vars(cls):
            cls.exchange = cls.name

    def __init__(self, client: Client) -> None:
        self.client = client

    @classmethod
    def of_exchange(cls, exchange: str | None) -> type[Venue]:
        """The class that serves an exchange, None for the provider's own; for a provider of many, a subclass.

        Raises:
            InvalidArgument: The provider does not serve it.
        """
        if exchange not in (None, cls.exchange):
            raise InvalidArgument(
                f"provider {cls.name} serves the exchange {cls.exchange}, not {exchange!r}",
                suggestions=("leave the exchange out, or name another provider",),
            )
        return cls

    async def fetch_instruments(self, entity_type: str) -> Instruments:
        """All markets of an entity type, active or not, in the stored columns of its table.

        For ``cryptoasset``, the currencies of all markets.
        """
        if entity_type == "cryptoasset":
            return assets_of([m for kind in self.ccxt_ids for m in await self.client.markets(kind)])
        markets = await self.client.markets(entity_type)
        return from_markets(self.exchange, entity_type, markets, await self.extras(entity_type, markets))

    async def extras(
        self, entity_type: str, markets: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Columns of the instrument tables that ccxt's market structure does not hold, by native id.

        May make a request. Venues override it; ``market["info"]`` is the venue's own description.
        """
        return {}

    def instrument(self, row: Mapping[str, Any]) -> Instrument:
        """What fetching needs of a row of the entity tables."""
        listed = row.get("list_date")
        return Instrument(
            row["entity_type"],
            row["code"],
            row["symbol"],
            row["native_id"],
            contract_size=row.get("contract_size"),
            inverse=bool(row.get("inverse")),
            funding_interval_hours=row.get("funding_interval_hours"),
            list_date=listed if listed is None or isinstance(listed, int) else int(listed.timestamp() * 1000),
        )

    async def find_listing(self, instrument: Instrument) -> int | None:
        """Open time of the first daily candle, epoch ms; None where there is none yet.

        Walks back page by page. Venues that answer with the first candle directly override it.
        """

        async def fetch_page(start: int, end: int) -> pa.Table:
            return await self.fetch_candle_page(instrument, "1d", start, end)

        now = await self.client.now(instrument.entity_type)
        width = self.capabilities.candle_page[instrument.entity_type]
        return await find_first(fetch_page, ceil_ms(now, DAY_MS), DAY_MS, width)

    @abstractmethod
    async def fetch_candle_page(self, instrument: Instrument, level: str, start: int, end: int) -> pa.Table:
        """One page of candles that open in ``[start, end)``, in the schema of the candle tables.

        ``end - start`` is at most ``capabilities.candle_page`` steps. Rows come as the venue sent them: maybe
        unordered, doubled, or cut; unfinished ones are left out only where the venue marks them.
        """

    def fetch_trades(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """The trades in ``[start, end)``, page by page; the rows are in ``schemas.TRADES``.

        Makes as many requests as it takes, one after the other, and holds one page at a time. ``end`` is not
        after the exchange's now. Where ``capabilities.trades`` says ``recent``, what is older than the newest
        page is in no part: the spans of the parts tell what is complete.

        Raises:
            NotSupported: ``capabilities.trades`` does not have the entity type.
        """
        raise NotSupported(f"{self.exchange} serves no trades of {instrument.symbol}")

    def fetch_funding(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """The funding events in ``[start, end)``, page by page; the rows are in ``schemas.FUNDING``.

        As ``fetch_trades``. The rate is the one that was paid, at the time of the payment; rates that are
        announced for a payment to come are left out.

        Raises:
            NotSupported: ``capabilities.funding`` is None, or the instrument is a pair.
        """
        raise NotSupported(f"{self.exchange} serves no funding events of {instrument.symbol}")

    def archive_files(
        self, instrument: Instrument, feed: str, level: str | None, start: int, end: int, now: int
    ) -> list[ArchiveFile]:
        """Files of the venue's public archive that lie wholly in ``[start, end)``, without overlaps.

        Args:
            instrument: Whose rows.
            feed: ``candles``, ``trades`` or ``funding``.
            level: Level of candles, None for other feeds.
            start: Epoch ms.
            end: Epoch ms, exclusive.
            now: The exchange's time: what is not published yet is not named.
        """
        return []

    def fetch_archive(
        self, instrument: Instrument, feed: str, level: str | None, file: ArchiveFile
    ) -> AsyncIterator[Part]:
        """The rows of a file in the schema of the feed, in parts of bounded size.

        Raises:
            ArchiveUnusable: The file is not there, or is not what its checksum and name say.
        """
        raise NotSupported(f"{self.exchange} has no public archive")

    async def fetch_order_book(self, instrument: Instrument, depth: int) -> pa.Table:
        """The order book now: one row in ``schemas.ORDER_BOOK``; ``depth`` is one of ``capabilities``.

        The row's time is the venue's for the book, or its clock when it answered where it gives none.

        Raises:
            NotSupported: ``capabilities.book_depths`` does not have the entity type.
        """
        raise NotSupported(f"{self.exchange} serves no order book of {instrument.symbol}")


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


def venue_class(provider: str, exchange: str | None = None) -> type[Venue]:
    """The venue of a provider name.

    Args:
        provider: One of ``venues()``.
        exchange: Which exchange, where the provider serves several.

    Raises:
        InvalidArgument: No venue has that name, or it does not serve the exchange.
    """
    known = venues()
    if provider not in known:
        raise unknown_value("provider", provider, known)
    return known[provider].of_exchange(exchange)


@contextlib.asynccontextmanager
async def open_venue(
    provider: str,
    settings: Settings,
    exchange: str | None = None,
    *,
    priority: Priority = Priority.BACKFILL,
) -> AsyncIterator[Venue]:
    """A venue with a client of its own, closed in the end.

    Raises:
        InvalidArgument: As ``venue_class`` does.
    """
    kind = venue_class(provider, exchange)
    async with Client(kind, settings, priority=priority) as client:
        yield kind(client)
