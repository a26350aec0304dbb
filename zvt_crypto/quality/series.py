"""Recorded series: which there are, when their markets traded, and the trades beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zvt_crypto.core.levels import subtract_spans
from zvt_crypto.core.symbols import split_entity_id
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.domain import entities
from zvt_crypto.domain.trades import TRADE
from zvt_crypto.quality.gaps import Span
from zvt_crypto.store import coverage
from zvt_crypto.store.engine import Store
from zvt_crypto.store.reader import Query, read
from zvt_crypto.store.writer import Entity


@dataclass(frozen=True, slots=True)
class Life:
    """When a market traded, epoch ms; None where unknown, or where it still trades."""

    listed: int | None = None
    delisted: int | None = None


@dataclass(frozen=True, slots=True)
class RecordedSeries:
    """One symbol of a recorded table.

    Attributes:
        provider: The data source.
        spec: The table.
        entity_id: The entity.
        code: Its code.
        name: Its name.
        key: What stands for it in the rows.
    """

    provider: str
    spec: TableSpec
    entity_id: str
    code: str
    name: str | None
    key: int

    @property
    def exchange(self) -> str:
        """The exchange that the market is at."""
        return split_entity_id(self.entity_id)[1]

    @property
    def entity_type(self) -> str:
        """The kind of market."""
        return split_entity_id(self.entity_id)[0]

    @property
    def entity(self) -> Entity:
        """The market as writers take it."""
        return Entity(self.entity_id, self.code, self.name)


def recorded_series(
    store: Store, provider: str, spec: TableSpec, codes: Sequence[str] | None = None
) -> list[RecordedSeries]:
    """The symbols that a table has rows of, or had, by code."""
    if not store.exists(provider, spec):
        return []
    with store.connect(provider, spec) as connection:
        found = connection.query("SELECT key, entity_id, code, name FROM entities ORDER BY code, entity_id")
    return [
        RecordedSeries(provider, spec, row["entity_id"], row["code"], row["name"], int(row["key"]))
        for row in found.to_pylist()
        if codes is None or row["code"] in codes
    ]


def life_of(store: Store, series: RecordedSeries) -> Life:
    """When the market of a series traded, by the recorded instruments."""
    instruments = entities.PERP if series.entity_type == entities.PERP.entity_type else entities.PAIR
    query = Query(
        instruments, series.provider, entity_ids=(series.entity_id,), columns=("list_date", "end_date")
    )
    rows = read(store, query).to_pylist()
    times = [rows[0][name] for name in ("list_date", "end_date")] if rows else [None, None]
    return Life(*(None if time is None else _epoch_ms(time) for time in times))


def covered_trades(store: Store, series: RecordedSeries) -> tuple[RecordedSeries | None, list[Span]]:
    """The recorded trades of a series' market, and the times whose trades are all recorded."""
    found = [s for s in recorded_series(store, series.provider, TRADE) if s.entity_id == series.entity_id]
    if not found:
        return None, []
    with store.connect(series.provider, TRADE) as connection, connection.snapshot():
        removed = connection.query(f"SELECT ts FROM removed WHERE entity = {found[0].key:d}")
        lost = [(time, time + 1) for time in removed["ts"].to_pylist()]
        return found[0], subtract_spans(coverage.covered(connection, found[0].key), lost)


def _epoch_ms(time: Any) -> int:
    return int(np.datetime64(time, "ms").astype(np.int64))
