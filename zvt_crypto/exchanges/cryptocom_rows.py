"""Crypto.com's rows in our columns, whether they were asked for or streamed."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.objects import Column, base_volume
from zvt_crypto.exchanges.schemas import TRADES

#: Its names of the candle levels.
TIMEFRAMES: Final = {
    "1m": "1m",
    "5m": "5m",
    "15m": "15m",
    "30m": "30m",
    "1h": "1h",
    "4h": "4h",
    "1d": "1D",
}
#: Fields of a candle.
CANDLE: Final = {"t": pa.int64(), **dict.fromkeys(("o", "h", "l", "c", "v"), pa.float64())}
#: Fields of a trade that are the same over REST and in streams.
TRADE: Final = {"d": pa.string(), "p": pa.float64(), "q": pa.float64(), "s": pa.string()}


def trade_table(instrument: Instrument, ts: Column, nanosecond: Column, rows: pa.Table) -> pa.Table:
    """Trades in ``schemas.TRADES``; ``s`` is documented to be the taker's side.

    Args:
        instrument: Whose trades.
        ts: Their times, epoch ms.
        nanosecond: The nanoseconds after them.
        rows: Their fields ``TRADE``.
    """
    volume = base_volume(instrument, rows["q"].to_numpy(), rows["p"].to_numpy())
    columns = [ts, rows["d"], rows["p"], volume, pc.utf8_lower(rows["s"]), nanosecond]
    return pa.table(columns, TRADES)


def candle_table(instrument: Instrument, rows: pa.Table) -> pa.Table:
    """Candles in the schema of the candle tables, of their fields ``CANDLE``."""
    volume = base_volume(instrument, rows["v"].to_numpy(), rows["c"].to_numpy())
    return pa.table(
        {
            "ts": rows["t"],
            "open": rows["o"],
            "high": rows["h"],
            "low": rows["l"],
            "close": rows["c"],
            "volume": volume,
            "turnover": pa.nulls(rows.num_rows, pa.float64()),
            "trade_count": pa.nulls(rows.num_rows, pa.int64()),
        }
    )
