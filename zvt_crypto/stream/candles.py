"""Live candles into their tables: stored when they are over, and then confirmed by the exchange's answer."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import ceil_ms, floor_ms, iso
from zvt_crypto.core.trade_bars import candles_from_trades
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.paging import Part
from zvt_crypto.exchanges.streaming import Topic
from zvt_crypto.recorders.feeds import CandleFeed, Feed
from zvt_crypto.store.engine import Store
from zvt_crypto.stream.feed import LiveFeed
from zvt_crypto.stream.mending import FIRST_RETRY
from zvt_crypto.stream.recording import LiveTable
from zvt_crypto.stream.series import Series

logger = logging.getLogger(__name__)

#: How long after a candle's end by the exchange's clock its last state may arrive, in ms.
LATE_MS: Final = 2_000
#: Seconds between two requests that confirm a market's candles; with many markets one request a second.
_CONFIRM_SECONDS: Final = 15.0
_LONGEST_CONFIRM_SECONDS: Final = 300.0
#: States of a candle that gather before only the newest is kept.
_MOST_STATES: Final = 500
#: Prices must be equal; a sum may differ in its last digits.
_TOLERANCE: Final = 1e-9
_COMPARED: Final = ("open", "high", "low", "close", "volume")


class ConfirmingFeed(CandleFeed):
    """Fetches candles, and holds against them what a stream said of them before."""

    corrected = 0

    def expect(self, instrument: Instrument, candles: pa.Table) -> None:
        """Candles that were stored as the stream had them."""
        known = self._streamed.setdefault(instrument.native_id, {})
        values = (candles[name].to_pylist() for name in ("ts", *_COMPARED))
        known.update((ts, tuple(row)) for ts, *row in zip(*values, strict=True))

    async def fetch(self, instrument: Instrument, start: int, end: int) -> AsyncIterator[Part]:
        """See ``CandleFeed``."""
        async for part in super().fetch(instrument, start, end):
            self._compare(instrument, part)
            yield part

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._streamed: dict[str, dict[int, tuple[float, ...]]] = {}

    def _compare(self, instrument: Instrument, part: Part) -> None:
        known = self._streamed.get(instrument.native_id, {})
        said = {ts: known.pop(ts) for ts in list(known) if part.start <= ts < part.stop}
        if not said:
            return
        rows = part.rows.filter(pc.is_in(part.rows["ts"], pa.array(list(said), pa.int64())))
        ours = np.array([said[ts] for ts in rows["ts"].to_pylist()], np.float64).reshape(-1, len(_COMPARED))
        theirs = np.column_stack([rows[name].to_numpy() for name in _COMPARED])
        bad = (np.abs(ours - theirs) > _TOLERANCE * np.abs(theirs)).any(axis=1)
        absent = sorted(set(said) - set(rows["ts"].to_pylist()))
        self.corrected += int(bad.sum())
        if absent:
            logger.info(
                "%s: the exchange's %s lack the streamed %s", instrument.symbol, self.what, iso(absent[0])
            )
        if bad.any():
            first = iso(rows["ts"][int(np.argmax(bad))].as_py())
            logger.info(
                "%s: the exchange's own %s of %s replaces what was streamed",
                instrument.symbol,
                self.what,
                first,
            )


class CandleTable(LiveTable):
    """Candles of one level.

    A candle is stored within seconds of its end, as the stream had it or as the streamed trades add up to it
    where the venue streams none. The ledger has it only once the exchange's answer has replaced it.

    Args:
        live: See ``LiveTable``.
        store: See ``LiveTable``.
        rest: How the candles are fetched over HTTP.
        spill_folder: See ``LiveTable``.
        history: See ``LiveTable``.
        retry_seconds: See ``LiveTable``.
    """

    def __init__(
        self,
        live: LiveFeed,
        store: Store,
        rest: ConfirmingFeed,
        spill_folder: Path,
        *,
        history: Feed,
        retry_seconds: float = FIRST_RETRY,
    ) -> None:
        super().__init__(live, store, rest, spill_folder, history=history, retry_seconds=retry_seconds)
        self.candles = rest
        self.step = rest.step
        self._states: dict[Series, pa.Table] = {}
        self._first: dict[Series, int] = {}
        self._look_at: dict[Series, int] = {}
        self._confirm_at: dict[Series, float] = {}

    def topic(self, instrument: Instrument) -> Topic:
        """See ``LiveTable``."""
        topic = Topic("candles", instrument, level=self.candles.level)
        return topic if self.live_feed.streams.serves(topic) else Topic("trades", instrument)

    def live(self, topic: Topic, since: int) -> None:
        """See ``Listener``. Nothing is fetched for it: every candle is, once it is over."""
        series = self.series_of(topic)
        series.went_live(since)
        self._first.setdefault(series, floor_ms(since, self.step))
        if series.missing_from is None:
            series.missing_from = floor_ms(since, self.step)

    def lost(self, topic: Topic, reason: str) -> None:
        """See ``Listener``."""
        series = self.series_of(topic)
        series.since = None
        series.rows.clear()
        self._states.pop(series, None)

    def store(self, series: Series) -> None:
        """Store what is over by the exchange's clock."""
        now = self.now(series)
        is_due = now >= self._look_at.get(series, 0)
        if series.rows and (is_due or len(series.rows) > _MOST_STATES):
            self._gather(series)
        if is_due and series in self._states:
            self._look_at[series] = floor_ms(now - LATE_MS, self.step) + self.step + LATE_MS
            self._store_finished(series, now)
        self._confirm(series, now)

    def _gather(self, series: Series) -> None:
        """Keep the newest state of each candle, or all trades of the candles that are not over."""
        rows, series.rows = series.rows, []
        streams = self.live_feed.streams
        if series.topic.feed == "trades":
            new = streams.trades(series.instrument, rows)
        else:
            new = streams.candles(series.instrument, self.candles.level, rows)
        known = self._states.get(series)
        states = new if known is None else pa.concat_tables([known, new])
        if series.topic.feed == "candles":
            states = _newest_states(states)
        self.note(series, len(rows), pc.max(new["ts"]).as_py())
        self._states[series] = states

    def _store_finished(self, series: Series, now: int) -> None:
        states = self._states.get(series)
        if states is None or not states.num_rows:
            return
        over = floor_ms(now - LATE_MS, self.step)
        is_over = pc.less(states["ts"], over)
        if "is_closed" in states.column_names:
            is_over = pc.or_(is_over, pc.fill_null(states["is_closed"], False))
        # Some venues begin with candles of before; those are fetched, if they are wanted.
        is_ours = pc.greater_equal(states["ts"], self._first.get(series, over))
        if series.topic.feed == "trades":
            finished = self._made(series, states.filter(pc.and_(is_over, is_ours)))
            self._states[series] = states.filter(pc.invert(is_over))
        else:
            # Without a mark, the last state is only known to be the last if nothing was lost before the end.
            is_last = pc.fill_null(states["is_closed"], series.since is not None)
            is_final = pc.and_(pc.and_(is_over, is_ours), is_last)
            finished = states.filter(is_final).drop_columns(["is_closed"])
            self._states[series] = states.filter(pc.invert(is_over))
        if finished.num_rows:
            spans = [(ts, ts + self.step) for ts in finished["ts"].to_pylist()]
            self.candles.expect(series.instrument, finished)
            self.put(series, finished, streamed=spans)

    def _made(self, series: Series, trades: pa.Table) -> pa.Table:
        """Candles of trades, those that lack the beginning left out."""
        made = candles_from_trades(trades, self.step)
        whole_from = self.spec.schema.empty_table()["ts"].type
        since = ceil_ms(series.since, self.step) if series.since is not None else 1 << 62
        made = made.filter(pc.greater_equal(made["ts"], pa.scalar(since, whole_from)))
        columns = {
            field.name: made[field.name]
            if field.name in made.column_names
            else pa.nulls(len(made), field.type)
            for field in self.spec.schema
        }
        return pa.table(columns, schema=self.spec.schema)

    def _confirm(self, series: Series, now: int) -> None:
        """Ask for the candles that are over, and for what was missed, a few times a minute."""
        if series.missing_from is None or time.monotonic() < self._confirm_at.get(series, 0.0):
            return
        over = floor_ms(now - LATE_MS, self.step)
        if over <= series.missing_from:
            return
        pace = min(max(_CONFIRM_SECONDS, float(len(self.series))), _LONGEST_CONFIRM_SECONDS)
        self._confirm_at[series] = time.monotonic() + pace
        self.mender.ask(series, series.missing_from, over)
        series.missing_from = over

    def _poll(self, series: Series) -> None:
        """Not needed: candles are asked for in any case."""


def _newest_states(states: pa.Table) -> pa.Table:
    """The last state of each candle, by time; what came after one that was closed is older."""
    ts = states["ts"].to_numpy()
    order = np.lexsort((pc.fill_null(states["is_closed"], False).to_numpy(), ts))
    is_last = np.append(ts[order][1:] != ts[order][:-1], True)
    return states.take(pa.array(order[is_last]))
