"""OKX: spot and perpetual swaps.

https://www.okx.com/docs-v5/en/#order-book-trading-market-data
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import ProviderUnavailable
from zvt_crypto.core.levels import iso, level_ms
from zvt_crypto.exchanges.base import Capabilities, Instrument, Venue
from zvt_crypto.exchanges.rawrows import RowLayout

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


class Okx(Venue):
    """Rows come in descending order, up to 300 a request, from one of two endpoints by age."""

    name = "okx"
    ccxt_ids = {"cryptopair": "okx", "cryptoperp": "okx"}
    ccxt_options = {"okx": {"fetchMarkets": {"types": ["spot", "swap"]}, "fetchCurrencies": False}}
    capabilities = Capabilities(
        entity_types=("cryptopair", "cryptoperp"),
        levels=tuple(_BARS),
        candle_page={"cryptopair": 300, "cryptoperp": 300},
    )

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


def _number(text: str | None, kind: Callable[[str], T]) -> T | None:
    """OKX writes an empty text where there is no value."""
    return kind(text) if text else None
