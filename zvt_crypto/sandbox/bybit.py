"""Bybit (api.bybit.com), market data of spot pairs, linear and inverse perpetuals.

Follows https://bybit-exchange.github.io/docs/v5/market/kline and the pages beside it. What Bybit does not
document is simulated thus: a limit above the largest counts as the largest, and ``start`` without ``end``
answers the first candles from there on. Dollar amounts of inverse contracts are whole numbers at Bybit; here
they have decimals, because the simulated market trades coins. Not there: the interval ``M`` (answered as a
wrong parameter), dated futures and options (no rows), orders and accounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS
from zvt_crypto.sandbox import bybit_info
from zvt_crypto.sandbox.events import Fundings, Trades, TradeSpan
from zvt_crypto.sandbox.market import Array, Candles, Instrument, Span
from zvt_crypto.sandbox.venue import Answer, Call, Handler, Refused, Venue, html
from zvt_crypto.sandbox.wire import decimal_text, json_rows

#: Interval -> (step, offset) in ms; weeks open on Monday.
INTERVALS: Final[dict[str, tuple[int, int]]] = {
    **{str(n): (n * MINUTE_MS, 0) for n in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)},
    "D": (DAY_MS, 0),
    "W": (7 * DAY_MS, 4 * DAY_MS),
}
_FOREVER: Final = 2**53
_CONTRACTS: Final = ("linear", "inverse")
_CATEGORIES: Final = ("spot", *_CONTRACTS, "option")
_SPOT_QUOTES: Final = ("USDT", "USDC", "BTC", "EUR")
_STABLE: Final = ("USDT", "USDC")
_DEPTHS: Final = {"spot": 200, "linear": 500, "inverse": 500}
#: Trades of contracts have a UUID, those of spot a number.
_UUID: Final = "a905d5c3-1ed0-4f37-83e4-"


class Bybit(Venue):
    """api.bybit.com."""

    name = "bybit"
    hosts: ClassVar[tuple[str, ...]] = ("api.bybit.com", "api.bytick.com")
    row_paths: ClassVar[tuple[str, ...]] = (
        "/v5/market/kline",
        "/v5/market/recent-trade",
        "/v5/market/funding/history",
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # A spot pair and a contract may have the same name.
        self._listed: dict[str, dict[str, Instrument]] = {category: {} for category in _CATEGORIES}
        for instrument in filter(self.lists, self.market.instruments.values()):
            self._listed[category_of(instrument)][self.native(instrument)] = instrument

    @staticmethod
    def symbol_parameter() -> str:
        """See ``Venue``."""
        return "symbol"

    def lists(self, instrument: Instrument) -> bool:
        """See ``Venue``: no dollars but as the quote of inverse contracts."""
        if instrument.settle is None:
            return instrument.quote in _SPOT_QUOTES
        return instrument.inverse or instrument.settle in _STABLE

    def native(self, instrument: Instrument) -> str:
        """See ``Venue``; contracts that are settled in USDC have a name of their own."""
        return instrument.base + ("PERP" if instrument.settle == "USDC" else instrument.quote)

    def instrument_of(self, query: Mapping[str, str]) -> Instrument | None:
        """See ``Venue``."""
        return self._listed.get(query.get("category", "linear"), {}).get(query.get("symbol", ""))

    def routes(self) -> Mapping[str, Handler]:
        """See ``Venue``."""
        return {
            "/v5/market/time": self._time,
            "/v5/market/instruments-info": self._instruments,
            "/v5/market/kline": self._klines,
            "/v5/market/recent-trade": self._trades,
            "/v5/market/funding/history": self._fundings,
            "/v5/market/orderbook": self._book,
            "/v5/system/status": lambda call: _success({"list": []}, call),
        }

    def unknown_path(self, path: str) -> Answer:
        """See ``Venue``."""
        return Answer(b"404 page not found", 404, {}, "text/plain")

    def error(self, status: int) -> Answer:
        """See ``Venue``."""
        if status == 403:
            return Answer(b"403, access too frequent", 403, {}, "text/plain")
        if status in _ERRORS:
            return self._failure(*_ERRORS[status], status)
        return html(status, "Error")

    def maintenance(self, path: str) -> Answer:
        """See ``Venue``."""
        return self._failure(10016, "Service is restarting. System maintenance in progress.", 503)

    def _time(self, call: Call) -> Answer:
        seconds, nanoseconds = str(call.now // 1000), str(call.now * 1_000_000)
        return _success({"timeSecond": seconds, "timeNano": nanoseconds}, call)

    def _instruments(self, call: Call) -> Answer:
        category = self._category(call.query, _CATEGORIES)
        wanted = call.query.get("symbol")
        if wanted and wanted not in self._listed[category]:
            if category != "spot":
                raise self._wrong("symbol invalid")
            return _success({"category": category, "list": [], "nextPageCursor": ""}, call)
        status = call.query.get("status", "Trading")
        describe = bybit_info.spot if category == "spot" else bybit_info.contract
        rows = [
            describe(name, number, instrument)
            for number, (name, instrument) in enumerate(self._listed[category].items(), 1)
            if (name == wanted if wanted else bybit_info.status(instrument) == status)
        ]
        start = self._number(call.query, "cursor", 0)
        # Spot has no pages.
        stop = len(rows) if category == "spot" else start + self._limit(call.query, 500, 1000)
        cursor = str(stop) if stop < len(rows) else ""
        return _success({"category": category, "list": rows[start:stop], "nextPageCursor": cursor}, call)

    def _klines(self, call: Call) -> Answer:
        query = {"category": "linear", **call.query}
        category, instrument = self._wanted(query, ("spot", *_CONTRACTS))
        if query.get("interval") not in INTERVALS:
            raise self._wrong("intervalTime is invalid")
        step, offset = INTERVALS[query["interval"]]
        start, end = self._number(query, "start", 0), self._number(query, "end", _FOREVER)
        span = Span(
            instrument.symbol,
            step,
            start,
            end + 1,
            offset,
            limit=self._limit(query, 200, 1000),
            newest="start" not in query or "end" in query,
        )
        rows = self.pages.page(span, call.now, call.damage, self.name, lambda r: candle_rows(r, instrument))
        return _listed(category, rows, call, instrument)

    def _trades(self, call: Call) -> Answer:
        category, instrument = self._wanted(call.query, ("spot", *_CONTRACTS))
        limit = self._limit(call.query, *((60, 60) if category == "spot" else (500, 1000)))
        span = TradeSpan(instrument.symbol, limit=limit, newest=True)
        trades = call.damaged(self.market.trades(span, call.now))
        return _listed(category, trade_rows(trades, instrument, self.native(instrument)), call)

    def _fundings(self, call: Call) -> Answer:
        category, instrument = self._wanted(call.query, _CONTRACTS)
        limit = self._limit(call.query, 200, 200)
        if "startTime" in call.query and "endTime" not in call.query:
            raise self._wrong("endTime is required with startTime")
        end = min(self._number(call.query, "endTime", _FOREVER), call.now) + 1
        # As far back as so many payments can lie.
        longest = max(instrument.funding_hours, *(instrument.funding_change or (0, 0))[1:]) * HOUR_MS
        start = max(self._number(call.query, "startTime", 0), end - (limit + 1) * longest)
        events = self.market.fundings(instrument.symbol, start, end, call.now)
        newest = call.damaged(events.take(slice(max(len(events) - limit, 0), None)))
        return _listed(category, funding_rows(newest, self.native(instrument)), call)

    def _book(self, call: Call) -> Answer:
        category, instrument = self._wanted(call.query, tuple(_DEPTHS))
        depth = self._limit(call.query, 1 if category == "spot" else 25, _DEPTHS[category])
        book = self.market.book(instrument.symbol, depth, call.now)
        bids, asks = level_rows(book.bids, instrument), level_rows(book.asks, instrument)
        head = orjson.dumps({"s": self.native(instrument)})[:-1]
        # An update number begins anew when the service restarts; the sequence goes on.
        state = {"ts": book.ts, "u": book.sequence % 100_000_000, "seq": book.sequence, "cts": book.ts}
        return _raw(head + b',"b":' + bids + b',"a":' + asks + b"," + orjson.dumps(state)[1:], call)

    def _wanted(self, query: Mapping[str, str], allowed: tuple[str, ...]) -> tuple[str, Instrument]:
        category = self._category(query, allowed)
        instrument = self._listed[category].get(query.get("symbol", ""))
        if instrument is None and category == "spot":
            raise Refused(self._failure(10001, "Not supported symbols"))
        if instrument is None:
            raise self._wrong("symbol invalid")
        return category, instrument

    def _category(self, query: Mapping[str, str], allowed: tuple[str, ...]) -> str:
        category = query.get("category", "")
        if category not in allowed:
            raise self._wrong("category is invalid")
        return category

    def _limit(self, query: Mapping[str, str], usual: int, largest: int) -> int:
        limit = self._number(query, "limit", usual)
        if limit < 1:
            raise self._wrong("limit is invalid")
        return min(limit, largest)

    def _number(self, query: Mapping[str, str], name: str, usual: int) -> int:
        value = query.get(name) or str(usual)
        if not value.isdigit():
            raise self._wrong(f"{name} is invalid")
        return int(value)

    def _wrong(self, what: str) -> Refused:
        return Refused(self._failure(10001, f"params error: {what}"))

    def _failure(self, code: int, message: str, status: int = 200) -> Answer:
        now = self.market.now()
        body = {"retCode": code, "retMsg": message, "result": {}, "retExtInfo": {}, "time": now}
        return Answer.json(body, status)


def category_of(instrument: Instrument) -> str:
    """Bybit's kind of market."""
    if instrument.settle is None:
        return "spot"
    return "inverse" if instrument.inverse else "linear"


def candle_rows(rows: Candles, instrument: Instrument) -> bytes:
    """Candles as Bybit writes them: seven strings, the newest first; inverse contracts count dollars."""
    newest_first = rows.take(slice(None, None, -1))
    amounts = ("turnover", "volume") if instrument.inverse else ("volume", "turnover")
    names = ("ts", "open", "high", "low", "close", *amounts)
    columns = [np.ascontiguousarray(getattr(newest_first, name)) for name in names]
    texts = [decimal_text(column, None, rows.nan_text) for column in columns]
    separated = [part for text in texts for part in ('","', text)]
    return json_rows('["', *separated[1:], '"]')


def trade_rows(rows: Trades, instrument: Instrument, name: str) -> bytes:
    """Trades as Bybit writes them, the newest first."""
    newest_first = rows.take(np.arange(len(rows))[::-1])
    ids = execution_ids(newest_first, instrument)
    size = amounts(newest_first.price, newest_first.volume, instrument)
    return json_rows(
        '{"execId":"',
        ids,
        f'","symbol":"{name}","price":"',
        decimal_text(newest_first.price, None, rows.nan_text),
        '","size":"',
        decimal_text(size, None, rows.nan_text),
        '","side":"',
        pc.if_else(pa.array(newest_first.is_buy), "Buy", "Sell"),
        '","time":"',
        decimal_text(newest_first.ts),
        '","isBlockTrade":false}',
    )


def execution_ids(rows: Trades, instrument: Instrument) -> pa.Array:
    """The ids of trades."""
    ids = decimal_text(rows.id)
    if instrument.settle is None:
        return ids
    return pc.binary_join_element_wise(_UUID, pc.utf8_lpad(ids, 12, "0"), "")


def funding_rows(rows: Fundings, name: str) -> bytes:
    """Funding events as Bybit writes them, the newest first."""
    newest_first = rows.take(np.arange(len(rows))[::-1])
    return json_rows(
        f'{{"symbol":"{name}","fundingRate":"',
        decimal_text(newest_first.rate, None, rows.nan_text),
        '","fundingRateTimestamp":"',
        decimal_text(newest_first.ts),
        '"}',
    )


def level_rows(levels: Array, instrument: Instrument) -> bytes:
    """One side of an order book: price and size as strings, the best first."""
    price, volume = np.ascontiguousarray(levels[:, 0]), np.ascontiguousarray(levels[:, 1])
    size = decimal_text(amounts(price, volume, instrument))
    return json_rows('["', decimal_text(price), '","', size, '"]')


def amounts(price: Array, volume: Array, instrument: Instrument) -> Array:
    """Coins, or dollars where the contract is inverse."""
    return np.round(price * volume, instrument.turnover_digits) if instrument.inverse else volume


_ERRORS: Final[dict[int, tuple[int, str]]] = {
    401: (10003, "API key is invalid."),
    429: (10429, "System level frequency protection"),
    500: (10016, "System error. Please try again later."),
}


def _success(result: Any, call: Call) -> Answer:
    return _raw(orjson.dumps(result), call)


def _listed(category: str, rows: bytes, call: Call, instrument: Instrument | None = None) -> Answer:
    head = b'{"category":"' + category.encode() + b'",'
    if instrument is not None:
        head += b'"symbol":"' + call.query["symbol"].encode() + b'",'
    return _raw(head + b'"list":' + rows + b"}", call)


def _raw(result: bytes, call: Call) -> Answer:
    tail = b',"retExtInfo":{},"time":' + str(call.now).encode() + b"}"
    return Answer(b'{"retCode":0,"retMsg":"OK","result":' + result + tail)
