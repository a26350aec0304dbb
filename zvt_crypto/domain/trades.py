"""Trades of pairs and perpetuals, one row each, keyed by entity, time and trade id.

``side`` is the taker's. ``volume`` is in base currency (contracts are converted when fetched). Venues that
aggregate the fills of one order at one price (Binance) give those aggregates, with their ids.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.symbols import PAIR, PERP
from zvt_crypto.core.tables import BadRows, Column, Derived, Rule, TableSpec, tables

#: The values of ``side``.
SIDES = ("buy", "sell")


def _product(price: npt.NDArray[np.float64], volume: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return price * volume


def _not_positive(batch: pa.Table) -> BadRows:
    """A price or volume that is missing, no number, or not above zero."""
    values = np.array([batch[name].to_numpy() for name in ("price", "volume")])
    bad: BadRows = ~(np.isfinite(values) & (values > 0)).all(axis=0)
    return bad


def _without_id(batch: pa.Table) -> BadRows:
    """No trade id."""
    empty = pc.equal(pc.fill_null(pc.utf8_length(batch["trade_id"]), 0), 0)
    bad: BadRows = empty.to_numpy()
    return bad


def _unknown_side(batch: pa.Table) -> BadRows:
    """A side that is neither the buyer nor the seller; NULL where the venue does not tell."""
    known = pc.is_in(batch["side"], value_set=pa.array([*SIDES, None], pa.string()))
    bad: BadRows = pc.invert(known).to_numpy()
    return bad


TRADE = tables.add(
    TableSpec(
        name="cryptotrade",
        class_name="CryptoTrade",
        entity_type=PAIR,
        other_types=(PERP,),
        feed="trades",
        layout="series",
        columns=(
            Column("trade_id", "text", "the venue's id of the trade", is_key=True),
            Column("price", "float", "price, in quote currency", unit="price"),
            Column("volume", "float", "amount, in base currency", unit="volume"),
            Column("side", "text", "the taker's side: buy or sell"),
            Column(
                "nanosecond",
                "int",
                "nanoseconds after the timestamp's millisecond; NULL where the venue counts milliseconds",
            ),
        ),
        derived=(
            Derived(
                "turnover",
                "float",
                "value, in quote currency: price times volume",
                "price * volume",
                ("price", "volume"),
                _product,
            ),
        ),
        rules=(
            Rule("price or volume is not above zero", _not_positive),
            Rule("trade without an id", _without_id),
            Rule("side is neither buy nor sell", _unknown_side),
        ),
        doc="Trades of pairs and perpetuals",
    )
)
