"""``zvt-crypto schemas``: which tables there are, and what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zvt_crypto.cli.state import State, Verb

if TYPE_CHECKING:
    from zvt_crypto.core.tables import TableSpec


@click.command(cls=Verb)
@click.argument("names", nargs=-1, metavar="[TABLE]...")
@click.pass_obj
def command(state: State, /, names: tuple[str, ...]) -> None:
    """List the tables.

    With -v, or for the TABLEs named, their columns too.
    """
    from zvt_crypto.domain import load_tables

    known = load_tables()
    specs = [known.find(name) for name in names] or list(known.values())
    if state.as_json:
        state.write_json([_as_dict(spec) for spec in specs])
    elif names or state.verbosity:
        for spec in specs:
            _print_columns(state, spec)
    else:
        _print_tables(state, specs)


def _as_dict(spec: TableSpec) -> dict[str, Any]:
    from zvt_crypto.store.reader import public_schema

    docs = {column.name: column.doc for column in spec.shown}
    return {
        "table": spec.name,
        "class": spec.class_name,
        "entity_type": spec.entity_type,
        "level": spec.level,
        "doc": spec.doc,
        "columns": [
            {"name": field.name, "type": str(field.type), "doc": docs.get(field.name)}
            for field in public_schema(spec)
        ],
    }


def _print_tables(state: State, specs: list[TableSpec]) -> None:
    from rich.table import Table

    shown = Table("table", "class", "what it holds", box=None, pad_edge=False)
    for spec in specs:
        shown.add_row(spec.name, spec.class_name, spec.doc)
    state.print_table(shown)


def _print_columns(state: State, spec: TableSpec) -> None:
    from rich.table import Table

    shown = Table("column", "type", "meaning", box=None, pad_edge=False)
    for column in _as_dict(spec)["columns"]:
        shown.add_row(column["name"], column["type"], column["doc"] or "")
    state.stdout.print(f"{spec.class_name} ({spec.name}): {spec.doc}")
    state.print_table(shown)
    state.stdout.print()
