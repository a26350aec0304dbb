"""What ``stream`` does: from options to a live run, how it looks meanwhile, and what it leaves."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click
import orjson
from rich.live import Live
from rich.table import Table

from zvt_crypto.cli.naming import label
from zvt_crypto.cli.recording import Wanted, selections
from zvt_crypto.cli.state import EXIT_INTERRUPTED, State
from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import ZvtCryptoError
from zvt_crypto.exchanges.base import venues
from zvt_crypto.recorders.report import Report
from zvt_crypto.stream.feed import not_streamed
from zvt_crypto.stream.run import BOOK_EVERY, LiveRun
from zvt_crypto.stream.status import ChannelStatus, Status

if TYPE_CHECKING:
    from rich.console import Console

#: With more channels than that, those that are not live are shown first.
_ROWS_SHOWN = 40


def stream(
    state: State,
    settings: Settings,
    options: Mapping[str, Any],
    *,
    book_every: float | None,
    seconds: float | None,
) -> int:
    """Keep live what is wanted, show how it stands, and answer the exit code.

    Args:
        state: How to talk.
        settings: Limits and paths.
        options: Those that ``Wanted`` has.
        book_every: Seconds between two snapshots of an order book.
        seconds: When to end; None is never.

    Raises:
        ZvtCryptoError: Something is not allowed, or not streamed.
    """
    wanted = Wanted(**options)
    provider = venues().get(wanted.provider)
    if provider is not None and provider.streams is None:
        raise not_streamed(provider.name)
    chosen = selections(wanted, time.time_ns() // 1_000_000)
    if wanted.days is None and wanted.start is None:
        chosen = [replace(selection, start=None) for selection in chosen]
    with _shown(state) as on_status:
        run = LiveRun(
            settings, chosen, book_every=book_every or BOOK_EVERY, seconds=seconds, on_status=on_status
        )
        interrupted, fatal = _run(run)
    _tell_end(state, run.report, fatal)
    if interrupted:
        return EXIT_INTERRUPTED
    return run.report.exit_code if fatal is None else fatal.exit_code


def _run(run: LiveRun) -> tuple[bool, ZvtCryptoError | None]:
    """Whether Ctrl-C ended it, and the error that did."""
    try:
        run.start()
    except KeyboardInterrupt:
        return True, None
    except ZvtCryptoError as error:
        return False, error
    return False, None


def _tell_end(state: State, report: Report, fatal: ZvtCryptoError | None) -> None:
    told = [error for outcome in report.failed for error in outcome.errors]
    if fatal is not None and fatal not in told:
        told.insert(0, fatal)
    for error in {error.one_line(): error for error in told}.values():
        state.tell(error)
    if state.as_json and fatal is not None:
        click.echo(orjson.dumps({"error": fatal.as_dict()}))
    if not state.as_json:
        state.stderr.print(
            f"{report.rows:,} rows in {report.seconds:.0f} s; the same command goes on from there"
        )


@contextlib.contextmanager
def _shown(state: State) -> Iterator[Callable[[Status], None]]:
    """What tells of a status: a line of JSON, a table that is drawn anew, or a line of text."""
    if state.as_json:
        yield lambda status: click.echo(orjson.dumps(asdict(status)))
    elif not state.show_progress:
        yield lambda status: None
    elif state.stderr.is_terminal:
        rates = _Rates()
        with Live(console=state.stderr, auto_refresh=False, transient=True) as live:
            yield lambda status: live.update(_table(status, rates.of(status)), refresh=True)
    else:
        yield _Lines(state.stderr).tell


class _Rates:
    """Messages a second of each channel, from one status to the next."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, str], int] = {}
        self._at = time.monotonic()

    def of(self, status: Status) -> dict[tuple[str, str], float]:
        now = time.monotonic()
        seconds = max(now - self._at, 0.001)
        counts = {(one.table, one.entity_id): one.messages for one in status.channels}
        rates = {key: (count - self._before.get(key, 0)) / seconds for key, count in counts.items()}
        self._before, self._at = counts, now
        return rates


class _Lines:
    """A line for each channel whose state has changed, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._states: dict[tuple[str, str], str] = {}

    def tell(self, status: Status) -> None:
        """Tell of what has changed."""
        for one in status.channels:
            key = (one.table, one.entity_id)
            if self._states.get(key) != one.state:
                self._states[key] = one.state
                self._console.print(f"{label(one)}: {one.state}", markup=False)


def _table(status: Status, rates: Mapping[tuple[str, str], float]) -> Table:
    """A row per channel: state, rate, lag, age of the last message, resyncs, gaps."""
    shown = Table(box=None, pad_edge=False, title=_title(status), title_justify="left")
    shown.add_column("channel")
    shown.add_column("state")
    for name in ("messages/s", "rows", "lag", "last message", "resyncs", "gaps"):
        shown.add_column(name, justify="right")
    channels = sorted(status.channels, key=lambda one: one.state == "live")
    for one in channels[:_ROWS_SHOWN]:
        shown.add_row(
            label(one),
            f"[green]{one.state}[/green]" if one.state == "live" else f"[yellow]{one.state}[/yellow]",
            f"{rates.get((one.table, one.entity_id), 0.0):,.1f}",
            f"{one.rows:,}",
            "" if one.lag_ms is None else f"{one.lag_ms:,.0f} ms",
            _age(one, status.written),
            str(one.resyncs + one.losses),
            str(one.gaps),
        )
    if len(channels) > _ROWS_SHOWN:
        shown.caption = f"and {len(channels) - _ROWS_SHOWN} more channels"
    return shown


def _title(status: Status) -> str:
    waiting = sum(table.waiting_rows for table in status.tables)
    spilled = sum(table.spill_files for table in status.tables)
    parts = [
        f"{status.connections} connections",
        f"{status.reconnects} reconnects",
        f"{sum(table.stored_rows for table in status.tables):,} rows stored",
        f"{waiting:,} waiting",
    ]
    if spilled:
        parts.append(f"{spilled} files wait on disk")
    if status.unreadable:
        parts.append(f"{status.unreadable} messages cannot be read")
    return ", ".join(parts)


def _age(one: ChannelStatus, now: float) -> str:
    return "" if one.last_message is None else f"{max(now - one.last_message, 0):,.1f} s ago"
