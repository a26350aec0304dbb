"""Every venue's streams, through ccxt.pro's connections over a socket: what comes is what the market has."""

import asyncio
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from places import NOW, PLACES, symbol_of, venue_of

from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import MINUTE_MS
from zvt_crypto.exchanges import schemas
from zvt_crypto.exchanges.base import open_venue
from zvt_crypto.exchanges.streaming import Candles, Funding, Topic, Trades
from zvt_crypto.sandbox import Sandbox, SimulatedMarket
from zvt_crypto.sandbox.events import TradeSpan
from zvt_crypto.stream.bookkeeping import BookKeeper
from zvt_crypto.stream.feed import LiveFeed

STREAMED = [(name, kind) for name, kind in PLACES if venue_of(name).streams is not None]
#: How much faster than time the market is, so that a minute ends while one looks.
SPEED = 20
DEADLINE_SECONDS = 20
SHOWN_LEVELS = 5
#: What the market is ahead of what was known of its clock when a topic became live.
SETTLED_MS = 10_000


class Taken:
    """All that a venue streams of one market, as a listener is told it."""

    def __init__(self):
        self.trades, self.candles, self.fundings = [], [], []
        self.since = {}
        self.books = []

    def received(self, message):
        if isinstance(message, Trades):
            self.trades.extend(message.rows)
        elif isinstance(message, Candles):
            self.candles.extend(message.rows)
        elif isinstance(message, Funding):
            self.fundings.append(message)

    def live(self, topic, since):
        self.since[topic.feed] = since

    def lost(self, topic, reason):
        raise AssertionError(f"{topic} is lost: {reason}")

    def refused(self, topic, error):
        raise error

    def take_book(self, topic, book):
        bids, asks = book.best_bids(SHOWN_LEVELS), book.best_asks(SHOWN_LEVELS)
        self.books.append((book.ts, bids, asks))


@pytest.fixture(scope="module")
def fast():
    began = time.time()
    market = SimulatedMarket(seed=11, now=lambda: int(NOW + (time.time() - began) * 1000 * SPEED))
    with Sandbox(market, tick_ms=20, book_step_ms=1000) as box:
        yield box


async def watch(box, name, kind, folder):
    """What one market's topics brought until a minute was over, and what REST says of it."""
    settings = Settings(data_path=folder / "data", gateway=box.url, rate_limit=False)
    taken = Taken()
    async with open_venue(name, settings) as venue, LiveFeed(venue, settings) as feed:
        found = (await venue.fetch_instruments(kind)).batch.to_pylist()
        row = next(row for row in found if row["symbol"] == symbol_of(name, kind))
        instrument = venue.instrument(row | {"entity_type": kind})
        streams = venue.streams
        depth = next(depth for depth in streams.book_depths[kind] if depth >= SHOWN_LEVELS)
        wanted = [Topic("trades", instrument), Topic("candles", instrument, level="1m")]
        wanted = [topic for topic in [*wanted, Topic("funding", instrument)] if streams.serves(topic)]
        keeper = BookKeeper(venue, feed, taken.take_book, lambda *_: None, lambda topic, error: None)
        async with keeper:
            feed.add(wanted, taken)
            keeper.add([Topic("order_book", instrument, depth=depth)])
            ends = box.market.now() // MINUTE_MS * MINUTE_MS + 2 * MINUTE_MS + 10_000
            deadline = time.monotonic() + DEADLINE_SECONDS
            while time.monotonic() < deadline and (box.market.now() < ends or not taken.books):
                await asyncio.sleep(0.05)
        rows = streams.trades(instrument, taken.trades)
        start, end = pc.min(rows["ts"]).as_py(), pc.max(rows["ts"]).as_py()
        parts = [part async for part in venue.fetch_trades(instrument, start, end)]
        rest = pa.concat_tables(part.rows for part in parts)
        states = streams.candles(instrument, "1m", taken.candles) if taken.candles else None
        page = await venue.fetch_candle_page(instrument, "1m", ends - 10 * MINUTE_MS, ends)
        return taken, instrument, rows, rest, states, page


@pytest.fixture(scope="module")
def watched(fast, tmp_path_factory):
    """Each place is watched once for all tests."""
    known = {}

    def look(name, kind):
        if (name, kind) not in known:
            folder = tmp_path_factory.mktemp("streams")
            known[name, kind] = asyncio.run(watch(fast, name, kind, folder))
        return known[name, kind]

    return look


@pytest.fixture
def seen(watched, place):
    return watched(*place)


pytestmark = pytest.mark.parametrize("place", STREAMED, ids="-".join, scope="module")


def test_trades_are_those_of_the_market(seen, fast):
    taken, instrument, rows, _, _, _ = seen
    assert rows.schema.equals(schemas.TRADES)
    start, end = taken.since["trades"], pc.max(rows["ts"]).as_py()
    source = fast.market.trades(TradeSpan(instrument.symbol, start + SETTLED_MS, end))
    ours = rows.filter(pc.and_(pc.greater_equal(rows["ts"], start + SETTLED_MS), pc.less(rows["ts"], end)))
    assert len(source) > 10
    assert ours.num_rows == len(source)
    assert sorted(ours["ts"].to_pylist()) == source.ts.tolist()
    assert np.allclose(ours["price"].to_numpy(), source.price)


def distinct(trades, ids):
    """The trades of these ids, each once, in order."""
    found = trades.filter(pc.is_in(trades["trade_id"], ids.combine_chunks()))
    once = found.group_by(found.column_names).aggregate([]).select(found.column_names)
    return once.sort_by([("ts", "ascending"), ("trade_id", "ascending")]).combine_chunks()


def test_trades_are_the_rows_that_rest_gives(seen):
    """Streamed and fetched rows merge: same times, ids, prices, volumes and sides."""
    _, _, rows, rest, _, _ = seen
    fetched = distinct(rest, rows["trade_id"])
    assert fetched.num_rows > 5
    assert distinct(rows, fetched["trade_id"]).equals(fetched)


def test_finished_candles_are_those_of_rest(seen, place):
    taken, instrument, _, _, states, page = seen
    if states is None:
        assert not venue_of(place[0]).streams.serves(Topic("candles", instrument, level="1m"))
        return
    assert [n for n in states.column_names if n != "is_closed"] == page.column_names
    newest = max(states["ts"].to_pylist())
    last = {row["ts"]: row for row in states.to_pylist() if row["ts"] < newest}
    fetched = {row["ts"]: row for row in page.to_pylist() if row["ts"] in last}
    assert fetched
    for ts, row in fetched.items():
        streamed = last[ts]
        assert streamed["is_closed"] in (True, None)
        for name in ("open", "high", "low", "close", "volume"):
            assert streamed[name] == pytest.approx(row[name], rel=1e-12), (ts, name)
        for name in set(row) - {"ts", "open", "high", "low", "close", "volume"}:
            assert streamed[name] is None or streamed[name] == pytest.approx(row[name], rel=1e-9), (ts, name)


def test_books_are_those_of_the_market(seen, fast):
    taken, instrument, _, _, _, _ = seen
    assert len(taken.books) > 5
    timed = [book for book in taken.books if book[0] is not None]
    for ts, bids, asks in timed[-20:]:
        state = fast.market.book(instrument.symbol, SHOWN_LEVELS, ts)
        assert np.allclose([price for price, _ in bids], state.bids[:, 0])
        assert np.allclose([price for price, _ in asks], state.asks[:, 0])
        assert np.allclose([amount for _, amount in bids], state.bids[:, 1], rtol=1e-6)
    for _, bids, asks in taken.books:
        assert bids[0][0] < asks[0][0]


def test_perpetuals_tell_what_the_next_funding_would_be(seen, place):
    taken, instrument, _, _, _, _ = seen
    topic = Topic("funding", instrument)
    if not venue_of(place[0]).streams.serves(topic):
        assert place[1] == "cryptopair"
        return
    assert any(message.mark_price for message in taken.fundings)
    assert any(message.rate is not None for message in taken.fundings)
    due = [message.next_ts for message in taken.fundings if message.next_ts is not None]
    assert all(ts > NOW for ts in due)
