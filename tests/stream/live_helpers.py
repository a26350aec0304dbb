"""What tests of live tables share: quick timing, a recorder in this process, and what the market says."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import merge_spans
from zvt_crypto.core.tables import TableSpec, tables
from zvt_crypto.domain import load_tables
from zvt_crypto.exchanges.base import Instrument, Venue, open_venue
from zvt_crypto.exchanges.streaming import BookUpdate, Candles, Funding, Streams, Topic, Trades
from zvt_crypto.exchanges.throttle import Priority
from zvt_crypto.recorders.feeds import feed_of
from zvt_crypto.recorders.report import Outcome
from zvt_crypto.recorders.run import Run, Selection
from zvt_crypto.sandbox import Sandbox
from zvt_crypto.sandbox.events import TradeSpan
from zvt_crypto.store import coverage
from zvt_crypto.store.engine import Store
from zvt_crypto.store.reader import Query, read
from zvt_crypto.store.writer import Entity
from zvt_crypto.stream.booktable import BookTable
from zvt_crypto.stream.candles import CandleTable, ConfirmingFeed
from zvt_crypto.stream.feed import LiveFeed, Timing
from zvt_crypto.stream.funding import FundingTable
from zvt_crypto.stream.recording import LiveTable, TradeTable

load_tables()
TRADES = tables["cryptotrade"]
QUICK = Timing(
    first_wait=0.02,
    longest_wait=0.2,
    held=5.0,
    confirm=1.5,
    settle=0.2,
    clear=0.3,
    dead=20.0,
    check=0.05,
)


def settings_of(box: Sandbox | None, folder: Path, **given: Any) -> Settings:
    usual = {
        "gateway": box.url if box else "http://127.0.0.1:9",
        "rate_limit": False,
        "timeout_seconds": 5,
        "max_attempts": 2,
        "retry_wait_seconds": 0.02,
        "busy_timeout_seconds": 0.2,
        "archives": False,
    }
    return Settings(data_path=folder / "data", **{**usual, **given})


async def until(holds: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What holds, once it does."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "it never came to hold"
        await asyncio.sleep(0.01)
    return found


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[Trades | Candles | BookUpdate | Funding] = []
        self.said: list[tuple[Any, ...]] = []

    def received(self, message: Trades | Candles | BookUpdate | Funding) -> None:
        self.messages.append(message)

    def live(self, topic: Topic, since: int) -> None:
        self.said.append(("live", topic, since))

    def lost(self, topic: Topic, reason: str) -> None:
        self.said.append(("lost", topic, reason))

    def refused(self, topic: Topic, error: Exception) -> None:
        self.said.append(("refused", topic, error))

    def words(self, topic: Topic | None = None) -> list[str]:
        return [word for word, of, _ in self.said if topic is None or of == topic]

    def rows(self, topic: Topic | None = None) -> list[Any]:
        return [row for m in self.messages if topic is None or m.topic == topic for row in m.rows]


class Meeting:
    """Where so many coroutines wait for each other, again and again."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._arrived = 0

    async def wait(self) -> bool:
        """Return once all have arrived; to the last of them, True."""
        self._arrived += 1
        all_here = -(-self._arrived // self._size) * self._size
        if self._arrived == all_here:
            return True
        await until(lambda: self._arrived >= all_here, 60)
        return False


class JumpClock:
    """An exchange's clock that runs as the real one does, and forward when a test says so."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._began = time.monotonic()

    def __call__(self) -> int:
        return self._start + int((time.monotonic() - self._began) * 1000)

    def forward_to(self, ts: int) -> None:
        self._start += max(ts - self(), 0)


class Live:
    """Tables of one provider kept live in this process; made by ``live``."""

    def __init__(self, settings: Settings, venue: Venue, history: Venue, feed: LiveFeed) -> None:
        self.settings, self.venue, self.history, self.feed = settings, venue, history, feed
        self.store = Store(settings)

    async def rows_of(self, spec: TableSpec, codes: tuple[str, ...]) -> list[dict[str, Any]]:
        """Rows of the entity table, which is recorded first."""
        return await Run(self.settings, Selection(self.venue.name, (spec,), codes=codes)).markets(
            self.venue, spec
        )

    async def instrument(self, code: str, spec: TableSpec = TRADES) -> Instrument:
        return self.venue.instrument((await self.rows_of(spec, (code,)))[0])

    def table(self, spec: TableSpec = TRADES, **options: Any) -> LiveTable:
        spills = self.settings.data_path.parent / "state" / "spill" / f"{self.venue.name}-{spec.name}"
        kind = {"candles": CandleTable, "trades": TradeTable, "funding": FundingTable}[spec.feed]
        rest = ConfirmingFeed(self.venue, spec) if spec.feed == "candles" else feed_of(self.venue, spec)
        history = feed_of(self.history, spec)
        if spec.feed != "candles":
            # The sandbox shows rows at once.
            rest.lag_ms = history.lag_ms = 200
        table = kind(self.feed, self.store, rest, spills, history=history, **options)
        table.flush_seconds = 0.1
        return table

    def books(self, spec: TableSpec, **options: Any) -> BookTable:
        spills = self.settings.data_path.parent / "state" / "spill" / "books"
        return BookTable(self.venue, self.feed, self.store, spec, spills, **options)

    async def add(self, table: LiveTable | BookTable, *codes: str, start: int | None = None) -> list[Outcome]:
        """Have a table keep markets."""
        outcomes = []
        for row in await self.rows_of(table.spec, codes):
            outcome = Outcome(table.spec.name, row["entity_id"])
            entity = Entity(row["entity_id"], row["code"], row["name"])
            more = () if isinstance(table, BookTable) else (start,)
            await table.add(self.venue.instrument(row), entity, outcome, *more)
            outcomes.append(outcome)
        return outcomes


@contextlib.asynccontextmanager
async def live(
    settings: Settings, provider: str = "binance", *, timing: Timing = QUICK
) -> AsyncIterator[Live]:
    """A provider's venue and streams, open."""
    async with (
        open_venue(provider, settings, priority=Priority.LIVE) as venue,
        open_venue(provider, settings) as history,
        LiveFeed(venue, settings, timing=timing) as feed,
    ):
        feed.streams = quickly(feed.streams)
        yield Live(settings, venue, history, feed)


def quickly(streams: Streams) -> Streams:
    """A venue's streams that allow as many frames and connections as a test takes."""
    limits = replace(streams.limits, frames_per_second=100.0, connections_per_minute=6_000)
    kind: type[Streams] = type(type(streams).__name__, (type(streams),), {"limits": limits})
    return kind()


@contextlib.asynccontextmanager
async def running(table: LiveTable | BookTable) -> AsyncIterator[asyncio.Task[None]]:
    """A table that runs, and has stored what came in the end."""
    task = asyncio.create_task(table.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


# What is in the tables, and what should be.


def key_of(store: Store, provider: str, spec: TableSpec, entity_id: str) -> int:
    with store.connect(provider, spec) as connection:
        key = connection.value("SELECT key FROM entities WHERE entity_id = ?", (entity_id,))
    return -1 if key is None else int(key)


def ledger(store: Store, provider: str, spec: TableSpec, entity_id: str) -> dict[str, list[tuple[int, int]]]:
    """What is answered, by source; and what is only streamed."""
    key = key_of(store, provider, spec, entity_id)
    with store.connect(provider, spec) as connection:
        found = coverage.answered_by(connection, key)
        streamed = coverage.covered(connection, key, coverage.STREAMED)
    return {**found, **({"(streamed)": streamed} if streamed else {})}


def answered(store: Store, provider: str, spec: TableSpec, entity_id: str) -> list[tuple[int, int]]:
    """What is answered, whatever the source."""
    found = ledger(store, provider, spec, entity_id)
    found.pop("(streamed)", None)
    return merge_spans(span for spans in found.values() for span in spans)


def stored(store: Store, provider: str, spec: TableSpec, entity_id: str) -> pa.Table:
    """Rows with their times in ms as ``ts``."""
    rows = read(store, Query(spec, provider, entity_ids=(entity_id,)))
    columns = [rows["timestamp"].cast(pa.int64()), *(rows[c.name] for c in spec.columns)]
    return pa.table(columns, names=["ts", *(c.name for c in spec.columns)])


def trades_of(rows: pa.Table, spans: list[tuple[int, int]]) -> list[tuple[Any, ...]]:
    """Trades whose time is in spans."""
    names = ("ts", "trade_id", "price", "volume", "side")
    found = zip(*(rows[name].to_pylist() for name in names), strict=True)
    return sorted(row for row in found if any(start <= row[0] < end for start, end in spans))


def market_trades(box: Sandbox, symbol: str, spans: list[tuple[int, int]]) -> list[tuple[Any, ...]]:
    """As ``trades_of``, from the market itself."""
    found = []
    for start, end in spans:
        rows = box.market.trades(TradeSpan(symbol, start, end))
        columns = (rows.ts, rows.id.astype(str), rows.price, rows.volume, rows.is_buy)
        found += [
            (ts, number, price, volume, "buy" if is_buy else "sell")
            for ts, number, price, volume, is_buy in zip(*(c.tolist() for c in columns), strict=True)
        ]
    return sorted(found)


def check_trades(
    box: Sandbox, store: Store, provider: str, entity_id: str, symbol: str
) -> list[tuple[int, int]]:
    """All that the ledger has is in the table as the market has it; what the ledger has."""
    spans = answered(store, provider, TRADES, entity_id)
    assert spans, "nothing is in the ledger"
    found = trades_of(stored(store, provider, TRADES, entity_id), spans)
    wanted = market_trades(box, symbol, spans)
    lost, made_up = (sorted(set(a) - set(b)) for a, b in ((wanted, found), (found, wanted)))
    assert not lost and not made_up, (lost[:5], made_up[:5], ledger(store, provider, TRADES, entity_id))
    assert found == wanted
    return spans


# Another process that keeps a table to itself.

_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
print("free", flush=True)
"""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """A database that another process writes to all the time."""
    process = subprocess.Popen(
        [sys.executable, "-c", _LOCK, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "locked\n"
        yield
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "free\n"
    finally:
        process.kill()
        process.communicate()
