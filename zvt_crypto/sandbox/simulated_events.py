"""Trades that add up to simulated minutes, and funding events, from a random generator.

A minute's trades have its open, high, low and close, its volume, turnover and number of trades, to the last
digit: one lot is traded at each of the four prices, and the rest in pairs as far above as below the average.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from zvt_crypto.core.levels import HOUR_MS, MINUTE_MS
from zvt_crypto.sandbox.events import Array, Fundings, Trades
from zvt_crypto.sandbox.market import Candles, Instrument

#: One trade at each of a candle's four prices and one at their average: what a minute has at least.
FEWEST_TRADES: Final = 5
_LATEST_MS: Final = 20


def trades_of(minutes: Candles, first_ids: Array, instrument: Instrument, rng: np.random.Generator) -> Trades:
    """The trades of minutes.

    Args:
        minutes: Candles of one minute in integers of ticks and lots; every count is odd and at least
            ``FEWEST_TRADES``, every volume at least the count, and the turnover is that of one lot at each of
            the four prices and of the rest at their average, rounded down.
        first_ids: Id of each minute's first trade.
        instrument: What is traded.
        rng: Decides times, sizes and sides.
    """
    count = minutes.trade_count
    total = int(count.sum())
    if not total:
        return Trades.empty()
    first = np.cumsum(count) - count
    of_minute = np.repeat(np.arange(len(minutes)), count)
    ordinal = np.arange(total) - first[of_minute]
    offsets = np.sort(of_minute * MINUTE_MS + rng.integers(0, MINUTE_MS, total)) - of_minute * MINUTE_MS
    ticks, lots = _prices_and_lots(minutes, of_minute, ordinal, rng)
    return Trades(
        minutes.ts[of_minute] + offsets,
        np.sort(rng.integers(0, 1_000_000, total)),
        first_ids[of_minute] + ordinal,
        ticks / 10.0**instrument.price_digits,
        lots / 10.0**instrument.quantity_digits,
        rng.random(total) < 0.5,
    )


def _prices_and_lots(
    minutes: Candles, of_minute: Array, ordinal: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Ticks and lots of each trade, in the order open, pairs, average, high and low, close."""
    count = minutes.trade_count
    pairs = (count - FEWEST_TRADES) // 2
    average = (minutes.open + minutes.high + minutes.low + minutes.close) // 4
    room = np.minimum(minutes.high - average, average - minutes.low)
    # A pair shares its random numbers, which are drawn for as many pairs as a minute has trades.
    first = np.cumsum(count) - count
    pair = (ordinal - 1) // 2
    is_pair = (ordinal >= 1) & (pair < pairs[of_minute])
    draw = np.where(is_pair, first[of_minute] + pair, 0)
    weight, shift = rng.exponential(1.0, len(ordinal))[draw], rng.random(len(ordinal))[draw]
    spare = (minutes.volume - count)[of_minute]
    share = np.bincount(of_minute, weight * is_pair, len(minutes))[of_minute]
    extra = np.where(is_pair, np.floor(0.9 * spare * weight / np.maximum(share, 1e-9)), 0).astype(np.int64)
    sign = np.where((ordinal - 1) % 2 == 0, 1, -1)
    ticks = average[of_minute] + np.where(is_pair, sign * np.floor(shift * (room[of_minute] + 1)), 0)
    lots = 1 + extra
    last = first + count - 1
    for position, column in ((first, "open"), (last - 2, "high"), (last - 1, "low"), (last, "close")):
        ticks[position] = getattr(minutes, column)
    # What the pairs leave over is traded at the average.
    lots[last - 3] += minutes.volume - np.bincount(of_minute, lots, len(minutes)).astype(np.int64)
    return ticks.astype(np.int64), lots


def funding_times(instrument: Instrument, start: int, end: int) -> Array:
    """Times at which funding is due in ``[start, end)``, epoch ms, on the full hour."""
    hours = np.arange(-(-start // HOUR_MS), -(-end // HOUR_MS), dtype=np.int64)
    before = instrument.funding_change
    every = np.full(len(hours), instrument.funding_hours)
    if before is not None:
        every[hours * HOUR_MS < before[0]] = before[1]
    times: Array = hours[hours % every == 0] * HOUR_MS
    return times


def fundings_at(times: Array, mark_price: Array, noise: Array) -> Fundings:
    """The events at these times; the payment is booked some milliseconds late.

    Args:
        times: When funding is due, epoch ms.
        mark_price: At these times.
        noise: A number in [-1, 1) for each time.
    """
    late = np.floor((noise + 1) * 1e6).astype(np.int64) % _LATEST_MS
    return Fundings(times + late, np.round(0.0001 + 0.0003 * noise, 8), mark_price)
