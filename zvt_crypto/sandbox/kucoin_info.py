"""KuCoin's lists of markets: the entries of ``/api/v2/symbols`` and of ``/api/v1/contracts/active``."""

from __future__ import annotations

from typing import Any

from zvt_crypto.core.levels import HOUR_MS
from zvt_crypto.sandbox.market import Instrument
from zvt_crypto.sandbox.wire import step_text

_INDEX_SOURCES = ("okex", "binance", "kucoin", "bybit", "bitmart", "gateio")


def spot(name: str, instrument: Instrument) -> dict[str, Any]:
    """A spot pair."""
    lot = step_text(instrument.quantity_digits)
    return {
        "symbol": name,
        "name": name,
        "baseCurrency": instrument.base,
        "quoteCurrency": instrument.quote,
        "feeCurrency": instrument.quote,
        "market": "BTC" if instrument.quote == "BTC" else "USDS",
        "baseMinSize": lot,
        "quoteMinSize": "0.1",
        "baseMaxSize": "10000000000",
        "quoteMaxSize": "99999999",
        "baseIncrement": lot,
        "quoteIncrement": "0.000001",
        "priceIncrement": step_text(instrument.price_digits),
        "priceLimitRate": "0.1",
        "minFunds": "0.000001" if instrument.quote == "BTC" else "0.1",
        "isMarginEnabled": instrument.active,
        "enableTrading": instrument.active,
        "feeCategory": 1,
        "makerFeeCoefficient": "1.00",
        "takerFeeCoefficient": "1.00",
        "st": False,
        "callauctionIsEnabled": False,
        "callauctionPriceFloor": None,
        "callauctionPriceCeiling": None,
        "callauctionFirstStageStartTime": None,
        "callauctionSecondStageStartTime": None,
        "callauctionThirdStageStartTime": None,
        "tradingStartTime": None,
    }


def lot_size(instrument: Instrument) -> float:
    """Base currency of one lot, or quote currency where the contract is inverse."""
    return 1.0 if instrument.inverse else 10.0**-instrument.quantity_digits


def contract(name: str, instrument: Instrument, now: int) -> dict[str, Any]:
    """A perpetual as it is at ``now``, epoch ms; prices, rates and volumes of its market are samples."""
    base = name.removesuffix(f"{instrument.quote}M")
    return {
        "symbol": name,
        "rootSymbol": instrument.quote,
        "type": "FFWCSX",
        "firstOpenDate": instrument.listed,
        "expireDate": None,
        "settleDate": None,
        "baseCurrency": base,
        "quoteCurrency": instrument.quote,
        "settleCurrency": base if instrument.inverse else instrument.settle,
        "maxOrderQty": 1_000_000,
        "maxPrice": 1_000_000.0,
        "lotSize": 1,
        "tickSize": 10.0**-instrument.price_digits,
        "indexPriceTickSize": 0.01,
        # KuCoin writes the multiplier of an inverse contract as a negative number.
        "multiplier": -1.0 if instrument.inverse else lot_size(instrument),
        "initialMargin": 0.008,
        "maintainMargin": 0.004,
        "maxRiskLimit": 100_000,
        "minRiskLimit": 100_000,
        "riskStep": 50_000,
        "makerFeeRate": 0.0002,
        "takerFeeRate": 0.0006,
        "takerFixFee": 0.0,
        "makerFixFee": 0.0,
        "settlementFee": None,
        "isDeleverage": True,
        "isQuanto": not instrument.inverse,
        "isInverse": instrument.inverse,
        "markMethod": "FairPrice",
        "fairMethod": "FundingRate",
        "fundingBaseSymbol": f".{base}INT8H",
        "fundingQuoteSymbol": f".{instrument.quote}INT8H",
        "fundingRateSymbol": f".{name}FPI8H",
        "indexSymbol": f".K{name.removesuffix('M')}",
        "settlementSymbol": "",
        "status": "Open",
        "fundingFeeRate": 0.000052,
        "predictedFundingFeeRate": 0.000083,
        "fundingRateGranularity": instrument.funding_hours_at(now) * HOUR_MS,
        "openInterest": "6748176",
        "turnoverOf24h": 1034643198.3265533,
        "volumeOf24h": 12069.225,
        "markPrice": 86378.69,
        "indexPrice": 86382.64,
        "lastTradePrice": 86364.0,
        "nextFundingRateTime": 17_752_926,
        "maxLeverage": 125,
        "sourceExchanges": _INDEX_SOURCES,
        "premiumsSymbol1M": f".{name}PI",
        "premiumsSymbol8H": f".{name}PI8H",
        "fundingBaseSymbol1M": f".{base}INT",
        "fundingQuoteSymbol1M": f".{instrument.quote}INT",
        "lowPrice": 82205.2,
        "highPrice": 89299.9,
        "priceChgPct": -0.028,
        "priceChg": -2495.9,
        "k": 490.0,
        "m": 300.0,
        "f": 1.3,
        "mmrLimit": 0.3,
        "mmrLevConstant": 125.0,
        "supportCross": True,
        "buyLimit": 90700.7115,
        "sellLimit": 82062.5485,
    }
