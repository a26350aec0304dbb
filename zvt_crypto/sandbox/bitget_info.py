"""Bitget's lists of coins, pairs and contracts: the entries of ``/api/v2/spot/public/coins`` and others."""

from __future__ import annotations

from typing import Any

from zvt_crypto.sandbox.market import Instrument
from zvt_crypto.sandbox.wire import step_text


def coin(name: str, number: int) -> dict[str, Any]:
    """A currency, with one chain that it can be withdrawn on."""
    chain = {
        "chain": name,
        "needTag": "false",
        "withdrawable": "true",
        "rechargeable": "true",
        "withdrawFee": "0.0005",
        "extraWithdrawFee": "0",
        "depositConfirm": "1",
        "withdrawConfirm": "1",
        "minDepositAmount": "0.0001",
        "minWithdrawAmount": "0.001",
        "browserUrl": "https://example.com/tx/",
        "contractAddress": None,
        "withdrawStep": "0",
        "withdrawMinScale": "8",
        "congestion": "normal",
    }
    return {"coinId": str(number), "coin": name, "transfer": "true", "chains": [chain], "areaCoin": "no"}


def spot(name: str, instrument: Instrument) -> dict[str, Any]:
    """A spot pair."""
    return {
        "symbol": name,
        "baseCoin": instrument.base,
        "quoteCoin": instrument.quote,
        "minTradeAmount": "0",
        "maxTradeAmount": "10000000000",
        "takerFeeRate": "0.002",
        "makerFeeRate": "0.002",
        "pricePrecision": str(instrument.price_digits),
        "quantityPrecision": str(instrument.quantity_digits),
        "quotePrecision": str(instrument.turnover_digits),
        "status": "online" if instrument.active else "offline",
        "minTradeUSDT": "1",
        "buyLimitPriceRatio": "0.05",
        "sellLimitPriceRatio": "0.05",
        "areaSymbol": "no",
        "orderQuantity": "200",
        "openTime": str(instrument.listed),
        "offTime": "" if instrument.delisted is None else str(instrument.delisted),
    }


def margin(name: str, instrument: Instrument) -> dict[str, Any]:
    """A pair that can be traded on margin."""
    return {
        "symbol": name,
        "baseCoin": instrument.base,
        "quoteCoin": instrument.quote,
        "maxCrossedLeverage": "3",
        "maxIsolatedLeverage": "10",
        "warningRiskRatio": "0.8",
        "liquidationRiskRatio": "1",
        "minTradeAmount": step_text(instrument.quantity_digits),
        "maxTradeAmount": "10000000000",
        "takerFeeRate": "0.001",
        "makerFeeRate": "0.001",
        "pricePrecision": str(instrument.price_digits),
        "quantityPrecision": str(instrument.quantity_digits),
        "minTradeUSDT": "5",
        "isBorrowable": True,
        "userMinBorrow": "0.00000001",
        "status": "1",
    }


def contract(name: str, instrument: Instrument) -> dict[str, Any]:
    """A perpetual; amounts are in base currency, whatever it is settled in."""
    lot = step_text(instrument.quantity_digits)
    return {
        "symbol": name,
        "baseCoin": instrument.base,
        "quoteCoin": instrument.quote,
        "buyLimitPriceRatio": "0.01",
        "sellLimitPriceRatio": "0.01",
        "feeRateUpRatio": "0.005",
        "makerFeeRate": "0.0002",
        "takerFeeRate": "0.0006",
        "openCostUpRatio": "0.01",
        "supportMarginCoins": [instrument.settle],
        "minTradeNum": lot,
        "priceEndStep": "1",
        "volumePlace": str(instrument.quantity_digits),
        "pricePlace": str(instrument.price_digits),
        "sizeMultiplier": lot,
        "symbolType": "perpetual",
        "minTradeUSDT": "5",
        "maxSymbolOrderNum": "200",
        "maxProductOrderNum": "400",
        "maxPositionNum": "150",
        "symbolStatus": "normal" if instrument.active else "off",
        "offTime": "-1" if instrument.delisted is None else str(instrument.delisted),
        "limitOpenTime": "-1",
        "deliveryTime": "",
        "deliveryStartTime": "",
        "deliveryPeriod": "",
        "launchTime": "",
        "fundInterval": str(instrument.funding_hours),
        "minLever": "1",
        "maxLever": "125",
        "posLimit": "0.05",
        "maintainTime": "",
    }
