"""The one way by which batches enter a table: checked, idempotent, with their coverage in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from zvt_crypto.core.decimals import MAX_DIGITS, to_integers
from zvt_crypto.core.errors import DataQualityFailure
from zvt_crypto.core.levels import iso, subtract_spans
from zvt_crypto.core.tables import Column, TableSpec
from zvt_crypto.store import coverage, keys
from zvt_crypto.store.layout import (
    ENTITY_HEAD,
    count_statement,
    entity_upsert_statement,
    touch_statement,
    upsert_statement,
)
from zvt_crypto.store.sqlite import Connection, one_of

#: A statement of several rows takes SQLite a third less time for each; to lay the rows of a page side by side
#: takes some, so that only large batches gain.
_ROWS_AT_ONCE: Final = 32
_MANY_ROWS: Final = 4_096
_FOUR_BYTES: Final = float(1 << 31)


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity as the rows of a series refer to it."""

    entity_id: str
    code: str
    name: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """What an exchange answered for a stretch of time.

    Attributes:
        key: The entity, from ``SeriesWriter.entity_key``.
        batch: Rows in the table's schema that passed ``check``; may be empty.
        answered: Spans that are recorded once this page is.
        empty: Spans answered with no rows for the first time.
        source: Where the rows came from.
        streamed: Spans whose rows a stream brought and the exchange has not confirmed yet.
    """

    key: int
    batch: pa.Table
    answered: tuple[coverage.Span, ...] = ()
    empty: tuple[coverage.Span, ...] = ()
    source: str = coverage.REST
    streamed: tuple[coverage.Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """A batch that passed the checks, and what did not."""

    batch: pa.Table
    rejected: dict[str, list[int]]

    def error(self, what: str) -> DataQualityFailure | None:
        """The error that tells of the rejected rows, None without any."""
        if not self.rejected:
            return None
        parts = [
            f"{reason} ({len(times)} rows, first at {iso(times[0])})"
            for reason, times in self.rejected.items()
        ]
        return DataQualityFailure(
            f"{what}: rows that cannot be true were left out: {'; '.join(parts)}",
            rows=sum(len(times) for times in self.rejected.values()),
        )


def check(spec: TableSpec, batch: pa.Table) -> Checked:
    """Put rows in order, drop repeated keys (the last one stays) and set aside rows that break a rule."""
    schema = spec.schema
    if not batch.schema.equals(schema):
        batch = batch.select(schema.names).cast(schema)
    batch = keys.in_order(batch, spec.keys[0].name) if spec.keys else _in_order(batch)
    rejected: dict[str, list[int]] = {}
    for rule in spec.rules:
        bad = rule.bad(batch)
        if bad.any():
            rejected[rule.name] = batch["ts"].filter(pa.array(bad)).to_pylist()
            batch = batch.filter(pa.array(~bad))
    return Checked(batch, rejected)


class SeriesWriter:
    """Writes the rows of one table of layout ``series``. Used by one thread at a time.

    Attributes:
        known_entities: The entities that were asked for, by their keys.
    """

    def __init__(self, connection: Connection, spec: TableSpec) -> None:
        self.connection = connection
        self.spec = spec
        self.known_entities: dict[int, Entity] = {}
        self._known_scales: dict[int, dict[str, float | None]] = {}
        self._has_removed: dict[int, bool] = {}

    def entity_key(self, entity: Entity) -> int:
        """The integer that stands for an entity in the rows, given on first use."""
        find = "SELECT key FROM entities WHERE entity_id = ?"
        key = self.connection.value(find, (entity.entity_id,))
        if key is None:
            with self.connection.transaction():
                self.connection.write(
                    "INSERT INTO entities (entity_id, code, name) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                    pa.table({"i": [entity.entity_id], "c": [entity.code], "n": [entity.name]}),
                )
            key = self.connection.value(find, (entity.entity_id,))
        # Rows that are removed while we write stay marked, and are fetched once more by the next run.
        marked = self.connection.value("SELECT EXISTS (SELECT 1 FROM removed WHERE entity = ?)", (key,))
        self._has_removed[int(key)] = bool(marked)
        self.known_entities[int(key)] = entity
        return int(key)

    def write_page(
        self,
        key: int,
        batch: pa.Table,
        *,
        answered: Iterable[coverage.Span] = (),
        empty: Iterable[coverage.Span] = (),
        source: str = coverage.REST,
    ) -> None:
        """Store one page; see ``Page`` and ``write_pages``."""
        self.write_pages([Page(key, batch, tuple(answered), tuple(empty), source)])

    def write_pages(self, pages: Sequence[Page]) -> None:
        """Store pages with what they cover in one transaction: all of it, or nothing."""
        by_key: dict[int, list[Page]] = {}
        for page in pages:
            by_key.setdefault(page.key, []).append(page)
        chosen: dict[int, dict[str, float | None]] = {}
        written = 0
        with self.connection.transaction():
            for key, pages_of_key in by_key.items():
                group = [self._unconfirmed(page) for page in pages_of_key]
                filled = [page.batch for page in group if page.batch.num_rows]
                if filled:
                    chosen[key] = self._write_rows(key, filled)
                for page in group:
                    self._write_coverage(page)
                written += sum(batch.num_rows for batch in filled)
            if written:
                self.connection.run(count_statement(written))
        # Only a committed choice may be remembered: what was rolled back chose nothing.
        self._known_scales |= chosen

    def _unconfirmed(self, page: Page) -> Page:
        """A page without what the exchange has answered for meanwhile, which a stream does not replace."""
        if not page.streamed:
            return page
        streamed = subtract_spans(page.streamed, coverage.covered(self.connection, page.key))
        ts = page.batch["ts"].to_numpy()
        is_answered = np.zeros(len(ts), np.bool_)
        for start, end in subtract_spans(page.streamed, streamed):
            is_answered |= (ts >= start) & (ts < end)
        rows = page.batch.filter(pa.array(~is_answered)) if is_answered.any() else page.batch
        return replace(page, batch=rows, streamed=tuple(streamed))

    def _write_rows(self, key: int, batches: list[pa.Table]) -> dict[str, float | None]:
        rows = batches[0] if len(batches) == 1 else pa.concat_tables(batches)
        scales = self._scales(key, rows)
        for part in self._kept(rows):
            self._upsert(key, self._encode(part, scales))
        chunks: set[int] = set()
        for batch in batches:
            first, last = batch["ts"][0].as_py(), batch["ts"][-1].as_py()
            chunks.update(range(first // self.spec.chunk_ms, last // self.spec.chunk_ms + 1))
            if self._has_removed.get(key, True):
                self.connection.run(
                    f"DELETE FROM removed WHERE entity = {key:d} AND ts BETWEEN {first:d} AND {last:d}"
                )
        for chunk in chunks:
            self.connection.run(touch_statement(self.spec, str(key), str(chunk)))
        return scales

    def _write_coverage(self, page: Page) -> None:
        enter = coverage.extend if page.source == coverage.STREAM else coverage.add
        states = (
            (coverage.ANSWERED, page.answered),
            (coverage.EMPTY, page.empty),
            (coverage.STREAMED, page.streamed),
        )
        for state, spans in states:
            for span in spans:
                enter(self.connection, page.key, span, state=state, source=page.source)

    def _upsert(self, key: int, rows: pa.Table) -> None:
        many = rows.num_rows // _ROWS_AT_ONCE * _ROWS_AT_ONCE if rows.num_rows >= _MANY_ROWS else 0
        if many:
            wide = _side_by_side(rows.slice(0, many), _ROWS_AT_ONCE)
            self.connection.write(upsert_statement(self.spec, key, _ROWS_AT_ONCE), wide)
        if many < rows.num_rows:
            self.connection.write(upsert_statement(self.spec, key), rows.slice(many))

    def _kept(self, batch: pa.Table) -> list[pa.Table]:
        return keys.kept_parts(batch, self.spec.keys[0].name) if self.spec.keys else [batch]

    def _encode(self, batch: pa.Table, scales: dict[str, float | None]) -> pa.Table:
        """The parameters of the upsert: values with a unit as integers where their whole unit is exact."""
        columns = {name: batch[name] for name in batch.column_names}
        for unit, scale in scales.items():
            names = [c.name for c in self.spec.columns if c.unit == unit]
            columns |= _encoded({name: columns[name] for name in names}, scale)
        return pa.table(columns)

    def _scales(self, key: int, batch: pa.Table) -> dict[str, float | None]:
        """The entity's scales; those that it has none of yet are chosen from this page and kept for good."""
        scales = self._known_scales.get(key)
        if scales is None or None in scales.values():
            scales = self._read_scales(key)
            for unit in [unit for unit, scale in scales.items() if scale is None]:
                scale = _choose_scale(_values(self.spec.columns, unit, batch))
                if scale is not None:
                    self.connection.run(f"UPDATE entities SET {unit}_scale = {scale!r} WHERE key = {key:d}")
                    scales[unit] = scale
        return scales

    def _read_scales(self, key: int) -> dict[str, float | None]:
        if not self.spec.units:
            return {}
        names = ", ".join(f"{unit}_scale" for unit in self.spec.units)
        row = self.connection.query(f"SELECT {names} FROM entities WHERE key = ?", (key,)).to_pylist()[0]
        return {unit: row[f"{unit}_scale"] for unit in self.spec.units}


def write_entities(connection: Connection, spec: TableSpec, batch: pa.Table) -> None:
    """Insert or bring up to date the rows of an entity table; a known list date is never forgotten.

    Args:
        connection: An open table of layout ``entities``.
        spec: Its definition.
        batch: Columns of ``layout.ENTITY_HEAD`` and of the spec; others are ignored, missing ones are NULL.
    """
    names = [n for n in [*ENTITY_HEAD, *(c.name for c in spec.columns)] if n in batch.column_names]
    with connection.transaction():
        connection.write(entity_upsert_statement(names).format(table=spec.name), batch.select(names))


def close_entities(
    connection: Connection, spec: TableSpec, exchange: str, kept: Sequence[str], ts: int
) -> int:
    """Note that all entities of an exchange but some trade no more, at the latest from a time on.

    Args:
        connection: An open table of layout ``entities``.
        spec: Its definition.
        exchange: Whose entities.
        kept: Ids of those that are left as they are.
        ts: Epoch ms; becomes the end date of those that have none.

    Returns:
        How many there were; where they are more than half of what was active, nothing is noted.
    """
    gone, parameter = one_of("id", kept)
    active = "exchange = ? AND is_active IS NOT 0"
    count = int(
        connection.value(
            f"SELECT count(*) FROM {spec.name} WHERE {active} AND NOT {gone}", (exchange, parameter)
        )
    )
    total = int(connection.value(f"SELECT count(*) FROM {spec.name} WHERE {active}", (exchange,)))
    if count and 2 * count <= total:
        with connection.transaction():
            connection.write(
                f"UPDATE {spec.name} SET is_active = 0, end_date = coalesce(end_date, {ts:d})"
                f" WHERE {active} AND NOT {gone}",
                pa.table({"exchange": [exchange], "kept": [parameter]}),
            )
    return count


def _side_by_side(rows: pa.Table, count: int) -> pa.Table:
    """Every ``count`` rows as one: the columns of the first row, then those of the second, and so on."""
    rows = rows.combine_chunks()
    every = [pa.array(np.arange(first, rows.num_rows, count)) for first in range(count)]
    columns = [column.take(which) for which in every for column in rows.columns]
    return pa.table(columns, names=[str(i) for i in range(len(columns))])


def _in_order(batch: pa.Table) -> pa.Table:
    ts = batch["ts"].to_numpy()
    if np.all(ts[1:] > ts[:-1]):
        return batch
    order = np.argsort(ts, kind="stable")
    is_last = np.append(ts[order][1:] != ts[order][:-1], True)
    return batch.take(pa.array(order[is_last]))


def _values(columns: tuple[Column, ...], unit: str, batch: pa.Table) -> np.ndarray[Any, Any]:
    found = [batch[c.name].to_numpy() for c in columns if c.unit == unit]
    values: np.ndarray[Any, Any] = np.concatenate(found).astype(np.float64)
    finite: np.ndarray[Any, Any] = values[np.isfinite(values)]
    return finite


def _choose_scale(values: np.ndarray[Any, Any]) -> float | None:
    """The power of ten that makes integers of all values, with spare digits while four bytes hold them."""
    if not len(values):
        return None
    largest = float(np.abs(values).max())
    digits = next((d for d in range(MAX_DIGITS + 1) if to_integers(values, 10.0**d)[1].all()), None)
    if digits is None:
        return None
    while digits < MAX_DIGITS and largest * 10.0 ** (digits + 1) * 4 < _FOUR_BYTES:
        digits += 1
    return float(10.0**digits)


def _encoded(columns: dict[str, pa.ChunkedArray], scale: float | None) -> dict[str, Any]:
    """Integers where all values of these columns are exact multiples, the values themselves otherwise."""
    if scale is None:
        return columns
    values = np.array([column.to_numpy() for column in columns.values()])
    known = np.isfinite(values)
    scaled, is_exact = to_integers(np.where(known, values, 0.0), scale)
    if not is_exact.all():
        return columns
    integers = scaled.astype(np.int64)
    if known.all():
        return {name: pa.array(integers[i]) for i, name in enumerate(columns)}
    return {name: pa.array(integers[i], mask=~known[i]) for i, name in enumerate(columns)}
