"""Kraken's lists: the entries of ``/0/public/Assets`` and ``/0/public/AssetPairs``."""

from __future__ import annotations

from typing import Any, Final

from zvt_crypto.sandbox.market import Instrument
from zvt_crypto.sandbox.wire import step_text

#: Kraken's own names of currencies.
ALTNAMES: Final = {"BTC": "XBT", "DOGE": "XDG"}
#: Currencies of the first years have a prefix: ``X`` for coins, ``Z`` for money of states.
_PREFIXED: Final = {**dict.fromkeys(("BTC", "ETH", "LTC", "XRP", "DOGE"), "X"), "USD": "Z"}
_FEES: Final = ([0, 0.4], [10_000, 0.35], [50_000, 0.24], [100_000, 0.22], [250_000, 0.2])
_MAKER_FEES: Final = ([0, 0.25], [10_000, 0.2], [50_000, 0.14], [100_000, 0.12], [250_000, 0.1])


def altname(currency: str) -> str:
    """Kraken's short name of a currency, such as ``XBT``."""
    return ALTNAMES.get(currency, currency)


def asset_id(currency: str) -> str:
    """Kraken's name of a currency, such as ``XXBT``, ``ZUSD`` or ``USDT``."""
    return _PREFIXED.get(currency, "") + altname(currency)


def pair_id(instrument: Instrument) -> str:
    """Kraken's name of a pair: with prefixes where both currencies have one (``XXBTZUSD``, ``XBTUSDT``)."""
    name = asset_id if instrument.base in _PREFIXED and instrument.quote in _PREFIXED else altname
    return name(instrument.base) + name(instrument.quote)


def asset(currency: str) -> dict[str, Any]:
    """An entry of the list of assets."""
    is_money = currency in ("USD", "USDT", "USDC")
    return {
        "aclass": "currency",
        "altname": altname(currency),
        "decimals": 4 if currency == "USD" else 8 if is_money else 10,
        "display_decimals": 2 if currency == "USD" else 5,
        "status": "enabled",
    }


def pair(instrument: Instrument) -> dict[str, Any]:
    """An entry of the list of pairs."""
    base, quote = altname(instrument.base), altname(instrument.quote)
    leverage = [2, 3, 4, 5] if instrument.quote in ("USD", "USDT") else []
    return {
        "altname": base + quote,
        "wsname": f"{base}/{quote}",
        "aclass_base": "currency",
        "base": asset_id(instrument.base),
        "aclass_quote": "currency",
        "quote": asset_id(instrument.quote),
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": instrument.price_digits,
        "lot_decimals": 8,
        "lot_multiplier": 1,
        "leverage_buy": leverage,
        "leverage_sell": leverage,
        "fees": list(_FEES),
        "fees_maker": list(_MAKER_FEES),
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": step_text(instrument.quantity_digits),
        "costmin": "0.00002" if instrument.quote == "BTC" else "0.5",
        "tick_size": step_text(instrument.price_digits),
        "status": "online",
        "long_position_limit": 80,
        "short_position_limit": 80,
    }
