"""Kraken's streams (WebSocket v2 at ws.kraken.com), market data of spot pairs.

Follows https://docs.kraken.com/api/docs/websocket-v2/trade and the pages beside it. Differences: a heartbeat
comes every second whether or not there is data; texts of errors that the documents do not have are those of
v1; a candle that ends is told once more, as the last trade in it made it. Not there: tickers, instruments,
single orders (level 3), accounts and orders, limits.
"""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import MINUTE_MS
from zvt_crypto.sandbox.events import Array, Book, Trades, TradeSpan
from zvt_crypto.sandbox.kraken import INTERVALS, candle_rows
from zvt_crypto.sandbox.market import Candles, Span
from zvt_crypto.sandbox.streams import Changes, Frame, Session, StreamVenue, Subscription
from zvt_crypto.sandbox.venue import Answer
from zvt_crypto.sandbox.wire import decimal_text, json_rows

#: Depths of an order book.
DEPTHS: Final = (10, 25, 100, 500, 1000)
#: Levels on each side that a checksum is made of.
_CHECKED: Final = 10
_LATEST_TRADES: Final = 50
_LATEST_CANDLES: Final = 2
_VOLUME_DIGITS: Final = 8


class KrakenStreams(StreamVenue):
    """ws.kraken.com/v2."""

    name = "kraken streams"
    hosts = ("ws.kraken.com",)
    heartbeat_seconds = 1.0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        listed = self.venues["api.kraken.com"].listed
        self._listed = {instrument.symbol: instrument for instrument in listed.values()}

    def refuse(self, session: Session) -> Answer | None:
        """See ``StreamVenue``."""
        return None if session.path == "/v2" else Answer(b"", 404)

    def opened(self, session: Session) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        status = {"version": "2.0.10", "system": "online", "api_version": "v2"}
        return [
            {"channel": "status", "type": "update", "data": [{**status, "connection_id": session.number}]}
        ]

    def heartbeat(self, session: Session) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        return ['{"channel":"heartbeat"}'] if session.subscriptions else ()

    def received(self, session: Session, text: str) -> Sequence[Frame]:
        """See ``StreamVenue``; every pair of a frame has an answer of its own."""
        try:
            frame = orjson.loads(text)
        except orjson.JSONDecodeError:
            frame = None
        if not isinstance(frame, dict):
            return [_reply(session, {"method": "error"}, error="Malformed request")]
        method, params = frame.get("method"), frame.get("params")
        if method == "ping":
            return [_reply(session, {**frame, "method": "pong"})]
        if method not in ("subscribe", "unsubscribe") or not isinstance(params, dict):
            return [_reply(session, frame, error="Event(s) not found")]
        names, error = params.get("symbol"), _flaw(params)
        if error or not isinstance(names, list):
            return [_reply(session, frame, error=error or "Pair field must be an array")]
        answer = self._subscribe if method == "subscribe" else self._unsubscribe
        return [told for name in names for told in answer(session, frame, str(name))]

    def trades(self, session: Session, subscription: Subscription, rows: Trades) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        return [_message("trade", "update", self._trade_rows(subscription.symbol, rows))]

    def candles(
        self, session: Session, subscription: Subscription, rows: Candles, closed: bool
    ) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        return [self._candle_message(session, subscription, rows, "update")]

    def book_snapshot(self, session: Session, subscription: Subscription, book: Book) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        return [self._book_message(subscription, book, Changes(book.bids, book.asks), "snapshot")]

    def book_update(
        self, session: Session, subscription: Subscription, before: Book, after: Book, changes: Changes
    ) -> Sequence[Frame]:
        """See ``StreamVenue``; of levels that fall out of the depth nothing is told."""
        depth = subscription.depth or DEPTHS[0]
        bids, asks = _in_scope(changes.bids, after.bids, depth), _in_scope(changes.asks, after.asks, depth)
        return [self._book_message(subscription, after, Changes(bids, asks), "update")]

    def _subscribe(self, session: Session, frame: Mapping[str, Any], name: str) -> Sequence[Frame]:
        if name not in self._listed:
            return [_reply(session, frame, symbol=name, error=f"Currency pair not supported {name}")]
        subscription = _subscription(frame["params"], name)
        key = subscription.channel, name
        if key in session.subscriptions:
            return [_reply(session, frame, symbol=name, error="Already subscribed")]
        session.subscriptions[key] = subscription
        result = {**subscription.argument, "symbol": name}
        return [_reply(session, frame, result=result), *self._begin(session, subscription)]

    def _begin(self, session: Session, subscription: Subscription) -> Sequence[Frame]:
        """The snapshots of trades and candles; that of a book is told by itself."""
        symbol, now = subscription.symbol, session.now
        if subscription.feed == "order_book" or not subscription.argument["snapshot"]:
            return ()
        if subscription.feed == "trades":
            latest = self.market.trades(TradeSpan(symbol, limit=_LATEST_TRADES, newest=True), now)
            return [_message("trade", "snapshot", self._trade_rows(symbol, latest))]
        step = int(subscription.step or 0)
        rows = self.market.bars(Span(symbol, step, now - _LATEST_CANDLES * step, now + 1), now)
        return [self._candle_message(session, subscription, rows, "snapshot")]

    def _unsubscribe(self, session: Session, frame: Mapping[str, Any], name: str) -> Sequence[Frame]:
        wanted = _subscription(frame["params"], name)
        if session.subscriptions.pop((wanted.channel, name), None) is None:
            return [_reply(session, frame, symbol=name, error="Subscription Not Found")]
        return [_reply(session, frame, result={**wanted.argument, "symbol": name})]

    def _trade_rows(self, symbol: str, rows: Trades) -> str:
        digits = self._price_digits(symbol)
        told = json_rows(
            f'{{"symbol":"{symbol}","side":"',
            pc.if_else(pa.array(rows.is_buy), "buy", "sell"),
            '","price":',
            decimal_text(rows.price, digits),
            ',"qty":',
            decimal_text(rows.volume, _VOLUME_DIGITS),
            ',"ord_type":"',
            pc.if_else(pa.array(rows.id % 2 == 0), "market", "limit"),
            '","trade_id":',
            decimal_text(rows.id),
            ',"timestamp":"',
            _time_texts(rows.ts * 1000 + rows.nanosecond // 1000),
            '"}',
        )
        return told.decode()

    def _candle_message(
        self, session: Session, subscription: Subscription, rows: Candles, kind: str
    ) -> Frame:
        """Candles with the numbers that REST answers."""
        symbol, step = subscription.symbol, int(subscription.step or 0)
        texts = []
        for seconds, *prices, vwap, volume, count in orjson.loads(candle_rows(rows, self._listed[symbol])):
            named = zip(("open", "high", "low", "close"), prices, strict=True)
            numbers = ",".join(f'"{name}":{price}' for name, price in named)
            begin, end = _time_text(seconds * 1000), _time_text(seconds * 1000 + step)
            texts.append(
                f'{{"symbol":"{symbol}",{numbers},"trades":{count},"volume":{volume},"vwap":{vwap},'
                f'"interval_begin":"{begin[:-1]}000Z","interval":{step // MINUTE_MS},"timestamp":"{end}"}}'
            )
        return _message("ohlc", kind, f"[{','.join(texts)}]", timestamp=_time_text(session.now))

    def _book_message(self, subscription: Subscription, book: Book, levels: Changes, kind: str) -> Frame:
        symbol = subscription.symbol
        digits = self._price_digits(symbol)
        bids, asks = (_level_rows(side, digits).decode() for side in (levels.bids, levels.asks))
        data = f'"bids":{bids},"asks":{asks},"checksum":{_checksum(book, digits)}'
        return _message("book", kind, f'[{{"symbol":"{symbol}",{data},"timestamp":"{_time_text(book.ts)}"}}]')

    def _price_digits(self, symbol: str) -> int:
        return max(self._listed[symbol].price_digits, 1)


def _flaw(params: Mapping[str, Any]) -> str | None:
    """What is wrong with a subscription, whatever its pairs."""
    channel = params.get("channel")
    if channel not in ("trade", "ohlc", "book"):
        return "Subscription name invalid"
    if channel == "book" and params.get("depth", DEPTHS[0]) not in DEPTHS:
        return "Subscription depth not supported"
    if channel == "ohlc" and params.get("interval", 1) not in INTERVALS:
        return "Subscription ohlc interval not supported"
    return None


def _subscription(params: Mapping[str, Any], symbol: str) -> Subscription:
    """What is asked for; the argument is what an answer tells of it beside the pair.

    The messages of books do not tell their depth, so there is one for each pair.
    """
    channel = params["channel"]
    told = {"channel": channel, "snapshot": bool(params.get("snapshot", channel != "trade"))}
    if channel == "trade":
        return Subscription("trades", symbol, channel, argument=told)
    if channel == "book":
        depth = params.get("depth", DEPTHS[0])
        return Subscription("order_book", symbol, channel, depth=depth, argument=told | {"depth": depth})
    interval = params.get("interval", 1)
    told |= {"interval": interval, "warnings": ["timestamp is deprecated, use interval_begin"]}
    step = interval * MINUTE_MS
    return Subscription("candles", symbol, f"ohlc-{interval}", step=step, argument=told)


def _reply(session: Session, frame: Mapping[str, Any], error: str | None = None, **more: Any) -> Frame:
    """An answer to a frame of the client."""
    outcome = {} if frame.get("method") == "pong" else {"success": error is None}
    reply = {"method": frame.get("method"), **more, **({"error": error} if error else {}), **outcome}
    if "req_id" in frame:
        reply["req_id"] = frame["req_id"]
    return reply | dict.fromkeys(("time_in", "time_out"), _time_text(session.now))


def _message(channel: str, kind: str, data: str, **more: str) -> Frame:
    extra = "".join(f'"{name}":"{text}",' for name, text in more.items())
    return f'{{"channel":"{channel}","type":"{kind}",{extra}"data":{data}}}'


def _in_scope(changes: Array, after: Array, depth: int) -> Array:
    """The changes without those of levels that are beyond the depth by now."""
    if len(after) < depth:
        return changes
    is_bid = after[0, 0] > after[-1, 0]
    beyond = changes[:, 0] < after[-1, 0] if is_bid else changes[:, 0] > after[-1, 0]
    return np.asarray(changes[~beyond])


def _level_rows(levels: Array, digits: int) -> bytes:
    price, quantity = _level_texts(levels, digits)
    return json_rows('{"price":', price, ',"qty":', quantity, "}")


def _level_texts(levels: Array, digits: int) -> tuple[pa.Array, pa.Array]:
    price, volume = np.ascontiguousarray(levels[:, 0]), np.ascontiguousarray(levels[:, 1])
    return decimal_text(price, digits), decimal_text(volume, _VOLUME_DIGITS)


def _checksum(book: Book, digits: int) -> int:
    """CRC-32 of the best levels, asks first: their digits without decimal points and leading zeros."""
    columns = (_level_texts(side[:_CHECKED], digits) for side in (book.asks, book.bids))
    levels = (level for pair in columns for level in zip(*(text.to_pylist() for text in pair), strict=True))
    return zlib.crc32("".join(text.replace(".", "").lstrip("0") for pair in levels for text in pair).encode())


def _time_text(ts: int) -> str:
    """A time as Kraken writes it, such as ``2023-10-06T17:35:55.440000Z``."""
    moment = dt.datetime.fromtimestamp(ts // 1000, dt.timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ts % 1000:03d}000Z"


def _time_texts(microseconds: Array) -> pa.Array:
    """As ``_time_text``, of epoch microseconds."""
    text = pc.cast(pa.array(microseconds).cast(pa.timestamp("us")), pa.string())
    return pc.binary_join_element_wise(pc.replace_substring(text, " ", "T"), "Z", "")
