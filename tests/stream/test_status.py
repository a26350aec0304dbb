"""How live runs stand, as they leave it for other processes."""

import asyncio
import os
import time
from dataclasses import replace

import orjson
import pytest
from live_helpers import TRADES, live, running, settings_of, until

from zvt_crypto.core.config import Settings
from zvt_crypto.core.tables import tables
from zvt_crypto.sandbox import SimulatedMarket
from zvt_crypto.stream.status import (
    STALE_SECONDS,
    ChannelStatus,
    Status,
    TableStatus,
    publish,
    published,
    status_of,
)

CHANNEL = ChannelStatus(
    provider="okx",
    table="cryptotrade",
    entity_id="cryptopair_okx_btcusdt",
    channel="trades of BTC/USDT",
    state="live",
    messages=5,
    rows=7,
    last_message=1.5,
    lag_ms=None,
    losses=1,
    resyncs=2,
    gaps=3,
)
TABLE = TableStatus(
    provider="okx",
    table="cryptotrade",
    waiting_rows=1,
    spilled_rows=2,
    spill_files=3,
    dropped_rows=4,
    stored_rows=5,
    rejected_rows=6,
    corrected_candles=7,
    mending=8,
    stalled_since=9.5,
)


@pytest.fixture
def settings(tmp_path):
    return Settings(data_path=tmp_path / "data")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state" / "streams"


def status(**changed):
    usual = Status(
        pid=os.getpid(),
        began=1.0,
        written=time.time(),
        connections=1,
        reconnects=2,
        unreadable=3,
        channels=[CHANNEL, replace(CHANNEL, state="lost", last_message=None, lag_ms=12.5)],
        tables=[TABLE],
    )
    return replace(usual, **changed)


def test_what_is_left_comes_back_until_it_is_taken_away(settings, folder):
    assert published(settings) == []
    left = status()
    publish(settings, left)
    assert published(settings) == [left]
    later = status(connections=5)
    publish(settings, later)
    assert published(settings) == [later]
    publish(settings, None)
    publish(settings, None)
    assert published(settings) == [] and list(folder.iterdir()) == []


def test_what_a_process_left_that_is_gone_does_not_count(settings):
    publish(settings, status(written=time.time() - STALE_SECONDS - 1))
    assert published(settings) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"5", b"null", b"[]", b'"x"', b"{}", b'{"channels": 5, "tables": []}', b'{"channels": [{}]}'],
)
def test_what_cannot_be_read_does_not_count(settings, folder, content):
    publish(settings, status())
    (folder / "1.json").write_bytes(content)
    assert len(published(settings)) == 1


def test_what_another_version_left_does_not_count(settings, folder):
    publish(settings, status())
    known = orjson.loads(next(folder.iterdir()).read_bytes())
    (folder / "1.json").write_bytes(orjson.dumps(known | {"more": 1}))
    del known["reconnects"]
    (folder / "2.json").write_bytes(orjson.dumps(known))
    assert len(published(settings)) == 1


def test_where_it_cannot_be_left_nothing_happens(settings, tmp_path):
    (tmp_path / "state").write_text("")
    publish(settings, status())
    publish(settings, None)
    assert published(settings) == []


@pytest.fixture(scope="module")
def market():
    return SimulatedMarket(41)


def test_what_is_told_of_tables_and_channels(box, tmp_path):
    spec = tables["cryptopair_1m_kdata"]
    entity_id = "cryptopair_coinbase_btcusd"

    async def main():
        async with live(settings_of(box, tmp_path), "coinbase") as one:
            trades, candles = one.table(TRADES), one.table(spec)
            for table in (trades, candles):
                await one.add(table, "btcusd")
            first = status_of([one.feed], [trades, candles], began=12.0)
            assert {channel.state for channel in first.channels} == {"waiting"}
            assert (first.began, first.pid, first.connections) == (12.0, os.getpid(), 0)
            async with running(trades), running(candles):
                await until(lambda: trades.queue.backlog.stored_rows > 20)
                box.drop_connections()
                await until(lambda: one.feed.reconnects == 1 and one.feed.connections == 1)
                now = status_of([one.feed], [trades, candles], began=12.0)
        assert (now.connections, now.reconnects, now.unreadable) == (1, 1, 0)
        of_trades, of_candles = now.channels
        assert (of_trades.provider, of_trades.table, of_trades.entity_id) == (
            "coinbase",
            "cryptotrade",
            entity_id,
        )
        assert of_trades.channel == of_candles.channel == "trades of BTC/USD", "candles are made of trades"
        assert of_trades.losses == 1 and of_trades.messages > 0
        assert of_trades.rows >= now.tables[0].stored_rows > 20
        assert abs(time.time() - of_trades.last_message) < 30
        # The sandbox's clock is this machine's, and its ticks are twenty a second.
        assert -1_000 < of_trades.lag_ms < 5_000
        assert [one.table for one in now.tables] == ["cryptotrade", spec.name]
        assert now.tables[0].stalled_since is None
        assert orjson.loads(orjson.dumps(now))["pid"] == os.getpid()

    asyncio.run(asyncio.wait_for(main(), 40))
