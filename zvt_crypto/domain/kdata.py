"""Candles: CryptoPair and CryptoPerp at seven levels, from one definition.

A candle's ``timestamp`` is its open time in UTC. ``volume`` is in base currency for pairs and linear
perpetuals alike (contracts are converted when fetched), ``turnover`` in quote currency. A field that the
venue does not give is NULL.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zvt_crypto.core.levels import LEVEL_MS
from zvt_crypto.core.tables import BadRows, Check, Column, Derived, Rule, TableSpec, tables

COLUMNS = (
    Column("open", "float", "first price, in quote currency", unit="price", bar="first"),
    Column("high", "float", "highest price, in quote currency", unit="price", bar="max"),
    Column("low", "float", "lowest price, in quote currency", unit="price", bar="min"),
    Column("close", "float", "last price, in quote currency", unit="price", bar="last"),
    Column("volume", "float", "amount traded, in base currency", unit="volume", bar="sum"),
    Column("turnover", "float", "value traded, in quote currency", bar="sum"),
    Column("trade_count", "int", "number of trades", bar="sum"),
)


Values = npt.NDArray[np.float64]


def _same(values: Values) -> Values:
    return values


def _ratio(numerator: Values, denominator: Values) -> Values:
    # As in SQL, what is divided by nothing is NULL.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator == 0, np.nan, numerator / denominator)


def _change(first: Values, last: Values) -> Values:
    return _ratio(last, first) - 1


DERIVED = (
    Derived("volume_base", "float", "same as volume", "volume", ("volume",), _same),
    Derived("volume_quote", "float", "same as turnover", "turnover", ("turnover",), _same),
    Derived(
        "vwap",
        "float",
        "turnover / volume, NULL without volume",
        "turnover / nullif(volume, 0)",
        ("turnover", "volume"),
        _ratio,
    ),
    Derived(
        "change_pct",
        "float",
        "close / open - 1, as a fraction",
        "close / nullif(open, 0) - 1",
        ("open", "close"),
        _change,
    ),
    Derived(
        "turnover_rate",
        "float",
        "NULL: a currency has no float to relate turnover to",
        "NULL",
    ),
)

_PRICES = ("open", "high", "low", "close")
_AMOUNTS = ("volume", "turnover", "trade_count")

# numpy reads a NULL as NaN, and a comparison with NaN is false: a rule sees only what is there.


def _not_a_number(batch: pa.Table) -> BadRows:
    """Prices or volume missing, NaN or infinite."""
    bad: BadRows = ~np.isfinite([batch[name].to_numpy() for name in (*_PRICES, "volume")]).all(axis=0)
    return bad


def _not_positive(batch: pa.Table) -> BadRows:
    """A price of zero or less, or a negative amount."""
    bad: BadRows = (np.array([batch[name].to_numpy() for name in _PRICES]) <= 0).any(axis=0)
    for name in _AMOUNTS:
        if batch[name].null_count < len(batch):
            bad |= batch[name].to_numpy() < 0
    return bad


def _outside_range(batch: pa.Table) -> BadRows:
    """A price above high or below low."""
    opened, high, low, close = (batch[name].to_numpy() for name in _PRICES)
    bad: BadRows = (np.maximum(np.maximum(opened, close), low) > high) | (np.minimum(opened, close) < low)
    return bad


def _off_grid(step: int) -> Check:
    def bad(batch: pa.Table) -> BadRows:
        """A timestamp that is no multiple of the level."""
        off: BadRows = batch["ts"].to_numpy() % step != 0
        return off

    return bad


def _candles(entity_type: str, prefix: str, level: str) -> TableSpec:
    return TableSpec(
        name=f"{entity_type}_{level}_kdata",
        class_name=f"{prefix}{level}Kdata",
        entity_type=entity_type,
        feed="candles",
        layout="series",
        level=level,
        columns=COLUMNS,
        derived=DERIVED,
        rules=(
            Rule("price or volume is not a number", _not_a_number),
            Rule("price is not positive or amount is negative", _not_positive),
            Rule("high below or low above another price", _outside_range),
            Rule(f"timestamp is not on the {level} grid", _off_grid(LEVEL_MS[level])),
        ),
        doc=f"{level} candles of {'spot pairs' if entity_type == 'cryptopair' else 'perpetuals'}",
    )


for _type, _prefix in (("cryptopair", "CryptoPair"), ("cryptoperp", "CryptoPerp")):
    for _level in LEVEL_MS:
        tables.add(_candles(_type, _prefix, _level))
