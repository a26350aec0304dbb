"""ccxt's market structures as rows of the entity tables; see ccxt's manual, "Market Structure"."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from zvt_crypto.core.errors import SymbolMappingError
from zvt_crypto.core.symbols import ASSET, PAIR, PERP, Market

Row = dict[str, Any]


def _fields(kind: pa.DataType, *names: str) -> list[tuple[str, pa.DataType]]:
    return [(name, kind) for name in names]


_COMMON: Final = [
    *_fields(pa.string(), "code", "name", "symbol"),
    *_fields(pa.int64(), "list_date", "end_date"),
    *_fields(pa.bool_(), "is_active"),
]
_MARKET: Final = [
    *_COMMON,
    *_fields(pa.string(), "native_id", "base_symbol", "quote_symbol"),
    *_fields(pa.float64(), "price_step", "qty_step", "min_qty", "max_qty", "min_notional"),
    *_fields(pa.float64(), "maker_fee", "taker_fee"),
    *_fields(pa.bool_(), "margin_enabled"),
]
_CONTRACT: Final = [
    *_fields(pa.string(), "underlying_symbol", "settlement_symbol"),
    *_fields(pa.float64(), "contract_size", "max_leverage", "funding_interval_hours"),
    *_fields(pa.bool_(), "inverse"),
]
#: Columns of the rows per entity type; times are epoch ms UTC.
SCHEMAS: Final[dict[str, pa.Schema]] = {
    ASSET: pa.schema(_COMMON),
    PAIR: pa.schema(_MARKET),
    PERP: pa.schema(_MARKET + _CONTRACT),
}


@dataclass(frozen=True, slots=True)
class Instruments:
    """The markets, or currencies, of a venue.

    Attributes:
        batch: One row each, sorted by code, in the columns of ``SCHEMAS``.
        conflicts: One error for each code that several markets share, and for each market that does not say
            what it trades; those are not in the batch.
    """

    batch: pa.Table
    conflicts: tuple[SymbolMappingError, ...] = ()


def from_markets(
    exchange: str,
    entity_type: str,
    markets: Iterable[Mapping[str, Any]],
    extras: Mapping[str, Mapping[str, Any]],
) -> Instruments:
    """Rows of ccxt markets.

    Args:
        exchange: The venue's name, for the conflicts.
        entity_type: What the markets are.
        markets: In ccxt's form, with steps (TICK_SIZE) as precision.
        extras: What the venue knows beyond ccxt's form: columns by native id.
    """
    by_code: dict[str, list[Row]] = defaultdict(list)
    conflicts = []
    for market in markets:
        if market.get("base") and market.get("quote"):
            row = _row(entity_type, market) | dict(extras.get(market["id"], {}))
            by_code[row["code"]].append(row)
        else:
            text = f"{exchange} does not say what its market {market['id']!r} trades"
            conflicts.append(SymbolMappingError(text, native_id=market["id"]))
    conflicts += [_conflict(exchange, code, rows) for code, rows in by_code.items() if len(rows) > 1]
    kept = [rows[0] for _, rows in sorted(by_code.items()) if len(rows) == 1]
    return Instruments(pa.Table.from_pylist(kept, SCHEMAS[entity_type]), tuple(conflicts))


def assets_of(markets: Iterable[Mapping[str, Any]]) -> Instruments:
    """The currencies that markets are based, quoted or settled in; active if one of the markets is."""
    found: dict[str, Row] = {}
    for market in markets:
        for side in ("base", "quote", "settle"):
            name = market.get(side)
            if not name:
                continue
            code, native = Market(name, "").code, market.get(f"{side}Id") or name
            asset = found.setdefault(code, {"code": code, "name": name, "symbol": native, "is_active": False})
            asset["is_active"] |= market.get("active") is not False
    return Instruments(pa.Table.from_pylist([found[code] for code in sorted(found)], SCHEMAS[ASSET]))


def _row(entity_type: str, market: Mapping[str, Any]) -> Row:
    """A row; what the venue does not publish is None."""
    limits, precision = market.get("limits") or {}, market.get("precision") or {}
    amount, cost = limits.get("amount") or {}, limits.get("cost") or {}
    settle = market.get("settle") if entity_type == PERP else None
    row: Row = {
        "code": Market(market["base"], market["quote"], settle).code,
        "name": market["symbol"],
        "symbol": market["symbol"],
        "list_date": market.get("created"),
        "end_date": market.get("expiry"),
        "is_active": market.get("active"),
        "native_id": market["id"],
        "base_symbol": market["base"].lower(),
        "quote_symbol": market["quote"].lower(),
        "price_step": precision.get("price"),
        "qty_step": precision.get("amount"),
        "min_qty": amount.get("min"),
        "max_qty": amount.get("max"),
        "min_notional": cost.get("min"),
        "maker_fee": market.get("maker"),
        "taker_fee": market.get("taker"),
        "margin_enabled": market.get("margin") if entity_type == PAIR else True,
    }
    if entity_type == PERP:
        row |= {
            "underlying_symbol": market["base"].lower(),
            "settlement_symbol": settle.lower() if settle else None,
            "contract_size": market.get("contractSize"),
            "max_leverage": (limits.get("leverage") or {}).get("max"),
            "inverse": market.get("inverse"),
        }
    return row


def _conflict(exchange: str, code: str, rows: list[Row]) -> SymbolMappingError:
    names = ", ".join(sorted(row["native_id"] for row in rows))
    return SymbolMappingError(
        f"{exchange} lists {len(rows)} markets with the code {code!r}: {names}",
        suggestions=("none of them was recorded; all other markets were",),
        code=code,
    )
