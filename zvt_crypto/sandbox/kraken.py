"""Kraken (api.kraken.com), market data of spot pairs.

Follows https://docs.kraken.com/api/docs/rest-api/get-ohlc-data and the pages beside it. Differences: times of
trades have microseconds, where Kraken writes the nearest number with up to seven decimals; no candle is
without trades; a trade is a market or a limit order by its number. Not there: tickers, spreads, tokenized
assets, orders and accounts.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from email.utils import format_datetime
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import MINUTE_MS, iso
from zvt_crypto.sandbox import kraken_info
from zvt_crypto.sandbox.events import Trades, TradeSpan, joined
from zvt_crypto.sandbox.market import Array, Candles, Instrument, Span
from zvt_crypto.sandbox.venue import Answer, Call, Handler, Refused, Venue, html
from zvt_crypto.sandbox.wire import decimal_text, json_rows

#: Candle lengths in minutes.
INTERVALS: Final = (1, 5, 15, 30, 60, 240, 1440, 10_080, 21_600)
#: So many finished candles and the unfinished one.
_MOST_CANDLES: Final = 720 + 1
_MOST_TRADES: Final = 1000
_MOST_LEVELS: Final = 500
_FOREVER: Final = 2**53
_MS: Final = 1_000_000
#: A time with fewer digits is in seconds, one with more in nanoseconds.
_LONGEST_SECONDS: Final = 10
#: Kraken takes pairs that are delisted off its list, and quotes the smallest coins in money of states only.
_NOT_LISTED: Final = ("PEPE",)


class Kraken(Venue):
    """api.kraken.com."""

    name = "kraken"
    hosts = ("api.kraken.com",)
    row_paths = ("/0/public/OHLC", "/0/public/Trades")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._names = {name: name for name in self.listed}
        for name, instrument in self.listed.items():
            described = kraken_info.pair(instrument)
            self._names |= {described["altname"]: name, described["wsname"]: name}

    @staticmethod
    def symbol_parameter() -> str:
        """See ``Venue``."""
        return "pair"

    def lists(self, instrument: Instrument) -> bool:
        """See ``Venue``."""
        return instrument.settle is None and instrument.active and instrument.base not in _NOT_LISTED

    def native(self, instrument: Instrument) -> str:
        """See ``Venue``."""
        return kraken_info.pair_id(instrument)

    def instrument_of(self, query: Mapping[str, str]) -> Instrument | None:
        """See ``Venue``; a pair has three names."""
        return self.listed.get(self._names.get(query.get("pair", ""), ""))

    def routes(self) -> Mapping[str, Handler]:
        """See ``Venue``."""
        return {
            "/0/public/Time": _time,
            "/0/public/SystemStatus": lambda call: _status("online", call.now),
            "/0/public/Assets": self._assets,
            "/0/public/AssetPairs": self._pairs,
            "/0/public/OHLC": self._candles,
            "/0/public/Trades": self._trades,
            "/0/public/Depth": self._book,
        }

    def unknown_path(self, path: str) -> Answer:
        """See ``Venue``."""
        return _failure("EGeneral:Unknown method", 404)

    def error(self, status: int) -> Answer:
        """See ``Venue``; Kraken itself answers most errors with HTTP 200."""
        if status in _ERRORS:
            return _failure(_ERRORS[status], status)
        return html(status, "Error")

    def maintenance(self, path: str) -> Answer:
        """See ``Venue``."""
        if path == "/0/public/SystemStatus":
            return _status("maintenance", self.market.now())
        return _failure("EService:Unavailable")

    def _assets(self, call: Call) -> Answer:
        currencies = {c for i in self.listed.values() for c in (i.base, i.quote)}
        return _success({kraken_info.asset_id(c): kraken_info.asset(c) for c in sorted(currencies)})

    def _pairs(self, call: Call) -> Answer:
        wanted = self.listed
        if call.query.get("pair"):
            wanted = dict(self._wanted({"pair": name}) for name in call.query["pair"].split(","))
        return _success({name: kraken_info.pair(instrument) for name, instrument in wanted.items()})

    def _candles(self, call: Call) -> Answer:
        name, instrument = self._wanted(call.query)
        interval = _number(call.query, "interval", 1)
        if interval not in INTERVALS:
            raise _refused("EGeneral:Invalid arguments:interval")
        step, since = interval * MINUTE_MS, _number(call.query, "since", 0)
        # ``since`` is exclusive.
        span = Span(instrument.symbol, step, since * 1000 + 1, _FOREVER, limit=_MOST_CANDLES, newest=True)
        rows = self.pages.page(
            span, call.now, call.damage, self.name, lambda candles: candle_rows(candles, instrument)
        )
        finished = (call.now // step - 1) * step // 1000
        return _rows(name, rows, str(finished))

    def _trades(self, call: Call) -> Answer:
        name, instrument = self._wanted(call.query)
        count = _number(call.query, "count", _MOST_TRADES)
        if not 0 < count <= _MOST_TRADES:
            raise _refused("EGeneral:Invalid arguments:count")
        given = call.query.get("since")
        since = _number(call.query, "since", 0)
        if given is not None and len(given) <= _LONGEST_SECONDS:
            since *= 1000 * _MS
        if given is None:
            trades = self.market.trades(TradeSpan(instrument.symbol, limit=count, newest=True), call.now)
        else:
            trades = self._trades_after(instrument, since, count, call.now)
        shown = call.damaged(trades)
        last = int(_nanoseconds(shown).max()) if len(shown) else since
        return _rows(name, trade_rows(shown), f'"{last}"')

    def _trades_after(self, instrument: Instrument, since: int, count: int, now: int) -> Trades:
        """The first trades whose time, in epoch nanoseconds, is after ``since``."""
        opened = since // _MS
        same = self.market.trades(TradeSpan(instrument.symbol, opened, opened + 1), now)
        same = same.take(np.flatnonzero(_nanoseconds(same) > since)[:count])
        left = count - len(same)
        later = self.market.trades(TradeSpan(instrument.symbol, opened + 1, limit=left), now)
        return joined([same, later]) if left else same

    def _book(self, call: Call) -> Answer:
        name, instrument = self._wanted(call.query)
        depth = _number(call.query, "count", 100)
        if not 0 < depth <= _MOST_LEVELS:
            raise _refused("EGeneral:Invalid arguments:count")
        book = self.market.book(instrument.symbol, depth, call.now)
        sides = [level_rows(levels, book.ts) for levels in (book.asks, book.bids)]
        return _raw(f'"{name}":'.encode() + b'{"asks":%b,"bids":%b}' % tuple(sides))

    def _wanted(self, query: Mapping[str, str]) -> tuple[str, Instrument]:
        if not query.get("pair"):
            raise _refused("EGeneral:Invalid arguments")
        name = self._names.get(query["pair"])
        if name is None:
            raise _refused("EQuery:Unknown asset pair")
        return name, self.listed[name]


def candle_rows(rows: Candles, instrument: Instrument) -> bytes:
    """Candles as Kraken writes them, ascending, with the average price (0.0 without volume) rounded."""
    digits = max(instrument.price_digits, 1)
    average = np.divide(rows.turnover, rows.volume, out=np.zeros(len(rows)), where=rows.volume > 0)
    columns = (rows.open, rows.high, rows.low, rows.close, np.round(average, digits))
    prices = [decimal_text(np.ascontiguousarray(column), digits, rows.nan_text) for column in columns]
    return json_rows(
        "[",
        decimal_text(rows.ts // 1000),
        ',"',
        *(part for text in prices for part in (text, '","')),
        decimal_text(rows.volume, 8, rows.nan_text),
        '",',
        decimal_text(rows.trade_count),
        "]",
    )


def trade_rows(rows: Trades) -> bytes:
    """Trades as Kraken writes them, ascending; the time is a number of seconds."""
    return json_rows(
        '["',
        decimal_text(rows.price, 5, rows.nan_text),
        '","',
        decimal_text(rows.volume, 8, rows.nan_text),
        '",',
        decimal_text(_nanoseconds(rows) // 1000 / 1e6),
        ',"',
        pc.if_else(pa.array(rows.is_buy), "b", "s"),
        '","',
        pc.if_else(pa.array(rows.id % 2 == 0), "m", "l"),
        '","",',
        decimal_text(rows.id),
        "]",
    )


def level_rows(levels: Array, ts: int) -> bytes:
    """One side of an order book: price, volume and time in seconds, the best first."""
    price, volume = np.ascontiguousarray(levels[:, 0]), np.ascontiguousarray(levels[:, 1])
    return json_rows('["', decimal_text(price, 5), '","', decimal_text(volume, 3), f'",{ts // 1000}]')


def _nanoseconds(rows: Trades) -> Array:
    return np.asarray(rows.ts * _MS + rows.nanosecond)


_ERRORS: Final[dict[int, str]] = {
    418: "EGeneral:Temporary lockout",
    429: "EAPI:Rate limit exceeded",
    500: "EGeneral:Internal error",
    503: "EService:Unavailable",
}


def _time(call: Call) -> Answer:
    moment = dt.datetime.fromtimestamp(call.now // 1000, dt.timezone.utc)
    text = format_datetime(moment).replace(f" {moment.year} ", f" {moment:%y} ")
    return _success({"unixtime": call.now // 1000, "rfc1123": text})


def _status(status: str, now: int) -> Answer:
    return _success({"status": status, "timestamp": iso(now // 1000 * 1000)})


def _success(result: Mapping[str, Any]) -> Answer:
    return Answer.json({"error": [], "result": result})


def _raw(result: bytes) -> Answer:
    return Answer(b'{"error":[],"result":{' + result + b"}}")


def _rows(name: str, rows: bytes, last: str) -> Answer:
    return _raw(orjson.dumps(name) + b":" + rows + f',"last":{last}'.encode())


def _failure(text: str, status: int = 200) -> Answer:
    return Answer.json({"error": [text]}, status)


def _refused(text: str) -> Refused:
    return Refused(_failure(text))


def _number(query: Mapping[str, str], name: str, usual: int) -> int:
    value = query.get(name) or str(usual)
    if not value.isdigit():
        raise _refused(f"EGeneral:Invalid arguments:{name}")
    return int(value)
