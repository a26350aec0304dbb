"""Coinbase's trades in our columns, whether they were asked for or streamed."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.exchanges.objects import Column, split_time
from zvt_crypto.exchanges.schemas import TRADES

#: Nanoseconds, so that no digit is lost, however many Coinbase writes.
TIME: Final = pa.timestamp("ns", "UTC")


def trade_table(time: Column, trade_id: Column, price: Column, size: Column, side: Column) -> pa.Table:
    """Trades in ``schemas.TRADES``; times are of the type ``TIME``.

    ``side`` is the maker's, as https://docs.cdp.coinbase.com/api-reference/exchange-api/rest-api/products/
    get-product-trades says of the same trades: one at the best ask has the side ``SELL``. The streams' own
    documents say it, too.
    """
    ts, nanosecond = split_time(pc.cast(time, pa.int64()))
    taker = pc.if_else(pc.equal(side, "SELL"), "buy", pc.if_else(pc.equal(side, "BUY"), "sell", None))
    return pa.table([ts, trade_id, price, size, taker, nanosecond], TRADES)
