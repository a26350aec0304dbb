"""Bybit: spot, linear and inverse perpetuals.

https://bybit-exchange.github.io/docs/v5/market/kline and the pages beside it
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import level_ms
from zvt_crypto.exchanges import bybit_archive
from zvt_crypto.exchanges.archive_files import ArchiveFile
from zvt_crypto.exchanges.base import Capabilities, Instrument, Venue
from zvt_crypto.exchanges.books import LEVEL, book_side, order_book_row
from zvt_crypto.exchanges.bybit_names import INTERVALS, category
from zvt_crypto.exchanges.bybit_streams import BybitStreams
from zvt_crypto.exchanges.endpoints import Endpoint
from zvt_crypto.exchanges.objects import base_volume, columns_of
from zvt_crypto.exchanges.paging import Part, newest_page, walk_down
from zvt_crypto.exchanges.rawrows import RowLayout
from zvt_crypto.exchanges.schemas import FUNDING, TRADES

T = TypeVar("T")

_KLINES: Final = RowLayout(
    {
        "ts": pa.int64(),
        "open": pa.float64(),
        "high": pa.float64(),
        "low": pa.float64(),
        "close": pa.float64(),
        "volume": pa.float64(),
        "turnover": pa.float64(),
    },
    path=("result", "list"),
)
_TRADE: Final = {
    "execId": pa.string(),
    "price": pa.float64(),
    "size": pa.float64(),
    "side": pa.string(),
    "time": pa.int64(),
}
_PAYMENT: Final = {"fundingRateTimestamp": pa.int64(), "fundingRate": pa.float64()}
_BOOK_STATE: Final = {"cts": pa.int64(), "ts": pa.int64(), "seq": pa.int64()}


class Bybit(Venue):
    """Rows come in descending order, up to 1,000 candles a request, the unfinished one included."""

    name = "bybit"
    ccxt_ids = {"cryptopair": "bybit", "cryptoperp": "bybit"}
    endpoints = {
        "bybit": Endpoint("https://api.bybit.com", 20),
    }
    ccxt_options = {"bybit": {"fetchMarkets": {"types": ["spot", "linear", "inverse"]}}}
    capabilities = Capabilities(
        entity_types=("cryptopair", "cryptoperp"),
        levels=tuple(INTERVALS),
        candle_page={"cryptopair": 1000, "cryptoperp": 1000},
        trades={"cryptopair": "recent", "cryptoperp": "recent"},
        trade_page={"cryptopair": 60, "cryptoperp": 1000},
        funding="history",
        funding_page=200,
        book_depths={"cryptopair": (200,), "cryptoperp": (500,)},
    )
    streams = BybitStreams()

    async def fetch_candle_page(self, instrument: Instrument, level: str, start: int, end: int) -> pa.Table:
        """``start`` and ``end`` are both inclusive."""
        params = {
            **_market(instrument),
            "interval": INTERVALS[level],
            "start": start,
            "end": end - 1,
            "limit": -(-(end - start) // level_ms(level)),
        }
        rows = await self.client.rows(
            instrument.entity_type, "publicGetV5MarketKline", params, _KLINES, subject=instrument.symbol
        )
        if instrument.inverse:
            # Contracts of one dollar, and what they are worth in coins.
            rows = rows.rename_columns([*rows.column_names[:5], "turnover", "volume"])
        columns = {name: rows[name] for name in ("ts", "open", "high", "low", "close", "volume", "turnover")}
        columns["trade_count"] = pa.nulls(rows.num_rows, pa.int64())
        return pa.table(columns)

    async def fetch_trades(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """The newest page is all that there is; no parameter leads further back."""
        params = {**_market(instrument), "limit": self.capabilities.trade_page[instrument.entity_type]}
        answer = await self.client.call(
            instrument.entity_type, "publicGetV5MarketRecentTrade", params, subject=instrument.symbol
        )
        yield newest_page(_trades(instrument, _result(answer).get("list")), start, end)

    def fetch_funding(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """Back from the end: ``endTime`` is inclusive, and ``startTime`` alone is an error."""
        if instrument.entity_type != "cryptoperp":
            return super().fetch_funding(instrument, start, end)

        async def ask(until: int) -> tuple[pa.Table, int | None]:
            params = {**_market(instrument), "endTime": until, "limit": self.capabilities.funding_page}
            answer = await self.client.call(
                instrument.entity_type, "publicGetV5MarketFundingHistory", params, subject=instrument.symbol
            )
            rows = _payments(_result(answer).get("list"))
            # A contract has one payment at a time, so nothing hides behind the oldest.
            return rows, pc.min(rows["ts"]).as_py() - 1 if rows.num_rows else None

        return walk_down(ask, end - 1, start, end)

    async def fetch_order_book(self, instrument: Instrument, depth: int) -> pa.Table:
        """``cts``, the time of the matching engine, and ``seq``.

        ``seq`` goes on over all depths; ``u`` counts the updates of one depth and begins anew when Bybit
        restarts the service.
        """
        params = {**_market(instrument), "limit": depth}
        answer = await self.client.call(
            instrument.entity_type, "publicGetV5MarketOrderbook", params, subject=instrument.symbol
        )
        book = _result(answer)
        state = columns_of([book], _BOOK_STATE, optional=("cts", "seq")).to_pylist()[0]
        return order_book_row(
            state["cts"] or state["ts"],
            state["seq"],
            depth,
            book_side(instrument, LEVEL.from_lists(book.get("b"))),
            book_side(instrument, LEVEL.from_lists(book.get("a"))),
        )

    def archive_files(
        self, instrument: Instrument, feed: str, level: str | None, start: int, end: int, now: int
    ) -> list[ArchiveFile]:
        """See ``bybit_archive``."""
        return bybit_archive.files(instrument, feed, start, end, now)

    def fetch_archive(
        self, instrument: Instrument, feed: str, level: str | None, file: ArchiveFile
    ) -> AsyncIterator[Part]:
        """See ``bybit_archive``."""
        return bybit_archive.fetch(self.client, instrument, file)

    async def extras(
        self, entity_type: str, markets: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """For perpetuals what the list of instruments says beyond ccxt's form; without a request."""
        if entity_type != "cryptoperp":
            return {}
        return {market["id"]: _contract(market) for market in markets}


def _market(instrument: Instrument) -> dict[str, Any]:
    """The parameters that name a market."""
    return {"category": category(instrument), "symbol": instrument.native_id}


def _result(answer: Any) -> dict[str, Any]:
    """What an answer holds; nothing where it is of another form, which its readers refuse."""
    result = answer.get("result") if isinstance(answer, dict) else None
    return result if isinstance(result, dict) else {}


def _trades(instrument: Instrument, listed: Any) -> pa.Table:
    rows = columns_of(listed, _TRADE, optional=("side",))
    price = rows["price"].to_numpy()
    columns = {
        "ts": rows["time"],
        "trade_id": rows["execId"],
        "price": rows["price"],
        "volume": base_volume(instrument, rows["size"].to_numpy(), price),
        "side": pc.utf8_lower(rows["side"]),
        "nanosecond": pa.nulls(rows.num_rows, pa.int64()),
    }
    return pa.table(columns, TRADES)


def _payments(listed: Any) -> pa.Table:
    rows = columns_of(listed, _PAYMENT)
    columns = [rows["fundingRateTimestamp"], rows["fundingRate"], pa.nulls(rows.num_rows, pa.float64())]
    return pa.table(columns, FUNDING)


def _contract(market: Mapping[str, Any]) -> dict[str, Any]:
    info = market["info"]
    minutes = _number(info.get("fundingInterval"), float)
    columns = {
        "funding_interval_hours": minutes and minutes / 60,
        "list_date": _number(info.get("launchTime"), int),
        "end_date": _number(info.get("deliveryTime"), int),
        "min_notional": _number(info.get("lotSizeFilter", {}).get("minNotionalValue"), float),
    }
    # ccxt takes the smallest order for the contract's size; a contract is one dollar.
    return columns | {"contract_size": 1.0} if market["inverse"] else columns


def _number(text: str | int | None, kind: Callable[[Any], T]) -> T | None:
    """Bybit writes 0 or an empty text where there is no value."""
    return (kind(text) or None) if text else None
