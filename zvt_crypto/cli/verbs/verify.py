"""``zvt-crypto verify``: recorded rows against what the exchange has now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zvt_crypto.cli import options as opt
from zvt_crypto.cli.state import Verb

if TYPE_CHECKING:
    from zvt_crypto.cli.state import State


@click.command(cls=Verb)
@opt.recorded_series
@click.option("--windows", type=click.IntRange(min=1), help="So many pages, drawn at random.  [default: 20]")
@click.option(
    "--share", type=click.FloatRange(0, 1, min_open=True), help="Such a share of all pages, such as 0.01."
)
@click.option("--all", "every", is_flag=True, help="All that is recorded.")
@click.option("--seed", default=0, show_default=True, help="Another seed draws other pages.")
@click.option("--fix", is_flag=True, help="Write what the exchange has where it differs.")
@opt.data_path
@opt.network
@click.pass_obj
def command(state: State, /, **options: Any) -> int:
    """Fetch a sample again, and the newest recorded day, and tell which rows the exchange has since changed.

    Nothing is written without --fix; rows that the exchange has no more always stay. The exit code is 3 where
    rows differ.
    """
    from zvt_crypto.cli.mending import verify_rows
    from zvt_crypto.cli.selecting import Asked

    settings = opt.settings_of(options)
    chosen = {name: options.pop(name) for name in ("share", "every", "windows", "seed", "fix")}
    return verify_rows(state, settings, Asked(**options), **chosen)
