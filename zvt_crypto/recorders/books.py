"""Snapshots of order books: one request per market, each stored as soon as it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from zvt_crypto.core.errors import InvalidArgument, RetriableError, SkippableError
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.exchanges.base import Venue
from zvt_crypto.recorders.backfill import TableThread
from zvt_crypto.recorders.report import Outcome, Progress
from zvt_crypto.store.engine import Store
from zvt_crypto.store.writer import Entity, Page, check

#: Levels that are asked for by default, or the next larger number that the venue takes.
_USUAL_DEPTH = 100


async def record_books(
    store: Store,
    venue: Venue,
    spec: TableSpec,
    entities: Sequence[dict[str, Any]],
    outcomes: Sequence[Outcome],
    depths: Mapping[str, int],
    progress: Progress,
) -> None:
    """Record the order book of each market as it is now; what goes wrong is in its outcome.

    Args:
        store: Where to.
        venue: Where from.
        spec: The table of order books.
        entities: Rows of the entity tables.
        outcomes: One for each of them.
        depths: Price levels to ask for on each side, by entity type, see ``depth_of``.
        progress: Is told what happens.

    Raises:
        FatalError: Nothing more can be stored or fetched.
    """
    table = TableThread(store, venue.name, spec)

    async def record(row: dict[str, Any], outcome: Outcome) -> None:
        progress.planned(outcome, 1)
        progress.started(outcome)
        try:
            await _record_book(venue, table, row, outcome, depths[row["entity_type"]])
        except (RetriableError, SkippableError) as error:
            outcome.errors.append(error)
        progress.advanced(outcome, 1)
        progress.finished(outcome)

    try:
        await asyncio.gather(*(record(row, outcome) for row, outcome in zip(entities, outcomes, strict=True)))
    finally:
        table.close()


async def _record_book(
    venue: Venue, table: TableThread, row: dict[str, Any], outcome: Outcome, depth: int
) -> None:
    book = await venue.fetch_order_book(venue.instrument(row), depth)
    outcome.requests += 1
    checked = check(table.writer.spec, book)
    error = checked.error(f"{row['entity_id']} order book")
    if error is not None:
        raise error
    entity = Entity(row["entity_id"], row["code"], row["name"])
    key = await table.call(lambda: table.writer.entity_key(entity))
    await table.store(Page(key, checked.batch))
    outcome.rows += checked.batch.num_rows


def depth_of(venue: Venue, entity_type: str, wanted: int | None) -> int:
    """The depth to ask a venue for: the wanted one, or the next larger that it takes.

    Raises:
        InvalidArgument: It has none as large as that.
    """
    allowed = venue.capabilities.book_depths[entity_type]
    if len(allowed) == 1:
        # Any depth up to the largest will do.
        largest = allowed[0]
        levels = min(wanted or _USUAL_DEPTH, largest) if wanted is None else wanted
        fits = levels <= largest
    else:
        fitting = [size for size in allowed if size >= (wanted or _USUAL_DEPTH)]
        levels = min(fitting, default=allowed[-1])
        fits = bool(fitting) or wanted is None
    if not fits:
        raise InvalidArgument(
            f"{venue.exchange} has order books of at most {allowed[-1]} levels, not {wanted}",
            suggestions=(f"allowed: {', '.join(map(str, allowed))}",),
            depth=wanted,
        )
    return levels
