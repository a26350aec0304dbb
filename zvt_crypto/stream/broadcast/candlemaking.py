"""Candles under way: made of trades where a venue streams none, and closed where it does not say when.

A candle is closed when the next one begins, or some seconds after its end by the exchange's clock. Trades
that come later correct it, and it is told once more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

import numpy as np
import pyarrow as pa

from zvt_crypto.core.trade_bars import candles_from_trades

#: After its end a candle waits so long for its last trades, in ms.
GRACE_MS: Final = 3_000
_NS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Candle:
    """The state of a candle.

    Attributes:
        ts: Open time, epoch ms.
        open: First price, in quote currency.
        high: Highest price.
        low: Lowest price.
        close: Last price.
        volume: In base currency.
        is_closed: Whether it is over and whole.
        is_partial: Whether trades of it may be missing; such a one is never closed.
    """

    ts: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    is_closed: bool = False
    is_partial: bool = False


@dataclass(slots=True)
class _Bar:
    """A candle with what adding to it takes: exact volume, times of the first and last trade in ns."""

    candle: Candle
    volume: Decimal
    first: int
    last: int

    def add(self, other: _Bar) -> None:
        """Add the trades of another part of the same candle, earlier or later ones."""
        mine, its = self.candle, other.candle
        self.volume += other.volume
        self.candle = replace(
            mine,
            open=its.open if other.first < self.first else mine.open,
            high=max(mine.high, its.high),
            low=min(mine.low, its.low),
            close=its.close if other.last >= self.last else mine.close,
            volume=float(self.volume),
        )
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)


class CandleMaker:
    """The newest candles of one market, made of its trades. A stretch without trades has none.

    Args:
        step: Length of the candles in ms.
    """

    def __init__(self, step: int) -> None:
        self._step = step
        self._whole_from: int | None = None
        self._current: _Bar | None = None
        self._closed: _Bar | None = None

    def live(self, since: int) -> None:
        """From this exchange time on no trade is missing: the first whole candle opens then or later."""
        self._whole_from = since

    def lost(self) -> None:
        """Trades may be missing from now on, of the candle under way too."""
        self._whole_from = None
        if self._current is not None:
            self._current.candle = replace(self._current.candle, is_partial=True)

    def add(self, trades: pa.Table) -> list[Candle]:
        """The states that trades, each new, lead to, in order.

        Args:
            trades: ``ts``, ``price``, ``volume`` and ``nanosecond``, in any order.
        """
        told: list[Candle] = []
        for bar in self._bars(trades):
            known = self._known(bar.candle.ts)
            if known is not None:
                known.add(bar)
                told.append(known.candle)
            elif self._is_newest(bar.candle.ts):
                told += self._begin(bar)
        return told

    def close(self, now: int) -> list[Candle]:
        """What has ended by the exchange's time, epoch ms, without a trade since."""
        current = self._current
        if current is None or now < current.candle.ts + self._step + GRACE_MS:
            return []
        self._current = None
        return self._close(current)

    def _known(self, ts: int) -> _Bar | None:
        """The candle that opened then, if it is the one under way or the one closed last."""
        return next((bar for bar in (self._current, self._closed) if bar and bar.candle.ts == ts), None)

    def _is_newest(self, ts: int) -> bool:
        return all(bar is None or bar.candle.ts < ts for bar in (self._current, self._closed))

    def _begin(self, bar: _Bar) -> list[Candle]:
        """Take a candle up, once the one before it is closed."""
        told = [] if self._current is None else self._close(self._current)
        self._current = bar
        return [*told, bar.candle]

    def _close(self, bar: _Bar) -> list[Candle]:
        self._closed = bar
        if bar.candle.is_partial:
            return []
        bar.candle = replace(bar.candle, is_closed=True)
        return [bar.candle]

    def _bars(self, trades: pa.Table) -> list[_Bar]:
        rows = candles_from_trades(trades, self._step)
        times = trades["ts"].to_numpy()
        moments = times * _NS + trades["nanosecond"].fill_null(0).to_numpy()
        order = np.argsort(moments, kind="stable")
        opens = times[order] // self._step
        starts = np.flatnonzero(np.diff(opens, prepend=-1))
        first = moments[order][starts]
        last = moments[order][np.append(starts[1:], len(opens)) - 1]
        whole_from = self._whole_from
        return [
            _Bar(
                Candle(
                    row["ts"],
                    row["open"],
                    row["high"],
                    row["low"],
                    row["close"],
                    row["volume"],
                    is_partial=whole_from is None or row["ts"] < whole_from,
                ),
                Decimal(repr(row["volume"])),
                int(first[i]),
                int(last[i]),
            )
            for i, row in enumerate(rows.to_pylist())
        ]


class CandleCloser:
    """Finds out when streamed candles are over where the venue does not mark their last state.

    Args:
        step: Length of the candles in ms.
    """

    def __init__(self, step: int) -> None:
        self._step = step
        self._newest: Candle | None = None
        self._is_whole = False

    def live(self) -> None:
        """Nothing is missing from now on."""
        self._is_whole = True

    def lost(self) -> None:
        """The last state of the candle under way may be missing: it is not closed here."""
        self._is_whole = False
        self._newest = None

    def add(self, state: Candle) -> list[Candle]:
        """What a state leads to: the end of the candle before it, and the state itself."""
        newest = self._newest
        if newest is None or state.ts > newest.ts:
            told = [] if newest is None or newest.is_closed else [replace(newest, is_closed=True)]
            self._newest = state if self._is_whole else None
            return [*told, state]
        if state.ts == newest.ts:
            self._newest = replace(state, is_closed=newest.is_closed)
            return [self._newest]
        return [replace(state, is_closed=True)]

    def close(self, now: int) -> list[Candle]:
        """What has ended by the exchange's time, epoch ms, and was not closed yet."""
        newest = self._newest
        if newest is None or newest.is_closed or now < newest.ts + self._step + GRACE_MS:
            return []
        self._newest = replace(newest, is_closed=True)
        return [self._newest]
