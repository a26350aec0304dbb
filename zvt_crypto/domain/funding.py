"""Funding events of perpetuals: one row for each payment, at the time that the venue gives.

A positive rate is paid by longs to shorts. Event times may lie off the full second. Intervals change (from
eight hours to one, say), so each row has its own: the time since the event before it.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from zvt_crypto.core.symbols import PERP
from zvt_crypto.core.tables import BadRows, Column, Rule, TableSpec, tables


def _not_a_number(batch: pa.Table) -> BadRows:
    """A rate that is missing, NaN or infinite."""
    bad: BadRows = ~np.isfinite(batch["funding_rate"].to_numpy())
    return bad


def _too_large(batch: pa.Table) -> BadRows:
    """A rate of more than the whole position, or a mark price that is not above zero."""
    mark = batch["mark_price"].to_numpy()
    bad: BadRows = (np.abs(batch["funding_rate"].to_numpy()) > 1) | (mark <= 0)
    return bad


FUNDING = tables.add(
    TableSpec(
        name="cryptofunding",
        class_name="CryptoFunding",
        entity_type=PERP,
        feed="funding",
        layout="series",
        columns=(
            Column(
                "funding_rate", "float", "what longs pay to shorts, as a fraction of the position's value"
            ),
            Column(
                "funding_interval_hours",
                "float",
                "hours since the event before, NULL for the first one known",
            ),
            Column("mark_price", "float", "mark price at the event, in quote currency; NULL where not given"),
        ),
        rules=(
            Rule("funding rate is not a number", _not_a_number),
            Rule("funding rate beyond 1 or mark price not above zero", _too_large),
        ),
        doc="Funding events of perpetuals",
    )
)
