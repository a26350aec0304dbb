"""Kraken Futures (futures.kraken.com), market data of linear and inverse perpetuals.

Follows https://docs.kraken.com/api/docs/futures-api/trading/market-data, .../charts/candles and
.../history/market-history. What Kraken does not document is simulated thus: ``from``, ``to`` and ``since``
are inclusive, ``before`` is not; of more candles than an answer holds, the first from ``from`` on are
answered, or the newest without it; funding events come oldest first. Dollar amounts of inverse contracts are
whole numbers at Kraken; here they have decimals, because the simulated market trades coins. Candles of marks
and of the index are those of trades without volume. Not there: dated futures, tickers, orders and accounts.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np
import orjson

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS
from zvt_crypto.sandbox import krakenfutures_info as info
from zvt_crypto.sandbox.events import Fundings, TradeSpan
from zvt_crypto.sandbox.market import Array, Candles, Instrument, Span
from zvt_crypto.sandbox.venue import Answer, Call, Handler, Refused, Venue, html
from zvt_crypto.sandbox.wire import decimal_text, json_rows

#: Resolution -> (step, offset) in ms; weeks open on Monday.
RESOLUTIONS: Final[dict[str, tuple[int, int]]] = {
    **{f"{n}m": (n * MINUTE_MS, 0) for n in (1, 5, 15, 30)},
    **{f"{n}h": (n * HOUR_MS, 0) for n in (1, 4, 12)},
    "1d": (DAY_MS, 0),
    "1w": (7 * DAY_MS, 4 * DAY_MS),
}
_TICK_TYPES: Final = ("trade", "mark", "spot")
_MOST_CANDLES: Final = 2000
_MOST_TRADES: Final = 1000
_LEVELS: Final = 1000
_FOREVER: Final = 2**53 // 1000


class KrakenFutures(Venue):
    """futures.kraken.com."""

    name = "kraken futures"
    hosts = ("futures.kraken.com",)
    row_paths = (
        "/api/charts/v1/{tick_type}/{symbol}/{resolution}",
        "/api/history/v3/market/{symbol}/executions",
        "/derivatives/api/v4/historicalfundingrates",
        "/derivatives/api/v3/historical-funding-rates",
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # All payments since the listing are answered, which are long in the making.
        self._payments = lru_cache(maxsize=64)(self._paid_until)

    @staticmethod
    def symbol_parameter() -> str:
        """See ``Venue``."""
        return "symbol"

    def lists(self, instrument: Instrument) -> bool:
        """See ``Venue``."""
        return instrument.settle is not None and instrument.quote == "USD"

    def native(self, instrument: Instrument) -> str:
        """See ``Venue``."""
        return info.symbol(instrument)

    def routes(self) -> Mapping[str, Handler]:
        """See ``Venue``."""
        charts, executions, *fundings = self.row_paths
        return {
            "/derivatives/api/v3/instruments": self._instruments,
            "/derivatives/api/v3/feeschedules": self._fee_schedules,
            "/derivatives/api/v3/orderbook": self._book,
            charts: self._candles,
            executions: self._executions,
            **dict.fromkeys(fundings, self._fundings),
        }

    def unknown_path(self, path: str) -> Answer:
        """See ``Venue``."""
        return self._failure("apiNotFound", 404)

    def error(self, status: int) -> Answer:
        """See ``Venue``."""
        if status in _ERRORS:
            return self._failure(_ERRORS[status], status)
        return html(status, "Error")

    def maintenance(self, path: str) -> Answer:
        """See ``Venue``."""
        return self._failure("Unavailable", 503)

    def _instruments(self, call: Call) -> Answer:
        return _success({"instruments": [info.contract(i) for i in self.listed.values()]}, call)

    def _fee_schedules(self, call: Call) -> Answer:
        return _success({"feeSchedules": info.fee_schedules()}, call)

    def _candles(self, call: Call) -> Answer:
        instrument = self._of_path(call.query)
        tick_type = call.query["tick_type"]
        if tick_type not in _TICK_TYPES or call.query["resolution"] not in RESOLUTIONS:
            raise self._invalid("Unsupported tick type or resolution")
        step, offset = RESOLUTIONS[call.query["resolution"]]
        start, end = self._number(call.query, "from", 0), self._number(call.query, "to", _FOREVER)
        wanted = Span(instrument.symbol, step, start * 1000, end * 1000 + 1, offset)
        span = Span(
            instrument.symbol,
            step,
            wanted.start,
            wanted.end,
            offset,
            limit=_MOST_CANDLES,
            newest="from" not in call.query,
        )

        def form(rows: Candles) -> bytes:
            return candle_rows(rows, instrument, tick_type)

        rows = self.pages.page(span, call.now, call.damage, f"{self.name} {tick_type}", form)
        is_cut = self.market.extent(span, call.now) != self.market.extent(wanted, call.now)
        return Answer(b'{"candles":' + rows + b',"more_candles":' + orjson.dumps(is_cut) + b"}")

    def _executions(self, call: Call) -> Answer:
        query = call.query
        instrument = self._of_path(query)
        count = min(self._number(query, "count", _MOST_TRADES), _MOST_TRADES)
        if query.get("sort", "desc") not in ("asc", "desc") or count < 1:
            raise self._invalid("Invalid sort or count")
        is_up = query.get("sort") == "asc"
        span = TradeSpan(
            instrument.symbol,
            self._number(query, "since", 0),
            self._number(query, "before", 1 << 53),
            limit=count + 1,
            newest=not is_up,
            **self._beyond(query, is_up),
        )
        trades = self.market.trades(span, call.now)
        is_cut = len(trades) > count
        trades = trades.take(slice(0, count) if is_up else slice(-count, None))
        shown = call.damaged(trades if is_up else trades.take(np.arange(len(trades))[::-1]))
        token = b""
        if is_cut and len(shown):
            number = int(shown.id.max() if is_up else shown.id.min())
            token = b',"continuationToken":' + orjson.dumps(base64.b64encode(b"%d" % number).decode())
        rows = info.executions(shown, instrument)
        return Answer(b'{"elements":' + rows + b',"len":%d' % len(shown) + token + b"}")

    def _beyond(self, query: Mapping[str, str], is_up: bool) -> dict[str, int]:
        """Where a token says that the page begins."""
        token = query.get("continuation_token")
        if not token:
            return {}
        try:
            number = int(base64.b64decode(token, validate=True))
        except ValueError:
            raise self._invalid("Invalid continuation token") from None
        return {"after_id" if is_up else "before_id": number}

    def _fundings(self, call: Call) -> Answer:
        instrument = self._of_parameter(call.query)
        events = self._payments(instrument.symbol, call.now // HOUR_MS)
        return _success({"rates": funding_rows(call.damaged(events))}, call, with_time=False)

    def _paid_until(self, symbol: str, hour: int) -> Fundings:
        """The payments of a contract up to an hour since 1970, at the full hour, as Kraken writes them."""
        events = self.market.fundings(symbol, 0, (hour + 1) * HOUR_MS)
        due = events.ts // HOUR_MS * HOUR_MS
        return events.with_columns(ts=due)

    def _book(self, call: Call) -> Answer:
        instrument = self._of_parameter(call.query)
        book = self.market.book(instrument.symbol, _LEVELS, call.now)
        sides = {"bids": level_rows(book.bids, instrument), "asks": level_rows(book.asks, instrument)}
        body = {"orderBook": {side: orjson.Fragment(rows) for side, rows in sides.items()}}
        return _success(body, call)

    def _of_parameter(self, query: Mapping[str, str]) -> Instrument:
        if not query.get("symbol"):
            raise Refused(self._failure("requiredArgumentMissing: symbol"))
        if query["symbol"] not in self.listed:
            raise Refused(self._failure("invalidArgument: symbol"))
        return self.listed[query["symbol"]]

    def _of_path(self, query: Mapping[str, str]) -> Instrument:
        if query["symbol"] not in self.listed:
            raise self._invalid("Contract does not exist", 87, 404)
        return self.listed[query["symbol"]]

    def _number(self, query: Mapping[str, str], name: str, usual: int) -> int:
        value = query.get(name) or str(usual)
        if not value.isdigit():
            raise self._invalid(f"Invalid value of parameter {name}")
        return int(value)

    def _invalid(self, message: str, code: int = 40, status: int = 400) -> Refused:
        now = info.time_text(self.market.now())
        errors = [{"code": code, "message": message}]
        return Refused(Answer.json({"result": "error", "errors": errors, "serverTime": now}, status))

    def _failure(self, text: str, status: int = 200) -> Answer:
        now = info.time_text(self.market.now())
        return Answer.json({"result": "error", "error": text, "serverTime": now}, status)


def candle_rows(rows: Candles, instrument: Instrument, tick_type: str) -> bytes:
    """Candles as Kraken Futures writes them, ascending; inverse contracts count dollars."""
    volume = rows.turnover if instrument.inverse else rows.volume
    columns = {name: getattr(rows, name) for name in ("open", "high", "low", "close")}
    columns["volume"] = volume if tick_type == "trade" else np.zeros(len(rows))
    texts = {name: decimal_text(column, None, rows.nan_text) for name, column in columns.items()}
    quoted = [part for name, text in texts.items() for part in (f',"{name}":"', text, '"')]
    return json_rows('{"time":', decimal_text(rows.ts), *quoted, "}")


def funding_rows(rows: Fundings) -> list[dict[str, Any]]:
    """Funding events as Kraken Futures writes them, the oldest first; a rate that is none is null."""
    absolute = np.round(rows.rate * rows.mark_price, 9)
    columns = (info.iso_times(rows.ts), rows.rate.tolist(), absolute.tolist())
    return [
        {"timestamp": time, "relativeFundingRate": relative, "fundingRate": rate}
        for time, relative, rate in zip(*columns, strict=True)
    ]


def level_rows(levels: Array, instrument: Instrument) -> bytes:
    """One side of an order book: price and amount as numbers with a decimal point, the best first."""
    price, volume = np.ascontiguousarray(levels[:, 0]), np.ascontiguousarray(levels[:, 1])
    amount = info.amounts(price, volume, instrument)
    digits = instrument.turnover_digits if instrument.inverse else instrument.quantity_digits
    texts = decimal_text(price, max(instrument.price_digits, 1)), decimal_text(amount, max(digits, 1))
    return json_rows("[", texts[0], ",", texts[1], "]")


_ERRORS: Final[dict[int, str]] = {
    401: "authenticationError",
    429: "apiLimitExceeded",
    500: "Server Error",
    503: "Unavailable",
}


def _success(body: Mapping[str, Any], call: Call, *, with_time: bool = True) -> Answer:
    time = {"serverTime": info.time_text(call.now)} if with_time else {}
    return Answer.json({"result": "success", **body, **time})
