"""``zvt-crypto prices``: how well the providers' prices of one market agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zvt_crypto.cli import options as opt
from zvt_crypto.cli.state import Verb

if TYPE_CHECKING:
    from zvt_crypto.cli.state import State


@click.command(cls=Verb)
@click.option("--codes", multiple=True, required=True, metavar="CODE", help="One market, in any notation.")
@click.option(
    "--providers",
    multiple=True,
    metavar="NAME,...",
    help="Data sources; by default all that have the market.",
)
@click.option("--at", help="Time of the prices, UTC; by default the last that all of them reach.")
@opt.start
@opt.end
@click.option("--level", help="Level of the candles; by default the finest recorded.")
@click.option("--perps", is_flag=True, help="A code whose notation does not tell means a perpetual.")
@click.option(
    "--tolerance",
    "tolerance_pct",
    type=float,
    metavar="PCT",
    help="Difference still in agreement.  [default: 0.5]",
)
@click.option(
    "--max-age",
    "max_age_seconds",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    help="With --at: an older price is left out.  [default: 300]",
)
@opt.data_path
@click.pass_obj
def command(state: State, /, **options: Any) -> int:
    """Compare one market's recorded prices between providers.

    At one time: the close of each provider's last candle that was finished by then; deviation from the
    median, outliers, a recommended price and how far it can be trusted. From --start to --end: every candle.
    """
    from zvt_crypto.cli.comparing import Asked, compare

    settings = opt.settings_of(options)
    return compare(state, settings, Asked(**options))
