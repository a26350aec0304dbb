"""Crypto.com's list of instruments: the entries of ``public/get-instruments``."""

from __future__ import annotations

from typing import Any

from zvt_crypto.sandbox.market import Instrument
from zvt_crypto.sandbox.wire import step_text


def pair(name: str, instrument: Instrument) -> dict[str, Any]:
    """A spot pair."""
    return {
        "symbol": name,
        "inst_type": "CCY_PAIR",
        "display_name": f"{instrument.base}/{instrument.quote}",
        **_common(instrument),
        "margin_buy_enabled": False,
        "margin_sell_enabled": True,
    }


def perpetual(name: str, instrument: Instrument) -> dict[str, Any]:
    """A perpetual; a contract is one coin."""
    return {
        "symbol": name,
        "inst_type": "PERPETUAL_SWAP",
        "display_name": f"{instrument.base}{instrument.quote} Perpetual",
        **_common(instrument),
        "underlying_symbol": f"{instrument.base}{instrument.quote}-INDEX",
        "contract_size": "1",
        "product_type": "DIGITAL_CURRENCIES",
        "margin_buy_enabled": False,
        "margin_sell_enabled": False,
    }


def _common(instrument: Instrument) -> dict[str, Any]:
    return {
        "base_ccy": instrument.base,
        "quote_ccy": instrument.quote,
        "quote_decimals": instrument.price_digits,
        "quantity_decimals": instrument.quantity_digits,
        "price_tick_size": step_text(instrument.price_digits),
        "qty_tick_size": step_text(instrument.quantity_digits),
        "max_leverage": "50",
        "tradable": instrument.active,
        "expiry_timestamp_ms": 0,
        "beta_product": False,
    }
