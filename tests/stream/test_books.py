"""Order books: every check that must make one STALE, and real histories against a naive replay."""

import gzip
import json
import zlib
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from zvt_crypto.core.errors import OrderBookDesync
from zvt_crypto.exchanges.base import Instrument, venue_class
from zvt_crypto.exchanges.schemas import ORDER_BOOK
from zvt_crypto.exchanges.streaming import BookUpdate, Streams, Topic
from zvt_crypto.stream.books import BookState, OrderBook

REAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "real"
PAIR = Instrument("cryptopair", "btcusdt", "BTC/USDT", "BTCUSDT")
LIVE, STALE, SYNCING = BookState.LIVE, BookState.STALE, BookState.SYNCING


class Exchange(Streams):
    """An exchange of these tests: its checksum is of the ten best levels of each side."""

    feeds = {"cryptopair": frozenset({"order_book"})}

    def endpoint(self, topic):
        raise NotImplementedError

    def subscribe(self, topics, number):
        raise NotImplementedError

    def unsubscribe(self, topics, number):
        raise NotImplementedError

    def reader(self):
        raise NotImplementedError

    def trades(self, instrument, rows):
        raise NotImplementedError

    def checksum(self, bids, asks):
        return zlib.crc32(repr([bids[:10], asks[:10]]).encode())


class Cutting(Exchange):
    keeps_depth = frozenset({"cryptopair"})


def topic(instrument=PAIR, depth=100):
    return Topic("order_book", instrument, depth=depth)


def message(bids=(), asks=(), of=None, **told):
    return BookUpdate(of or topic(), told.pop("is_snapshot", False), list(bids), list(asks), **told)


def snapshot(bids=((99.0, 1.0), (98.0, 2.0)), asks=((100.0, 3.0), (101.0, 4.0)), of=None, **told):
    return message(bids, asks, of, is_snapshot=True, **told)


def begun(streams=None, **told):
    book = OrderBook(topic(), streams or Exchange())
    assert book.apply(snapshot(**told)) is LIVE
    return book


def test_changes_set_and_remove_levels():
    book = begun(last=1, ts=1000)
    book.apply(message([(99.0, 0.0), (98.0, 5.0), (97.0, 6.0)], [(99.5, 7.0), (50.0, 0.0)], last=2, ts=1100))
    assert book.best_bids(10) == [(98.0, 5.0), (97.0, 6.0)]
    assert book.best_asks(2) == [(99.5, 7.0), (100.0, 3.0)]
    assert (book.last, book.ts) == (2, 1100)


def test_a_book_is_read_only_while_it_is_live():
    book = OrderBook(topic(), Exchange())
    assert book.state is SYNCING
    assert book.apply(message([(99.0, 1.0)], last=1)) is SYNCING
    with pytest.raises(OrderBookDesync, match="BTC/USDT is syncing: its first snapshot has not come yet"):
        book.best_bids(1)
    book.apply(snapshot(last=1))
    book.set_stale("lost", "closed by the exchange")
    for read in (book.best_bids, book.best_asks, lambda depth: book.snapshot(depth, 0)):
        with pytest.raises(OrderBookDesync, match="is stale: closed by the exchange") as caught:
            read(1)
    assert caught.value.details == {"symbol": "BTC/USDT", "state": "stale"}
    assert book.apply(snapshot(last=9)) is LIVE
    assert book.best_bids(1) == [(99.0, 1.0)]


@pytest.mark.parametrize(
    ("update", "cause", "reason"),
    [
        (message(last=12), "gap", "the next update is 12, the book is at 10"),
        (message(last=10), "gap", "the next update is 10, the book is at 10"),
        (message(first=12, last=15), "gap", "the next update is 12, the book is at 10"),
        (message(first=8, last=10), "gap", "the next update is 8, the book is at 10"),
        (message(previous=11, last=12), "gap", "update 12 follows 11, the book is at 10"),
        (message(previous=9, last=12), "gap", "update 12 follows 9, the book is at 10"),
        (message([(99.5, 1.0)], last=11, checksum=1), "checksum", "the venue's 1"),
        (message([(100.0, 1.0)], last=11), "crossed", "the best bid is 100.0, the best ask 100.0"),
        (message((), [(98.5, 1.0)], last=11), "crossed", "the best bid is 99.0, the best ask 98.5"),
    ],
)
def test_what_does_not_fit_makes_it_stale(update, cause, reason):
    book = begun(last=10)
    assert book.apply(update) is STALE
    assert reason in book.reason
    assert book.resyncs == {cause: 1}
    assert (book.last, book.ts) == (None, None)
    assert book.apply(message([(90.0, 1.0)], last=11)) is STALE
    with pytest.raises(OrderBookDesync, match=book.reason.partition(",")[0]):
        book.best_bids(1)


@pytest.mark.parametrize(
    "update",
    [
        message(last=11),
        message(first=11, last=15),
        message(first=9, last=11),
        message(previous=10, last=99),
        # A venue whose numbers begin anew says so: OKX, after maintenance.
        message(previous=10, last=3),
        message(previous=10, last=10),
    ],
)
def test_what_fits_is_taken(update):
    book = begun(last=10)
    assert book.apply(update) is LIVE
    assert book.last == update.last
    assert not book.resyncs


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    "level", [(NAN, 1.0), (97.0, NAN), (97.0, -1.0), (99.0, NAN), (99.0, -1.0), (-97.0, NAN)]
)
def test_what_is_no_level_makes_it_stale(level):
    for book, told in [
        (begun(), message([level])),
        (begun(), message((), [level])),
        (begun(), snapshot([(99.0, 1.0), level], [])),
        (begun(), snapshot([], [level])),
    ]:
        assert book.apply(told) is STALE
        assert book.reason == f"a level of the book is {level}"
        assert book.resyncs == {"no_level": 1}


@pytest.mark.parametrize("level", [(INFINITE, 1.0), (97.0, INFINITE)])
def test_a_snapshot_has_no_infinite_levels(level):
    book = begun()
    assert book.restart(snapshot([level], [], last=1), 5) is STALE
    assert not book.is_thin


def test_each_loss_is_counted_once():
    book = begun(last=1)
    for _ in range(2):
        book.apply(message(last=7))
        book.set_stale("lost", "and then the connection too")
        book.apply(snapshot(last=1))
    assert book.resyncs == {"gap": 2}


def test_a_crossed_snapshot_is_no_book():
    book = OrderBook(topic(), Exchange())
    assert book.apply(snapshot([(101.0, 1.0)], [(100.0, 1.0)])) is STALE
    assert book.restart(snapshot([(101.0, 1.0)], [(100.0, 1.0)], last=1), 5) is STALE


def test_a_side_may_be_empty():
    book = OrderBook(topic(), Exchange())
    assert book.apply(snapshot([], [(100.0, 1.0), (101.0, 0.0)])) is LIVE
    assert (book.best_bids(5), book.best_asks(5)) == ([], [(100.0, 1.0)])
    row = book.snapshot(5, now=7).to_pylist()[0]
    assert (row["ts"], row["best_bid"], row["best_ask"], row["sequence"]) == (7, None, 100.0, None)


def test_checksums_are_of_the_levels_as_they_came():
    levels = [(99.0, 1.0, "99.0", "1.000"), (98.0, 2.0, "98.0", "2.000")]
    book = OrderBook(topic(), Exchange())
    sum_of = Exchange().checksum
    assert book.apply(snapshot(levels, [], checksum=sum_of(levels, []))) is LIVE
    new = (98.5, 3.0, "98.50", "3")
    assert book.apply(message([new], checksum=sum_of([levels[0], new, levels[1]], []))) is LIVE
    assert book.best_bids(2) == [(99.0, 1.0), (98.5, 3.0)]


def test_levels_beyond_the_depth_fall_out_where_the_venue_does_not_say_so():
    book = OrderBook(topic(depth=2), Cutting())
    book.apply(snapshot())
    book.apply(message([(98.5, 1.0)], [(99.5, 1.0), (99.7, 1.0)]))
    assert book.best_bids(9) == [(99.0, 1.0), (98.5, 1.0)]
    assert book.best_asks(9) == [(99.5, 1.0), (99.7, 1.0)]
    book.apply(message([(99.0, 0.0)]))
    assert book.best_bids(9) == [(98.5, 1.0)]


@pytest.mark.parametrize(
    ("inverse", "size", "bids"),
    [(False, 0.1, [(50.0, 0.3), (49.0, 0.7)]), (True, 100.0, [(50.0, 6.0), (49.0, 700 / 49)])],
)
def test_contracts_are_told_in_base_currency(inverse, size, bids):
    swap = Instrument("cryptoperp", "b", "BTC/USD:BTC", "B", contract_size=size, inverse=inverse)
    of = topic(swap)
    book = OrderBook(of, Exchange())
    book.apply(snapshot([(50.0, 3.0), (49.0, 7.0)], [], of, last=5, ts=1700))
    assert book.best_bids(2) == bids
    table = book.snapshot(2, now=0)
    assert table.schema == ORDER_BOOK
    row = table.to_pylist()[0]
    assert json.loads(row["bids"]) == [list(level) for level in bids]
    assert (row["ts"], row["sequence"], row["depth"], row["best_bid"]) == (1700, 5, 2, 50.0)


class TestJoining:
    """A snapshot over REST, and updates that began before it."""

    def test_updates_wholly_before_it_are_skipped(self):
        book = OrderBook(topic(), Exchange())
        book.restart(snapshot(last=10), 100)
        for last in (8, 9, 10):
            assert book.apply(message([(99.0, 9.0)], last=last)) is LIVE
        assert book.best_bids(1) == [(99.0, 1.0)]
        assert book.apply(message([(99.0, 9.0)], first=9, last=12)) is LIVE
        assert (book.last, book.best_bids(1)) == (12, [(99.0, 9.0)])
        assert book.apply(message(last=10)) is STALE

    @pytest.mark.parametrize("previous", [7, 10])
    def test_the_first_update_may_begin_before_it(self, previous):
        book = OrderBook(topic(), Exchange())
        book.restart(snapshot(last=10), 100)
        assert book.apply(message(previous=previous, last=20)) is LIVE
        assert book.apply(message(previous=7, last=30)) is STALE

    @pytest.mark.parametrize(
        "update", [message(previous=11, last=12), message(first=12, last=13), message(last=12)]
    )
    def test_a_snapshot_older_than_the_updates_does_not_do(self, update):
        book = OrderBook(topic(), Exchange())
        book.restart(snapshot(last=10), 100)
        assert book.apply(update) is STALE
        assert book.resyncs == {"old_snapshot": 1}

    def test_what_lies_beyond_a_cut_snapshot_stays_out(self):
        book = OrderBook(topic(), Exchange())
        book.restart(snapshot(last=1), 2)
        assert not book.is_thin
        book.apply(message([(97.0, 5.0), (98.5, 6.0)], [(102.0, 5.0)], last=2))
        assert book.best_bids(9) == [(99.0, 1.0), (98.5, 6.0), (98.0, 2.0)]
        assert book.best_asks(9) == [(100.0, 3.0), (101.0, 4.0)]

    @pytest.mark.parametrize(("depth", "enough"), [(100, 2), (3, 2), (1, 1)])
    def test_a_cut_snapshot_is_used_up(self, depth, enough):
        book = OrderBook(topic(depth=depth), Exchange())
        levels = [(99.0 - i, 1.0) for i in range(4)]
        book.restart(snapshot(levels, [(100.0, 1.0)], last=1), 4)
        book.apply(message([(price, 0.0) for price, _ in levels[enough:]], last=2))
        assert not book.is_thin
        book.apply(message([(99.0, 0.0)], last=3))
        assert book.is_thin
        assert book.state is LIVE

    def test_a_whole_snapshot_is_never_used_up(self):
        book = OrderBook(topic(), Exchange())
        book.restart(snapshot(last=1), 4)
        book.apply(message([(99.0, 0.0), (98.0, 0.0)], [(110.0, 1.0)], last=2))
        assert not book.is_thin
        assert book.best_asks(9) == [(100.0, 3.0), (101.0, 4.0), (110.0, 1.0)]


class State(NamedTuple):
    number: int
    bids: dict
    asks: dict

    def best(self):
        return sorted(self.bids.items(), reverse=True), sorted(self.asks.items())


@st.composite
def histories(draw):
    """States of a book that is never crossed, under ascending numbers."""
    amounts = st.sampled_from([1.0, 2.0, 3.0])
    states, number = [], draw(st.integers(1, 9))
    for _ in range(draw(st.integers(2, 10))):
        middle = draw(st.integers(2, 14))
        bids = draw(st.dictionaries(st.integers(1, middle - 1).map(float), amounts, max_size=6))
        asks = draw(st.dictionaries(st.integers(middle, 15).map(float), amounts, max_size=6))
        states.append(State(number, bids, asks))
        number += draw(st.integers(1, 4))
    return states


def changes(before, after):
    removed = [(price, 0.0) for price in before if price not in after]
    return [*removed, *((price, amount) for price, amount in after.items() if before.get(price) != amount)]


def updates(states, numbering):
    """What an exchange sends that numbers its messages in one of the ways that there are."""
    for count, (before, after) in enumerate(pairwise(states), 1):
        levels = changes(before.bids, after.bids), changes(before.asks, after.asks)
        if numbering == "ranges":
            yield message(*levels, first=before.number + 1, last=after.number)
        elif numbering == "names the one before":
            yield message(*levels, previous=before.number, last=after.number)
        elif numbering == "consecutive":
            yield message(*levels, last=states[0].number + count)
        else:
            yield message(*levels, checksum=Exchange().checksum(*after.best()))


@st.composite
def mischief(draw, items):
    """The items with some lost, some doubled, some out of order."""
    items = list(items)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, max(len(items) - 1, 0)))
        act = draw(st.sampled_from(["lose", "double", "swap"]))
        if not items:
            break
        if act == "lose":
            del items[place]
        elif act == "double":
            items.insert(draw(st.integers(0, len(items))), items[place])
        else:
            items[place : place + 2] = items[place : place + 2][::-1]
    return items


NUMBERINGS = ("ranges", "names the one before", "consecutive")


def numbered(states, numbering):
    """The states by the numbers that the messages carry."""
    if numbering == "consecutive":
        return {states[0].number + i: state for i, state in enumerate(states)}
    return {state.number: state for state in states}


@given(data=st.data(), states=histories(), numbering=st.sampled_from(NUMBERINGS))
def test_a_live_book_is_the_true_one_whatever_is_lost_doubled_or_reordered(data, states, numbering):
    by_number = numbered(states, numbering)
    delivered = data.draw(mischief(updates(states, numbering)))
    start = data.draw(st.sampled_from(sorted(by_number)))
    limit = data.draw(st.integers(1, 8))
    bids, asks = (side[:limit] for side in by_number[start].best())
    book = OrderBook(topic(depth=1), Exchange())
    book.restart(snapshot(bids, asks, last=start), limit)
    worst_bid = bids[-1][0] if len(bids) == limit else 0.0
    worst_ask = asks[-1][0] if len(asks) == limit else 99.0
    for update in delivered:
        if book.apply(update) is STALE:
            return
        true_bids, true_asks = by_number[book.last].best()
        assert book.best_bids(20) == [level for level in true_bids if level[0] >= worst_bid]
        assert book.best_asks(20) == [level for level in true_asks if level[0] <= worst_ask]


@given(data=st.data(), states=histories())
def test_a_checksum_holds_for_the_levels_that_it_is_of(data, states):
    sent = list(zip(updates(states, "checksum"), states[1:], strict=True))
    book = OrderBook(topic(), Exchange())
    book.apply(snapshot(*states[0].best()))
    for update, true in data.draw(mischief(sent)):
        if book.apply(update) is STALE:
            return
        assert (book.best_bids(10), book.best_asks(10)) == true.best()


@given(data=st.data(), states=histories(), numbering=st.sampled_from(NUMBERINGS))
def test_a_history_without_mischief_is_followed_to_its_end(data, states, numbering):
    by_number = numbered(states, numbering)
    start = data.draw(st.sampled_from(sorted(by_number)))
    book = OrderBook(topic(), Exchange())
    book.restart(snapshot(*by_number[start].best(), last=start), 100)
    for update in updates(states, numbering):
        assert book.apply(update) is LIVE
    assert (book.best_bids(20), book.best_asks(20)) == states[-1].best()
    assert not book.resyncs


# Recorded streams


def captured(name):
    with gzip.open(REAL / "captures" / f"{name}.gz", "rt") as file:
        return file.read().splitlines()


def captured_frames(name):
    return [line.split(": ", 1)[1] for line in captured(name) if line[:1].isdigit()]


class Plain:
    """A book as its exchange's documents say that one is kept, by the texts of its prices."""

    def __init__(self, bids, asks):
        self.sides = {}, {}
        self.change(bids, asks)

    def change(self, bids, asks):
        for side, levels in zip(self.sides, (bids, asks), strict=True):
            side.update({price: float(amount) for price, amount, *_ in levels})
            for price in [price for price, amount in side.items() if not amount]:
                del side[price]

    def best(self, depth=None):
        bids, asks = ([(float(price), amount) for price, amount in side.items()] for side in self.sides)
        return sorted(bids, reverse=True)[:depth], sorted(asks)[:depth]

    def cut(self, depth):
        bids, asks = self.sides
        for side, sign in ((bids, -1), (asks, 1)):
            for price in sorted(side, key=lambda price: sign * float(price))[depth:]:
                del side[price]


def reader_of(provider, entity_type, names, depth):
    streams = venue_class(provider).streams
    topics = [Topic("order_book", Instrument(entity_type, name, name, name), depth=depth) for name in names]
    reader = streams.reader()
    reader.expect(topics)
    return reader, {topic: OrderBook(topic, streams) for topic in topics}


def replay_binance(entity_type, capture, skipped=None):
    """Our books and plain ones after the updates of a capture, one of which may be left out."""
    answers = [line.split(": ", 1) for line in captured(f"{capture}.http.0.0") if line]
    wholes = {url.split("symbol=")[1].split("&")[0]: json.loads(text) for url, text in answers}
    reader, books = reader_of("binance", entity_type, wholes, 1000)
    plain = {}
    for topic, book in books.items():
        whole = wholes[topic.instrument.native_id]
        levels = ([(float(p), float(a)) for p, a in whole[side]] for side in ("bids", "asks"))
        assert book.restart(snapshot(*levels, of=topic, last=whole["lastUpdateId"]), 1000) is LIVE
        plain[book] = Plain(whole["bids"], whole["asks"])
    frames = [frame for frame in captured_frames(f"{capture}.ws.1.0") if "depthUpdate" in frame]
    for number, frame in enumerate(frames):
        if number != skipped:
            [update] = reader.read(frame)
            books[update.topic].apply(update)
            data = json.loads(frame)["data"]
            if data["u"] > wholes[data["s"]]["lastUpdateId"]:
                plain[books[update.topic]].change(data["b"], data["a"])
    return plain, frames


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("entity_type", "capture"), [("cryptopair", "BINANCE"), ("cryptoperp", "BINANCE_FUTURES")]
)
def test_recorded_books_of_binance_end_as_a_plain_replay_does(entity_type, capture):
    plain, frames = replay_binance(entity_type, capture)
    assert len(plain) == 4
    for book, other in plain.items():
        assert book.state is LIVE
        bids, asks = other.best()
        ours = book.best_bids(2000), book.best_asks(2000)
        # What lies beyond a snapshot of 1,000 levels is unknown.
        assert ours[0] == [level for level in bids if level[0] >= ours[0][-1][0]]
        assert ours[1] == [level for level in asks if level[0] <= ours[1][-1][0]]
        assert min(len(bids), 900) <= len(ours[0]) and min(len(asks), 900) <= len(ours[1])
    last = [json.loads(frame)["data"]["s"] for frame in frames]
    lost = len(last) - 2 - last[::-1][1:].index(last[-1])
    plain, _ = replay_binance(entity_type, capture, skipped=lost)
    states = {book.topic.instrument.native_id: book.state for book in plain}
    assert states.pop(last[-1]) is STALE
    assert set(states.values()) == {LIVE}


@pytest.mark.real_data
def test_recorded_books_of_okx_end_as_a_plain_replay_does():
    frames = [frame for frame in captured_frames("OKX.ws.1.0") if '"action"' in frame]
    told = [(json.loads(frame), frame) for frame in frames]
    names = {message["arg"]["instId"] for message, _ in told}
    reader, books = reader_of("okx", "cryptopair", names, 400)
    plain = {}
    for message, frame in told:
        [update], data = reader.read(frame), message["data"][0]
        assert books[update.topic].apply(update) is LIVE
        if message["action"] == "snapshot":
            plain[update.topic] = Plain(data["bids"], data["asks"])
        else:
            plain[update.topic].change(data["bids"], data["asks"])
    assert len(books) == 3
    for topic, book in books.items():
        assert (book.best_bids(500), book.best_asks(500)) == plain[topic].best()


@pytest.mark.real_data
@pytest.mark.parametrize("lost", [None, 4001])
def test_recorded_books_of_kraken_end_as_a_plain_replay_does(lost):
    """Of WebSocket v1, whose checksum is that of v2; what it is made of is taken from its reader."""
    told = [
        message for message in map(json.loads, captured_frames("KRAKEN.ws.50.0")) if isinstance(message, list)
    ]
    reader, books = reader_of("kraken", "cryptopair", {message[-1] for message in told}, 1000)
    plain = {}
    for number, (_, *parts, _, name) in enumerate(told):
        sides = {key: levels for part in parts for key, levels in part.items()}
        is_snapshot = "as" in sides
        bids, asks = (sides.get(key, []) for key in (("bs", "as") if is_snapshot else ("b", "a")))
        if number != lost:
            [update] = reader.read(as_v2(name, bids, asks, sides.get("c", "0")))
            kind = {"is_snapshot": is_snapshot, "checksum": None if is_snapshot else int(sides["c"])}
            books[update.topic].apply(replace(update, **kind))
        if is_snapshot:
            plain[name] = Plain(bids, asks)
        else:
            plain[name].change(bids, asks)
        plain[name].cut(1000)
    states = {}
    for topic, book in books.items():
        name = topic.instrument.native_id
        states[name] = book.state
        if book.state is LIVE:
            assert (book.best_bids(1000), book.best_asks(1000)) == plain[name].best()
    assert len(states) == 10
    assert [name for name, state in states.items() if state is STALE] == (
        [] if lost is None else [told[lost][-1]]
    )


def as_v2(name, bids, asks, checksum):
    levels = (",".join(f'{{"price":{p},"qty":{a}}}' for p, a, *_ in side) for side in (bids, asks))
    sides = '"bids":[{}],"asks":[{}]'.format(*levels)
    return (
        f'{{"channel":"book","type":"update","data":[{{"symbol":"{name}",{sides},"checksum":{checksum}}}]}}'
    )
