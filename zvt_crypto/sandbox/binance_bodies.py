"""Bodies of Binance's answers: ``exchangeInfo``, ``fundingInfo`` and ``klines``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from zvt_crypto.sandbox.market import Candles, Instrument
from zvt_crypto.sandbox.wire import decimal_text, json_rows, step_text

_NEVER: Final = 4_133_404_800_000
_SPOT_ORDER_TYPES: Final = (
    "LIMIT",
    "LIMIT_MAKER",
    "MARKET",
    "STOP_LOSS",
    "STOP_LOSS_LIMIT",
    "TAKE_PROFIT",
    "TAKE_PROFIT_LIMIT",
)
_FUTURES_ORDER_TYPES: Final = (
    "LIMIT",
    "MARKET",
    "STOP",
    "STOP_MARKET",
    "TAKE_PROFIT",
    "TAKE_PROFIT_MARKET",
    "TRAILING_STOP_MARKET",
)


def spot(instruments: Iterable[Instrument], now: int, minute_weight: int) -> dict[str, Any]:
    """Body of ``/api/v3/exchangeInfo``."""
    return {
        "timezone": "UTC",
        "serverTime": now,
        "rateLimits": [
            _limit("REQUEST_WEIGHT", "MINUTE", 1, minute_weight),
            _limit("ORDERS", "SECOND", 10, 100),
            _limit("ORDERS", "DAY", 1, 200_000),
            _limit("RAW_REQUESTS", "MINUTE", 5, 61_000),
        ],
        "exchangeFilters": [],
        "symbols": [_spot_symbol(i) for i in instruments],
        "sors": [],
    }


def futures(instruments: Iterable[Instrument], now: int, minute_weight: int) -> dict[str, Any]:
    """Body of ``/fapi/v1/exchangeInfo``."""
    listed = list(instruments)
    assets = dict.fromkeys(i.settle for i in listed)
    return {
        "timezone": "UTC",
        "serverTime": now,
        "futuresType": "U_MARGINED",
        "rateLimits": [
            _limit("REQUEST_WEIGHT", "MINUTE", 1, minute_weight),
            _limit("ORDERS", "MINUTE", 1, 1200),
            _limit("ORDERS", "SECOND", 10, 300),
        ],
        "exchangeFilters": [],
        "assets": [{"asset": a, "marginAvailable": True, "autoAssetExchange": "-10000"} for a in assets],
        "symbols": [_futures_symbol(i) for i in listed],
    }


def funding(symbol: str, hours: int) -> dict[str, Any]:
    """One entry of ``/fapi/v1/fundingInfo``."""
    return {
        "symbol": symbol,
        "adjustedFundingRateCap": "0.02000000",
        "adjustedFundingRateFloor": "-0.02000000",
        "fundingIntervalHours": hours,
        "disclaimer": False,
    }


def klines(rows: Candles, step: int, price: int, quantity: int, quote: int) -> bytes:
    """Body of ``klines``: twelve fields, ascending, decimals padded to the digits given."""

    def text(name: str, digits: int) -> Any:
        return decimal_text(getattr(rows, name), digits, rows.nan_text)

    prices = [part for name in ("open", "high", "low", "close") for part in ('"', text(name, price), '",')]
    return json_rows(
        "[",
        decimal_text(rows.ts),
        ",",
        *prices,
        '"',
        text("volume", quantity),
        '",',
        decimal_text(rows.ts + (step - 1)),
        ',"',
        text("turnover", quote),
        '",',
        decimal_text(rows.trade_count),
        ',"',
        text("taker_volume", quantity),
        '","',
        text("taker_turnover", quote),
        '","0"]',
    )


def _limit(kind: str, interval: str, number: int, limit: int) -> dict[str, Any]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}


def _spot_symbol(instrument: Instrument) -> dict[str, Any]:
    return {
        "symbol": instrument.base + instrument.quote,
        "status": "TRADING" if instrument.active else "BREAK",
        "baseAsset": instrument.base,
        "baseAssetPrecision": 8,
        "quoteAsset": instrument.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": _SPOT_ORDER_TYPES,
        "icebergAllowed": True,
        "ocoAllowed": True,
        "otoAllowed": True,
        "opoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": True,
        "cancelReplaceAllowed": True,
        "amendAllowed": True,
        "pegInstructionsAllowed": True,
        "isSpotTradingAllowed": instrument.active,
        "isMarginTradingAllowed": instrument.active,
        "filters": _spot_filters(instrument),
        "permissions": [],
        "permissionSets": [["SPOT", "MARGIN"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }


def _spot_filters(instrument: Instrument) -> list[dict[str, Any]]:
    tick, lot = step_text(instrument.price_digits, 8), step_text(instrument.quantity_digits, 8)
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "9000000000.00000000", "stepSize": lot},
        {"filterType": "ICEBERG_PARTS", "limit": 10},
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": "0.00000000",
            "maxQty": "1000000.00000000",
            "stepSize": "0.00000000",
        },
        {
            "filterType": "TRAILING_DELTA",
            "minTrailingAboveDelta": 10,
            "maxTrailingAboveDelta": 2000,
            "minTrailingBelowDelta": 10,
            "maxTrailingBelowDelta": 2000,
        },
        {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": "5",
            "bidMultiplierDown": "0.2",
            "askMultiplierUp": "5",
            "askMultiplierDown": "0.2",
            "avgPriceMins": 5,
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": "0.00010000" if instrument.quote == "BTC" else "5.00000000",
            "applyMinToMarket": True,
            "maxNotional": "9000000.00000000",
            "applyMaxToMarket": False,
            "avgPriceMins": 5,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5},
    ]


def _futures_symbol(instrument: Instrument) -> dict[str, Any]:
    tick, lot = step_text(instrument.price_digits), step_text(instrument.quantity_digits)
    symbol = instrument.base + instrument.quote
    return {
        "symbol": symbol,
        "pair": symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": _NEVER,
        "onboardDate": instrument.listed,
        "status": "TRADING" if instrument.active else "SETTLING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": instrument.base,
        "quoteAsset": instrument.quote,
        "marginAsset": instrument.settle,
        "pricePrecision": instrument.price_digits,
        "quantityPrecision": instrument.quantity_digits,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": ["PoW"] if instrument.base == "BTC" else [],
        "settlePlan": 0,
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10_000,
        "filters": [
            {"minPrice": tick, "maxPrice": "4529764", "filterType": "PRICE_FILTER", "tickSize": tick},
            {"stepSize": lot, "filterType": "LOT_SIZE", "maxQty": "1000000", "minQty": lot},
            {"stepSize": lot, "filterType": "MARKET_LOT_SIZE", "maxQty": "100000", "minQty": lot},
            {"limit": 200, "filterType": "MAX_NUM_ORDERS"},
            {"limit": 10, "filterType": "MAX_NUM_ALGO_ORDERS"},
            {"notional": "5", "filterType": "MIN_NOTIONAL"},
            {
                "multiplierDown": "0.9500",
                "multiplierUp": "1.0500",
                "multiplierDecimal": "4",
                "filterType": "PERCENT_PRICE",
            },
        ],
        "orderTypes": _FUTURES_ORDER_TYPES,
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
        "permissionSets": ["GRID", "COPY"],
    }
