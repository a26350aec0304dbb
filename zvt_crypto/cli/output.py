"""Rows on stdout: a table for people, CSV or JSON for programs."""

from __future__ import annotations

import csv
import datetime as dt
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import click
import pyarrow as pa

from zvt_crypto.cli.state import State
from zvt_crypto.store.answer import iso_texts

#: Rows turned into text at once.
_CHUNK: Final = 20_000
#: A longer table shows its first and last rows only, half as many of each.
_TABLE_ROWS: Final = 40
#: What identifies a row in other ways than its time and code, and what is computed from the rest.
_LEFT_OUT: Final = frozenset(
    {"id", "entity_id", "entity_type", "name", "provider", "level", "exchange"}
    | {"volume_base", "volume_quote", "turnover_rate"}
)


def write_batches(names: Sequence[str], batches: Iterable[pa.Table], form: str) -> None:
    """Write rows of these columns to stdout as they come, as ``csv`` or ``json``; times are naive UTC."""
    waiting = iter(batches)
    # What cannot be read at all is told before anything is written.
    first = list(itertools.islice(waiting, 1))
    chunks = (chunk for batch in itertools.chain(first, waiting) for chunk in _chunks(batch))
    if form == "csv":
        _write_csv(names, chunks)
    else:
        _write_json(chunks)


def print_rows(state: State, rows: pa.Table, *, all_columns: bool) -> None:
    """Print rows as a table for people.

    Args:
        state: How to talk.
        rows: The rows; times are naive UTC.
        all_columns: Whether to show every column, or only those that tell something new.
    """
    _print_table(
        state, rows if all_columns else rows.select([n for n in rows.column_names if n not in _LEFT_OUT])
    )


def _texted(rows: pa.Table) -> pa.Table:
    for i, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            rows = rows.set_column(i, field.name, iso_texts(rows.column(i)))
    return rows


def _chunks(rows: pa.Table) -> Iterator[pa.Table]:
    for offset in range(0, rows.num_rows, _CHUNK):
        yield _texted(rows.slice(offset, _CHUNK))


def _write_csv(names: Sequence[str], chunks: Iterable[pa.Table]) -> None:
    click.echo(_csv_text([names]), nl=False)
    for chunk in chunks:
        click.echo(_csv_text(zip(*(column.to_pylist() for column in chunk.columns), strict=True)), nl=False)


def _csv_text(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _write_json(chunks: Iterable[pa.Table]) -> None:
    import orjson

    click.echo("[", nl=False)
    separator = ""
    for chunk in chunks:
        click.echo(separator + orjson.dumps(chunk.to_pylist()).decode()[1:-1], nl=False)
        separator = ",\n"
    click.echo("]")


def _print_table(state: State, rows: pa.Table) -> None:
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    for field in rows.schema:
        is_number = pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
        shown.add_column(field.name, justify="right" if is_number else "left", no_wrap=True)
    half = _TABLE_ROWS // 2
    if rows.num_rows <= _TABLE_ROWS:
        _add_rows(shown, rows)
    else:
        _add_rows(shown, rows.slice(0, half))
        shown.add_row(*("…" for _ in rows.column_names))
        _add_rows(shown, rows.slice(rows.num_rows - half))
    state.print_table(shown)
    if rows.num_rows > _TABLE_ROWS:
        state.stderr.print(f"{rows.num_rows:,} rows; --format csv or json writes them all", markup=False)


def _add_rows(shown: Any, rows: pa.Table) -> None:
    for row in rows.to_pylist():
        shown.add_row(*_cells(row.values()))


def _cells(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if value is None:
            yield ""
        elif isinstance(value, dt.datetime):
            yield value.strftime("%Y-%m-%d %H:%M:%S")
        elif isinstance(value, float):
            yield f"{value:.10g}"
        else:
            yield str(value)
