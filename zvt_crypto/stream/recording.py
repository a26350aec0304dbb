"""Live topics of one venue into its tables: one recorder per table."""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import ZvtCryptoError
from zvt_crypto.core.levels import DAY_MS, subtract_spans
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.streaming import BookUpdate, Candles, Funding, Topic, Trades
from zvt_crypto.recorders.backfill import TableThread
from zvt_crypto.recorders.feeds import Feed
from zvt_crypto.recorders.report import Outcome
from zvt_crypto.store import coverage
from zvt_crypto.store.coverage import Span
from zvt_crypto.store.engine import Store
from zvt_crypto.store.writer import Checked, Entity, Page, check
from zvt_crypto.stream.feed import LiveFeed
from zvt_crypto.stream.mending import FIRST_RETRY, Mender
from zvt_crypto.stream.pagequeue import PageQueue
from zvt_crypto.stream.series import LATE_MS, OVERLAP_MS, Series

#: Seconds that rows gather before they are stored, and how many rows do not wait for that.
FLUSH_SECONDS: Final = 0.5
FLUSH_ROWS: Final = 20_000
POLL_SECONDS: Final = 30.0
_DRAIN_SECONDS: Final = 20.0
_MOST_NOTES: Final = 100


class LiveTable(ABC):
    """Keeps one table live: a ``Listener`` of its topics, and what stores and mends their rows.

    Args:
        live: The venue's streams.
        store: Where to.
        rest: How the table's rows are fetched over HTTP.
        spill_folder: Where rows wait while the table takes none.
        history: As ``rest``, for what lies further back: its requests let those for live data go first.
        poll_seconds: Seconds between two fetches over HTTP of what a lost stream misses.
        retry_seconds: Seconds before a fetch that failed is made again; doubled each time.
        overlap_ms: How far what is fetched reaches into what is streamed.
    """

    #: Seconds between two looks at what has gathered.
    flush_seconds: ClassVar[float] = FLUSH_SECONDS

    def __init__(
        self,
        live: LiveFeed,
        store: Store,
        rest: Feed,
        spill_folder: Path,
        *,
        history: Feed,
        poll_seconds: float = POLL_SECONDS,
        retry_seconds: float = FIRST_RETRY,
        overlap_ms: int = OVERLAP_MS,
    ) -> None:
        self.live_feed = live
        self.spec: TableSpec = rest.spec
        self.rest = rest
        self.table = TableThread(store, rest.venue.name, rest.spec)
        self.queue = PageQueue(self.table, spill_folder, self._dropped)
        self.mender = Mender(rest, self.table, history, retry_seconds=retry_seconds)
        self.series: list[Series] = []
        self.rejected = 0
        self._poll_seconds = poll_seconds
        self._overlap_ms = overlap_ms
        self._by_topic: dict[Topic, Series] = {}
        self._full = asyncio.Event()
        self._waiting_rows = 0

    @abstractmethod
    def topic(self, instrument: Instrument) -> Topic:
        """What is subscribed for a market."""

    async def add(self, instrument: Instrument, entity: Entity, outcome: Outcome, start: int | None) -> None:
        """Keep a market live.

        Args:
            instrument: The market.
            entity: What its rows are stored under.
            outcome: Is told what becomes of it.
            start: First time wanted, epoch ms; None goes on where the ledger ends, and begins now where it
                is empty.
        """
        await self.live_feed.ask_time(instrument.entity_type)
        key = await self.table.call(lambda: self.table.writer.entity_key(entity))
        series = Series(self.topic(instrument), instrument, entity, key, outcome)
        answered, streamed, first = await self.table.call(lambda: self._recorded(key))
        for begin in [start] if start is not None else _open_ends(answered, first):
            series.miss(begin)
        if streamed:  # an earlier process ended before the exchange had confirmed it
            series.miss(streamed[0][0])
        self.series.append(series)
        self._by_topic[series.topic] = series

    def _recorded(self, key: int) -> tuple[list[Span], list[Span], int | None]:
        """What of a market is answered, what is only streamed, and the time of its first row."""
        states = (coverage.ANSWERED, coverage.STREAMED)
        answered, streamed = (coverage.covered(self.table.connection, key, state) for state in states)
        first = self.table.connection.value("SELECT min(ts) FROM rows WHERE entity = ?", (key,))
        return answered, streamed, first

    async def run(self) -> None:
        """Subscribe, and store what comes until cancelled; what has gathered then is stored.

        Raises:
            FatalError: Nothing can be fetched or stored before a person acts.
        """
        self.queue.start()
        mending = asyncio.create_task(self.mender.run())
        topics = [series.topic for series in self.series if self.live_feed.streams.serves(series.topic)]
        self.live_feed.add(topics, self)
        try:
            while not mending.done():
                await self._gathered()
                await self.flush()
                self.queue.check()
            mending.result()
        finally:
            self.live_feed.remove(topics, self)
            mending.cancel()
            await asyncio.gather(mending, return_exceptions=True)
            await asyncio.shield(self._close())

    async def _gathered(self) -> None:
        """Wait until much has gathered, or it is time.

        Not with ``asyncio.wait_for``, which before Python 3.12 forgets that it was cancelled where what it
        waits for comes at the same moment.
        """
        due = asyncio.get_running_loop().call_later(self.flush_seconds, self._full.set)
        try:
            await self._full.wait()
        finally:
            due.cancel()
        self._full.clear()

    async def _close(self) -> None:
        try:
            await self.flush()
            await self.queue.close(_DRAIN_SECONDS)
            with contextlib.suppress(ZvtCryptoError):  # the ledger is right without, only longer
                for series in self.series:
                    await self.table.call(partial(coverage.tidy, self.table.connection, series.key))
        finally:
            self.table.close()

    async def flush(self) -> None:
        """Put what has gathered into the queue, and have fetched what is missing."""
        self._waiting_rows = 0
        for series in self.series:
            self.store(series)
            self._poll(series)

    @abstractmethod
    def store(self, series: Series) -> None:
        """Put what has gathered of a market into the queue."""

    # What the feed tells.

    def received(self, message: Trades | Candles | BookUpdate | Funding) -> None:
        """See ``Listener``."""
        if isinstance(message, (Trades, Candles)):
            self._by_topic[message.topic].rows.extend(message.rows)
            self._waiting_rows += len(message.rows)
            if self._waiting_rows > FLUSH_ROWS:
                self._full.set()

    def live(self, topic: Topic, since: int) -> None:
        """See ``Listener``."""
        series = self._by_topic[topic]
        self.store(series)  # what came before the stream was whole claims nothing
        series.went_live(since)
        if series.missing_from is not None:
            self.mender.ask(series, series.missing_from, since + self._overlap_ms)
            series.missing_from = None

    def lost(self, topic: Topic, reason: str) -> None:
        """See ``Listener``."""
        series = self._by_topic[topic]
        self.store(series)
        series.lose()

    def refused(self, topic: Topic, error: ZvtCryptoError) -> None:
        """See ``Listener``."""
        self._by_topic[topic].outcome.errors.append(error)

    # Help for the tables.

    def series_of(self, topic: Topic) -> Series:
        """The market that a topic is subscribed for."""
        return self._by_topic[topic]

    def put(
        self, series: Series, batch: pa.Table, answered: Sequence[Span] = (), streamed: Sequence[Span] = ()
    ) -> None:
        """Check rows and hand them to the queue with what they cover."""
        checked = check(self.spec, batch)
        bad = [ts for times in checked.rejected.values() for ts in times]
        if bad:
            self._note_rejected(series, checked)
            self._fetch(series, min(bad), max(bad) + 1)
            rejected = [(ts, ts + self.rest.step) for ts in bad]
            answered, streamed = (subtract_spans(spans, rejected) for spans in (answered, streamed))
        self.queue.put(
            Page(series.key, checked.batch, tuple(answered), source=coverage.STREAM, streamed=tuple(streamed))
        )
        series.outcome.rows += checked.batch.num_rows

    def _note_rejected(self, series: Series, checked: Checked) -> None:
        self.rejected += sum(map(len, checked.rejected.values()))
        error = checked.error(f"{series.entity.entity_id} {self.rest.what}")
        if error is not None and len(series.outcome.notes) < _MOST_NOTES:
            series.outcome.notes.append(error.message)

    def _fetch(self, series: Series, start: int, end: int) -> None:
        """Have a stretch fetched that the stream brought in vain; the ledger goes on after it."""
        if series.until is not None and series.until < end:
            start = min(start, series.until)
            series.begin(end)
        self.mender.ask(series, start, end)

    def note(self, series: Series, rows: int, newest: int) -> None:
        """Tell the feed how many rows there were, and how old the newest was when it came."""
        self.live_feed.heard(series.instrument.entity_type, newest)
        health = self.live_feed.health_of(series.topic)
        if health is None:
            return
        health.rows += rows
        # A candle's time is that of its beginning, which tells nothing of how old its state is.
        if health.last_message is not None and series.topic.feed != "candles":
            ago = (time.time() - health.last_message) * 1000
            health.lag_ms = self.now(series) - ago - newest

    def now(self, series: Series) -> int:
        """The exchange's time, epoch ms."""
        return self.live_feed.now(series.instrument.entity_type)

    def _poll(self, series: Series) -> None:
        """Fetch what a stream that stays away misses."""
        lost_at = series.lost_at
        if lost_at is None or series.missing_from is None:
            return
        if time.monotonic() - lost_at < self._poll_seconds:
            return
        series.lost_at = time.monotonic()
        now = self.now(series)
        self.mender.ask(series, series.missing_from, now)
        series.missing_from = now

    def _dropped(self, pages: Sequence[Page]) -> None:
        """Pages were given up: their time is fetched again."""
        by_key = {series.key: series for series in self.series}
        for page in pages:
            series = by_key.get(page.key)
            spans = [*page.answered, *page.streamed]
            if page.batch.num_rows:
                # Its newest rows are of the time that the next page enters.
                first, end = page.batch["ts"][0].as_py(), page.batch["ts"][-1].as_py() + 1
                spans += [(first, end), (end - LATE_MS, end)]
            if series is not None and spans:
                self._fetch(series, min(a for a, _ in spans), max(b for _, b in spans))


class TradeTable(LiveTable):
    """Trades: stored as they come; the ledger follows the stream for as long as that has no hole."""

    def topic(self, instrument: Instrument) -> Topic:
        """See ``LiveTable``."""
        return Topic("trades", instrument)

    def store(self, series: Series) -> None:
        """See ``LiveTable``."""
        if not series.rows:
            return
        rows, series.rows = series.rows, []
        streams = self.live_feed.streams
        trades = streams.trades(series.instrument, rows)
        self.note(series, len(rows), pc.max(trades["ts"]).as_py())
        consecutive_ids = series.instrument.entity_type in streams.consecutive_ids
        fetched, complete = series.enter(trades, self.now(series), consecutive_ids=consecutive_ids)
        for start, end in fetched:
            self.mender.ask(series, start, end)
        self.put(series, trades, complete)


def _open_ends(answered: Sequence[Span], first: int | None) -> list[int]:
    """Where the holes of the last day begin, and where the ledger ends; older ones are for ``repair``.

    The ledger of a stream begins just after its first row; later where a process ended before all that it had
    begun with was fetched.
    """
    if not answered:
        return []
    ends = [end for _, end in answered if end > answered[-1][1] - DAY_MS]
    if first is not None and answered[-1][1] - DAY_MS < first < answered[0][0] - LATE_MS:
        return [first, *ends]
    return ends
