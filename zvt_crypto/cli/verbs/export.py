"""``zvt-crypto export``: recorded rows as files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zvt_crypto.cli import options as opt
from zvt_crypto.cli.state import Verb
from zvt_crypto.core.errors import InvalidArgument

if TYPE_CHECKING:
    from zvt_crypto.cli.reading import Target
    from zvt_crypto.cli.state import State
    from zvt_crypto.core.config import Settings
    from zvt_crypto.transfer.exporting import Selection
    from zvt_crypto.transfer.report import Notify, Outcome, Report


@click.command(cls=Verb)
@opt.recorded_rows
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "feather", "csv", "arrow"]),
    help="[default: parquet; feather for freqtrade]",
)
@click.option(
    "--layout",
    type=click.Choice(["hive", "freqtrade"]),
    default="hive",
    show_default=True,
    help="Folders that tell provider, table and code; or freqtrade's names and columns.",
)
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), required=True, help="Folder to write the files to."
)
@opt.data_path
@click.pass_obj
def command(state: State, /, **options: Any) -> int:
    """Write recorded rows into files, one per market.

    Of a TABLE or of a level; of everything that is recorded where neither is named. TABLE is a name that
    `zvt-crypto schemas` lists. Times are UTC.
    """
    from zvt_crypto.cli.reading import Target
    from zvt_crypto.store.engine import Store
    from zvt_crypto.transfer.exporting import Destination, export

    settings = opt.settings_of(options)
    names = Target(*(options[name] for name in ("table", "provider", "level", "perps", "codes")))
    layout, form, out = options["layout"], options["form"], options["out"]
    destination = Destination(out, layout, form or ("feather" if layout == "freqtrade" else "parquet"))
    chosen = _selections(settings, names, options)
    report = export(Store(settings), chosen, destination, teller(state))
    return show(state, report, f"in {out}")


def _selections(settings: Settings, names: Target, options: dict[str, Any]) -> list[Selection]:
    from zvt_crypto.cli.reading import find_recorded, find_target
    from zvt_crypto.transfer.exporting import Selection

    start, end = opt.range_of(options["start"], options["end"])
    if names.table is not None or names.level is not None:
        target = find_target(settings, names)
        return [Selection(target.provider, target.spec, target.codes, start, end)]
    if names.codes or names.perps:
        raise InvalidArgument(
            "codes are of a table, and none is named",
            suggestions=("give a table, such as CryptoPair1mKdata, or --level 1m",),
        )
    is_hive = options["layout"] == "hive"
    found = find_recorded(settings, names.provider, fits=lambda spec: is_hive or spec.feed == "candles")
    return [Selection(recorded.provider, recorded.spec, start=start, end=end) for recorded in found]


def teller(state: State) -> Notify:
    """What tells of each file on stderr, where progress is wanted; ``import`` uses it too."""
    from zvt_crypto.cli.naming import market_name
    from zvt_crypto.core.tables import tables
    from zvt_crypto.transfer.report import silent

    def tell(outcome: Outcome) -> None:
        spec = tables.get(outcome.table)
        if spec is None:
            name = str(outcome.path)
        elif outcome.entity_id is None:
            name = f"{outcome.provider} {spec.name}"
        else:
            name = f"{market_name(outcome.entity_id)} {spec.level or spec.name}"
        text = "failed" if outcome.errors and not outcome.rows else f"{outcome.rows:,} rows"
        state.stderr.print(f"{name}: {text}", markup=False)

    return tell if state.show_progress else silent


def show(state: State, report: Report, where: str) -> int:
    """Show the sum of all files and each failure, and answer the exit code; ``import`` uses it too."""
    if state.as_json:
        state.write_json(report.as_dict())
    else:
        skipped = f"; {report.skipped:,} other files were skipped" if report.skipped else ""
        size = f"{report.bytes / 1e6:,.1f} MB"
        click.echo(f"{report.rows:,} rows of {report.files:,} files ({size}) {where}{skipped}")
    for error in {error.one_line(): error for error in report.errors}.values():
        state.tell(error)
    return report.exit_code
