"""Funding events into their table: fetched when a payment is due, which the stream tells."""

from __future__ import annotations

import time
from typing import Final

from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.streaming import BookUpdate, Candles, Funding, Topic, Trades
from zvt_crypto.stream.recording import LiveTable
from zvt_crypto.stream.series import Series

#: Seconds between two looks where no time of a payment is known.
_USUAL_SECONDS: Final = 3600.0
#: How long after a payment is due it is looked for first, in ms; it is looked for again until it is there.
_BOOKED_MS: Final = 30_000


class FundingTable(LiveTable):
    """Funding events, as they are paid; what streams tell beforehand is a forecast, and is not stored."""

    def topic(self, instrument: Instrument) -> Topic:
        """See ``LiveTable``."""
        return Topic("funding", instrument)

    def received(self, message: Trades | Candles | BookUpdate | Funding) -> None:
        """Note when the next payment is due."""
        if isinstance(message, Funding):
            series = self.series_of(message.topic)
            self.note(series, 1, message.ts)
            next_ts = message.next_ts
            if next_ts is not None and next_ts > self._due.setdefault(series, next_ts):
                # The payment that was due has been made.
                self._due[series] = next_ts
                self._ask_at[series] = time.monotonic() + _BOOKED_MS / 1000

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self._due: dict[Series, int] = {}
        self._ask_at: dict[Series, float] = {}

    def store(self, series: Series) -> None:
        """Have the events fetched that were paid since the last look."""
        if time.monotonic() < self._ask_at.get(series, 0.0):
            return
        self._ask_at[series] = time.monotonic() + _USUAL_SECONDS
        now = self.now(series)
        if series.missing_from is not None and now > series.missing_from:
            self.mender.ask(series, series.missing_from, now)
        series.missing_from = now

    def live(self, topic: Topic, since: int) -> None:
        """See ``Listener``."""
        self.series_of(topic).went_live(since)

    def lost(self, topic: Topic, reason: str) -> None:
        """See ``Listener``. Events are fetched whether or not they are announced."""
        self.series_of(topic).since = None

    def _poll(self, series: Series) -> None:
        """Not needed: events are asked for in any case."""
