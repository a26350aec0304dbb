"""Candles that are kept live: stored when they are over, noted as streamed until the exchange confirms them."""

import asyncio
import logging

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_helpers import (
    Heard,
    JumpClock,
    Meeting,
    answered,
    ledger,
    live,
    running,
    settings_of,
    stored,
    until,
)

from zvt_crypto.core.levels import MINUTE_MS, floor_ms, parse_time
from zvt_crypto.core.tables import tables
from zvt_crypto.sandbox import Sandbox, SimulatedMarket
from zvt_crypto.stream.candles import _newest_states

SPEC = tables["cryptopair_1m_kdata"]
HOUR = parse_time("2024-05-03T10:00:00Z")
NEXT = HOUR + MINUTE_MS
#: How far into the next minute it must be for a candle to be stored.
OVER = 3_000
BTC = "cryptopair_binance_btcusdt"
COMPARED = ("ts", "open", "high", "low", "close", "volume")


class Minutes:
    """A live table of candles, and the market's time, which passes when a test says so."""

    def __init__(self, one, box, clock):
        self.one, self.box, self.clock, self.heard = one, box, clock, Heard()
        self.table = one.table(SPEC, retry_seconds=0.2)

    @property
    def topics(self):
        return [series.topic for series in self.table.series]

    async def begin(self):
        """Wait until all topics are live and something has come of each."""
        await until(lambda: self.table.series and all(map(self.one.feed.health_of, self.topics)))
        self.one.feed.add(self.topics, self.heard)
        await until(lambda: all(self.heard.rows(topic) for topic in self.topics))

    async def to(self, ts):
        """Let it become this time, and all that happened before reach the table; then tell it the time."""
        while True:
            self.clock.forward_to(min(ts, self.clock() + 30_000))
            await until(lambda: all(self._newest(topic) for topic in self.topics))
            self.one.feed.heard("cryptopair", self.clock())
            if self.clock() >= ts:
                return

    def _newest(self, topic):
        """Whether what has come of a topic is of now."""
        rows, streams = self.heard.rows(topic), self.one.feed.streams
        if topic.feed == "trades":
            return streams.trades(topic.instrument, rows)["ts"].to_numpy().max() > self.clock() - 2_000
        candles = streams.candles(topic.instrument, topic.level, rows)
        return candles["ts"].to_numpy().max() == floor_ms(self.clock(), MINUTE_MS)


@pytest.fixture
def at(tmp_path):
    """Runs ``await use(minutes)`` against a market whose clock begins at a time."""

    def run(use, start=HOUR + 30_000, provider="binance"):
        clock = JumpClock(start)

        async def main(box):
            async with live(settings_of(box, tmp_path), provider) as one:
                return await use(Minutes(one, box, clock))

        with Sandbox(SimulatedMarket(5, clock)) as box:
            return asyncio.run(asyncio.wait_for(main(box), 60))

    return run


def rows(one, entity_id=BTC):
    found = stored(one.store, one.venue.name, SPEC, entity_id).select(COMPARED)
    return list(zip(*(column.to_pylist() for column in found.columns), strict=True))


def of_market(box, symbol, *times):
    found = box.market.candles(symbol, "1m", min(times), max(times) + 1)
    columns = (getattr(found, name).tolist() for name in COMPARED)
    return [row for row in zip(*columns, strict=True) if row[0] in times]


def sources(one, entity_id=BTC):
    return ledger(one.store, one.venue.name, SPEC, entity_id)


def test_streamed_until_the_exchange_has_confirmed_it(at):
    async def use(minutes):
        one, box, table = minutes.one, minutes.box, minutes.table
        await one.add(table, "btcusdt")
        box.faults = ["status:500,path=klines"]
        async with running(table):
            await minutes.begin()
            await minutes.to(NEXT + OVER)
            await until(lambda: rows(one))
            assert rows(one) == of_market(box, "BTC/USDT", HOUR), "numbers, as the exchange has them"
            assert sources(one) == {"(streamed)": [(HOUR, NEXT)]}
            box.faults = []
            await until(lambda: "rest" in sources(one))
        assert sources(one) == {"rest": [(HOUR, NEXT)]}
        assert rows(one) == of_market(box, "BTC/USDT", HOUR)
        assert table.candles.corrected == 0

    at(use)


@pytest.mark.parametrize(("provider", "codes"), [("okx", "btcusdt,ethusdt"), ("coinbase", "btcusd,ethusd")])
def test_nothing_is_stored_before_its_end(at, provider, codes):
    async def use(minutes):
        one, seen = minutes.one, set()

        async def watch():
            while True:
                for code in codes.split(","):
                    now = minutes.clock()
                    found = [row[0] for row in rows(one, f"cryptopair_{provider}_{code}")]
                    seen.update(found)
                    assert all(ts + MINUTE_MS <= now for ts in found)
                await asyncio.sleep(0.01)

        await one.add(minutes.table, *codes.split(","))
        async with running(minutes.table):
            await minutes.begin()
            watching = asyncio.create_task(watch())
            for minute in range(1, 4):
                for second in (-2_000, OVER, 30_000):
                    await minutes.to(HOUR + minute * MINUTE_MS + second)
                await until(lambda count=minute: len(seen) >= count)
            watching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await watching

    at(use, provider=provider)


def test_what_streams_say_is_what_the_exchange_answers(tmp_path):
    providers = {"kraken": "BTC/USD"} | dict.fromkeys(
        ("binance", "okx", "bybit", "kucoin", "cryptocom"), "BTC/USDT"
    )

    async def record(box, clock, provider, symbol):
        entity_id = f"cryptopair_{provider}_{symbol.lower().replace('/', '')}"
        async with live(settings_of(box, tmp_path), provider) as one:
            minutes = Minutes(one, box, clock)
            await one.add(minutes.table, symbol)
            async with running(minutes.table):
                await minutes.begin()
                await here.wait()
                await minutes.to(NEXT + OVER)
                await until(lambda: minutes.table.queue.backlog.stored_rows == 1)
                assert rows(one, entity_id) == of_market(box, symbol, HOUR)
                await until(lambda: "rest" in sources(one, entity_id))
            assert rows(one, entity_id) == of_market(box, symbol, HOUR)
            assert minutes.table.candles.corrected == 0

    async def main(box, clock):
        await asyncio.gather(*(record(box, clock, *which) for which in providers.items()))

    here, clock = Meeting(len(providers)), JumpClock(HOUR + 20_000)
    with Sandbox(SimulatedMarket(5, clock)) as box:
        asyncio.run(asyncio.wait_for(main(box, clock), 60))


class TestOfTrades:
    """Coinbase streams no candles of one minute."""

    ENTITY = "cryptopair_coinbase_btcusd"

    def test_the_first_whole_one_is_stored(self, at):
        async def use(minutes):
            one, box = minutes.one, minutes.box
            await one.add(minutes.table, "btcusd")
            box.faults = ["status:500,path=candles"]
            async with running(minutes.table):
                await minutes.begin()
                await minutes.to(NEXT + OVER)
                await minutes.to(NEXT + MINUTE_MS + OVER)
                await until(lambda: rows(one, self.ENTITY))
                # The one under way at the start lacks trades.
                assert rows(one, self.ENTITY) == of_market(box, "BTC/USD", NEXT)
                assert sources(one, self.ENTITY) == {"(streamed)": [(NEXT, NEXT + MINUTE_MS)]}

        at(use, provider="coinbase")

    def test_it_is_stored_although_no_more_trades_come(self, at):
        async def use(minutes):
            one, box = minutes.one, minutes.box
            await one.add(minutes.table, "btcusd")
            box.faults = ["status:500,path=candles"]
            async with running(minutes.table):
                await minutes.begin()
                await minutes.to(NEXT + OVER)
                await minutes.to(NEXT + 40_000)
                box.faults = ["status:500,path=candles", "ws_skip,path=market_trades"]
                # Others tell how late it is.
                one.feed.heard("cryptopair", NEXT + MINUTE_MS + OVER)
                await until(lambda: rows(one, self.ENTITY))

        at(use, provider="coinbase")

    def test_one_that_lost_messages_is_left_to_the_exchange(self, at):
        async def use(minutes):
            one, box = minutes.one, minutes.box
            await one.add(minutes.table, "btcusd")
            box.faults = ["status:500,path=candles"]
            async with running(minutes.table):
                await minutes.begin()
                await minutes.to(NEXT + 20_000)
                box.drop_connections()
                await until(lambda: minutes.heard.words() == ["live", "lost", "live"])
                for minute in (1, 2):
                    await minutes.to(NEXT + minute * MINUTE_MS + OVER)
                await until(lambda: rows(one, self.ENTITY))
            assert rows(one, self.ENTITY) == of_market(box, "BTC/USD", NEXT + MINUTE_MS)

        at(use, provider="coinbase")


def test_what_the_exchange_answers_replaces_what_was_streamed(at, caplog):
    before = HOUR - MINUTE_MS

    async def use(minutes):
        one, box, table = minutes.one, minutes.box, minutes.table
        await one.add(table, "btcusdt", start=before - MINUTE_MS)
        (series,) = table.series
        wrong = box.market.candles("BTC/USDT", "1m", before, HOUR).table()
        for name in ("close", "low"):
            wrong = wrong.set_column(wrong.column_names.index(name), name, pa.array([1.0]))
        table.candles.expect(series.instrument, wrong)
        table.put(series, wrong, streamed=[(before, HOUR)])
        async with running(table):
            await until(lambda: answered(one.store, "binance", SPEC, BTC) == [(before - MINUTE_MS, HOUR)])
        assert rows(one) == of_market(box, "BTC/USDT", before - MINUTE_MS, before)
        assert table.candles.corrected == 1

    with caplog.at_level(logging.INFO, "zvt_crypto"):
        at(use)
    assert "the exchange's own 1m candles of 2024-05-03T09:59:00Z replaces what was streamed" in caplog.text


def test_a_later_process_confirms_what_an_earlier_one_streamed(at):
    async def use(minutes):
        one, box, table = minutes.one, minutes.box, minutes.table
        await one.add(table, "btcusdt")
        box.faults = ["status:500,path=klines"]
        async with running(table):
            await minutes.begin()
            await minutes.to(NEXT + OVER)
            await until(lambda: rows(one))
            one.feed.remove(minutes.topics, minutes.heard)
        assert sources(one) == {"(streamed)": [(HOUR, NEXT)]}
        box.faults = []
        later = one.table(SPEC)
        await one.add(later, "btcusdt")
        async with running(later):
            await until(lambda: sources(one) == {"rest": [(HOUR, NEXT)]})

    at(use)


def test_a_start_in_the_past_is_joined(at):
    async def use(minutes):
        one, start = minutes.one, HOUR - 300 * MINUTE_MS
        await one.add(minutes.table, "btcusdt", start=start)
        async with running(minutes.table):
            await until(lambda: answered(one.store, "binance", SPEC, BTC) == [(start, HOUR)])
        assert rows(one) == of_market(minutes.box, "BTC/USDT", *range(start, HOUR, MINUTE_MS))

    at(use)


def test_a_stream_that_stays_away_is_replaced_by_requests(at):
    async def use(minutes):
        one, box = minutes.one, minutes.box
        await one.add(minutes.table, "btcusdt")
        async with running(minutes.table):
            await minutes.begin()
            box.faults = ["ws_refuse"]
            box.drop_connections()
            await until(lambda: "lost" in minutes.heard.words())
            minutes.clock.forward_to(NEXT + OVER)
            one.feed.heard("cryptopair", NEXT + OVER)
            await until(lambda: "rest" in sources(one))
        assert rows(one) == of_market(box, "BTC/USDT", HOUR)

    at(use)


STATES = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([None, True, False])), min_size=1)


@given(STATES)
def test_of_each_candle_the_closed_state_or_else_the_last_one_counts(told):
    states = pa.table(
        {
            "ts": pa.array([ts for ts, _ in told], pa.int64()),
            "close": np.arange(len(told), dtype=np.float64),
            "is_closed": pa.array([closed for _, closed in told], pa.bool_()),
        }
    )
    found = _newest_states(states).to_pylist()
    assert [row["ts"] for row in found] == sorted({ts for ts, _ in told})
    for row in found:
        mine = [(n, closed) for n, (ts, closed) in enumerate(told) if ts == row["ts"]]
        closed = [n for n, is_closed in mine if is_closed]
        assert row["close"] == (closed[-1] if closed else mine[-1][0])
