"""Crypto.com Exchange's streams (stream.crypto.com): market data of spot pairs and perpetuals.

Follows https://exchange-docs.crypto.com/exchange/v1/rest-ws/index.html#websocket-subscriptions and, in what
that does not say, what was seen there: the words of errors, which answers name their channel, 400 channels a
connection, and the end of one that leaves three heartbeats unanswered. Assumed: trades come newest first, and
candles begin with the newest ones. Otherwise than there, the snapshot of an order book comes at once, and
trades have ``tn`` as over REST (there their ids are those nanoseconds). Not there: ``cs`` of order books and
what is told of quiet ones, ``ticker``, ``index``, ``settlement`` and ``estimatedfunding``, users' channels,
the month ``1M``, and the limit of frames a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson

from zvt_crypto.core.levels import LEVEL_MS
from zvt_crypto.sandbox.cryptocom import TIMEFRAMES, candle_rows, level_rows, trade_rows
from zvt_crypto.sandbox.events import Array, Book, Trades, TradeSpan
from zvt_crypto.sandbox.market import Candles, Instrument, Span
from zvt_crypto.sandbox.news import News
from zvt_crypto.sandbox.streams import (
    Changes,
    Close,
    Frame,
    NextFunding,
    Session,
    StreamVenue,
    Subscription,
)
from zvt_crypto.sandbox.venue import Answer
from zvt_crypto.sandbox.wire import decimal_text, json_rows

_REST: Final = "api.crypto.com"
_PATH: Final = "/exchange/v1/market"
_DEPTHS: Final = ("10", "50")
#: Least ms between two messages of a book, by what a client asks for.
_BOOK_KINDS: Final[Mapping[str, tuple[int, ...]]] = {"SNAPSHOT": (500,), "SNAPSHOT_AND_UPDATE": (10, 100)}
_FREQUENCIES: Final = (10, 100, 500)
_MARK_MS: Final = 1000
_CANDLE_MS: Final = 500
_FUNDING_MS: Final = 60_000
_FIRST_TRADES: Final = 50
_FIRST_CANDLES: Final = 50
_MOST_CHANNELS: Final = 400
_MOST_UNANSWERED: Final = 2
_INVALID: Final = 40003
_TOO_MANY: Final = 40107


class _Wrong(Exception):
    """A channel is refused; the text is why."""


class CryptocomStreams(StreamVenue):
    """stream.crypto.com, its market data."""

    name = "crypto.com streams"
    hosts = ("stream.crypto.com",)
    heartbeat_seconds = 30.0

    def refuse(self, session: Session) -> Answer | None:
        """See ``StreamVenue``."""
        return None if session.path == _PATH else Answer(b"", 404)

    def received(self, session: Session, text: str) -> Sequence[Frame]:
        """See ``StreamVenue``; what is not JSON is passed over."""
        try:
            frame = orjson.loads(text)
        except orjson.JSONDecodeError:
            return ()
        request = frame if isinstance(frame, dict) else {}
        method, number = request.get("method"), request.get("id", -1)
        if method == "public/respond-heartbeat":
            session.counters["unanswered"] = 0
            return ()
        params = request.get("params")
        channels = params.get("channels") if isinstance(params, dict) else None
        if method not in ("subscribe", "unsubscribe"):
            return [_answer(method, number, _INVALID, message="No such method")]
        if not isinstance(channels, list) or not all(isinstance(name, str) for name in channels):
            return [_answer(method, number, _INVALID, message="Invalid channels")]
        if method == "unsubscribe":
            for name in channels:
                session.subscriptions.pop(name, None)
            return [_answer(method, number)]
        return [frame for name in channels for frame in self._subscribe(session, number, name, params or {})]

    def heartbeat(self, session: Session) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        if session.counters["unanswered"] >= _MOST_UNANSWERED:
            return [Close()]
        session.counters["unanswered"] += 1
        return [_answer("public/heartbeat", session.now)]

    def trades(self, session: Session, subscription: Subscription, rows: Trades) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        return [self._trades(subscription, rows)]

    def candles(
        self, session: Session, subscription: Subscription, rows: Candles, closed: bool
    ) -> Sequence[Frame]:
        """See ``StreamVenue``; nothing tells whether they are final."""
        return [self._candles(subscription, rows)]

    def book_snapshot(self, session: Session, subscription: Subscription, book: Book) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        return [self._book(subscription, book)]

    def book_update(
        self, session: Session, subscription: Subscription, before: Book, after: Book, changes: Changes
    ) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        if subscription.argument == "SNAPSHOT":
            return [self._book(subscription, after)]
        levels = self._levels(subscription, changes.bids, changes.asks)
        numbers = {"t": after.ts, "tt": after.ts, "u": after.sequence, "pu": before.sequence}
        state = b'{"update":' + levels + b"," + orjson.dumps(numbers)[1:]
        return [self._data(subscription, "book.update", b"[" + state + b"]", depth=subscription.depth)]

    def funding(self, session: Session, subscription: Subscription, funding: NextFunding) -> Sequence[Frame]:
        """See ``StreamVenue``; the mark price and the rate are channels of their own."""
        return [self._value(subscription, funding)]

    def _subscribe(
        self, session: Session, number: Any, name: str, params: Mapping[str, Any]
    ) -> Sequence[Frame]:
        """The answer to one channel: its first data or, for a book, that it is confirmed."""
        if name in session.subscriptions:
            return [_answer("subscribe", number, channel=name)]
        if len(session.subscriptions) >= _MOST_CHANNELS:
            return [_answer("subscribe", number, _TOO_MANY, message="Maximum subscriptions exceeded")]
        try:
            subscription = self._subscription(name, params)
        except _Wrong as wrong:
            return [_answer("subscribe", number, _INVALID, channel=name, message=str(wrong))]
        session.subscriptions[name] = subscription
        if subscription.feed == "trades":
            span = TradeSpan(subscription.symbol, 0, session.now + 1, limit=_FIRST_TRADES, newest=True)
            return [self._trades(subscription, self.market.trades(span), number)]
        if subscription.feed == "candles":
            return [self._candles(subscription, self._first_candles(session, subscription), number)]
        if subscription.feed == "order_book":
            return [_answer("subscribe", number, channel=name)]
        news = News(self.market)
        news.now = session.now
        funding = news.funding(subscription.symbol)
        return [] if funding is None else [self._value(subscription, funding, number)]

    def _subscription(self, name: str, params: Mapping[str, Any]) -> Subscription:
        kind, _, rest = name.partition(".")
        if kind == "book":
            native, _, depth = rest.rpartition(".")
            return self._book_subscription(name, self._wanted(native), depth, params)
        if kind == "candlestick":
            timeframe, _, native = rest.partition(".")
            if timeframe not in TIMEFRAMES:
                raise _Wrong("Invalid interval")
            step, offset = TIMEFRAMES[timeframe]
            level = timeframe.lower() if timeframe.lower() in LEVEL_MS else None
            symbol = self._wanted(native).symbol
            return Subscription("candles", symbol, name, level, None, _CANDLE_MS, step, offset, timeframe)
        if kind == "trade":
            return Subscription("trades", self._wanted(rest).symbol, name)
        if kind not in ("mark", "funding"):
            raise _Wrong("Unrecognized channel")
        instrument = self._wanted(rest)
        if instrument.settle is None:
            raise _Wrong("Unsupported instrument")
        every = _MARK_MS if kind == "mark" else _FUNDING_MS
        return Subscription("funding", instrument.symbol, name, every=every)

    def _book_subscription(
        self, name: str, instrument: Instrument, depth: str, params: Mapping[str, Any]
    ) -> Subscription:
        kind = params.get("book_subscription_type", "SNAPSHOT")
        if depth not in _DEPTHS:
            raise _Wrong("Invalid depth")
        if kind not in _BOOK_KINDS:
            raise _Wrong("Invalid book_subscription_type")
        every = params.get("book_update_frequency", _BOOK_KINDS[kind][0])
        if every not in _FREQUENCIES:
            raise _Wrong("Invalid book_update_frequency")
        if kind == "SNAPSHOT":
            every = _BOOK_KINDS[kind][0]  # whatever was asked for
        elif every not in _BOOK_KINDS[kind]:
            raise _Wrong("Unsupported depth/interval combination")
        return Subscription(
            "order_book", instrument.symbol, name, depth=int(depth), every=every, argument=kind
        )

    def _wanted(self, native: str) -> Instrument:
        instrument = self.venues[_REST].listed.get(native)
        if instrument is None:
            raise _Wrong("Unknown symbol")
        return instrument

    def _first_candles(self, session: Session, subscription: Subscription) -> Candles:
        step, offset = int(subscription.step or 0), subscription.offset
        span = Span(subscription.symbol, step, 0, session.now + 1, offset, _FIRST_CANDLES, newest=True)
        return self.market.bars(span, session.now)

    def _trades(self, subscription: Subscription, rows: Trades, number: Any = -1) -> Frame:
        instrument, native = self._named(subscription)
        return self._data(subscription, "trade", trade_rows(rows, instrument, native), number)

    def _candles(self, subscription: Subscription, rows: Candles, number: Any = -1) -> Frame:
        made = candle_rows(rows, self._named(subscription)[0])
        return self._data(subscription, "candlestick", made, number, interval=subscription.argument)

    def _value(self, subscription: Subscription, funding: NextFunding, number: Any = -1) -> Frame:
        kind = subscription.channel.partition(".")[0]
        value = decimal_text(np.array([funding.mark_price if kind == "mark" else funding.rate]))
        rows = json_rows('{"v":"', value, f'","t":{funding.ts // 1000 * 1000}}}')
        return self._data(subscription, kind, rows, number)

    def _book(self, subscription: Subscription, book: Book) -> Frame:
        levels = self._levels(subscription, book.bids, book.asks)
        numbers = {"t": book.ts, "tt": book.ts, "u": book.sequence}
        rows = b"[" + levels[:-1] + b"," + orjson.dumps(numbers)[1:] + b"]"
        return self._data(subscription, "book", rows, depth=subscription.depth)

    def _levels(self, subscription: Subscription, bids: Array, asks: Array) -> bytes:
        instrument = self._named(subscription)[0]
        return b'{"bids":%s,"asks":%s}' % (level_rows(bids, instrument), level_rows(asks, instrument))

    def _named(self, subscription: Subscription) -> tuple[Instrument, str]:
        instrument = self.market.instrument(subscription.symbol)
        return instrument, self.venues[_REST].native(instrument)

    def _data(
        self, subscription: Subscription, channel: str, rows: bytes, number: Any = -1, **more: Any
    ) -> bytes:
        """A frame with rows; the first one of a channel has the number of the frame that asked for it."""
        native = self._named(subscription)[1]
        result = {"instrument_name": native, "subscription": subscription.channel, "channel": channel, **more}
        head = orjson.dumps({"id": number, "method": "subscribe", "code": 0})[:-1]
        return head + b',"result":' + orjson.dumps(result)[:-1] + b',"data":' + rows + b"}}"


def _answer(method: Any, number: Any, code: int = 0, **more: str) -> Frame:
    return {"id": number, "method": method, "code": code, **more}
