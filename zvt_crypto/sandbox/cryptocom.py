"""Crypto.com Exchange (api.crypto.com), public market data of spot pairs and perpetuals.

Follows https://exchange-docs.crypto.com/exchange/v1/rest-ws/index.html#reference-and-market-data-api. What it
does not document is as it was seen there (the words of errors, depths up to 150, funding events newest first)
or simulated thus: ``start_ts`` is inclusive and ``end_ts`` is not, as documented for trades; times may be in
ms, microseconds or ns; a count above the largest counts as the largest; candles ascend, and the newest ones
are answered. Of marks and indices only the newest value is there. Not there: the legacy timeframes and ``1M``
(answered as wrong), other valuations, dated futures and warrants, orders and accounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, iso
from zvt_crypto.sandbox import cryptocom_info
from zvt_crypto.sandbox.events import Array, Fundings, Trades, TradeSpan
from zvt_crypto.sandbox.instruments import ANCHOR_PRICE
from zvt_crypto.sandbox.market import Candles, Instrument, Span
from zvt_crypto.sandbox.venue import Answer, Call, Handler, Refused, Venue, html
from zvt_crypto.sandbox.wire import decimal_text, json_rows

#: Timeframe -> (step, offset) in ms; weeks open on Monday, every second one on 28 October 2019.
TIMEFRAMES: Final[dict[str, tuple[int, int]]] = {
    **{f"{n}m": (n * MINUTE_MS, 0) for n in (1, 5, 15, 30)},
    **{f"{n}h": (n * HOUR_MS, 0) for n in (1, 2, 4, 12)},
    "1D": (DAY_MS, 0),
    "7D": (7 * DAY_MS, 4 * DAY_MS),
    "14D": (14 * DAY_MS, 11 * DAY_MS),
}
_PREFIX: Final = "/exchange/v1/"
_QUOTES: Final = ("USD", "USDT", "BTC")
_BITCOIN: Final = "BTCUSD-PERP"
_MARKS: Final = ("mark_price", "index_price")
_NS: Final = 1_000_000
_USUAL_COUNT: Final = 25
_MOST_CANDLES: Final = 300
_MOST_TRADES: Final = 150
_MOST_VALUATIONS: Final = 300
_MOST_LEVELS: Final = 150
_LONGEST_TRADE_WINDOW: Final = 7 * DAY_MS * _NS


class Cryptocom(Venue):
    """api.crypto.com."""

    name = "crypto.com"
    hosts = ("api.crypto.com",)
    row_paths = tuple(f"{_PREFIX}public/get-{what}" for what in ("candlestick", "trades", "valuations"))

    @staticmethod
    def symbol_parameter() -> str:
        """See ``Venue``."""
        return "instrument_name"

    def lists(self, instrument: Instrument) -> bool:
        """See ``Venue``: perpetuals are settled in dollars."""
        if instrument.settle is None:
            return instrument.quote in _QUOTES
        return instrument.quote == instrument.settle == "USD"

    def native(self, instrument: Instrument) -> str:
        """See ``Venue``."""
        if instrument.settle is None:
            return f"{instrument.base}_{instrument.quote}"
        return f"{instrument.base}{instrument.quote}-PERP"

    def routes(self) -> Mapping[str, Handler]:
        """See ``Venue``."""
        paths: dict[str, Handler] = {
            "instruments": self._instruments,
            "candlestick": self._candles,
            "trades": self._trades,
            "valuations": self._valuations,
            "book": self._book,
        }
        return {f"{_PREFIX}public/get-{what}": handler for what, handler in paths.items()}

    def unknown_path(self, path: str) -> Answer:
        """See ``Venue``."""
        time, inner = iso(self.market.now()), path.removeprefix("/exchange")
        body = {"timestamp": time, "status": 404, "error": "Not Found", "path": inner}
        return Answer.json(body, 404)

    def error(self, status: int) -> Answer:
        """See ``Venue``."""
        if status in _ERRORS:
            return _failure(*_ERRORS[status], status)
        return html(status, "Error")

    def maintenance(self, path: str) -> Answer:
        """See ``Venue``."""
        details = (
            "Crypto.com Exchange is currently under maintenance. Please refer to https://status.crypto.com"
            " for more details."
        )
        return Answer.json({"code": 9010001, "message": "SYSTEM_MAINTENANCE", "details": details}, 503)

    def _instruments(self, call: Call) -> Answer:
        describe = {True: cryptocom_info.pair, False: cryptocom_info.perpetual}
        rows = [describe[i.settle is None](name, i) for name, i in self.listed.items()]
        return _success(call, orjson.dumps({"data": rows}))

    def _candles(self, call: Call) -> Answer:
        name, instrument = self._wanted(call.query)
        timeframe = call.query.get("timeframe", "1m")
        if timeframe not in TIMEFRAMES:
            raise _invalid("timeframe")
        step, offset = TIMEFRAMES[timeframe]
        end = _time(call.query, "end_ts", call.now * _NS)
        start = _time(call.query, "start_ts", end - DAY_MS * _NS)
        count = _count(call.query, _MOST_CANDLES)
        span = Span(instrument.symbol, step, _ceil_ms(start), _ceil_ms(end), offset, count, newest=True)

        def form(rows: Candles) -> bytes:
            return candle_rows(rows, instrument)

        rows = self.pages.page(span, call.now, call.damage, self.name, form)
        head = orjson.dumps({"interval": timeframe})[:-1]
        return _success(call, head + b',"data":' + rows + b"," + orjson.dumps({"instrument_name": name})[1:])

    def _trades(self, call: Call) -> Answer:
        name, instrument = self._wanted(call.query)
        end = min(_time(call.query, "end_ts", call.now * _NS), (call.now + 1) * _NS)
        start = _time(call.query, "start_ts", end - DAY_MS * _NS)
        if end - start > _LONGEST_TRADE_WINDOW:
            raise _invalid("start_ts")
        trades = self._newest_trades(instrument.symbol, start, end, _count(call.query, _MOST_TRADES))
        rows = trade_rows(call.damaged(trades), instrument, name)
        return _success(call, b'{"data":' + rows + b"}")

    def _newest_trades(self, symbol: str, start: int, end: int, count: int) -> Trades:
        """The newest trades in ``[start, end)``, in ns."""
        last = end // _NS
        cut = self.market.trades(TradeSpan(symbol, last, last + 1))
        # Those of the last millisecond that are too late take no place away from others.
        limit = count + int((_ns(cut) >= end).sum())
        rows = self.market.trades(TradeSpan(symbol, start // _NS, last + 1, limit=limit, newest=True))
        times = _ns(rows)
        return rows.take((times >= start) & (times < end))

    def _valuations(self, call: Call) -> Answer:
        name, kind = call.query.get("instrument_name", ""), call.query.get("valuation_type")
        # The mark of bitcoin is there whatever the market trades: clients tell the time by it.
        tells_time = name == _BITCOIN and kind in _MARKS
        instrument = self.listed.get(name) if tells_time else self._wanted(call.query)[1]
        if kind is None:
            raise _missing("valuation_type")
        if kind in _MARKS:
            rows = self._mark_rows(call, instrument)
        elif kind == "funding_hist" and instrument is not None:
            rows = self._funding_rows(call, instrument)
        else:
            raise _invalid("valuation_type")
        return _success(call, b'{"data":' + rows + b"," + orjson.dumps({"instrument_name": name})[1:])

    def _funding_rows(self, call: Call, instrument: Instrument) -> bytes:
        if instrument.settle is None:
            raise _invalid("instrument_name")
        count = _count(call.query, _MOST_VALUATIONS)
        end = min(_time(call.query, "end_ts", call.now * _NS), (call.now + 1) * _NS)
        start = _ceil_ms(_time(call.query, "start_ts", end - 30 * DAY_MS * _NS))
        stop = _ceil_ms(end)
        # As far back as so many payments can lie.
        longest = max(instrument.funding_hours, *(instrument.funding_change or (0, 0))[1:]) * HOUR_MS
        events = self.market.fundings(
            instrument.symbol, max(start, stop - (count + 1) * longest), stop, call.now
        )
        return funding_rows(call.damaged(events.take(slice(max(len(events) - count, 0), None))))

    def _mark_rows(self, call: Call, instrument: Instrument | None) -> bytes:
        price = np.array([ANCHOR_PRICE["BTC"]])
        if instrument is not None:
            last = Span(instrument.symbol, MINUTE_MS, 0, call.now + 1, limit=1, newest=True)
            price = self.market.bars(last, call.now).close
        rows = [{"v": text, "t": call.now // 1000 * 1000} for text in decimal_text(price).to_pylist()]
        return orjson.dumps(rows)

    def _book(self, call: Call) -> Answer:
        name, instrument = self._wanted(call.query)
        depth = _number(call.query, "depth", _MOST_LEVELS)
        if not 0 < depth <= _MOST_LEVELS:
            raise _invalid("depth")
        book = self.market.book(instrument.symbol, depth, call.now)
        bids, asks = level_rows(book.bids, instrument), level_rows(book.asks, instrument)
        time = orjson.dumps({"t": book.ts})[1:]
        head = orjson.dumps({"depth": depth})[:-1]
        data = b',"data":[{"bids":' + bids + b',"asks":' + asks + b"," + time + b"],"
        return _success(call, head + data + orjson.dumps({"instrument_name": name})[1:])

    def _wanted(self, query: Mapping[str, str]) -> tuple[str, Instrument]:
        name = query.get("instrument_name")
        if not name:
            raise _missing("instrument_name")
        if name not in self.listed:
            raise _invalid("instrument_name")
        return name, self.listed[name]


def candle_rows(rows: Candles, instrument: Instrument) -> bytes:
    """Candles as Crypto.com writes them: objects of texts with the time as a number, ascending."""
    parts: list[str | pa.Array] = []
    for key, name in (("o", "open"), ("h", "high"), ("l", "low"), ("c", "close"), ("v", "volume")):
        digits = instrument.quantity_digits if name == "volume" else instrument.price_digits
        separator = f'","{key}":"' if parts else f'{{"{key}":"'
        parts += [separator, decimal_text(getattr(rows, name), digits, rows.nan_text)]
    return json_rows(*parts, '","t":', decimal_text(rows.ts), "}")


def trade_rows(rows: Trades, instrument: Instrument, name: str) -> bytes:
    """Trades as Crypto.com writes them: the newest first, with the taker's side."""
    newest_first = rows.take(np.arange(len(rows))[::-1])
    ids = decimal_text(newest_first.id)
    return json_rows(
        '{"d":"',
        ids,
        '","t":',
        decimal_text(newest_first.ts),
        ',"tn":"',
        decimal_text(_ns(newest_first)),
        '","q":"',
        decimal_text(newest_first.volume, instrument.quantity_digits, rows.nan_text),
        '","p":"',
        decimal_text(newest_first.price, instrument.price_digits, rows.nan_text),
        '","s":"',
        pc.if_else(pa.array(newest_first.is_buy), "BUY", "SELL"),
        f'","i":"{name}","m":"',
        ids,
        '"}',
    )


def funding_rows(rows: Fundings) -> bytes:
    """Funding events as Crypto.com writes them, the newest first."""
    newest_first = rows.take(np.arange(len(rows))[::-1])
    rate = decimal_text(newest_first.rate, None, rows.nan_text)
    return json_rows('{"v":"', rate, '","t":', decimal_text(newest_first.ts), "}")


def level_rows(levels: Array, instrument: Instrument) -> bytes:
    """Levels of a book: price, amount and number of orders, all texts."""
    price, amount = (np.ascontiguousarray(levels[:, n]) for n in (0, 1))
    return json_rows(
        '["',
        decimal_text(price, instrument.price_digits),
        '","',
        decimal_text(amount, instrument.quantity_digits),
        '","1"]',
    )


_ERRORS: Final[dict[int, tuple[int, str]]] = {
    400: (40001, "BAD_REQUEST"),
    401: (40101, "UNAUTHORIZED"),
    408: (40801, "REQUEST_TIMEOUT"),
    429: (42901, "TOO_MANY_REQUESTS"),
    500: (50001, "INTERNAL_SERVER_ERROR"),
}


def _ns(rows: Trades) -> Array:
    times: Array = rows.ts * _NS + rows.nanosecond
    return times


def _success(call: Call, result: bytes) -> Answer:
    method = call.path.removeprefix(_PREFIX)
    head = orjson.dumps({"id": -1, "method": method, "code": 0})[:-1]
    return Answer(head + b',"result":' + result + b"}")


def _failure(code: int, message: str, status: int) -> Answer:
    return Answer.json({"code": code, "message": message}, status)


def _invalid(name: str) -> Refused:
    return Refused(_failure(40004, f"Invalid {name}", 400))


def _missing(name: str) -> Refused:
    return Refused(_failure(40004, f"Missing {name} param", 400))


def _count(query: Mapping[str, str], most: int) -> int:
    count = _number(query, "count", _USUAL_COUNT)
    if count < 1:
        raise _invalid("count")
    return min(count, most)


def _number(query: Mapping[str, str], name: str, usual: int) -> int:
    value = query.get(name) or str(usual)
    if not value.lstrip("-").isdigit():
        raise _invalid(name)
    return int(value)


def _time(query: Mapping[str, str], name: str, usual: int) -> int:
    """A time in ns, given in ms, microseconds or ns, which its length tells."""
    value = _number(query, name, usual)
    if abs(value) < 10**14:
        return value * _NS
    return value * 1000 if abs(value) < 10**17 else value


def _ceil_ms(ns: int) -> int:
    return -(-ns // _NS)
