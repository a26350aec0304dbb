"""``zvt-crypto report``: what is recorded, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zvt_crypto.cli import options as opt
from zvt_crypto.cli.state import Verb

if TYPE_CHECKING:
    from zvt_crypto.cli.state import State


@click.command(cls=Verb)
@click.option("--provider", help="Only this data source.")
@click.option("--levels", multiple=True, metavar="LEVEL,...", help="Only candles of these levels.")
@opt.codes
@opt.start
@opt.end
@click.option("--gaps", "list_gaps", is_flag=True, help="List each gap with its cause and what to do.")
@opt.data_path
@click.pass_obj
def command(state: State, /, **options: Any) -> int:
    """Tell what is recorded: rows, span, gaps and disk.

    Gaps are looked for between a symbol's first and last row, or from --start to --end.
    """
    from zvt_crypto.cli.datareport import Asked, report

    settings = opt.settings_of(options)
    return report(state, settings, Asked(**options))
