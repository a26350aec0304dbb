"""What ``schedule`` does: entries become work, runs become lines, signals become an end."""

from __future__ import annotations

import contextlib
import queue
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any, Final

import click
import orjson

from zvt_crypto.cli.options import market_of
from zvt_crypto.cli.recording import Wanted, selections
from zvt_crypto.cli.selecting import Asked, chosen_series
from zvt_crypto.cli.state import EXIT_INTERRUPTED, State
from zvt_crypto.core.config import Settings, config_file
from zvt_crypto.core.errors import (
    EXIT_MISUSE,
    EXIT_OK,
    EXIT_PARTIAL,
    ConfigError,
    ZvtCryptoError,
    unknown_value,
)
from zvt_crypto.core.levels import LEVEL_MS, iso
from zvt_crypto.core.schedules import ScheduleEntry
from zvt_crypto.domain import load_tables
from zvt_crypto.exchanges.base import venue_class
from zvt_crypto.scheduling.history import INTERRUPTED, RUNNING, History, RunRecord
from zvt_crypto.scheduling.lockfile import ProcessLock
from zvt_crypto.scheduling.places import history_path, lock_path
from zvt_crypto.scheduling.scheduler import Planned, Scheduler
from zvt_crypto.scheduling.works import Recording, Repairing, Work, now_ms

#: How often the clock is looked at although nothing is due, in seconds.
_HEARTBEAT_SECONDS: Final = 20.0
#: Exit codes, the best first; all others are worse.
_RANKS: Final = (EXIT_OK, EXIT_PARTIAL, EXIT_MISUSE)
#: Put where signals wait, once every entry has run.
_ALL_DONE: Final = 0


def run(state: State, settings: Settings, *, once: bool) -> int:
    """Run the schedule until it is told to end, and answer the exit code."""
    planned = _planned(settings)
    ended: list[RunRecord] = []
    with _signals() as arrived:

        def on_end(record: RunRecord) -> None:
            ended.append(record)
            _tell_end(state, record)
            if once and len(ended) == len(planned):
                arrived.put(_ALL_DONE)

        with Scheduler(settings, planned, on_end) as scheduler:
            _tell_start(state, scheduler, once=once)
            scheduler.start(once=once)
            number = _wait(arrived, scheduler.wake)
    if number == signal.SIGINT:
        return EXIT_INTERRUPTED
    return _worst(ended, len(planned)) if once else EXIT_OK


def show_entries(state: State, settings: Settings) -> None:
    """Show the entries, when each is due next, and what became of its last run."""
    planned = _planned(settings)
    now = now_ms()
    shown = []
    with _history(settings) as history:
        for entry in (item.entry for item in planned):
            newest = history.newest(1, entry.name) if history else []
            last = _settled(settings, newest)
            shown.append((entry, entry.cadence.next(now), last[0] if last else None))
    if state.as_json:
        state.write_json([_entry_object(*row) for row in shown])
        return
    _print_table(
        state,
        ("entry", "provider", "records", "every", "next", "last run"),
        [
            (
                entry.name,
                entry.provider,
                _contents(entry),
                entry.when,
                iso(due),
                "" if last is None else f"{last.state} {iso(_seconds(last.started))}",
            )
            for entry, due, last in shown
        ],
    )


def show_history(state: State, settings: Settings, *, entry: str | None, limit: int) -> None:
    """Show what became of past runs, the newest first."""
    with _history(settings) as history:
        records = history.newest(limit, entry) if history else []
    if entry is not None and not records and entry not in (known := [e.name for e in settings.schedule]):
        raise unknown_value("schedule entry", entry, known)
    records = _settled(settings, records)
    if state.as_json:
        state.write_json([_run_object(record) for record in records])
        return
    if not records:
        state.stderr.print("nothing has run yet", markup=False)
        return
    _print_table(
        state,
        ("entry", "started", "seconds", "rows", "requests", "state", "error"),
        [
            (
                record.entry,
                iso(_seconds(record.started)),
                "" if record.finished is None else f"{(record.finished - record.started) / 1000:.1f}",
                f"{record.rows:,}",
                f"{record.requests:,}",
                record.state,
                record.errors[0].line if record.errors else "",
            )
            for record in records
        ],
    )


def _recording(settings: Settings, entry: ScheduleEntry) -> Work:
    wanted = Wanted(
        provider=entry.provider,
        codes=entry.codes,
        all_markets=entry.all_markets,
        perps=entry.perps,
        levels=entry.candle_levels,
        trades=entry.trades,
        funding=entry.funding,
        orderbooks=entry.orderbooks,
        depth=entry.depth,
        exchanges=entry.exchanges,
        days=entry.days_back,
        entities=entry.entities,
    )
    return Recording(settings, lambda now: selections(wanted, now))


def _repairing(settings: Settings, entry: ScheduleEntry) -> Work:
    venue_class(entry.provider)
    asked = Asked(entry.provider, entry.codes, entry.levels, entry.perps, entry.funding)
    for code in entry.codes:
        market_of(code)
    tables = frozenset(
        (entry.provider, spec.name)
        for spec in load_tables().values()
        if spec.feed in ("candles", "funding") and spec.level in (*(entry.levels or LEVEL_MS), None)
    )
    return Repairing(settings, tables, lambda: chosen_series(settings, asked), entry.days_back)


#: What entries of each kind do.
_WORKS: Final[Mapping[str, Callable[[Settings, ScheduleEntry], Work]]] = {
    "record": _recording,
    "repair": _repairing,
}


def _planned(settings: Settings) -> list[Planned]:
    """The entries with what they do.

    Raises:
        ConfigError: There are none, or one names a provider, level or market that there is not.
    """
    if not settings.schedule:
        raise ConfigError(
            "nothing is scheduled",
            suggestions=(f"add [[schedule]] entries to {config_file()}; docs/schedule.md has examples",),
            setting="schedule",
        )
    return [Planned(entry, _work(settings, entry)) for entry in settings.schedule]


def _work(settings: Settings, entry: ScheduleEntry) -> Work:
    try:
        return _WORKS[entry.kind](settings, entry)
    except ZvtCryptoError as error:
        raise ConfigError(
            f"schedule entry {entry.name!r}: {error.message}",
            suggestions=(*error.suggestions, f"correct it in {config_file()}"),
            setting="schedule",
            entry=entry.name,
        ) from error


Arrived = queue.SimpleQueue[int]


@contextlib.contextmanager
def _signals() -> Iterator[Arrived]:
    """A queue of the signals that ask for an end; a handler may write to it."""
    arrived: Arrived = queue.SimpleQueue()

    def note(number: int, frame: FrameType | None) -> None:
        arrived.put(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(arrived: Arrived, on_heartbeat: Callable[[], None]) -> int:
    while True:
        try:
            return arrived.get(timeout=_HEARTBEAT_SECONDS)
        except queue.Empty:
            on_heartbeat()


def _worst(ended: Sequence[RunRecord], expected: int) -> int:
    codes = [EXIT_INTERRUPTED if record.exit_code is None else record.exit_code for record in ended]
    codes += [EXIT_INTERRUPTED] * (expected - len(ended))
    return max(codes, key=lambda code: _RANKS.index(code) if code in _RANKS else len(_RANKS) + code)


@contextlib.contextmanager
def _history(settings: Settings) -> Iterator[History | None]:
    """The history, None where nothing has run yet."""
    path = history_path(settings)
    if not path.exists():
        yield None
        return
    with contextlib.closing(History(path, busy_timeout=settings.busy_timeout_seconds)) as history:
        yield history


def _settled(settings: Settings, records: Sequence[RunRecord]) -> list[RunRecord]:
    """Records as they are now: without the process that began it, no run is under way."""
    if any(record.state == RUNNING for record in records) and not ProcessLock(lock_path(settings)).is_held():
        return [replace(r, state=INTERRUPTED) if r.state == RUNNING else r for r in records]
    return list(records)


def _tell_start(state: State, scheduler: Scheduler, *, once: bool) -> None:
    for record in scheduler.interrupted:
        state.stderr.print(
            f"{record.entry}: the run of {iso(_seconds(record.started))} was interrupted; "
            "what it stored stays, and the next run continues",
            markup=False,
        )
    count = len(scheduler.planned)
    entries = f"{count} {'entry' if count == 1 else 'entries'}"
    state.stderr.print(f"{entries} of {config_file()}{'' if once else '; Ctrl-C ends'}", markup=False)


def _tell_end(state: State, record: RunRecord) -> None:
    if state.as_json:
        click.echo(orjson.dumps(_run_object(record)))
        return
    seconds = ((record.finished or record.started) - record.started) / 1000
    click.echo(
        f"{iso(_seconds(record.started))} {record.entry}: {record.state}, {record.rows:,} rows "
        f"in {record.requests:,} requests and {seconds:.1f} s"
    )
    for error in record.errors:
        click.echo(f"error: {record.entry}: {error.line}  [{error.code}]", err=True)


def _run_object(record: RunRecord) -> dict[str, Any]:
    return {
        "entry": record.entry,
        "state": record.state,
        "started": iso(record.started),
        "finished": None if record.finished is None else iso(record.finished),
        "rows": record.rows,
        "requests": record.requests,
        "exit_code": record.exit_code,
        "errors": [error._asdict() for error in record.errors],
        "missing": list(record.missing),
    }


def _entry_object(entry: ScheduleEntry, due: int, last: RunRecord | None) -> dict[str, Any]:
    return {
        "name": entry.name,
        "provider": entry.provider,
        "records": _contents(entry),
        "every": entry.when,
        "next": iso(due),
        "last": None if last is None else _run_object(last),
    }


def _contents(entry: ScheduleEntry) -> str:
    """What an entry records, in a few words."""
    if entry.entities:
        return "instruments"
    feeds = [name for name in ("trades", "funding", "orderbooks") if getattr(entry, name)]
    markets = ",".join(entry.codes) or "all markets"
    words = ",".join((*entry.candle_levels, *feeds))
    return f"{'repair ' if entry.repair else ''}{words or 'all'} of {markets}"


def _print_table(state: State, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    for name in names:
        shown.add_column(name, justify="right" if name in ("seconds", "rows", "requests") else "left")
    for row in rows:
        shown.add_row(*row)
    state.print_table(shown)


def _seconds(ts: int) -> int:
    """A time without its milliseconds, for people."""
    return ts - ts % 1000
