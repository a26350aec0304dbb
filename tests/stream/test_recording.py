"""Trades from the streams into the table: whatever happens, what the ledger has is what the market had."""

import asyncio
import logging

import pyarrow as pa
import pytest
from live_helpers import (
    QUICK,
    TRADES,
    Meeting,
    answered,
    check_trades,
    key_of,
    ledger,
    live,
    locked,
    running,
    settings_of,
    stored,
    until,
)

from zvt_crypto.core.errors import StoreCorrupt
from zvt_crypto.exchanges.binance_streams import BinanceStreams
from zvt_crypto.exchanges.streaming import Trades
from zvt_crypto.recorders.report import Outcome
from zvt_crypto.sandbox import SimulatedMarket
from zvt_crypto.store import coverage
from zvt_crypto.store.writer import Entity
from zvt_crypto.stream.feed import State
from zvt_crypto.stream.pagequeue import PageQueue

BTC, ETH = "cryptopair_binance_btcusdt", "cryptopair_binance_ethusdt"
SECOND = 1_000
#: What is fetched may be asked for again soon.
EAGER = {"poll_seconds": 0.7, "retry_seconds": 0.1, "overlap_ms": 300}


@pytest.fixture(scope="module")
def market():
    return SimulatedMarket(21)


@pytest.fixture
def recording(box, tmp_path):
    """Runs ``await use(one)`` with a provider that is open."""

    def run(use, provider="binance", timing=QUICK, **settings):
        async def main():
            async with live(settings_of(box, tmp_path, **settings), provider, timing=timing) as one:
                return await use(one)

        return asyncio.run(asyncio.wait_for(main(), 60))

    return run


def spans(one, entity_id=BTC):
    return answered(one.store, one.venue.name, TRADES, entity_id)


def sources(one, entity_id=BTC):
    return ledger(one.store, one.venue.name, TRADES, entity_id)


def reached(one, ts, entity_id=BTC, since=None):
    """Whether the ledger goes as far as that without a hole."""
    found = spans(one, entity_id)
    return len(found) == 1 and found[0][1] > ts and (since is None or found[0][0] == since)


async def keep_on(one, box, *entity_ids, since=None):
    """Wait until the ledger has all from a time, or from where it begins, to now."""
    now = box.market.now()
    for entity_id in entity_ids or (BTC,):
        await until(lambda entity_id=entity_id: reached(one, now, entity_id, since))


class TestSeams:
    def test_an_empty_table_begins_with_the_stream(self, box, recording):
        async def use(one):
            table = one.table(**EAGER)
            (outcome,) = await one.add(table, "btcusdt")
            box.forget_requests()
            async with running(table):
                await keep_on(one, box)
            ((begin, end),) = check_trades(box, one.store, "binance", BTC, "BTC/USDT")
            assert list(sources(one)) == ["stream"]
            assert not [request for request in box.requests if "aggTrades" in request.path]
            rows = stored(one.store, "binance", TRADES, BTC)
            assert outcome.rows >= rows.num_rows > 0
            assert rows["trade_id"].to_pylist() == sorted(set(rows["trade_id"].to_pylist()), key=int)

        recording(use)

    def test_a_start_in_the_past_is_joined(self, box, recording):
        async def use(one):
            table, start = one.table(), box.market.now() - 180 * SECOND
            await one.add(table, "btcusdt", "ethusdt", start=start)
            async with running(table):
                await keep_on(one, box, BTC, ETH, since=start)
                for entity_id in (BTC, ETH):
                    await until(lambda of=entity_id: set(sources(one, of)) == {"rest", "stream"})
            for entity_id, symbol in ((BTC, "BTC/USDT"), (ETH, "ETH/USDT")):
                ((begin, _),) = check_trades(box, one.store, "binance", entity_id, symbol)
                assert begin == start

        recording(use)

    def test_a_pause_is_made_up_for(self, box, recording):
        async def use(one):
            first = one.table(**EAGER)
            await one.add(first, "btcusdt")
            async with running(first):
                await keep_on(one, box)
            ((begin, end),) = spans(one)
            await asyncio.sleep(1.5)
            second = one.table(**EAGER)
            await one.add(second, "btcusdt")
            async with running(second):
                await keep_on(one, box)
                await until(lambda: len(sources(one)["stream"]) == 2)
            ((again, _),) = check_trades(box, one.store, "binance", BTC, "BTC/USDT")
            assert again == begin
            ((first_fetched, last_fetched),) = sources(one)["rest"]
            assert first_fetched == end and last_fetched > end + 1_500

        recording(use)

    def test_holes_of_the_last_day_are_healed_at_the_start(self, box, recording):
        async def use(one):
            table, now = one.table(), box.market.now()
            await one.add(table, "btcusdt", start=now - 60 * SECOND)
            async with running(table):
                await keep_on(one, box, since=now - 60 * SECOND)
            with one.store.connect("binance", TRADES) as connection:
                key = key_of(one.store, "binance", TRADES, BTC)
                hole = (now - 40 * SECOND, now - 30 * SECOND)
                with connection.transaction():
                    coverage.forget(connection, key, hole)
                    connection.run(
                        f"DELETE FROM rows WHERE entity = {key} AND ts >= {hole[0]} AND ts < {hole[1]}"
                    )
            assert len(spans(one)) == 2
            table = one.table(**EAGER)
            await one.add(table, "btcusdt")
            async with running(table):
                await keep_on(one, box)
            check_trades(box, one.store, "binance", BTC, "BTC/USDT")

        recording(use)

    def test_rows_from_before_the_ledger_are_joined_with_it(self, box, recording):
        """A process may end before what came between its start and the first live moment is fetched."""

        async def use(one):
            table, start = one.table(), box.market.now() - 60 * SECOND
            await one.add(table, "btcusdt", start=start)
            async with running(table):
                await keep_on(one, box, since=start)
            key = key_of(one.store, "binance", TRADES, BTC)
            with one.store.connect("binance", TRADES) as connection, connection.transaction():
                coverage.forget(connection, key, (start, start + 20 * SECOND))
                connection.run(
                    f"DELETE FROM rows WHERE entity = {key}"
                    f" AND ts >= {start + 10 * SECOND} AND ts < {start + 20 * SECOND}"
                )
            first = stored(one.store, "binance", TRADES, BTC)["ts"][0].as_py()
            table = one.table(**EAGER)
            await one.add(table, "btcusdt")
            async with running(table):
                await keep_on(one, box)
                await until(lambda: spans(one)[0][0] == first)
                await keep_on(one, box, since=first)
            check_trades(box, one.store, "binance", BTC, "BTC/USDT")

        recording(use)

    def test_each_lost_connection_is_made_up_for(self, box, recording):
        async def use(one):
            table = one.table(**EAGER)
            await one.add(table, "btcusdt", "ethusdt")
            async with running(table):
                await keep_on(one, box, BTC, ETH)
                for number in range(1, 4):
                    await until(lambda: one.feed.connections)
                    box.drop_connections()
                    await until(lambda number=number: one.feed.reconnects == number)
                await keep_on(one, box, BTC, ETH)
            assert one.feed.reconnects == 3
            check_trades(box, one.store, "binance", BTC, "BTC/USDT")
            check_trades(box, one.store, "binance", ETH, "ETH/USDT")
            assert set(sources(one)) == {"rest", "stream"}

        recording(use)

    def test_a_stream_that_stays_away_is_replaced_by_requests(self, box, recording):
        async def use(one):
            table = one.table(**EAGER)
            await one.add(table, "btcusdt")
            async with running(table):
                await keep_on(one, box)
                box.faults = ["ws_refuse"]
                box.drop_connections()
                await until(lambda: one.feed.health()[0].state is State.LOST)
                lost_at = box.market.now()
                # Farther than what comes back with the stream.
                await until(lambda: reached(one, lost_at + SECOND))
                assert one.feed.health()[0].state is State.LOST
                box.faults = []
                await keep_on(one, box)
            check_trades(box, one.store, "binance", BTC, "BTC/USDT")

        recording(use)

    def test_one_that_is_lost_again_and_again_is_fetched_all_the_same(self, box, recording):
        """Each time it is live, a little more is to be fetched; that must not put it all off for ever."""

        async def use(one):
            table = one.table(**EAGER)
            start = box.market.now() - 120 * SECOND
            (outcome,) = await one.add(table, "btcusdt", start=start)

            async def lose():
                while True:
                    await asyncio.sleep(0.2)
                    one.feed.renew(table.series[0].topic, "a test")

            async with running(table):
                await until(lambda: one.feed.health_of(table.series[0].topic))
                losing = asyncio.create_task(lose())
                await until(lambda: outcome.requests)
                losing.cancel()
                await keep_on(one, box, since=start)
            check_trades(box, one.store, "binance", BTC, "BTC/USDT")

        recording(use)


def test_it_ends_when_told_at_whatever_moment_enough_has_gathered(recording):
    async def use(one):
        for steps in range(6):
            table = one.table()
            await one.add(table, "btcusdt")
            task = asyncio.create_task(table.run())
            await asyncio.sleep(0.05)
            table._full.set()
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            ended, _ = await asyncio.wait({task}, timeout=10)
            assert ended, f"it goes on when it is cancelled {steps} steps after"

    recording(use)


class TestRequestsThatFail:
    def test_they_are_made_again(self, box, recording, caplog):
        async def use(one):
            table = one.table(**EAGER)
            start = box.market.now() - 20 * SECOND
            await one.add(table, "btcusdt", start=start)
            box.faults = ["status:500,path=aggTrades,times=6"]
            async with running(table):
                await keep_on(one, box, since=start)
            check_trades(box, one.store, "binance", BTC, "BTC/USDT")

        with caplog.at_level(logging.WARNING, "zvt_crypto"):
            recording(use)
        assert "is fetched again in 0 s" in caplog.text

    def test_an_exchange_that_answers_nothing_at_all_ends_nothing(self, box, recording, caplog):
        async def know(one):
            await one.rows_of(TRADES, ("btcusdt",))

        async def use(one):
            # Not even its time, without which it is not known what may be asked for.
            box.faults = ["status:503,path=api.binance.com"]
            table, start = one.table(**EAGER), box.market.now() - 20 * SECOND
            await one.add(table, "btcusdt", start=start)
            async with running(table) as task:
                await until(lambda: "the exchange's time cannot be asked for" in caplog.text)
                assert not task.done()
                box.faults = []
                await keep_on(one, box, since=start)
            check_trades(box, one.store, "binance", BTC, "BTC/USDT")

        recording(know)
        with caplog.at_level(logging.INFO, "zvt_crypto"):
            recording(use)

    def test_what_the_venue_has_forgotten_stays_a_gap_that_is_told(self, box, recording, caplog):
        """Bybit serves its newest trades only."""
        entity_id = "cryptopair_bybit_btcusdt"

        async def use(one):
            first = one.table(**EAGER)
            await one.add(first, "btcusdt")
            async with running(first):
                await until(lambda: spans(one, entity_id))
            ((_, end),) = spans(one, entity_id)
            # More than its page of sixty holds.
            await asyncio.sleep(3)
            second = one.table(**EAGER)
            (outcome,) = await one.add(second, "btcusdt")
            async with running(second):
                await until(lambda: second.series[0].gaps)
            found = check_trades(box, one.store, "bybit", entity_id, "BTC/USDT")
            assert found[0][1] == end, "the gap is not in the ledger"
            assert not outcome.errors and "only its newest" not in str(outcome.errors)
            assert any("bybit serves no trades of BTC/USDT for" in note for note in outcome.notes)

        with caplog.at_level(logging.WARNING, "zvt_crypto"):
            recording(use, "bybit")
        assert "cryptopair_bybit_btcusdt: a gap stays: bybit serves no trades of BTC/USDT" in caplog.text


class TestFaultySymbols:
    def test_one_that_the_venue_refuses_takes_no_other_down(self, box, recording):
        entity_id = "cryptopair_okx_btcusdt"

        async def use(one):
            table = one.table(**EAGER)
            (good,) = await one.add(table, "btcusdt")
            # The venue has forgotten a market that is listed here.
            row = (await one.rows_of(TRADES, ("ethusdt",)))[0]
            gone = {**row, "entity_id": "cryptopair_okx_foousdt", "code": "foousdt", "native_id": "FOO-USDT"}
            bad = await add_row(one, table, gone | {"symbol": "FOO/USDT"})
            async with running(table):
                await keep_on(one, box, entity_id)
                await until(lambda: bad.errors)
            assert not good.errors
            assert "okx does not stream trades of FOO/USDT" in bad.errors[0].message
            check_trades(box, one.store, "okx", entity_id, "BTC/USDT")

        recording(use, "okx")

    def test_rows_that_cannot_be_true_are_fetched_and_not_entered(self, box, recording):
        async def use(one):
            table = one.table(**EAGER)
            (outcome,) = await one.add(table, "btcusdt")
            (series,) = table.series
            async with running(table):
                await keep_on(one, box)
                # A trade of the stream comes with a price below zero.
                received, spoiled = table.received, []

                def spoil(message):
                    if isinstance(message, Trades) and not spoiled:
                        spoiled.append(message.rows[0].ts)
                        message = Trades(message.topic, [with_price(row, -1.0) for row in message.rows])
                    received(message)

                table.received = spoil
                await until(lambda: spoiled and table.rejected)
                await keep_on(one, box)
            check_trades(box, one.store, "binance", BTC, "BTC/USDT")
            assert any("rows that cannot be true" in note for note in outcome.notes)
            assert any(a <= spoiled[0] < b for a, b in sources(one)["rest"])

        recording(use)


def with_price(row, price):
    return type(row)(row.symbol, row.id, price, row.amount, row.ts, row.buyer_is_maker)


async def add_row(one, table, row):
    outcome = Outcome(table.spec.name, row["entity_id"])
    entity = Entity(row["entity_id"], row["code"], row["name"])
    await table.add(one.venue.instrument(row), entity, outcome, None)
    return outcome


class TestStorage:
    def test_a_locked_table_delays_and_loses_nothing(self, box, recording):
        async def use(one):
            table = one.table(**EAGER)
            await one.add(table, "btcusdt")
            async with running(table):
                await keep_on(one, box)
                with locked(one.store.path("binance", TRADES)):
                    await until(lambda: table.queue.backlog.stalled_since)
                    await until(lambda: table.queue.backlog.rows > 20)
                await keep_on(one, box)
                assert table.queue.backlog.stalled_since is None
            check_trades(box, one.store, "binance", BTC, "BTC/USDT")
            assert list(sources(one)) == ["stream"]

        recording(use)

    def test_what_is_given_up_is_fetched_again(self, box, recording, tmp_path, caplog):
        async def use(one):
            table = one.table(**EAGER)
            full = tmp_path / "full"
            full.write_text("")  # no folder can be made there
            table.queue = PageQueue(
                table.table, full, table._dropped, most_rows=5, most_rows_at_all=20, retry_seconds=0.05
            )
            await one.add(table, "btcusdt")
            async with running(table):
                await keep_on(one, box)
                with locked(one.store.path("binance", TRADES)):
                    await until(lambda: table.queue.backlog.dropped_rows > 20)
                await keep_on(one, box)
            check_trades(box, one.store, "binance", BTC, "BTC/USDT")
            assert set(sources(one)) == {"rest", "stream"}

        with caplog.at_level(logging.ERROR, "zvt_crypto"):
            recording(use)
        assert "rows are given up, to be fetched again" in caplog.text

    def test_a_table_that_cannot_be_written_ends_the_run(self, box, recording):
        async def use(one):
            table = one.table(**EAGER)
            await one.add(table, "btcusdt")
            task = asyncio.create_task(table.run())
            await until(lambda: table.queue.backlog.stored_rows)
            path = one.store.path("binance", TRADES)
            for file in path.parent.glob(f"{path.name}*"):
                with file.open("r+b") as content:
                    content.write(b"\x00" * file.stat().st_size)
            await until(task.done)
            assert isinstance(task.exception(), StoreCorrupt)

        recording(use)


#: What goes wrong, one after the other, and what of a feed counts it.
FAULTS = {
    "ws_skip,every=7": None,
    "ws_duplicate,every=2": None,
    "ws_reorder,every=3": None,
    "ws_flood:30,every=5": None,
    "ws_checksum": None,
    "ws_silence:0.5,times=1": None,
    "ws_rename:{field},every=9": "unreadable",
    "ws_garbage,every=9": "unreadable",
    "ws_disconnect,every=20": "reconnects",
    "ws_disconnect:1012,every=20": "reconnects",
    "ws_disconnect,times=1;ws_refuse:503,times=2": "reconnects",
}
#: Symbol, code, host, and a field that trades need, by venue.
VENUES = {
    "binance": ("BTC/USDT", "btcusdt", "stream.binance.com", "p"),
    "coinbase": ("BTC/USD", "btcusd", "advanced-trade-ws.coinbase.com", "price"),
    "okx": ("BTC/USDT", "btcusdt", "ws.okx.com", "px"),
    "kraken": ("BTC/USD", "btcusd", "ws.kraken.com", "price"),
    "cryptocom": ("BTC/USDT", "btcusdt", "stream.crypto.com", "p"),
    "kucoin": ("BTC/USDT", "btcusdt", "ws-api-spot.kucoin.com", "price"),
    "bybit": ("BTC/USDT", "btcusdt", "stream.bybit.com", "p"),
}
#: Nothing that these send counts, so a message that they lose themselves cannot be missed.
UNCOUNTED = {"cryptocom", "kucoin", "bybit"}
#: These serve their newest trades only: what is older stays a gap.
RECENT = {"kucoin", "bybit"}


def faults_of(texts):
    """The same faults for each venue, counted apart."""
    return [
        f"{text.format(field=field)},path={host}"
        for provider, (_, _, host, field) in VENUES.items()
        for text in texts.split(";")
        if not (provider in UNCOUNTED and text.startswith(("ws_skip", "ws_silence")))
    ]


def test_every_fault_alone_and_all_together(box, tmp_path):
    meeting = Meeting(len(VENUES))

    async def phase(texts):
        """Set faults once all venues are here."""
        if await meeting.wait():
            box.faults = texts
        await meeting.wait()

    async def record(provider):
        symbol, code, _, _ = VENUES[provider]
        entity_id = f"cryptopair_{provider}_{code}"
        async with live(settings_of(box, tmp_path), provider) as one:
            table = one.table(**EAGER)
            (outcome,) = await one.add(table, code)
            async with running(table):
                await keep_on(one, box, entity_id)
                for texts, counter in FAULTS.items():
                    before = getattr(one.feed, counter) if counter else 0
                    await phase(faults_of(texts))
                    await asyncio.sleep(0.2)
                    if counter:
                        await until(lambda n=before, c=counter: getattr(one.feed, c) > n)
                await phase([f"{text},probability=0.2" for texts in FAULTS for text in faults_of(texts)])
                await asyncio.sleep(1)
                await phase([])
                now = box.market.now()
                if provider in RECENT:
                    await until(lambda: spans(one, entity_id)[-1][1] > now)
                else:
                    await keep_on(one, box, entity_id)
            check_trades(box, one.store, provider, entity_id, symbol)
            assert not outcome.errors and table.rejected == 0

    async def main():
        await asyncio.gather(*map(record, VENUES))

    asyncio.run(asyncio.wait_for(main(), 90))


def test_ids_that_are_no_numbers_are_not_counted(box, recording):
    """Bybit's are none; its stream tells of no hole, so none is asked for."""
    assert not BinanceStreams.consecutive_ids.isdisjoint({"cryptopair"})

    async def use(one):
        table = one.table(**EAGER)
        await one.add(table, "btcusdt")
        async with running(table):
            await until(lambda: spans(one, "cryptopair_bybit_btcusdt"))
        check_trades(box, one.store, "bybit", "cryptopair_bybit_btcusdt", "BTC/USDT")
        assert pa.types.is_string(TRADES.schema.field("trade_id").type)

    recording(use, "bybit")
