"""What each kind of channel makes of the rows of its topic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import pyarrow as pa

from zvt_crypto.core.levels import LEVEL_MS
from zvt_crypto.exchanges.streaming import Funding
from zvt_crypto.stream.broadcast.candlemaking import Candle, CandleCloser, CandleMaker
from zvt_crypto.stream.broadcast.channellog import ChannelLog
from zvt_crypto.stream.broadcast.channels import Channel
from zvt_crypto.stream.broadcast.sources import BookView
from zvt_crypto.stream.broadcast.wiremessages import book_data, candle_data, funding_data, trade_data


class Producer(Protocol):
    """Fills the log of one channel."""

    @property
    def log(self) -> ChannelLog:
        """Where it goes."""

    def rows(self, rows: Any) -> None:
        """Take what the topic brought: a table, a book, or a ``Funding``."""

    def live(self, since: int) -> None:
        """From this exchange time (epoch ms) on nothing is missing."""

    def lost(self, reason: str) -> None:
        """Something may be missing from now on."""

    def gap(self, start: int, end: int, reason: str) -> None:
        """Something between two exchange times (epoch ms) was not received."""

    def tick(self, now: int) -> None:
        """Do what is due at this exchange time (epoch ms); called about every second."""


def producer_of(channel: Channel) -> Producer:
    """What makes a channel's messages of its topic's rows."""
    assert channel.topic is not None
    if channel.stream == "crypto.klines":
        return StreamedCandles(channel) if channel.topic.feed == "candles" else MadeCandles(channel)
    if channel.stream == "crypto.orderbook":
        return Book(channel)
    return Tape(channel) if channel.stream == "crypto.trades" else NextFunding(channel)


class _Logged:
    """What is the same for all of them."""

    def __init__(self, channel: Channel) -> None:
        self.log = ChannelLog(channel)

    def live(self, since: int) -> None:
        self.log.live(since)

    def lost(self, reason: str) -> None:
        self.log.lost(reason)

    def gap(self, start: int, end: int, reason: str) -> None:
        self.log.gap(start, end, reason)

    def tick(self, now: int) -> None:
        """Nothing is ever due."""


class Tape(_Logged):
    """Every trade is a message."""

    def rows(self, rows: pa.Table) -> None:
        """Trades in ``schemas.TRADES``."""
        for data in trade_data(rows):
            self.log.update(data)


class Book(_Logged):
    """A message is the whole book up to the channel's depth."""

    def rows(self, rows: BookView) -> None:
        """The book as it is now."""
        assert self.log.channel.depth is not None
        bids, asks = rows.best(self.log.channel.depth)
        self.log.update(book_data(rows.ts, rows.number, bids, asks), "book")


class NextFunding(_Logged):
    """A message is all that is known of the next payment: venues send its parts one by one."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._known: Funding | None = None

    def lost(self, reason: str) -> None:
        """What was known is not brought up to date any more."""
        self._known = None
        super().lost(reason)

    def rows(self, rows: Funding) -> None:
        """Some of it."""
        if self._known is not None:
            known = self._known
            rows = Funding(
                rows.topic,
                rows.ts,
                known.mark_price if rows.mark_price is None else rows.mark_price,
                known.rate if rows.rate is None else rows.rate,
                known.next_ts if rows.next_ts is None else rows.next_ts,
            )
        self._known = rows
        self.log.update(funding_data(rows), "funding")


class StreamedCandles(_Logged):
    """Candles that the venue streams."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        assert channel.interval is not None
        self._closer = CandleCloser(LEVEL_MS[channel.interval])

    def live(self, since: int) -> None:
        """The venue's next state of a candle is of the whole candle."""
        self._closer.live()
        super().live(since)

    def lost(self, reason: str) -> None:
        """The last state of the candle under way may be missing."""
        self._closer.lost()
        super().lost(reason)

    def rows(self, rows: pa.Table) -> None:
        """Candles, and ``is_closed``: NULL where the venue does not say."""
        for candle, is_marked in _candles(rows):
            self._say([candle] if is_marked else self._closer.add(candle))

    def tick(self, now: int) -> None:
        """Close what has ended without a next candle."""
        self._say(self._closer.close(now))

    def _say(self, candles: Iterable[Candle]) -> None:
        for candle in candles:
            self.log.update(candle_data(candle), candle.ts)


class MadeCandles(_Logged):
    """Candles made of trades."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        assert channel.interval is not None
        self._maker = CandleMaker(LEVEL_MS[channel.interval])

    def live(self, since: int) -> None:
        """The first whole candle opens then or later."""
        self._maker.live(since)
        super().live(since)

    def lost(self, reason: str) -> None:
        """Trades of the candle under way may be missing."""
        self._maker.lost()
        super().lost(reason)

    def gap(self, start: int, end: int, reason: str) -> None:
        """Trades are missing, but from ``end`` on there are all."""
        self._maker.lost()
        self._maker.live(end)
        super().gap(start, end, reason)

    def rows(self, rows: pa.Table) -> None:
        """Trades in ``schemas.TRADES``."""
        self._say(self._maker.add(rows))

    def tick(self, now: int) -> None:
        """Close what has ended without a trade since."""
        self._say(self._maker.close(now))

    def _say(self, candles: Iterable[Candle]) -> None:
        for candle in candles:
            self.log.update(candle_data(candle), candle.ts)


def _candles(rows: pa.Table) -> Iterator[tuple[Candle, bool]]:
    """Candles, and whether the venue says when they are closed."""
    names = ("ts", "open", "high", "low", "close", "volume", "is_closed")
    for ts, *prices, volume, is_closed in zip(*(rows[name].to_pylist() for name in names), strict=True):
        first, high, low, last = prices
        yield Candle(ts, first, high, low, last, volume, bool(is_closed)), is_closed is not None
