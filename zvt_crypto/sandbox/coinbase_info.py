"""Coinbase's descriptions of products and currencies."""

from __future__ import annotations

from typing import Any

from zvt_crypto.sandbox.market import Instrument
from zvt_crypto.sandbox.wire import step_text

_FIAT = {"USD": "US Dollar", "EUR": "Euro", "GBP": "British Pound"}


def product(name: str, instrument: Instrument, price: float | None) -> dict[str, Any]:
    """An entry of ``/api/v3/brokerage/market/products``; its price is None before the first trade."""
    tick, lot = step_text(instrument.price_digits), step_text(instrument.quantity_digits)
    turnover = instrument.daily_turnover if instrument.active else 0.0
    return {
        "product_id": name,
        "price": f"{price:.{instrument.price_digits}f}" if price else "",
        "price_percentage_change_24h": "0",
        "volume_24h": f"{turnover / price:.8f}" if price else "",
        "volume_percentage_change_24h": "0",
        "base_increment": lot,
        "quote_increment": tick,
        "quote_min_size": "0.00001" if instrument.quote == "BTC" else "1",
        "quote_max_size": "150000000",
        "base_min_size": lot,
        "base_max_size": "3400",
        "base_name": instrument.base,
        "quote_name": _FIAT.get(instrument.quote, instrument.quote),
        "watched": False,
        "is_disabled": not instrument.active,
        "new": False,
        "status": "online" if instrument.active else "delisted",
        "cancel_only": False,
        "limit_only": False,
        "post_only": False,
        "trading_disabled": not instrument.active,
        "auction_mode": False,
        "product_type": "SPOT",
        "quote_currency_id": instrument.quote,
        "base_currency_id": instrument.base,
        "fcm_trading_session_details": None,
        "mid_market_price": "",
        "alias": "",
        "alias_to": [],
        "base_display_symbol": instrument.base,
        "quote_display_symbol": instrument.quote,
        "view_only": False,
        "price_increment": tick,
        "display_name": name,
        "product_venue": "CBE",
        "approximate_quote_24h_volume": f"{turnover:.2f}",
        "new_at": "2023-01-01T00:00:00Z",
        **dict.fromkeys(_EMPTY, ""),
        "is_alpha_testing": False,
    }


def fiat(code: str) -> dict[str, Any]:
    """An entry of ``/v2/currencies``."""
    return {"id": code, "name": _FIAT[code], "min_size": "0.01"}


def crypto(code: str, number: int) -> dict[str, Any]:
    """An entry of ``/v2/currencies/crypto``."""
    return {
        "asset_id": f"00000000-0000-4000-8000-{number:012d}",
        "code": code,
        "name": code,
        "color": "#0433FF",
        "sort_index": 100 + number,
        "exponent": 8,
        "type": "crypto",
        "address_regex": "^.+$",
    }


def is_fiat(code: str) -> bool:
    """Whether Coinbase counts a currency as money of a state."""
    return code in _FIAT


_EMPTY = (
    "market_cap",
    "base_cbrn",
    "quote_cbrn",
    "product_cbrn",
    "icon_color",
    "icon_url",
    "display_name_overwrite",
    "about_description",
    "best_bid_price",
    "best_ask_price",
)
