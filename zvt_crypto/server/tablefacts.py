"""How many rows the tables hold and how new they are; of tables that did not change, from memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Final

import pyarrow as pa

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import ZvtCryptoError
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.domain import load_tables
from zvt_crypto.quality.summary import recorded_tables
from zvt_crypto.store.engine import Store, disk_bytes
from zvt_crypto.store.layout import WRITTEN

#: What tells one state of a file and its write-ahead log from another: sizes and times of change.
Stamp = tuple[tuple[int, int], ...]

#: How long one look may count rows, in seconds. Tables that are not through by then are counted further by
#: the next look.
COUNTING_SECONDS: Final = 1.0
#: How long to wait for a table that another program keeps to itself: who monitors does not wait long.
_PATIENCE_SECONDS: Final = 1.0

_NEWEST: Final = "SELECT max((SELECT max(ts) FROM rows WHERE entity = key)) FROM entities"
_CHUNKS: Final = "SELECT entity, chunk, version FROM chunks"


@dataclass(slots=True)
class TableFacts:
    """One table of one provider.

    Attributes:
        provider: The data source.
        spec: The table.
        newest: Time of the newest row, epoch ms; None for instruments and without rows.
        rows: How many there are; None where they are not all counted yet.
        written: Rows that recorders have stored since the table was made, replaced ones included; None for
            instruments.
        disk_bytes: Size of the database and its write-ahead log.
        error: Why it cannot be read; None where it can.
    """

    provider: str
    spec: TableSpec
    newest: int | None = None
    rows: int | None = None
    written: int | None = None
    disk_bytes: int = 0
    error: ZvtCryptoError | None = None


@dataclass(slots=True)
class _Known:
    """What is remembered of a table: the state of its file, and rows by chunk and version."""

    stamp: Stamp
    facts: TableFacts
    counts: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)


class TableReader:
    """Reads the facts of all tables; threads take turns."""

    def __init__(self) -> None:
        self._known: dict[Path, _Known] = {}
        self._lock = Lock()

    def look(self, settings: Settings, *, count_rows: bool = False) -> list[TableFacts]:
        """The facts of every recorded table, in order; one that cannot be read says why.

        Args:
            settings: Where they are.
            count_rows: Whether to spend up to ``COUNTING_SECONDS`` on counting what changed.

        Raises:
            ConfigError: The data folder cannot be read.
        """
        load_tables()
        store = Store(settings.model_copy(update={"busy_timeout_seconds": _PATIENCE_SECONDS}))
        with self._lock:
            give_up = time.monotonic() + (COUNTING_SECONDS if count_rows else 0)
            return [
                self._facts(store, provider, spec, give_up if count_rows else None)
                for provider, spec in recorded_tables(store)
            ]

    def _facts(self, store: Store, provider: str, spec: TableSpec, give_up: float | None) -> TableFacts:
        path = store.path(provider, spec)
        stamp = _stamp(path)
        known = self._known.get(path)
        if known is not None and known.stamp == stamp and (give_up is None or known.facts.rows is not None):
            return known.facts
        known = known or _Known(stamp, TableFacts(provider, spec))
        facts = TableFacts(provider, spec, disk_bytes=disk_bytes(path))
        try:
            _read(store, facts, known, give_up)
        except ZvtCryptoError as error:
            # Not remembered: it may be about to end.
            self._known.pop(path, None)
            return TableFacts(provider, spec, disk_bytes=facts.disk_bytes, error=error)
        known.stamp, known.facts = stamp, facts
        self._known[path] = known
        return facts


def newest_by_provider(facts: list[TableFacts]) -> dict[str, int]:
    """Time of the newest row of each provider that has one, epoch ms."""
    found: dict[str, int] = {}
    for table in facts:
        if table.newest is not None:
            found[table.provider] = max(table.newest, found.get(table.provider, 0))
    return found


def _stamp(path: Path) -> Stamp:
    return tuple(_state(part) for part in (path, path.with_name(path.name + "-wal")))


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return found.st_size, found.st_mtime_ns


def _read(store: Store, facts: TableFacts, known: _Known, give_up: float | None) -> None:
    spec = facts.spec
    with store.connect(facts.provider, spec) as connection, connection.snapshot():
        if spec.layout == "entities":
            facts.rows = int(connection.value(f"SELECT count(*) FROM {spec.name}"))
            return
        facts.newest = connection.value(_NEWEST)
        facts.written = connection.value(WRITTEN)
        if give_up is None:
            return
        chunks = connection.query(_CHUNKS)
        kept: dict[tuple[int, int], tuple[int, int]] = {}
        for key, chunk, version in _chunks_of(chunks):
            before = known.counts.get((key, chunk))
            if before is not None and before[0] == version:
                kept[key, chunk] = before
            elif time.monotonic() < give_up:
                bounds = f"ts >= {chunk * spec.chunk_ms:d} AND ts < {(chunk + 1) * spec.chunk_ms:d}"
                rows = connection.value(f"SELECT count(*) FROM rows WHERE entity = {key:d} AND {bounds}")
                kept[key, chunk] = (version, int(rows))
        known.counts = kept
        if len(kept) == chunks.num_rows:
            facts.rows = sum(rows for _, rows in kept.values())


def _chunks_of(chunks: pa.Table) -> Iterator[tuple[int, int, int]]:
    return zip(*(chunks[name].to_pylist() for name in ("entity", "chunk", "version")), strict=True)
