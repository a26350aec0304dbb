"""Bybit's public archive: trades of contracts by days.

https://public.bybit.com/trading/. Files of contracts name each trade by the id that requests answer too.
Those of spot (https://public.bybit.com/spot/) number the rows of a day from 1 on instead: trades of a day
that were recorded by request would come again under other names, and be counted twice. So they are not read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import ArchiveUnusable
from zvt_crypto.core.levels import DAY_MS, HOUR_MS
from zvt_crypto.exchanges.archive_csv import CsvLayout, FileTimes
from zvt_crypto.exchanges.archive_files import ArchiveFile
from zvt_crypto.exchanges.archives import FileForm, day_text, fetch_parts, whole_days
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.client import Client
from zvt_crypto.exchanges.objects import base_volume
from zvt_crypto.exchanges.paging import Part
from zvt_crypto.exchanges.schemas import TRADES

HOST: Final = "public.bybit.com"
#: A day is published on the next one.
_DAY_AFTER: Final = DAY_MS + 6 * HOUR_MS
_LARGEST: Final = 8 << 30

_TRADES: Final = CsvLayout(
    {
        "timestamp": pa.float64(),
        "symbol": pa.string(),
        "side": pa.string(),
        "size": pa.float64(),
        "price": pa.float64(),
        "tickDirection": None,
        "trdMatchID": pa.string(),
        "grossValue": None,
        "homeNotional": None,
        "foreignNotional": None,
    }
)


def files(instrument: Instrument, feed: str, start: int, end: int, now: int) -> list[ArchiveFile]:
    """The days of a contract's trades that lie wholly in ``[start, end)`` and are published."""
    if feed != "trades" or instrument.entity_type != "cryptoperp":
        return []
    symbol = instrument.native_id
    return [
        ArchiveFile(HOST, f"/trading/{symbol}/{symbol}{day_text(day)}.csv.gz", day, day_end)
        for day, day_end in whole_days(start, min(end, now - _DAY_AFTER))
    ]


def fetch(client: Client, instrument: Instrument, file: ArchiveFile) -> AsyncIterator[Part]:
    """The trades of a day."""

    def rows(columns: pa.Table, times: FileTimes) -> pa.Table:
        symbols = pc.unique(columns["symbol"]).to_pylist()
        if symbols != [instrument.native_id]:
            raise ArchiveUnusable(
                f"{file.name} has trades of {symbols[:3]} instead of {instrument.native_id}"
            )
        return _rows(instrument, columns, times)

    return fetch_parts(client, instrument.entity_type, file, FileForm(_TRADES, rows, TRADES, _LARGEST))


def _rows(instrument: Instrument, columns: pa.Table, times: FileTimes) -> pa.Table:
    ts, nanosecond = times.split(columns["timestamp"])
    price = columns["price"]
    values = [
        pa.array(ts),
        columns["trdMatchID"],
        price,
        pa.array(base_volume(instrument, columns["size"].to_numpy(), price.to_numpy())),
        pc.utf8_lower(columns["side"]),
        nanosecond,
    ]
    return pa.table(values, schema=TRADES)
