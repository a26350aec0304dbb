"""KuCoin spot (api.kucoin.com), market data, and what its two APIs share.

Follows https://www.kucoin.com/docs-new/rest/spot-trading/market-data/get-klines and the pages beside it. What
KuCoin does not document is simulated thus: ``endAt`` is exclusive; a request of candles without ``startAt``
answers the newest hundred. The token for streams is always the same. Not there: candles of a month (answered
as a type that is not provided), currencies, tickers, orders and accounts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS
from zvt_crypto.sandbox import kucoin_info
from zvt_crypto.sandbox.events import Trades, TradeSpan
from zvt_crypto.sandbox.market import Array, Candles, Instrument, Span
from zvt_crypto.sandbox.venue import Answer, Call, Handler, Refused, Venue, html
from zvt_crypto.sandbox.wire import decimal_text, json_rows

#: Type -> step in ms; weeks open on Thursday, the epoch's first day.
TYPES: Final[dict[str, int]] = {
    **{f"{n}min": n * MINUTE_MS for n in (1, 3, 5, 15, 30)},
    **{f"{n}hour": n * HOUR_MS for n in (1, 2, 4, 6, 8, 12)},
    "1day": DAY_MS,
    "1week": 7 * DAY_MS,
}
#: Depths of an order book that can be asked for.
DEPTHS: Final = ("20", "100")
#: The token that opens the streams of both APIs.
BULLET: Final = "sandbox/token+of=="
#: Trades in an answer.
NEWEST_TRADES: Final = 100
FOREVER: Final = 2**53
_MOST_CANDLES: Final = 1500
_CANDLES_WITHOUT_START: Final = 100
_QUOTA: Final = 2000
_QUOTA_MS: Final = 30_000
#: How long a request that is refused has to wait; the quota of the sandbox is always about to be renewed.
_RENEWED_MS: Final = 250


class KucoinApi(Venue):
    """What KuCoin's APIs share: envelope, errors, the quota's headers.

    Attributes:
        weights: Weight of a request by the start of its path; 3 for others.
        streams: Where the streams of the same markets are.
    """

    weights: ClassVar[Mapping[str, int]]
    streams: ClassVar[str]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._period = 0
        self._used = 0

    @staticmethod
    def symbol_parameter() -> str:
        """See ``Venue``."""
        return "symbol"

    def routes(self) -> Mapping[str, Handler]:
        """See ``Venue``."""
        return {
            "/api/v1/timestamp": lambda call: success(str(call.now).encode()),
            "/api/v1/status": lambda call: success(b'{"status":"open","msg":""}'),
            "/api/v1/bullet-public": self._bullet,
        }

    def answer(self, call: Call) -> Answer:
        """See ``Venue``."""
        answer = super().answer(call)
        return replace(answer, headers={**answer.headers, **self._quota(call)})

    def unknown_path(self, path: str) -> Answer:
        """See ``Venue``."""
        return failure("404000", "URL Not Found -- The requested resource could not be found.", 404)

    def error(self, status: int) -> Answer:
        """See ``Venue``."""
        if status not in _ERRORS:
            return html(status, "Error")
        refused = failure(*_ERRORS[status], status)
        return replace(refused, headers=_quota_headers(0, _RENEWED_MS)) if status == 429 else refused

    def maintenance(self, path: str) -> Answer:
        """See ``Venue``."""
        if path == "/api/v1/status":
            return success(b'{"status":"close","msg":"upgrade match engine"}')
        return failure("503000", "The system is under maintenance, please try again later.", 503)

    def wanted(self, call: Call) -> Instrument:
        """The instrument that a request is about."""
        name = mandatory(call.query, "symbol")
        if name not in self.listed:
            raise self.unknown_symbol(name, call.path)
        return self.listed[name]

    def _bullet(self, call: Call) -> Answer:
        timing = {"pingInterval": 18_000, "pingTimeout": 10_000}
        server = {"endpoint": self.streams, "encrypt": True, "protocol": "websocket", **timing}
        return success(orjson.dumps({"token": BULLET, "instanceServers": [server]}))

    @abstractmethod
    def unknown_symbol(self, name: str, path: str) -> Refused:
        """What a request for a symbol that is not listed is answered."""

    def _quota(self, call: Call) -> dict[str, str]:
        period = call.now // _QUOTA_MS
        if period != self._period:
            self._period, self._used = period, 0
        weight = next((w for start, w in self.weights.items() if call.path.startswith(start)), 3)
        self._used += weight
        return _quota_headers(max(_QUOTA - self._used, 0), _QUOTA_MS - call.now % _QUOTA_MS)


class KucoinSpot(KucoinApi):
    """api.kucoin.com."""

    name = "kucoin spot"
    hosts = ("api.kucoin.com",)
    streams = "wss://ws-api-spot.kucoin.com/"
    row_paths = ("/api/v1/market/candles", "/api/v1/market/histories")
    weights: ClassVar[Mapping[str, int]] = {
        "/api/v1/bullet-public": 10,
        "/api/v2/symbols": 4,
        "/api/v1/market/orderbook/level2_20": 2,
        "/api/v1/market/orderbook/level2_100": 4,
    }

    def lists(self, instrument: Instrument) -> bool:
        """See ``Venue``."""
        return instrument.settle is None and instrument.quote != "USD"

    def native(self, instrument: Instrument) -> str:
        """See ``Venue``."""
        return f"{instrument.base}-{instrument.quote}"

    def routes(self) -> Mapping[str, Handler]:
        """See ``Venue``."""
        return {
            **super().routes(),
            "/api/v2/symbols": self._symbols,
            "/api/v1/market/candles": self._candles,
            "/api/v1/market/histories": self._histories,
            "/api/v1/market/orderbook/level2_{size}": self._book,
        }

    def unknown_symbol(self, name: str, path: str) -> Refused:
        """See ``KucoinApi``."""
        if path == "/api/v1/market/candles":
            return Refused(failure("400100", "This pair is not provided at present."))
        return Refused(failure("900001", f"Trading pair {name} does not exist."))

    def _symbols(self, call: Call) -> Answer:
        return success(orjson.dumps([kucoin_info.spot(name, i) for name, i in self.listed.items()]))

    def _candles(self, call: Call) -> Answer:
        instrument = self.wanted(call)
        kind = mandatory(call.query, "type")
        if kind not in TYPES:
            raise Refused(failure("400100", "This type of Candlestick is currently not provided."))
        # 0 and no value are the same.
        start, end = number(call.query, "startAt"), number(call.query, "endAt")
        limit = _MOST_CANDLES if start else _CANDLES_WITHOUT_START
        end_ms = end * 1000 if end else FOREVER
        span = Span(instrument.symbol, TYPES[kind], (start or 0) * 1000, end_ms, limit=limit, newest=True)
        return success(self.pages.page(span, call.now, call.damage, self.name, candle_rows))

    def _histories(self, call: Call) -> Answer:
        span = TradeSpan(self.wanted(call).symbol, limit=NEWEST_TRADES, newest=True)
        return success(trade_rows(call.damaged(self.market.trades(span, call.now))))

    def _book(self, call: Call) -> Answer:
        depth = depth_of(self, call)
        book = self.market.book(self.wanted(call).symbol, depth, call.now)
        sides = f'"time":{book.ts},"sequence":"{book.sequence}","bids":'.encode()
        return success(b"{" + sides + level_rows(book.bids) + b',"asks":' + level_rows(book.asks) + b"}")


def candle_rows(rows: Candles) -> bytes:
    """Candles as KuCoin writes those of spot pairs: seven strings, the newest first, none without trades."""
    newest_first = traded(rows).take(slice(None, None, -1))
    prices = [getattr(newest_first, name) for name in ("open", "close", "high", "low")]
    columns = [newest_first.ts // 1000, *prices, newest_first.volume, newest_first.turnover]
    texts = [decimal_text(np.ascontiguousarray(column), None, rows.nan_text) for column in columns]
    separated = [part for text in texts for part in ('","', text)]
    return json_rows('["', *separated[1:], '"]')


def trade_rows(rows: Trades) -> bytes:
    """Trades as KuCoin writes those of spot pairs, the oldest first; the side is the taker's."""
    return json_rows(
        '{"sequence":"',
        decimal_text(rows.id),
        '","price":"',
        decimal_text(rows.price, None, rows.nan_text),
        '","size":"',
        decimal_text(rows.volume, None, rows.nan_text),
        '","side":"',
        taker_side(rows),
        '","time":',
        nanoseconds(rows),
        "}",
    )


def traded(rows: Candles) -> Candles:
    """The candles that have trades; KuCoin leaves out the others."""
    return rows.take(rows.volume != 0)


def taker_side(rows: Trades) -> pa.Array:
    """``buy`` or ``sell`` for each trade."""
    return pc.if_else(pa.array(rows.is_buy), "buy", "sell")


def nanoseconds(rows: Trades) -> pa.Array:
    """Epoch nanoseconds of each trade, as text."""
    return decimal_text(rows.ts * 1_000_000 + rows.nanosecond)


def success(data: bytes) -> Answer:
    """An answer with data, which is JSON."""
    return Answer(b'{"code":"200000","data":' + data + b"}")


def failure(code: str, message: str, status: int = 200) -> Answer:
    """An error; where the request is wrong, KuCoin answers HTTP 200."""
    return Answer.json({"msg": message, "code": code}, status)


def mandatory(query: Mapping[str, str], name: str) -> str:
    """A parameter that must be there."""
    if not query.get(name):
        raise Refused(failure("400100", f"{name} can not be empty"))
    return query[name]


def number(query: Mapping[str, str], name: str) -> int | None:
    """A parameter that is a whole number, None where it is missing."""
    value = query.get(name)
    if value is None or value == "":
        return None
    if not value.isdigit():
        raise Refused(failure("400100", f"{name} is invalid"))
    return int(value)


def depth_of(venue: Venue, call: Call) -> int:
    """The depth in the path of an order book."""
    if call.query["size"] not in DEPTHS:
        raise Refused(venue.unknown_path(call.path))
    return int(call.query["size"])


def level_rows(levels: Array) -> bytes:
    """One side of an order book of a pair: price and size as text, the best first."""
    price, volume = (decimal_text(np.ascontiguousarray(levels[:, column])) for column in (0, 1))
    return json_rows('["', price, '","', volume, '"]')


def _quota_headers(remaining: int, reset_ms: int) -> dict[str, str]:
    return {
        "gw-ratelimit-limit": str(_QUOTA),
        "gw-ratelimit-remaining": str(remaining),
        "gw-ratelimit-reset": str(reset_ms),
    }


_ERRORS: Final[dict[int, tuple[str, str]]] = {
    429: ("429000", "Too Many Requests"),
    451: (
        "400302",
        "Our services are currently unavailable in the U.S. To ensure a seamless experience, please access "
        "our platform from a non-restricted country/region using a supported IP address.",
    ),
    500: ("500000", "Internal Server Error"),
    503: ("503000", "Service unavailable."),
}
