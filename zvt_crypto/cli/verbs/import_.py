"""``zvt-crypto import``: files into tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zvt_crypto.cli import options as opt
from zvt_crypto.cli.state import Verb

if TYPE_CHECKING:
    from zvt_crypto.cli.state import State


@click.command(cls=Verb, name="import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--provider", help="Data source of files that do not tell theirs, as freqtrade's do not.")
@opt.data_path
@click.pass_obj
def command(state: State, /, **options: Any) -> int:
    """Store the rows of files: what `zvt-crypto export` writes, and freqtrade's candles.

    PATH is a file or a folder. Rows pass the same checks as those of an exchange; the same files again
    change nothing.
    """
    from zvt_crypto.cli.verbs.export import show, teller
    from zvt_crypto.store.engine import Store
    from zvt_crypto.transfer.importing import import_files

    settings = opt.settings_of(options)
    report = import_files(
        Store(settings), options["paths"], provider=options["provider"], notify=teller(state)
    )
    return show(state, report, f"stored in {settings.data_path}")
