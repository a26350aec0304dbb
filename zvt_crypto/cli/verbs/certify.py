"""``zvt-crypto certify``: what can be said of each recorded series, with a hash of its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zvt_crypto.cli import options as opt
from zvt_crypto.cli.state import Verb

if TYPE_CHECKING:
    from zvt_crypto.cli.state import State


@click.command(cls=Verb)
@opt.recorded_series
@click.option("--output", metavar="FILE", help="Write the certificates there, as JSON.")
@opt.data_path
@click.pass_obj
def command(state: State, /, **options: Any) -> int:
    """Certify recorded series: coverage, gaps by kind, soundness, candles against recorded trades, SHA-256.

    The exit code is 3 where a series is not complete; its certificate says why.
    """
    from zvt_crypto.cli.certifying import certify_series
    from zvt_crypto.cli.selecting import Asked

    settings = opt.settings_of(options)
    output = options.pop("output")
    return certify_series(state, settings, Asked(**options), output)
