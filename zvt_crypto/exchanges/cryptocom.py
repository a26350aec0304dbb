"""Crypto.com Exchange: spot and perpetuals.

https://exchange-docs.crypto.com/exchange/v1/rest-ws/index.html#public-get-candlestick and the methods beside
it
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, level_ms
from zvt_crypto.exchanges.base import Capabilities, Instrument, Venue
from zvt_crypto.exchanges.books import LEVEL, book_side, order_book_row
from zvt_crypto.exchanges.connection import Clock
from zvt_crypto.exchanges.cryptocom_rows import CANDLE, TIMEFRAMES, TRADE, candle_table, trade_table
from zvt_crypto.exchanges.cryptocom_streams import CryptocomStreams
from zvt_crypto.exchanges.endpoints import Endpoint
from zvt_crypto.exchanges.objects import columns_of, split_time
from zvt_crypto.exchanges.paging import Part, walk_down
from zvt_crypto.exchanges.schemas import FUNDING

_TIMED_TRADE: Final = {"tn": pa.int64(), **TRADE}
_VALUATION: Final = {"t": pa.int64(), "v": pa.float64()}
_MOST_CANDLES: Final = 300
_MOST_TRADES: Final = 150
_MOST_FUNDINGS: Final = 100
_NS: Final = 1_000_000
#: The longest time between ``start_ts`` and ``end_ts`` of trades, by the oldest of its documents.
_TRADE_WINDOW: Final = DAY_MS * _NS


class Cryptocom(Venue):
    """One list of instruments, one path for each kind of data; perpetuals are settled in dollars.

    No method tells the time: the mark price of bitcoin, published each second, is what comes nearest.
    """

    name = "cryptocom"
    ccxt_ids = {"cryptopair": "cryptocom", "cryptoperp": "cryptocom"}
    endpoints = {
        "cryptocom": Endpoint("https://api.crypto.com", 10),
    }
    ccxt_options = {"cryptocom": {"fetchCurrencies": False}}
    clocks = {
        "cryptocom": Clock(
            "v1PublicGetPublicGetValuations",
            ("result", "data", 0, "t"),
            {"instrument_name": "BTCUSD-PERP", "valuation_type": "mark_price", "count": 1},
        )
    }
    capabilities = Capabilities(
        entity_types=("cryptopair", "cryptoperp"),
        levels=tuple(TIMEFRAMES),
        candle_page={"cryptopair": _MOST_CANDLES, "cryptoperp": _MOST_CANDLES},
        trades={"cryptopair": "history", "cryptoperp": "history"},
        trade_page={"cryptopair": _MOST_TRADES, "cryptoperp": _MOST_TRADES},
        funding="history",
        funding_page=_MOST_FUNDINGS,
        book_depths={"cryptopair": (50,), "cryptoperp": (50,)},
    )
    streams = CryptocomStreams()

    async def fetch_candle_page(self, instrument: Instrument, level: str, start: int, end: int) -> pa.Table:
        """Whether the bounds are inclusive is not documented.

        So ``start_ts`` is one candle earlier, as ccxt has it, and that candle is left out where it comes;
        ``end_ts`` lies between two open times.
        """
        step = level_ms(level)
        params = {
            "timeframe": TIMEFRAMES[level],
            "start_ts": start - step,
            "end_ts": end - 1,
            "count": min(-(-(end - start) // step) + 1, _MOST_CANDLES),
        }
        rows = columns_of(await self._data(instrument, "Candlestick", params), CANDLE)
        rows = rows.filter(pc.not_equal(rows["t"], start - step))
        return candle_table(instrument, rows)

    def fetch_trades(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """Back from the end by nanoseconds: ``start_ts`` is inclusive, ``end_ts`` exclusive."""

        async def ask(until: int) -> tuple[pa.Table, int | None]:
            since = until - _TRADE_WINDOW
            params = {"start_ts": since, "end_ts": until, "count": _MOST_TRADES}
            rows = columns_of(await self._data(instrument, "Trades", params), _TIMED_TRADE)
            oldest = pc.min(rows["tn"]).as_py()
            if oldest is None:
                return _trades(instrument, rows), since if since > start * _NS else None
            if pc.max(rows["tn"]).as_py() > until:
                return _trades(instrument, rows), until  # another range: the walk says so
            if oldest + 1 == until and rows.num_rows < _MOST_TRADES:
                # Only what was at the end of the page before: nothing else is as old.
                return _trades(instrument, rows), oldest
            # Trades of the same nanosecond may not have fitted in.
            return _trades(instrument, rows), oldest + 1

        return walk_down(ask, end * _NS, start, end)

    def fetch_funding(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """Back from the end, as many hours at a time as events: they are paid hourly.

        Whether ``end_ts`` is inclusive is not documented; ``until`` is.
        """
        if instrument.entity_type != "cryptoperp":
            return super().fetch_funding(instrument, start, end)

        async def ask(until: int) -> tuple[pa.Table, int | None]:
            since = until - _MOST_FUNDINGS * HOUR_MS
            params = {
                "valuation_type": "funding_hist",
                "start_ts": since,
                "end_ts": until + 1,
                "count": _MOST_FUNDINGS,
            }
            rows = _fundings(await self._data(instrument, "Valuations", params))
            if pc.max(rows["ts"]).as_py() == until + 1:
                rows = rows.filter(pc.not_equal(rows["ts"], until + 1))
            oldest = pc.min(rows["ts"]).as_py()
            if oldest is None:
                return rows, since if since >= start else None
            return rows, oldest - 1

        return walk_down(ask, end - 1, start, end)

    async def fetch_order_book(self, instrument: Instrument, depth: int) -> pa.Table:
        """Books have a time but no number."""
        found = await self._data(instrument, "Book", {"depth": depth})
        ts = columns_of(found, {"t": pa.int64()})["t"][0].as_py()
        book = found[0]
        sides = (book_side(instrument, LEVEL.from_lists(book.get(name))) for name in ("bids", "asks"))
        return order_book_row(ts, None, depth, *sides)

    async def extras(
        self, entity_type: str, markets: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """The hours between funding payments, which are the same for all and in no answer."""
        if entity_type != "cryptoperp":
            return {}
        return {market["id"]: {"funding_interval_hours": 1.0} for market in markets}

    async def _data(self, instrument: Instrument, what: str, params: Mapping[str, Any]) -> Any:
        """The rows of ``public/get-...``; None where there are none, which ``columns_of`` names."""
        answer = await self.client.call(
            instrument.entity_type,
            f"v1PublicGetPublicGet{what}",
            {"instrument_name": instrument.native_id, **params},
            subject=instrument.symbol,
        )
        result = answer.get("result")
        return result.get("data") if isinstance(result, dict) else None


def _trades(instrument: Instrument, rows: pa.Table) -> pa.Table:
    ts, nanosecond = split_time(rows["tn"])
    return trade_table(instrument, ts, nanosecond, rows)


def _fundings(data: Any) -> pa.Table:
    rows = columns_of(data, _VALUATION)
    return pa.table([rows["t"], rows["v"], pa.nulls(rows.num_rows, pa.float64())], FUNDING)
