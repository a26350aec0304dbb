"""The ledger of what was asked and answered, per table and entity.

``answered``: the exchange answered for the whole span; rows that are missing inside do not exist there.
``empty``: it answered once with no rows; only a second empty answer makes the span ``answered``.
Spans are half-open, in epoch milliseconds.
"""

from __future__ import annotations

from typing import Final

from zvt_crypto.core.levels import merge_spans, subtract_spans
from zvt_crypto.store.sqlite import Connection

ANSWERED: Final = "answered"
EMPTY: Final = "empty"
REST: Final = "rest"

Span = tuple[int, int]


def covered(connection: Connection, entity: int, state: str = ANSWERED) -> list[Span]:
    """Spans of a state, merged and sorted."""
    found = connection.query(
        "SELECT start, stop FROM coverage WHERE entity = ? AND state = ?", (entity, state)
    )
    return merge_spans(zip(found[0].to_pylist(), found[1].to_pylist(), strict=True))


def missing(connection: Connection, entity: int, start: int, end: int, step: int) -> list[Span]:
    """What of ``[start, end)`` is not recorded: never answered for, or answered and removed since."""
    removed = connection.query(
        "SELECT ts FROM removed WHERE entity = ? AND ts >= ? AND ts < ?", (entity, start, end)
    )
    holes = [(ts, min(ts + step, end)) for ts in removed[0].to_pylist()]
    return merge_spans([*subtract_spans([(start, end)], covered(connection, entity)), *holes])


def add(
    connection: Connection, entity: int, span: Span, *, state: str = ANSWERED, source: str = REST
) -> None:
    """Enter a span, merged with those that it touches. The caller holds the transaction.

    An ``answered`` span replaces what was ``empty`` before.
    """
    start, stop = span
    if state == ANSWERED:
        _cut(connection, entity, span, EMPTY)
    touching = connection.query(
        "SELECT start, stop FROM coverage WHERE entity = ? AND state = ? AND source = ?"
        " AND start <= ? AND stop >= ?",
        (entity, state, source, stop, start),
    )
    for lower, upper in zip(touching[0].to_pylist(), touching[1].to_pylist(), strict=True):
        connection.run(
            f"DELETE FROM coverage WHERE entity = {entity:d} AND state = '{state}'"
            f" AND source = '{source}' AND start = {lower:d}"
        )
        start, stop = min(start, lower), max(stop, upper)
    connection.run(
        "INSERT OR REPLACE INTO coverage (entity, start, stop, state, source)"
        f" VALUES ({entity:d}, {start:d}, {stop:d}, '{state}', '{source}')"
    )


def forget(connection: Connection, entity: int, span: Span) -> None:
    """Take a span out of the ledger, so that it is asked for again. The caller holds the transaction."""
    for state in (ANSWERED, EMPTY):
        _cut(connection, entity, span, state)


def _cut(connection: Connection, entity: int, span: Span, state: str) -> None:
    overlapping = connection.query(
        "SELECT start, stop, source FROM coverage WHERE entity = ? AND state = ? AND start < ? AND stop > ?",
        (entity, state, span[1], span[0]),
    )
    for row in overlapping.to_pylist():
        connection.run(
            f"DELETE FROM coverage WHERE entity = {entity:d} AND state = '{state}'"
            f" AND source = '{row['source']}' AND start = {row['start']:d}"
        )
        for start, stop in subtract_spans([(row["start"], row["stop"])], [span]):
            connection.run(
                "INSERT INTO coverage (entity, start, stop, state, source)"
                f" VALUES ({entity:d}, {start:d}, {stop:d}, '{state}', '{row['source']}')"
            )
