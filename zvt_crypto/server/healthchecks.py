"""Whether the server can do its work, and whether what it serves is fresh. Nothing here asks an exchange."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import ZvtCryptoError
from zvt_crypto.core.levels import MINUTE_MS, iso
from zvt_crypto.core.schedules import ScheduleEntry
from zvt_crypto.server import memory
from zvt_crypto.server.clock import now_ms
from zvt_crypto.server.liveservice import TopicReport
from zvt_crypto.server.providerfacts import measured, worst_state
from zvt_crypto.server.tablefacts import TableFacts, TableReader

Verdict = Literal["pass", "warn", "fail", "unknown", "not_used"]

#: How late scheduled data may be beyond two of its intervals.
_GRACE_MS: Final = 10 * MINUTE_MS
#: Share of the memory that the process may take.
_MUCH_MEMORY: Final = 0.8
_MOST_NAMED: Final = 5


class Check(NamedTuple):
    """One check.

    Attributes:
        verdict: What it found; ``unknown`` where there was nothing to look at.
        reason: Why, where it did not pass.
    """

    verdict: Verdict
    reason: str | None = None


def run_checks(settings: Settings, tables: TableReader, streams: Sequence[TopicReport]) -> dict[str, Check]:
    """All checks, under the names of ``crypto-api.md``.

    Args:
        settings: Paths and schedule.
        tables: Tells what the tables hold.
        streams: What is subscribed to at exchanges.
    """
    try:
        found = tables.look(settings)
        database = _database(found)
    except ZvtCryptoError as error:
        found, database = [], Check("fail", error.message)
    return {
        "database_connectivity": database,
        "exchange_connectivity": _exchanges(settings),
        "websocket_streams": _streams(streams),
        "data_freshness": _freshness(settings.schedule, found),
        "memory_usage": _memory(),
    }


def overall(checks: dict[str, Check]) -> Literal["healthy", "degraded", "unhealthy"]:
    """``unhealthy`` where nothing recorded can be read, ``degraded`` where any other check does not pass."""
    if checks["database_connectivity"].verdict == "fail":
        return "unhealthy"
    is_impaired = any(check.verdict in ("warn", "fail") for check in checks.values())
    return "degraded" if is_impaired else "healthy"


def _database(found: Sequence[TableFacts]) -> Check:
    broken = [table for table in found if table.error is not None]
    if not broken:
        return Check("pass")
    names = [f"{table.provider} {table.spec.name}" for table in broken[:_MOST_NAMED]]
    reason = f"{len(broken)} of {len(found)} tables cannot be read: {', '.join(names)}"
    return Check("fail" if len(broken) == len(found) else "warn", reason)


def _exchanges(settings: Settings) -> Check:
    states = {provider: worst_state(apis) for provider, apis in measured(settings).items()}
    asked = {provider: state for provider, state in states.items() if state != "unknown"}
    if not asked:
        return Check("unknown", "no recorder asked an exchange in the last hour")
    impaired = [f"{provider} is {state}" for provider, state in asked.items() if state != "operational"]
    if not impaired:
        return Check("pass")
    is_all_down = all(state == "down" for state in asked.values())
    return Check("fail" if is_all_down else "warn", "; ".join(impaired))


def _streams(streams: Sequence[TopicReport]) -> Check:
    """Streams that have only just been asked for are not late yet."""
    if not streams:
        return Check("not_used")
    broken = [one for one in streams if one.state not in ("live", "waiting", "syncing")]
    if not broken:
        return Check("pass")
    names = [f"{one.provider} {one.stream} of {one.symbol} is {one.state}" for one in broken[:_MOST_NAMED]]
    reason = f"{len(broken)} of {len(streams)} streams are interrupted: {', '.join(names)}"
    return Check("fail" if len(broken) == len(streams) else "warn", reason)


def _freshness(schedule: Sequence[ScheduleEntry], found: Sequence[TableFacts]) -> Check:
    """Scheduled candles must be as new as their schedule makes them; what nobody scheduled cannot be late."""
    wanted = [(entry, level) for entry in schedule for level in entry.candle_levels if entry.kind == "record"]
    if not wanted:
        return Check("unknown", "no candles are scheduled")
    late = [words for entry, level in wanted if (words := _lateness(entry, level, found)) is not None]
    return Check("warn", "; ".join(late[:_MOST_NAMED])) if late else Check("pass")


def _lateness(entry: ScheduleEntry, level: str, found: Sequence[TableFacts]) -> str | None:
    of_entry = [table for table in found if (table.provider, table.spec.level) == (entry.provider, level)]
    newest = max((table.newest for table in of_entry if table.newest is not None), default=None)
    what = f"{entry.name}: {entry.provider} {level}"
    if newest is None:
        return f"{what} has no rows"
    # The newest candle is over one step after it opened.
    due = newest + 2 * of_entry[0].spec.step + 2 * entry.cadence.step + _GRACE_MS
    return None if now_ms() <= due else f"{what} ends {iso(newest)}"


def _memory() -> Check:
    used, limit = memory.resident_bytes(), memory.limit_bytes()
    if used is None or limit is None:
        return Check("unknown", "this system does not tell")
    if used <= _MUCH_MEMORY * limit:
        return Check("pass")
    return Check("warn", f"{used >> 20:,} MB of {limit >> 20:,} MB are used")
