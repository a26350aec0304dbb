"""What one provider's source has, handed to the taps of its topics."""

from __future__ import annotations

from collections.abc import Callable

from zvt_crypto.core.errors import ZvtCryptoError
from zvt_crypto.exchanges.streaming import Candles, Funding, Topic, Trades
from zvt_crypto.stream.broadcast.sources import BookView, Source
from zvt_crypto.stream.broadcast.taps import Tap


class Intake:
    """Takes what a source has; a ``Sink``.

    Args:
        on_change: Called when something has come in that is to be turned into messages.
        on_end: Called when a topic comes to its end, and why.

    Attributes:
        source: The source, once it is open.
    """

    def __init__(self, on_change: Callable[[], None], on_end: Callable[[Tap, ZvtCryptoError], None]) -> None:
        self.source: Source | None = None
        self._on_change = on_change
        self._on_end = on_end
        self._taps: dict[Topic, Tap] = {}
        self._touched: dict[Tap, None] = {}

    def tap(self, topic: Topic) -> Tap:
        """What collects a topic; subscribed if nobody wanted it before.

        Raises:
            NotSupported: The provider does not stream it.
        """
        known = self._taps.get(topic)
        if known is not None:
            return known
        assert self.source is not None
        tap = self._taps[topic] = Tap(self.source, topic)
        try:
            self.source.start(topic)
        except ZvtCryptoError:
            del self._taps[topic]
            raise
        return tap

    def end(self, tap: Tap) -> None:
        """Collect a topic no more."""
        assert self.source is not None
        if self._taps.pop(tap.topic, None) is not None:
            self._touched.pop(tap, None)
            self.source.stop(tap.topic)

    def turn(self) -> None:
        """Turn what was collected into messages."""
        touched, self._touched = self._touched, {}
        for tap in touched:
            tap.turn()

    def received(self, message: Trades | Candles | Funding) -> None:
        """See ``Sink``."""
        tap = self._touch(message.topic)
        if tap is not None:
            tap.received(message)

    def book(self, topic: Topic, book: BookView) -> None:
        """See ``Sink``."""
        tap = self._touch(topic)
        if tap is not None:
            tap.book(book)

    def live(self, topic: Topic, since: int) -> None:
        """See ``Sink``."""
        tap = self._touch(topic)
        if tap is not None:
            tap.live(since)

    def lost(self, topic: Topic, reason: str) -> None:
        """See ``Sink``."""
        tap = self._touch(topic)
        if tap is not None:
            tap.lost(reason)

    def refused(self, topic: Topic, error: ZvtCryptoError) -> None:
        """See ``Sink``."""
        tap = self._taps.get(topic)
        if tap is not None:
            self._on_end(tap, error)

    def _touch(self, topic: Topic) -> Tap | None:
        tap = self._taps.get(topic)
        if tap is not None:
            self._touched[tap] = None
            self._on_change()
        return tap
