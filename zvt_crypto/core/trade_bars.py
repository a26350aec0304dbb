"""Candles rebuilt from trades."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from zvt_crypto.core.bars import decimal_sums
from zvt_crypto.core.decimals import Floats


def candles_from_trades(trades: pa.Table, step: int) -> pa.Table:
    """The candles that the trades of one market add up to; a stretch without trades has none.

    Trades of the same millisecond count in the order of their nanoseconds where these are known, and else in
    the order given. ``volume`` is the sum of the decimals that the volumes stand for; ``turnover`` is a sum
    of products and may be off in the last digits.

    Args:
        trades: ``ts`` (epoch ms, in any order), ``price``, ``volume`` in base currency, and maybe
            ``nanosecond`` (after the millisecond).
        step: Length of the candles in ms; the grid starts at the epoch.

    Returns:
        ``ts`` (open time), ``open``, ``high``, ``low``, ``close``, ``volume``, ``turnover`` and
        ``trade_count`` (the rows, which are aggregates of trades where the venue aggregates), by time.
    """
    ts, price, volume = _in_order(trades)
    opens = ts // step * step
    first = np.flatnonzero(np.diff(opens, prepend=-1))
    counts = np.diff(first, append=len(opens))
    if not len(first):
        high, low, total, turnover = (np.zeros(0) for _ in range(4))
    else:
        high, low = np.maximum.reduceat(price, first), np.minimum.reduceat(price, first)
        total, turnover = decimal_sums(volume, counts), np.add.reduceat(price * volume, first)
    return pa.table(
        {
            "ts": pa.array(opens[first], pa.int64()),
            "open": pa.array(price[first]),
            "high": pa.array(high),
            "low": pa.array(low),
            "close": pa.array(price[first + counts - 1]),
            "volume": pa.array(total),
            "turnover": pa.array(turnover),
            "trade_count": pa.array(counts, pa.int64()),
        }
    )


def _in_order(trades: pa.Table) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], Floats, Floats]:
    ts = trades["ts"].to_numpy()
    price, volume = trades["price"].to_numpy(), trades["volume"].to_numpy()
    if "nanosecond" in trades.column_names:
        within = trades["nanosecond"].fill_null(0).to_numpy()
    else:
        within = np.zeros(len(ts), np.int64)
    # lexsort is stable.
    order = np.lexsort((within, ts))
    return ts[order], price[order], volume[order]
