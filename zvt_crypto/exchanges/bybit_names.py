"""What Bybit calls candle levels and kinds of market, over REST and in streams."""

from __future__ import annotations

from typing import Final

from zvt_crypto.exchanges.base import Instrument

INTERVALS: Final = {"1m": "1", "5m": "5", "15m": "15", "30m": "30", "1h": "60", "4h": "240", "1d": "D"}


def category(instrument: Instrument) -> str:
    """The kind of market; spot pairs and contracts share symbols."""
    if instrument.entity_type == "cryptopair":
        return "spot"
    return "inverse" if instrument.inverse else "linear"
