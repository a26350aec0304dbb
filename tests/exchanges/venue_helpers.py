"""What tests ask of a venue, whichever it is: functions to hand to ``asked``, ``told`` and ``served``."""

import json
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa

from zvt_crypto.core.levels import LEVEL_MS
from zvt_crypto.exchanges.paging import fetch_window


def candles(instrument, start, end, level="1m"):
    """One page of them."""

    async def use(venue):
        return await venue.fetch_candle_page(instrument, level, start, end)

    return use


def candle_window(instrument, start, end, level="1m"):
    """Candles in as many pages as it takes."""

    async def use(venue):
        async def page(lower, upper):
            return await venue.fetch_candle_page(instrument, level, lower, upper)

        return await fetch_window(page, start, end, LEVEL_MS[level])

    return use


def parts_of(feed, instrument, start, end):
    """The parts of ``trades`` or ``funding``."""

    async def use(venue):
        return [part async for part in getattr(venue, f"fetch_{feed}")(instrument, start, end)]

    return use


def order_book(instrument, depth):
    async def use(venue):
        return await venue.fetch_order_book(instrument, depth)

    return use


def instruments(kind):
    async def use(venue):
        return await venue.fetch_instruments(kind)

    return use


def once_listed(use, kind):
    """``use``, with a venue that has loaded its instruments of that kind."""

    async def listed(venue):
        await venue.fetch_instruments(kind)
        return await use(venue)

    return listed


def rows_of(parts):
    return pa.concat_tables([part.rows for part in parts]).to_pylist()


def after_the_clocks(use, box):
    """``use``, with a venue that has read its clocks; the sandbox has forgotten those requests."""

    async def timed(venue):
        for kind in venue.ccxt_ids:
            await venue.client.now(kind)
        box.forget_requests()
        return await use(venue)

    return timed


def spans(parts):
    return [(part.start, part.stop) for part in parts]


def query_of(path):
    """The parameters of a request."""
    return {name: value for name, [value] in parse_qs(urlsplit(path).query).items()}


def read_book(book):
    """The one row of an order book, without its time and with its levels as lists."""
    [row] = book.drop_columns(["ts"]).to_pylist()
    return row | {side: json.loads(row[side]) for side in ("bids", "asks")}


def book_of(answer, sequence):
    """What ``read_book`` gives for a venue's levels, of which 1000 were asked for."""
    bids, asks = (
        [[float(price), float(size)] for price, size, *_ in answer[side]] for side in ("bids", "asks")
    )
    return {
        "sequence": sequence,
        "depth": 1000,
        "best_bid": bids[0][0],
        "best_ask": asks[0][0],
        "bids": bids,
        "asks": asks,
    }
