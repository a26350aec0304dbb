"""cryptofeed in a virtual environment of its own: its handlers are given frames one by one, without a network."""

from __future__ import annotations

from pathlib import Path

from benchmarks import peer_venv

_FEED = """
import asyncio
from cryptofeed import exchanges
from cryptofeed.defines import L2_BOOK, TRADES
from cryptofeed.symbols import Symbols

venue = json.load(open(sys.argv[1]))
venue |= venue.get("old", {})
kind = getattr(exchanges, venue["cryptofeed"])
Symbols.set(kind.id, {name: native for native, _, name in venue["markets"]}, {})

def feed(channel, callback):
    names = [name for _, _, name in venue["markets"]]
    # Checksums are compared where we compare them, too.
    return kind(symbols=names, channels=[channel], callbacks={channel: callback}, checksum_validation=True)
"""

#: Trades a second, handed to a callback that collects them.
TRADES = (
    _FEED
    + """
async def measure():
    collected, count = [], 0

    async def collect(trade, received):
        collected.append(trade)

    handler = feed(TRADES, collect).message_handler
    for number in range(int(sys.argv[2]) + 1):
        if number == 1:
            began = time.process_time()
        for frame in venue["trades"]:
            await handler(frame, None, 0.0)
        count += len(collected) if number else 0
        collected.clear()
    return count / (time.process_time() - began)

facts["rate"] = asyncio.run(measure())
"""
)

#: Updates of order books a second, each told to a callback; the books are begun outside the time.
BOOKS = (
    _FEED
    + """
async def measure():
    seconds, count = 0.0, 0

    async def told(book, received):
        nonlocal count
        count += 1

    for number in range(int(sys.argv[2]) + 1):
        one = feed(L2_BOOK, told)
        for market, text in venue["begin"]:
            if market is None:
                await one.message_handler(text, None, 0.0)
            else:
                one.http_conn.read = lambda url: asyncio.sleep(0, text)
                await one._snapshot(market)
        one.http_conn.read = None
        began = time.process_time()
        for frame in venue["updates"]:
            await one.message_handler(frame, None, 0.0)
        seconds += time.process_time() - began if number else 0.0
    assert count >= number * len(venue["updates"]) // 2, (count, len(venue["updates"]))
    return number * len(venue["updates"]) / seconds

facts["rate"] = asyncio.run(measure())
"""
)


def install() -> Path:
    """Install cryptofeed where it is not yet; returns the Python that has it."""
    return peer_venv.install("cryptofeed")
