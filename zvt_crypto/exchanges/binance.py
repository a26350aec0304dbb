"""Binance: spot and USD-M perpetuals.

https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints and
https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import LEVEL_MS, level_ms
from zvt_crypto.exchanges.base import Capabilities, Instrument, Venue
from zvt_crypto.exchanges.instruments import Instruments
from zvt_crypto.exchanges.rawrows import SKIP, RowLayout

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
_OPTIONS: Final = {"fetchCurrencies": False, "fetchMargins": False}
#: Hours between funding payments of the contracts that ``fundingInfo`` does not list.
_USUAL_FUNDING: Final = 8.0


class Binance(Venue):
    """Rows come in ascending order, up to 1,000 a request, the unfinished candle included."""

    name = "binance"
    ccxt_ids = {"cryptopair": "binance", "cryptoperp": "binanceusdm"}
    ccxt_options = {
        "binance": {**_OPTIONS, "fetchMarkets": {"types": ["spot"]}},
        "binanceusdm": {**_OPTIONS, "fetchMarkets": {"types": ["linear"]}},
    }
    capabilities = Capabilities(
        entity_types=("cryptopair", "cryptoperp"), levels=tuple(LEVEL_MS), candle_page=1000
    )

    async def fetch_candle_page(self, instrument: Instrument, level: str, start: int, end: int) -> pa.Table:
        """``startTime`` and ``endTime`` are both inclusive."""
        params = {
            "symbol": instrument.native_id,
            "interval": level,
            "startTime": start,
            "endTime": end - 1,
            "limit": -(-(end - start) // level_ms(level)),
        }
        return await self.client.rows(
            instrument.entity_type,
            _METHOD[instrument.entity_type],
            params,
            _KLINES,
            subject=instrument.symbol,
        )

    async def fetch_instruments(self, entity_type: str) -> Instruments:
        """For perpetuals a second request tells the contracts whose funding interval is not 8 hours."""
        found = await super().fetch_instruments(entity_type)
        if entity_type != "cryptoperp":
            return found
        answer = await self.client.call(entity_type, "fapiPublicGetFundingInfo", {})
        hours = {row["symbol"]: float(row["fundingIntervalHours"]) for row in answer}
        intervals = [hours.get(name, _USUAL_FUNDING) for name in found.batch["native_id"].to_pylist()]
        column = found.batch.schema.get_field_index("funding_interval_hours")
        batch = found.batch.set_column(
            column, "funding_interval_hours", pc.cast(pa.array(intervals), pa.float64())
        )
        return Instruments(batch, found.conflicts)
