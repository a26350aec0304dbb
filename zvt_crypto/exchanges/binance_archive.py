"""Binance's public archive: candles and funding events by months, candles and aggregate trades by days.

https://github.com/binance/binance-public-data. Its files ``trades`` hold the single trades behind the
aggregates, with ids of their own: together with the aggregates that requests answer, each trade would be
there twice. So ``aggTrades`` alone are read.

Trades are taken by days, not months: a month of a busy market is a gigabyte that would have to be there
before its first row is stored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, subtract_spans
from zvt_crypto.exchanges.archive_csv import CsvLayout, FileTimes
from zvt_crypto.exchanges.archive_files import ArchiveFile
from zvt_crypto.exchanges.archives import (
    FileForm,
    Span,
    day_text,
    fetch_parts,
    month_text,
    whole_days,
    whole_months,
)
from zvt_crypto.exchanges.client import Client
from zvt_crypto.exchanges.paging import Part
from zvt_crypto.exchanges.schemas import FUNDING, TRADES

HOST: Final = "data.binance.vision"
#: A day is published on the next one; a month on the first Monday of the next, the seventh day at the latest.
_DAY_AFTER: Final = DAY_MS + 6 * HOUR_MS
_MONTH_AFTER: Final = 8 * DAY_MS
_FOLDER: Final = {"cryptopair": "data/spot", "cryptoperp": "data/futures/um"}
_KIND: Final = {"candles": "klines", "trades": "aggTrades", "funding": "fundingRate"}
_MEGABYTE: Final = 1 << 20

_KLINES: Final = CsvLayout(
    {
        "open_time": pa.int64(),
        "open": pa.float64(),
        "high": pa.float64(),
        "low": pa.float64(),
        "close": pa.float64(),
        "volume": pa.float64(),
        "close_time": None,
        "quote_volume": pa.float64(),
        "count": pa.int64(),
        "taker_buy_volume": None,
        "taker_buy_quote_volume": None,
        "ignore": None,
    }
)
_AGG_TRADES: Final = CsvLayout(
    {
        "agg_trade_id": pa.int64(),
        "price": pa.float64(),
        "quantity": pa.float64(),
        "first_trade_id": None,
        "last_trade_id": None,
        "transact_time": pa.int64(),
        "is_buyer_maker": pa.bool_(),
        "is_best_match": None,
    },
    optional=1,
)
_FUNDING_RATE: Final = CsvLayout(
    {"calc_time": pa.int64(), "funding_interval_hours": pa.float64(), "last_funding_rate": pa.float64()}
)
_CANDLES: Final = pa.schema(
    [
        ("ts", pa.int64()),
        *((name, pa.float64()) for name in ("open", "high", "low", "close", "volume", "turnover")),
        ("trade_count", pa.int64()),
    ]
)
#: With the interval, which the file tells of each event.
_EVENTS: Final = FUNDING.insert(2, pa.field("funding_interval_hours", pa.float64()))


def files(
    entity_type: str, symbol: str, feed: str, level: str | None, start: int, end: int, now: int
) -> list[ArchiveFile]:
    """Files that lie wholly in ``[start, end)`` and are published: months, then days for the rest.

    Funding events have no files by days, trades are not taken by months.
    """
    if feed == "funding" and entity_type != "cryptoperp":
        return []
    months = whole_months(start, min(end, now - _MONTH_AFTER)) if feed != "trades" else []
    rest = subtract_spans([(start, min(end, now - _DAY_AFTER))], months) if feed != "funding" else []
    days = [day for lower, upper in rest for day in whole_days(lower, upper)]
    named = [(span, "monthly", month_text(span[0])) for span in months]
    named += [(span, "daily", day_text(span[0])) for span in days]
    return sorted(
        (_file(entity_type, symbol, feed, level, *one) for one in named), key=lambda file: file.start
    )


def fetch(client: Client, entity_type: str, feed: str, file: ArchiveFile) -> AsyncIterator[Part]:
    """The rows of a file; funding events have their interval, and no mark price."""
    return fetch_parts(client, entity_type, file, _FORMS[feed])


def _file(
    entity_type: str, symbol: str, feed: str, level: str | None, span: Span, period: str, date: str
) -> ArchiveFile:
    folder = f"/{_FOLDER[entity_type]}/{period}/{_KIND[feed]}/{symbol}"
    if feed == "candles":
        path = f"{folder}/{level}/{symbol}-{level}-{date}.zip"
    else:
        path = f"{folder}/{symbol}-{_KIND[feed]}-{date}.zip"
    return ArchiveFile(HOST, path, *span, checksum_path=f"{path}.CHECKSUM")


def _candles(columns: pa.Table, times: FileTimes) -> pa.Table:
    ts, _ = times.split(columns["open_time"])
    values = [columns[name] for name in ("open", "high", "low", "close", "volume", "quote_volume", "count")]
    return pa.table([pa.array(ts), *values], schema=_CANDLES)


def _trades(columns: pa.Table, times: FileTimes) -> pa.Table:
    ts, nanosecond = times.split(columns["transact_time"])
    # Where the buyer was the maker, the taker sold.
    side = pc.if_else(columns["is_buyer_maker"], "sell", "buy")
    trade_id = pc.cast(columns["agg_trade_id"], pa.string())
    values = [pa.array(ts), trade_id, columns["price"], columns["quantity"], side, nanosecond]
    return pa.table(values, schema=TRADES)


def _events(columns: pa.Table, times: FileTimes) -> pa.Table:
    ts, _ = times.split(columns["calc_time"])
    rate, hours = columns["last_funding_rate"], columns["funding_interval_hours"]
    return pa.table([pa.array(ts), rate, hours, pa.nulls(len(ts), pa.float64())], schema=_EVENTS)


_FORMS: Final = {
    "candles": FileForm(_KLINES, _candles, _CANDLES, 64 * _MEGABYTE),
    "trades": FileForm(_AGG_TRADES, _trades, TRADES, 8192 * _MEGABYTE),
    "funding": FileForm(_FUNDING_RATE, _events, _EVENTS, 16 * _MEGABYTE),
}
