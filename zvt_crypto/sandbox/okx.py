"""OKX (www.okx.com), market data: instruments and candles of spot pairs and perpetual swaps.

Follows https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-candlesticks and
``...-get-candlesticks-history``, ``#public-data-rest-api-get-instruments``. Not there: bars of seconds and of
months (answered as a wrong parameter), futures and options (empty lists), orders and accounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import orjson

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS
from zvt_crypto.sandbox import okx_info
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
_TYPES: Final = ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION")


class Okx(Venue):
    """www.okx.com."""

    name = "okx"
    hosts = ("www.okx.com", "aws.okx.com", "eea.okx.com", "us.okx.com", "my.okx.com")
    row_paths = ("/api/v5/market/candles", "/api/v5/market/history-candles")

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
        name = _mandatory(call.query, "instId")
        if name not in self.listed:
            raise _unknown_instrument()
        bar = call.query.get("bar", "1m")
        if bar not in BARS:
            raise _wrong("bar")
        step, offset = BARS[bar]
        limit = _number(call.query, "limit", 100)
        if not 0 < limit <= _MAX_LIMIT:
            raise _wrong("limit")
        # Both bounds are exclusive, and the newest rows between them are answered.
        start = _number(call.query, "before", -1) + 1
        end = _number(call.query, "after", _FOREVER)
        return Span(self.listed[name].symbol, step, start, end, offset, limit, newest=True)

    def _candles(self, span: Span, call: Call) -> Answer:
        instrument = self.market.instrument(span.symbol)

        def form(rows: Candles) -> bytes:
            return candle_rows(rows, instrument, span.step, call.now)

        data = self.pages.page(span, call.now, call.damage, self.name, form)
        return Answer(b'{"code":"0","msg":"","data":' + data + b"}")


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
