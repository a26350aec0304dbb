"""The wire of Kraken Futures: candles, trades, funding events and order books of perpetuals.

Linear contracts (``PF_``) count base currency, inverse ones (``PI_``) dollars.

https://docs.kraken.com/api/docs/futures-api/charts/candles, .../history/get-public-execution-events,
.../trading/historical-funding-rates and .../trading/get-orderbook
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import DataQualityFailure, ProviderUnavailable
from zvt_crypto.core.levels import iso
from zvt_crypto.core.symbols import PERP
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.books import order_book_row
from zvt_crypto.exchanges.client import Client
from zvt_crypto.exchanges.connection import Clock
from zvt_crypto.exchanges.objects import base_volume, columns_of
from zvt_crypto.exchanges.paging import Part, walk_up
from zvt_crypto.exchanges.schemas import FUNDING, TRADES

CANDLE_PAGE: Final = 2000
TRADE_PAGE: Final = 1000
#: One answer has the whole history; hourly events of more than ten years.
FUNDING_PAGE: Final = 100_000
#: An answer has the whole book.
BOOK_DEPTH: Final = 500
#: The smallest answer that has the exchange's time.
CLOCK: Final = Clock("publicGetFeeschedules", ("serverTime",))

_CANDLE: Final = {
    "time": pa.int64(),
    "open": pa.float64(),
    "high": pa.float64(),
    "low": pa.float64(),
    "close": pa.float64(),
    "volume": pa.float64(),
}
_EXECUTION: Final = {
    "timestamp": pa.int64(),
    "uid": pa.string(),
    "price": pa.float64(),
    "quantity": pa.float64(),
    "direction": pa.string(),
}
_TIME: Final = pa.timestamp("ns", "UTC")
_RATE: Final = {"timestamp": _TIME, "relativeFundingRate": pa.float64()}
_LEVEL: Final = {"price": pa.float64(), "quantity": pa.float64()}


async def fetch_candles(client: Client, instrument: Instrument, level: str, start: int, end: int) -> pa.Table:
    """``from`` and ``to`` are inclusive, in seconds.

    Of linear contracts the venue gives no turnover. Of inverse ones its volume, in dollars, is the turnover,
    and the base currency follows from the closing price: an approximation, as the average price is not given.
    """
    params = {
        "price_type": "trade",
        "symbol": instrument.native_id,
        "interval": level,
        "from": start // 1000,
        "to": end // 1000 - 1,
    }
    answer = await _ask(client, "chartsGetPriceTypeSymbolInterval", instrument, params)
    rows = columns_of(answer.get("candles"), _CANDLE)
    contracts, close = rows["volume"].to_numpy(), rows["close"].to_numpy()
    columns = {"ts": rows["time"], **{name: rows[name] for name in ("open", "high", "low", "close")}}
    columns["volume"] = pa.array(base_volume(instrument, contracts, close))
    columns["turnover"] = pa.nulls(rows.num_rows, pa.float64())
    if instrument.inverse:
        columns["turnover"] = pa.array(contracts * (instrument.contract_size or 1.0))
    columns["trade_count"] = pa.nulls(rows.num_rows, pa.int64())
    return pa.table(columns)


def fetch_trades(client: Client, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
    """Pages follow the venue's token; the answer without one is the last.

    Whether ``since`` and ``before`` are inclusive is not said, so a millisecond more is asked for.
    """
    first = max(start - 1, 0)
    params = {
        "symbol": instrument.native_id,
        "since": first,
        "before": end,
        "sort": "asc",
        "count": TRADE_PAGE,
    }

    async def ask(token: str) -> tuple[pa.Table, str | None]:
        query = params | ({"continuation_token": token} if token else {})
        answer = await _ask(client, "historyGetMarketSymbolExecutions", instrument, query)
        rows = execution_rows(answer.get("elements"), instrument)
        outside = rows["ts"].filter(pc.or_(pc.less(rows["ts"], first), pc.greater(rows["ts"], end)))
        if len(outside):
            raise DataQualityFailure(
                f"the exchange answers {iso(start)} to {iso(end)} with trades of {iso(outside[0].as_py())}:"
                " the same page again, or another range"
            )
        return rows, answer.get("continuationToken") or None

    return walk_up(ask, "", start, end)


def fetch_funding(client: Client, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
    """One answer has all events. The rate is the relative one; the other is in dollars for a contract."""

    async def ask(_: None) -> tuple[pa.Table, None]:
        params = {"symbol": instrument.native_id}
        answer = await _ask(client, "publicGetHistoricalfundingrates", instrument, params)
        rows = columns_of(answer.get("rates"), _RATE)
        mark_price = pa.nulls(rows.num_rows, pa.float64())
        columns = [_epoch_ms(rows["timestamp"]), rows["relativeFundingRate"], mark_price]
        return pa.table(columns, schema=FUNDING), None

    return walk_up(ask, None, start, end)


async def fetch_order_book(client: Client, instrument: Instrument, depth: int) -> pa.Table:
    """The whole book comes, without a number, at the exchange's time."""
    answer = await _ask(client, "publicGetOrderbook", instrument, {"symbol": instrument.native_id})
    book = answer.get("orderBook")
    if not isinstance(book, dict):
        raise ProviderUnavailable(f"kraken answers without the order book of {instrument.symbol}")
    ts = _epoch_ms(columns_of([answer], {"serverTime": _TIME})["serverTime"])[0].as_py()
    bids, asks = (_levels(book.get(side), instrument) for side in ("bids", "asks"))
    return order_book_row(ts, None, depth, bids, asks)


async def extras(client: Client, markets: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Fees of the lowest tier, by a request; leverage; the hour of funding, of which the list is silent."""
    answer = await client.call(PERP, "publicGetFeeschedules", {})
    try:
        tiers = {schedule["uid"]: schedule["tiers"][0] for schedule in answer["feeSchedules"]}
    except (IndexError, KeyError, TypeError) as error:
        raise ProviderUnavailable(f"kraken sent no schedules of fees: {str(answer)[:60]!r}") from error
    return {
        market["id"]: {
            **_fees(tiers.get(market["info"].get("feeScheduleUid"), {})),
            "max_leverage": _leverage(market["info"].get("marginLevels") or ()),
            "funding_interval_hours": 1.0,
        }
        for market in markets
    }


def execution_rows(elements: Any, instrument: Instrument) -> pa.Table:
    """Public execution events in ``schemas.TRADES``.

    Raises:
        ProviderUnavailable: The events are of another form.
    """
    try:
        executions = [element["event"]["Execution"]["execution"] for element in elements]
        takers = [(execution.get("takerOrder") or {}).get("direction") for execution in executions]
    except (AttributeError, KeyError, TypeError) as error:
        raise ProviderUnavailable(
            f"kraken sent no executions of {instrument.symbol}: {str(elements)[:60]!r}"
        ) from error
    flat = [{**execution, "direction": taker} for execution, taker in zip(executions, takers, strict=True)]
    rows = columns_of(flat, _EXECUTION, optional=("direction",))
    volume = base_volume(instrument, rows["quantity"].to_numpy(), rows["price"].to_numpy())
    side = pc.utf8_lower(rows["direction"])
    nanosecond = pa.nulls(rows.num_rows, pa.int64())
    columns = [rows["timestamp"], rows["uid"], rows["price"], pa.array(volume), side, nanosecond]
    return pa.table(columns, schema=TRADES)


def _fees(tier: Mapping[str, float]) -> dict[str, float]:
    """Fees as fractions; Kraken writes per cents."""
    names = {"maker_fee": "makerFee", "taker_fee": "takerFee"}
    return {ours: round(tier[theirs] / 100, 8) for ours, theirs in names.items() if theirs in tier}


def _leverage(levels: Sequence[Mapping[str, float]]) -> float | None:
    """The reciprocal of the margin of the smallest positions, which is the lowest."""
    least = min((level.get("initialMargin", 0.0) for level in levels), default=0.0)
    return round(1 / least, 6) if least > 0 else None


def _epoch_ms(times: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.divide(pc.cast(times, pa.int64()), 1_000_000)


async def _ask(client: Client, method: str, instrument: Instrument, params: Mapping[str, Any]) -> Any:
    answer = await client.call(PERP, method, params, subject=instrument.symbol)
    if not isinstance(answer, dict):
        raise ProviderUnavailable(f"kraken answers about {instrument.symbol} with {str(answer)[:60]!r}")
    return answer


def _levels(rows: Any, instrument: Instrument) -> list[tuple[float, float]]:
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise ProviderUnavailable(f"kraken sent no levels of an order book: {str(rows)[:60]!r}")
    levels = columns_of([dict(zip(_LEVEL, row, strict=False)) for row in rows], _LEVEL)
    price = levels["price"].to_numpy()
    volume = base_volume(instrument, levels["quantity"].to_numpy(), price)
    return list(zip(price.tolist(), np.asarray(volume).tolist(), strict=True))
