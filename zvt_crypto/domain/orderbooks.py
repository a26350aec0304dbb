"""Snapshots of order books: one row each, the sides as JSON of ``[price, amount]`` pairs, best first.

No exchange serves past order books, so a snapshot is what was there when it was recorded.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zvt_crypto.core.symbols import PAIR, PERP
from zvt_crypto.core.tables import BadRows, Column, Derived, Rule, TableSpec, tables


def _crossed(batch: pa.Table) -> BadRows:
    """A best bid at or above the best ask, or a price that is not above zero."""
    bid, ask = batch["best_bid"].to_numpy(), batch["best_ask"].to_numpy()
    bad: BadRows = (bid >= ask) | (bid <= 0) | (ask <= 0)
    return bad


def _middle(bid: npt.NDArray[np.float64], ask: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return (bid + ask) / 2


ORDERBOOK = tables.add(
    TableSpec(
        name="cryptoorderbook",
        class_name="CryptoOrderbook",
        entity_type=PAIR,
        other_types=(PERP,),
        feed="orderbooks",
        layout="series",
        columns=(
            Column("sequence", "int", "the venue's number of the book's state; NULL where it gives none"),
            Column("depth", "int", "price levels asked for on each side; the book may have fewer"),
            Column("best_bid", "float", "highest bid, in quote currency; NULL without bids"),
            Column("best_ask", "float", "lowest ask, in quote currency; NULL without asks"),
            Column("bids", "text", "JSON list of [price, amount in base currency], highest price first"),
            Column("asks", "text", "JSON list of [price, amount in base currency], lowest price first"),
        ),
        derived=(
            Derived(
                "mid_price",
                "float",
                "middle of best bid and best ask",
                "(best_bid + best_ask) / 2",
                ("best_bid", "best_ask"),
                _middle,
            ),
        ),
        rules=(Rule("book is crossed or a price is not above zero", _crossed),),
        doc="Snapshots of order books of pairs and perpetuals",
    )
)
