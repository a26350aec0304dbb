"""Candles of KuCoin, over REST and in streams, as rows of ours."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.objects import base_volume
from zvt_crypto.exchanges.rawrows import RowLayout

#: Days open at 00:00 UTC.
TYPES: Final = {
    "1m": "1min",
    "5m": "5min",
    "15m": "15min",
    "30m": "30min",
    "1h": "1hour",
    "4h": "4hour",
    "1d": "1day",
}
SPOT_CANDLES: Final = RowLayout(
    {
        "seconds": pa.int64(),
        "open": pa.float64(),
        "close": pa.float64(),
        "high": pa.float64(),
        "low": pa.float64(),
        "volume": pa.float64(),
        "turnover": pa.float64(),
    },
    path=("data",),
)
#: KuCoin added the last value in 2025; its older documents, and ccxt's samples, have rows without it.
CONTRACT_CANDLES: Final = RowLayout(
    {
        "ts": pa.int64(),
        "open": pa.float64(),
        "high": pa.float64(),
        "low": pa.float64(),
        "close": pa.float64(),
        "lots": pa.float64(),
        "value": pa.float64(),
    },
    path=("data",),
    optional=1,
)


def spot_page(rows: pa.Table) -> pa.Table:
    """Rows of ``SPOT_CANDLES`` in the schema of the candle tables."""
    columns = {"ts": pc.multiply(rows["seconds"], 1000)}
    columns |= {name: rows[name] for name in ("open", "high", "low", "close", "volume", "turnover")}
    columns["trade_count"] = pa.nulls(rows.num_rows, pa.int64())
    return pa.table(columns)


def contract_page(instrument: Instrument, rows: pa.Table) -> pa.Table:
    """Rows of ``CONTRACT_CANDLES`` in the schema of the candle tables."""
    columns = {name: rows[name] for name in ("ts", "open", "high", "low", "close")}
    if instrument.inverse:
        columns |= _inverse_amounts(instrument, rows)
    else:
        lots, price = rows["lots"].to_numpy(), rows["close"].to_numpy()
        columns |= {"volume": pa.array(base_volume(instrument, lots, price)), "turnover": rows["value"]}
    columns["trade_count"] = pa.nulls(rows.num_rows, pa.int64())
    return pa.table(columns)


def _inverse_amounts(instrument: Instrument, rows: pa.Table) -> dict[str, pa.Array]:
    """Volume and turnover of candles of a contract whose lots are dollars.

    KuCoin does not document in which currency the value of an inverse contract is. Where it lies between what
    the dollars are worth at the highest and at the lowest price, it is coins. Elsewhere, and without it, the
    volume is the dollars at the mean of high, low and close.
    """
    high, low, close, lots = (rows[name].to_numpy() for name in ("high", "low", "close", "lots"))
    dollars = lots * (instrument.contract_size or 1.0)
    value = rows["value"].to_numpy()
    is_coins = (value * high >= dollars * (1 - 1e-9)) & (value * low <= dollars * (1 + 1e-9))
    volume = np.where(is_coins, value, dollars * 3 / (high + low + close))
    return {"volume": pa.array(volume), "turnover": pa.array(dollars)}
