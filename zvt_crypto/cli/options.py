"""Options that several verbs take, and what becomes of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from zvt_crypto.core.errors import InvalidArgument, SymbolMappingError
from zvt_crypto.core.levels import parse_end, parse_time
from zvt_crypto.core.symbols import Notation, parse_notation

if TYPE_CHECKING:
    from zvt_crypto.core.config import Settings

F = TypeVar("F", bound=Callable[..., Any])

_TIMERANGE: Final = re.compile(r"(\d{8}|\d{10}|\d{13})?-(\d{8}|\d{10}|\d{13})?")
_SECONDS_DIGITS: Final = 10

data_path = click.option("--data-path", help="Folder of the databases; zvt's data folder by default.")
codes = click.option(
    "--codes",
    multiple=True,
    metavar="CODE,...",
    help="Markets in any notation: btcusdt, BTC/USDT, btcusdt-perp, BTC/USDT:USDT.",
)
start = click.option("--start", help="First time, such as 2024-01-31 or 2024-01-31T12:00:00Z; UTC.")
end = click.option("--end", help="Last time, inclusive; UTC.")


def recorded_rows(function: F) -> F:
    """Add what names recorded rows: a table or a level, data source, markets and times."""
    for option in (
        end,
        start,
        codes,
        click.option(
            "--perps", is_flag=True, help="With --level: codes whose notation does not tell mean perpetuals."
        ),
        click.option("--level", help="Level of candles, instead of TABLE."),
        click.option("--provider", help="Data source; may be left out where only one is recorded."),
        click.argument("table", required=False),
    ):
        function = option(function)
    return function


def recorded_series(function: F) -> F:
    """Add what names recorded series: data source, markets, levels or feeds, and times."""
    for option in (
        end,
        start,
        click.option("--trades", is_flag=True, help="Trades, likewise."),
        click.option(
            "--funding", is_flag=True, help="Funding events; candles then only where --levels are given."
        ),
        click.option("--perps", is_flag=True, help="Only perpetuals."),
        click.option("--levels", multiple=True, metavar="LEVEL,...", help="Only candles of these levels."),
        codes,
        click.option("--provider", help="Only this data source."),
    ):
        function = option(function)
    return function


def network(function: F) -> F:
    """Add the options of verbs that talk to exchanges."""
    for option in (
        click.option("--max-attempts", type=int, help="How often a failed request is tried in all."),
        click.option("--timeout", "timeout_seconds", type=float, help="Seconds to wait for one answer."),
        click.option("--concurrency", type=int, help="Requests under way at once."),
        click.option("--no-rate-limit", is_flag=True, help="Ignore the venues' request budgets."),
        click.option("--gateway", help="http://host:port that receives every call to every exchange."),
    ):
        function = option(function)
    return function


def settings_of(options: dict[str, Any]) -> Settings:
    """The settings, with what the command line gives taken out of ``options`` and put above the rest.

    Raises:
        ConfigError: A value is not allowed.
    """
    from zvt_crypto.core.config import Settings, load_settings

    given = {name: options.pop(name) for name in list(options) if name in Settings.model_fields}
    if options.pop("no_rate_limit", False):
        given["rate_limit"] = False
    return load_settings(**given)


def listed(texts: Iterable[str]) -> list[str]:
    """The parts of comma-separated, repeated options, each once, in order."""
    parts = (part.strip() for text in texts for part in text.split(","))
    return list(dict.fromkeys(part for part in parts if part))


def market_of(text: str) -> Notation:
    """What a person's name of a market can mean.

    Raises:
        InvalidArgument: It is no name of a market.
    """
    try:
        return parse_notation(text)
    except SymbolMappingError as error:
        raise InvalidArgument(error.message, suggestions=error.suggestions, value=text) from error


def range_of(first: str | None, last: str | None) -> tuple[int | None, int | None]:
    """Half-open range, in epoch ms, of ``--start`` and ``--end``.

    Raises:
        InvalidArgument: One is no time, or they are the wrong way round.
    """
    lower = None if first is None else parse_time(first, name="--start")
    upper = None if last is None else parse_end(last, name="--end")
    if lower is not None and upper is not None and lower >= upper:
        raise InvalidArgument(f"--start {first} is after --end {last}", suggestions=("swap them",))
    return lower, upper


def timerange_of(text: str) -> tuple[int | None, int | None]:
    """Half-open range, in epoch ms, of freqtrade's ``--timerange``: ``20240101-20240201``, ``20240101-``.

    Raises:
        InvalidArgument: The text is none.
    """
    match = _TIMERANGE.fullmatch(text.strip())
    if match is None or text.strip() == "-":
        raise InvalidArgument(
            f"--timerange {text!r} is no range of time",
            suggestions=("write it as 20240101-20240201, 20240101- or -20240201; the end is exclusive",),
        )
    lower, upper = (_timerange_ms(part) for part in match.groups())
    if lower is not None and upper is not None and lower >= upper:
        raise InvalidArgument(f"--timerange {text} ends before it starts", suggestions=("swap its parts",))
    return lower, upper


def _timerange_ms(part: str | None) -> int | None:
    if part is None:
        return None
    seconds = len(part) == _SECONDS_DIGITS
    return parse_time(int(part) * 1000 if seconds else part, name="--timerange")
