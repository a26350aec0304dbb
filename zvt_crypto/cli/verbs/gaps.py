"""``zvt-crypto gaps``: each hole of the recorded series, with its cause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zvt_crypto.cli import options as opt
from zvt_crypto.cli.state import Verb

if TYPE_CHECKING:
    from zvt_crypto.cli.state import State


@click.command(cls=Verb)
@opt.recorded_series
@opt.data_path
@click.pass_obj
def command(state: State, /, **options: Any) -> int:
    """Tell each hole of candles, funding events and trades: its kind, the evidence for it, and what to do.

    Kinds: unrecorded and unconfirmed were not asked for, or not twice; contradicted lacks a candle although
    trades are recorded; no_trade, outage and absent are empty at the exchange; before_listing and
    after_delisting have no market. Of trades only the ledger can tell: what was neither answered nor
    streamed without a loss is missing, in milliseconds. Without --start and --end, what was ever asked for is
    looked at. The exit code is 3 where something can be healed.
    """
    from zvt_crypto.cli.gapreport import show_gaps
    from zvt_crypto.cli.selecting import Asked

    settings = opt.settings_of(options)
    return show_gaps(state, settings, Asked(**options))
