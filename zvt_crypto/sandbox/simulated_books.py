"""Simulated order books: a state is a function of the seed and its time, and the next one is much like it.

Every price of the grid has its own clock, at whose beats the amount that rests there is drawn anew; many are
empty. Bids are what rests below the market's price, asks what rests from it on: when it moves, they follow.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from zvt_crypto.sandbox.events import Array, Book
from zvt_crypto.sandbox.market import Instrument
from zvt_crypto.sandbox.noise import uniform

#: Part of the prices where an order rests.
_FILLED: Final = 0.6
#: For n levels on a side 3 n prices are looked at, and so many more, that enough of them hold one.
_SPARE: Final = 64
#: So many prices on each side are busy, the best ones.
_BUSY: Final = 16
#: Bounds of a number in [0, 1) -> how long an amount rests, in ms, elsewhere: most levels are quiet.
_SHARES: Final = np.array([0.02, 0.10, 0.40])
_PERIODS_MS: Final = np.array([400, 2_000, 20_000, 120_000])
_TYPICAL_PART: Final = 20_000


def book_at(
    price: int, instrument: Instrument, depth: int, at: int, sequence: int, unit: int, key: int
) -> Book:
    """A state of an order book.

    Args:
        price: The market's price in ticks: bids are below it.
        instrument: What is traded.
        depth: Levels on each side; bids end where the price would be zero.
        at: Time of the state, epoch ms.
        sequence: Its number.
        unit: Prices of levels are multiples of so many ticks.
        key: Decides everything else.
    """
    reach, best = 3 * depth + _SPARE, (price - 1) // unit
    bid_numbers = np.arange(best, max(0, best - reach), -1)
    ask_numbers = np.arange(best + 1, best + 1 + reach)
    bids, asks = (
        _levels(numbers, instrument, depth, at, unit, key) for numbers in (bid_numbers, ask_numbers)
    )
    return Book(at, sequence, bids, asks)


def _levels(numbers: Array, instrument: Instrument, depth: int, at: int, unit: int, key: int) -> Array:
    """The first so many of these prices where an order rests, and its volume, shape (levels, 2).

    Args:
        numbers: Prices in units, best first.
        instrument: What is traded.
        depth: At most so many.
        at: Epoch ms.
        unit: In ticks.
        key: Decides everything else.
    """
    own = uniform(key, numbers)
    period = _PERIODS_MS[np.searchsorted(_SHARES, own, side="right")]
    period[:_BUSY] = _PERIODS_MS[0]
    beat = (at + (own * 1e9).astype(np.int64) % period) // period
    drawn = uniform(key + 1, numbers * 1_000_003 + beat)
    filled = np.flatnonzero(drawn < _FILLED)[:depth]
    prices = numbers[filled] * unit / 10.0**instrument.price_digits
    lot = 10.0**instrument.quantity_digits
    usual = instrument.daily_turnover / _TYPICAL_PART / prices * lot
    lots = 1 + np.floor(usual * -np.log1p(-drawn[filled] / _FILLED))
    return np.column_stack([prices, lots / lot])
