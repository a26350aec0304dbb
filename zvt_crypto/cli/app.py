"""The command line as a whole: finding the verbs, and telling a person or a program what went wrong."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from typing import Final, NoReturn

import click

import zvt_crypto
from zvt_crypto.cli.state import EXIT_INTERRUPTED, State, common_options
from zvt_crypto.core.errors import (
    EXIT_FAILED,
    EXIT_MISUSE,
    EXIT_OK,
    InvalidArgument,
    ZvtCryptoError,
    unknown_value,
)

_VERBS: Final = "zvt_crypto.cli.verbs"


class _Verbs(click.Group):
    """The verbs, each loaded when it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_modules())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = _modules()
        if cmd_name not in known:
            raise unknown_value("command", cmd_name, known)
        command: click.Command = importlib.import_module(known[cmd_name]).command
        return command


def _modules() -> dict[str, str]:
    """Module of each verb; ``import_`` has an underscore, as ``import`` is a word of Python."""
    package = importlib.import_module(_VERBS)
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return {name.rstrip("_"): f"{_VERBS}.{name}" for name in names}


@click.group(
    cls=_Verbs,
    params=common_options(),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 misuse, 3 done in part, 130 interrupted.",
)
@click.version_option(zvt_crypto.__version__, prog_name="zvt-crypto")
def cli() -> None:
    """Record crypto markets into tables, and query them."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        arguments: What follows the program's name; by default that of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # click reads its options too late to say how a wrong option is to be told.
    state = State(as_json="--json" in given)
    sys.exit(_run(given, state))


def _run(arguments: list[str], state: State) -> int:
    try:
        result = cli.main(arguments, prog_name="zvt-crypto", obj=state, standalone_mode=False)
    except click.ClickException as error:
        return _show_usage_error(error, state)
    except click.Abort:
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except ZvtCryptoError as error:
        state.tell(error, is_answer=True)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the one place where what nobody foresaw is told
        return _show_unexpected(error, state)
    return result if isinstance(result, int) else EXIT_OK


def _show_usage_error(error: click.ClickException, state: State) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return EXIT_MISUSE
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"see `{context.command_path if context else 'zvt-crypto'} --help`"
    state.tell(InvalidArgument(error.format_message(), suggestions=(hint,)), is_answer=True)
    return EXIT_MISUSE


def _show_unexpected(error: Exception, state: State) -> int:
    text = f"unexpected {type(error).__name__}: {error}".strip()
    hint = "run the same command with -v for the traceback, and report it"
    state.tell(ZvtCryptoError(text, suggestions=(hint,)), is_answer=True)
    if state.verbosity:
        click.echo("".join(traceback.format_exception(error)), err=True)
    return EXIT_FAILED
