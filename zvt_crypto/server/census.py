"""How many rows each recorded series has, and where they stand without a break.

Counting a large table takes seconds. A chunk of rows (``TableSpec.chunk_ms``) is counted once for each of its
versions, so that a table which is looked at again and again costs what was written to it meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np

from zvt_crypto.core.tables import TableSpec
from zvt_crypto.quality.gaps import Array, Span
from zvt_crypto.store.engine import Store, disk_bytes
from zvt_crypto.store.sqlite import Connection

_NO_TIMES: Final = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False, slots=True)
class Counted:
    """Rows of a stretch of time.

    Attributes:
        rows: How many.
        starts: Where runs of neighbouring candles begin, epoch ms; empty for a table without a level.
        ends: Where they end, exclusive.
    """

    rows: int
    starts: Array
    ends: Array


@dataclass(frozen=True, eq=False, slots=True)
class SeriesCensus:
    """One symbol of a table.

    Attributes:
        key: What stands for it in the rows.
        entity_id: Its id.
        code: Its code.
        name: Its name.
        first: Time of the first row, epoch ms; None without rows.
        last: Time of the last row.
        counted: Its rows, None where they are not all counted yet.
    """

    key: int
    entity_id: str
    code: str
    name: str | None
    first: int | None
    last: int | None
    counted: Counted | None

    def missing(self, step: int) -> int:
        """Candles of length ``step`` that are not there between the first and the last one."""
        if self.first is None or self.last is None or self.counted is None:
            return 0
        return (self.last - self.first) // step + 1 - self.counted.rows


@dataclass(frozen=True, eq=False, slots=True)
class TableCensus:
    """One table of one provider.

    Attributes:
        spec: The table.
        rows: Rows that are counted so far.
        is_counted: Whether these are all.
        disk_bytes: Size of its file.
        written: When rows were last written, epoch ms; None where that is not known.
        series: Its symbols by code; none for a table of entities.
    """

    spec: TableSpec
    rows: int
    is_counted: bool
    disk_bytes: int
    written: int | None
    series: tuple[SeriesCensus, ...]

    @property
    def span(self) -> Span | None:
        """From the first row of all symbols to the end of the last, None without rows."""
        firsts = [series.first for series in self.series if series.first is not None]
        lasts = [series.last for series in self.series if series.last is not None]
        return (min(firsts), max(lasts) + self.spec.step) if firsts else None


class Budget:
    """Time for counting; what is left over is counted when the table is looked at next.

    Args:
        seconds: How long to count.
        clock: Seconds, ascending.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds
        self._has_begun = False

    def allows(self) -> bool:
        """Whether to count one more chunk; always true once, so that every look gets further."""
        if not self._has_begun:
            self._has_begun = True
            return True
        return self._clock() < self._end


class Census:
    """Counts of the tables of a store, each chunk in the version in which it was last seen."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[Path, dict[tuple[int, int], tuple[int, Counted]]] = {}
        self._lock = Lock()

    def table(self, provider: str, spec: TableSpec, budget: Budget) -> TableCensus:
        """What a table holds; its file must exist.

        Raises:
            StoreBusy: Another process does not let go of the file.
            StoreCorrupt: The file is damaged.
        """
        path = self._store.path(provider, spec)
        with self._store.reading(provider, spec) as connection:
            if spec.layout == "entities":
                rows = int(connection.value(f"SELECT count(*) FROM {spec.name}"))
                return TableCensus(spec, rows, True, disk_bytes(path), None, ())
            series, rows, written = self._series(connection, path, spec, budget)
        is_counted = all(one.counted is not None for one in series)
        return TableCensus(spec, rows, is_counted, disk_bytes(path), written, tuple(series))

    def _series(
        self, connection: Connection, path: Path, spec: TableSpec, budget: Budget
    ) -> tuple[list[SeriesCensus], int, int | None]:
        versions, written = _versions(connection)
        with self._lock:
            known = self._known.setdefault(path, {})
        total = 0
        series = []
        for row in _entities(connection):
            parts = [
                self._chunk(connection, known, spec, (row["key"], chunk), version, budget)
                for chunk, version in versions.get(row["key"], ())
            ]
            total += sum(part.rows for part in parts if part is not None)
            series.append(SeriesCensus(**row, counted=_joined(parts)))
        return series, total, written

    def _chunk(
        self,
        connection: Connection,
        known: dict[tuple[int, int], tuple[int, Counted]],
        spec: TableSpec,
        place: tuple[int, int],
        version: int,
        budget: Budget,
    ) -> Counted | None:
        found = known.get(place)
        if found is not None and found[0] == version:
            return found[1]
        if not budget.allows():
            return None
        counted = _count(connection, spec, *place)
        known[place] = (version, counted)
        return counted


def _entities(connection: Connection) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = connection.query(
        "SELECT key, entity_id, code, name, (SELECT min(ts) FROM rows WHERE entity = key) AS first,"
        " (SELECT max(ts) FROM rows WHERE entity = key) AS last FROM entities ORDER BY code, entity_id"
    ).to_pylist()
    return found


def _versions(connection: Connection) -> tuple[dict[int, list[tuple[int, int]]], int | None]:
    """Number and version of each entity's chunks by time, and when the last of them was written, epoch ms."""
    found = connection.query("SELECT entity, chunk, version, written_at FROM chunks ORDER BY entity, chunk")
    columns = [found.column(i).to_pylist() for i in range(4)]
    versions: dict[int, list[tuple[int, int]]] = {}
    for entity, chunk, version in zip(*columns[:3], strict=True):
        versions.setdefault(entity, []).append((chunk, version))
    return versions, max(columns[3], default=None)


def _count(connection: Connection, spec: TableSpec, entity: int, chunk: int) -> Counted:
    start = chunk * spec.chunk_ms
    where = f"FROM rows WHERE entity = {entity:d} AND ts >= {start:d} AND ts < {start + spec.chunk_ms:d}"
    # One query each: SQLite finds an edge without a scan only where nothing else is asked.
    found = connection.query(
        f"SELECT (SELECT count(*) {where}) AS n, (SELECT min(ts) {where}) AS a, (SELECT max(ts) {where}) AS b"
    ).to_pylist()[0]
    rows, first, last = found["n"], found["a"], found["b"]
    if not rows or spec.level is None:
        return Counted(rows, _NO_TIMES, _NO_TIMES)
    if (last - first) // spec.step + 1 == rows:
        return Counted(rows, np.array([first]), np.array([last + spec.step]))
    ts = connection.query(f"SELECT ts {where} ORDER BY ts")["ts"].to_numpy().astype(np.int64)
    breaks = np.flatnonzero(np.diff(ts) != spec.step)
    return Counted(rows, ts[np.append(0, breaks + 1)], ts[np.append(breaks, len(ts) - 1)] + spec.step)


def _joined(parts: Sequence[Counted | None]) -> Counted | None:
    """The chunks of a series as one; None where one of them is not counted."""
    counted = [part for part in parts if part is not None]
    if len(counted) != len(parts):
        return None
    starts = np.concatenate([_NO_TIMES, *(part.starts for part in counted)])
    ends = np.concatenate([_NO_TIMES, *(part.ends for part in counted)])
    parted = starts[1:] != ends[:-1]
    rows = sum(part.rows for part in counted)
    return Counted(
        rows, starts[np.append(True, parted)[: len(starts)]], ends[np.append(parted, True)[: len(ends)]]
    )
