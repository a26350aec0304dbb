"""Bybit's public archive (public.bybit.com): trades by days, in gzip files.

Follows https://public.bybit.com/trading/ (contracts: seconds with four decimal digits, the oldest first) and
https://public.bybit.com/spot/ (pairs: rows numbered from 1 on). Not there: listings of folders, monthly files
of spot, index prices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.sandbox import archive
from zvt_crypto.sandbox.bybit import Bybit, amounts, category_of, execution_ids
from zvt_crypto.sandbox.events import Trades, TradeSpan
from zvt_crypto.sandbox.market import Instrument
from zvt_crypto.sandbox.venue import Answer, Call, Handler
from zvt_crypto.sandbox.wire import decimal_text

_CONTRACTS: Final = (
    "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional"
)
_SPOT: Final = "id,timestamp,price,volume,side"


class BybitArchive(Bybit):
    """public.bybit.com."""

    name = "bybit public archive"
    hosts = ("public.bybit.com",)
    row_paths = ("/trading/{symbol}/{file}", "/spot/{symbol}/{file}")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._kept = archive.KeptFiles()

    def instrument_of(self, query: Mapping[str, str]) -> Instrument | None:
        """See ``Venue``."""
        return self._contract(query.get("symbol", ""))

    def routes(self) -> Mapping[str, Handler]:
        """See ``Venue``."""
        return {"/trading/{symbol}/{file}": self._of_contract, "/spot/{symbol}/{file}": self._of_pair}

    def unknown_path(self, path: str) -> Answer:
        """See ``Venue``."""
        return archive.not_there(path)

    def error(self, status: int) -> Answer:
        """See ``Venue``."""
        return archive.s3_error(status, "InternalError", "We encountered an internal error.")

    def maintenance(self, path: str) -> Answer:
        """See ``Venue``."""
        return self.error(503)

    def _contract(self, symbol: str) -> Instrument | None:
        return self._listed["linear"].get(symbol) or self._listed["inverse"].get(symbol)

    def _of_contract(self, call: Call) -> Answer:
        return self._file(call, self._contract(call.query["symbol"]), "")

    def _of_pair(self, call: Call) -> Answer:
        return self._file(call, self._listed["spot"].get(call.query["symbol"]), "_")

    def _file(self, call: Call, instrument: Instrument | None, joint: str) -> Answer:
        symbol = call.query["symbol"]
        match = re.fullmatch(rf"{re.escape(symbol + joint)}(\d{{4}}-\d\d-\d\d)\.csv\.gz", call.query["file"])
        span = archive.period(match[1], call.now) if match else None
        if instrument is None or span is None or span[1] <= instrument.listed:
            return archive.not_there(call.path)

        def packed() -> bytes:
            rows = call.damaged(self.market.trades(TradeSpan(instrument.symbol, *span)))
            return archive.gzipped(_text(rows, instrument, symbol))

        body = packed() if call.damage is not None else self._kept.get(call.path, packed)
        return Answer(body, 200, {}, "application/x-gzip")


def _text(rows: Trades, instrument: Instrument, symbol: str) -> bytes:
    price, volume = (
        decimal_text(rows.price, None, rows.nan_text),
        decimal_text(rows.volume, None, rows.nan_text),
    )
    is_buy = pa.array(rows.is_buy)
    if category_of(instrument) == "spot":
        number = decimal_text(np.arange(1, len(rows) + 1))
        side = pc.if_else(is_buy, "buy", "sell")
        return archive.csv_text(_SPOT, number, decimal_text(rows.ts), price, volume, side)
    tenths = pc.utf8_lpad(decimal_text(rows.ts % 1000 * 10 + rows.nanosecond // 100_000), 4, "0")
    return archive.csv_text(
        _CONTRACTS,
        pc.binary_join_element_wise(decimal_text(rows.ts // 1000), tenths, "."),
        symbol,
        pc.if_else(is_buy, "Buy", "Sell"),
        decimal_text(amounts(rows.price, rows.volume, instrument), None, rows.nan_text),
        price,
        "ZeroMinusTick",
        execution_ids(rows, instrument),
        decimal_text(np.rint(rows.turnover * 1e8)),
        volume,
        decimal_text(np.round(rows.turnover, instrument.turnover_digits)),
    )
