"""KuCoin: spot, linear and inverse perpetuals.

https://www.kucoin.com/docs-new/rest/spot-trading/market-data/get-klines,
https://www.kucoin.com/docs-new/rest/futures-trading/market-data/get-klines and the pages beside them
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import HOUR_MS, MINUTE_MS, level_ms
from zvt_crypto.exchanges.base import Capabilities, Instrument, Venue
from zvt_crypto.exchanges.books import LEVEL, book_side, order_book_row
from zvt_crypto.exchanges.endpoints import Endpoint
from zvt_crypto.exchanges.kucoin_candles import (
    CONTRACT_CANDLES,
    SPOT_CANDLES,
    TYPES,
    contract_page,
    spot_page,
)
from zvt_crypto.exchanges.kucoin_streams import KucoinStreams
from zvt_crypto.exchanges.objects import base_volume, columns_of, split_time
from zvt_crypto.exchanges.paging import Part, newest_page, walk_down
from zvt_crypto.exchanges.rawrows import RowLayout
from zvt_crypto.exchanges.schemas import FUNDING, TRADES

_FILL: Final = {"price": pa.float64(), "size": pa.float64(), "side": pa.string()}
#: Names of the id and of the time (nanoseconds) of a trade.
_FILL_NAMES: Final = {"cryptopair": ("sequence", "time"), "cryptoperp": ("tradeId", "ts")}
_FILLS: Final = {"cryptopair": "publicGetMarketHistories", "cryptoperp": "futuresPublicGetTradeHistory"}
_PAYMENT: Final = {"timepoint": pa.int64(), "fundingRate": pa.float64()}
_BOOKS: Final = {
    ("cryptopair", 20): "publicGetMarketOrderbookLevel220",
    ("cryptopair", 100): "publicGetMarketOrderbookLevel2100",
    ("cryptoperp", 20): "futuresPublicGetLevel2Depth20",
    ("cryptoperp", 100): "futuresPublicGetLevel2Depth100",
}


class Kucoin(Venue):
    """Two APIs: spot rows descend, those of contracts ascend and count lots.

    Candles without trades are left out, the unfinished one is included.
    """

    name = "kucoin"
    ccxt_ids = {"cryptopair": "kucoin", "cryptoperp": "kucoinfutures"}
    endpoints = {
        "kucoin": Endpoint("https://api.kucoin.com", 7.5),
        "kucoinfutures": Endpoint("https://api-futures.kucoin.com", 7.5),
    }
    ccxt_options = {
        "kucoin": {
            "fetchMarkets": {"types": ["spot"], "fetchTickersFees": False},
            "fetchCurrencies": False,
        },
        "kucoinfutures": {"fetchCurrencies": False},
    }
    capabilities = Capabilities(
        entity_types=("cryptopair", "cryptoperp"),
        levels=tuple(TYPES),
        candle_page={"cryptopair": 1500, "cryptoperp": 500},
        trades={"cryptopair": "recent", "cryptoperp": "recent"},
        trade_page={"cryptopair": 100, "cryptoperp": 100},
        funding="history",
        funding_page=100,
        book_depths={"cryptopair": (20, 100), "cryptoperp": (20, 100)},
    )
    streams = KucoinStreams()

    async def fetch_candle_page(self, instrument: Instrument, level: str, start: int, end: int) -> pa.Table:
        """``startAt`` and ``from`` are inclusive.

        KuCoin does not document whether ``endAt`` and ``to`` are. They lie before the end and after the last
        candle, where both readings give the same rows.
        """
        if instrument.entity_type == "cryptopair":
            params = {"type": TYPES[level], "startAt": -(-start // 1000), "endAt": (end - 1) // 1000}
            return spot_page(await self._candles(instrument, "publicGetMarketCandles", params, SPOT_CANDLES))
        params = {"granularity": level_ms(level) // MINUTE_MS, "from": start, "to": end - 1}
        rows = await self._candles(instrument, "futuresPublicGetKlineQuery", params, CONTRACT_CANDLES)
        return contract_page(instrument, rows)

    async def fetch_trades(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """The newest page is all that there is; no parameter leads further back."""
        kind = instrument.entity_type
        answer = await self._call(instrument, _FILLS[kind], {})
        yield newest_page(_trades(instrument, answer.get("data")), start, end)

    def fetch_funding(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """Back from the end; ``from`` and ``to`` are both inclusive.

        KuCoin cuts long answers and does not document where. So a request is about as much time as a page of
        payments takes, and the next one ends where the rows began.
        """
        if instrument.entity_type != "cryptoperp":
            return super().fetch_funding(instrument, start, end)
        hours = instrument.funding_interval_hours or 1.0
        width = int(self.capabilities.funding_page * hours * HOUR_MS)

        async def ask(until: int) -> tuple[pa.Table, int | None]:
            since = max(start, until - width + 1)
            params = {"from": since, "to": until}
            answer = await self._call(instrument, "futuresPublicGetContractFundingRates", params)
            rows = _payments(answer.get("data"))
            # A contract has one payment at a time, so nothing hides behind the oldest.
            following = (pc.min(rows["ts"]).as_py() if rows.num_rows else since) - 1
            return rows, following if following >= start else None

        return walk_down(ask, end - 1, start, end)

    async def fetch_order_book(self, instrument: Instrument, depth: int) -> pa.Table:
        """KuCoin's time and ``sequence``; contracts tell the time in nanoseconds."""
        answer = await self._call(instrument, _BOOKS[instrument.entity_type, depth], {})
        book = answer.get("data")
        clock, unit = ("time", 1) if instrument.entity_type == "cryptopair" else ("ts", 1_000_000)
        state = columns_of([book], {clock: pa.int64(), "sequence": pa.int64()}).to_pylist()[0]
        bids, asks = (book_side(instrument, LEVEL.from_lists(book.get(side))) for side in ("bids", "asks"))
        return order_book_row(state[clock] // unit, state["sequence"], depth, bids, asks)

    async def extras(
        self, entity_type: str, markets: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """What the list of markets says beyond ccxt's form; without a request."""
        describe = _pair if entity_type == "cryptopair" else _contract
        return {market["id"]: describe(market["info"]) for market in markets}

    async def _candles(
        self, instrument: Instrument, method: str, params: Mapping[str, Any], layout: RowLayout
    ) -> pa.Table:
        return await self.client.rows(
            instrument.entity_type,
            method,
            {"symbol": instrument.native_id, **params},
            layout,
            subject=instrument.symbol,
        )

    async def _call(self, instrument: Instrument, method: str, params: Mapping[str, Any]) -> Any:
        return await self.client.call(
            instrument.entity_type,
            method,
            {"symbol": instrument.native_id, **params},
            subject=instrument.symbol,
        )


def _trades(instrument: Instrument, listed: Any) -> pa.Table:
    """``side`` is the taker's."""
    number, time = _FILL_NAMES[instrument.entity_type]
    rows = columns_of(listed, {number: pa.string(), time: pa.int64(), **_FILL})
    ts, nanosecond = split_time(rows[time])
    columns = {
        "ts": ts,
        "trade_id": rows[number],
        "price": rows["price"],
        "volume": base_volume(instrument, rows["size"].to_numpy(), rows["price"].to_numpy()),
        "side": rows["side"],
        "nanosecond": nanosecond,
    }
    return pa.table(columns, TRADES)


def _payments(listed: Any) -> pa.Table:
    rows = columns_of(listed, _PAYMENT)
    return pa.table([rows["timepoint"], rows["fundingRate"], pa.nulls(rows.num_rows, pa.float64())], FUNDING)


def _pair(info: Mapping[str, Any]) -> dict[str, Any]:
    """The smallest value of any order (ccxt has that of a market order), and the end of a call auction."""
    known: dict[str, Any] = {}
    if info.get("minFunds"):
        known["min_notional"] = float(info["minFunds"])
    if info.get("tradingStartTime"):
        known["list_date"] = int(info["tradingStartTime"])
    return known


def _contract(info: Mapping[str, Any]) -> dict[str, Any]:
    granularity = info.get("fundingRateGranularity")
    return {"funding_interval_hours": granularity / HOUR_MS if granularity else None}
