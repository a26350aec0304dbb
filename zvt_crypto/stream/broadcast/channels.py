"""What a client of ``/ws`` can subscribe to: channels, their names and their messages' common part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import orjson

from zvt_crypto.core.symbols import PERP
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.streaming import StreamFeed, Topic

#: Names of ``crypto-api.md`` ("Real-time WebSocket API") -> what of a market they stream.
STREAMS: Final[Mapping[str, StreamFeed]] = {
    "crypto.trades": "trades",
    "crypto.klines": "candles",
    "crypto.orderbook": "order_book",
    "crypto.funding": "funding",
}
#: Streams of an account, which need its keys.
PRIVATE_STREAMS: Final = ("crypto.account", "crypto.orders")


@dataclass(frozen=True)
class Channel:
    """One stream of one market.

    Attributes:
        stream: One of ``STREAMS``.
        provider: The data source.
        symbol: Our code of the market, with ``-perp`` where it is a perpetual.
        interval: Length of candles; None for other streams.
        depth: Levels of an order book on each side; None for other streams.
        topic: Where its rows come from: for candles that the venue does not stream, its trades.
    """

    stream: str
    provider: str
    symbol: str
    interval: str | None = None
    depth: int | None = None
    topic: Topic | None = field(default=None, compare=False, repr=False)

    @cached_property
    def key(self) -> str:
        """The channel in one word, such as ``crypto.klines:binance:btcusdt:1m``."""
        parts = (self.stream, self.provider, self.symbol, self.interval, self.depth)
        return ":".join(str(part) for part in parts if part is not None)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The channel's own fields of a message."""
        found = {name: getattr(self, name) for name in ("stream", "provider", "symbol", "interval", "depth")}
        return {name: value for name, value in found.items() if value is not None}

    @cached_property
    def head(self) -> bytes:
        """What every message of the channel begins with: ``facts`` in JSON without the closing brace."""
        return orjson.dumps(self.facts)[:-1]


def symbol_of(instrument: Instrument) -> str:
    """How a market is called in messages; ``parse_notation`` reads it back.

    >>> symbol_of(Instrument("cryptoperp", "btcusdt", "BTC/USDT:USDT", "BTCUSDT"))
    'btcusdt-perp'
    """
    return f"{instrument.code}-perp" if instrument.entity_type == PERP else instrument.code
