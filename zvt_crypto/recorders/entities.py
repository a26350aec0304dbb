"""Instruments: recorded from the exchange, and looked up by whatever a user calls them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import PairNotFound, SymbolMappingError, ZvtCryptoError, unknown_value
from zvt_crypto.core.symbols import entity_id, parse_notation
from zvt_crypto.core.tables import TableSpec, tables
from zvt_crypto.exchanges.base import Venue
from zvt_crypto.exchanges.instruments import Instruments
from zvt_crypto.recorders.report import Outcome
from zvt_crypto.store.engine import Store
from zvt_crypto.store.reader import Query, read
from zvt_crypto.store.sqlite import Connection
from zvt_crypto.store.writer import close_entities, write_entities

logger = logging.getLogger(__name__)


async def record_entities(store: Store, venue: Venue, spec: TableSpec) -> Outcome:
    """Fetch all instruments of a table from a venue and store them.

    Markets whose code is not unique are left out, and named in the outcome's errors. Recorded ones that the
    venue lists no more (delisted, or renamed) stay, inactive, with the time of the list as their end.
    """
    outcome = Outcome(spec.name, f"{spec.entity_type}_{venue.exchange}", requests=1)
    try:
        found = await venue.fetch_instruments(spec.entity_type)
    except ZvtCryptoError as error:
        outcome.errors.append(error)
        return outcome
    outcome.errors.extend(found.conflicts)
    batch = _with_identity(found.batch, spec.entity_type, venue.exchange)
    with store.connect(venue.name, spec) as connection:
        write_entities(connection, spec, batch)
        await _close_missing(connection, venue, spec, batch, found, outcome)
    outcome.rows = batch.num_rows
    return outcome


async def _close_missing(
    connection: Connection,
    venue: Venue,
    spec: TableSpec,
    batch: pa.Table,
    found: Instruments,
    outcome: Outcome,
) -> None:
    """Note which recorded instruments are gone; a list that lacks most of them is not believed."""
    unclear = [str(error.details["code"]) for error in found.conflicts if "code" in error.details]
    kept = [
        *batch["id"].to_pylist(),
        *(entity_id(spec.entity_type, venue.exchange, code) for code in unclear),
    ]
    kind = spec.entity_type if spec.entity_type in venue.ccxt_ids else next(iter(venue.ccxt_ids))
    gone = close_entities(connection, spec, venue.exchange, kept, await venue.client.now(kind))
    if gone > batch.num_rows:
        note = f"{venue.exchange} lists {batch.num_rows} and no longer {gone} of what it listed: not believed"
        outcome.notes.append(note)
        logger.warning("%s", note)
    elif gone:
        outcome.notes.append(f"{gone} of what {venue.exchange} listed before trade no more")


def select_entities(
    store: Store,
    provider: str,
    spec: TableSpec,
    *,
    codes: Sequence[str] | None = None,
    entity_ids: Sequence[str] | None = None,
    exchanges: Sequence[str] | None = None,
) -> tuple[list[dict[str, Any]], list[ZvtCryptoError]]:
    """The recorded entities that a user means, in the order named, and an error for each name of none.

    Args:
        store: Where they are recorded.
        provider: The data source.
        spec: The entity table.
        codes: Notations of markets; None with no ``entity_ids`` means all that trade now.
        entity_ids: Entity ids.
        exchanges: Only entities of these exchanges.

    Returns:
        Rows of the entity table as dicts, and the errors.
    """
    known = read(store, Query(spec, provider)).to_pylist()
    if exchanges:
        known = [row for row in known if row["exchange"] in exchanges]
    if not codes and not entity_ids:
        return [row for row in known if row.get("is_active") is not False], []
    chosen: dict[str, dict[str, Any]] = {}
    errors: list[ZvtCryptoError] = []
    for text in [*(codes or ()), *(entity_ids or ())]:
        try:
            row = find_entity(text, spec, provider, known)
            chosen[row["id"]] = row
        except (PairNotFound, SymbolMappingError) as error:
            errors.append(error)
    return list(chosen.values()), errors


def keep_list_date(store: Store, provider: str, spec: TableSpec, entity: dict[str, Any], ts: int) -> None:
    """Remember a listing time that the exchange's metadata does not tell, so that it is searched once."""
    row = {
        "id": entity["id"],
        "entity_id": entity["entity_id"],
        "timestamp": ts,
        "entity_type": entity["entity_type"],
        "exchange": entity["exchange"],
        "code": entity["code"],
        "list_date": ts,
    }
    with store.connect(provider, spec) as connection:
        write_entities(connection, spec, pa.table({name: [value] for name, value in row.items()}))


def entity_spec(entity_type: str) -> TableSpec:
    """The entity table of an entity type."""
    return next(s for s in tables.values() if s.layout == "entities" and s.entity_type == entity_type)


def find_entity(text: str, spec: TableSpec, provider: str, known: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The entity that a notation means.

    Args:
        text: What a user wrote.
        spec: The entity table.
        provider: The data source, for the error.
        known: Rows of that table.

    Raises:
        PairNotFound: None of them.
        SymbolMappingError: The text names no market.
    """
    for row in known:
        if text in (row["id"], row.get("native_id"), row.get("symbol")):
            return row
    notation = parse_notation(text)
    if notation.entity_type in (None, spec.entity_type):
        for code in notation.codes:
            for row in known:
                if row["code"] == code:
                    return row
    what = "pair" if spec.entity_type == "cryptopair" else "perpetual"
    raise unknown_value(f"{provider} {what}", text, (row["code"] for row in known), error=PairNotFound)


def _with_identity(batch: pa.Table, entity_type: str, exchange: str) -> pa.Table:
    ids = pa.array([entity_id(entity_type, exchange, code) for code in batch["code"].to_pylist()])
    identity = {
        "id": ids,
        "entity_id": ids,
        "entity_type": pa.array(np.full(batch.num_rows, entity_type)),
        "exchange": pa.array(np.full(batch.num_rows, exchange)),
        "timestamp": batch["list_date"]
        if "list_date" in batch.column_names
        else pa.nulls(batch.num_rows, pa.int64()),
    }
    for name in identity:
        if name in batch.column_names:
            batch = batch.drop_columns([name])
    for name, column in identity.items():
        batch = batch.append_column(name, column)
    for i, kind in enumerate(batch.schema.types):
        if kind == pa.bool_():
            # SQLite has no booleans, and the driver takes none.
            batch = batch.set_column(i, batch.schema.names[i], pc.cast(batch.column(i), pa.int64()))
    return batch
