"""Bitget (api.bitget.com), version 2: market data of spot pairs and perpetuals.

Follows https://www.bitget.com/api-doc/spot/market/Get-Candle-Data, ``.../Get-History-Candle-Data`` and the
pages beside them, and https://www.bitget.com/api-doc/contract/market/Get-Candle-Data. What Bitget does not
document is simulated thus: ``endTime`` is exclusive for candles and inclusive for trades, and a limit above
the largest counts as the largest. Not there: candles of months (answered as a wrong parameter), index and
mark prices, demo contracts (no rows), orders and accounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS
from zvt_crypto.sandbox import bitget_info
from zvt_crypto.sandbox.events import Fundings, Trades, TradeSpan
from zvt_crypto.sandbox.market import Array, Candles, Instrument, Span
from zvt_crypto.sandbox.venue import Answer, Call, Handler, Refused, Venue, html
from zvt_crypto.sandbox.wire import decimal_text, json_rows

_HONG_KONG: Final = -8 * HOUR_MS
_MONDAY: Final = 4 * DAY_MS
_MINUTES: Final = (1, 3, 5, 15, 30)
#: Granularity -> (step, offset) in ms. From six hours on they open by Hong Kong time, or with "utc" by that.
_LONG: Final[dict[str, tuple[int, int]]] = {
    **{f"{n}{zone}": (n * HOUR_MS, at) for n in (6, 12) for zone, at in (("Hutc", 0), ("H", _HONG_KONG))},
    **{f"{n}{zone}": (n * DAY_MS, at) for n in (1, 3) for zone, at in (("Dutc", 0), ("D", _HONG_KONG))},
    "1Wutc": (7 * DAY_MS, _MONDAY),
    "1W": (7 * DAY_MS, _MONDAY + _HONG_KONG),
}
SPOT_GRANULARITIES: Final[dict[str, tuple[int, int]]] = {
    **{f"{n}min": (n * MINUTE_MS, 0) for n in _MINUTES},
    **{f"{n}h": (n * HOUR_MS, 0) for n in (1, 4)},
    **{name: span for name, span in _LONG.items() if name.endswith("utc")},
    "6h": _LONG["6H"],
    "12h": _LONG["12H"],
    "1day": _LONG["1D"],
    "3day": _LONG["3D"],
    "1week": _LONG["1W"],
}
CONTRACT_GRANULARITIES: Final[dict[str, tuple[int, int]]] = {
    **{f"{n}m": (n * MINUTE_MS, 0) for n in _MINUTES},
    **{f"{n}H": (n * HOUR_MS, 0) for n in (1, 2, 4)},
    **_LONG,
}
#: How far the endpoint for recent candles reaches back, by step: the first that is long enough counts.
_RECENT_DAYS: Final = ((30 * MINUTE_MS, 30), (HOUR_MS, 60), (4 * HOUR_MS, 240), (8 * HOUR_MS, 360))
_ALWAYS_DAYS: Final = 1440
_LONGEST_CONTRACT_MS: Final = 90 * DAY_MS
_FOREVER: Final = 2**53
_CONTRACT_DEPTHS: Final = {"1": 1, "5": 5, "15": 15, "50": 50, "max": 200}
#: Those with an S are of the demo.
_PRODUCTS: Final = tuple(
    f"{demo}{settled}-FUTURES" for demo in ("", "S") for settled in ("USDT", "USDC", "COIN")
)
_QUOTES: Final = ("USDT", "USDC", "BTC")
_SPOT: Final = "/api/v2/spot/"
_MIX: Final = "/api/v2/mix/market/"


class Bitget(Venue):
    """api.bitget.com."""

    name = "bitget"
    hosts = ("api.bitget.com",)
    row_paths = (
        *(f"{_SPOT}market/{path}" for path in ("candles", "history-candles", "fills", "fills-history")),
        *(f"{_MIX}{path}" for path in ("candles", "history-candles", "fills", "fills-history")),
        f"{_MIX}history-fund-rate",
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # A spot pair and a contract may have the same name.
        self._listed: dict[str, dict[str, Instrument]] = {name: {} for name in ("SPOT", *_PRODUCTS)}
        for instrument in filter(self.lists, self.market.instruments.values()):
            self._listed[product_of(instrument)][self.native(instrument)] = instrument

    @staticmethod
    def symbol_parameter() -> str:
        """See ``Venue``."""
        return "symbol"

    def lists(self, instrument: Instrument) -> bool:
        """See ``Venue``."""
        if instrument.settle is None:
            return instrument.quote in _QUOTES
        return product_of(instrument) in _PRODUCTS

    def native(self, instrument: Instrument) -> str:
        """See ``Venue``; contracts that are settled in USDC have a name of their own."""
        return instrument.base + ("PERP" if instrument.settle == "USDC" else instrument.quote)

    def instrument_of(self, query: Mapping[str, str]) -> Instrument | None:
        """See ``Venue``."""
        # Paths of spot take no product type.
        product = _product(query) or "SPOT"
        return self._listed.get(product, {}).get(query.get("symbol", ""))

    def routes(self) -> Mapping[str, Handler]:
        """See ``Venue``."""
        return {
            "/api/v2/public/time": lambda call: _success({"serverTime": str(call.now)}, call),
            f"{_SPOT}public/coins": self._coins,
            f"{_SPOT}public/symbols": self._symbols,
            "/api/v2/margin/currencies": self._margin_pairs,
            f"{_SPOT}market/candles": lambda call: self._recent(call, "SPOT"),
            f"{_SPOT}market/history-candles": lambda call: self._history(call, "SPOT"),
            f"{_SPOT}market/fills": lambda call: self._trades(call, "SPOT", 100, 500),
            f"{_SPOT}market/fills-history": lambda call: self._trades(call, "SPOT", 500, 1000),
            f"{_SPOT}market/orderbook": self._spot_book,
            f"{_MIX}contracts": self._contracts,
            f"{_MIX}candles": lambda call: self._recent(call, _product(call.query)),
            f"{_MIX}history-candles": lambda call: self._history(call, _product(call.query)),
            f"{_MIX}fills": lambda call: self._trades(call, _product(call.query), 100, 100),
            f"{_MIX}fills-history": lambda call: self._trades(call, _product(call.query), 500, 1000),
            f"{_MIX}history-fund-rate": self._fundings,
            f"{_MIX}merge-depth": self._contract_book,
        }

    def unknown_path(self, path: str) -> Answer:
        """See ``Venue``."""
        return self._failure("40404", "Request URL NOT FOUND", 404)

    def error(self, status: int) -> Answer:
        """See ``Venue``."""
        if status in _ERRORS:
            return self._failure(*_ERRORS[status], status)
        return html(status, "Error")

    def maintenance(self, path: str) -> Answer:
        """See ``Venue``."""
        return self._failure("40200", "Server upgrade, please try again later", 503)

    def _coins(self, call: Call) -> Answer:
        names = {name for pair in self._listed["SPOT"].values() for name in (pair.base, pair.quote)}
        return _success([bitget_info.coin(name, i) for i, name in enumerate(sorted(names), 1)], call)

    def _symbols(self, call: Call) -> Answer:
        wanted = call.query.get("symbol")
        if wanted and wanted not in self._listed["SPOT"]:
            raise self._unknown(wanted)
        pairs = self._listed["SPOT"].items()
        return _success([bitget_info.spot(name, i) for name, i in pairs if wanted in (None, name)], call)

    def _margin_pairs(self, call: Call) -> Answer:
        pairs = self._listed["SPOT"].items()
        return _success([bitget_info.margin(name, i) for name, i in pairs if i.quote == "USDT"], call)

    def _contracts(self, call: Call) -> Answer:
        listed = self._of_product(_product(call.query))
        wanted = call.query.get("symbol")
        if wanted and wanted not in listed:
            raise self._unknown(wanted)
        rows = [bitget_info.contract(name, i) for name, i in listed.items() if wanted in (None, name)]
        return _success(rows, call)

    def _recent(self, call: Call, product: str) -> Answer:
        span = self._span(call, product, 1000)
        days = next((days for step, days in _RECENT_DAYS if span.step <= step), _ALWAYS_DAYS)
        return self._candles(replace(span, start=max(span.start, call.now - days * DAY_MS)), call)

    def _history(self, call: Call, product: str) -> Answer:
        span = self._span(call, product, 200)
        if product == "SPOT":
            self._mandatory(call.query, "endTime")
            span = replace(span, start=0)  # no parameter of this endpoint
        elif "startTime" in call.query and min(span.end, call.now) - span.start > _LONGEST_CONTRACT_MS:
            raise self._refused("40705", "The start and end time cannot exceed 90 days")
        return self._candles(span, call)

    def _span(self, call: Call, product: str, largest: int) -> Span:
        instrument = self._wanted(call.query, product)
        known = SPOT_GRANULARITIES if product == "SPOT" else CONTRACT_GRANULARITIES
        granularity = self._mandatory(call.query, "granularity")
        if granularity not in known:
            raise self._refused("400171", f"Parameter verification failed granularity {granularity}")
        step, offset = known[granularity]
        start, end = self._number(call.query, "startTime", 0), self._number(call.query, "endTime", _FOREVER)
        limit = self._limit(call.query, "limit", 100, largest)
        return Span(instrument.symbol, step, start, end, offset, limit, newest=True)

    def _candles(self, span: Span, call: Call) -> Answer:
        is_spot = self.market.instrument(span.symbol).settle is None
        data = self.pages.page(span, call.now, call.damage, self.name, lambda r: candle_rows(r, is_spot))
        return _raw(data, call)

    def _trades(self, call: Call, product: str, usual: int, largest: int) -> Answer:
        instrument = self._wanted(call.query, product)
        before = self._number(call.query, "idLessThan", 0)
        span = TradeSpan(
            instrument.symbol,
            self._number(call.query, "startTime", 0),
            self._number(call.query, "endTime", _FOREVER) + 1,
            before_id=before or None,
            limit=self._limit(call.query, "limit", usual, largest),
            newest=True,
        )
        trades = call.damaged(self.market.trades(span, call.now))
        return _raw(trade_rows(trades, self.native(instrument)), call)

    def _fundings(self, call: Call) -> Answer:
        instrument = self._wanted(call.query, _product(call.query))
        size = self._limit(call.query, "pageSize", 20, 100)
        page = self._limit(call.query, "pageNo", 1, 10_000)
        # As far back as so many payments can lie.
        longest = max(instrument.funding_hours, *(instrument.funding_change or (0, 0))[1:]) * HOUR_MS
        start = max(instrument.listed, call.now - (page * size + 1) * longest)
        events = self.market.fundings(instrument.symbol, start, call.now + 1, call.now)
        newest_first = events.take(np.arange(len(events))[::-1][(page - 1) * size : page * size])
        return _raw(funding_rows(call.damaged(newest_first), self.native(instrument)), call)

    def _spot_book(self, call: Call) -> Answer:
        instrument = self._wanted(call.query, "SPOT")
        book = self.market.book(instrument.symbol, self._limit(call.query, "limit", 150, 150), call.now)
        asks, bids = (level_rows(levels, '"') for levels in (book.asks, book.bids))
        head = b'{"asks":' + asks + b',"bids":' + bids
        return _raw(head + b',"ts":"' + str(book.ts).encode() + b'"}', call)

    def _contract_book(self, call: Call) -> Answer:
        instrument = self._wanted(call.query, _product(call.query))
        limit = call.query.get("limit", "max")
        if limit not in _CONTRACT_DEPTHS:
            raise self._refused("400172", f"Parameter verification failed limit {limit}")
        book = self.market.book(instrument.symbol, _CONTRACT_DEPTHS[limit], call.now)
        asks, bids = (level_rows(levels, "") for levels in (book.asks, book.bids))
        rest = {
            "ts": str(book.ts),
            "scale": f"{10.0**-instrument.price_digits:g}",
            "precision": "scale0",
            "isMaxPrecision": "NO",
        }
        return _raw(b'{"asks":' + asks + b',"bids":' + bids + b"," + orjson.dumps(rest)[1:], call)

    def _of_product(self, product: str) -> dict[str, Instrument]:
        if product not in _PRODUCTS:
            raise self._refused("40019", "Parameter productType cannot be empty")
        return self._listed[product]

    def _wanted(self, query: Mapping[str, str], product: str) -> Instrument:
        listed = self._listed["SPOT"] if product == "SPOT" else self._of_product(product)
        symbol = self._mandatory(query, "symbol")
        if symbol not in listed:
            raise self._unknown(symbol)
        return listed[symbol]

    def _mandatory(self, query: Mapping[str, str], name: str) -> str:
        if not query.get(name):
            raise self._refused("40019", f"Parameter {name} cannot be empty")
        return query[name]

    def _limit(self, query: Mapping[str, str], name: str, usual: int, largest: int) -> int:
        limit = self._number(query, name, usual)
        if limit < 1:
            raise self._refused("40020", f"Parameter {name} error")
        return min(limit, largest)

    def _number(self, query: Mapping[str, str], name: str, usual: int) -> int:
        value = query.get(name) or str(usual)
        if not value.isdigit():
            raise self._refused("40020", f"Parameter {name} error")
        return int(value)

    def _unknown(self, symbol: str) -> Refused:
        return self._refused("40034", f"Parameter {symbol} does not exist")

    def _refused(self, code: str, message: str) -> Refused:
        return Refused(self._failure(code, message, 400))

    def _failure(self, code: str, message: str, status: int) -> Answer:
        body = {"code": code, "msg": message, "requestTime": self.market.now(), "data": None}
        return Answer.json(body, status)


def product_of(instrument: Instrument) -> str:
    """Bitget's kind of market; ``SPOT`` is none of its product types."""
    if instrument.settle is None:
        return "SPOT"
    return "COIN-FUTURES" if instrument.inverse else f"{instrument.settle}-FUTURES"


def candle_rows(rows: Candles, is_spot: bool) -> bytes:
    """Candles as Bitget writes them, in order of time; spot tells the value in USDT and in the quote."""
    names = ("ts", "open", "high", "low", "close", "volume", *(["turnover"] * (1 + is_spot)))
    texts = [decimal_text(np.ascontiguousarray(getattr(rows, name)), None, rows.nan_text) for name in names]
    separated = [part for text in texts for part in ('","', text)]
    return json_rows('["', *separated[1:], '"]')


def trade_rows(rows: Trades, name: str) -> bytes:
    """Trades as Bitget writes them, the newest first; sizes are in base currency for contracts too."""
    newest_first = rows.take(np.arange(len(rows))[::-1])
    return json_rows(
        f'{{"symbol":"{name}","tradeId":"',
        decimal_text(newest_first.id),
        '","side":"',
        pc.if_else(pa.array(newest_first.is_buy), "Buy", "Sell"),
        '","price":"',
        decimal_text(newest_first.price, None, rows.nan_text),
        '","size":"',
        decimal_text(newest_first.volume, None, rows.nan_text),
        '","ts":"',
        decimal_text(newest_first.ts),
        '"}',
    )


def funding_rows(rows: Fundings, name: str) -> bytes:
    """Funding events as Bitget writes them, in the order given."""
    return json_rows(
        f'{{"symbol":"{name}","fundingRate":"',
        decimal_text(rows.rate, None, rows.nan_text),
        '","fundingTime":"',
        decimal_text(rows.ts),
        '"}',
    )


def level_rows(levels: Array, quote: str) -> bytes:
    """One side of an order book: price and size, in quotes for spot, the best first."""
    price, size = (decimal_text(np.ascontiguousarray(levels[:, i])) for i in (0, 1))
    return json_rows(f"[{quote}", price, f"{quote},{quote}", size, f"{quote}]")


_ERRORS: Final[dict[int, tuple[str, str]]] = {
    401: ("40006", "Invalid ACCESS_KEY"),
    429: ("429", "Too Many Requests"),
    500: ("40015", "System is abnormal, please try again later"),
}


def _product(query: Mapping[str, str]) -> str:
    """The product type, in capitals or not."""
    return query.get("productType", "").upper()


def _success(data: Any, call: Call) -> Answer:
    return _raw(orjson.dumps(data), call)


def _raw(data: bytes, call: Call) -> Answer:
    head = b'{"code":"00000","msg":"success","requestTime":' + str(call.now).encode()
    return Answer(head + b',"data":' + data + b"}")
