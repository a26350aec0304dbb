"""OKX's streams (ws.okx.com): trades, candles, order books and funding of spot pairs and perpetual swaps.

Follows https://www.okx.com/docs-v5/en/#order-book-trading-market-data and ``#public-data-websocket``, and for
the words of errors what OKX sends. Rates of the next payment come every second, not every 30 to 90. Not
there: tickers, mark prices of pairs, what needs a login, the limits of subscriptions and connections, that
silent connections are closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson

from zvt_crypto.core.levels import HOUR_MS, LEVEL_MS
from zvt_crypto.sandbox import okx_feeds
from zvt_crypto.sandbox.events import Array, Book, Trades, TradeSpan
from zvt_crypto.sandbox.market import Candles, Instrument
from zvt_crypto.sandbox.okx import BARS, candle_rows
from zvt_crypto.sandbox.streams import Changes, Frame, NextFunding, Session, StreamVenue, Subscription
from zvt_crypto.sandbox.venue import Answer
from zvt_crypto.sandbox.wire import decimal_text

_PUBLIC: Final = "/ws/v5/public"
_BUSINESS: Final = "/ws/v5/business"
_REST: Final = "www.okx.com"
#: Channel -> levels on each side, and least ms between two messages.
_BOOKS: Final = {"books": (400, 100), "books5": (5, 100), "bbo-tbt": (1, 10)}
_FUNDING: Final = ("funding-rate", "mark-price")
_CANDLE_MS: Final = 1000
#: Number of the state before a snapshot.
_NONE_BEFORE: Final = -1


class OkxStreams(StreamVenue):
    """ws.okx.com; as at OKX, candles and single trades are found at another path than the rest."""

    name = "okx streams"
    hosts = ("ws.okx.com", "wsaws.okx.com", "wseea.okx.com", "wsus.okx.com")

    def refuse(self, session: Session) -> Answer | None:
        """See ``StreamVenue``."""
        return None if session.path in (_PUBLIC, _BUSINESS) else Answer(b"", 404)

    def received(self, session: Session, text: str) -> Sequence[Frame]:
        """See ``StreamVenue``; each subscription of a frame is answered by itself."""
        if text == "ping":
            return ["pong"]
        request = _request(text)
        if request is None:
            return [_error(session, {}, "60012", f"Invalid request: {text}")]
        change = self._subscribe if request["op"] == "subscribe" else self._unsubscribe
        return [frame for argument in request["args"] for frame in change(session, request, argument)]

    def trades(self, session: Session, subscription: Subscription, rows: Trades) -> Sequence[Frame]:
        """See ``StreamVenue``; ``trades`` joins what was traded at one price in a millisecond."""
        if subscription.argument["channel"] == "trades":
            rows, counts = _joined(rows)
            more = [{"count": str(count)} for count in counts.tolist()]
        else:
            more = [{} for _ in range(len(rows))]
        instrument, native = self._named(subscription)
        newest_first = orjson.loads(okx_feeds.trade_rows(rows, native, instrument))
        return [
            _data(subscription, trade | extra) for trade, extra in zip(newest_first[::-1], more, strict=True)
        ]

    def candles(
        self, session: Session, subscription: Subscription, rows: Candles, closed: bool
    ) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        instrument, _ = self._named(subscription)
        newest_first = orjson.loads(candle_rows(rows, instrument, int(subscription.step or 0), session.now))
        return [_data(subscription, row) for row in newest_first[::-1]]

    def book_snapshot(self, session: Session, subscription: Subscription, book: Book) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        return [self._book(subscription, "snapshot", book, _NONE_BEFORE)]

    def book_update(
        self, session: Session, subscription: Subscription, before: Book, after: Book, changes: Changes
    ) -> Sequence[Frame]:
        """See ``StreamVenue``; the channels of few levels send all of them each time."""
        if subscription.argument["channel"] != "books":
            return [self._book(subscription, "snapshot", after, _NONE_BEFORE)]
        changed = Book(after.ts, after.sequence, changes.bids, changes.asks)
        return [self._book(subscription, "update", changed, before.sequence)]

    def funding(self, session: Session, subscription: Subscription, funding: NextFunding) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        instrument, native = self._named(subscription)
        row = {"instId": native, "instType": "SWAP", "ts": str(funding.ts)}
        if subscription.argument["channel"] == "mark-price":
            return [_data(subscription, row | {"markPx": _text(funding.mark_price)})]
        following = funding.due + instrument.funding_hours_at(funding.due) * HOUR_MS
        row |= {
            "fundingRate": _text(funding.rate),
            "fundingTime": str(funding.due),
            "nextFundingRate": "",
            "nextFundingTime": str(following),
        }
        return [_data(subscription, row | _OF_ALL_RATES)]

    def _subscribe(
        self, session: Session, request: Mapping[str, Any], argument: Mapping[str, str]
    ) -> list[Frame]:
        subscription = self._subscription(session.path, argument)
        if subscription is None:
            return [_unknown(session, request, argument)]
        frames: list[Frame] = [_answer(session, request, {"event": "subscribe", "arg": argument})]
        if subscription.channel not in session.subscriptions:
            session.subscriptions[subscription.channel] = subscription
            if argument["channel"] == "trades":
                span = TradeSpan(subscription.symbol, limit=1, newest=True)
                frames += self.trades(session, subscription, self.market.trades(span, session.now))
        return frames

    def _unsubscribe(
        self, session: Session, request: Mapping[str, Any], argument: Mapping[str, str]
    ) -> list[Frame]:
        subscription = self._subscription(session.path, argument)
        if subscription is None:
            return [_unknown(session, request, argument)]
        session.subscriptions.pop(subscription.channel, None)
        return [_answer(session, request, {"event": "unsubscribe", "arg": argument})]

    def _subscription(self, path: str, argument: Mapping[str, str]) -> Subscription | None:
        """What an argument asks for; None where there is no such thing at a path."""
        channel, native = argument.get("channel", ""), argument.get("instId", "")
        instrument = self.venues[_REST].listed.get(native)
        if instrument is None:
            return None
        symbol, name = instrument.symbol, f"{channel}:{native}"
        if (path, channel) in ((_PUBLIC, "trades"), (_BUSINESS, "trades-all")):
            return Subscription("trades", symbol, name, argument=argument)
        bar = channel.removeprefix("candle")
        if path == _BUSINESS and bar != channel and bar in BARS:
            step, offset = BARS[bar]
            level = next((level for level, ms in LEVEL_MS.items() if (ms, 0) == (step, offset)), None)
            return Subscription("candles", symbol, name, level, None, _CANDLE_MS, step, offset, argument)
        if path == _PUBLIC and channel in _BOOKS:
            depth, every = _BOOKS[channel]
            return Subscription("order_book", symbol, name, depth=depth, every=every, argument=argument)
        if path == _PUBLIC and channel in _FUNDING and instrument.settle is not None:
            return Subscription("funding", symbol, name, argument=argument)
        return None

    def _book(self, subscription: Subscription, action: str, book: Book, previous: int) -> Frame:
        instrument, native = self._named(subscription)
        [row] = orjson.loads(okx_feeds.book_row(book, instrument))
        row["bids"], row["asks"] = _removed(row["bids"], book.bids), _removed(row["asks"], book.asks)
        if subscription.argument["channel"] != "books":
            return _data(subscription, row | {"instId": native})
        # OKX does not compute the checksum any more.
        return _data(subscription, row | {"checksum": 0, "prevSeqId": previous}, action=action)

    def _named(self, subscription: Subscription) -> tuple[Instrument, str]:
        return self.market.instrument(subscription.symbol), subscription.argument["instId"]


#: What rows of ``funding-rate`` have and nobody here reads.
_OF_ALL_RATES: Final = {
    "formulaType": "noRate",
    "impactValue": "",
    "interestRate": "",
    "maxFundingRate": "0.00375",
    "method": "current_period",
    "minFundingRate": "-0.00375",
    "premium": "",
    "settFundingRate": "",
    "settState": "settled",
}


def _request(text: str) -> Any:
    """A client's frame; None if it is not as OKX wants it."""
    try:
        request = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(request, dict) or request.get("op") not in ("subscribe", "unsubscribe"):
        return None
    arguments = request.get("args")
    if not isinstance(arguments, list) or not arguments:
        return None
    is_clear = all(isinstance(a, dict) and all(isinstance(v, str) for v in a.values()) for a in arguments)
    return request if is_clear else None


def _answer(session: Session, request: Mapping[str, Any], answer: Mapping[str, Any]) -> Frame:
    number = {"id": request["id"]} if "id" in request else {}
    return {**number, **answer, "connId": f"{session.number:08x}"}


def _error(session: Session, request: Mapping[str, Any], code: str, message: str) -> Frame:
    return _answer(session, request, {"event": "error", "msg": message, "code": code})


def _unknown(session: Session, request: Mapping[str, Any], argument: Mapping[str, str]) -> Frame:
    what = ",".join(f"{name}:{value}" for name, value in argument.items())
    message = f"Wrong URL or {what} doesn't exist. Please use the correct URL, channel and parameters"
    return _error(session, request, "60018", f"{message} referring to API document.")


def _data(subscription: Subscription, row: Any, **more: str) -> dict[str, Any]:
    return {"arg": subscription.argument, **more, "data": [row]}


def _joined(rows: Trades) -> tuple[Trades, Array]:
    """Neighbours of one time, price and side as one with the last one's id; how many went into each."""
    if not len(rows):
        return rows, np.zeros(0, np.int64)
    differs = np.zeros(len(rows), bool)
    for column in (rows.ts, rows.price, rows.is_buy):
        differs[1:] |= column[1:] != column[:-1]
    first = np.flatnonzero(np.append(True, differs[1:]))
    last = np.append(first[1:], len(rows)) - 1
    volume = np.round(np.add.reduceat(rows.volume, first), 12)
    return rows.take(last).with_columns(volume=volume), last - first + 1


def _removed(levels: list[list[str]], side: Array) -> list[list[str]]:
    """Levels as OKX writes them, with zeros where nothing is left: contracts are rounded up to one."""
    return [
        level if volume else [level[0], "0", "0", "0"]
        for level, volume in zip(levels, side[:, 1].tolist(), strict=True)
    ]


def _text(value: float) -> str:
    text: str = decimal_text(np.array([value])).to_pylist()[0]
    return text
