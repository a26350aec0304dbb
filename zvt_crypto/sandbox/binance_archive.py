"""Binance's public archive (data.binance.vision): klines, aggregate trades and funding events in zip files.

Follows https://github.com/binance/binance-public-data: files of futures have a header, those of spot have
none and tell times in microseconds from 2025 on. Not there: single trades, COIN-M futures, options, index
and mark prices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import parse_time
from zvt_crypto.sandbox import archive
from zvt_crypto.sandbox.binance import INTERVALS
from zvt_crypto.sandbox.events import Fundings, Trades, TradeSpan
from zvt_crypto.sandbox.market import Array, Candles, Instrument, Span
from zvt_crypto.sandbox.venue import Answer, Call, Handler, Venue
from zvt_crypto.sandbox.wire import decimal_text

_MICROSECONDS_FROM: Final = parse_time("2025-01-01")
_DOLLARS: Final = ("USDT", "USDC")
_KLINES: Final = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore"
)
_AGG_TRADES: Final = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
_FUNDING_RATE: Final = "calc_time,funding_interval_hours,last_funding_rate"
_SPOT, _FUTURES = "/data/spot", "/data/futures/um"
_CHECKSUM: Final = ".CHECKSUM"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a path asks for."""

    instrument: Instrument
    start: int
    end: int
    interval: str | None
    call: Call

    @property
    def is_spot(self) -> bool:
        return self.instrument.settle is None

    @property
    def unit(self) -> int:
        """Times are so many to a millisecond."""
        return 1000 if self.is_spot and self.start >= _MICROSECONDS_FROM else 1


class BinanceArchive(Venue):
    """data.binance.vision."""

    name = "binance public archive"
    hosts = ("data.binance.vision",)
    row_paths = (
        *(f"{root}/{{period}}/klines/{{symbol}}/{{interval}}/{{file}}" for root in (_SPOT, _FUTURES)),
        *(f"{root}/{{period}}/aggTrades/{{symbol}}/{{file}}" for root in (_SPOT, _FUTURES)),
        f"{_FUTURES}/{{period}}/fundingRate/{{symbol}}/{{file}}",
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._kept = archive.KeptFiles()
        listed = [i for i in self.market.instruments.values() if self.lists(i)]
        # A spot pair and a contract may have the same name.
        self._spot = {self.native(i): i for i in listed if i.settle is None}
        self._futures = {self.native(i): i for i in listed if i.settle is not None}

    @staticmethod
    def symbol_parameter() -> str:
        """See ``Venue``."""
        return "symbol"

    def lists(self, instrument: Instrument) -> bool:
        """See ``Venue``."""
        if instrument.settle is None:
            return instrument.quote != "USD"
        return instrument.settle in _DOLLARS and not instrument.inverse

    def native(self, instrument: Instrument) -> str:
        """See ``Venue``."""
        return instrument.base + instrument.quote

    def routes(self) -> Mapping[str, Handler]:
        """See ``Venue``."""
        return dict.fromkeys(self.row_paths, self._file)

    def unknown_path(self, path: str) -> Answer:
        """See ``Venue``."""
        return archive.not_there(path)

    def error(self, status: int) -> Answer:
        """See ``Venue``."""
        if status == 404:
            return archive.not_there("/data")
        code, message = _ERRORS.get(status, ("InternalError", "We encountered an internal error."))
        return archive.s3_error(status, code, message)

    def maintenance(self, path: str) -> Answer:
        """See ``Venue``."""
        return self.error(503)

    def _file(self, call: Call) -> Answer:
        name = call.query["file"].removesuffix(_CHECKSUM)
        wanted = self._wanted(call, name)
        if wanted is None:
            return archive.not_there(call.path)
        text = {"klines": self._klines, "aggTrades": self._agg_trades, "fundingRate": self._funding_rate}
        make = text[next(kind for kind in text if f"/{kind}/" in call.path)]

        def packed() -> bytes:
            return archive.zipped(f"{name.removesuffix('.zip')}.csv", make(wanted))

        path = call.path.removesuffix(_CHECKSUM)
        body = packed() if call.damage is not None else self._kept.get(path, packed)
        if call.path != path:
            return Answer(archive.checksum(name, body), 200, {}, "binary/octet-stream")
        return Answer(body, 200, {}, "application/zip")

    def _wanted(self, call: Call, name: str) -> _Wanted | None:
        """What a path asks for, None where there is no such file."""
        query = call.query
        symbol, interval = query["symbol"], query.get("interval")
        instrument = (self._spot if call.path.startswith(_SPOT) else self._futures).get(symbol)
        kind = interval or call.path.split("/")[-3]
        match = re.fullmatch(rf"{re.escape(f'{symbol}-{kind}')}-([\d-]+)\.zip", name)
        if instrument is None or match is None or (interval is not None and interval not in INTERVALS):
            return None
        is_month = query["period"] == "monthly"
        if query["period"] not in ("monthly", "daily") or (len(match[1]) == 7) != is_month:
            return None
        span = archive.period(match[1], call.now)
        delisted = instrument.delisted
        if span is None or span[1] <= instrument.listed or (delisted is not None and span[0] >= delisted):
            return None
        if kind == "fundingRate" and not is_month:
            return None
        return _Wanted(instrument, *span, interval, call)

    def _klines(self, wanted: _Wanted) -> bytes:
        step, offset = INTERVALS[wanted.interval or ""]
        span = Span(wanted.instrument.symbol, step, wanted.start, wanted.end, offset)
        rows: Candles = wanted.call.damaged(self.market.bars(span))
        price, quantity, quote = _digits(wanted.instrument)

        def amount(values: Array, digits: int) -> pa.Array:
            return decimal_text(values, digits, rows.nan_text)

        return archive.csv_text(
            None if wanted.is_spot else _KLINES,
            decimal_text(rows.ts * wanted.unit),
            *(amount(values, price) for values in (rows.open, rows.high, rows.low, rows.close)),
            amount(rows.volume, quantity),
            decimal_text((rows.ts + step) * wanted.unit - 1),
            amount(rows.turnover, quote),
            decimal_text(rows.trade_count),
            amount(rows.taker_volume, quantity),
            amount(rows.taker_turnover, quote),
            "0",
        )

    def _agg_trades(self, wanted: _Wanted) -> bytes:
        span = TradeSpan(wanted.instrument.symbol, wanted.start, wanted.end)
        rows: Trades = wanted.call.damaged(self.market.trades(span))
        price, quantity, _ = _digits(wanted.instrument)
        ids = decimal_text(rows.id)
        times = rows.ts if wanted.unit == 1 else rows.ts * 1000 + rows.nanosecond // 1000
        yes, no = ("True", "False") if wanted.is_spot else ("true", "false")
        columns = [
            ids,
            decimal_text(rows.price, price, rows.nan_text),
            decimal_text(rows.volume, quantity, rows.nan_text),
            ids,
            ids,
            decimal_text(times),
            # Where the taker bought, the buyer was not the maker.
            pc.if_else(pa.array(rows.is_buy), no, yes),
        ]
        if wanted.is_spot:
            return archive.csv_text(None, *columns, "True")
        return archive.csv_text(_AGG_TRADES, *columns)

    def _funding_rate(self, wanted: _Wanted) -> bytes:
        rows: Fundings = wanted.call.damaged(
            self.market.fundings(wanted.instrument.symbol, wanted.start, wanted.end)
        )
        hours = np.array([wanted.instrument.funding_hours_at(int(ts)) for ts in rows.ts], np.int64)
        rate = decimal_text(rows.rate, 8, rows.nan_text)
        return archive.csv_text(_FUNDING_RATE, decimal_text(rows.ts), decimal_text(hours), rate)


def _digits(instrument: Instrument) -> tuple[int, int, int]:
    """Decimal digits of prices, quantities and turnovers."""
    if instrument.settle is None:
        return 8, 8, 8
    return instrument.price_digits, instrument.quantity_digits, instrument.turnover_digits


_ERRORS: Final[dict[int, tuple[str, str]]] = {
    403: ("AccessDenied", "Access Denied"),
    429: ("SlowDown", "Please reduce your request rate."),
    503: ("SlowDown", "Please reduce your request rate."),
}
