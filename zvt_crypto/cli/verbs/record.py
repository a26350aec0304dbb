"""``zvt-crypto record``: fetch what is missing from an exchange and store it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zvt_crypto.cli import options as opt
from zvt_crypto.cli.state import Verb

if TYPE_CHECKING:
    from zvt_crypto.cli.state import State


@click.command(cls=Verb)
@click.option("--provider", required=True, help="Exchange to record from; see `zvt-crypto providers`.")
@opt.codes
@click.option("--all", "all_markets", is_flag=True, help="Every market that trades now, instead of --codes.")
@click.option("--perps", is_flag=True, help="Codes whose notation does not tell mean perpetuals.")
@click.option(
    "--levels", multiple=True, metavar="LEVEL,...", help="Candle levels, such as 1m,1h.  [default: 1m]"
)
@click.option(
    "--derive", multiple=True, metavar="LEVEL,...", help="Levels to make from the 1m candles, not to fetch."
)
@click.option("--trades", is_flag=True, help="Trades; candles then only where --levels are given.")
@click.option("--funding", is_flag=True, help="Funding events of perpetuals, likewise.")
@click.option("--orderbooks", is_flag=True, help="A snapshot of each order book as it is now, likewise.")
@click.option("--depth", type=click.IntRange(min=1), help="Levels of order books.  [default: about 100]")
@click.option("--exchange", "exchanges", multiple=True, help="Exchange of provider ccxt, such as bitget.")
@click.option("--days", type=click.IntRange(min=1), help="So many days up to now.  [default: 30]")
@opt.start
@opt.end
@click.option("--timerange", metavar="FROM-TO", help="As freqtrade has it: 20240101-20240201, end exclusive.")
@click.option("--entities", is_flag=True, help="Only the exchange's instruments, no candles.")
@click.option("--dry-run", is_flag=True, help="Only show what would be fetched, and what it takes.")
@click.option("--force", is_flag=True, help="Fetch again what is recorded already.")
@opt.data_path
@opt.network
@click.pass_obj
def command(state: State, /, **options: Any) -> int:
    """Record candles, trades, funding events, order books or instruments of an exchange.

    Only what is missing is fetched: the same command again continues where the last one ended.
    """
    from zvt_crypto.cli.recording import Wanted, record

    settings = opt.settings_of(options)
    return record(state, settings, Wanted(**options))
