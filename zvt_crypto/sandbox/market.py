"""What a market is: its instruments, its candles, and the questions a venue asks of it.

Times are epoch milliseconds UTC, ranges are half-open, and a candle's time is its open time.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zvt_crypto.core import symbols
from zvt_crypto.core.errors import unknown_value
from zvt_crypto.core.levels import ceil_ms, floor_ms, level_ms
from zvt_crypto.sandbox.events import Book, Fundings, Trades, TradeSpan

Array = npt.NDArray[Any]
Now = int | None | Callable[[], int]

#: How long an order book stays as it is, unless a market is told otherwise.
BOOK_STEP_MS: Final = 50

_SUMS: Final = ("volume", "turnover", "trade_count", "taker_volume", "taker_turnover")
_INTEGERS: Final = ("ts", "trade_count")


@dataclass(frozen=True, slots=True)
class Instrument:
    """A spot pair or, with ``settle``, a perpetual.

    Attributes:
        base: Base currency as the venues write it.
        quote: Quote currency.
        settle: Settlement currency of a perpetual, None for spot.
        price_digits: Decimal digits of a price.
        quantity_digits: Decimal digits of a quantity in base currency.
        listed: First trade, epoch ms.
        delisted: End of trading, epoch ms; None while it trades.
        contract_size: Worth of one contract where a venue counts contracts: in base currency, or in quote
            currency if the contract is inverse.
        daily_turnover: Typical turnover of a day in quote currency.
        funding_hours: Hours between two funding payments of a perpetual.
        funding_change: When the hours between payments changed (epoch ms), and what they were before.
    """

    base: str
    quote: str
    settle: str | None = None
    price_digits: int = 2
    quantity_digits: int = 4
    listed: int = 0
    delisted: int | None = None
    contract_size: float = 1.0
    daily_turnover: float = 1e7
    funding_hours: int = 8
    funding_change: tuple[int, int] | None = None

    @property
    def symbol(self) -> str:
        """Unified symbol of ccxt, such as ``BTC/USDT`` or ``BTC/USD:BTC``."""
        return symbols.Market(self.base, self.quote, self.settle).symbol

    @property
    def active(self) -> bool:
        """Whether it still trades."""
        return self.delisted is None

    def funding_hours_at(self, ts: int) -> int:
        """Hours between two funding payments as they are at a time, epoch ms."""
        if self.funding_change is not None and ts < self.funding_change[0]:
            return self.funding_change[1]
        return self.funding_hours

    @property
    def inverse(self) -> bool:
        """Whether it is a perpetual that is settled in its base currency."""
        return self.settle is not None and self.settle == self.base

    @property
    def turnover_digits(self) -> int:
        """Decimal digits of price times quantity."""
        return self.price_digits + self.quantity_digits


@dataclass(frozen=True, slots=True)
class Candles:
    """Candles as columns of equal length, in order of time.

    Attributes:
        ts: Open time, epoch ms.
        open: First price.
        high: Highest price.
        low: Lowest price.
        close: Last price.
        volume: In base currency.
        turnover: In quote currency; 0 where a replayed file does not tell.
        trade_count: Number of trades; 0 where a replayed file does not tell.
        taker_volume: Part of ``volume`` that takers bought; 0 where a replayed file does not tell.
        taker_turnover: Part of ``turnover`` that takers bought; 0 where a replayed file does not tell.
        nan_text: How a venue writes a number that is none; only faults make such numbers.
    """

    ts: Array
    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array
    turnover: Array
    trade_count: Array
    taker_volume: Array
    taker_turnover: Array
    nan_text: str = field(default="NaN", kw_only=True)

    def __len__(self) -> int:
        return len(self.ts)

    @staticmethod
    def of(columns: Mapping[str, Array]) -> Candles:
        """Candles of float columns (``ts`` and ``trade_count`` are integers); a column not given is 0."""
        zeros = np.zeros(len(columns["ts"]))
        kinds = {name: np.int64 if name in _INTEGERS else np.float64 for name in COLUMNS}
        return Candles(*(np.asarray(columns.get(name, zeros), kind) for name, kind in kinds.items()))

    @staticmethod
    def empty() -> Candles:
        """No candles."""
        return Candles.of({"ts": np.zeros(0)})

    @staticmethod
    def concat(parts: Sequence[Candles]) -> Candles:
        """All rows of ``parts``, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return Candles(*(np.concatenate([getattr(p, name) for p in parts]) for name in COLUMNS))

    def take(self, which: slice | Array) -> Candles:
        """The rows of a slice, of positions or of a mask."""
        return Candles(*(getattr(self, name)[which] for name in COLUMNS), nan_text=self.nan_text)

    def between(self, start: int, end: int) -> Candles:
        """The rows that opened in ``[start, end)``."""
        lower, upper = np.searchsorted(self.ts, (start, end))
        return self if upper - lower == len(self) else self.take(slice(int(lower), int(upper)))

    def with_columns(self, **columns: Any) -> Candles:
        """The same rows with some columns replaced."""
        return replace(self, **columns)

    def table(self) -> pa.Table:
        """The rows as an Arrow table."""
        return pa.table({name: getattr(self, name) for name in COLUMNS})


#: Columns of ``Candles`` in order.
COLUMNS: Final = tuple(f.name for f in fields(Candles) if f.name != "nan_text")


def aggregate(rows: Candles, step: int, offset: int = 0) -> Candles:
    """Coarser candles: first open, highest high, lowest low, last close, sums of the rest.

    Args:
        rows: Candles in order of time, all of one step that divides ``step``.
        step: Length of the new candles in ms.
        offset: The new candles open at ``offset`` plus multiples of ``step``.
    """
    if not len(rows):
        return rows
    opens = (rows.ts - offset) // step * step + offset
    first = np.flatnonzero(np.diff(opens, prepend=opens[0] - 1))
    last = np.append(first[1:], len(rows)) - 1
    sums = (np.add.reduceat(getattr(rows, name), first) for name in _SUMS)
    high, low = np.maximum.reduceat(rows.high, first), np.minimum.reduceat(rows.low, first)
    return Candles(opens[first], rows.open[first], high, low, rows.close[last], *sums)


@dataclass(frozen=True, slots=True)
class Span:
    """Which candles are asked for: those of ``symbol`` that open in ``[start, end)``.

    Attributes:
        symbol: Unified symbol.
        step: Candle length in ms.
        start: First open time, ms.
        end: End of open times, exclusive, ms.
        offset: Candles open at ``offset`` plus multiples of ``step``.
        limit: At most so many candles.
        newest: Whether ``limit`` keeps the newest instead of the oldest.
    """

    symbol: str
    step: int
    start: int
    end: int
    offset: int = 0
    limit: int | None = None
    newest: bool = False


class Market(ABC):
    """Instruments and their candles, in random access.

    Args:
        instruments: What is traded.
        now: The exchange's clock: None for the real one, epoch ms for one that stands still, or a function.

    Attributes:
        book_step_ms: How long an order book stays as it is: its states are those at multiples of this.
        published: Time of the newest states of order books that are shown, epoch ms; None shows those of any
            time. Streams set it, so that no answer has a state between two that they told.
    """

    #: Most levels that an order book has on each side.
    book_levels: int = 5000

    def __init__(self, instruments: Iterable[Instrument], now: Now = None) -> None:
        self.instruments: dict[str, Instrument] = {i.symbol: i for i in instruments}
        self.book_step_ms = BOOK_STEP_MS
        self.published: int | None = None
        self._now = now

    def now(self) -> int:
        """The exchange's time, epoch ms."""
        if self._now is None:
            return time.time_ns() // 1_000_000
        return self._now() if callable(self._now) else self._now

    def candles(self, symbol: str, level: str, start: int, end: int, now: int | None = None) -> Candles:
        """Candles of a level that open in ``[start, end)``.

        Args:
            symbol: Unified symbol.
            level: One of ``zvt_crypto.core.levels.LEVEL_MS``.
            start: Epoch ms.
            end: Epoch ms, exclusive.
            now: Show them as at this time, the last one possibly unfinished; None shows final values only.

        Raises:
            InvalidArgument: The symbol or the level is unknown.
        """
        return self.bars(Span(symbol, level_ms(level), start, end), now)

    def bars(self, span: Span, now: int | None = None) -> Candles:
        """The candles of a span, of any step that minutes make up; see ``candles``."""
        first, stop = self.extent(span, now)
        return self._bars(replace(span, start=first, end=stop), now) if first < stop else Candles.empty()

    def trades(self, span: TradeSpan, now: int | None = None) -> Trades:
        """The trades of a span, as far as they are made at ``now``; None shows all.

        Raises:
            InvalidArgument: The symbol is unknown.
        """
        self.instrument(span.symbol)
        return self._trades(span if now is None else replace(span, end=min(span.end, now + 1)))

    def fundings(self, symbol: str, start: int, end: int, now: int | None = None) -> Fundings:
        """The funding events in ``[start, end)``, as far as they are paid at ``now``; None shows all.

        Raises:
            InvalidArgument: The symbol is unknown.
        """
        return self._fundings(self.instrument(symbol), start, end if now is None else min(end, now + 1))

    def book(self, symbol: str, depth: int, now: int) -> Book:
        """The state of the order book at ``now``, with at most so many levels on each side.

        Fewer levels are the best ones of more; the time of a state is when it began.

        Raises:
            InvalidArgument: The symbol is unknown.
        """
        shown = now if self.published is None else min(now, self.published)
        return self._book(
            self.instrument(symbol), min(depth, self.book_levels), floor_ms(shown, self.book_step_ms)
        )

    @abstractmethod
    def _trades(self, span: TradeSpan) -> Trades:
        """The trades of a span."""

    @abstractmethod
    def _fundings(self, instrument: Instrument, start: int, end: int) -> Fundings:
        """The funding events in ``[start, end)``."""

    @abstractmethod
    def _book(self, instrument: Instrument, depth: int, at: int) -> Book:
        """The state of the order book that begins at a time, a multiple of ``book_step_ms``."""

    @abstractmethod
    def extent(self, span: Span, now: int | None = None) -> tuple[int, int]:
        """The time ``[first open, end of last)`` that the candles of a span cover; empty if first = end."""

    @abstractmethod
    def _bars(self, span: Span, now: int | None) -> Candles:
        """The candles of a span whose start and end come from ``extent``."""

    def instrument(self, symbol: str) -> Instrument:
        """The instrument of a unified symbol.

        Raises:
            InvalidArgument: There is none.
        """
        try:
            return self.instruments[symbol]
        except KeyError:
            raise unknown_value("symbol", symbol, self.instruments) from None


def running_clock(start: int, speed: float = 1.0) -> Callable[[], int]:
    """An exchange's clock that begins at a time now and runs so many times as fast as the real one.

    Args:
        start: Epoch ms.
        speed: 60 makes a minute of a second.
    """
    began = time.monotonic()
    return lambda: start + int((time.monotonic() - began) * 1000 * speed)


def aligned(span: Span) -> tuple[int, int]:
    """First open time at or after the span's start, and the end of its last candle, on the span's grid."""
    first = ceil_ms(span.start - span.offset, span.step) + span.offset
    last = floor_ms(span.end - 1 - span.offset, span.step) + span.offset
    if span.limit is not None and span.newest:
        first = max(first, last - (span.limit - 1) * span.step)
    elif span.limit is not None:
        last = min(last, first + (span.limit - 1) * span.step)
    return first, max(first, last + span.step)
