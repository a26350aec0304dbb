"""Make the segments of a table ahead of the first query, and drop those of rows that have changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

from zvt_crypto.core.tables import TableSpec
from zvt_crypto.store.engine import Store
from zvt_crypto.store.history import History, Series
from zvt_crypto.store.segments import ChunkVersion


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did.

    Attributes:
        made: Segments written.
        kept: Segments that were there and still hold.
        dropped: Files deleted: older versions, other databases' segments, what broken writers left.
        rows: Rows in the segments written.
        bytes: Bytes written.
    """

    made: int = 0
    kept: int = 0
    dropped: int = 0
    rows: int = 0
    bytes: int = 0

    def __add__(self, other: Compacted) -> Compacted:
        return Compacted(*map(sum, zip(astuple(self), astuple(other), strict=True)))


def compact(
    store: Store,
    provider: str,
    spec: TableSpec,
    *,
    codes: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda code: None,
) -> Compacted:
    """Make the segments that a table lacks, one chunk of rows in memory at a time.

    Chunks of few rows get none: SQL is as fast. A writer is never kept waiting, and what
    it changes meanwhile is left to the next compaction.

    Args:
        store: Where the table is.
        provider: The data source.
        spec: A table of layout ``series``.
        codes: Only symbols of these codes; None means all.
        progress: Called with the code of each symbol that is done.

    Raises:
        StoreFull: The disk is full; the segments made so far hold, and nothing half-made is left.
        ConfigError: The folder cannot be written.
        StoreCorrupt: The database is damaged.
    """
    with store.reading(provider, spec) as connection:
        found = History(connection, spec).series(codes=codes)
    done = Compacted()
    for series in found:
        # A snapshot of its own for each, so that the write-ahead log can shrink in between.
        with store.reading(provider, spec) as connection:
            history = History(connection, spec)
            for state in history.chunks(series):
                done += _compact_chunk(history, series, state)
        progress(series.code)
    return done + Compacted(dropped=_drop_stale(store, provider, spec))


def _compact_chunk(history: History, series: Series, state: ChunkVersion) -> Compacted:
    if history.has_segment(state):
        return Compacted(kept=1)
    rows, size = history.make_segment(series, state)
    return Compacted(made=int(rows > 0), rows=rows, bytes=size)


def _drop_stale(store: Store, provider: str, spec: TableSpec) -> int:
    with store.reading(provider, spec) as connection:
        history = History(connection, spec)
        current = {state.name for series in history.series() for state in history.chunks(series)}
        return history.segments.drop(current)
