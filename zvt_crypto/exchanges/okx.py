"""OKX: spot and perpetual swaps.

https://www.okx.com/docs-v5/en/#order-book-trading-market-data
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import ProviderUnavailable
from zvt_crypto.core.levels import DAY_MS, iso, level_ms
from zvt_crypto.exchanges.base import Capabilities, Instrument, Venue
from zvt_crypto.exchanges.books import LEVEL, book_side, order_book_row
from zvt_crypto.exchanges.endpoints import Endpoint
from zvt_crypto.exchanges.objects import base_volume, columns_of
from zvt_crypto.exchanges.okx_streams import OkxStreams
from zvt_crypto.exchanges.paging import Part, walk_down
from zvt_crypto.exchanges.rawrows import RowLayout
from zvt_crypto.exchanges.schemas import FUNDING, TRADES

T = TypeVar("T")

#: A day's bar without ``utc`` opens at 16:00 UTC, which is midnight in Hong Kong.
_BARS: Final = {"1m": "1m", "5m": "5m", "15m": "15m", "30m": "30m", "1h": "1H", "4h": "4H", "1d": "1Dutc"}
#: Bars that the endpoint for recent candles reaches back.
_RECENT_BARS: Final = 1440

_CANDLES: Final = RowLayout(
    {
        "ts": pa.int64(),
        "open": pa.float64(),
        "high": pa.float64(),
        "low": pa.float64(),
        "close": pa.float64(),
        "vol": pa.float64(),
        "volCcy": pa.float64(),
        "turnover": pa.float64(),
        "confirm": pa.int64(),
    },
    path=("data",),
)
#: How far trades and funding events surely reach back: "three months", which are 89 days at their shortest.
_THREE_MONTHS_MS: Final = 89 * DAY_MS
_TRADE: Final = {
    "tradeId": pa.int64(),
    "px": pa.float64(),
    "sz": pa.float64(),
    "side": pa.string(),
    "ts": pa.int64(),
}
_PAYMENT: Final = {"fundingTime": pa.int64(), "realizedRate": pa.float64()}
_BOOK_STATE: Final = {"ts": pa.int64(), "seqId": pa.int64()}


class Okx(Venue):
    """Rows come in descending order; candles up to 300 a request, from one of two endpoints by age.

    Trades and funding events are paged back from a time, so their reach is ``history``, but OKX keeps them
    for three months only: what is older is in no part. Sizes of swaps are contracts.
    """

    name = "okx"
    ccxt_ids = {"cryptopair": "okx", "cryptoperp": "okx"}
    endpoints = {
        "okx": Endpoint("https://www.okx.com", 110),
    }
    ccxt_options = {"okx": {"fetchMarkets": {"types": ["spot", "swap"]}, "fetchCurrencies": False}}
    capabilities = Capabilities(
        entity_types=("cryptopair", "cryptoperp"),
        levels=tuple(_BARS),
        candle_page={"cryptopair": 300, "cryptoperp": 300},
        trades={"cryptopair": "history", "cryptoperp": "history"},
        trade_page={"cryptopair": 100, "cryptoperp": 100},
        funding="history",
        funding_page=400,
        book_depths={"cryptopair": (400,), "cryptoperp": (400,)},
    )
    streams = OkxStreams()

    async def fetch_candle_page(self, instrument: Instrument, level: str, start: int, end: int) -> pa.Table:
        """``before`` and ``after`` are both exclusive.

        The unfinished candle is left out. One that is finished but that OKX has not confirmed yet fails the
        page, so that it is asked for again: left out, it would count as not existing.
        """
        step = level_ms(level)
        now = await self.client.now(instrument.entity_type)
        is_recent = start > now - (_RECENT_BARS - 1) * step
        method = "publicGetMarketCandles" if is_recent else "publicGetMarketHistoryCandles"
        params = {
            "instId": instrument.native_id,
            "bar": _BARS[level],
            "before": start - 1,
            "after": end,
            "limit": -(-(end - start) // step),
        }

        def judge(rows: pa.Table) -> None:
            pending = pc.equal(rows["confirm"], 0)
            late = rows["ts"].filter(pc.and_(pending, pc.less_equal(rows["ts"], now - step)))
            if len(late):
                raise ProviderUnavailable(
                    f"okx has not confirmed {instrument.symbol} {level} of {iso(late[0].as_py())} yet",
                    exchange=self.name,
                )

        rows = await self.client.rows(
            instrument.entity_type, method, params, _CANDLES, subject=instrument.symbol, judge=judge
        )
        rows = rows.filter(pc.equal(rows["confirm"], 1))
        # Spot counts ``vol`` in base currency, swaps in contracts; ``volCcy`` of a swap is its base currency.
        volume = rows["vol" if instrument.entity_type == "cryptopair" else "volCcy"]
        columns = {name: rows[name] for name in ("ts", "open", "high", "low", "close")}
        columns |= {"volume": volume, "turnover": rows["turnover"]}
        columns["trade_count"] = pa.nulls(rows.num_rows, pa.int64())
        return pa.table(columns)

    async def fetch_trades(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """Back from ``end``: the first page ends before a time (``type=2``), the others before a trade's id.

        ``after``, which means older, is exclusive. A page of ids goes on inside a millisecond.
        """
        start = max(start, await self._oldest(instrument))
        if start >= end:
            yield Part(TRADES.empty_table(), end, end, requests=0)

        async def ask(cursor: Mapping[str, int]) -> tuple[pa.Table, Mapping[str, int] | None]:
            rows = columns_of(await self._list(instrument, "publicGetMarketHistoryTrades", cursor), _TRADE)
            following = {"type": 1, "after": pc.min(rows["tradeId"]).as_py()} if rows.num_rows else None
            return _trades(instrument, rows), following

        async for part in walk_down(ask, {"type": 2, "after": end}, start, end):
            yield part

    async def fetch_funding(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """Back from ``end``; ``after``, which means older, is exclusive.

        ``realizedRate`` is what was paid, ``fundingRate`` what had been predicted.
        """
        if instrument.entity_type != "cryptoperp":
            # Raises that there are none.
            super().fetch_funding(instrument, start, end)
        start = max(start, await self._oldest(instrument))
        if start >= end:
            yield Part(FUNDING.empty_table(), end, end, requests=0)

        async def ask(before: int) -> tuple[pa.Table, int | None]:
            cursor = {"after": before, "limit": self.capabilities.funding_page}
            rows = _payments(await self._list(instrument, "publicGetPublicFundingRateHistory", cursor))
            # A swap has one payment at a time, so nothing hides behind the oldest.
            return rows, pc.min(rows["ts"]).as_py() if rows.num_rows else None

        async for part in walk_down(ask, end, start, end):
            yield part

    async def fetch_order_book(self, instrument: Instrument, depth: int) -> pa.Table:
        """``ts`` is when the book was made; ``seqId`` numbers its states, where the answer has it."""
        books = await self._list(instrument, "publicGetMarketBooks", {"sz": depth})
        states = columns_of(books, _BOOK_STATE, optional=("seqId",)).to_pylist()
        if not states:
            raise ProviderUnavailable(f"okx sent no order book of {instrument.symbol}", exchange=self.name)
        state = states[0]
        sides = (LEVEL.from_lists(books[0].get(name)) for name in ("bids", "asks"))
        bids, asks = (book_side(instrument, side) for side in sides)
        return order_book_row(state["ts"], state["seqId"], depth, bids, asks)

    async def extras(
        self, entity_type: str, markets: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """The largest limit order and the end of trading, from the list of instruments itself."""
        return {
            market["id"]: {
                "max_qty": _number(market["info"].get("maxLmtSz"), float),
                "end_date": _number(market["info"].get("expTime"), int),
            }
            for market in markets
        }

    async def _oldest(self, instrument: Instrument) -> int:
        """First time of which there are trades and funding events for sure, epoch ms."""
        return await self.client.now(instrument.entity_type) - _THREE_MONTHS_MS

    async def _list(self, instrument: Instrument, method: str, params: Mapping[str, Any]) -> Any:
        """The rows of an answer; None where there are none, which their readers refuse."""
        answer = await self.client.call(
            instrument.entity_type,
            method,
            {"instId": instrument.native_id, **params},
            subject=instrument.symbol,
        )
        return answer.get("data") if isinstance(answer, dict) else None


def _trades(instrument: Instrument, rows: pa.Table) -> pa.Table:
    columns = {
        "ts": rows["ts"],
        "trade_id": pc.cast(rows["tradeId"], pa.string()),
        "price": rows["px"],
        "volume": base_volume(instrument, rows["sz"].to_numpy(), rows["px"].to_numpy()),
        "side": rows["side"],
        "nanosecond": pa.nulls(rows.num_rows, pa.int64()),
    }
    return pa.table(columns, TRADES)


def _payments(listed: Any) -> pa.Table:
    rows = columns_of(listed, _PAYMENT)
    return pa.table([*rows.columns, pa.nulls(rows.num_rows, pa.float64())], FUNDING)


def _number(text: str | None, kind: Callable[[str], T]) -> T | None:
    """OKX writes an empty text where there is no value."""
    return kind(text) if text else None
