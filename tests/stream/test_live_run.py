"""Whole runs: markets and tables of a selection, ends of every kind, and SIGKILL at random moments."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from live_helpers import (
    TRADES,
    answered,
    check_trades,
    live,
    locked,
    running,
    settings_of,
    stored,
    until,
)

from zvt_crypto.core.errors import InvalidArgument, NotSupported, PairNotFound
from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS
from zvt_crypto.core.tables import tables
from zvt_crypto.exchanges.streaming import Funding
from zvt_crypto.recorders.run import Selection
from zvt_crypto.sandbox import SimulatedMarket
from zvt_crypto.store.engine import Store
from zvt_crypto.store.writer import write_entities
from zvt_crypto.stream.run import LiveRun
from zvt_crypto.stream.status import published

CANDLES, BOOKS, FUNDING = (
    tables[name] for name in ("cryptopair_1m_kdata", "cryptoorderbook", "cryptofunding")
)
BTC = "cryptopair_binance_btcusdt"
#: The full trial takes 30; every run of the suite takes fewer.
KILLS = int(os.environ.get("ZVT_CRYPTO_TEST_KILLS", "3"))


@pytest.fixture(scope="module")
def market():
    return SimulatedMarket(51)


@pytest.fixture
def settings(box, tmp_path):
    return settings_of(box, tmp_path, busy_timeout_seconds=1.0)


def selection(*specs, provider="binance", codes=("btcusdt",), **given):
    return Selection(provider, specs, codes=codes, **given)


class TestRuns:
    def test_all_tables_at_once(self, box, settings):
        statuses = []

        def on_status(status):
            assert published(settings) == [status]
            statuses.append(status)

        run = LiveRun(
            settings,
            [selection(TRADES, CANDLES, BOOKS, codes=("btcusdt", "ETH/USDT"), depth=5)],
            book_every=0.5,
            seconds=4.0,
            on_status=on_status,
        )
        report = run.start()
        assert report.exit_code == 0 and report.seconds >= 4.0
        assert {(o.table, o.entity_id) for o in report.outcomes} == {
            (spec.name, f"cryptopair_binance_{code}")
            for spec in (TRADES, CANDLES, BOOKS)
            for code in ("btcusdt", "ethusdt")
        }
        store = Store(settings)
        for code, symbol in (("btcusdt", "BTC/USDT"), ("ethusdt", "ETH/USDT")):
            check_trades(box, store, "binance", f"cryptopair_binance_{code}", symbol)
            assert stored(store, "binance", BOOKS, f"cryptopair_binance_{code}").num_rows >= 2
        last = statuses[-1]
        assert {channel.state for channel in last.channels} == {"live"} and len(last.channels) == 6
        assert last.connections == 1, "one is enough for three tables"
        assert published(settings) == []

    def test_inside_of_a_running_loop(self, settings):
        async def notebook():
            return LiveRun(settings, [selection(TRADES)], seconds=0.2).start()

        assert asyncio.run(notebook()).exit_code == 0

    def test_a_market_that_does_not_exist_is_told_and_the_others_live(self, box, settings):
        run = LiveRun(settings, [selection(TRADES, codes=("btcusdt", "nonesuchusdt"))], seconds=3)
        report = run.start()
        (failed,) = report.failed
        assert isinstance(failed.errors[0], PairNotFound)
        assert report.exit_code == 3
        check_trades(box, Store(settings), "binance", BTC, "BTC/USDT")

    def test_with_no_market_at_all_it_ends(self, settings):
        report = LiveRun(settings, [selection(TRADES, codes=("nonesuchusdt",))]).start()
        assert report.exit_code != 0 and isinstance(report.failed[0].errors[0], PairNotFound)

    def test_when_all_is_refused_it_ends(self, settings):
        async def list_markets():
            async with live(settings, "okx") as one:
                await one.rows_of(TRADES, ("btcusdt",))

        asyncio.run(list_markets())
        spec = tables["cryptopair"]
        with Store(settings).connect("okx", spec) as connection:
            known = connection.query("SELECT * FROM cryptopair WHERE code = 'btcusdt'")
            row = known.to_pylist()[0] | {
                "id": "cryptopair_okx_foousdt",
                "entity_id": "cryptopair_okx_foousdt",
                "code": "foousdt",
                "symbol": "FOO/USDT",
                "native_id": "FOO-USDT",
            }
            write_entities(connection, spec, pa.Table.from_pylist([row], known.schema))
        report = LiveRun(settings, [selection(TRADES, provider="okx", codes=("foousdt",))]).start()
        (failed,) = report.failed
        assert "okx does not stream trades of FOO/USDT" in failed.errors[0].message
        assert published(settings) == []

    def test_a_provider_that_streams_nothing(self, settings):
        nothing = Selection("ccxt", (TRADES,), codes=("btcusdt",), exchanges=("gate",))
        with pytest.raises(NotSupported, match="gate is not streamed"):
            LiveRun(settings, [nothing]).start()

    def test_a_depth_that_is_not_streamed(self, settings):
        with pytest.raises(InvalidArgument, match="order books of 5001 levels are not streamed"):
            LiveRun(settings, [selection(BOOKS, depth=5001)]).start()

    def test_what_an_earlier_run_put_aside_is_stored_first(self, box, settings):
        async def leave():
            async with live(settings) as one:
                table = one.table()
                await one.add(table, "btcusdt")
                async with running(table):
                    await until(lambda: answered(one.store, "binance", TRADES, BTC))
                    with locked(one.store.path("binance", TRADES)):
                        await until(lambda: table.queue.backlog.stalled_since)
                        ((_, end),) = answered(one.store, "binance", TRADES, BTC)
                        newest = stored(one.store, "binance", TRADES, BTC)["ts"][-1].as_py()
                        await until(lambda: table.queue.backlog.rows > 30)
                        table.queue._relieve(0)
                        files = {path: path.read_bytes() for path in folder.glob("*.arrow")}
            return end, newest, files

        folder = settings.data_path.parent / "state" / "spill" / "binance-cryptotrade"
        end, newest, files = asyncio.run(asyncio.wait_for(leave(), 30))
        # As if it had been killed then.
        with Store(settings).connect("binance", TRADES) as connection, connection.transaction():
            connection.run(f"DELETE FROM rows WHERE ts > {newest}")
            connection.run("DELETE FROM removed")
            connection.run(f"UPDATE coverage SET stop = {end} WHERE stop > {end}")
        for path, content in files.items():
            path.write_bytes(content)
        seen = []
        LiveRun(settings, [selection(TRADES)], seconds=1, on_status=seen.append).start()
        assert seen[0].tables[0].stored_rows > 30, "before anything is subscribed"
        assert not list(folder.glob("*.arrow"))
        ((_, again), *_) = check_trades(box, Store(settings), "binance", BTC, "BTC/USDT")
        assert again > end


_KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_live_run import *
class Box: url = sys.argv[1]
settings = settings_of(Box, Path(sys.argv[2]), busy_timeout_seconds=0.3)
def on_status(status):
    print(sum(table.stored_rows + table.spilled_rows for table in status.tables), flush=True)
LiveRun(settings, [selection(TRADES, CANDLES, codes=("btcusdt", "ethusdt"))], on_status=on_status).start()
"""


def test_sigkill_at_random_moments_loses_nothing(box, tmp_path, settings):
    """Some with the table locked, so that rows wait in memory and on disk when the process dies."""
    here, moments = Path(__file__), random.Random(20241121)
    command = [sys.executable, "-c", _KILLED, box.url, str(tmp_path), str(here.parent)]
    environment = os.environ | {"PYTHONPATH": str(here.parents[2])}
    began = box.market.now()

    def killed(seconds):
        process = subprocess.Popen(
            command, cwd=here.parents[2], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline()
        time.sleep(seconds)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()

    for number in range(KILLS):
        if number % 3 == 1:
            with locked(Store(settings).path("binance", TRADES)):
                killed(moments.uniform(0.2, 1.5))
        else:
            killed(moments.uniform(0.5, 2.5))

    async def heal():
        async with live(settings) as one:
            table = one.table(overlap_ms=300)
            await one.add(table, "btcusdt", "ethusdt")
            await table.queue.replay()
            async with running(table):
                now = box.market.now()
                for code in ("btcusdt", "ethusdt"):

                    def is_whole(of=f"cryptopair_binance_{code}"):
                        found = answered(one.store, "binance", TRADES, of)
                        return len(found) == 1 and found[0][1] > now

                    await until(is_whole)
        return one.store

    store = asyncio.run(asyncio.wait_for(heal(), 60))
    for code, symbol in (("btcusdt", "BTC/USDT"), ("ethusdt", "ETH/USDT")):
        ((begin, _),) = check_trades(box, store, "binance", f"cryptopair_binance_{code}", symbol)
        assert began <= begin < began + 15_000, "all since the first run"


class TestFunding:
    def test_events_of_before(self, box, settings):

        async def use():
            async with live(settings, "okx") as one:
                table = one.table(FUNDING)
                now = box.market.now()
                (outcome,) = await one.add(table, "btcusdt", start=now - 2 * DAY_MS)
                (series,) = table.series
                async with running(table):
                    await until(lambda: outcome.rows)
                    await until(lambda: one.feed.health_of(series.topic).messages)
                entity_id = outcome.entity_id
                found = stored(one.store, "okx", FUNDING, entity_id)
                assert 5 <= found.num_rows <= 7
                ((begin, end),) = answered(one.store, "okx", FUNDING, entity_id)
                assert begin == now - 2 * DAY_MS and end > now - MINUTE_MS
                return found["ts"].to_pylist()

        times = asyncio.run(asyncio.wait_for(use(), 40))
        assert all(7 * HOUR_MS < b - a < 9 * HOUR_MS for a, b in zip(times, times[1:], strict=False))

    def test_they_are_looked_for_when_the_next_one_is_announced(self, settings):
        async def use():
            async with live(settings, "okx") as one:
                table = one.table(FUNDING)
                await one.add(table, "btcusdt")
                (series,) = table.series
                now = table.now(series)
                # A mark price comes without the time of a payment, and may come first.
                for next_ts in (None, now + HOUR_MS, None, now + HOUR_MS):
                    table.received(Funding(series.topic, now, 1.0, None, next_ts))
                await table.flush()
                assert time.monotonic() + 3_000 < table._ask_at[series], "once an hour"
                table.received(Funding(series.topic, now, 1.0, None, now + 9 * HOUR_MS))
                assert time.monotonic() + 60 > table._ask_at[series], "soon after the one that was due"
                table.table.close()

        asyncio.run(asyncio.wait_for(use(), 40))


def test_statuses_are_json(settings):
    lines = []
    run = LiveRun(
        settings, [selection(CANDLES)], seconds=0.3, on_status=lambda s: lines.append(orjson.dumps(s))
    )
    run.start()
    assert orjson.loads(lines[0])["channels"][0]["table"] == CANDLES.name
