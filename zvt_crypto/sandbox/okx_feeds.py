"""Rows of OKX's answers with trades, funding events and order books; sizes of swaps are contracts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.sandbox.events import Array, Book, Fundings, Trades
from zvt_crypto.sandbox.market import Instrument
from zvt_crypto.sandbox.wire import decimal_text, json_rows

#: How much the predicted rate of a payment is off the one that was paid.
_PREDICTION_ERROR = 1.5e-7


def trade_rows(rows: Trades, name: str, instrument: Instrument) -> bytes:
    """Trades, the newest first."""
    newest_first = rows.take(slice(None, None, -1))
    return json_rows(
        f'{{"instId":"{name}","side":"',
        pc.if_else(pa.array(np.ascontiguousarray(newest_first.is_buy)), "buy", "sell"),
        '","sz":"',
        _text(_contracts(newest_first.volume, newest_first.price, instrument), rows.nan_text),
        '","source":"0","px":"',
        _text(newest_first.price, rows.nan_text),
        '","tradeId":"',
        _text(newest_first.id),
        '","ts":"',
        _text(newest_first.ts),
        '"}',
    )


def funding_rows(rows: Fundings, name: str) -> bytes:
    """Funding events, the newest first; ``fundingRate`` is what had been predicted."""
    newest_first = rows.take(slice(None, None, -1))
    return json_rows(
        '{"formulaType":"noRate","fundingRate":"',
        _text(np.round(newest_first.rate + _PREDICTION_ERROR, 10), rows.nan_text),
        '","fundingTime":"',
        _text(newest_first.ts),
        f'","instId":"{name}","instType":"SWAP","method":"current_period","realizedRate":"',
        _text(newest_first.rate, rows.nan_text),
        '"}',
    )


def book_row(book: Book, instrument: Instrument) -> bytes:
    """An order book, in a list of its own."""
    asks, bids = _levels(book.asks, instrument), _levels(book.bids, instrument)
    return b'[{"asks":%b,"bids":%b,"ts":"%d","seqId":%d}]' % (asks, bids, book.ts, book.sequence)


def _levels(side: Array, instrument: Instrument) -> bytes:
    """Price, size, a zero that once was something else, and the number of orders."""
    price, volume = side.T
    sizes = _contracts(volume, price, instrument)
    return json_rows('["', _text(price), '","', _text(sizes), '","0","1"]')


def _contracts(volume: Array, price: Array, instrument: Instrument) -> Array:
    if instrument.settle is None:
        return volume
    if instrument.inverse:
        return np.asarray(np.maximum(1.0, np.rint(volume * price / instrument.contract_size)))
    return np.asarray(np.round(volume / instrument.contract_size, 8))


def _text(column: Array, nan_text: str = "NaN") -> pa.Array:
    return decimal_text(np.ascontiguousarray(column), None, nan_text)
