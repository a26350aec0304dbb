"""Books are begun, and begun anew, from answers over a socket; the feed's calls are made by the tests."""

import asyncio
import json

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import OrderBookDesync, PairNotFound
from zvt_crypto.exchanges.base import Instrument, open_venue
from zvt_crypto.exchanges.books import LEVEL, book_side, order_book_row
from zvt_crypto.exchanges.streaming import BookUpdate, Topic, Trades
from zvt_crypto.sandbox import Sandbox
from zvt_crypto.sandbox.market import BOOK_STEP_MS
from zvt_crypto.stream.bookkeeping import BookKeeper, as_streamed
from zvt_crypto.stream.books import BookState
from zvt_crypto.stream.feed import LiveFeed

LIVE, STALE, SYNCING = BookState.LIVE, BookState.STALE, BookState.SYNCING
PAIR = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTCUSDT")
TOPIC = Topic("order_book", PAIR, depth=5000)
OKX_TOPIC = Topic("order_book", Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTC-USDT"), depth=400)


class Depth:
    """Binance's REST as far as books need it; a test says what each answer is, and may hold it back."""

    def __init__(self):
        self.answers = []
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.count = 0

    def tell(self, last, bids=((99, 1),), asks=((100, 1),)):
        self.answers.append((200, {"lastUpdateId": last, "bids": list(bids), "asks": list(asks)}))

    async def handle(self, request):
        if not request.path.endswith("/depth"):
            return web.json_response({"serverTime": 1_700_000_000_000})
        assert request.query["symbol"] == "BTCUSDT"
        self.count += 1
        self.asked.set()
        await self.may_answer.wait()
        status, body = self.answers.pop(0)
        return web.Response(status=status, text=json.dumps(body), content_type="application/json")


class Heard:
    """A feed as far as a keeper needs it, and what the keeper says."""

    def __init__(self):
        self.subscribed, self.renewed, self.said = [], [], []
        self.keeper = None

    def add(self, topics, listener):
        self.subscribed.extend(topics)
        self.keeper = listener

    def remove(self, topics, listener):
        for topic in topics:
            self.subscribed.remove(topic)

    def renew(self, topic, reason):
        self.renewed.append(reason)
        self.keeper.lost(topic, reason)

    def on_book(self, topic, book):
        self.said.append(("book", book.last))

    def on_stale(self, topic, reason):
        self.said.append(("stale", reason))

    def on_refused(self, topic, error):
        self.said.append(("refused", error))

    async def until(self, said):
        while said not in self.said:
            await asyncio.sleep(0.001)


def change(last, first=None, bids=(), asks=(), of=TOPIC, **told):
    bids, asks = ([(float(price), float(amount)) for price, amount in side] for side in (bids, asks))
    return BookUpdate(of, False, bids, asks, last=last, first=first or last, **told)


@pytest.fixture
def keeping(tmp_path):
    """Runs ``await use(keeper, heard, depth)`` with a keeper of a venue on a server of the test's own."""

    def run(use, provider="binance", **told):
        async def main():
            depth, heard = Depth(), Heard()
            runner = web.ServerRunner(web.Server(depth.handle), shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            settings = Settings(
                data_path=tmp_path / "data",
                gateway=f"http://127.0.0.1:{runner.addresses[0][1]}",
                rate_limit=False,
                max_attempts=1,
                retry_wait_seconds=0.01,
            )
            said = heard.on_book, heard.on_stale, heard.on_refused
            try:
                async with (
                    open_venue(provider, settings) as venue,
                    BookKeeper(venue, heard, *said, first_wait=0.01, **told) as keeper,
                ):
                    return await use(keeper, heard, depth)
            finally:
                await runner.cleanup()

        return asyncio.run(main())

    return run


def begun(keeper, topic=TOPIC):
    keeper.add([topic])
    keeper.live(topic, 0)
    return keeper.books[topic]


class TestByRest:
    """Binance: the snapshot comes over REST."""

    def test_updates_wait_for_the_snapshot(self, keeping):
        async def use(keeper, heard, depth):
            depth.may_answer.clear()
            depth.tell(10, bids=[(99, 1), (98, 2)])
            book = begun(keeper)
            await depth.asked.wait()
            for last in range(9, 14):
                keeper.received(change(last, bids=[(99, last)]))
            assert (book.state, heard.said) == (SYNCING, [])
            depth.may_answer.set()
            await heard.until(("book", 13))
            assert book.best_bids(5) == [(99.0, 13.0), (98.0, 2.0)]
            keeper.received(change(14, bids=[(98, 0)]))
            assert heard.said == [("book", 13), ("book", 14)]
            assert (book.best_bids(5), depth.count) == ([(99.0, 13.0)], 1)

        keeping(use)

    def test_a_snapshot_older_than_the_updates_is_asked_for_again(self, keeping):
        async def use(keeper, heard, depth):
            depth.may_answer.clear()
            for last in (5, 6, 21):
                depth.tell(last)
            book = begun(keeper)
            await depth.asked.wait()
            keeper.received(change(last=20, first=15))
            keeper.received(change(last=25, first=21, bids=[(99, 7)]))
            depth.may_answer.set()
            await heard.until(("book", 25))
            assert (book.best_bids(1), depth.count) == ([(99.0, 7.0)], 3)
            assert book.resyncs == {"old_snapshot": 2}
            assert heard.said == [("book", 25)]

        keeping(use)

    def test_a_gap_among_the_waiting_updates_needs_a_snapshot_from_after_it(self, keeping):
        async def use(keeper, heard, depth):
            depth.may_answer.clear()
            depth.tell(10)
            depth.tell(31)
            book = begun(keeper)
            await depth.asked.wait()
            for first, last in [(10, 12), (20, 30), (31, 40)]:
                keeper.received(change(last, first))
            depth.may_answer.set()
            await heard.until(("book", 40))
            assert book.resyncs == {"gap": 1}

        keeping(use)

    def test_a_gap_is_told_once_and_mended(self, keeping):
        async def use(keeper, heard, depth):
            depth.tell(10)
            book = begun(keeper)
            await heard.until(("book", 10))
            depth.may_answer.clear()
            depth.tell(16, bids=[(99, 6)])
            keeper.received(change(11))
            keeper.received(change(13))
            assert book.state is STALE
            with pytest.raises(OrderBookDesync):
                book.best_bids(1)
            keeper.received(change(14))
            keeper.received(change(17, first=15, bids=[(98, 1)]))
            depth.may_answer.set()
            await heard.until(("book", 17))
            assert book.best_bids(5) == [(99.0, 6.0), (98.0, 1.0)]
            assert [kind for kind, _ in heard.said] == ["book", "book", "stale", "book"]
            assert book.resyncs == {"gap": 1}

        keeping(use)

    def test_what_comes_while_the_stream_is_lost_counts_for_nothing(self, keeping):
        async def use(keeper, heard, depth):
            depth.tell(10)
            book = begun(keeper)
            await heard.until(("book", 10))
            keeper.lost(TOPIC, "closed")
            keeper.lost(TOPIC, "closed")
            keeper.received(change(11))
            await asyncio.sleep(0.05)
            assert (book.state, depth.count) == (STALE, 1)
            depth.tell(20)
            keeper.live(TOPIC, 0)
            await heard.until(("book", 20))
            assert heard.said == [("book", 10), ("stale", "closed"), ("book", 20)]
            assert book.resyncs == {"lost": 1}

        keeping(use)

    def test_a_snapshot_that_comes_after_the_stream_is_lost_is_dropped(self, keeping):
        async def use(keeper, heard, depth):
            depth.may_answer.clear()
            depth.tell(10)
            book = begun(keeper)
            await depth.asked.wait()
            keeper.lost(TOPIC, "closed")
            depth.may_answer.set()
            await asyncio.sleep(0.1)
            assert (book.state, heard.said) == (SYNCING, [])

        keeping(use)

    def test_a_cut_snapshot_is_renewed_without_becoming_stale(self, keeping):
        async def use(keeper, heard, depth):
            levels = [(99 - i / 100, 1) for i in range(5000)]
            depth.tell(10, bids=levels)
            book = begun(keeper)
            await heard.until(("book", 10))
            depth.may_answer.clear()
            depth.tell(11, bids=[(50, 1)])
            keeper.received(change(11, bids=[(price, 0) for price, _ in levels[:2501]]))
            assert (book.state, book.is_thin) == (LIVE, True)
            await depth.asked.wait()
            keeper.received(change(12, bids=[(49, 1)]))
            assert book.state is LIVE
            depth.may_answer.set()
            while depth.count < 2 or book.is_thin:
                await asyncio.sleep(0.001)
            assert (book.last, book.best_bids(5)) == (12, [(50.0, 1.0), (49.0, 1.0)])
            assert "stale" not in dict(heard.said)
            await asyncio.sleep(0.1)
            assert (depth.count, book.resyncs) == (2, {})

        keeping(use)

    def test_the_update_that_did_not_fit_waits_too(self, keeping):
        async def use(keeper, heard, depth):
            depth.tell(10)
            book = begun(keeper)
            await heard.until(("book", 10))
            depth.tell(12)
            keeper.received(change(13, bids=[(98, 3)]))
            keeper.received(change(14))
            await heard.until(("book", 14))
            assert book.best_bids(5) == [(99.0, 1.0), (98.0, 3.0)]

        keeping(use)

    def test_a_renewal_with_a_snapshot_that_is_too_old_is_told(self, keeping):
        async def use(keeper, heard, depth):
            levels = [(99 - i / 100, 1) for i in range(5000)]
            depth.tell(10, bids=levels)
            book = begun(keeper)
            await heard.until(("book", 10))
            depth.may_answer.clear()
            depth.tell(5)
            depth.tell(12)
            keeper.received(change(11, bids=[(price, 0) for price, _ in levels[:2501]]))
            await depth.asked.wait()
            keeper.received(change(12))
            depth.may_answer.set()
            while len(heard.said) < 5:
                await asyncio.sleep(0.001)
            reason = "the next update is 12, the snapshot is 5"
            assert heard.said == [("book", 10), ("book", 11), ("book", 12), ("stale", reason), ("book", 12)]
            assert book.best_bids(1) == [(99.0, 1.0)]

        keeping(use)

    def test_failures_that_pass_are_sat_out(self, keeping):
        async def use(keeper, heard, depth):
            depth.answers = [
                (503, {"code": 1, "msg": "try later"}),
                (200, {"lastUpdateId": None, "bids": [], "asks": []}),
            ]
            depth.tell(10)
            begun(keeper)
            await heard.until(("book", 10))
            assert (heard.said, depth.count) == ([("book", 10)], 3)

        keeping(use)

    def test_a_book_that_is_not_served_is_refused(self, keeping):
        async def use(keeper, heard, depth):
            depth.answers = [(400, {"code": -1121, "msg": "Invalid symbol."})]
            book = begun(keeper)
            while not heard.said:
                await asyncio.sleep(0.001)
            [(kind, error)] = heard.said
            assert (kind, type(error)) == ("refused", PairNotFound)
            assert (heard.subscribed, keeper.books, book.state) == ([], {}, STALE)

        keeping(use)


class TestByStream:
    """OKX: a subscription begins with the whole book."""

    def test_a_gap_has_the_subscription_renewed(self, keeping):
        async def use(keeper, heard, depth):
            book = begun(keeper, OKX_TOPIC)
            whole = BookUpdate(OKX_TOPIC, True, [(99.0, 1.0)], [(100.0, 1.0)], last=5)
            keeper.received(whole)
            keeper.received(change(9, bids=[(98, 1)], of=OKX_TOPIC, previous=5))
            keeper.received(change(12, bids=[(97, 1)], of=OKX_TOPIC, previous=11))
            assert (book.state, heard.renewed) == (STALE, [])
            while not heard.renewed:
                await asyncio.sleep(0.001)
            keeper.received(whole)
            assert book.state is STALE
            keeper.live(OKX_TOPIC, 0)
            keeper.received(whole)
            kinds = [kind for kind, _ in heard.said]
            assert (kinds, book.last, depth.count) == (["book", "book", "stale", "book"], 5, 0)
            assert heard.renewed == ["update 12 follows 11, the book is at 9"]

        keeping(use, "okx")

    def test_a_snapshot_that_comes_by_itself_makes_renewing_needless(self, keeping):
        async def use(keeper, heard, depth):
            begun(keeper, OKX_TOPIC)
            whole = BookUpdate(OKX_TOPIC, True, [(99.0, 1.0)], [(100.0, 1.0)], last=5)
            keeper.received(whole)
            keeper.received(change(9, of=OKX_TOPIC, previous=7))
            keeper.received(whole)
            await asyncio.sleep(0.1)
            assert heard.renewed == []

        keeping(use, "okx")

    def test_a_subscription_that_brings_no_snapshot_is_renewed(self, keeping):
        async def use(keeper, heard, depth):
            begun(keeper, OKX_TOPIC)
            keeper.received(change(9, of=OKX_TOPIC, previous=7))
            while not heard.renewed:
                await asyncio.sleep(0.001)
            assert heard.renewed == ["no snapshot has come"]

        keeping(use, "okx", snapshot_wait=0.05)


def test_the_topic_of_the_messages_may_be_another_object(keeping):
    async def use(keeper, heard, depth):
        keeper.add([OKX_TOPIC])
        equal = Topic("order_book", OKX_TOPIC.instrument, depth=400)
        keeper.live(equal, 0)
        whole = BookUpdate(equal, True, [(99.0, 1.0)], [(100.0, 1.0)], last=5)
        keeper.received(whole)
        keeper.received(Trades(equal, ()))
        keeper.received(replace(whole, topic=Topic("order_book", PAIR, depth=1)))
        assert heard.said == [("book", 5)]
        assert keeper.books[OKX_TOPIC].state is LIVE

    keeping(use, "okx")


def test_a_book_that_is_kept_no_more_cannot_be_read(keeping):
    async def use(keeper, heard, depth):
        book = begun(keeper, OKX_TOPIC)
        keeper.received(BookUpdate(OKX_TOPIC, True, [(99.0, 1.0)], [(100.0, 1.0)], last=5))
        keeper.remove([OKX_TOPIC, OKX_TOPIC])
        keeper.received(BookUpdate(OKX_TOPIC, True, [(99.0, 1.0)], [(100.0, 1.0)], last=5))
        assert (heard.subscribed, keeper.books, book.state) == ([], {}, STALE)

    keeping(use, "okx")


class Sandboxed:
    """Books of a sandbox's market, each state of which is compared with the market's own."""

    def __init__(self, box, symbol):
        self.box, self.symbol = box, symbol
        self.seen = 0
        self.stale = []
        self.wrong = []

    def true_at(self, ts):
        return self.box.market.book(self.symbol, 5, ts)

    def on_book(self, topic, book):
        true = self.true_at(book.ts)
        # Over REST, Binance's pairs have no time but that of the answer, which may come late.
        earlier = (
            [self.true_at(true.ts - back) for back in range(0, 2_000, BOOK_STEP_MS)]
            if book.last is not None
            else []
        )
        true = next((one for one in earlier if one.sequence == book.last), true)
        levels = (list(map(tuple, side.tolist())) for side in (true.bids, true.asks))
        if (book.best_bids(5), book.best_asks(5)) != tuple(levels):
            self.wrong.append((book.last, book.ts))
        self.seen += 1

    def on_stale(self, topic, reason):
        self.stale.append(reason)

    def on_refused(self, topic, error):
        raise AssertionError(error)

    async def see(self, count):
        wanted = self.seen + count
        while self.seen < wanted:
            await asyncio.sleep(0.01)

    async def until_stale(self):
        count = len(self.stale)
        while len(self.stale) == count:
            await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def box():
    with Sandbox(seed=1) as running:
        yield running


@pytest.fixture
def sandboxed(box, tmp_path):
    """Runs ``await use(watched, keeper's book)`` with a market's book on the sandbox."""

    def run(provider, symbol, use):
        async def main():
            settings = Settings(data_path=tmp_path / "data", gateway=box.url, rate_limit=False)
            kind = "cryptoperp" if ":" in symbol else "cryptopair"
            watched = Sandboxed(box, symbol)
            said = watched.on_book, watched.on_stale, watched.on_refused
            async with open_venue(provider, settings) as venue, LiveFeed(venue, settings) as feed:
                rows = (await venue.fetch_instruments(kind)).batch.to_pylist()
                row = next(row for row in rows if row["symbol"] == symbol)
                instrument = venue.instrument({**row, "entity_type": kind})
                topic = Topic("order_book", instrument, depth=venue.streams.book_depths[kind][-1])
                async with BookKeeper(venue, feed, *said, first_wait=0.01) as keeper:
                    keeper.add([topic])
                    await use(watched, keeper.books[topic])
            assert watched.wrong == []

        asyncio.run(main())

    yield run
    box.faults = []


@pytest.mark.parametrize(
    ("provider", "symbol"),
    [
        ("binance", "BTC/USDT"),
        ("binance", "BTC/USDT:USDT"),
        ("okx", "BTC/USDT:USDT"),
        ("bybit", "BTC/USDT"),
        ("coinbase", "BTC/USD"),
        ("kraken", "BTC/USD"),
        ("kucoin", "BTC/USDT:USDT"),
        ("cryptocom", "BTC/USD"),
    ],
)
def test_books_of_the_sandbox_are_the_markets(sandboxed, provider, symbol):
    async def use(watched, book):
        await watched.see(10)
        assert (watched.stale, book.resyncs) == ([], {})

    sandboxed(provider, symbol, use)


@pytest.mark.parametrize(
    ("provider", "symbol", "fault", "cause"),
    [
        ("binance", "BTC/USDT", "ws_skip", "gap"),
        ("binance", "BTC/USDT:USDT", "ws_reorder", "gap"),
        ("binance", "BTC/USDT", "ws_duplicate", "gap"),
        ("okx", "BTC/USDT", "ws_skip", "gap"),
        ("okx", "BTC/USDT:USDT", "ws_disconnect", "lost"),
        ("bybit", "BTC/USDT:USDT", "ws_skip", "gap"),
        ("coinbase", "BTC/USD", "ws_skip", "lost"),
        ("kraken", "BTC/USD", "ws_checksum", "checksum"),
        ("cryptocom", "BTC/USD", "ws_skip", "gap"),
    ],
)
def test_a_fault_makes_a_book_stale_for_a_while_and_never_wrong(
    sandboxed, box, provider, symbol, fault, cause
):
    async def use(watched, book):
        await watched.see(3)
        box.faults = [f"{fault},times=1"]
        await watched.until_stale()
        await watched.see(3)
        assert set(book.resyncs) == {cause}

    sandboxed(provider, symbol, use)


@given(
    st.lists(
        st.tuples(st.integers(1, 10**9), st.integers(1, 10**9)), unique_by=lambda level: level[0], max_size=5
    ),
    st.sampled_from([None, 1.0, 0.001, 0.01, 0.1, 10.0, 100.0, 1e6]),
    st.booleans(),
)
def test_amounts_over_rest_become_those_of_the_stream(levels, size, inverse):
    swap = Instrument("cryptoperp", "b", "B/U:U", "B", contract_size=size, inverse=inverse)
    sent = [(price / 100, float(contracts)) for price, contracts in levels]
    row = order_book_row(0, 1, 5, book_side(swap, LEVEL.from_lists([list(level) for level in sent])), [])
    told = json.loads(row["bids"][0].as_py())
    streamed, best_first = as_streamed(swap, told), sorted(sent, reverse=True)
    assert [price for price, _ in streamed] == [price for price, _ in best_first]
    # Rounded decimals of large amounts differ in their last bit.
    assert [amount for _, amount in streamed] == pytest.approx(
        [amount for _, amount in best_first], rel=1e-15
    )
