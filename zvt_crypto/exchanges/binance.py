"""Binance: spot and USD-M perpetuals.

https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints and
https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from zvt_crypto.core.levels import LEVEL_MS, level_ms
from zvt_crypto.exchanges.base import Capabilities, Instrument, Venue
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
_NEVER: Final = 4_133_404_800_000


class Binance(Venue):
    """Rows come in ascending order, up to 1,000 a request, the unfinished candle included."""

    name = "binance"
    ccxt_ids = {"cryptopair": "binance", "cryptoperp": "binanceusdm"}
    ccxt_options = {
        "binance": {**_OPTIONS, "fetchMarkets": {"types": ["spot"]}},
        "binanceusdm": {**_OPTIONS, "fetchMarkets": {"types": ["linear"]}},
    }
    capabilities = Capabilities(
        entity_types=("cryptopair", "cryptoperp"),
        levels=tuple(LEVEL_MS),
        candle_page={"cryptopair": 1000, "cryptoperp": 1000},
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
        return await self._klines(instrument, params)

    async def find_listing(self, instrument: Instrument) -> int | None:
        """One request: from time 0 on, the first daily candle is answered."""
        params = {"symbol": instrument.native_id, "interval": "1d", "startTime": 0, "limit": 1}
        rows = await self._klines(instrument, params)
        return rows["ts"][0].as_py() if rows.num_rows else None

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
