"""Coinbase's streams, Advanced Trade (advanced-trade-ws.coinbase.com): trades, order books and heartbeats.

Follows https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels and, in
what that does not say, what was seen there: one count of all messages of a connection, trades newest first,
products that are unknown left out of what is confirmed, and an unknown channel refused as a matter of
authentication. Assumed: how many trades come first, and the words of other errors. Otherwise than there, the
confirmation of an order book comes before its first message, and a product in USDC is a market of its own.
Not there: candles, tickers, the channel ``status``, users' channels, and the limit of frames a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import orjson
import pyarrow as pa

from zvt_crypto.sandbox.coinbase import trade_rows
from zvt_crypto.sandbox.events import Array, Book, Trades, TradeSpan
from zvt_crypto.sandbox.streams import (
    Changes,
    Close,
    Feed,
    Frame,
    Session,
    StreamVenue,
    Subscription,
)
from zvt_crypto.sandbox.wire import decimal_text, json_rows

_REST: Final = "api.coinbase.com"
_FEEDS: Final[Mapping[str, Feed]] = {"market_trades": "trades", "level2": "order_book"}
_HEARTBEATS: Final = "heartbeats"
_FIRST_TRADES: Final = 50
#: Fields of a trade that only answers over REST have.
_REST_FIELDS: Final = b',"bid":"","ask":"","exchange":"coinbase"'
#: Seconds that a client has for its first subscription.
_PATIENCE: Final = 5
_SIDES: Final = (("bid", "bids"), ("offer", "asks"))


class CoinbaseStreams(StreamVenue):
    """advanced-trade-ws.coinbase.com."""

    name = "coinbase streams"
    hosts = ("advanced-trade-ws.coinbase.com",)
    heartbeat_seconds = 1.0

    def received(self, session: Session, text: str) -> Sequence[Frame]:
        """See ``StreamVenue``; what is subscribed is told after each frame."""
        try:
            frame = orjson.loads(text)
        except orjson.JSONDecodeError:
            frame = None
        if not isinstance(frame, dict) or frame.get("type") not in ("subscribe", "unsubscribe"):
            return [_error("Malformed message")]
        channel, products = frame.get("channel"), frame.get("product_ids") or []
        if not isinstance(products, list) or not all(isinstance(product, str) for product in products):
            return [_error("Malformed message")]
        if not isinstance(channel, str) or channel not in (_HEARTBEATS, *_FEEDS):
            return [_error("authentication failure")]
        change = self._subscribe if frame["type"] == "subscribe" else self._unsubscribe
        return [*change(session, channel, products), self._subscriptions(session)]

    def heartbeat(self, session: Session) -> Sequence[Frame]:
        """See ``StreamVenue``; who subscribes to nothing is disconnected."""
        session.counters["seconds"] += 1
        if "asked" not in session.state and session.counters["seconds"] >= _PATIENCE:
            return [Close()]
        if _HEARTBEATS not in session.state:
            return ()
        time = f"{str(np.datetime64(session.now, 'ms')).replace('T', ' ')} +0000 UTC"
        event = {"current_time": time, "heartbeat_counter": session.counters["seconds"]}
        return [_message(session, _HEARTBEATS, orjson.dumps(event))]

    def trades(self, session: Session, subscription: Subscription, rows: Trades) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        return [self._trades(session, subscription, rows, "update")]

    def book_snapshot(self, session: Session, subscription: Subscription, book: Book) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        return [self._book(session, subscription, book, book.ts, "snapshot")]

    def book_update(
        self, session: Session, subscription: Subscription, before: Book, after: Book, changes: Changes
    ) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        return [self._book(session, subscription, changes, after.ts, "update")]

    def _subscribe(self, session: Session, channel: str, products: list[str]) -> list[Frame]:
        session.state["asked"] = True
        if channel == _HEARTBEATS:
            session.state[_HEARTBEATS] = True
            return []
        frames: list[Frame] = []
        for product in products:
            instrument = self.venues[_REST].listed.get(product)
            if instrument is None or (channel, product) in session.subscriptions:
                continue
            name = f"{channel} {product}"
            subscription = Subscription(_FEEDS[channel], instrument.symbol, name, argument=product)
            session.subscriptions[channel, product] = subscription
            if channel == "market_trades":
                frames.append(self._first_trades(session, subscription))
        return frames

    def _unsubscribe(self, session: Session, channel: str, products: list[str]) -> list[Frame]:
        """Without products, all of a channel."""
        if channel == _HEARTBEATS:
            session.state.pop(_HEARTBEATS, None)
        for product in products or _products(session, channel):
            session.subscriptions.pop((channel, product), None)
        return []

    def _subscriptions(self, session: Session) -> Frame:
        listed = {channel: _products(session, channel) for channel in _FEEDS}
        listed[_HEARTBEATS] = [_HEARTBEATS] if _HEARTBEATS in session.state else []
        told = {channel: listed[channel] for channel in sorted(listed) if listed[channel]}
        return _message(session, "subscriptions", orjson.dumps({"subscriptions": told}))

    def _first_trades(self, session: Session, subscription: Subscription) -> Frame:
        span = TradeSpan(subscription.symbol, 0, session.now + 1, limit=_FIRST_TRADES, newest=True)
        return self._trades(session, subscription, self.market.trades(span), "snapshot")

    def _trades(self, session: Session, subscription: Subscription, rows: Trades, kind: str) -> Frame:
        made = trade_rows(rows, subscription.argument).replace(_REST_FIELDS, b"")
        return _message(session, "market_trades", b'{"type":"%s","trades":%s}' % (kind.encode(), made))

    def _book(
        self, session: Session, subscription: Subscription, levels: Book | Changes, ts: int, kind: str
    ) -> Frame:
        parts = [_level_rows(getattr(levels, side), name, ts)[1:-1] for name, side in _SIDES]
        head = orjson.dumps({"type": kind, "product_id": subscription.argument})[:-1]
        updates = b",".join(part for part in parts if part)
        return _message(session, "l2_data", head + b',"updates":[' + updates + b"]}", ts)


def _products(session: Session, channel: str) -> list[str]:
    """What is subscribed of a channel."""
    names = (subscription.channel.split(" ") for subscription in session.subscriptions.values())
    return [product for name, product in names if name == channel]


def _level_rows(levels: Array, side: str, ts: int) -> bytes:
    prices, sizes = (decimal_text(np.ascontiguousarray(levels[:, n])) for n in (0, 1))
    head = f'{{"side":"{side}","event_time":"{_iso(ts)}","price_level":"'
    columns: list[str | pa.Array] = [head, prices, '","new_quantity":"', sizes]
    return json_rows(*columns, '"}')


def _message(session: Session, channel: str, event: bytes, ts: int | None = None) -> bytes:
    """A message with one event, counted."""
    number = session.counters["messages"]
    session.counters["messages"] += 1
    time = _iso(session.now if ts is None else ts)
    head = {"channel": channel, "timestamp": time, "sequence_num": number}
    return orjson.dumps(head)[:-1] + b',"events":[' + event + b"]}"


def _iso(ts: int) -> str:
    return f"{np.datetime64(ts * 1000, 'us')}Z"


def _error(message: str) -> Frame:
    return {"type": "error", "message": message}
