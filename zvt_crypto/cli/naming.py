"""How markets and tables are called where people read."""

from __future__ import annotations

from zvt_crypto.core.symbols import PERP
from zvt_crypto.core.tables import tables
from zvt_crypto.recorders.forecast import Forecast
from zvt_crypto.recorders.report import Outcome


def label(outcome: Outcome | Forecast) -> str:
    """What an outcome is about, such as ``binance btcusdt 1m``, or ``binance cryptopair``."""
    spec = tables.get(outcome.table)
    if spec is None or spec.layout == "entities":
        return outcome.entity_id.replace(f"{outcome.table}_", "") + f" {outcome.table}"
    return f"{market_name(outcome.entity_id)} {spec.level or spec.feed}"


def market_name(entity_id: str) -> str:
    """What people call an entity: ``binance btcusdt`` or, for a perpetual, ``binance btcusdt-perp``."""
    entity_type, _, rest = entity_id.partition("_")
    if not rest:
        return entity_id
    return rest.replace("_", " ") + ("-perp" if entity_type == PERP else "")
