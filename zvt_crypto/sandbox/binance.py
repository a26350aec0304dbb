"""Binance: spot (api.binance.com) and USD-M futures (fapi.binance.com), market data.

Follows https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints and
https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api. Not there: the
intervals ``1s`` and ``1M`` (answered as invalid), ``timeZone``, single trades, funding events of all symbols
at once (the symbol is answered as missing), orders and accounts.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS
from zvt_crypto.sandbox import binance_bodies, binance_feeds
from zvt_crypto.sandbox.events import TradeSpan
from zvt_crypto.sandbox.market import Candles, Instrument, Span
from zvt_crypto.sandbox.venue import Answer, Call, Handler, Refused, Venue, html

#: Interval -> (step, offset) in ms; weeks open on Monday.
INTERVALS: Final[dict[str, tuple[int, int]]] = {
    **{f"{n}m": (n * MINUTE_MS, 0) for n in (1, 3, 5, 15, 30)},
    **{f"{n}h": (n * HOUR_MS, 0) for n in (1, 2, 4, 6, 8, 12)},
    "1d": (DAY_MS, 0),
    "3d": (3 * DAY_MS, 0),
    "1w": (7 * DAY_MS, 4 * DAY_MS),
}
_FOREVER: Final = 2**53
_STATUS: Final = "/sapi/v1/system/status"
_SYMBOL: Final = re.compile(r"[A-Z0-9-_.]{1,20}")
_DOLLARS: Final = ("USDT", "USDC")
_TRADE_LIMIT: Final = 1000
_SPOT_DEPTH: Final = 5000
_FUTURES_DEPTHS: Final = (5, 10, 20, 50, 100, 500, 1000)
_FUTURES_TRADES_MS: Final = 365 * DAY_MS


class _Binance(Venue):
    """What both API families share."""

    prefix: ClassVar[str]
    max_limit: ClassVar[int]
    minute_weight: ClassVar[int]
    #: Whether trades say that they were the best price match.
    has_best_match: ClassVar[bool] = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._minute = 0
        self._weight = 0

    @staticmethod
    def symbol_parameter() -> str:
        """See ``Venue``."""
        return "symbol"

    def native(self, instrument: Instrument) -> str:
        """See ``Venue``."""
        return instrument.base + instrument.quote

    def routes(self) -> Mapping[str, Handler]:
        """See ``Venue``."""
        paths: dict[str, Handler] = {
            "ping": lambda call: Answer.json({}),
            "time": lambda call: Answer.json({"serverTime": call.now}),
            "exchangeInfo": self._exchange_info,
            "klines": self._klines,
            "aggTrades": self._agg_trades,
            "depth": self._depth,
        }
        return {self.prefix + path: handler for path, handler in paths.items()}

    def answer(self, call: Call) -> Answer:
        """See ``Venue``."""
        answer = super().answer(call)
        return replace(answer, headers={**answer.headers, **self._used_weight(call)})

    def error(self, status: int) -> Answer:
        """See ``Venue``."""
        if status == 403:
            # The firewall in front of the API answers this, in HTML.
            return html(403, "Forbidden")
        if status in (502, 504):
            return html(status, "Bad Gateway" if status == 502 else "Gateway Time-out")
        code, text = _ERRORS.get(status, (-1000, "An unknown error occurred while processing the request."))
        text = text.format(limit=self.minute_weight, until=self.market.now() + 120_000)
        return Answer.json({"code": code, "msg": text}, status)

    def maintenance(self, path: str) -> Answer:
        """See ``Venue``."""
        if path == _STATUS:
            return Answer.json({"status": 1, "msg": "system_maintenance"})
        return Answer.json({"code": 1, "msg": "System is under maintenance."}, 503)

    def _weight_of(self, call: Call) -> int:
        return 1

    def _exchange_info(self, call: Call) -> Answer:
        raise NotImplementedError

    def _used_weight(self, call: Call) -> dict[str, str]:
        minute = _minute()
        if minute != self._minute:
            self._minute, self._weight = minute, 0
        self._weight += self._weight_of(call)
        return {"X-MBX-USED-WEIGHT-1M": str(self._weight)}

    def _klines(self, call: Call) -> Answer:
        instrument = self._wanted_instrument(call.query)
        interval = _mandatory(call.query, "interval")
        if interval not in INTERVALS:
            raise _refused(-1120, "Invalid interval.")
        step, offset = INTERVALS[interval]
        start, end = _optional(call.query, "startTime"), _optional(call.query, "endTime")
        span = Span(
            instrument.symbol,
            step,
            start or 0,
            _FOREVER if end is None else end + 1,
            offset,
            limit=self._limit(call.query, self.max_limit),
            newest=start is None,
        )
        form = self._form(instrument, step)
        return Answer(self.pages.page(span, call.now, call.damage, self.name, form))

    def _agg_trades(self, call: Call) -> Answer:
        span = self._trade_span(call)
        price, quantity, _ = self._digits(self.market.instrument(span.symbol))
        rows = call.damaged(self.market.trades(span, call.now))
        return Answer(binance_feeds.agg_trades(rows, price, quantity, best_match=self.has_best_match))

    def _trade_span(self, call: Call) -> TradeSpan:
        query = call.query
        instrument = self._wanted_instrument(query)
        first, start, end = (_optional(query, name) for name in ("fromId", "startTime", "endTime"))
        if first is not None and (start is not None or end is not None):
            raise _refused(-1128, "Combination of optional parameters invalid.")
        return TradeSpan(
            instrument.symbol,
            start or 0,
            _FOREVER if end is None else end + 1,
            after_id=None if first is None else first - 1,
            limit=self._limit(query, _TRADE_LIMIT),
            newest=first is None and start is None,
        )

    def _depth(self, call: Call) -> Answer:
        instrument = self._wanted_instrument(call.query)
        book = self.market.book(instrument.symbol, self._levels(call.query), call.now)
        price, quantity, _ = self._digits(instrument)
        return Answer(binance_feeds.depth(book, price, quantity, self._book_times(call.now)))

    def _levels(self, query: Mapping[str, str]) -> int:
        raise NotImplementedError

    def _book_times(self, now: int) -> dict[str, int]:
        return {}

    def _wanted_instrument(self, query: Mapping[str, str]) -> Instrument:
        symbol = _mandatory(query, "symbol")
        if not _SYMBOL.fullmatch(symbol):
            raise _illegal("symbol", "^[A-Z0-9-_.]{1,20}$")
        if symbol not in self.listed:
            raise _refused(-1121, "Invalid symbol.")
        return self.listed[symbol]

    def _limit(self, query: Mapping[str, str], largest: int, usual: int = 500) -> int:
        limit = _optional(query, "limit")
        if limit == 0:
            raise _refused(-1130, "Data sent for parameter 'limit' is not valid.")
        return usual if limit is None else min(limit, largest)

    def _form(self, instrument: Instrument, step: int) -> Callable[[Candles], bytes]:
        price, quantity, quote = self._digits(instrument)
        return lambda rows: binance_bodies.klines(rows, step, price, quantity, quote)

    def _digits(self, instrument: Instrument) -> tuple[int, int, int]:
        raise NotImplementedError


class BinanceSpot(_Binance):
    """api.binance.com."""

    name = "binance spot"
    hosts = (
        "api.binance.com",
        *(f"api{n}.binance.com" for n in (1, 2, 3, 4)),
        "api-gcp.binance.com",
        "data-api.binance.vision",
    )
    prefix = "/api/v3/"
    row_paths = ("/api/v3/klines", "/api/v3/aggTrades")
    max_limit = 1000
    minute_weight = 6000
    has_best_match = True

    def lists(self, instrument: Instrument) -> bool:
        """See ``Venue``."""
        return instrument.settle is None and instrument.quote != "USD"

    def routes(self) -> Mapping[str, Handler]:
        """See ``Venue``."""
        normal = Answer.json({"status": 0, "msg": "normal"})
        return {**super().routes(), _STATUS: lambda call: normal}

    def unknown_path(self, path: str) -> Answer:
        """See ``Venue``."""
        return Answer(b"<html><body><h2>404 Not found</h2></body></html>", 404, {}, "text/html")

    def _weight_of(self, call: Call) -> int:
        if call.path == "/api/v3/depth":
            return _weight(call.query, 100, ((101, 5), (501, 25), (1001, 50)), 250)
        return {"/api/v3/klines": 2, "/api/v3/aggTrades": 4, "/api/v3/exchangeInfo": 20}.get(call.path, 1)

    def _levels(self, query: Mapping[str, str]) -> int:
        return self._limit(query, _SPOT_DEPTH, 100)

    def _exchange_info(self, call: Call) -> Answer:
        wanted = list(self.listed.values())
        if "symbol" in call.query:
            wanted = [self._wanted_instrument(call.query)]
        return Answer.json(binance_bodies.spot(wanted, call.now, self.minute_weight))

    def _digits(self, instrument: Instrument) -> tuple[int, int, int]:
        return 8, 8, 8


class BinanceFutures(_Binance):
    """fapi.binance.com: perpetuals settled in dollars."""

    name = "binance usd-m futures"
    hosts = ("fapi.binance.com",)
    prefix = "/fapi/v1/"
    row_paths: ClassVar[tuple[str, ...]] = ("/fapi/v1/klines", "/fapi/v1/aggTrades", "/fapi/v1/fundingRate")
    max_limit = 1500
    minute_weight = 2400

    def lists(self, instrument: Instrument) -> bool:
        """See ``Venue``."""
        return instrument.settle in _DOLLARS and not instrument.inverse

    def routes(self) -> Mapping[str, Handler]:
        """See ``Venue``."""
        own: dict[str, Handler] = {"fundingInfo": self._funding_info, "fundingRate": self._funding_rate}
        return {**super().routes(), **{self.prefix + path: handler for path, handler in own.items()}}

    def unknown_path(self, path: str) -> Answer:
        """See ``Venue``."""
        return Answer.json({"code": -5000, "msg": f"Path {path}, Method GET is invalid"}, 404)

    def _weight_of(self, call: Call) -> int:
        if call.path == "/fapi/v1/klines":
            return _weight(call.query, 500, ((100, 1), (500, 2), (1001, 5)), 10)
        if call.path == "/fapi/v1/depth":
            return _weight(call.query, 500, ((51, 2), (101, 5), (501, 10)), 20)
        return 20 if call.path == "/fapi/v1/aggTrades" else 1

    def _limit(self, query: Mapping[str, str], largest: int, usual: int = 500) -> int:
        limit = _optional(query, "limit")
        if limit is not None and not 0 < limit <= largest:
            raise _refused(-1130, "Data sent for parameter 'limit' is not valid.")
        return limit or usual

    def _trade_span(self, call: Call) -> TradeSpan:
        start, end = (_optional(call.query, name) for name in ("startTime", "endTime"))
        if start is not None and end is not None and end - start > HOUR_MS:
            raise _refused(-1127, "More than 1 hours between startTime and endTime.")
        span = super()._trade_span(call)
        return replace(span, start=max(span.start, call.now - _FUTURES_TRADES_MS))

    def _levels(self, query: Mapping[str, str]) -> int:
        limit = _optional(query, "limit")
        if limit is not None and limit not in _FUTURES_DEPTHS:
            raise _refused(-4021, f"{limit} is not valid depth limit.")
        return limit or 500

    def _book_times(self, now: int) -> dict[str, int]:
        return {"E": now, "T": now}

    def _funding_rate(self, call: Call) -> Answer:
        instrument = self._wanted_instrument(call.query)
        start, end = (_optional(call.query, name) for name in ("startTime", "endTime"))
        limit = self._limit(call.query, 1000, 200 if start is None and end is None else 100)
        end = min(_FOREVER if end is None else end, call.now) + 1
        # As long as one event more can take, because they are booked somewhat late.
        longest = max(instrument.funding_hours, *(instrument.funding_change or (0, 0))[1:]) * HOUR_MS
        first = end - (limit + 1) * longest if start is None else max(start, instrument.listed)
        last = end if start is None else min(end, first + (limit + 1) * longest)
        rows = self.market.fundings(instrument.symbol, first, last, call.now)
        chosen = slice(max(len(rows) - limit, 0), None) if start is None else slice(0, limit)
        return Answer(binance_feeds.fundings(self.native(instrument), call.damaged(rows.take(chosen))))

    def _exchange_info(self, call: Call) -> Answer:
        return Answer.json(binance_bodies.futures(list(self.listed.values()), call.now, self.minute_weight))

    def _funding_info(self, call: Call) -> Answer:
        # Binance lists here only what differs from the usual eight hours.
        hours = {name: i.funding_hours_at(call.now) for name, i in self.listed.items()}
        return Answer.json([binance_bodies.funding(name, h) for name, h in hours.items() if h != 8])

    def _digits(self, instrument: Instrument) -> tuple[int, int, int]:
        return instrument.price_digits, instrument.quantity_digits, instrument.turnover_digits


class BinanceCoinFutures(BinanceFutures):
    """dapi.binance.com, with nothing listed: ccxt asks for its instruments when it loads all markets."""

    name = "binance coin-m futures"
    hosts = ("dapi.binance.com",)
    prefix = "/dapi/v1/"
    row_paths = ("/dapi/v1/klines",)

    def lists(self, instrument: Instrument) -> bool:
        """See ``Venue``."""
        return False


def _minute() -> int:
    """Minutes since the epoch by this machine's clock: where ``now`` is fixed, weight would only grow."""
    return time.time_ns() // (MINUTE_MS * 1_000_000)


def _weight(query: Mapping[str, str], usual: int, weights: tuple[tuple[int, int], ...], highest: int) -> int:
    """Weight by ``limit``: that of the first ``(below, weight)`` whose bound is above it."""
    limit = query.get("limit", str(usual))
    count = int(limit) if limit.isdigit() else 0
    return next((weight for below, weight in weights if count < below), highest)


_RESTRICTED: Final = (
    "Service unavailable from a restricted location according to 'b. Eligibility' in "
    "https://www.binance.com/en/terms. Please contact customer service if you believe you received this "
    "message in error."
)
#: HTTP status -> code and message.
_ERRORS: Final[dict[int, tuple[int, str]]] = {
    418: (
        -1003,
        "Way too much request weight used; IP banned until {until}. Please use WebSocket Streams for live "
        "updates to avoid bans.",
    ),
    429: (
        -1003,
        "Too much request weight used; current limit is {limit} request weight per 1 MINUTE. Please use "
        "WebSocket Streams for live updates to avoid polling the API.",
    ),
    451: (0, _RESTRICTED),
    503: (-1008, "Server is currently overloaded with other requests. Please try again in a few minutes."),
}


def _refused(code: int, message: str) -> Refused:
    return Refused(Answer.json({"code": code, "msg": message}, 400))


def _illegal(name: str, legal: str) -> Refused:
    return _refused(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def _mandatory(query: Mapping[str, str], name: str) -> str:
    if not query.get(name):
        raise _refused(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    return query[name]


def _optional(query: Mapping[str, str], name: str) -> int | None:
    value = query.get(name)
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,20}", value):
        raise _illegal(name, "^[0-9]{1,20}$")
    return int(value)
