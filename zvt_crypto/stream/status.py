"""How live runs stand: told to whoever shows it, and left in a small file for other processes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from zvt_crypto.core.config import Settings

if TYPE_CHECKING:
    from zvt_crypto.stream.booktable import BookTable
    from zvt_crypto.stream.feed import LiveFeed
    from zvt_crypto.stream.recording import LiveTable

logger = logging.getLogger(__name__)

#: A file that was not written for so many seconds is of a process that is gone.
STALE_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """One market of one table.

    Attributes:
        provider: The data source.
        table: Name of the table.
        entity_id: The market.
        channel: What is subscribed.
        state: ``live``, ``lost``, ``waiting`` or ``refused``; of an order book ``syncing`` or ``stale`` too.
        messages: Messages received.
        rows: Rows stored, or put up to be.
        last_message: Epoch seconds of the newest message; None before the first.
        lag_ms: How old the newest row was when it came; None where unknown.
        losses: How often the stream was lost.
        resyncs: How often the channel was subscribed, or the book begun, anew.
        gaps: Stretches that the venue could not give any more.
    """

    provider: str
    table: str
    entity_id: str
    channel: str
    state: str
    messages: int
    rows: int
    last_message: float | None
    lag_ms: float | None
    losses: int
    resyncs: int
    gaps: int


@dataclass(frozen=True, slots=True)
class TableStatus:
    """What waits on the way into one table; see ``pagequeue.Backlog``."""

    provider: str
    table: str
    waiting_rows: int
    spilled_rows: int
    spill_files: int
    dropped_rows: int
    stored_rows: int
    rejected_rows: int
    corrected_candles: int
    mending: int
    stalled_since: float | None


@dataclass(frozen=True, slots=True)
class Status:
    """A live run at one moment; times are epoch seconds."""

    pid: int
    began: float
    written: float
    connections: int
    reconnects: int
    unreadable: int
    channels: list[ChannelStatus] = field(default_factory=list)
    tables: list[TableStatus] = field(default_factory=list)


def status_of(feeds: Sequence[LiveFeed], tables: Sequence[LiveTable | BookTable], began: float) -> Status:
    """How a run stands."""
    return Status(
        pid=os.getpid(),
        began=began,
        written=time.time(),
        connections=sum(feed.connections for feed in feeds),
        reconnects=sum(feed.reconnects for feed in feeds),
        unreadable=sum(feed.unreadable for feed in feeds),
        channels=[channel for table in tables for channel in _channels(table)],
        tables=[_table(table) for table in tables],
    )


def publish(settings: Settings, status: Status | None) -> None:
    """Leave a status for other processes, None that there is none any more."""
    path = _folder(settings) / f"{os.getpid()}.json"
    try:
        if status is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp")
        draft.write_bytes(orjson.dumps(asdict(status)))
        draft.replace(path)
    except OSError as error:
        logger.debug("%s cannot be written: %s", path, error)


def published(settings: Settings) -> list[Status]:
    """The statuses of the live runs of this machine that use the same data folder."""
    found = []
    for path in sorted(_folder(settings).glob("*.json")):
        try:
            known: dict[str, Any] = orjson.loads(path.read_bytes())
            channels = [ChannelStatus(**channel) for channel in known.pop("channels")]
            tables = [TableStatus(**table) for table in known.pop("tables")]
            status = Status(**known, channels=channels, tables=tables)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            logger.debug("%s cannot be read: %s", path, error)
            continue
        if time.time() - status.written < STALE_SECONDS:
            found.append(status)
    return found


def _folder(settings: Settings) -> Path:
    return settings.data_path.parent / "state" / "streams"


def _channels(table: LiveTable | BookTable) -> list[ChannelStatus]:
    books = getattr(table, "keeper", None)
    found = []
    for series in table.series:
        health = table.live_feed.health_of(series.topic)
        book = books.books.get(series.topic) if books is not None else None
        state = "refused" if series.outcome.errors else "waiting"
        if health is not None:
            is_live = health.state.value == "live"
            state = book.state.value if book is not None and is_live else health.state.value
        found.append(
            ChannelStatus(
                provider=table.live_feed.venue.name,
                table=table.spec.name,
                entity_id=series.entity.entity_id,
                channel=str(series.topic),
                state=state,
                messages=health.messages if health else 0,
                rows=series.outcome.rows,
                last_message=health.last_message if health else None,
                lag_ms=health.lag_ms if health else None,
                losses=health.losses if health else 0,
                resyncs=(health.renewals if health else 0) + (book.resyncs.total() if book else 0),
                gaps=series.gaps,
            )
        )
    return found


def _table(table: LiveTable | BookTable) -> TableStatus:
    backlog = table.queue.backlog
    return TableStatus(
        provider=table.live_feed.venue.name,
        table=table.spec.name,
        waiting_rows=backlog.rows,
        spilled_rows=backlog.spilled_rows,
        spill_files=backlog.files,
        dropped_rows=backlog.dropped_rows,
        stored_rows=backlog.stored_rows,
        rejected_rows=getattr(table, "rejected", 0),
        corrected_candles=getattr(getattr(table, "candles", None), "corrected", 0),
        mending=table.mender.waiting if hasattr(table, "mender") else 0,
        stalled_since=backlog.stalled_since,
    )
