"""Streams: messages to columns and to order books, against cryptofeed and ccxt.pro on the same frames."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import captures, peer_ccxtpro, peer_cryptofeed, peer_venv
from benchmarks.measure import Row, child

_TOPICS = """
from zvt_crypto.exchanges.base import Instrument, venue_class
from zvt_crypto.exchanges.streaming import BookUpdate, Topic

venue = json.load(open(sys.argv[1]))
streams = venue_class(venue["provider"]).streams

def topics(feed, depth=None):
    return [Topic(feed, Instrument(venue["entity_type"], native.lower(), symbol, native), depth=depth)
            for native, symbol, _ in venue["markets"]]
"""

#: Trades a second, from frames to tables in the schema of trades, 5,000 trades or more at a time.
TRADES = (
    _TOPICS
    + """
asked = topics("trades")

def read_all(frames):
    count, waiting, rows = 0, 0, {id(topic): [] for topic in asked}
    reader = streams.reader()
    reader.expect(asked)
    for frame in frames:
        for message in reader.read(frame):
            rows[id(message.topic)].extend(message.rows)
            waiting += len(message.rows)
        if waiting >= 5_000:
            count, waiting = count + tabled(rows), 0
    return count + tabled(rows)

def tabled(rows):
    count = 0
    for topic in asked:
        if rows[id(topic)]:
            count += streams.trades(topic.instrument, rows[id(topic)]).num_rows
            rows[id(topic)].clear()
    return count

facts["trades"] = read_all(venue["trades"])
began = time.process_time()
count = sum(read_all(venue["trades"]) for _ in range(int(sys.argv[2])))
facts["rate"] = count / (time.process_time() - began)
"""
)

#: Updates of order books a second, each told to a callback; the books are begun outside the time.
BOOKS = (
    _TOPICS
    + """
from zvt_crypto.stream.books import BookState, OrderBook
asked = topics("order_book", venue.get("depth") or max(streams.book_depths[venue["entity_type"]]))
of_market = {topic.instrument.native_id: topic for topic in asked}
told = 0

def tell(topic, book):
    global told
    told += 1

def begun():
    books = {id(topic): OrderBook(topic, streams) for topic in asked}
    reader = streams.reader()
    reader.expect(asked)
    for market, text in venue["begin"]:
        if market is None:
            [message] = reader.read(text)
            books[id(message.topic)].apply(message)
        else:
            topic, whole = of_market[market], json.loads(text)
            bids, asks = ([(float(p), float(q)) for p, q, *_ in whole[side]] for side in ("bids", "asks"))
            books[id(topic)].restart(BookUpdate(topic, True, bids, asks, whole["lastUpdateId"]), 1000)
    return reader.read, books

def apply_all(frames, read, books):
    live = BookState.LIVE
    for frame in frames:
        for message in read(frame):
            book = books[id(message.topic)]
            if book.apply(message) is not live:
                raise RuntimeError(book.reason)
            tell(message.topic, book)

seconds = 0.0
for number in range(int(sys.argv[2]) + 1):
    read, books = begun()
    began = time.process_time()
    apply_all(venue["updates"], read, books)
    seconds += time.process_time() - began if number else 0.0
assert told == (number + 1) * len(venue["updates"])
facts["rate"] = number * len(venue["updates"]) / seconds
"""
)

#: Trades and updates that are timed of each venue and side in a round.
_TIMED_TRADES = 200_000
_TIMED_UPDATES = 20_000


def run(rounds: int = 5) -> tuple[str, list[Row], list[str]]:
    """Each side's handler is given the same frames in a process of its own, one side after the other."""
    if not captures.FOLDER.is_dir():
        return "Streams", [], [f"Nothing is compared: no recorded streams at {captures.FOLDER.resolve()}."]
    python = str(peer_cryptofeed.install())
    found = [_measured(venue, python, rounds) for venue in captures.venues()]
    rows = [row for rates in found for row in _rows(rates)]
    return "Streams", [*rows, *_medians(found)], _notes(rounds, python)


def _measured(venue: dict[str, Any], python: str, rounds: int) -> dict[str, Any]:
    """The venue's name, and rates of all sides, medians of the rounds."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "venue.json"
        path.write_text(json.dumps(venue), encoding="utf-8")
        passes = str(_TIMED_UPDATES // len(venue["updates"]) + 1)
        runs = [_round(str(path), passes, python) for _ in range(rounds)]
    return {"name": venue["name"]} | {side: statistics.median(one[side] for one in runs) for side in runs[0]}


def _round(path: str, passes: str, python: str) -> dict[str, float]:
    ours = child(TRADES, path, str(_TIMED_TRADES // captures.TRADES))
    few = str(_TIMED_TRADES // captures.TRADES // 4)
    return {
        "trades": ours["rate"],
        "trades, cryptofeed": child(peer_cryptofeed.TRADES, path, few, python=python)["rate"],
        "trades, ccxt.pro": child(peer_ccxtpro.TRADES, path, few, str(ours["trades"]), python=sys.executable)[
            "rate"
        ],
        "books": child(BOOKS, path, passes)["rate"],
        "books, cryptofeed": child(peer_cryptofeed.BOOKS, path, passes, python=python)["rate"],
    }


_MARKS = (
    ("trades", "trades, cryptofeed", "trades/s, against cryptofeed", 1.5),
    ("trades", "trades, ccxt.pro", "trades/s, against ccxt.pro", 8),
    ("books", "books, cryptofeed", "book updates/s, against cryptofeed", 2),
)


def _rows(rates: dict[str, Any]) -> list[Row]:
    return [
        Row(
            f"{rates['name']}, {what}",
            f"{rates[ours]:,.0f}",
            f"{rates[peer]:,.0f}",
            rates[ours] / rates[peer],
            mark,
        )
        for ours, peer, what, mark in _MARKS
    ]


def _medians(found: list[dict[str, Any]]) -> list[Row]:
    """The venues' medians of the rates and of the ratios."""
    rows = []
    for ours, peer, what, mark in _MARKS:
        rates = (statistics.median(one[side] for one in found) for side in (ours, peer))
        ratio = statistics.median(one[ours] / one[peer] for one in found)
        rows.append(Row(f"median of the venues, {what}", *(f"{rate:,.0f}" for rate in rates), ratio, mark))
    return rows


def _notes(rounds: int, python: str) -> list[str]:
    return [
        f"Medians of {rounds} rounds in CPU time of one thread; each side of each venue in a process of its own, after a"
        " pass that is not timed. The frames are those that the exchanges sent when they were recorded, looped; Kraken's"
        " and Coinbase's are written in the layout of their present streams, but for cryptofeed's Kraken, which reads the"
        " old one.",
        "Trades: ours from frames to Arrow tables in the schema of trades, 5,000 or more at a time; cryptofeed's handler"
        " with a callback that collects (peer: "
        f"{peer_venv.versions(python, 'cryptofeed')}); ccxt.pro's handler, which keeps the last 1,000 of a market.",
        "Book updates: all of the capture in order on books that were begun outside the time, each told to a callback."
        " Both compare the checksums of Kraken and of OKX, whose frames of today have none that counts.",
    ]
