"""``zvt-crypto chart``: recorded candles as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zvt_crypto.cli import options as opt
from zvt_crypto.cli.state import Verb

if TYPE_CHECKING:
    from zvt_crypto.cli.state import State


@click.command(cls=Verb)
@click.option("--provider", help="Data source; may be left out where only one is recorded.")
@click.option("--level", required=True, help="Level of the candles.")
@click.option("--perps", is_flag=True, help="A code whose notation does not tell means a perpetual.")
@click.option("--codes", multiple=True, required=True, metavar="CODE", help="One market, in any notation.")
@opt.start
@opt.end
@click.option(
    "--output", type=click.Path(path_type=Path), help="File to write; named after the market by default."
)
@opt.data_path
@click.pass_obj
def command(state: State, /, **options: Any) -> None:
    """Draw candles and volume into one HTML file, and print its path.

    The file needs no network: plotly's own JavaScript is inside.
    """
    from zvt_crypto.cli.candlesticks import write_chart
    from zvt_crypto.cli.reading import Target, find_target

    settings = opt.settings_of(options)
    names = Target(None, *(options.pop(name) for name in ("provider", "level", "perps", "codes")))
    path, candles = write_chart(settings, find_target(settings, names), **options)
    if state.as_json:
        state.write_json({"path": str(path), "candles": candles})
    else:
        click.echo(str(path))
