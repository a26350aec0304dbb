"""The columns in which venues answer, beside those of candles; what they mean is said in ``domain``."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

#: ``ts``: epoch ms; ``side``: the taker's, ``buy``, ``sell`` or NULL; ``volume``: in base currency;
#: ``nanosecond``: 0 to 999,999 after ``ts``, NULL where the venue counts milliseconds.
TRADES: Final = pa.schema(
    [
        ("ts", pa.int64()),
        ("trade_id", pa.string()),
        ("price", pa.float64()),
        ("volume", pa.float64()),
        ("side", pa.string()),
        ("nanosecond", pa.int64()),
    ]
)

#: ``ts``: time of the payment, epoch ms; ``mark_price`` is NULL where the venue gives none.
FUNDING: Final = pa.schema([("ts", pa.int64()), ("funding_rate", pa.float64()), ("mark_price", pa.float64())])

#: ``bids`` and ``asks``: JSON lists of ``[price, amount in base currency]`` as numbers, best first.
ORDER_BOOK: Final = pa.schema(
    [
        ("ts", pa.int64()),
        ("sequence", pa.int64()),
        ("depth", pa.int64()),
        ("best_bid", pa.float64()),
        ("best_ask", pa.float64()),
        ("bids", pa.string()),
        ("asks", pa.string()),
    ]
)
