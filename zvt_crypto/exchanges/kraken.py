"""Kraken: spot pairs, and perpetuals (Kraken Futures), whose wire is in ``kraken_futures``.

https://docs.kraken.com/api/docs/rest-api/get-ohlc-data, .../get-recent-trades and .../get-order-book
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import ProviderUnavailable
from zvt_crypto.core.levels import DAY_MS, LEVEL_MS, MINUTE_MS, floor_ms, level_ms
from zvt_crypto.core.symbols import PAIR, PERP
from zvt_crypto.exchanges import kraken_futures
from zvt_crypto.exchanges.base import Capabilities, Instrument, Venue
from zvt_crypto.exchanges.books import order_book_row
from zvt_crypto.exchanges.endpoints import Endpoint
from zvt_crypto.exchanges.kraken_streams import KrakenStreams
from zvt_crypto.exchanges.objects import columns_of, split_time, taker_sides
from zvt_crypto.exchanges.paging import Part, walk_up
from zvt_crypto.exchanges.rawrows import RowLayout
from zvt_crypto.exchanges.schemas import TRADES

_REACH: Final = 720
_TRADE_PAGE: Final = 1000
#: A trade's time is a JSON number of seconds, whose steps are 238 ns wide. Pages overlap by more than that,
#: so that no trade is lost between its exact time, by which Kraken pages, and the rounded one that it writes.
_OVERLAP_NS: Final = 1_000
_MS: Final = 1_000_000

_TRADE: Final = {
    "price": pa.float64(),
    "volume": pa.float64(),
    "time": pa.string(),
    "side": pa.string(),
    "order type": pa.string(),
    "miscellaneous": pa.string(),
    "trade_id": pa.string(),
}
_LEVEL: Final = {"price": pa.float64(), "volume": pa.float64()}


class _PairRows(RowLayout):
    """Rows of the pair that was asked about."""

    def find(self, answer: Any) -> Any:
        """See ``RowLayout``."""
        return _of_pair(answer)


_CANDLES: Final = _PairRows(
    {
        "seconds": pa.int64(),
        "open": pa.float64(),
        "high": pa.float64(),
        "low": pa.float64(),
        "close": pa.float64(),
        "vwap": pa.float64(),
        "volume": pa.float64(),
        "trade_count": pa.int64(),
    }
)


class Kraken(Venue):
    """Spot candles reach back 720 of each level, trades, in ascending order, to the first one."""

    name = "kraken"
    ccxt_ids = {PAIR: "kraken", PERP: "krakenfutures"}
    endpoints = {
        "kraken": Endpoint("https://api.kraken.com", 1000),
        "krakenfutures": Endpoint("https://futures.kraken.com", 600),
    }
    clocks = {"krakenfutures": kraken_futures.CLOCK}
    capabilities = Capabilities(
        entity_types=(PAIR, PERP),
        levels=tuple(LEVEL_MS),
        candle_page={PAIR: _REACH, PERP: kraken_futures.CANDLE_PAGE},
        candle_reach={PAIR: _REACH},
        trades={PAIR: "history", PERP: "history"},
        trade_page={PAIR: _TRADE_PAGE, PERP: kraken_futures.TRADE_PAGE},
        funding="history",
        funding_page=kraken_futures.FUNDING_PAGE,
        book_depths={PAIR: (500,), PERP: (kraken_futures.BOOK_DEPTH,)},
    )
    streams = KrakenStreams()

    async def fetch_candle_page(self, instrument: Instrument, level: str, start: int, end: int) -> pa.Table:
        """The newest 720 finished candles and the unfinished one are asked for, whatever the range.

        Kraken can bound an answer from below only, by ``since``. Then a wrong answer, with rows that begin
        later, would look like a market that has no candles so early; all rows leave no doubt.

        Turnover is Kraken's average price (VWAP), which is rounded to the price's decimals, times volume.
        """
        if instrument.entity_type == PERP:
            return await kraken_futures.fetch_candles(self.client, instrument, level, start, end)
        params = {"pair": instrument.native_id, "interval": level_ms(level) // MINUTE_MS}
        rows = await self.client.rows(PAIR, "publicGetOHLC", params, _CANDLES, subject=instrument.symbol)
        columns = {"ts": pc.multiply(rows["seconds"], 1000)}
        columns |= {name: rows[name] for name in ("open", "high", "low", "close", "volume")}
        columns["turnover"] = pc.multiply(rows["vwap"], rows["volume"])
        columns["trade_count"] = rows["trade_count"]
        return _within(pa.table(columns), start, end)

    async def find_listing(self, instrument: Instrument) -> int | None:
        """The day of the first trade: spot candles do not reach back to it."""
        if instrument.entity_type == PERP:
            return await super().find_listing(instrument)
        answer = await self._ask("publicGetTrades", instrument, since=0, count=1)
        _, times = trade_rows(_of_pair(answer))
        return floor_ms(int(times[0]) // _MS, DAY_MS) if len(times) else None

    def fetch_trades(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """``since``, exclusive, is in nanoseconds, as is ``last``, the exact time of a page's last trade."""
        if instrument.entity_type == PERP:
            return kraken_futures.fetch_trades(self.client, instrument, start, end)

        most_rows = 0

        async def ask(cursor: tuple[int, int]) -> tuple[pa.Table, tuple[int, int] | None]:
            nonlocal most_rows
            reached, overlap = cursor
            since = max(reached - overlap, 0)
            answer = await self._ask("publicGetTrades", instrument, since=since, count=_TRADE_PAGE)
            rows, times = trade_rows(_of_pair(answer))
            if not rows.num_rows:
                return rows, None
            has_room, most_rows = rows.num_rows < most_rows, max(most_rows, rows.num_rows)
            last = _last(answer)
            if last > reached:
                return rows, (last, _OVERLAP_NS)
            if not overlap or times.min() < since - _OVERLAP_NS:
                return rows, cursor  # the rows are of another page, so the walk ends with an error
            # Only the overlap came: the end, if the page had room for more.
            return rows, None if has_room else (reached, 0)

        return walk_up(ask, (start * _MS, _OVERLAP_NS), start, end)

    def fetch_funding(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """See ``kraken_futures``."""
        if instrument.entity_type == PERP:
            return kraken_futures.fetch_funding(self.client, instrument, start, end)
        return super().fetch_funding(instrument, start, end)

    async def fetch_order_book(self, instrument: Instrument, depth: int) -> pa.Table:
        """Spot books have neither a time nor a number; only their levels have times, in seconds."""
        if instrument.entity_type == PERP:
            return await kraken_futures.fetch_order_book(self.client, instrument, depth)
        answer = await self._ask("publicGetDepth", instrument, count=depth)
        book = _of_pair(answer)
        if not isinstance(book, dict):
            raise ProviderUnavailable(f"kraken answers without the order book of {instrument.symbol}")
        bids, asks = _levels(book.get("bids")), _levels(book.get("asks"))
        return order_book_row(await self.client.now(PAIR), None, depth, bids, asks)

    async def extras(
        self, entity_type: str, markets: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """The step of prices where it is not a power of ten; for perpetuals see ``kraken_futures``."""
        if entity_type == PERP:
            return await kraken_futures.extras(self.client, markets)
        return {
            market["id"]: {"price_step": float(market["info"]["tick_size"])}
            for market in markets
            if market["info"].get("tick_size")
        }

    async def _ask(self, method: str, instrument: Instrument, **params: int) -> Any:
        query = {"pair": instrument.native_id, **params}
        return await self.client.call(PAIR, method, query, subject=instrument.symbol)


def trade_rows(rows: Any) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """Kraken's trades in ``schemas.TRADES``, and their times in epoch nanoseconds.

    Args:
        rows: Lists of price, volume, time, side, order type, a text, and the id that old trades may lack.

    Raises:
        ProviderUnavailable: The rows are of another form.
    """
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) >= 6 for row in rows):
        raise ProviderUnavailable(f"kraken sent no trades: {str(rows)[:60]!r}")
    raw = columns_of([dict(zip(_TRADE, row, strict=False)) for row in rows], _TRADE, ("trade_id",))
    price, volume, time, side, ids = (
        raw[name].combine_chunks() for name in ("price", "volume", "time", "side", "trade_id")
    )
    ns = epoch_ns(time)
    ts, nanosecond = split_time(ns)
    sides = taker_sides(pc.equal(side, "b").to_numpy(zero_copy_only=False))
    if ids.null_count:
        ids = pc.coalesce(ids, _made_ids(ns, price, volume, side))
    return pa.table([ts, ids, price, volume, sides, nanosecond], schema=TRADES), ns.to_numpy()


def epoch_ns(seconds: pa.Array) -> pa.Array:
    """Epoch nanoseconds of seconds given as text, such as ``1762795433.9717445``, digit by digit.

    Raises:
        ProviderUnavailable: A text is no such number.
    """
    parts = pc.extract_regex(seconds, r"^(?P<whole>\d{1,10})(?:\.(?P<rest>\d+))?$")
    if parts.null_count:
        raise ProviderUnavailable(f"kraken sent a trade whose time is no number: {seconds.to_pylist()[:3]}")
    whole, rest = (pc.struct_field(parts, index) for index in (0, 1))
    digits = pc.utf8_slice_codeunits(pc.utf8_rpad(rest, 9, "0"), 0, 9)
    return pc.cast(pc.binary_join_element_wise(whole, digits, ""), pa.int64())


def _made_ids(ns: pa.Array, price: pa.Array, volume: pa.Array, side: pa.Array) -> pa.Array:
    """Ids of trades that have none: what the trade is, and its place among those that are the same.

    Pages overlap, so a page holds either all of those or the last ones of them that the page before it held:
    each gets its id whichever page it comes in. Only where a page is full of one microsecond it may not.
    """
    texts = [pc.cast(column, pa.string()) for column in (ns, price, volume, side)]
    same = pc.binary_join_element_wise(*texts, "-")
    return pc.binary_join_element_wise(same, pc.cast(_ordinals(same), pa.string()), "-")


def _ordinals(values: pa.Array) -> pa.Array:
    """How many equal values come before each one."""
    codes = values.dictionary_encode().indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    first = np.flatnonzero(np.diff(codes[order], prepend=-1))
    length = np.diff(first, append=len(codes))
    ordinals = np.empty(len(codes), np.int64)
    ordinals[order] = np.arange(len(codes)) - np.repeat(first, length)
    return pa.array(ordinals)


def _of_pair(answer: Any) -> Any:
    """What an answer holds under the pair's name, which is not always the one that was asked for."""
    result = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(result, dict):
        return None
    return next((value for name, value in result.items() if name != "last"), None)


def _last(answer: Any) -> int:
    last = str(answer["result"].get("last", ""))
    if not last.isdigit():
        raise ProviderUnavailable(f"kraken sent trades without the time of the last one, but {last[:60]!r}")
    return int(last)


def _within(rows: pa.Table, start: int, end: int) -> pa.Table:
    """The rows that open in ``[start, end)``; all of them if they end before, so that this shows."""
    if rows.num_rows and pc.max(rows["ts"]).as_py() < start:
        return rows
    return rows.filter(pc.and_(pc.greater_equal(rows["ts"], start), pc.less(rows["ts"], end)))


def _levels(rows: Any) -> list[tuple[float, float]]:
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise ProviderUnavailable(f"kraken sent no levels of an order book: {str(rows)[:60]!r}")
    levels = columns_of([dict(zip(_LEVEL, row, strict=False)) for row in rows], _LEVEL)
    return list(zip(*(levels[name].to_pylist() for name in _LEVEL), strict=True))
