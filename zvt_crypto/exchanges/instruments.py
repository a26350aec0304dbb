"""ccxt's market structures as rows of our entity tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from zvt_crypto.core.errors import SymbolMappingError
from zvt_crypto.core.symbols import Market

_INT = ("list_date", "end_date")
_FLOAT = (
    *("price_step", "qty_step", "min_qty", "max_qty", "min_notional", "maker_fee", "taker_fee"),
    *("contract_size", "max_leverage", "funding_interval_hours"),
)
_BOOL = ("margin_enabled", "is_active", "inverse")


@dataclass(frozen=True, slots=True)
class Instruments:
    """The markets of a venue.

    Attributes:
        batch: One row per market with a code of its own, in the columns of the entity tables.
        conflicts: One error for each code that several markets share; those are not in the batch.
    """

    batch: pa.Table
    conflicts: tuple[SymbolMappingError, ...]


def from_markets(exchange: str, markets: Iterable[Mapping[str, Any]]) -> Instruments:
    """Rows of ccxt markets, in the order listed; see ccxt's manual, "Market Structure"."""
    by_code: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for market in markets:
        row = _row(market)
        by_code[row["code"]].append(row)
    conflicts = [
        SymbolMappingError(
            f"{exchange} lists {len(rows)} markets with the code {code!r}:"
            f" {', '.join(row['native_id'] for row in rows)}",
            suggestions=("none of them was recorded; all other markets were",),
            code=code,
        )
        for code, rows in by_code.items()
        if len(rows) > 1
    ]
    return Instruments(_table([rows[0] for rows in by_code.values() if len(rows) == 1]), tuple(conflicts))


def assets_of(markets: Iterable[Mapping[str, Any]]) -> Instruments:
    """The currencies that markets are based, quoted or settled in."""
    active: dict[str, bool] = {}
    for market in markets:
        for currency in {market["base"], market["quote"], market.get("settle")} - {None}:
            active[currency] = active.get(currency, False) or market.get("active") is not False
    rows = [
        {"code": Market(name, "").code, "name": name, "symbol": name, "is_active": is_active}
        for name, is_active in sorted(active.items())
    ]
    return Instruments(_table(rows), ())


def _row(market: Mapping[str, Any]) -> dict[str, Any]:
    limits, precision = market["limits"], market["precision"]
    settle = market.get("settle") if market.get("contract") else None
    parsed = Market(market["base"], market["quote"], settle)
    row = {
        "code": parsed.code,
        "name": market["symbol"],
        "symbol": market["symbol"],
        "native_id": market["id"],
        "base_symbol": market["base"].lower(),
        "quote_symbol": market["quote"].lower(),
        "price_step": precision.get("price"),
        "qty_step": precision.get("amount"),
        "min_qty": limits["amount"].get("min"),
        "max_qty": limits["amount"].get("max"),
        "min_notional": limits["cost"].get("min"),
        "maker_fee": market.get("maker"),
        "taker_fee": market.get("taker"),
        "margin_enabled": market.get("margin"),
        "is_active": market.get("active"),
        "list_date": market.get("created"),
        "end_date": market.get("expiry"),
    }
    if settle is not None:
        row |= {
            "underlying_symbol": market["base"].lower(),
            "settlement_symbol": settle.lower(),
            "contract_size": market.get("contractSize"),
            "inverse": bool(market.get("inverse")),
            "max_leverage": (limits.get("leverage") or {}).get("max"),
            "funding_interval_hours": None,
        }
    return row


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    names = list(rows[0]) if rows else ["code"]
    return pa.table({name: pa.array([row[name] for row in rows], _kind(name)) for name in names})


def _kind(name: str) -> pa.DataType:
    if name in _INT:
        return pa.int64()
    if name in _FLOAT:
        return pa.float64()
    return pa.bool_() if name in _BOOL else pa.string()
