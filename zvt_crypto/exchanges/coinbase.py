"""Coinbase, Advanced Trade: spot pairs.

https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/public/get-public-product-candles and
the pages beside it
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import DataQualityFailure
from zvt_crypto.core.levels import iso
from zvt_crypto.exchanges.base import Capabilities, Instrument, Venue
from zvt_crypto.exchanges.books import order_book_row
from zvt_crypto.exchanges.coinbase_rows import TIME, trade_table
from zvt_crypto.exchanges.coinbase_streams import CoinbaseStreams
from zvt_crypto.exchanges.endpoints import Endpoint
from zvt_crypto.exchanges.objects import columns_of
from zvt_crypto.exchanges.paging import Part

logger = logging.getLogger(__name__)

#: ``FOUR_HOUR`` is Coinbase's own; ccxt does not know it.
_GRANULARITIES: Final = {
    "1m": "ONE_MINUTE",
    "5m": "FIVE_MINUTE",
    "15m": "FIFTEEN_MINUTE",
    "30m": "THIRTY_MINUTE",
    "1h": "ONE_HOUR",
    "4h": "FOUR_HOUR",
    "1d": "ONE_DAY",
}
_CANDLE: Final = {
    "start": pa.int64(),
    **dict.fromkeys(("open", "high", "low", "close", "volume"), pa.float64()),
}
#: In the order of ``trade_table``.
_TRADE: Final = {
    "time": TIME,
    "trade_id": pa.string(),
    "price": pa.float64(),
    "size": pa.float64(),
    "side": pa.string(),
}
_LEVEL: Final = {"price": pa.float64(), "size": pa.float64()}
_SECOND: Final = 1000
#: The largest limit that is no error. Lately an answer has 100 trades at most, whatever the limit.
_TRADE_LIMIT: Final = 1000
_FULL_PAGES: Final = (100, _TRADE_LIMIT)


class Coinbase(Venue):
    """Candles come in descending order as objects of texts, those without a trade are left out.

    Its perpetuals (of Coinbase International) depend on where the user lives and are not served.
    """

    name = "coinbase"
    ccxt_ids = {"cryptopair": "coinbase"}
    endpoints = {
        "coinbase": Endpoint("https://api.coinbase.com", 34),
    }
    ccxt_options = {"coinbase": {"fetchCurrencies": False, "fetchTime": "v3PublicGetBrokerageTime"}}
    capabilities = Capabilities(
        entity_types=("cryptopair",),
        levels=tuple(_GRANULARITIES),
        candle_page={"cryptopair": 300},
        trades={"cryptopair": "history"},
        trade_page={"cryptopair": 100},
        book_depths={"cryptopair": (1000,)},
    )
    streams = CoinbaseStreams()

    async def fetch_candle_page(self, instrument: Instrument, level: str, start: int, end: int) -> pa.Table:
        """``start`` and ``end`` are in seconds, both inclusive; no candle opens in the last second."""
        answer = await self.client.call(
            instrument.entity_type,
            "v3PublicGetBrokerageMarketProductsProductIdCandles",
            {
                "product_id": instrument.native_id,
                "granularity": _GRANULARITIES[level],
                "start": start // _SECOND,
                "end": end // _SECOND - 1,
            },
            subject=instrument.symbol,
        )
        rows = columns_of(answer.get("candles"), _CANDLE)
        columns = {name: rows[name] for name in ("open", "high", "low", "close", "volume")}
        return pa.table(
            {
                "ts": pc.multiply(rows["start"], _SECOND),
                **columns,
                "turnover": pa.nulls(rows.num_rows, pa.float64()),
                "trade_count": pa.nulls(rows.num_rows, pa.int64()),
            }
        )

    async def fetch_trades(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """Back from the end, second by second: there is no cursor, and times have no finer digits.

        A page that is full to its last second may lack earlier trades of that second, and nothing leads to
        them: the spans of the parts leave them out.
        """
        upper, until = end, -(-end // _SECOND)
        while upper > start:
            requests = 1
            rows, count = await self._newest_before(instrument, start, until)
            if not rows.num_rows:  # not believed at once
                requests = 2
                rows, count = await self._newest_before(instrument, start, until)
            first = pc.min(rows["ts"]).as_py()
            inside = rows.filter(pc.and_(pc.less(rows["ts"], end), pc.greater_equal(rows["ts"], start)))
            if first is None or first < start:
                yield Part(inside, start, upper, requests)
                return
            second = first // _SECOND
            if second + 1 < until:
                # That second may go on in the next page, which begins with all of it.
                until, resume = second + 1, first + 1
            else:
                until, resume = second, second * _SECOND
            is_cut = until == second and count in _FULL_PAGES
            if is_cut:
                logger.warning(
                    "coinbase answers only the newest %d trades of %s in the second of %s",
                    count,
                    instrument.symbol,
                    iso(first),
                )
            yield Part(inside, max(start, min(upper, first + 1 if is_cut else resume)), upper, requests)
            upper = min(upper, resume)

    async def fetch_order_book(self, instrument: Instrument, depth: int) -> pa.Table:
        """Books have a time but no number."""
        answer = await self.client.call(
            instrument.entity_type,
            "v3PublicGetBrokerageMarketProductBook",
            {"product_id": instrument.native_id, "limit": depth},
            subject=instrument.symbol,
        )
        book = answer.get("pricebook")
        time = columns_of([book], {"time": TIME})["time"]
        ts = pc.divide(pc.cast(time, pa.int64()), 1_000_000)[0].as_py()
        return order_book_row(ts, None, depth, _side(book.get("bids")), _side(book.get("asks")))

    async def _newest_before(self, instrument: Instrument, start: int, until: int) -> tuple[pa.Table, int]:
        """The newest trades from ``start`` to the second ``until``, and how many the answer had."""
        answer = await self.client.call(
            instrument.entity_type,
            "v3PublicGetBrokerageMarketProductsProductIdTicker",
            {
                "product_id": instrument.native_id,
                # Whether the bounds are inclusive is not documented: one second more leaves nothing out.
                "start": start // _SECOND - 1,
                "end": until,
                "limit": _TRADE_LIMIT,
            },
            subject=instrument.symbol,
        )
        rows = _trades(answer.get("trades"))
        newest = pc.max(rows["ts"]).as_py()
        if newest is not None and newest >= (until + 1) * _SECOND:
            raise DataQualityFailure(
                f"coinbase answers the trades of {instrument.symbol} before {iso(until * _SECOND)} with"
                f" one of {iso(newest)}: the same page again, or another range"
            )
        before = rows.filter(pc.less(rows["ts"], until * _SECOND))
        return before, pc.count_distinct(rows["trade_id"]).as_py()


def _trades(listed: Any) -> pa.Table:
    return trade_table(*columns_of(listed, _TRADE, optional=("side",)).columns)


def _side(levels: Any) -> list[tuple[float, float]]:
    rows = columns_of(levels, _LEVEL)
    return list(zip(rows["price"].to_pylist(), rows["size"].to_pylist(), strict=True))
