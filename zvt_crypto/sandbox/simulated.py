"""A market made up from a seed, in random access: every day is made on its own, and they fit together.

An asset's price in dollars is its anchor times the exponential of a few octaves of value noise (the level,
the same from whichever day it is looked at) plus, within each day, a random walk that ends where it began. A
pair's price is the quotient of two assets, so pairs and perpetuals of the same assets move together. Minutes
are kept as integers of ticks and lots; coarser candles are their exact aggregates. Every day has the same
number of trades, so their ids have no holes and still tell their day.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import numpy as np

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, floor_ms
from zvt_crypto.sandbox.events import Book, Fundings, Trades, TradeSpan, joined
from zvt_crypto.sandbox.instruments import ANCHOR_PRICE, INSTRUMENTS
from zvt_crypto.sandbox.market import Array, Candles, Instrument, Market, Now, Span, aggregate, aligned
from zvt_crypto.sandbox.noise import uniform
from zvt_crypto.sandbox.simulated_books import book_at
from zvt_crypto.sandbox.simulated_events import (
    FEWEST_TRADES,
    funding_times,
    fundings_at,
    trades_of,
)

_DAY_MINUTES: Final = DAY_MS // MINUTE_MS
#: (period in minutes, amplitude of the logarithm): about 60 % volatility a year.
_LEVEL_OCTAVES: Final = tuple((_DAY_MINUTES * 4**k // 4, 0.0115 * 2**k) for k in range(7))
_PREMIUM_OCTAVES: Final = ((6 * 60, 0.0002), (_DAY_MINUTES, 0.0004))
_MINUTE_SIGMA: Final = 0.0006
_WICK_SIGMA: Final = 0.0004
#: Least distance of two levels of an order book, as a part of the price.
_LEVEL_DISTANCE: Final = 1e-5
#: Pairs of trades in a minute, on average: at most so many in all, and so many for each lot of its volume.
_PAIRS_PER_MINUTE: Final = 500.0
_PAIRS_PER_LOT: Final = 0.1


class SimulatedMarket(Market):
    """Deterministic candles of well-known instruments, for any range, from a seed.

    Args:
        seed: Another seed is another market.
        now: See ``Market``.
        instruments: What is traded; by default ``instruments.INSTRUMENTS``.
    """

    def __init__(
        self, seed: int = 0, now: Now = None, instruments: Iterable[Instrument] = INSTRUMENTS
    ) -> None:
        super().__init__(instruments, now)
        self.seed = seed
        self._path = lru_cache(maxsize=256)(self._make_path)
        self._whole_day = lru_cache(maxsize=64)(self._make_whole_day)
        self._first_ids = lru_cache(maxsize=256)(self._make_first_ids)
        self._minutes = lru_cache(maxsize=256)(self._make_minutes)
        self._block = lru_cache(maxsize=8192)(self._make_block)
        self._hour_trades = lru_cache(maxsize=64)(self._make_hour_trades)

    def extent(self, span: Span, now: int | None = None) -> tuple[int, int]:
        """See ``Market``: no candle is missing between listing and delisting."""
        instrument = self.instrument(span.symbol)
        listed = floor_ms(instrument.listed - span.offset, span.step) + span.offset
        ends = [span.end, instrument.delisted, None if now is None else now + 1]
        start, end = max(span.start, listed), min(e for e in ends if e is not None)
        if end <= max(start, instrument.listed):
            return start, start
        limit, newest = span.limit, span.newest
        return aligned(Span(span.symbol, span.step, start, end, span.offset, limit, newest))

    def _bars(self, span: Span, now: int | None) -> Candles:
        open_since = span.end - span.step
        if now is None or span.end <= now:
            rows = self._rows(span, span.end)
        else:
            minutes = self._rows(Span(span.symbol, MINUTE_MS, open_since, now + 1), now + 1)
            parts = [self._rows(span, open_since), aggregate(_cut_last(minutes, now), span.step, span.offset)]
            rows = Candles.concat(parts)
        return _scaled(rows, self.instrument(span.symbol))

    def _rows(self, span: Span, end: int) -> Candles:
        unit = _unit(span)
        days = range(span.start // DAY_MS, -(-end // DAY_MS))
        if not days:
            return _NO_TICKS
        rows = Candles.concat([self._block(span.symbol, unit, day) for day in days]).between(span.start, end)
        return rows if unit == span.step else aggregate(rows, span.step, span.offset)

    def _trades(self, span: TradeSpan) -> Trades:
        instrument = self.instrument(span.symbol)
        start = max(span.start, instrument.listed)
        end = min(span.end, instrument.delisted or span.end)
        if span.after_id is not None:
            start = max(start, self._minute_of_trade(instrument, span.after_id))
        if span.before_id is not None:
            end = min(end, self._minute_of_trade(instrument, span.before_id) + MINUTE_MS)
        hours = range(start // HOUR_MS, -(-min(end, self.now() + 1) // HOUR_MS))
        parts: list[Trades] = []
        for hour in reversed(hours) if span.newest else hours:
            parts.append(span.chosen(self._hour_trades(span.symbol, hour)))
            if span.limit is not None and sum(map(len, parts)) >= span.limit:
                break
        return span.limited(joined(parts[::-1] if span.newest else parts))

    def _make_hour_trades(self, symbol: str, hour: int) -> Trades:
        start = hour * HOUR_MS
        minutes = self._rows(Span(symbol, MINUTE_MS, start, start + HOUR_MS), start + HOUR_MS)
        rng = np.random.Generator(np.random.Philox(key=[self._key("fills", symbol), hour]))
        first_ids = self._first_ids(symbol, start // DAY_MS)[minutes.ts % DAY_MS // MINUTE_MS]
        return trades_of(minutes, first_ids, self.instrument(symbol), rng)

    def _make_first_ids(self, symbol: str, day: int) -> Array:
        """Id of the first trade of each minute of a day."""
        count = self._whole_day(symbol, day).trade_count
        return np.asarray(day * _trades_per_day(self.instrument(symbol)) + np.cumsum(count) - count)

    def _minute_of_trade(self, instrument: Instrument, number: int) -> int:
        """When the minute of a trade began; the day of the listing or tomorrow if there is no such trade."""
        days = instrument.listed // DAY_MS, self.now() // DAY_MS + 1
        day = number // _trades_per_day(instrument)
        if not days[0] <= day <= days[1]:
            return (days[0] if day < days[0] else days[1]) * DAY_MS
        minute = np.searchsorted(self._first_ids(instrument.symbol, day), number, side="right") - 1
        return day * DAY_MS + int(minute) * MINUTE_MS

    def _fundings(self, instrument: Instrument, start: int, end: int) -> Fundings:
        if instrument.settle is None:
            return Fundings.empty()
        # Payments are booked a little after they are due.
        due = funding_times(instrument, max(start - MINUTE_MS, instrument.listed), end)
        if instrument.delisted is not None:
            due = due[due < instrument.delisted]
        opens = [self._rows(Span(instrument.symbol, MINUTE_MS, t, t + MINUTE_MS), t + MINUTE_MS) for t in due]
        marks = np.array([rows.open[0] for rows in opens], np.float64) / 10.0**instrument.price_digits
        events = fundings_at(due, marks, 2 * uniform(self._key("funding", instrument.symbol), due) - 1)
        return events.take((events.ts >= start) & (events.ts < end))

    def _book(self, instrument: Instrument, depth: int, at: int) -> Book:
        shown = min(at, (instrument.delisted or at + 1) - 1)
        opened = floor_ms(shown, MINUTE_MS)
        minute = self._rows(
            Span(instrument.symbol, MINUTE_MS, opened, opened + MINUTE_MS), opened + MINUTE_MS
        )
        sequence = at // self.book_step_ms
        if not len(minute):
            return Book(at, sequence, np.zeros((0, 2)), np.zeros((0, 2)))
        price = int(_cut_last(minute, shown).close[-1])
        unit = max(1, round(_LEVEL_DISTANCE * _anchor(instrument) * 10.0**instrument.price_digits))
        return book_at(price, instrument, depth, at, sequence, unit, self._key("book", instrument.symbol))

    def _make_block(self, symbol: str, step: int, day: int) -> Candles:
        minutes = self._minutes(symbol, day)
        return minutes if step == MINUTE_MS else aggregate(minutes, step)

    def _make_minutes(self, symbol: str, day: int) -> Candles:
        instrument = self.instrument(symbol)
        return self._whole_day(symbol, day).between(
            instrument.listed, instrument.delisted or (day + 1) * DAY_MS
        )

    def _make_whole_day(self, symbol: str, day: int) -> Candles:
        """The minutes of a day, also those before the listing and after the delisting."""
        instrument = self.instrument(symbol)
        premium = _value_noise(self._key("premium", symbol), _day_minutes(day), _PREMIUM_OCTAVES)
        price = np.exp(self._path(instrument.base, day) - self._path(instrument.quote, day) + premium)
        ticks = np.maximum(1, np.rint(price * 10**instrument.price_digits)).astype(np.int64)
        rng = np.random.Generator(np.random.Philox(key=[self._key("trades", symbol), day]))
        wicks = np.abs(rng.standard_normal((2, _DAY_MINUTES))) * _WICK_SIGMA * ticks[:-1]
        opened, closed = ticks[:-1], ticks[1:]
        high = np.maximum(opened, closed) + np.rint(wicks[0]).astype(np.int64)
        low = np.maximum(1, np.minimum(opened, closed) - np.rint(wicks[1]).astype(np.int64))
        sizes = _sizes(rng, instrument, price, opened + high + low + closed)
        return Candles(_day_minutes(day)[:-1] * MINUTE_MS, opened, high, low, closed, *sizes)

    def _make_path(self, asset: str, day: int) -> Array:
        """Logarithm of an asset's price in dollars at the 1441 minute boundaries of a day."""
        if asset not in ANCHOR_PRICE:
            return np.zeros(_DAY_MINUTES + 1)
        rng = np.random.Generator(np.random.Philox(key=[self._key("walk", asset), day]))
        walk = np.concatenate([[0.0], np.cumsum(rng.standard_normal(_DAY_MINUTES))]) * _MINUTE_SIGMA
        bridge = walk - np.linspace(0.0, 1.0, _DAY_MINUTES + 1) * walk[-1]
        level = _value_noise(self._key("level", asset), _day_minutes(day), _LEVEL_OCTAVES)
        return np.asarray(np.log(ANCHOR_PRICE[asset]) + level + bridge)

    def _key(self, purpose: str, name: str) -> int:
        return zlib.crc32(f"{purpose} {name}".encode()) << 32 | self.seed & 0xFFFF_FFFF


def _day_minutes(day: int) -> Array:
    return np.arange(day * _DAY_MINUTES, (day + 1) * _DAY_MINUTES + 1)


def _unit(span: Span) -> int:
    """Step of the day blocks that make up a span's candles."""
    if DAY_MS % span.step == 0 and span.offset == 0:
        return span.step
    grid = math.gcd(span.step, span.offset)
    return next(unit for unit in (DAY_MS, HOUR_MS, MINUTE_MS) if grid % unit == 0)


def _value_noise(key: int, minutes: Array, octaves: tuple[tuple[int, float], ...]) -> Array:
    """Smooth noise that depends on the minute alone, so that neighbouring days agree on their boundary."""
    total = np.zeros(len(minutes))
    for number, (period, amplitude) in enumerate(octaves):
        lattice = minutes // period
        points = 2 * uniform(key + number, np.arange(lattice[0], lattice[-1] + 2)) - 1
        at = (minutes % period) / period
        blend = at * at * (3.0 - 2.0 * at)
        index = lattice - lattice[0]
        total += amplitude * (points[index] * (1.0 - blend) + points[index + 1] * blend)
    return total


def _sizes(rng: np.random.Generator, instrument: Instrument, price: Array, total: Array) -> tuple[Array, ...]:
    """Volume, turnover, trade count and the takers' parts, in lots and in ticks times lots.

    ``total`` is the sum of a minute's four prices; ``trades_of`` says what trades they are made of.
    """
    hour = np.arange(_DAY_MINUTES) / 60.0
    busy = 1.0 + 0.5 * np.sin((hour - 9.0) * np.pi / 12.0) + 400.0 * np.abs(np.diff(np.log(price)))
    usual = instrument.daily_turnover / _DAY_MINUTES / price[:-1]
    wanted = usual * busy * rng.lognormal(-0.3, 0.7, _DAY_MINUTES)
    pairs = _shared_out(busy * rng.uniform(0.5, 1.5, _DAY_MINUTES), _pairs_per_day(instrument))
    count = FEWEST_TRADES + 2 * pairs
    lots = np.maximum(count, np.rint(wanted * 10**instrument.quantity_digits))
    volume = lots.astype(np.int64)
    taker = np.rint(volume * rng.uniform(0.3, 0.7, _DAY_MINUTES)).astype(np.int64)
    average = total // 4
    return volume, total + (volume - 4) * average, count, taker, taker * average


def _anchor(instrument: Instrument) -> float:
    """Price around which an instrument moves."""
    return float(ANCHOR_PRICE.get(instrument.base, 1.0) / ANCHOR_PRICE.get(instrument.quote, 1.0))


def _pairs_per_day(instrument: Instrument) -> int:
    """Pairs of trades in a day (see ``trades_of``): fewer where a minute's volume is few lots."""
    lots = instrument.daily_turnover / _DAY_MINUTES / _anchor(instrument) * 10.0**instrument.quantity_digits
    return round(_DAY_MINUTES * min(_PAIRS_PER_MINUTE, max(1.0, _PAIRS_PER_LOT * lots)))


def _trades_per_day(instrument: Instrument) -> int:
    return FEWEST_TRADES * _DAY_MINUTES + 2 * _pairs_per_day(instrument)


def _shared_out(weights: Array, total: int) -> Array:
    """Integers that add up to a total, in proportion to weights."""
    bounds = np.floor(np.cumsum(weights) / np.sum(weights) * total + 0.5).astype(np.int64)
    bounds[-1] = total
    return np.asarray(np.diff(bounds, prepend=0))


def _cut_last(minutes: Candles, now: int) -> Candles:
    """The minutes with the last one as it stands at ``now``, where that is before its end."""
    if not len(minutes) or minutes.ts[-1] + MINUTE_MS <= now:
        return minutes
    last = minutes.take(slice(-1, None))
    elapsed = now - int(last.ts[0])
    opened = last.open
    close = opened + (last.close - opened) * elapsed // MINUTE_MS
    volume = last.volume * elapsed // MINUTE_MS
    taker = last.taker_volume * elapsed // MINUTE_MS
    vwap = last.turnover // last.volume
    so_far = last.with_columns(
        close=close,
        high=np.maximum(opened, close),
        low=np.minimum(opened, close),
        volume=volume,
        turnover=volume * vwap,
        trade_count=np.minimum(last.trade_count * elapsed // MINUTE_MS, volume),
        taker_volume=taker,
        taker_turnover=taker * vwap,
    )
    return Candles.concat([minutes.take(slice(0, -1)), so_far])


def _scaled(rows: Candles, instrument: Instrument) -> Candles:
    """Prices and quantities of ticks and lots."""
    price, lot, worth = (
        10.0**d for d in (instrument.price_digits, instrument.quantity_digits, instrument.turnover_digits)
    )
    return Candles(
        rows.ts,
        rows.open / price,
        rows.high / price,
        rows.low / price,
        rows.close / price,
        rows.volume / lot,
        rows.turnover / worth,
        rows.trade_count,
        rows.taker_volume / lot,
        rows.taker_turnover / worth,
    )


_NO_TICKS: Final = Candles(*(np.zeros(0, np.int64) for _ in range(10)))
