"""What tests ask of a venue, whichever it is: functions to hand to ``asked``, ``told`` and ``served``."""

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
