"""Where the contract holds: every venue with each kind of market that it serves, and what stands for it."""

from zvt_crypto.core.levels import parse_time
from zvt_crypto.exchanges.base import venue_class, venues

#: The sandbox's clock stands still, half a minute into a candle.
NOW = parse_time("2024-06-10T12:34:30Z")
SYMBOL = {"cryptopair": "BTC/USDT", "cryptoperp": "BTC/USDT:USDT"}
#: Where a venue has no such market.
OTHER_SYMBOL = {("cryptocom", "cryptoperp"): "BTC/USD:USD", ("kraken", "cryptoperp"): "BTC/USD:USD"}
#: Exchanges that the provider for all others is proven on; a place is then named ``ccxt:bitget``.
GENERIC = ("bitget", "gate")


def venue_of(name):
    """The venue class of a name such as ``binance`` or ``ccxt:bitget``."""
    provider, _, exchange = name.partition(":")
    return venue_class(provider, exchange or None)


def symbol_of(name, kind):
    return OTHER_SYMBOL.get((name, kind), SYMBOL[kind])


NAMES = [name for name in sorted(venues()) if name != "ccxt"] + [f"ccxt:{exchange}" for exchange in GENERIC]
PLACES = [(name, kind) for name in NAMES for kind in venue_of(name).capabilities.entity_types]
