"""Binance: spot and USD-M perpetuals.

https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints and
https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import DAY_MS, LEVEL_MS, level_ms
from zvt_crypto.exchanges import binance_archive
from zvt_crypto.exchanges.archive_files import ArchiveFile
from zvt_crypto.exchanges.base import Capabilities, Instrument, Venue
from zvt_crypto.exchanges.binance_streams import BinanceStreams
from zvt_crypto.exchanges.books import LEVEL, order_book_row
from zvt_crypto.exchanges.endpoints import Endpoint
from zvt_crypto.exchanges.headers import UsedWeight
from zvt_crypto.exchanges.objects import columns_of
from zvt_crypto.exchanges.paging import Part, walk_up
from zvt_crypto.exchanges.rawrows import SKIP, RowLayout
from zvt_crypto.exchanges.schemas import FUNDING, TRADES

_KLINES: Final = RowLayout(
    {
        "ts": pa.int64(),
        "open": pa.float64(),
        "high": pa.float64(),
        "low": pa.float64(),
        "close": pa.float64(),
        "volume": pa.float64(),
        "close time": SKIP,
        "turnover": pa.float64(),
        "trade_count": pa.int64(),
        "taker base volume": SKIP,
        "taker quote volume": SKIP,
        "unused": SKIP,
    }
)
_METHOD: Final = {"cryptopair": "publicGetKlines", "cryptoperp": "fapiPublicGetKlines"}
_TRADE_METHOD: Final = {"cryptopair": "publicGetAggTrades", "cryptoperp": "fapiPublicGetAggTrades"}
#: Aggregate id, price, quantity, time, whether the buyer was the maker.
_TRADE: Final = {"a": pa.int64(), "p": pa.float64(), "q": pa.float64(), "T": pa.int64(), "m": pa.bool_()}
_TRADE_PAGE: Final = 1000
#: Futures trades are served "not older than one year".
_FUTURES_TRADES_MS: Final = 365 * DAY_MS
_PAYMENT_METHOD: Final = {"cryptoperp": "fapiPublicGetFundingRate"}
_PAYMENT: Final = {"fundingTime": pa.int64(), "fundingRate": pa.float64(), "markPrice": pa.float64()}
_BOOK_METHOD: Final = {"cryptopair": "publicGetDepth", "cryptoperp": "fapiPublicGetDepth"}
_BOOK_STATE: Final = {"lastUpdateId": pa.int64(), "T": pa.int64()}
_OPTIONS: Final = {"fetchCurrencies": False, "fetchMargins": False}
#: Hours between funding payments of the contracts that ``fundingInfo`` does not list.
_USUAL_FUNDING: Final = 8.0
#: Rate limits, in the general information on the API of both.
_WEIGHT_HEADER: Final = "X-MBX-USED-WEIGHT-1M"
_NEVER: Final = 4_133_404_800_000


class Binance(Venue):
    """Rows come in ascending order, up to 1,000 a request, the unfinished candle included."""

    name = "binance"
    ccxt_ids = {"cryptopair": "binance", "cryptoperp": "binanceusdm"}
    endpoints = {
        "binance": Endpoint("https://api.binance.com", 50, UsedWeight(_WEIGHT_HEADER, 6000)),
        "binanceusdm": Endpoint("https://fapi.binance.com", 50, UsedWeight(_WEIGHT_HEADER, 2400)),
    }
    ccxt_options = {
        "binance": {**_OPTIONS, "fetchMarkets": {"types": ["spot"]}},
        "binanceusdm": {**_OPTIONS, "fetchMarkets": {"types": ["linear"]}},
    }
    capabilities = Capabilities(
        entity_types=("cryptopair", "cryptoperp"),
        levels=tuple(LEVEL_MS),
        candle_page={"cryptopair": 1000, "cryptoperp": 1000},
        trades={"cryptopair": "history", "cryptoperp": "history"},
        trade_page={"cryptopair": _TRADE_PAGE, "cryptoperp": _TRADE_PAGE},
        funding="history",
        funding_page=1000,
        book_depths={"cryptopair": (5000,), "cryptoperp": (5, 10, 20, 50, 100, 500, 1000)},
    )
    streams = BinanceStreams()

    async def fetch_candle_page(self, instrument: Instrument, level: str, start: int, end: int) -> pa.Table:
        """``startTime`` and ``endTime`` are both inclusive."""
        params = {
            "symbol": instrument.native_id,
            "interval": level,
            "startTime": start,
            "endTime": end - 1,
            "limit": -(-(end - start) // level_ms(level)),
        }
        return await self._klines(instrument, params)

    async def fetch_trades(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """Aggregates: what one taker's order filled at one price (futures: within 100 ms) is one trade.

        From the first one at or after ``startTime``, however much later that is, on by ``fromId``; both are
        inclusive. ``endTime`` is not sent: with it, futures take no more than an hour.
        """
        if instrument.entity_type == "cryptoperp":
            start = max(start, await self.client.now("cryptoperp") - _FUTURES_TRADES_MS)
            if start >= end:
                yield Part(TRADES.empty_table(), end, end, requests=0)

        async def ask(cursor: Mapping[str, int]) -> tuple[pa.Table, Mapping[str, int] | None]:
            params = {"symbol": instrument.native_id, **cursor, "limit": _TRADE_PAGE}
            rows = columns_of(await self._call(instrument, _TRADE_METHOD, params), _TRADE)
            return _trades(rows), {"fromId": pc.max(rows["a"]).as_py() + 1} if rows.num_rows else None

        async for part in walk_up(ask, {"startTime": start}, start, end):
            yield part

    def fetch_funding(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """``startTime`` and ``endTime`` are both inclusive, and the first events between them are answered.

        A page that is not full is the last one: by the document all events between the bounds come, unless
        there are more than ``limit``. To ask once more would cost a third of what is allowed (500 requests
        in five minutes for all contracts).
        """
        if instrument.entity_type != "cryptoperp":
            return super().fetch_funding(instrument, start, end)
        page = self.capabilities.funding_page

        async def ask(since: int) -> tuple[pa.Table, int | None]:
            params = {
                "symbol": instrument.native_id,
                "startTime": since,
                "endTime": end - 1,
                "limit": page,
            }
            rows = _payments(await self._call(instrument, _PAYMENT_METHOD, params))
            return rows, pc.max(rows["ts"]).as_py() + 1 if rows.num_rows >= page else None

        return walk_up(ask, start, start, end)

    async def fetch_order_book(self, instrument: Instrument, depth: int) -> pa.Table:
        """Futures: ``T``, the time of the last change. Spot books have no time."""
        params = {"symbol": instrument.native_id, "limit": depth}
        book = await self._call(instrument, _BOOK_METHOD, params)
        state = columns_of([book], _BOOK_STATE, optional=("T",)).to_pylist()[0]
        ts = state["T"] or await self.client.now(instrument.entity_type)
        sides = (LEVEL.from_lists(book.get(side)) for side in ("bids", "asks"))
        bids, asks = (list(zip(*(column.to_pylist() for column in side), strict=True)) for side in sides)
        return order_book_row(ts, state["lastUpdateId"], depth, bids, asks)

    async def find_listing(self, instrument: Instrument) -> int | None:
        """One request: from time 0 on, the first daily candle is answered."""
        params = {"symbol": instrument.native_id, "interval": "1d", "startTime": 0, "limit": 1}
        rows = await self._klines(instrument, params)
        return rows["ts"][0].as_py() if rows.num_rows else None

    def archive_files(
        self, instrument: Instrument, feed: str, level: str | None, start: int, end: int, now: int
    ) -> list[ArchiveFile]:
        """See ``binance_archive``."""
        kind, symbol = instrument.entity_type, instrument.native_id
        return binance_archive.files(kind, symbol, feed, level, start, end, now)

    def fetch_archive(
        self, instrument: Instrument, feed: str, level: str | None, file: ArchiveFile
    ) -> AsyncIterator[Part]:
        """See ``binance_archive``."""
        return binance_archive.fetch(self.client, instrument.entity_type, feed, file)

    async def extras(
        self, entity_type: str, markets: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """For perpetuals the end of trading and, by a request, the funding interval."""
        if entity_type != "cryptoperp":
            return {}
        answer = await self.client.call(entity_type, "fapiPublicGetFundingInfo", {})
        hours = {row["symbol"]: float(row["fundingIntervalHours"]) for row in answer}
        return {
            market["id"]: {
                "funding_interval_hours": hours.get(market["id"], _USUAL_FUNDING),
                "end_date": _end_of_trading(market["info"]),
            }
            for market in markets
        }

    async def _call(
        self, instrument: Instrument, methods: Mapping[str, str], params: Mapping[str, Any]
    ) -> Any:
        kind = instrument.entity_type
        return await self.client.call(kind, methods[kind], params, subject=instrument.symbol)

    async def _klines(self, instrument: Instrument, params: Mapping[str, Any]) -> pa.Table:
        return await self.client.rows(
            instrument.entity_type,
            _METHOD[instrument.entity_type],
            params,
            _KLINES,
            subject=instrument.symbol,
        )


def _end_of_trading(contract: Mapping[str, Any]) -> int | None:
    """When a perpetual is delisted; until that is known Binance says the end of 2100."""
    date = int(contract.get("deliveryDate") or _NEVER)
    return date if date < _NEVER else None


def _trades(rows: pa.Table) -> pa.Table:
    columns = {
        "ts": rows["T"],
        "trade_id": pc.cast(rows["a"], pa.string()),
        "price": rows["p"],
        "volume": rows["q"],
        # Where the buyer was the maker, the taker sold.
        "side": pc.if_else(rows["m"], "sell", "buy"),
        "nanosecond": pa.nulls(rows.num_rows, pa.int64()),
    }
    return pa.table(columns, TRADES)


def _payments(answer: Any) -> pa.Table:
    # Old events have an empty text as mark price.
    rows = columns_of(answer, _PAYMENT, optional=("markPrice",))
    return pa.table(rows.columns, FUNDING)
