"""``zvt-crypto doctor``: whether everything is in place, and what to do where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from zvt_crypto.cli import options as opt
from zvt_crypto.cli.state import Verb
from zvt_crypto.core.errors import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from zvt_crypto.cli.state import State
    from zvt_crypto.doctor import Finding

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@click.command(cls=Verb)
@click.option("--offline", is_flag=True, help="Do not ask the exchanges for their time.")
@click.option("--thorough", is_flag=True, help="Read large databases to their end too.")
@opt.data_path
@opt.network
@click.pass_obj
def command(state: State, /, **options: Any) -> int:
    """Examine the installation, and say what to do about each finding.

    Exit code 1 when something will not work.
    """
    from zvt_crypto.doctor import FAIL, Scope, examine
    from zvt_crypto.domain import load_tables

    load_tables()
    settings = opt.settings_of(options)
    findings = []
    for finding in examine(settings, Scope(not options["offline"], options["thorough"])):
        findings.append(finding)
        if not state.as_json:
            _print(state, finding)
    is_well = all(finding.state != FAIL for finding in findings)
    if state.as_json:
        found = [{slot: getattr(f, slot) for slot in ("area", "state", "what", "todo")} for f in findings]
        state.write_json({"ok": is_well, "findings": found})
    return EXIT_OK if is_well else EXIT_FAILED


def _print(state: State, finding: Finding) -> None:
    from rich.text import Text

    line = Text.assemble(
        (f"{finding.state:<5}", _STYLES[finding.state]), f"{finding.area:<15}", finding.what, overflow="fold"
    )
    state.stdout.print(line)
    if finding.todo:
        state.stdout.print(Text(f"{'':20}-> {finding.todo}", overflow="fold"))
