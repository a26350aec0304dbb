"""The ledger of what was asked and answered, per table and entity.

``answered``: the exchange answered for the whole span; rows that are missing inside do not exist there.
``empty``: it answered once with no rows; only a second empty answer makes the span ``answered``.
``streamed``: rows came from a stream and wait for the exchange's answer; until then the span is missing.
Entries may overlap; what they say together counts. Spans are half-open, in epoch milliseconds.
"""

from __future__ import annotations

from typing import Any, Final

from zvt_crypto.core.levels import merge_spans, subtract_spans
from zvt_crypto.store.sqlite import Connection

ANSWERED: Final = "answered"
EMPTY: Final = "empty"
STREAMED: Final = "streamed"
REST: Final = "rest"
ARCHIVE: Final = "archive"
DERIVED: Final = "derived"
#: Candles that were made of recorded trades.
TRADES: Final = "trades"
#: Rows that came from a stream which had no hole.
STREAM: Final = "stream"

Span = tuple[int, int]

_ALL_TIME: Final = (0, 1 << 62)


def covered(connection: Connection, entity: int, state: str = ANSWERED) -> list[Span]:
    """Spans of a state, merged and sorted; what is answered is in no other state."""
    spans: dict[str, list[Span]] = {ANSWERED: [], state: []}
    for row in _near(connection, entity, _ALL_TIME):
        spans.setdefault(row["state"], []).append((row["start"], row["stop"]))
    if state != ANSWERED:
        return subtract_spans(spans[state], spans[ANSWERED])
    return merge_spans(spans[ANSWERED])


def answered_by(connection: Connection, entity: int) -> dict[str, list[Span]]:
    """What is answered, merged and sorted, by where the answers came from."""
    spans: dict[str, list[Span]] = {}
    for row in _near(connection, entity, _ALL_TIME):
        if row["state"] == ANSWERED:
            spans.setdefault(row["source"], []).append((row["start"], row["stop"]))
    return {source: merge_spans(found) for source, found in spans.items()}


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
    """Enter a span, without a look at its neighbours (``tidy``). The caller holds the transaction."""
    connection.run(
        "INSERT INTO coverage (entity, start, stop, state, source)"
        f" VALUES ({entity:d}, {span[0]:d}, {span[1]:d}, '{state}', '{source}')"
        " ON CONFLICT DO UPDATE SET stop = max(stop, excluded.stop)"
    )


def extend(
    connection: Connection, entity: int, span: Span, *, state: str = ANSWERED, source: str = STREAM
) -> None:
    """Enter a span that may continue an entry, as those of a stream do. The caller holds the transaction."""
    before = connection.value(
        "SELECT max(start) FROM coverage"
        f" WHERE entity = {entity:d} AND state = '{state}' AND source = '{source}'"
        f" AND start <= {span[0]:d} AND stop >= {span[0]:d}"
    )
    start = span[0] if before is None else int(before)
    add(connection, entity, (start, span[1]), state=state, source=source)


def tidy(connection: Connection, entity: int) -> None:
    """Merge entries that touch, so that the ledger stays as short as what it says. One transaction.

    What was streamed and is answered by now is not noted any more.
    """
    with connection.transaction():
        by_kind: dict[tuple[str, str], list[Span]] = {}
        rows = _near(connection, entity, _ALL_TIME)
        for row in rows:
            by_kind.setdefault((row["state"], row["source"]), []).append((row["start"], row["stop"]))
        merged = {kind: merge_spans(spans) for kind, spans in by_kind.items()}
        answered = [span for (state, _), spans in merged.items() if state == ANSWERED for span in spans]
        for kind in [kind for kind in merged if kind[0] == STREAMED]:
            merged[kind] = subtract_spans(merged[kind], merge_spans(answered))
        if merged == {kind: sorted(spans) for kind, spans in by_kind.items()}:
            return
        connection.run(f"DELETE FROM coverage WHERE entity = {entity:d}")
        for (state, source), spans in merged.items():
            for span in spans:
                add(connection, entity, span, state=state, source=source)


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
    connection.run(
        f"DELETE FROM coverage WHERE entity = {entity:d} AND state = '{row['state']}'"
        f" AND source = '{row['source']}' AND start = {row['start']:d}"
    )
    for rest in subtract_spans([(row["start"], row["stop"])], [span]):
        add(connection, entity, rest, state=row["state"], source=row["source"])
