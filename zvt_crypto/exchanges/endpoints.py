"""Where each exchange's public API is, and how many requests go out to it, without loading ccxt for it.

Hosts are those of the exchanges' public documents; the pace is what ccxt keeps to. A test compares both with
ccxt's own description.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The public API of one exchange.

    Attributes:
        url: Scheme and host.
        pace_ms: What one request of the usual cost takes of the exchange's budget, in ms.
    """

    url: str
    pace_ms: float

    @property
    def requests_per_minute(self) -> int:
        """Requests of the usual cost that go out in a minute at most."""
        return int(60_000 / self.pace_ms)


#: By ccxt's id.
ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "binance": Endpoint("https://api.binance.com", 50),
    "binanceusdm": Endpoint("https://fapi.binance.com", 50),
    "bybit": Endpoint("https://api.bybit.com", 20),
    "coinbase": Endpoint("https://api.coinbase.com", 34),
    "cryptocom": Endpoint("https://api.crypto.com", 10),
    "kraken": Endpoint("https://api.kraken.com", 1000),
    "krakenfutures": Endpoint("https://futures.kraken.com", 600),
    "kucoin": Endpoint("https://api.kucoin.com", 7.5),
    "kucoinfutures": Endpoint("https://api-futures.kucoin.com", 7.5),
    "okx": Endpoint("https://www.okx.com", 110),
}
