"""``zvt-crypto schedule``: record on time what the settings file says, and show what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zvt_crypto.cli import options as opt
from zvt_crypto.cli.state import Verb, common_options

if TYPE_CHECKING:
    from zvt_crypto.cli.state import State


@click.group(params=common_options())
def command() -> None:
    """Record on time what the [[schedule]] entries of the settings file say."""


@command.command("run", cls=Verb)
@click.option("--once", is_flag=True, help="Run every entry once, now, and exit with the worst exit code.")
@opt.data_path
@opt.network
@click.pass_obj
def run_command(state: State, /, **options: Any) -> int:
    """Run the schedule in the foreground until SIGTERM or Ctrl-C; a line for each run.

    What fell due since an entry's last run, or was never run, is made up for at the start.
    """
    from zvt_crypto.cli.scheduling import run

    settings = opt.settings_of(options)
    return run(state, settings, **options)


@command.command("list", cls=Verb)
@opt.data_path
@click.pass_obj
def list_command(state: State, /, **options: Any) -> None:
    """Show the entries, when each is due next, and what became of its last run."""
    from zvt_crypto.cli.scheduling import show_entries

    show_entries(state, opt.settings_of(options))


@command.command("history", cls=Verb)
@click.option("--entry", help="Only runs of this entry.")
@click.option("--limit", type=click.IntRange(min=1), default=20, help="So many of the newest.  [default: 20]")
@opt.data_path
@click.pass_obj
def history_command(state: State, /, **options: Any) -> None:
    """Show what became of past runs, the newest first; the newest 1,000 of each entry are kept."""
    from zvt_crypto.cli.scheduling import show_history

    settings = opt.settings_of(options)
    show_history(state, settings, **options)
