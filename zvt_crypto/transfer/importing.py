"""Files into tables, through the writer's checks, in batches and with what they prove about coverage."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import DataQualityFailure, StoreFull, ZvtCryptoError
from zvt_crypto.core.levels import level_ms
from zvt_crypto.core.tables import ARROW_TYPE
from zvt_crypto.store import coverage
from zvt_crypto.store.engine import Store
from zvt_crypto.store.reader import Query, read
from zvt_crypto.store.writer import Entity, Page, SeriesWriter, check, write_entities
from zvt_crypto.transfer.conversion import columns_of, needed_columns, to_entities, to_series
from zvt_crypto.transfer.reading import DataFile, batches, naming, open_data
from zvt_crypto.transfer.report import Notify, Outcome, Rejected, Report, silent
from zvt_crypto.transfer.sources import Contents, Source, find_sources

#: Where the ledger says that rows came from.
_SOURCE: Final = "import"

Times = np.ndarray[Any, np.dtype[np.int64]]


def import_files(
    store: Store, paths: Iterable[Path], *, provider: str | None = None, notify: Notify = silent
) -> Report:
    """Store the rows of files; the same files again change nothing.

    Args:
        store: Where to.
        paths: Files of our layout or freqtrade's, and folders of such.
        provider: Data source of the files that do not tell theirs.
        notify: Is told of each file.

    Returns:
        What became of each; one that fails does not stop the others, a full disk does.

    Raises:
        InvalidArgument: A folder holds no data, or a provider is needed and not given.
    """
    found = find_sources(paths, provider)
    report = Report(skipped=found.skipped)
    for source in found.sources:
        outcome = Outcome(source.path)
        report.outcomes.append(outcome)
        try:
            _import(store, source, outcome)
        except ZvtCryptoError as error:
            outcome.errors.append(error)
            report.fatal = error if isinstance(error, StoreFull) else None
        finally:
            outcome.tell_rejected()
        notify(outcome)
        if report.fatal is not None:
            break
    return report


def _import(store: Store, source: Source, outcome: Outcome) -> None:
    contents = source.contents
    if isinstance(contents, ZvtCryptoError):
        raise contents
    outcome.provider, outcome.table = contents.provider, contents.spec.name
    with open_data(source.path) as data:
        outcome.bytes = source.path.stat().st_size
        columns = _wanted(source.path, data, contents)
        if contents.entity is None:
            _import_entities(store, contents, source.path, data, columns, outcome)
        else:
            outcome.entity_id = contents.entity.entity_id
            _SeriesImport(store, contents, contents.entity, outcome).run(source.path, data, columns)


def _wanted(path: Path, data: DataFile, contents: Contents) -> dict[str, pa.DataType]:
    """The columns to read, with their types for a format that has none."""
    spec = contents.spec
    known = {c.name: pa.string() if c.type == "time" else ARROW_TYPE[c.type] for c in columns_of(spec)}
    needed = list(needed_columns(spec))
    if spec.layout == "series":
        known = {contents.time_column: pa.string(), **known}
        needed.insert(0, contents.time_column)
    missing = [name for name in needed if name not in data.names]
    twice = [name for name in known if data.names.count(name) > 1]
    if missing or twice:
        raise DataQualityFailure(
            f"{path} lacks the columns {', '.join(missing)}"
            if missing
            else f"{path} has the columns {', '.join(twice)} more than once",
            suggestions=(f"`zvt-crypto schemas {spec.class_name}` lists the columns",),
            path=str(path),
        )
    return {name: kind for name, kind in known.items() if name in data.names}


def _import_entities(
    store: Store,
    contents: Contents,
    path: Path,
    data: DataFile,
    columns: Mapping[str, pa.DataType],
    outcome: Outcome,
) -> None:
    for rows in batches(path, data, columns):
        with naming(path):
            converted = to_entities(contents.spec, rows)
        outcome.reject(converted.rejected)
        if converted.batch.num_rows:
            with store.connect(contents.provider, contents.spec) as connection:
                write_entities(connection, contents.spec, converted.batch)
        outcome.rows += converted.batch.num_rows


class _SeriesImport:
    """Stores the rows of one file of a series."""

    def __init__(self, store: Store, contents: Contents, entity: Entity, outcome: Outcome) -> None:
        self.store = store
        self.contents = contents
        self.spec = contents.spec
        self.entity = entity
        self.outcome = outcome
        self.step = level_ms(contents.spec.level) if contents.spec.level else None
        self._newest: Times = np.empty(0, np.int64)

    def run(self, path: Path, data: DataFile, columns: Mapping[str, pa.DataType]) -> None:
        """Store the rows, each batch in a transaction, then what the file's label says."""
        checked = (self._checked(path, rows) for rows in batches(path, data, columns))
        filled = (batch for batch in checked if batch.num_rows)
        answered = self.contents.answered
        # Only what can be read makes a table and an entity.
        first = next(filled, None)
        if first is None and (self.outcome.rejected or not answered):
            return
        with self.store.connect(self.contents.provider, self.spec) as connection:
            writer = SeriesWriter(connection, self.spec)
            key = writer.entity_key(self.entity)
            for batch in itertools.chain([] if first is None else [first], filled):
                writer.write_pages(self._pages(key, batch))
                self.outcome.rows += batch.num_rows
            # Where rows were left out, the file no longer tells what does not exist.
            if answered and not self.outcome.rejected:
                writer.write_page(key, self.spec.schema.empty_table(), answered=answered, source=_SOURCE)
            coverage.tidy(connection, key)

    def _checked(self, path: Path, rows: pa.Table) -> pa.Table:
        with naming(path):
            converted = to_series(self.spec, rows, self.contents.time_column)
        checked = check(self.spec, converted.batch)
        broken = {reason: Rejected(len(times), times[0]) for reason, times in checked.rejected.items()}
        self.outcome.reject(converted.rejected | broken)
        lacking = [c.name for c in self.spec.columns if c.name not in rows.column_names]
        return (
            self._completed(checked.batch, lacking) if lacking and checked.batch.num_rows else checked.batch
        )

    def _completed(self, batch: pa.Table, lacking: Sequence[str]) -> pa.Table:
        """Values of columns that the file lacks, from stored rows that are the same in all others."""
        given = [c.name for c in self.spec.columns if c.name not in lacking]
        ts = batch["ts"].to_numpy()
        query = Query(
            self.spec,
            self.contents.provider,
            entity_ids=(self.entity.entity_id,),
            start=int(ts[0]),
            end=int(ts[-1]) + 1,
            columns=("timestamp", *given, *lacking),
        )
        stored = read(self.store, query)
        if not stored.num_rows:
            return batch
        stored_ts = stored["timestamp"].cast(pa.int64()).to_numpy()
        at = np.minimum(np.searchsorted(stored_ts, ts), len(stored_ts) - 1)
        is_same = stored_ts[at] == ts
        for name in given:
            is_same &= pc.equal(stored[name].take(pa.array(at)), batch[name]).fill_null(False).to_numpy()
        where = pa.array(at, mask=~is_same)
        for name in lacking:
            i = batch.column_names.index(name)
            batch = batch.set_column(i, batch.schema.field(i), stored[name].take(where))
        return batch

    def _pages(self, key: int, batch: pa.Table) -> list[Page]:
        """A page for each run of rows without a hole: a row removed in between stays marked as such."""
        ts = batch["ts"].to_numpy()
        if self.step is None:
            return [Page(key, batch, source=_SOURCE)]
        edges = _run_edges(ts, self.step)
        pages = [Page(key, batch.slice(a, b - a), source=_SOURCE) for a, b in itertools.pairwise(edges)]
        proven = self._proven(ts)
        spans = [
            (int(proven[a]), int(proven[b - 1]) + self.step)
            for a, b in itertools.pairwise(_run_edges(proven, self.step))
        ]
        return [replace(pages[0], answered=tuple(spans)), *pages[1:]]

    def _proven(self, ts: Times) -> Times:
        """Times of rows that are recorded for good: where the last may be unfinished, all but the newest."""
        if not self.contents.last_is_open:
            return ts
        times = np.union1d(self._newest, ts)
        self._newest = times[-1:]
        return times[:-1]


def _run_edges(ts: Times, step: int) -> list[int]:
    """Where runs of times one step apart begin, and the end of the last."""
    if not len(ts):
        return []
    return [0, *(np.flatnonzero(np.diff(ts) != step) + 1).tolist(), len(ts)]
