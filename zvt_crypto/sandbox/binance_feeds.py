"""Bodies of Binance's answers with trades, funding events and order books."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.sandbox.events import Array, Book, Fundings, Trades
from zvt_crypto.sandbox.wire import decimal_text, json_rows


def agg_trades(rows: Trades, price: int, quantity: int, *, best_match: bool) -> bytes:
    """Body of ``aggTrades``: ascending, each an aggregate of one trade with the same id.

    Args:
        rows: The trades.
        price: Decimal digits of prices.
        quantity: Decimal digits of quantities.
        best_match: Whether rows have ``M``, as those of spot have.
    """
    ids = decimal_text(rows.id)
    return json_rows(
        '{"a":',
        ids,
        ',"p":"',
        decimal_text(rows.price, price, rows.nan_text),
        '","q":"',
        decimal_text(rows.volume, quantity, rows.nan_text),
        '","f":',
        ids,
        ',"l":',
        ids,
        ',"T":',
        decimal_text(rows.ts),
        ',"m":',
        # Where the taker bought, the buyer was not the maker.
        pc.if_else(pa.array(rows.is_buy), "false", "true"),
        ',"M":true}' if best_match else "}",
    )


def fundings(symbol: str, rows: Fundings) -> bytes:
    """Body of ``fundingRate``: ascending; old events have an empty text as mark price."""
    known = pa.array(rows.mark_price > 0)
    return json_rows(
        f'{{"symbol":"{symbol}","fundingTime":',
        decimal_text(rows.ts),
        ',"fundingRate":"',
        decimal_text(rows.rate, 8, rows.nan_text),
        '","markPrice":"',
        pc.if_else(known, decimal_text(rows.mark_price, 8), ""),
        '"}',
    )


def depth(book: Book, price: int, quantity: int, times: dict[str, int]) -> bytes:
    """Body of ``depth``, with the fields ``times`` after its number."""
    head: dict[str, Any] = {"lastUpdateId": book.sequence, **times}
    sides = b",".join(
        b'"%b":%b' % (name, _levels(side, price, quantity))
        for name, side in ((b"bids", book.bids), (b"asks", book.asks))
    )
    return orjson.dumps(head)[:-1] + b"," + sides + b"}"


def _levels(side: Array, price: int, quantity: int) -> bytes:
    prices, volumes = np.ascontiguousarray(side.T)
    return json_rows('["', decimal_text(prices, price), '","', decimal_text(volumes, quantity), '"]')
