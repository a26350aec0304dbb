"""``zvt-crypto stream``: keep tables live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zvt_crypto.cli import options as opt
from zvt_crypto.cli.state import Verb

if TYPE_CHECKING:
    from zvt_crypto.cli.state import State


@click.command(cls=Verb)
@click.option("--provider", required=True, help="Exchange to stream from; see `zvt-crypto providers`.")
@opt.codes
@click.option("--all", "all_markets", is_flag=True, help="Every market that trades now, instead of --codes.")
@click.option("--perps", is_flag=True, help="Codes whose notation does not tell mean perpetuals.")
@click.option(
    "--levels", multiple=True, metavar="LEVEL,...", help="Candle levels, such as 1m,1h.  [default: 1m]"
)
@click.option("--trades", is_flag=True, help="Trades; candles then only where --levels are given.")
@click.option("--funding", is_flag=True, help="Funding events of perpetuals, likewise.")
@click.option("--orderbooks", is_flag=True, help="Snapshots of order books, likewise.")
@click.option("--depth", type=click.IntRange(min=1), help="Levels of order books.  [default: 20]")
@click.option(
    "--book-every", type=click.FloatRange(min=0.1), help="Seconds between two snapshots.  [default: 60]"
)
@click.option("--days", type=click.IntRange(min=1), help="Also so many days up to now.")
@opt.start
@click.option("--for", "seconds", type=click.FloatRange(min=0.0), help="End after so many seconds.")
@opt.data_path
@opt.network
@click.pass_obj
def command(state: State, /, **options: Any) -> int:
    """Keep candles, trades, funding events or order books of an exchange live until Ctrl-C or SIGTERM.

    What came before is joined without a gap: without --days or --start from where the tables end, and after
    each lost connection from where it was lost. With --json a line tells every other second how it stands.
    """
    from zvt_crypto.cli.streaming import stream

    settings = opt.settings_of(options)
    seconds, book_every = options.pop("seconds"), options.pop("book_every")
    return stream(state, settings, options, book_every=book_every, seconds=seconds)
