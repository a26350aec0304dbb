"""Coinbase Advanced Trade (api.coinbase.com), public market data of spot pairs.

Follows https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/public/list-public-products
and the pages beside it; ``/v2`` is there as far as ccxt loads currencies from it. What Coinbase does not
document is as it was seen there: at most 100 trades an answer whatever the limit, an error above 1,000, and
at most 350 candles between the bounds. Assumed: the bounds of candles and trades are inclusive. A product in
USDC is a market of its own here, at Coinbase it is another name of the one in dollars. Not there: weeks
(answered as a wrong granularity), futures and perpetuals (empty lists), ``aggregation_price_increment``,
orders and accounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS, iso
from zvt_crypto.sandbox import coinbase_info
from zvt_crypto.sandbox.events import Trades, TradeSpan
from zvt_crypto.sandbox.market import Array, Candles, Instrument, Span
from zvt_crypto.sandbox.venue import Answer, Call, Handler, Refused, Venue, html
from zvt_crypto.sandbox.wire import decimal_text, json_rows

#: Granularity -> step in ms.
GRANULARITIES: Final[dict[str, int]] = {
    "ONE_MINUTE": MINUTE_MS,
    "FIVE_MINUTE": 5 * MINUTE_MS,
    "FIFTEEN_MINUTE": 15 * MINUTE_MS,
    "THIRTY_MINUTE": 30 * MINUTE_MS,
    "ONE_HOUR": HOUR_MS,
    "TWO_HOUR": 2 * HOUR_MS,
    "FOUR_HOUR": 4 * HOUR_MS,
    "SIX_HOUR": 6 * HOUR_MS,
    "ONE_DAY": DAY_MS,
}
_V3: Final = "/api/v3/brokerage"
_PRODUCT: Final = f"{_V3}/market/products/{{product_id}}"
_QUOTES: Final = ("USD", "USDC", "USDT", "BTC", "EUR", "GBP")
_MOST_CANDLES: Final = 350
_MOST_TRADES: Final = 100
_LARGEST_TRADE_LIMIT: Final = 1000
_MOST_LEVELS: Final = 1000
_LATEST: Final = 2**43


class Coinbase(Venue):
    """api.coinbase.com."""

    name = "coinbase"
    hosts = ("api.coinbase.com",)
    row_paths = (f"{_PRODUCT}/candles", f"{_PRODUCT}/ticker")

    @staticmethod
    def symbol_parameter() -> str:
        """See ``Venue``."""
        return "product_id"

    def lists(self, instrument: Instrument) -> bool:
        """See ``Venue``."""
        return instrument.settle is None and instrument.quote in _QUOTES

    def native(self, instrument: Instrument) -> str:
        """See ``Venue``."""
        return f"{instrument.base}-{instrument.quote}"

    def routes(self) -> Mapping[str, Handler]:
        """See ``Venue``."""
        return {
            f"{_V3}/time": _time,
            f"{_V3}/market/products": self._products,
            _PRODUCT: self._product,
            f"{_PRODUCT}/candles": self._candles,
            f"{_PRODUCT}/ticker": self._ticker,
            f"{_V3}/market/product_book": self._book,
            "/v2/time": lambda call: _data({"iso": _iso(call.now), "epoch": call.now // 1000}),
            "/v2/currencies": lambda call: _data(self._fiats()),
            "/v2/currencies/crypto": lambda call: _data(self._cryptos()),
            "/v2/exchange-rates": lambda call: _data({"currency": "USD", "rates": {"USD": "1.0"}}),
        }

    def unknown_path(self, path: str) -> Answer:
        """See ``Venue``."""
        return _failure("NOT_FOUND", "Not Found", 404)

    def error(self, status: int) -> Answer:
        """See ``Venue``."""
        if status in _ERRORS:
            return _failure(*_ERRORS[status], status)
        return html(status, "Error")

    def maintenance(self, path: str) -> Answer:
        """See ``Venue``."""
        return _failure("UNAVAILABLE", "Coinbase is under maintenance", 503)

    def _products(self, call: Call) -> Answer:
        is_spot = call.query.get("product_type", "SPOT") == "SPOT"
        products = [self._description(name, call) for name in self.listed] if is_spot else []
        return Answer.json({"products": products, "num_products": len(products), "pagination": None})

    def _product(self, call: Call) -> Answer:
        name = call.query["product_id"]
        if name not in self.listed:
            raise Refused(_failure("NOT_FOUND", f"Product {name} not supported", 404))
        return Answer.json(self._description(name, call))

    def _candles(self, call: Call) -> Answer:
        instrument = self._wanted(call.query)
        step = GRANULARITIES.get(call.query.get("granularity", ""))
        if step is None:
            raise _wrong("granularity argument is invalid")
        start, end = _seconds(call.query, "start"), _seconds(call.query, "end")
        if start is None or end is None or end < start:
            raise _wrong("start and end argument is invalid")
        if (end - start) * 1000 // step >= _MOST_CANDLES:
            raise _wrong(
                "start and end argument is invalid - number of candles requested should be less than"
                f" {_MOST_CANDLES}"
            )
        limit = _limit(call.query, _MOST_CANDLES)
        span = Span(instrument.symbol, step, start * 1000, end * 1000 + 1, limit=limit, newest=True)
        rows = self.pages.page(span, call.now, call.damage, self.name, candle_rows)
        return Answer(b'{"candles":' + rows + b"}")

    def _ticker(self, call: Call) -> Answer:
        instrument = self._wanted(call.query)
        limit = _limit(call.query, _MOST_TRADES)
        if limit > _LARGEST_TRADE_LIMIT:
            raise Refused(_failure("INTERNAL", "internal server error", 500))
        start, end = _seconds(call.query, "start") or 0, _seconds(call.query, "end")
        span = TradeSpan(
            instrument.symbol,
            start * 1000,
            _LATEST if end is None else end * 1000 + 1,
            limit=min(limit, _MOST_TRADES),
            newest=True,
        )
        trades = call.damaged(self.market.trades(span, call.now))
        best = self.market.book(instrument.symbol, 1, call.now)
        prices = {
            f"best_{side}": next(iter(_level_rows(levels)), {"price": ""})["price"]
            for side, levels in (("bid", best.bids), ("ask", best.asks))
        }
        rows = trade_rows(trades, self.native(instrument))
        return Answer(b'{"trades":' + rows + b"," + orjson.dumps(prices)[1:])

    def _book(self, call: Call) -> Answer:
        instrument = self._wanted(call.query)
        depth = min(_limit(call.query, _MOST_LEVELS), _MOST_LEVELS)
        book = self.market.book(instrument.symbol, depth, call.now)
        ask = book.asks[0, 0]
        bid = book.bids[0, 0] if len(book.bids) else ask
        middle = (bid + ask) / 2
        pricebook = {
            "product_id": self.native(instrument),
            "bids": _level_rows(book.bids),
            "asks": _level_rows(book.asks),
            "time": _iso(book.ts),
        }
        digits = instrument.price_digits
        return Answer.json(
            {
                "pricebook": pricebook,
                "last": f"{bid:.{digits}f}",
                "mid_market": f"{middle:.{digits + 1}f}",
                "spread_bps": f"{(ask - bid) / middle * 10_000:.12f}",
                "spread_absolute": f"{ask - bid:.{digits}f}",
            }
        )

    def _description(self, name: str, call: Call) -> dict[str, Any]:
        instrument = self.listed[name]
        last = Span(instrument.symbol, MINUTE_MS, 0, call.now + 1, limit=1, newest=True)
        price = next(iter(self.market.bars(last, call.now).close.tolist()), None)
        return coinbase_info.product(name, instrument, price)

    def _wanted(self, query: Mapping[str, str]) -> Instrument:
        instrument = self.listed.get(query.get("product_id", ""))
        if instrument is None:
            raise _wrong("valid product_id is required")
        return instrument

    def _codes(self) -> list[str]:
        return sorted({code for i in self.listed.values() for code in (i.base, i.quote)})

    def _fiats(self) -> list[dict[str, Any]]:
        return [coinbase_info.fiat(code) for code in self._codes() if coinbase_info.is_fiat(code)]

    def _cryptos(self) -> list[dict[str, Any]]:
        codes = [code for code in self._codes() if not coinbase_info.is_fiat(code)]
        return [coinbase_info.crypto(code, number) for number, code in enumerate(codes)]


def candle_rows(rows: Candles) -> bytes:
    """Candles as Coinbase writes them: objects of texts, the newest first, none without a trade."""
    traded = rows.take(rows.volume != 0)
    newest_first = traded.take(np.arange(len(traded))[::-1])
    parts: list[str | pa.Array] = ['{"start":"', decimal_text(newest_first.ts // 1000)]
    for name in ("low", "high", "open", "close", "volume"):
        parts += [f'","{name}":"', decimal_text(getattr(newest_first, name), None, rows.nan_text)]
    return json_rows(*parts, '"}')


def trade_rows(rows: Trades, name: str) -> bytes:
    """Trades as Coinbase writes them: the newest first, with microseconds and the maker's side."""
    newest_first = rows.take(np.arange(len(rows))[::-1])
    return json_rows(
        '{"trade_id":"',
        decimal_text(newest_first.id),
        f'","product_id":"{name}","price":"',
        decimal_text(newest_first.price, None, rows.nan_text),
        '","size":"',
        decimal_text(newest_first.volume, None, rows.nan_text),
        '","time":"',
        _iso_texts(newest_first),
        '","side":"',
        pc.if_else(pa.array(newest_first.is_buy), "SELL", "BUY"),
        '","bid":"","ask":"","exchange":"coinbase"}',
    )


def _iso_texts(rows: Trades) -> pa.Array:
    microseconds = rows.ts * 1000 + rows.nanosecond // 1000
    texts = np.datetime_as_string(microseconds.astype("datetime64[us]"), unit="us", timezone="UTC")
    return pa.array(texts.astype(object), pa.string())


def _level_rows(levels: Array) -> list[dict[str, str]]:
    prices, sizes = (decimal_text(np.ascontiguousarray(levels[:, n])).to_pylist() for n in (0, 1))
    return [{"price": price, "size": size} for price, size in zip(prices, sizes, strict=True)]


_ERRORS: Final[dict[int, tuple[str, str]]] = {
    401: ("UNAUTHENTICATED", "Unauthorized"),
    403: ("PERMISSION_DENIED", "Forbidden"),
    429: ("RESOURCE_EXHAUSTED", "Too many requests"),
    500: ("INTERNAL", "internal server error"),
    503: ("UNAVAILABLE", "service unavailable"),
}


def _time(call: Call) -> Answer:
    times = {"epochSeconds": str(call.now // 1000), "epochMillis": str(call.now)}
    return Answer.json({"iso": iso(call.now // 1000 * 1000), **times})


def _iso(ts: int) -> str:
    return str(np.datetime_as_string(np.datetime64(ts * 1000, "us"), unit="us", timezone="UTC"))


def _data(value: Any) -> Answer:
    return Answer.json({"data": value})


def _failure(error: str, message: str, status: int) -> Answer:
    return Answer.json({"error": error, "error_details": message, "message": message}, status)


def _wrong(message: str) -> Refused:
    return Refused(_failure("INVALID_ARGUMENT", message, 400))


def _limit(query: Mapping[str, str], usual: int) -> int:
    value = query.get("limit") or str(usual)
    if not value.isdigit() or value == "0":
        raise _wrong("limit argument is invalid")
    return int(value)


def _seconds(query: Mapping[str, str], name: str) -> int | None:
    value = query.get(name)
    if not value:
        return None
    if not value.isdigit():
        raise _wrong(f"{name} argument is invalid")
    return int(value)
