"""Recorded rows into files: one per series, written in batches."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast

import pyarrow as pa

from zvt_crypto.core.errors import (
    InvalidArgument,
    StoreFull,
    SymbolMappingError,
    ZvtCryptoError,
    unknown_value,
)
from zvt_crypto.core.levels import level_ms, subtract_spans
from zvt_crypto.core.symbols import Market, parse_symbol, split_entity_id
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.store import coverage
from zvt_crypto.store.engine import Store
from zvt_crypto.store.history import History, Series
from zvt_crypto.store.reader import Query, public_schema, stream
from zvt_crypto.transfer import freqtrade
from zvt_crypto.transfer.hive import hive_path
from zvt_crypto.transfer.label import Label, Span
from zvt_crypto.transfer.report import Notify, Outcome, Report, silent
from zvt_crypto.transfer.writing import FORMATS, DestinationClosed, new_file

#: Rows of a batch, and with it of a row group.
_BATCH_ROWS: Final = 1 << 17
_TIME: Final = pa.timestamp("ms", "UTC")
#: What ``stream`` gives is closed at once, so that the database is not held for longer than needed.
_Stream = Generator[pa.Table, None, None]


@dataclass(frozen=True, slots=True)
class Selection:
    """What to export of one table.

    Attributes:
        provider: The data source.
        spec: The table.
        codes: Only these codes; None means all.
        start: First time, epoch ms, inclusive.
        end: Last time, epoch ms, exclusive.
    """

    provider: str
    spec: TableSpec
    codes: tuple[str, ...] | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to and how.

    Attributes:
        folder: Is made where it is not there.
        layout: ``hive``, folders that tell provider, table and code; or ``freqtrade``, its names and columns.
        form: ``parquet``, ``feather``, ``csv`` or ``arrow``; freqtrade reads the first two.
    """

    folder: Path
    layout: Literal["hive", "freqtrade"] = "hive"
    form: str = "parquet"

    def __post_init__(self) -> None:
        if self.layout not in ("hive", "freqtrade"):
            raise unknown_value("layout", self.layout, ("hive", "freqtrade"))
        if self.form not in FORMATS:
            raise unknown_value("format", self.form, FORMATS)
        if self.layout == "freqtrade" and self.form not in freqtrade.FORMATS:
            raise InvalidArgument(
                f"freqtrade reads no {self.form} files",
                suggestions=(f"choose {' or '.join(freqtrade.FORMATS)}, or the layout hive",),
            )


@dataclass(frozen=True, slots=True)
class _File:
    """One file to be: its path, the columns to read for it, and the schema to write them in."""

    path: Path
    query: Query
    schema: pa.Schema


def export(
    store: Store, selections: Iterable[Selection], destination: Destination, notify: Notify = silent
) -> Report:
    """Write what is selected into files, one per series and one per table of entities.

    A file has its name once it is whole. A series without rows in the times selected makes none.

    Args:
        store: Where the rows are.
        selections: Which of them.
        destination: Where to and how.
        notify: Is told of each file.

    Returns:
        What became of each; one that fails does not stop the others, a full or closed destination does.

    Raises:
        InvalidArgument: The layout has no place for a table, or would mix providers.
    """
    chosen = list(selections)
    if destination.layout == "freqtrade":
        _check_freqtrade(chosen)
    report = Report()
    written: dict[Path, str] = {}
    try:
        for selection in chosen:
            for outcome in _export_table(store, selection, destination, written):
                report.outcomes.append(outcome)
                notify(outcome)
    except (StoreFull, DestinationClosed) as error:
        report.fatal = error
    return report


def _check_freqtrade(selections: list[Selection]) -> None:
    others = [s.spec.class_name for s in selections if s.spec.feed != "candles"]
    if others:
        raise InvalidArgument(
            f"{others[0]} holds no candles, which is all that freqtrade keeps in such files",
            suggestions=("export candles, or choose the layout hive",),
        )
    providers = sorted({s.provider for s in selections})
    if len(providers) > 1:
        raise InvalidArgument(
            f"freqtrade's file names do not tell {', '.join(providers)} apart",
            suggestions=("choose one with --provider, and a folder of its own for each",),
        )


def _export_table(
    store: Store, selection: Selection, destination: Destination, written: dict[Path, str]
) -> Iterator[Outcome]:
    spec = selection.spec
    if spec.layout == "entities":
        outcome = Outcome(None, selection.provider, spec.name)
        with _kept(outcome):
            _write(store, _entities_file(selection, destination), outcome)
        yield outcome
        return
    found: list[Series] = []
    table = Outcome(None, selection.provider, spec.name)
    with _kept(table):
        found = _series(store, selection)
    if table.errors:
        yield table
    for series in found:
        outcome = Outcome(None, selection.provider, spec.name, series.entity_id)
        with _kept(outcome):
            file = _series_file(store, selection, series, destination)
            owner = written.setdefault(file.path, series.entity_id)
            if owner != series.entity_id:
                raise SymbolMappingError(
                    f"{file.path} is the file of {owner} already, {series.entity_id} has the same name there",
                    suggestions=("export it into a folder of its own with --codes",),
                )
            _write(store, file, outcome)
        yield outcome


@contextlib.contextmanager
def _kept(outcome: Outcome) -> Iterator[None]:
    """Keep what goes wrong with one series; what stops all goes on."""
    try:
        yield
    except (StoreFull, DestinationClosed):
        raise
    except ZvtCryptoError as error:
        outcome.errors.append(error)


def _series(store: Store, selection: Selection) -> list[Series]:
    with store.reading(selection.provider, selection.spec) as connection:
        return History(connection, selection.spec).series(codes=selection.codes)


def _write(store: Store, file: _File, outcome: Outcome) -> None:
    with contextlib.closing(cast(_Stream, stream(store, file.query, _BATCH_ROWS))) as batches:
        first = next(batches, None)
        if first is None:
            return
        with new_file(file.path, file.path.suffix[1:], file.schema) as write:
            for batch in itertools.chain([first], batches):
                columns = [c.cast(f.type) for c, f in zip(batch.columns, file.schema, strict=True)]
                write(pa.table(columns, schema=file.schema))
                outcome.rows += batch.num_rows
    outcome.path = file.path
    outcome.bytes = file.path.stat().st_size


def _entities_file(selection: Selection, destination: Destination) -> _File:
    spec = selection.spec
    query = Query(spec, selection.provider, codes=selection.codes, start=selection.start, end=selection.end)
    label = Label(table=spec.name, provider=selection.provider)
    path = hive_path(
        destination.folder, {"provider": selection.provider, "table": spec.name}, destination.form
    )
    return _File(path, query, _zoned(public_schema(spec)).with_metadata(label.metadata()))


def _series_file(store: Store, selection: Selection, series: Series, destination: Destination) -> _File:
    spec, provider = selection.spec, selection.provider
    names: tuple[str, ...]
    if destination.layout == "freqtrade":
        assert spec.level is not None
        market = _market(store, selection, series)
        path = freqtrade.freqtrade_path(destination.folder, market, spec.level, destination.form)
        names, schema = freqtrade.PRICES, freqtrade.SCHEMA
    else:
        path = hive_path(destination.folder, _hive_keys(selection, series), destination.form)
        names = tuple(column.name for column in spec.columns)
        stored = pa.schema([public_schema(spec).field(name) for name in ("timestamp", *names)])
        schema = _zoned(stored).with_metadata(_label(store, selection, series).metadata())
    query = Query(
        spec,
        provider,
        entity_ids=(series.entity_id,),
        start=selection.start,
        end=selection.end,
        columns=("timestamp", *names),
    )
    return _File(path, query, schema)


def _zoned(schema: pa.Schema) -> pa.Schema:
    return pa.schema([f.with_type(_TIME) if pa.types.is_timestamp(f.type) else f for f in schema])


def _hive_keys(selection: Selection, series: Series) -> dict[str, str]:
    _, exchange, _ = split_entity_id(series.entity_id)
    keys = {"provider": selection.provider, "table": selection.spec.name, "code": series.code}
    return keys if exchange == selection.provider else keys | {"exchange": exchange}


def _label(store: Store, selection: Selection, series: Series) -> Label:
    spec = selection.spec
    return Label(
        table=spec.name,
        provider=selection.provider,
        entity_id=series.entity_id,
        code=series.code,
        name=series.name,
        level=spec.level,
        coverage=tuple(_proven(store, selection, series)),
    )


def _proven(store: Store, selection: Selection, series: Series) -> list[Span]:
    """Spans within the times selected that the exchange answered for, and of which nothing was removed since.

    They are read before the rows: what is recorded in between can only be more than they say.
    """
    step = level_ms(selection.spec.level) if selection.spec.level else 1
    with store.reading(selection.provider, selection.spec) as connection:
        answered = coverage.covered(connection, series.key)
        removed = connection.query("SELECT ts FROM removed WHERE entity = ?", (series.key,))
    left = subtract_spans(answered, [(ts, ts + step) for ts in removed["ts"].to_pylist()])
    start, end = selection.start, selection.end
    cut = [
        (lower if start is None else max(lower, start), upper if end is None else min(upper, end))
        for lower, upper in left
    ]
    return [span for span in cut if span[0] < span[1]]


def _market(store: Store, selection: Selection, series: Series) -> Market:
    """The currencies of a series, which its code alone does not tell apart.

    Raises:
        SymbolMappingError: They are not known.
    """
    for name in (series.name, _symbol(store, selection, series)):
        with contextlib.suppress(SymbolMappingError):
            market = parse_symbol(name or "")
            if (market.entity_type, market.code) == (selection.spec.entity_type, series.code):
                return market
    raise SymbolMappingError(
        f"the currencies of {series.entity_id} are not known, which freqtrade's file name needs",
        suggestions=(f"record them with `zvt-crypto record --provider {selection.provider} --entities`",),
    )


def _symbol(store: Store, selection: Selection, series: Series) -> str | None:
    """The market's symbol in its table of entities."""
    from zvt_crypto.domain import load_tables

    spec = load_tables()[selection.spec.entity_type]
    query = Query(spec, selection.provider, entity_ids=(series.entity_id,), columns=("symbol",))
    for batch in stream(store, query):
        return str(batch["symbol"][0].as_py())
    return None
