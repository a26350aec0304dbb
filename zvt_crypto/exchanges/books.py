"""Order books of venues as rows of ours."""

from __future__ import annotations

from typing import Final

import orjson
import pyarrow as pa

from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.objects import base_volume
from zvt_crypto.exchanges.rawrows import RowLayout
from zvt_crypto.exchanges.schemas import ORDER_BOOK

#: A level as most venues write it: price and amount, and then what differs between them.
LEVEL: Final = RowLayout({"price": pa.float64(), "amount": pa.float64()})


def book_side(instrument: Instrument, levels: pa.Table) -> list[tuple[float, float]]:
    """Price and amount in base currency of each level.

    Args:
        instrument: Whose book it is.
        levels: Prices, and amounts as the venue counts them: in contracts where the instrument has a size.
    """
    price, amount = (column.to_numpy() for column in levels.columns)
    return list(zip(price.tolist(), base_volume(instrument, amount, price).tolist(), strict=True))


def order_book_row(
    ts: int,
    sequence: int | None,
    depth: int,
    bids: list[tuple[float, float]],
    asks: list[tuple[float, float]],
) -> pa.Table:
    """An order book as one row in ``schemas.ORDER_BOOK``.

    Args:
        ts: Time of the book, epoch ms.
        sequence: The venue's number of the book's state.
        depth: Levels that were asked for; what the venue sent beyond them is cut.
        bids: Price and amount in base currency, in any order.
        asks: As ``bids``.
    """
    best_bids = sorted(bids, reverse=True)[:depth]
    best_asks = sorted(asks)[:depth]
    row = {
        "ts": ts,
        "sequence": sequence,
        "depth": depth,
        "best_bid": best_bids[0][0] if best_bids else None,
        "best_ask": best_asks[0][0] if best_asks else None,
        "bids": orjson.dumps(best_bids).decode(),
        "asks": orjson.dumps(best_asks).decode(),
    }
    return pa.Table.from_pylist([row], ORDER_BOOK)
