"""OKX (www.okx.com), market data of spot pairs and perpetual swaps.

Follows https://www.okx.com/docs-v5/en/#order-book-trading-market-data and ``#public-data-rest-api``:
instruments, candles, trades, funding events, order books of up to 400 levels. Not there: bars of seconds and
of months (answered as a wrong parameter), futures and options (empty lists), orders and accounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import orjson

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS
from zvt_crypto.sandbox import okx_feeds, okx_info
from zvt_crypto.sandbox.events import TradeSpan
from zvt_crypto.sandbox.market import Array, Candles, Instrument, Span
from zvt_crypto.sandbox.venue import Answer, Call, Handler, Refused, Venue, html
from zvt_crypto.sandbox.wire import decimal_text, json_rows

# Bars of six hours and more open by Hong Kong time unless their name ends in "utc".
_HONG_KONG: Final = -8 * HOUR_MS
_MONDAY: Final = 4 * DAY_MS
#: Bar -> (step, offset) in ms.
BARS: Final[dict[str, tuple[int, int]]] = {
    **{f"{n}m": (n * MINUTE_MS, 0) for n in (1, 3, 5, 15, 30)},
    **{f"{n}H": (n * HOUR_MS, 0) for n in (1, 2, 4)},
    **{f"{n}H": (n * HOUR_MS, _HONG_KONG) for n in (6, 12)},
    **{f"{n}Hutc": (n * HOUR_MS, 0) for n in (6, 12)},
    **{f"{n}D": (n * DAY_MS, _HONG_KONG) for n in (1, 2, 3)},
    **{f"{n}Dutc": (n * DAY_MS, 0) for n in (1, 2, 3)},
    "1W": (7 * DAY_MS, _MONDAY + _HONG_KONG),
    "1Wutc": (7 * DAY_MS, _MONDAY),
}
_RECENT_BARS: Final = 1440
_MAX_LIMIT: Final = 300
_FOREVER: Final = 2**53
#: How long trades and funding events are kept.
_THREE_MONTHS_MS: Final = 90 * DAY_MS
_TYPES: Final = ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION")


class Okx(Venue):
    """www.okx.com."""

    name = "okx"
    hosts = ("www.okx.com", "aws.okx.com", "eea.okx.com", "us.okx.com", "my.okx.com")
    row_paths = (
        "/api/v5/market/candles",
        "/api/v5/market/history-candles",
        "/api/v5/market/trades",
        "/api/v5/market/history-trades",
        "/api/v5/public/funding-rate-history",
    )

    @staticmethod
    def symbol_parameter() -> str:
        """See ``Venue``."""
        return "instId"

    def lists(self, instrument: Instrument) -> bool:
        """See ``Venue``."""
        return instrument.quote != "USD" or instrument.inverse

    def native(self, instrument: Instrument) -> str:
        """See ``Venue``."""
        name = f"{instrument.base}-{instrument.quote}"
        return name if instrument.settle is None else f"{name}-SWAP"

    def routes(self) -> Mapping[str, Handler]:
        """See ``Venue``."""
        return {
            "/api/v5/public/time": lambda call: _success([{"ts": str(call.now)}]),
            "/api/v5/public/instruments": self._instruments,
            "/api/v5/system/status": lambda call: _success([]),
            "/api/v5/market/candles": self._recent,
            "/api/v5/market/history-candles": self._history,
            "/api/v5/market/trades": self._recent_trades,
            "/api/v5/market/history-trades": self._history_trades,
            "/api/v5/market/books": self._book,
            "/api/v5/public/funding-rate-history": self._fundings,
        }

    def unknown_path(self, path: str) -> Answer:
        """See ``Venue``."""
        return _failure("404", "Not Found", 404)

    def error(self, status: int) -> Answer:
        """See ``Venue``."""
        if status in _ERRORS:
            return _failure(*_ERRORS[status], status)
        return html(status, "Error")

    def maintenance(self, path: str) -> Answer:
        """See ``Venue``."""
        return _failure("50001", "Service temporarily unavailable. Please try again later.", 503)

    def _instruments(self, call: Call) -> Answer:
        kind = _mandatory(call.query, "instType")
        if kind not in _TYPES:
            raise _wrong("instType")
        wanted = call.query.get("instId")
        if wanted is not None and wanted not in self.listed:
            raise _unknown_instrument()
        describe = {"SPOT": okx_info.spot, "SWAP": okx_info.swap}.get(kind)
        rows = [
            describe(name, number, instrument)
            for number, (name, instrument) in enumerate(self.listed.items())
            if describe and wanted in (None, name) and (instrument.settle is None) == (kind == "SPOT")
        ]
        return _success(rows)

    def _recent(self, call: Call) -> Answer:
        span = self._span(call)
        oldest = call.now - _RECENT_BARS * span.step
        return self._candles(replace(span, start=max(span.start, oldest)), call)

    def _history(self, call: Call) -> Answer:
        span = self._span(call)
        # Only finished candles: the last open time that counts is one step before now.
        return self._candles(replace(span, end=min(span.end, call.now - span.step + 1)), call)

    def _span(self, call: Call) -> Span:
        instrument = self._instrument(call)
        bar = call.query.get("bar", "1m")
        if bar not in BARS:
            raise _wrong("bar")
        step, offset = BARS[bar]
        limit = _limit(call.query, 100, _MAX_LIMIT)
        # Both bounds are exclusive, and the newest rows between them are answered.
        start = _number(call.query, "before", -1) + 1
        end = _number(call.query, "after", _FOREVER)
        return Span(instrument.symbol, step, start, end, offset, limit, newest=True)

    def _candles(self, span: Span, call: Call) -> Answer:
        instrument = self.market.instrument(span.symbol)

        def form(rows: Candles) -> bytes:
            return candle_rows(rows, instrument, span.step, call.now)

        data = self.pages.page(span, call.now, call.damage, self.name, form)
        return _answered(data)

    def _instrument(self, call: Call) -> Instrument:
        name = _mandatory(call.query, "instId")
        if name not in self.listed:
            raise _unknown_instrument()
        return self.listed[name]

    def _recent_trades(self, call: Call) -> Answer:
        limit = _limit(call.query, 100, 500)
        return self._trades(TradeSpan(self._instrument(call).symbol, limit=limit, newest=True), call)

    def _history_trades(self, call: Call) -> Answer:
        query = call.query
        span = TradeSpan(
            self._instrument(call).symbol,
            start=call.now - _THREE_MONTHS_MS,
            limit=_limit(query, 100, 100),
            newest=True,
        )
        if query.get("type", "1") not in ("1", "2"):
            raise _wrong("type")
        # ``after`` is an id or, with type 2, a time; ``before`` is always an id. Both are exclusive.
        after = _number(query, "after", _FOREVER)
        span = replace(span, end=after) if query.get("type") == "2" else replace(span, before_id=after)
        if "before" in query:
            span = replace(span, after_id=_number(query, "before", 0))
        return self._trades(span, call)

    def _trades(self, span: TradeSpan, call: Call) -> Answer:
        instrument = self.market.instrument(span.symbol)
        rows = call.damaged(self.market.trades(span, call.now))
        return _answered(okx_feeds.trade_rows(rows, self.native(instrument), instrument))

    def _fundings(self, call: Call) -> Answer:
        instrument = self._instrument(call)
        if instrument.settle is None:
            raise _wrong("instId")
        limit = _limit(call.query, 400, 400)
        # Both bounds are exclusive, and the newest rows between them are answered.
        end = min(_number(call.query, "after", _FOREVER), call.now + 1)
        longest = max(instrument.funding_hours, *(instrument.funding_change or (0, 0))[1:]) * HOUR_MS
        start = max(
            _number(call.query, "before", -1) + 1,
            call.now - _THREE_MONTHS_MS,
            # As far back as so many events can lie.
            end - (limit + 1) * longest,
        )
        rows = self.market.fundings(instrument.symbol, start, end, call.now)
        newest = call.damaged(rows.take(slice(max(len(rows) - limit, 0), None)))
        return _answered(okx_feeds.funding_rows(newest, self.native(instrument)))

    def _book(self, call: Call) -> Answer:
        instrument = self._instrument(call)
        depth = _limit(call.query, 1, 400, "sz")
        return _answered(okx_feeds.book_row(self.market.book(instrument.symbol, depth, call.now), instrument))


def candle_rows(rows: Candles, instrument: Instrument, step: int, now: int) -> bytes:
    """Candles as OKX writes them: nine strings, the newest first, volume of swaps in contracts first."""
    newest_first = rows.take(slice(None, None, -1))
    prices = [getattr(newest_first, name) for name in ("open", "high", "low", "close")]
    confirmed = (newest_first.ts + step <= now).astype(np.int64)
    columns = [
        np.ascontiguousarray(newest_first.ts),
        *prices,
        _contracts(newest_first, instrument),
        # For spot OKX repeats: vol in base, volCcy and volCcyQuote in quote currency.
        newest_first.turnover if instrument.settle is None else newest_first.volume,
        newest_first.turnover,
        confirmed,
    ]
    texts = [decimal_text(np.ascontiguousarray(column), None, rows.nan_text) for column in columns]
    separated = [part for text in texts for part in ('","', text)]
    return json_rows('["', *separated[1:], '"]')


def _contracts(rows: Candles, instrument: Instrument) -> Array:
    if instrument.settle is None:
        return rows.volume
    if instrument.inverse:
        return np.asarray(np.rint(rows.turnover / instrument.contract_size))
    return np.asarray(np.round(rows.volume / instrument.contract_size, 8))


_ERRORS: Final[dict[int, tuple[str, str]]] = {
    429: ("50011", "Too Many Requests"),
    500: ("50000", "System error."),
    503: ("50013", "Systems are busy. Please try again later."),
    403: ("50110", "Your IP is not included in your API key's IP whitelist."),
    451: ("51155", "You can't trade this pair or borrow this crypto due to local laws and regulations."),
}


def _success(data: list[Any]) -> Answer:
    return Answer(orjson.dumps({"code": "0", "msg": "", "data": data}))


def _answered(rows: bytes) -> Answer:
    return Answer(b'{"code":"0","msg":"","data":' + rows + b"}")


def _failure(code: str, message: str, status: int = 200) -> Answer:
    return Answer.json({"code": code, "msg": message, "data": []}, status)


def _wrong(name: str) -> Refused:
    return Refused(_failure("51000", f"Parameter {name} error", 400))


def _unknown_instrument() -> Refused:
    return Refused(_failure("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist."))


def _mandatory(query: Mapping[str, str], name: str) -> str:
    if not query.get(name):
        raise Refused(_failure("50014", f"Parameter {name} can not be empty.", 400))
    return query[name]


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    value = query.get(name) or str(default)
    if not value.lstrip("-").isdigit():
        raise _wrong(name)
    return int(value)


def _limit(query: Mapping[str, str], usual: int, largest: int, name: str = "limit") -> int:
    limit = _number(query, name, usual)
    if not 0 < limit <= largest:
        raise _wrong(name)
    return limit
