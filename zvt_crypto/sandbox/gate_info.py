"""Gate's lists of currencies, pairs and contracts: the entries of ``/api/v4/spot/currencies`` and others."""

from __future__ import annotations

from typing import Any

from zvt_crypto.sandbox.market import Instrument
from zvt_crypto.sandbox.wire import step_text


def currency(name: str) -> dict[str, Any]:
    """A currency, with one chain that it can be withdrawn on."""
    chain = {
        "name": name,
        "addr": "",
        "withdraw_disabled": False,
        "withdraw_delayed": False,
        "deposit_disabled": False,
    }
    return {
        "currency": name,
        "name": name,
        "delisted": False,
        "withdraw_disabled": False,
        "withdraw_delayed": False,
        "deposit_disabled": False,
        "trade_disabled": False,
        "fixed_rate": "",
        "chain": name,
        "chains": [chain],
    }


def pair(name: str, instrument: Instrument) -> dict[str, Any]:
    """A spot pair."""
    return {
        "id": name,
        "base": instrument.base,
        "base_name": instrument.base,
        "quote": instrument.quote,
        "quote_name": instrument.quote,
        "fee": "0.2",
        "min_base_amount": step_text(instrument.quantity_digits),
        "min_quote_amount": "3",
        "max_quote_amount": "5000000",
        "amount_precision": instrument.quantity_digits,
        "precision": instrument.price_digits,
        "trade_status": "tradable" if instrument.active else "untradable",
        "sell_start": instrument.listed // 1000,
        "buy_start": instrument.listed // 1000,
        "delisting_time": 0 if instrument.delisted is None else instrument.delisted // 1000,
        "type": "normal",
        "trade_url": f"https://www.gate.com/trade/{name}",
    }


def margin(name: str, instrument: Instrument) -> dict[str, Any]:
    """A pair that can be traded on margin."""
    return {
        "id": name,
        "base": instrument.base,
        "quote": instrument.quote,
        "leverage": 3,
        "min_base_amount": step_text(instrument.quantity_digits),
        "min_quote_amount": "3",
        "max_quote_amount": "1000000",
    }


def contract_size(instrument: Instrument) -> float:
    """Worth of a contract: in base currency, or one dollar where it is inverse, as Gate's are."""
    return 1.0 if instrument.inverse else instrument.contract_size


def contract(name: str, instrument: Instrument, now: int, price: float) -> dict[str, Any]:
    """A perpetual, with its price at a time."""
    seconds = instrument.funding_hours * 3600
    shown = f"{price:.{instrument.price_digits}f}"
    return {
        "name": name,
        "type": "inverse" if instrument.inverse else "direct",
        # Inverse contracts are not counted in coins, so they have none.
        "quanto_multiplier": "0" if instrument.inverse else f"{contract_size(instrument):g}",
        "ref_discount_rate": "0",
        "order_price_deviate": "0.5",
        "maintenance_rate": "0.005",
        "mark_type": "index",
        "last_price": shown,
        "mark_price": shown,
        "index_price": shown,
        "funding_rate_indicative": "0.0001",
        "mark_price_round": "0.01",
        "funding_offset": 0,
        "in_delisting": not instrument.active,
        "risk_limit_base": "1000000",
        "interest_rate": "0.0003",
        "order_price_round": step_text(instrument.price_digits),
        "order_size_min": 1,
        "ref_rebate_rate": "0.2",
        "funding_interval": seconds,
        "risk_limit_step": "1000000",
        "leverage_min": "1",
        "leverage_max": "100",
        "risk_limit_max": "8000000",
        "maker_fee_rate": "-0.00025",
        "taker_fee_rate": "0.00075",
        "funding_rate": "0.0001",
        "order_size_max": 1000000,
        "funding_next_apply": (now // 1000 // seconds + 1) * seconds,
        "short_users": 977,
        "config_change_time": instrument.listed // 1000,
        "create_time": instrument.listed // 1000,
        "trade_size": 28530850594,
        "position_size": 5223816,
        "long_users": 455,
        "funding_impact_value": "60000",
        "orders_limit": 50,
        "trade_id": 10851092,
        "orderbook_id": 2129638396,
    }
