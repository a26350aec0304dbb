"""What all verbs share: the global options, the two streams, logging."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from zvt_crypto.core.errors import ZvtCryptoError

#: As shells have it for a program that Ctrl-C ended.
EXIT_INTERRUPTED: Final = 130

_LOG_LEVELS: Final = {0: logging.ERROR, 1: logging.INFO, 2: logging.DEBUG}
_WIDE: Final = 400


@dataclass
class State:
    """How a run of the command line talks.

    Attributes:
        as_json: Answers are JSON on stdout.
        show_progress: Whether progress is shown on stderr.
        verbosity: How many times ``-v`` was given.
    """

    as_json: bool = False
    show_progress: bool = True
    verbosity: int = 0

    @cached_property
    def stderr(self) -> Console:
        """Where people are talked to; progress and log lines share it, so that they do not mix."""
        from rich.console import Console

        return Console(stderr=True, soft_wrap=True, highlight=False)

    @cached_property
    def stdout(self) -> Console:
        """Where tables for people go; as wide as they need where it is no terminal."""
        from rich.console import Console

        console = Console(highlight=False, markup=False)
        return console if console.is_terminal else Console(highlight=False, markup=False, width=_WIDE)

    def print_table(self, table: Table) -> None:
        """A table on stdout, without the blanks at the ends of its lines where it is no terminal."""
        if self.stdout.is_terminal:
            self.stdout.print(table)
            return
        with self.stdout.capture() as captured:
            self.stdout.print(table)
        click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))

    def write_json(self, value: Any) -> None:
        """One JSON document on stdout; times are the caller's to format."""
        import orjson

        click.echo(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2))

    def tell(self, error: ZvtCryptoError, *, is_answer: bool = False) -> None:
        """One line about an error on stderr.

        Args:
            error: What went wrong.
            is_answer: Whether it is all that the command has to say; it is then an object on stdout with
                ``--json``.
        """
        if self.as_json and is_answer:
            self.write_json({"error": error.as_dict()})
        else:
            click.echo(f"error: {' '.join(error.one_line().split())}  [{error.code}]", err=True)

    def set_up_logging(self) -> None:
        """Errors by default, what happens with ``-v``, everything with ``-vv``; on stderr."""
        if not self.verbosity:
            logging.getLogger("zvt_crypto").setLevel(logging.ERROR)
            return
        from rich.logging import RichHandler

        handler = RichHandler(console=self.stderr, show_path=self.verbosity > 1, rich_tracebacks=False)
        logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", handlers=[handler])
        logging.getLogger("zvt_crypto").setLevel(_LOG_LEVELS[min(self.verbosity, 2)])


class Verb(click.Command):
    """A command that also takes the global options, wherever they stand on the line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["params"] = [*(kwargs.get("params") or ()), *common_options()]
        super().__init__(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Set up logging, then run."""
        ctx.find_object(State).set_up_logging()  # type: ignore[union-attr]
        return super().invoke(ctx)


def common_options() -> list[click.Parameter]:
    """``--json``, ``--no-progress`` and ``-v``."""
    return [
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_note(lambda state, value: setattr(state, "as_json", state.as_json or value)),
            help="Answer in JSON on stdout.",
        ),
        click.Option(
            ["--no-progress"],
            is_flag=True,
            expose_value=False,
            callback=_note(
                lambda state, value: setattr(state, "show_progress", state.show_progress and not value)
            ),
            help="Show no progress.",
        ),
        click.Option(
            ["-v", "--verbose"],
            count=True,
            expose_value=False,
            callback=_note(lambda state, value: setattr(state, "verbosity", state.verbosity + value)),
            help="Say more on stderr; -vv says all.",
        ),
    ]


def _note(change: Callable[[State, Any], None]) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        state = ctx.find_object(State)
        if state is not None:
            change(state, value)

    return callback
