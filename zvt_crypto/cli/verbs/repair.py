"""``zvt-crypto repair``: fetch what is missing inside the recorded series, or prove that it is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zvt_crypto.cli import options as opt
from zvt_crypto.cli.state import Verb

if TYPE_CHECKING:
    from zvt_crypto.cli.state import State


@click.command(cls=Verb)
@opt.recorded_series
@click.option("--again", is_flag=True, help="Ask for what is proven to be empty, too.")
@click.option("--no-trades", "from_exchange_only", is_flag=True, help="Make no candles of recorded trades.")
@opt.data_path
@opt.network
@click.pass_obj
def command(state: State, /, **options: Any) -> int:
    """Heal the holes of candles and funding events.

    Holes are asked for again. Where the exchange still has no candle and all trades of the time are recorded,
    the candle is made of them, without a number of trades. What stays empty is proven, and not asked for by
    the next repair. The exit code is 3 where something is left to heal.
    """
    from zvt_crypto.cli.mending import repair_holes
    from zvt_crypto.cli.selecting import Asked

    settings = opt.settings_of(options)
    chosen = {name: options.pop(name) for name in ("again", "from_exchange_only")}
    return repair_holes(state, settings, Asked(**options), **chosen)
