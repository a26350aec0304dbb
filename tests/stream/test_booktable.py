"""Snapshots of live order books in their table: at the pace and depth chosen, and only of books in step."""

import asyncio
import json
import logging

import pytest
from live_helpers import live, running, settings_of, stored, until

from zvt_crypto.core.errors import InvalidArgument, StoreCorrupt
from zvt_crypto.core.tables import tables
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.binance_streams import BinanceStreams
from zvt_crypto.exchanges.kraken_streams import KrakenStreams
from zvt_crypto.recorders.report import Outcome
from zvt_crypto.sandbox import SimulatedMarket
from zvt_crypto.store.writer import Entity
from zvt_crypto.stream.books import BookState
from zvt_crypto.stream.booktable import streamed_depth
from zvt_crypto.stream.status import status_of

SPEC = tables["cryptoorderbook"]
EVERY = 0.2


@pytest.fixture(scope="module")
def market():
    return SimulatedMarket(31)


@pytest.fixture
def recording(box, tmp_path):
    """Runs ``await use(one)`` with a provider that is open."""

    def run(use, provider="okx"):
        async def main():
            async with live(settings_of(box, tmp_path), provider) as one:
                return await use(one)

        return asyncio.run(asyncio.wait_for(main(), 60))

    return run


def books_of(one, entity_id):
    rows = stored(one.store, one.venue.name, SPEC, entity_id).to_pylist()
    sides = ("bids", "asks")
    return [row | {side: [tuple(level) for level in json.loads(row[side])] for side in sides} for row in rows]


def check_books(box, one, entity_id, symbol, depth):
    """Each snapshot is a state that the market's book had; how many there are."""
    found = books_of(one, entity_id)
    step = box.market.book_step_ms
    for row in found:
        book = box.market.book(symbol, 400, row["sequence"] * step)
        assert book.sequence == row["sequence"]
        assert row["bids"] == [tuple(level) for level in book.bids[:depth].tolist()]
        assert row["asks"] == [tuple(level) for level in book.asks[:depth].tolist()]
        assert (row["best_bid"], row["best_ask"]) == (row["bids"][0][0], row["asks"][0][0])
        assert row["depth"] == depth
    assert len({row["ts"] for row in found}) == len(found)
    return len(found)


@pytest.mark.parametrize(("provider", "depth"), [("okx", 7), ("binance", None)])
def test_at_the_pace_and_depth_chosen(box, recording, provider, depth):
    codes = ("btcusdt", "ethusdt")

    async def use(one):
        table = one.books(SPEC, depth=depth, every=EVERY)
        outcomes = await one.add(table, *codes)
        async with running(table):
            await until(lambda: all(outcome.rows >= 6 for outcome in outcomes))
        for code, outcome in zip(codes, outcomes, strict=True):
            symbol = f"{code[:3].upper()}/USDT"
            count = check_books(box, one, f"cryptopair_{provider}_{code}", symbol, depth or 20)
            assert count == outcome.rows
            times = [row["ts"] for row in books_of(one, f"cryptopair_{provider}_{code}")]
            # A snapshot is of the last change before its turn, and there is one in each turn.
            assert times[-1] - times[0] > (len(times) - 2) * EVERY * 1000

    recording(use, provider)


def test_a_book_that_loses_its_place_is_not_stored_until_it_is_in_step_again(box, recording):
    async def use(one):
        table = one.books(SPEC, depth=10, every=0.05)
        (outcome,) = await one.add(table, "btcusdt")
        (series,) = table.series

        def book():
            return table.keeper.books[series.topic]

        async with running(table):
            await until(lambda: outcome.rows > 3)
            box.faults = ["ws_skip,every=9"]
            await until(lambda: sum(book().resyncs.values()) >= 2)
            box.faults = ["ws_refuse"]
            box.drop_connections()
            await until(lambda: book().state is BookState.STALE)
            await asyncio.sleep(0.1)
            rows = outcome.rows
            await asyncio.sleep(0.3)
            assert outcome.rows == rows, "nothing is stored of a book that is not in step"
            (channel,) = status_of([one.feed], [table], 0.0).channels
            assert (channel.state, channel.rows) == ("lost", rows)
            assert channel.resyncs >= 2
            box.faults = []
            await until(lambda: outcome.rows > rows + 3)
            (channel,) = status_of([one.feed], [table], 0.0).channels
            assert channel.state == "live"
        check_books(box, one, "cryptopair_okx_btcusdt", "BTC/USDT", 10)

    recording(use)


def test_snapshots_over_rest_that_fail_are_asked_for_again(box, recording):
    async def use(one):
        table = one.books(SPEC, depth=5, every=EVERY)
        (outcome,) = await one.add(table, "btcusdt")
        box.faults = ["status:500,path=depth,times=4"]
        async with running(table):
            await until(lambda: outcome.rows > 2)
        check_books(box, one, "cryptopair_binance_btcusdt", "BTC/USDT", 5)

    recording(use, "binance")


def test_one_that_the_venue_refuses_takes_no_other_down(box, recording):
    async def use(one):
        table = one.books(SPEC, depth=5, every=EVERY)
        (good,) = await one.add(table, "btcusdt")
        bad = Outcome(SPEC.name, "cryptopair_okx_foousdt")
        unknown = Instrument("cryptopair", "foousdt", "FOO/USDT", "FOO-USDT")
        await table.add(unknown, Entity(bad.entity_id, "foousdt", "FOO/USDT"), bad)
        async with running(table):
            await until(lambda: bad.errors and good.rows > 2)
            states = {
                channel.entity_id: channel.state for channel in status_of([one.feed], [table], 0).channels
            }
            assert states == {"cryptopair_okx_btcusdt": "live", "cryptopair_okx_foousdt": "refused"}
        assert "okx does not stream order_book 400 of FOO/USDT" in bad.errors[0].message

    recording(use)


def test_a_table_that_cannot_be_written_ends_the_run(box, recording):
    async def use(one):
        table = one.books(SPEC, depth=5, every=0.05)
        await one.add(table, "btcusdt")
        task = asyncio.create_task(table.run())
        await until(lambda: table.queue.backlog.stored_rows)
        path = one.store.path("okx", SPEC)
        for file in path.parent.glob(f"{path.name}*"):
            with file.open("r+b") as content:
                content.write(b"\x00" * file.stat().st_size)
        await until(task.done)
        assert isinstance(task.exception(), StoreCorrupt)

    recording(use)


@pytest.mark.parametrize(
    ("streams", "kind", "wanted", "depth"),
    [
        (KrakenStreams(), "cryptopair", 1, 10),
        (KrakenStreams(), "cryptopair", 10, 10),
        (KrakenStreams(), "cryptopair", 11, 25),
        (KrakenStreams(), "cryptopair", 1000, 1000),
        (BinanceStreams(), "cryptopair", 20, 5000),
    ],
)
def test_the_smallest_depth_that_holds_the_wanted_one_is_subscribed(streams, kind, wanted, depth):
    assert streamed_depth(streams, kind, wanted) == depth


def test_a_depth_that_is_not_streamed_is_told(box, recording, caplog):
    with pytest.raises(InvalidArgument, match="order books of 1001 levels are not streamed") as caught:
        streamed_depth(KrakenStreams(), "cryptopair", 1001)
    assert caught.value.suggestions == ("allowed: at most 1000",)
    with pytest.raises(InvalidArgument):
        streamed_depth(KrakenStreams(), "nothing", 1)

    async def use(one):
        table = one.books(SPEC, depth=401, every=EVERY)
        try:
            with pytest.raises(InvalidArgument):
                await one.add(table, "btcusdt")
        finally:
            table.table.close()

    with caplog.at_level(logging.ERROR):
        recording(use)
    assert not caplog.records
