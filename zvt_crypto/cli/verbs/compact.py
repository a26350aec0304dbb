"""``zvt-crypto compact``: columnar copies of recorded history, ahead of the first query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zvt_crypto.cli import options as opt
from zvt_crypto.cli.state import Verb

if TYPE_CHECKING:
    from zvt_crypto.cli.state import State


@click.command(cls=Verb)
@click.argument("table", required=False)
@click.option("--provider", help="Only this data source.")
@opt.data_path
@click.pass_obj
def command(state: State, /, **options: Any) -> None:
    """Make the columnar copies from which history is read fastest, and drop stale ones.

    Queries make them too, as they first read settled history. They take 64 bytes a candle in a folder
    beside each database, which can be deleted at any time. By default all recorded tables are done.
    """
    from zvt_crypto.cli.compacting import compact_tables

    settings = opt.settings_of(options)
    compact_tables(state, settings, **options)
