"""What is recorded: per table and symbol the rows, the span, the gaps and the disk that they take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zvt_crypto.core.errors import ConfigError
from zvt_crypto.core.levels import ceil_ms, level_ms, subtract_spans
from zvt_crypto.core.tables import TableSpec, tables
from zvt_crypto.quality.gaps import Gaps, find_gaps
from zvt_crypto.store import coverage
from zvt_crypto.store.engine import Store, disk_bytes
from zvt_crypto.store.sqlite import Connection


@dataclass(frozen=True, slots=True)
class Series:
    """One symbol of one table, within the times asked about.

    Attributes:
        entity_id: The entity.
        code: Its code.
        rows: Rows.
        first: Time of the first row, epoch ms; None without rows.
        last: Time of the last row, epoch ms; None without rows.
        gaps: Missing candles, None for a table without a level.
    """

    entity_id: str
    code: str
    rows: int
    first: int | None
    last: int | None
    gaps: Gaps | None


@dataclass(frozen=True, slots=True)
class TableSummary:
    """One table of one provider.

    Attributes:
        provider: The data source.
        spec: The table.
        path: Its file.
        rows: Rows in the file, of all symbols and times.
        disk_bytes: Size of the file and of its write-ahead log.
        series: Its symbols in order of code; empty for a table of entities.
    """

    provider: str
    spec: TableSpec
    path: Path
    rows: int
    disk_bytes: int
    series: tuple[Series, ...]

    @property
    def bytes_per_row(self) -> float | None:
        """Disk by rows, None without rows."""
        return self.disk_bytes / self.rows if self.rows else None


def recorded_tables(store: Store, provider: str | None = None) -> Iterator[tuple[str, TableSpec]]:
    """Provider and table of every database of ours under the data folder, in order.

    Raises:
        ConfigError: The folder cannot be read.
    """
    if not store.data_path.is_dir():
        return
    try:
        folders = sorted(path for path in store.data_path.iterdir() if path.is_dir())
    except OSError as error:
        raise ConfigError(
            f"{store.data_path} cannot be read: {error.strerror}",
            suggestions=("correct its permissions, or name another folder with ZVT_CRYPTO_DATA_PATH",),
        ) from error
    for folder in folders:
        if provider in (None, folder.name):
            yield from ((folder.name, spec) for spec in _in_order() if store.exists(folder.name, spec))


def _in_order() -> list[TableSpec]:
    """All tables, those of entities first."""
    return sorted(tables.values(), key=lambda spec: spec.layout != "entities")


def recorded_codes(store: Store, provider: str, spec: TableSpec) -> list[str]:
    """Codes of the entities that a table has rows of, or had, in order."""
    if not store.exists(provider, spec):
        return []
    table = spec.name if spec.layout == "entities" else "entities"
    with store.connect(provider, spec) as connection:
        found = connection.query(f"SELECT DISTINCT code FROM {table} ORDER BY code")
    return [str(code) for code in found.column(0).to_pylist()]


def summarise(
    store: Store,
    provider: str,
    spec: TableSpec,
    *,
    codes: Sequence[str] | None = None,
    start: int | None = None,
    end: int | None = None,
) -> TableSummary:
    """Read what a table holds.

    Args:
        store: Where it is.
        provider: The data source.
        spec: The table; its file must exist.
        codes: Only symbols of these codes.
        start: First time asked about, epoch ms; by default each symbol's first row.
        end: End of the times asked about, exclusive; by default each symbol's last row.

    Raises:
        StoreCorrupt: The file is damaged.
    """
    path = store.path(provider, spec)
    with store.connect(provider, spec) as connection:
        if spec.layout == "entities":
            rows, series = int(connection.value(f"SELECT count(*) FROM {spec.name}")), []
        else:
            rows = int(connection.value("SELECT count(*) FROM rows"))
            found = _counted(connection, start, end)
            series = [
                _series(connection, spec, row, start, end)
                for row in found
                if codes is None or row["code"] in codes
            ]
    return TableSummary(provider, spec, path, rows, disk_bytes(path), tuple(series))


def _counted(connection: Connection, start: int | None, end: int | None) -> list[dict[str, Any]]:
    lower = "" if start is None else f" AND r.ts >= {start:d}"
    upper = "" if end is None else f" AND r.ts < {end:d}"
    return list(
        connection.query(
            "SELECT e.key, e.entity_id, e.code, count(r.ts) AS n, min(r.ts) AS first, max(r.ts) AS last"
            f" FROM entities e LEFT JOIN rows r ON r.entity = e.key{lower}{upper}"
            " GROUP BY e.key ORDER BY e.code, e.entity_id"
        ).to_pylist()
    )


def _series(
    connection: Connection, spec: TableSpec, row: dict[str, Any], start: int | None, end: int | None
) -> Series:
    known = (row["entity_id"], row["code"], row["n"], row["first"], row["last"])
    if spec.level is None:
        return Series(*known, gaps=None)
    step = level_ms(spec.level)
    if start is None:
        start = row["first"]
    if end is None and row["last"] is not None:
        end = row["last"] + step
    if start is None or end is None:
        return Series(*known, gaps=_none_missing(step))
    return Series(*known, gaps=_gaps(connection, row, step, start, end))


def _gaps(connection: Connection, row: dict[str, Any], step: int, start: int, end: int) -> Gaps:
    key = int(row["key"])
    if row["n"] * step == ceil_ms(end, step) - ceil_ms(start, step):
        return _none_missing(step)
    found = connection.query(
        "SELECT ts FROM rows WHERE entity = ? AND ts >= ? AND ts < ? ORDER BY ts", (key, start, end)
    )
    removed = connection.query("SELECT ts FROM removed WHERE entity = ?", (key,))[0].to_pylist()
    answered = subtract_spans(coverage.covered(connection, key), [(ts, ts + step) for ts in removed])
    return find_gaps(
        found["ts"].to_numpy().astype(np.int64),
        step,
        answered,
        start,
        end,
        empty_once=coverage.covered(connection, key, coverage.EMPTY),
    )


def _none_missing(step: int) -> Gaps:
    return find_gaps(np.empty(0, np.int64), step, (), 0, 0)
