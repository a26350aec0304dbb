"""Bybit's list of instruments: the entries of ``/v5/market/instruments-info``."""

from __future__ import annotations

from typing import Any

from zvt_crypto.sandbox.market import Instrument
from zvt_crypto.sandbox.wire import step_text


def spot(name: str, number: int, instrument: Instrument) -> dict[str, Any]:
    """A spot pair."""
    quantity = step_text(instrument.quantity_digits)
    return {
        "symbol": name,
        "baseCoin": instrument.base,
        "quoteCoin": instrument.quote,
        "innovation": "0",
        "symbolType": "",
        "status": status(instrument),
        "marginTrading": "utaOnly" if instrument.quote == "USDT" else "none",
        "stTag": "0",
        "lotSizeFilter": {
            "basePrecision": quantity,
            "quotePrecision": step_text(instrument.turnover_digits),
            "minOrderQty": quantity,
            "maxOrderQty": "1000000",
            "minOrderAmt": "5",
            "maxOrderAmt": "8000000",
        },
        "priceFilter": {"tickSize": step_text(instrument.price_digits)},
        "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
        "symbolId": number,
    }


def contract(name: str, number: int, instrument: Instrument) -> dict[str, Any]:
    """A perpetual; an inverse one counts dollars."""
    step = "1" if instrument.inverse else step_text(instrument.quantity_digits)
    lot = {
        "maxOrderQty": "25000000" if instrument.inverse else "1190",
        "minOrderQty": step,
        "qtyStep": step,
        "postOnlyMaxOrderQty": "25000000" if instrument.inverse else "1190",
        "maxMktOrderQty": "5000000" if instrument.inverse else "119",
        "minNotionalValue": "5",
    }
    tick = step_text(instrument.price_digits)
    return {
        "symbol": name,
        "contractType": "InversePerpetual" if instrument.inverse else "LinearPerpetual",
        "status": status(instrument),
        "baseCoin": instrument.base,
        "quoteCoin": instrument.quote,
        "launchTime": str(instrument.listed),
        "deliveryTime": str(instrument.delisted or 0),
        "deliveryFeeRate": "",
        "priceScale": str(instrument.price_digits),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
        "priceFilter": {"minPrice": tick, "maxPrice": "1999999.8", "tickSize": tick},
        "lotSizeFilter": lot,
        "unifiedMarginTrade": True,
        "fundingInterval": instrument.funding_hours * 60,
        "settleCoin": instrument.settle,
        "copyTrading": "both",
        "upperFundingRate": "0.005",
        "lowerFundingRate": "-0.005",
        "isPreListing": False,
        "preListingInfo": None,
        "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
        "displayName": "",
        "symbolType": "",
        "symbolId": number,
    }


def status(instrument: Instrument) -> str:
    """Whether it trades, in Bybit's word."""
    return "Trading" if instrument.active else "Closed"
