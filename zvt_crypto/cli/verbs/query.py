"""``zvt-crypto query``: recorded rows on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zvt_crypto.cli import options as opt
from zvt_crypto.cli.state import Verb

if TYPE_CHECKING:
    from zvt_crypto.cli.state import State


@click.command(cls=Verb)
@opt.recorded_rows
@click.option("--columns", multiple=True, metavar="NAME,...", help="Columns in the order wanted.")
@click.option("--limit", type=int, help="At most so many rows, the first in the order.")
@click.option(
    "--order", type=click.Choice(["asc", "desc"]), default="asc", show_default=True, help="By time."
)
@click.option("--resample", metavar="LEVEL", help="Make coarser candles of these, such as 15m of 1m.")
@click.option(
    "--unfinished",
    type=click.Choice(["drop", "mark"]),
    default="drop",
    show_default=True,
    help="With --resample: what becomes of a candle that is not over yet.",
)
@click.option(
    "--fill",
    type=click.Choice(["none", "ffill"]),
    default="none",
    show_default=True,
    help="ffill: times without a candle get one with the last close, marked by is_filled.",
)
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), help="[default: table]")
@opt.data_path
@click.pass_obj
def command(state: State, /, **options: Any) -> None:
    """Print recorded rows, of a TABLE or of a level.

    TABLE is a name that `zvt-crypto schemas` lists. Times are UTC.
    """
    from zvt_crypto.cli.output import print_rows, write_batches
    from zvt_crypto.cli.reading import Target, find_target, query_for
    from zvt_crypto.store.engine import Store
    from zvt_crypto.store.reader import answer_schema, read, stream

    settings = opt.settings_of(options)
    form = options.pop("form") or ("json" if state.as_json else "table")
    names = Target(*(options.pop(name) for name in ("table", "provider", "level", "perps", "codes")))
    query = query_for(find_target(settings, names), **options)
    store = Store(settings)
    if form == "table":
        print_rows(state, read(store, query), all_columns=bool(options["columns"]))
    else:
        write_batches(answer_schema(query).names, stream(store, query), form)
