"""Kraken Futures' lists: the entries of ``instruments`` and ``feeschedules``, and an execution event."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import iso
from zvt_crypto.sandbox.events import Trades
from zvt_crypto.sandbox.kraken_info import altname
from zvt_crypto.sandbox.market import Array, Instrument
from zvt_crypto.sandbox.wire import decimal_text, json_rows

_FEE_SCHEDULE: Final = "723888f7-0a8e-4183-8648-f920a22339e3"
#: What UUIDs of executions, events and orders begin with; the trade's number makes up the rest.
_UUIDS: Final = {
    "execution": "419060e5-869d-41bf-9b6a-",
    "event": "03591930-2a5b-4bee-b10a-",
    "maker": "a07420cd-14d1-4c8a-8c21-",
    "taker": "a07420ce-3ada-41f2-a526-",
}


def symbol(instrument: Instrument) -> str:
    """Kraken's name of a perpetual: ``PF_XBTUSD`` (linear) or ``PI_XBTUSD`` (inverse)."""
    prefix = "PI" if instrument.inverse else "PF"
    return f"{prefix}_{altname(instrument.base)}{instrument.quote}"


def contract(instrument: Instrument) -> dict[str, Any]:
    """An entry of the list of instruments."""
    unit = "contracts" if instrument.inverse else "numNonContractUnits"
    first = 0 if instrument.inverse else 0.0
    return {
        "symbol": symbol(instrument),
        "type": "futures_inverse" if instrument.inverse else "flexible_futures",
        **({"underlying": f"rr_{altname(instrument.base)}usd".lower()} if instrument.inverse else {}),
        "tickSize": float(round(10.0**-instrument.price_digits, instrument.price_digits)),
        "contractSize": 1,
        "tradeable": instrument.active,
        "impactMidSize": 1.0,
        "maxPositionSize": 1_000_000.0,
        "openingDate": iso(instrument.listed),
        "marginLevels": [
            {unit: first, "initialMargin": 0.02, "maintenanceMargin": 0.01},
            {unit: first + 500_000, "initialMargin": 0.04, "maintenanceMargin": 0.02},
        ],
        "fundingRateCoefficient": 24,
        "maxRelativeFundingRate": 0.0025,
        "isin": "GB00J62YGL67",
        "contractValueTradePrecision": 0 if instrument.inverse else instrument.quantity_digits,
        "postOnly": False,
        "feeScheduleUid": _FEE_SCHEDULE,
        "mtf": True,
        "base": instrument.base,
        "quote": instrument.quote,
        "pair": f"{instrument.base}:{instrument.quote}",
    }


def fee_schedules() -> list[dict[str, Any]]:
    """The list of fee schedules."""
    tiers = [{"makerFee": 0.02, "takerFee": 0.05, "usdVolume": 0.0}]
    return [{"uid": _FEE_SCHEDULE, "name": "Perpetual", "tiers": tiers}]


def executions(rows: Trades, instrument: Instrument) -> bytes:
    """Public execution events; the taker's direction is the trade's side."""
    number = pc.utf8_lpad(decimal_text(rows.id), 12, "0")
    uid = {kind: pc.binary_join_element_wise(start, number, "") for kind, start in _UUIDS.items()}
    ts, price = decimal_text(rows.ts), decimal_text(rows.price, None, rows.nan_text)
    quantity = decimal_text(amounts(rows.price, rows.volume, instrument), None, rows.nan_text)
    value = decimal_text(np.round(rows.turnover, 2), 2, rows.nan_text)
    buys = pa.array(rows.is_buy)

    def order(kind: str, direction: pa.Array, order_type: str) -> list[str | pa.Array]:
        head = [f'"{kind}Order":{{"uid":"', uid[kind], f'","tradeable":"{symbol(instrument)}",']
        sides = ['"direction":"', direction, '","quantity":"', quantity, '","timestamp":', ts]
        prices = [',"limitPrice":"', price, f'","orderType":"{order_type}","reduceOnly":false,']
        return [*head, *sides, *prices, '"lastUpdateTimestamp":', ts, "},"]

    return json_rows(
        '{"uid":"',
        uid["event"],
        '","timestamp":',
        ts,
        ',"event":{"Execution":{"execution":{"uid":"',
        uid["execution"],
        '",',
        *order("maker", pc.if_else(buys, "Sell", "Buy"), "Post"),
        *order("taker", pc.if_else(buys, "Buy", "Sell"), "IoC"),
        '"timestamp":',
        ts,
        ',"quantity":"',
        quantity,
        '","price":"',
        price,
        '","markPrice":"',
        price,
        '","limitFilled":false,"usdValue":"',
        value,
        '"},"takerReducedQuantity":""}}}',
    )


def amounts(price: Array, volume: Array, instrument: Instrument) -> Array:
    """Coins, or dollars where the contract is inverse."""
    return np.round(price * volume, instrument.turnover_digits) if instrument.inverse else volume


def iso_times(ts: Array) -> list[str]:
    """Times as Kraken Futures writes them, always with milliseconds."""
    return [time_text(value) for value in ts.tolist()]


def time_text(ts: int) -> str:
    """A time as Kraken Futures writes it, such as ``2025-07-11T08:00:00.000Z``."""
    moment = dt.datetime.fromtimestamp(ts // 1000, dt.timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ts % 1000:03d}Z"
