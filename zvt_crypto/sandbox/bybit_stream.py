"""Bybit's public streams (stream.bybit.com), of spot pairs, linear and inverse perpetuals.

Follows https://bybit-exchange.github.io/docs/v5/ws/connect and the pages below
https://bybit-exchange.github.io/docs/v5/websocket/public/trade. A frame is refused whole where one of its
topics is. What Bybit does not document is simulated thus: update numbers of a book begin near its sequence,
and belong to the connection. Not there: tickers of spot, statistics of the day in those of contracts, the
snapshots of depth 1 that are repeated where nothing changes, liquidations, the limit of characters in all
topics of a connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.levels import LEVEL_MS
from zvt_crypto.sandbox.bybit import INTERVALS, amounts, category_of, execution_ids, level_rows
from zvt_crypto.sandbox.events import Array, Book, Trades
from zvt_crypto.sandbox.market import Candles, Instrument
from zvt_crypto.sandbox.streams import Changes, Frame, NextFunding, Session, StreamVenue, Subscription
from zvt_crypto.sandbox.venue import Answer
from zvt_crypto.sandbox.wire import decimal_text, json_rows

_PATH: Final = "/v5/public/"
_CATEGORIES: Final = ("spot", "linear", "inverse")
_REST: Final = "api.bybit.com"
#: Least ms between two messages of a book, by its depth.
_DEPTH_MS: Final = {"1": 10, "50": 20, "200": 100, "1000": 200}
_CANDLE_MS: Final = 1000
_TICKER_MS: Final = 100
_MOST_SPOT_ARGS: Final = 10
_MOST_TRADES: Final = 1024


class BybitStreams(StreamVenue):
    """stream.bybit.com."""

    name = "bybit streams"
    hosts = ("stream.bybit.com", "stream.bytick.com")

    def refuse(self, session: Session) -> Answer | None:
        """See ``StreamVenue``."""
        if session.path.removeprefix(_PATH) in _CATEGORIES:
            return None
        return Answer(b"404 page not found", 404, {}, "text/plain")

    def received(self, session: Session, text: str) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        try:
            frame = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return [_answer(session, {}, f"Failed to decode incoming data:{error}")]
        if not isinstance(frame, dict):
            return [_answer(session, {}, "Failed to decode incoming data:readObjectStart: expect { or n")]
        if frame.get("op") == "ping":
            return [{**_answer(session, frame), "ret_msg": "pong"}]
        if frame.get("op") not in ("subscribe", "unsubscribe"):
            return [_answer(session, frame, "error:invalid op")]
        topics = frame.get("args")
        if not isinstance(topics, list) or not all(isinstance(topic, str) for topic in topics):
            return [_answer(session, frame, "error:args is not array")]
        act = self._subscribe if frame["op"] == "subscribe" else self._unsubscribe
        return [_answer(session, frame, act(session, topics))]

    def trades(self, session: Session, subscription: Subscription, rows: Trades) -> Sequence[Frame]:
        """See ``StreamVenue``; a message has at most 1,024 trades."""
        instrument, name = self._named(subscription)
        parts = [rows.take(slice(i, i + _MOST_TRADES)) for i in range(0, len(rows), _MOST_TRADES)]
        return [_message(session, subscription, _trade_rows(part, instrument, name)) for part in parts]

    def candles(
        self, session: Session, subscription: Subscription, rows: Candles, closed: bool
    ) -> Sequence[Frame]:
        """See ``StreamVenue``; inverse contracts count dollars."""
        instrument, _ = self._named(subscription)
        first, second = ("turnover", "volume") if instrument.inverse else ("volume", "turnover")
        sources = {"open": "open", "close": "close", "high": "high", "low": "low"}
        sources |= {"volume": first, "turnover": second}
        texts = {name: decimal_text(getattr(rows, source)).to_pylist() for name, source in sources.items()}
        step, interval = int(subscription.step or 0), str(subscription.argument)
        messages = []
        for row, start in enumerate(rows.ts.tolist()):
            values = {name: column[row] for name, column in texts.items()}
            times = {"start": start, "end": start + step - 1, "interval": interval}
            candle = {**times, **values, "confirm": closed, "timestamp": session.now}
            messages.append(_message(session, subscription, orjson.dumps([candle])))
        return messages

    def book_snapshot(self, session: Session, subscription: Subscription, book: Book) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        session.counters[subscription.channel] = book.sequence % 100_000_000
        return [self._book(session, subscription, book, "snapshot", book.bids, book.asks)]

    def book_update(
        self, session: Session, subscription: Subscription, before: Book, after: Book, changes: Changes
    ) -> Sequence[Frame]:
        """See ``StreamVenue``; the best level alone is always told whole."""
        session.counters[subscription.channel] += 1
        if subscription.depth == 1:
            return [self._book(session, subscription, after, "snapshot", after.bids, after.asks)]
        return [self._book(session, subscription, after, "delta", changes.bids, changes.asks)]

    def funding(self, session: Session, subscription: Subscription, funding: NextFunding) -> Sequence[Frame]:
        """See ``StreamVenue``; after the first message only what has changed is told."""
        _, name = self._named(subscription)
        mark, rate = decimal_text(np.array([funding.mark_price, funding.rate])).to_pylist()
        fields = {"lastPrice": mark, "markPrice": mark, "indexPrice": mark}
        fields |= {"nextFundingTime": str(funding.due), "fundingRate": rate}
        known: Mapping[str, str] = session.state.get(subscription.channel, {})
        changed = {key: value for key, value in fields.items() if known.get(key) != value}
        session.state[subscription.channel] = fields
        kind = "delta" if known else "snapshot"
        data = {"symbol": name, **changed}
        head = {"topic": subscription.channel, "type": kind, "data": data}
        return [{**head, "cs": funding.ts, "ts": funding.ts}] if changed else []

    def _subscribe(self, session: Session, topics: Sequence[str]) -> str:
        """Subscribe to all topics or, where there is a reason against one, to none."""
        category = session.path.removeprefix(_PATH)
        if category == "spot" and len(topics) > _MOST_SPOT_ARGS:
            return "args size >10"
        wanted: dict[str, Subscription] = {}
        for topic in topics:
            if topic in session.subscriptions:
                return f"error:already subscribed,topic:{topic}"
            instrument = self._instrument(category, topic.rpartition(".")[2])
            if instrument is None and category == "spot":
                return f"Invalid symbol :[{topic}]"
            subscription = None if instrument is None else _subscription(topic, instrument)
            if subscription is None:
                return f"error:handler not found,topic:{topic}"
            wanted[topic] = subscription
        session.subscriptions.update(wanted)
        return ""

    def _unsubscribe(self, session: Session, topics: Sequence[str]) -> str:
        for topic in topics:
            session.subscriptions.pop(topic, None)
            session.state.pop(topic, None)
        return ""

    def _instrument(self, category: str, symbol: str) -> Instrument | None:
        found = self.venues[_REST].instrument_of({"category": category, "symbol": symbol})
        return found if found is not None and found.active and category_of(found) == category else None

    def _named(self, subscription: Subscription) -> tuple[Instrument, str]:
        instrument = self.market.instrument(subscription.symbol)
        return instrument, self.venues[_REST].native(instrument)

    def _book(
        self, session: Session, subscription: Subscription, book: Book, kind: str, bids: Array, asks: Array
    ) -> bytes:
        instrument, name = self._named(subscription)
        numbers = orjson.dumps({"u": session.counters[subscription.channel], "seq": book.sequence})
        sides = b'"b":' + level_rows(bids, instrument) + b',"a":' + level_rows(asks, instrument)
        data = f'{{"s":"{name}",'.encode() + sides + b"," + numbers[1:]
        return _message(session, subscription, data, kind, f',"cts":{book.ts}')


def _subscription(topic: str, instrument: Instrument) -> Subscription | None:
    """What a topic asks for; None where there is no such topic."""
    channel, *rest = topic.split(".")
    symbol, detail = instrument.symbol, rest[0] if len(rest) == 2 else None
    if channel == "publicTrade" and detail is None:
        return Subscription("trades", symbol, topic)
    if channel == "tickers" and detail is None and instrument.settle is not None:
        return Subscription("funding", symbol, topic, every=_TICKER_MS)
    if channel == "kline" and detail in INTERVALS:
        step, offset = INTERVALS[detail]
        level = next((name for name, ms in LEVEL_MS.items() if ms == step), None)
        return Subscription("candles", symbol, topic, level, None, _CANDLE_MS, step, offset, detail)
    if channel == "orderbook" and detail in _DEPTH_MS:
        return Subscription("order_book", symbol, topic, depth=int(detail), every=_DEPTH_MS[detail])
    return None


def _trade_rows(rows: Trades, instrument: Instrument, name: str) -> bytes:
    return json_rows(
        '{"T":',
        decimal_text(rows.ts),
        f',"s":"{name}","S":"',
        pc.if_else(pa.array(rows.is_buy), "Buy", "Sell"),
        '","v":"',
        decimal_text(amounts(rows.price, rows.volume, instrument)),
        '","p":"',
        decimal_text(rows.price),
        '","i":"',
        execution_ids(rows, instrument),
        '","BT":false}',
    )


def _message(
    session: Session, subscription: Subscription, data: bytes, kind: str = "snapshot", tail: str = ""
) -> bytes:
    head = f'{{"topic":"{subscription.channel}","type":"{kind}","ts":{session.now},"data":'
    return head.encode() + data + f"{tail}}}".encode()


def _answer(session: Session, frame: Mapping[str, Any], failure: str = "") -> dict[str, Any]:
    """What a client's frame is answered."""
    ids = {"conn_id": f"sandbox-{session.number}", "req_id": frame.get("req_id", "")}
    return {"success": not failure, "ret_msg": failure, **ids, "op": frame.get("op", "")}
