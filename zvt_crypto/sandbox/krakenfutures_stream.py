"""Kraken Futures' streams (futures.kraken.com/ws/v1), market data of perpetuals.

Follows https://docs.kraken.com/api/docs/futures-api/websocket/trade, .../book and .../ticker. What Kraken
does not document is simulated thus: each product of a frame has an answer of its own, in their order; the
number of a trade is that of its id; an order book is as deep as over REST, and its numbers are the
connection's own. Tickers lack what the market has not: the index, the premium, open interest, and leverage.
Not there: the feeds ``ticker_lite`` and of accounts, and limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import orjson

from zvt_crypto.core.levels import DAY_MS, HOUR_MS, MINUTE_MS
from zvt_crypto.sandbox import krakenfutures_info as info
from zvt_crypto.sandbox.events import Array, Book, Trades, TradeSpan
from zvt_crypto.sandbox.krakenfutures import level_rows
from zvt_crypto.sandbox.market import Instrument
from zvt_crypto.sandbox.streams import (
    Changes,
    Feed,
    Frame,
    NextFunding,
    Session,
    StreamVenue,
    Subscription,
)
from zvt_crypto.sandbox.venue import Answer

_FEEDS: Final[dict[str, Feed]] = {"trade": "trades", "book": "order_book", "ticker": "funding"}
_HEARTBEAT: Final = "heartbeat"
_LATEST_TRADES: Final = 100
_LEVELS: Final = 1000
_TICKER_MS: Final = 1000


class KrakenFuturesStreams(StreamVenue):
    """futures.kraken.com/ws/v1."""

    name = "kraken futures streams"
    hosts = ("futures.kraken.com",)
    heartbeat_seconds = 1.0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._venue = self.venues["futures.kraken.com"]
        self._day = lru_cache(maxsize=64)(self._day_until)

    def refuse(self, session: Session) -> Answer | None:
        """See ``StreamVenue``."""
        return None if session.path == "/ws/v1" else Answer(b"", 404)

    def opened(self, session: Session) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        return [{"event": "info", "version": 1}]

    def heartbeat(self, session: Session) -> Sequence[Frame]:
        """See ``StreamVenue``; it is a feed that is subscribed to."""
        return [{"feed": _HEARTBEAT, "time": session.now}] if session.state.get(_HEARTBEAT) else ()

    def received(self, session: Session, text: str) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        try:
            frame = orjson.loads(text)
        except orjson.JSONDecodeError:
            frame = None
        if not isinstance(frame, dict) or frame.get("event") not in ("subscribe", "unsubscribe"):
            return [_error("Json Error")]
        event, feed, products = f"{frame['event']}d", frame.get("feed"), frame.get("product_ids")
        if feed == _HEARTBEAT:
            session.state[_HEARTBEAT] = event == "subscribed"
            return [{"event": event, "feed": feed}]
        if feed not in _FEEDS:
            return [_error("Invalid feed")]
        if not isinstance(products, list):
            return [_error("Invalid product id")]
        return [told for product in products for told in self._answer(session, event, feed, str(product))]

    def trades(self, session: Session, subscription: Subscription, rows: Trades) -> Sequence[Frame]:
        """See ``StreamVenue``; each trade has a message of its own."""
        return list(self._trade_rows(subscription.symbol, rows))

    def book_snapshot(self, session: Session, subscription: Subscription, book: Book) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        instrument, product = self._named(subscription)
        session.counters[product] = max(session.counters[product], book.sequence)
        sides = {"bids": book.bids, "asks": book.asks}
        head = {"timestamp": book.ts, "seq": session.counters[product], "tickSize": None}
        levels = {
            side: [{"price": price, "qty": qty} for price, qty in _levels(rows, instrument)]
            for side, rows in sides.items()
        }
        return [{"feed": "book_snapshot", "product_id": product, **head, **levels}]

    def book_update(
        self, session: Session, subscription: Subscription, before: Book, after: Book, changes: Changes
    ) -> Sequence[Frame]:
        """See ``StreamVenue``; each level has a message of its own."""
        instrument, product = self._named(subscription)
        frames: list[Frame] = []
        for side, rows in (("buy", changes.bids), ("sell", changes.asks)):
            for price, qty in _levels(rows, instrument):
                session.counters[product] += 1
                number = session.counters[product]
                level = {"side": side, "seq": number, "price": price, "qty": qty, "timestamp": after.ts}
                frames.append({"feed": "book", "product_id": product, **level})
        return frames

    def funding(self, session: Session, subscription: Subscription, funding: NextFunding) -> Sequence[Frame]:
        """See ``StreamVenue``; payments are made at the full hour, as REST answers them."""
        instrument, product = self._named(subscription)
        mark, now = funding.mark_price, session.now
        events = self.market.fundings(instrument.symbol, now - DAY_MS, now + 1).rate
        paid = float(events[-1]) if len(events) else 0.0
        ticker = {
            "time": funding.ts,
            "product_id": product,
            "funding_rate": round(paid * mark, 9),
            "funding_rate_prediction": round(funding.rate * mark, 9),
            "relative_funding_rate": paid,
            "relative_funding_rate_prediction": funding.rate,
            "next_funding_rate_time": funding.due // HOUR_MS * HOUR_MS,
            "feed": "ticker",
            **self._best(instrument, now),
            "dtm": 0,
            "last": mark,
            "suspended": False,
            "tag": "perpetual",
            "pair": product.partition("_")[2][:-3] + ":USD",
            "markPrice": mark,
            "maturityTime": 0,
            "post_only": False,
            **self._day(instrument.symbol, now // MINUTE_MS),
        }
        return [ticker]

    def _answer(self, session: Session, event: str, feed: str, product: str) -> Sequence[Frame]:
        instrument = self._venue.listed.get(product)
        if instrument is None:
            return [_error("Invalid product id")]
        key, done = (feed, product), {"event": event, "feed": feed, "product_ids": [product]}
        known = session.subscriptions.pop(key, None)
        if event == "unsubscribed":
            return [done] if known is not None else [_alert("Not subscribed to feed")]
        # Asked for again, it begins again.
        session.subscriptions[key] = _subscription(feed, instrument)
        answer = done if known is None else _alert("Already subscribed to feed, re-requesting")
        if feed != "trade":
            return [answer]
        latest = TradeSpan(instrument.symbol, limit=_LATEST_TRADES, newest=True)
        rows = self._trade_rows(instrument.symbol, self.market.trades(latest, session.now))
        return [answer, {"feed": "trade_snapshot", "product_id": product, "trades": rows[::-1]}]

    def _trade_rows(self, symbol: str, rows: Trades) -> list[dict[str, Any]]:
        """Trades with the ids, sides and amounts that REST answers."""
        instrument = self.market.instrument(symbol)
        head = {"feed": "trade", "product_id": self._venue.native(instrument)}
        told = []
        for number, element in zip(
            rows.id.tolist(), orjson.loads(info.executions(rows, instrument)), strict=True
        ):
            execution = element["event"]["Execution"]["execution"]
            side = execution["takerOrder"]["direction"].lower()
            ids = {"uid": execution["uid"], "side": side, "type": "fill", "seq": number}
            amounts = {"qty": float(execution["quantity"]), "price": float(execution["price"])}
            told.append({**head, **ids, "time": execution["timestamp"], **amounts})
        return told

    def _named(self, subscription: Subscription) -> tuple[Instrument, str]:
        instrument = self.market.instrument(subscription.symbol)
        return instrument, self._venue.native(instrument)

    def _best(self, instrument: Instrument, now: int) -> dict[str, float]:
        book = self.market.book(instrument.symbol, 1, now)
        best: dict[str, float] = {}
        for name, side in (("bid", book.bids), ("ask", book.asks)):
            for price, qty in _levels(side, instrument):
                best |= {name: price, f"{name}_size": qty}
        return best

    def _day_until(self, symbol: str, minute: int) -> Mapping[str, float]:
        """What a ticker tells of the last 24 hours, by a minute since 1970."""
        now = minute * MINUTE_MS
        hours = self.market.candles(symbol, "1h", now - DAY_MS, now, now)
        if not len(hours):
            return {}
        is_inverse = self.market.instrument(symbol).inverse
        volume = float((hours.turnover if is_inverse else hours.volume).sum())
        opened = float(hours.open[0])
        change = float(round((hours.close[-1] / opened - 1) * 100, 2))
        prices = {"open": opened, "high": float(hours.high.max()), "low": float(hours.low.min())}
        amounts = {"volume": volume, "volumeQuote": float(hours.turnover.sum())}
        return {"change": change, **prices, **amounts}


def _subscription(feed: str, instrument: Instrument) -> Subscription:
    if feed == "book":
        return Subscription("order_book", instrument.symbol, feed, depth=_LEVELS)
    every = _TICKER_MS if feed == "ticker" else 0
    return Subscription(_FEEDS[feed], instrument.symbol, feed, every=every)


def _levels(levels: Array, instrument: Instrument) -> list[list[float]]:
    """Prices and amounts as REST answers them."""
    rows: list[list[float]] = orjson.loads(level_rows(np.asarray(levels), instrument))
    return rows


def _error(message: str) -> Frame:
    return {"event": "error", "message": message}


def _alert(message: str) -> Frame:
    return {"event": "alert", "message": message}
