"""The ledger of what was asked and answered, per table and entity.

``answered``: the exchange answered for the whole span; rows that are missing inside do not exist there.
``empty``: it answered once with no rows; only a second empty answer makes the span ``answered``.
Spans are half-open, in epoch milliseconds.
"""

from __future__ import annotations

from typing import Any, Final

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
    for row in _near(connection, entity, span):
        if state == ANSWERED and row["state"] == EMPTY:
            _cut(connection, entity, row, span)
        elif (row["state"], row["source"]) == (state, source):
            # In order of time, the first entry keeps its key and is overwritten by the insert below.
            if row["start"] > start:
                _delete(connection, entity, row)
            start, stop = min(start, row["start"]), max(stop, row["stop"])
    _insert(connection, entity, (start, stop), state, source)


def forget(connection: Connection, entity: int, span: Span) -> None:
    """Take a span out of the ledger, so that it is asked for again. The caller holds the transaction."""
    for row in _near(connection, entity, span):
        _cut(connection, entity, row, span)


def _near(connection: Connection, entity: int, span: Span) -> list[dict[str, Any]]:
    """Entries that overlap a span or touch it, in order of time."""
    near: list[dict[str, Any]] = connection.query(
        "SELECT state, source, start, stop FROM coverage"
        f" WHERE entity = {entity:d} AND start <= {span[1]:d} AND stop >= {span[0]:d} ORDER BY start"
    ).to_pylist()
    return near


def _cut(connection: Connection, entity: int, row: dict[str, Any], span: Span) -> None:
    _delete(connection, entity, row)
    for rest in subtract_spans([(row["start"], row["stop"])], [span]):
        _insert(connection, entity, rest, row["state"], row["source"])


def _delete(connection: Connection, entity: int, row: dict[str, Any]) -> None:
    connection.run(
        f"DELETE FROM coverage WHERE entity = {entity:d} AND state = '{row['state']}'"
        f" AND source = '{row['source']}' AND start = {row['start']:d}"
    )


def _insert(connection: Connection, entity: int, span: Span, state: str, source: str) -> None:
    connection.run(
        "INSERT OR REPLACE INTO coverage (entity, start, stop, state, source)"
        f" VALUES ({entity:d}, {span[0]:d}, {span[1]:d}, '{state}', '{source}')"
    )
