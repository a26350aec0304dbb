"""Any exchange that ccxt knows and no file of this package serves, through ccxt's unified methods.

https://docs.ccxt.com/#/README?id=unified-api

The unified rows lack what exchanges publish beside them: ``turnover`` and ``trade_count`` of candles are
NULL, as is ``nanosecond`` of trades. What an exchange has is read from ccxt's description of it; ``_FACTS``
adds what that does not tell.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import InvalidArgument, NotSupported, ProviderUnavailable, unknown_value
from zvt_crypto.core.levels import HOUR_MS, LEVEL_MS, ceil_ms, level_ms
from zvt_crypto.core.symbols import PAIR, PERP
from zvt_crypto.exchanges.base import Capabilities, Instrument, Reach, Venue, venues
from zvt_crypto.exchanges.books import order_book_row
from zvt_crypto.exchanges.client import CCXT, exchange_ids, unopened
from zvt_crypto.exchanges.objects import base_volume, columns_of, synthetic_ids
from zvt_crypto.exchanges.paging import Part, fetch_window, find_first, newest_page
from zvt_crypto.exchanges.rawrows import RowLayout
from zvt_crypto.exchanges.schemas import FUNDING, TRADES

#: In what amounts are counted: contracts, or base currency whatever the contract's size.
Unit = Literal["contracts", "base"]


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the public documents of an exchange say and ccxt does not.

    Attributes:
        candle_unit: In what the candles of contracts count their volume; None where nobody says.
        trade_unit: The same for trades and order books; ccxt means contracts where nothing else is known.
        candle_reach: Finished candles back from now beyond which the exchange refuses; None where there is no
            bound.
        trade_page: Most trades in one answer.
        book_depth: A depth that the exchange takes for pairs and perpetuals.
    """

    candle_unit: Unit | None = None
    trade_unit: Unit = "contracts"
    candle_reach: int | None = None
    trade_page: int = 100
    #: On the list of most exchanges that have one.
    book_depth: int = 20


_FACTS: Final[Mapping[str, _Facts]] = {
    # Sizes are in base currency, so ccxt has 1 for the size of a contract; for candles of inverse contracts
    # it takes the quote volume, which is a number of contracts of one dollar.
    # https://www.bitget.com/api-doc/contract/market/Get-Candle-Data and .../Get-Fills-History
    # Perpetuals take the depths 1, 5, 15, 50 and max.
    "bitget": _Facts(candle_unit="contracts", trade_unit="base", trade_page=1000, book_depth=50),
    # "v": number of contracts; "Candlestick too long ago. Maximum 10000 points recently are allowed", the
    # unfinished one among them.
    # https://www.gate.com/docs/developers/apiv4/#futures-market-k-line-chart
    "gate": _Facts(candle_unit="contracts", candle_reach=9_999, trade_page=1000),
}
#: Rows that a request asks for where ccxt does not tell how many it may: every exchange has so many.
_USUAL_PAGE: Final = 100
#: Hours between funding events where the exchange does not announce them.
_USUAL_FUNDING: Final = 8.0
#: Kinds of market that are never recorded, so that their lists need not be loaded.
_UNWANTED: Final = ("future", "option")
#: ccxt's ``precisionMode`` for steps such as 0.01; others count digits.
_TICK_SIZE: Final = 4

_MARKET_TYPE: Final = {PAIR: "spot", PERP: "swap"}
_CANDLES: Final = RowLayout(
    {"ts": pa.int64(), **dict.fromkeys(("open", "high", "low", "close", "volume"), pa.float64())}
)
_TRADE_FIELDS: Final = {
    "timestamp": pa.int64(),
    "id": pa.string(),
    "price": pa.float64(),
    "amount": pa.float64(),
    "side": pa.string(),
}
_FUNDING_FIELDS: Final = {"timestamp": pa.int64(), "fundingRate": pa.float64()}
_FUNDING_METHOD: Final = "fetch_funding_rate_history"
#: Methods whose requests are given an end where they take one.
_BOUNDED: Final = ("fetch_ohlcv", _FUNDING_METHOD)
_SECOND_MS: Final = 1000


class GenericVenue(Venue):
    """The provider of all other exchanges; ``of_exchange`` makes the class that serves one of them."""

    name = CCXT
    exchange = CCXT
    serves_many = True
    ccxt_ids: ClassVar[Mapping[str, str]] = {}
    #: What an exchange may serve at most.
    capabilities = Capabilities(
        entity_types=(PAIR, PERP),
        levels=tuple(LEVEL_MS),
        candle_page={PAIR: _USUAL_PAGE, PERP: _USUAL_PAGE},
        trades={PAIR: "recent", PERP: "recent"},
        trade_page={PAIR: _USUAL_PAGE, PERP: _USUAL_PAGE},
        funding="history",
        funding_page=_USUAL_PAGE,
        book_depths={PAIR: (_Facts().book_depth,), PERP: (_Facts().book_depth,)},
    )
    facts: ClassVar[_Facts] = _Facts()
    #: Unified methods that can be told where to end.
    takes_until: ClassVar[frozenset[str]] = frozenset()
    counts_digits: ClassVar[bool] = False

    @classmethod
    def of_exchange(cls, exchange: str | None) -> type[Venue]:
        """See ``Venue``; the exchange is named by ccxt's id."""
        if exchange is None and cls.exchange == CCXT:
            raise InvalidArgument(
                f"provider {CCXT} serves many exchanges, and none is named",
                suggestions=(f"name one by its id in ccxt, such as {', '.join(_FACTS)}",),
            )
        return cls if exchange in (None, cls.exchange) else _class_of(exchange)

    async def extras(
        self, entity_type: str, markets: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Where ccxt counts digits of prices and quantities instead of giving steps: no steps."""
        if not self.counts_digits:
            return {}
        return {market["id"]: {"price_step": None, "qty_step": None} for market in markets}

    async def fetch_candle_page(self, instrument: Instrument, level: str, start: int, end: int) -> pa.Table:
        """``since`` is inclusive; ``until`` may be or not, so it is one ms before the end.

        An exchange that cannot be told the end answers as many candles from the start on as it is told, so
        it is always told as many as make a page.
        """
        unit = self._candle_unit(instrument)
        until = self._until("fetch_ohlcv", end)
        page = self.capabilities.candle_page[instrument.entity_type]
        now = await self.client.now(instrument.entity_type)
        step = level_ms(level)
        candles = await self.client.unified(
            instrument.entity_type,
            "fetch_ohlcv",
            instrument.symbol,
            level,
            start,
            -(-(end - start) // step) if until else page,
            read=self._read_candles,
            params=until,
            subject=instrument.symbol,
        )
        candles = candles_asked_for(candles, start, None if until else end, page, now - 2 * step)
        return _with_amounts(candles, instrument, unit)

    async def find_listing(self, instrument: Instrument) -> int | None:
        """See ``Venue``; by the coarsest candles that the exchange has, None where it has none at all."""
        levels = self.capabilities.levels
        if "1d" in levels:
            return await super().find_listing(instrument)
        if not levels:
            return None
        level = max(levels, key=level_ms)

        async def fetch_page(start: int, end: int) -> pa.Table:
            return await self.fetch_candle_page(instrument, level, start, end)

        now = await self.client.now(instrument.entity_type)
        step, width = level_ms(level), self.capabilities.candle_page[instrument.entity_type]
        return await find_first(fetch_page, ceil_ms(now, step), step, width)

    def fetch_trades(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """The newest page: unified methods do not tell whether older trades can be had without a gap."""
        if instrument.entity_type not in self.capabilities.trades:
            return super().fetch_trades(instrument, start, end)
        return self._newest_trades(instrument, start, end)

    def fetch_funding(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """See ``Venue``."""
        if self.capabilities.funding is None or instrument.entity_type != PERP:
            return super().fetch_funding(instrument, start, end)
        if self.capabilities.funding == "recent":
            return self._newest_funding(instrument, start, end)
        return self._funding_history(instrument, start, end)

    async def fetch_order_book(self, instrument: Instrument, depth: int) -> pa.Table:
        """See ``Venue``."""
        if instrument.entity_type not in self.capabilities.book_depths:
            return await super().fetch_order_book(instrument, depth)
        kind, symbol = instrument.entity_type, instrument.symbol
        book = await self.client.unified(
            kind, "fetch_order_book", symbol, self.facts.book_depth, read=dict, subject=symbol
        )
        ts = book["timestamp"] or await self.client.now(kind)
        bids, asks = (self._book_side(instrument, book[side]) for side in ("bids", "asks"))
        return order_book_row(ts, book.get("nonce"), depth, bids, asks)

    async def _newest_trades(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        kind, symbol = instrument.entity_type, instrument.symbol
        limit = self.capabilities.trade_page[kind]
        read = partial(self._read_trades, instrument)
        rows = await self.client.unified(kind, "fetch_trades", symbol, None, limit, read=read, subject=symbol)
        yield newest_page(rows, start, end)

    async def _newest_funding(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        yield newest_page(await self._funding_rows(instrument, None, {}), start, end)

    async def _funding_history(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """In stretches that a page can hold, as exchanges differ in which end of a stretch they cut off."""

        async def fetch_page(lower: int, upper: int) -> pa.Table:
            return await self._funding_rows(instrument, lower, self._until(_FUNDING_METHOD, upper))

        hours = instrument.funding_interval_hours or _USUAL_FUNDING
        width = int(self.capabilities.funding_page * hours * HOUR_MS)
        for lower in range(start, end, width):
            upper = min(lower + width, end)
            window = await fetch_window(fetch_page, lower, upper, 1)
            yield Part(window.batch, lower, upper, window.requests)

    async def _funding_rows(
        self, instrument: Instrument, since: int | None, params: Mapping[str, Any]
    ) -> pa.Table:
        symbol, limit = instrument.symbol, self.capabilities.funding_page
        rows = await self.client.unified(
            instrument.entity_type,
            _FUNDING_METHOD,
            symbol,
            since,
            limit,
            read=self._read_funding,
            params=params,
            subject=symbol,
        )
        if since is None:
            return rows
        # Exchanges that count seconds round the start down. Rows further off are not what was asked for.
        ts = rows["ts"].to_numpy()
        return rows.filter(pa.array((ts >= since) | (ts <= since - _SECOND_MS)))

    def _read_candles(self, rows: Any) -> pa.Table:
        return self._timed(_CANDLES.from_lists(rows), "ts")

    def _read_funding(self, rows: Any) -> pa.Table:
        found = self._timed(columns_of(rows, _FUNDING_FIELDS), "timestamp")
        nothing = pa.nulls(found.num_rows, pa.float64())
        return pa.table([*found.columns, nothing], schema=FUNDING)

    def _read_trades(self, instrument: Instrument, rows: Any) -> pa.Table:
        found = self._timed(columns_of(rows, _TRADE_FIELDS, optional=("id", "side")), "timestamp")
        volume, ids = found["amount"], found["id"]
        if self.facts.trade_unit == "contracts":
            volume = pa.chunked_array(
                [base_volume(instrument, volume.to_numpy(), found["price"].to_numpy())], pa.float64()
            )
        if ids.null_count:
            made = synthetic_ids(found["timestamp"], found["price"], found["amount"], found["side"])
            ids = pc.coalesce(ids, made)
        nanosecond = pa.nulls(found.num_rows, pa.int64())
        columns = [found["timestamp"], ids, found["price"], volume, found["side"], nanosecond]
        return pa.table(columns, schema=TRADES)

    def _timed(self, rows: pa.Table, column: str) -> pa.Table:
        """The rows, unless one of them has no time: ccxt makes None of what it cannot read."""
        if rows[column].null_count:
            raise ProviderUnavailable(f"{self.exchange} sent rows without a time", exchange=self.exchange)
        return rows

    def _book_side(
        self, instrument: Instrument, levels: Sequence[Sequence[float]]
    ) -> list[tuple[float, float]]:
        prices, amounts = (np.array([level[i] for level in levels], np.float64) for i in (0, 1))
        if self.facts.trade_unit == "contracts":
            amounts = base_volume(instrument, amounts, prices)
        return list(zip(prices.tolist(), amounts.tolist(), strict=True))

    def _candle_unit(self, instrument: Instrument) -> Unit:
        """In what the candles count their volume.

        Raises:
            NotSupported: Nobody says, and it makes a difference.
        """
        if instrument.entity_type == PAIR:
            return "base"
        if self.facts.candle_unit is not None:
            return self.facts.candle_unit
        if instrument.contract_size == 1 and not instrument.inverse:
            return "base"
        raise NotSupported(
            f"nobody says whether the candles of {instrument.symbol} count contracts"
            f" (of size {instrument.contract_size}) or coins at {self.exchange}",
            suggestions=("record its trades, or the candles of another exchange",),
            exchange=self.exchange,
            subject=instrument.symbol,
        )

    def _until(self, method: str, end: int) -> dict[str, int]:
        return {"until": end - 1} if method in self.takes_until else {}


def candles_asked_for(candles: pa.Table, start: int, end: int | None, page: int, newest: int) -> pa.Table:
    """Candles without those beside what was asked for that an exchange may well send.

    Where it has none from ``start`` on it may page back from the end, or go on to the first that it has. What
    is left is outside of what was asked for only where the exchange takes no notice of the times.

    Args:
        candles: With a column ``ts``.
        start: First open time asked for, epoch ms.
        end: End of the open times, exclusive, where the exchange was not told; else None.
        page: How many candles it was asked for.
        newest: A page full of candles that goes on beyond this time is the newest there is, whatever was
            asked for: it is kept as it is.
    """
    ts = candles["ts"].to_numpy()
    keep = ts >= start
    if end is not None and not (len(ts) >= page and ts.max() > newest):
        keep &= ts < end
    return candles if keep.all() else candles.filter(pa.array(keep))


def _with_amounts(candles: pa.Table, instrument: Instrument, unit: Unit) -> pa.Table:
    """Candles in the columns of the tables, their volume in base currency."""
    turnover = pa.nulls(candles.num_rows, pa.float64())
    if unit == "contracts" and instrument.contract_size is not None:
        counted = candles["volume"].to_numpy()
        if instrument.inverse:
            # Contracts are worth a fixed amount of quote currency each, and about as much in base currency
            # as that buys at the last price.
            turnover = pa.array(counted * instrument.contract_size)
        volume = base_volume(instrument, counted, candles["close"].to_numpy())
        candles = candles.set_column(candles.schema.get_field_index("volume"), "volume", pa.array(volume))
    candles = candles.append_column("turnover", turnover)
    return candles.append_column("trade_count", pa.nulls(candles.num_rows, pa.int64()))


@cache
def _class_of(exchange: str) -> type[GenericVenue]:
    """The class for an exchange of ccxt's that no file of this package serves."""
    for venue in venues().values():
        if exchange == venue.name or exchange in venue.ccxt_ids.values():
            raise InvalidArgument(
                f"the exchange {exchange} has a provider of its own",
                suggestions=(f"use provider {venue.name}",),
            )
    known = exchange_ids()
    if exchange not in known:
        raise unknown_value(f"exchange of provider {CCXT}", exchange, known)
    described = unopened(exchange)
    facts = _FACTS.get(exchange, _Facts())
    capabilities = _capabilities(described, facts)
    return type(
        f"{GenericVenue.__name__}_{exchange}",
        (GenericVenue,),
        {
            "__module__": __name__,
            "exchange": exchange,
            "serves_many": False,
            "ccxt_ids": dict.fromkeys(capabilities.entity_types, exchange),
            "ccxt_options": {exchange: _options(described)},
            "capabilities": capabilities,
            "facts": facts,
            # Each method's documentation lists the parameters beyond the unified ones.
            "takes_until": frozenset(
                m for m in _BOUNDED if "params.until" in (getattr(described, m).__doc__ or "")
            ),
            "counts_digits": described.precisionMode != _TICK_SIZE,
        },
    )


def _capabilities(described: Any, facts: _Facts) -> Capabilities:
    """What ccxt's description of an exchange says it serves."""
    has = described.has
    kinds = tuple(kind for kind, market_type in _MARKET_TYPE.items() if has.get(market_type) is True)
    # Where candles are "emulated" ccxt makes them of the newest trades.
    levels = [level for level in LEVEL_MS if (described.timeframes or {}).get(level) is not None]
    funding: Reach | None = None
    if PERP in kinds and has.get("fetchFundingRateHistory") is True:
        documented = getattr(described, _FUNDING_METHOD).__doc__ or ""
        # What cannot be told where to end is often a page number's newest page, whatever ``since`` says.
        funding = "history" if "params.until" in documented else "recent"
    trades: dict[str, Reach] = dict.fromkeys(kinds, "recent") if has.get("fetchTrades") is True else {}
    return Capabilities(
        entity_types=kinds,
        levels=tuple(levels) if has.get("fetchOHLCV") is True else (),
        candle_page={kind: _limit(described, kind, "fetchOHLCV") for kind in kinds},
        candle_reach={kind: facts.candle_reach for kind in kinds if facts.candle_reach},
        trades=trades,
        trade_page=dict.fromkeys(trades, facts.trade_page),
        funding=funding,
        funding_page=_USUAL_PAGE,
        book_depths=dict.fromkeys(kinds, (facts.book_depth,)) if has.get("fetchOrderBook") is True else {},
    )


def _limit(described: Any, kind: str, method: str) -> int:
    """Most rows of a request by ccxt's ``features``, which are by market type and, for swaps, by margin."""
    features = (described.features or {}).get(_MARKET_TYPE[kind]) or {}
    if kind == PERP:
        features = features.get("linear") or features.get("inverse") or {}
    limit = (features.get(method) or {}).get("limit")
    return int(limit) if limit else _USUAL_PAGE


def _options(described: Any) -> dict[str, Any]:
    """Constructor options that leave dated futures and options out of the markets where they can be."""
    option = described.options.get("fetchMarkets")
    types = option.get("types") if isinstance(option, dict) else None
    if not isinstance(types, list):
        return {}
    return {"fetchMarkets": {"types": [kind for kind in types if kind not in _UNWANTED]}}
