"""OKX's list of instruments: the entries of ``/api/v5/public/instruments``."""

from __future__ import annotations

from typing import Any

from zvt_crypto.sandbox.market import Instrument
from zvt_crypto.sandbox.wire import step_text


def spot(name: str, number: int, instrument: Instrument) -> dict[str, Any]:
    """A spot pair."""
    return {
        **_common(name, instrument),
        "baseCcy": instrument.base,
        "quoteCcy": instrument.quote,
        "instType": "SPOT",
        "lever": "10" if instrument.quote == "USDT" else "",
        "lotSz": step_text(instrument.quantity_digits),
        "minSz": step_text(instrument.quantity_digits),
        "maxMktAmt": "1000000",
        "maxMktSz": "1000000",
        "maxStopSz": "1000000",
    }


def swap(name: str, number: int, instrument: Instrument) -> dict[str, Any]:
    """A perpetual; ``number`` becomes its instrument code."""
    family = f"{instrument.base}-{instrument.quote}"
    # One contract of an inverse swap is worth dollars, of a linear one coins.
    lot = "1" if instrument.inverse else "0.01"
    return {
        **_common(name, instrument),
        "contTdSwTime": str(instrument.listed),
        "ctMult": "1",
        "ctType": "inverse" if instrument.inverse else "linear",
        "ctVal": f"{instrument.contract_size:g}",
        "ctValCcy": instrument.quote if instrument.inverse else instrument.base,
        "futureSettlement": False,
        "instFamily": family,
        "instIdCode": 10_000 + number,
        "instType": "SWAP",
        "lever": "100",
        "lotSz": lot,
        "minSz": lot,
        "maxLmtSz": "100000000",
        "maxMktAmt": "",
        "maxMktSz": "30000",
        "maxPlatOILmt": "",
        "maxStopSz": "30000",
        "openType": "",
        "posLmtAmt": "",
        "posLmtPct": "",
        "preMktSwTime": "",
        "settleCcy": instrument.settle,
        "tradeQuoteCcyList": [],
        "uly": family,
    }


def _common(name: str, instrument: Instrument) -> dict[str, Any]:
    return {
        "alias": "",
        "auctionEndTime": "",
        "baseCcy": "",
        "category": "1",
        "ctMult": "",
        "ctType": "",
        "ctVal": "",
        "ctValCcy": "",
        "expTime": "" if instrument.delisted is None else str(instrument.delisted),
        "instFamily": "",
        "instId": name,
        "listTime": str(instrument.listed),
        "maxIcebergSz": "9999999999.0000000000000000",
        "maxLmtAmt": "20000000",
        "maxLmtSz": "9999999999",
        "maxTriggerSz": "9999999999.0000000000000000",
        "maxTwapSz": "9999999999.0000000000000000",
        "optType": "",
        "quoteCcy": "",
        "ruleType": "normal",
        "settleCcy": "",
        "state": "live" if instrument.active else "suspend",
        "stk": "",
        "tickSz": step_text(instrument.price_digits),
        "uly": "",
    }
