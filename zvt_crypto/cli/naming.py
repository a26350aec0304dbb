"""How markets and tables are called where people read."""

from __future__ import annotations

from typing import Protocol

from zvt_crypto.core.symbols import PERP
from zvt_crypto.core.tables import tables


class OfTable(Protocol):
    """What is about one entity of one table."""

    @property
    def table(self) -> str:
        """Name of the table."""

    @property
    def entity_id(self) -> str:
        """The entity."""


def label(outcome: OfTable) -> str:
    """What something is about, such as ``binance btcusdt 1m``, or ``binance cryptopair``."""
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
