"""Binance's streams: spot (stream.binance.com) and USD-M futures (fstream.binance.com), market data.

Follows https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams and
https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams. Not there:
tickers but for the best bid and ask, streams of all markets at once, the intervals ``1s`` and ``1M``, time
zones of candles, the limit of frames a second. As at Binance, a stream that does not exist, and on futures
one that is found at another path, can be subscribed to and says nothing.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import orjson

from zvt_crypto.core.levels import LEVEL_MS
from zvt_crypto.sandbox.binance import INTERVALS
from zvt_crypto.sandbox.events import Array, Book, Trades
from zvt_crypto.sandbox.market import Candles, Instrument
from zvt_crypto.sandbox.streams import Changes, Frame, NextFunding, Session, StreamVenue, Subscription
from zvt_crypto.sandbox.venue import Answer
from zvt_crypto.sandbox.wire import decimal_text

_METHODS: Final = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_NAME: Final = re.compile(r"!\w+(@\w+)*|[^@!/]+(@[\w+:]+)+")
_DEPTH: Final = re.compile(r"depth(5|10|20)?(?:@(\d+)ms)?")
_TRADE_CHANNELS: Final = ("aggTrade", "trade")
#: Least time between two messages, in ms.
_MARK_PRICE_MS: Final = {"markPrice": 3000, "markPrice@1s": 1000}


class _BinanceStreams(StreamVenue):
    """What both API families share.

    Attributes:
        rest: Host of the same family over REST.
        paths: What stands before ``/ws`` and ``/stream`` -> whether a channel is found there.
        digits: Decimal digits of all prices and quantities; None writes each instrument's own.
        speeds: Least ms between messages of an order book, by what a client asks for; None is what it gets if
            it does not ask.
        candle_ms: Least ms between messages of a candle.
        id_before_symbol: Which of the two comes first in an aggregate of trades.
    """

    rest: ClassVar[str]
    digits: ClassVar[int | None] = None
    speeds: ClassVar[Mapping[str | None, int]]
    candle_ms: ClassVar[int]
    id_before_symbol: ClassVar[bool] = False

    def refuse(self, session: Session) -> Answer | None:
        """See ``StreamVenue``."""
        category, kind, _ = _parts(session.path)
        return None if kind and self._has(category) else Answer(b"", 404)

    def opened(self, session: Session) -> Sequence[Frame]:
        """See ``StreamVenue``: streams may stand in the path or, combined, in the query."""
        _, kind, rest = _parts(session.path)
        session.state.update(combined=kind == "stream", names={})
        names = session.query.get("streams", "") if kind == "stream" else rest
        self._subscribe(session, [name for name in names.split("/") if name])
        return ()

    def received(self, session: Session, text: str) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        try:
            frame = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return [_error(3, f"Invalid JSON: {error}")]
        if not isinstance(frame, dict) or "method" not in frame:
            return [_error(2, "Invalid request: missing field `method`")]
        number, method = frame.get("id"), frame["method"]
        if method not in _METHODS:
            expected = ", ".join(f"`{name}`" for name in _METHODS)
            return [
                _error(2, f"Invalid request: unknown variant `{method}`, expected one of {expected}", number)
            ]
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | str)):
            return [_error(2, "Invalid request: request ID must be an unsigned integer")]
        return [self._answer(session, method, frame.get("params"), number)]

    def trades(self, session: Session, subscription: Subscription, rows: Trades) -> Sequence[Frame]:
        """See ``StreamVenue``; an aggregate is of one trade and has its id."""
        instrument, native = self._named(subscription)
        price, quantity = self._digits(instrument)
        columns = zip(
            rows.id.tolist(),
            decimal_text(rows.price, price).to_pylist(),
            decimal_text(rows.volume, quantity).to_pylist(),
            rows.ts.tolist(),
            # Where the taker bought, the buyer was not the maker.
            [("true", "false")[buy] for buy in rows.is_buy.tolist()],
            strict=True,
        )
        tail = self._trade_tail(str(subscription.argument))
        if subscription.argument == "trade":
            head = f'{{"e":"trade","E":{session.now},"s":"{native}","t":'
            texts = [
                f'{head}{i},"p":"{p}","q":"{q}","T":{ts},{tail[0]}"m":{maker}{tail[1]}'
                for i, p, q, ts, maker in columns
            ]
        else:
            symbol = f'"s":"{native}",'
            before, behind = ("", symbol) if self.id_before_symbol else (symbol, "")
            head = f'{{"e":"aggTrade","E":{session.now},{before}"a":'
            texts = [
                f'{head}{i},{behind}"p":"{p}","q":"{q}","f":{i},"l":{i},"T":{ts},"m":{maker}{tail[1]}'
                for i, p, q, ts, maker in columns
            ]
        return wrapped(session, subscription, texts)

    def candles(
        self, session: Session, subscription: Subscription, rows: Candles, closed: bool
    ) -> Sequence[Frame]:
        """See ``StreamVenue``; the ids of a candle's trades are not told (-1)."""
        instrument, native = self._named(subscription)
        price, quantity = self._digits(instrument)
        # Turnover has as many digits as both factors.
        turnover = self.digits or price + quantity
        names = {"o": price, "c": price, "h": price, "l": price, "v": quantity, "q": turnover}
        names |= {"V": quantity, "Q": turnover}
        fields = {
            name: decimal_text(getattr(rows, _CANDLE_FIELDS[name]), digits).to_pylist()
            for name, digits in names.items()
        }
        interval, step = str(subscription.argument), int(subscription.step or 0)
        texts = []
        for row, (ts, count) in enumerate(zip(rows.ts.tolist(), rows.trade_count.tolist(), strict=True)):
            head = {"t": ts, "T": ts + step - 1, "s": native, "i": interval, "f": -1, "L": -1}
            values = {name: fields[name][row] for name in fields}
            candle = {**head, **{name: values[name] for name in "ochlv"}, "n": count, "x": closed}
            candle |= {**{name: values[name] for name in "qVQ"}, "B": "0"}
            event = {"e": "kline", "E": session.now, "s": native, "k": candle}
            texts.append(orjson.dumps(event).decode())
        return wrapped(session, subscription, texts)

    def book_update(
        self, session: Session, subscription: Subscription, before: Book, after: Book, changes: Changes
    ) -> Sequence[Frame]:
        """See ``StreamVenue``; clients begin with a book over REST."""
        instrument, native = self._named(subscription)
        bids, asks = self._levels(changes.bids, instrument), self._levels(changes.asks, instrument)
        if subscription.argument == "depth":
            event = self._depth_update(session, native, before, after, bids, asks)
        else:
            bids, asks = self._levels(after.bids, instrument), self._levels(after.asks, instrument)
            if subscription.argument == "bookTicker":
                event = self._best(session, native, after, bids, asks)
            else:
                event = self._partial(session, native, before, after, bids, asks)
        return wrapped(session, subscription, [orjson.dumps(event).decode()])

    @abstractmethod
    def _trade_tail(self, channel: str) -> tuple[str, str]:
        """What stands before and after whether the buyer was the maker."""

    @abstractmethod
    def _depth_update(
        self, session: Session, native: str, before: Book, after: Book, bids: list[Any], asks: list[Any]
    ) -> dict[str, Any]:
        """An event with these levels."""

    @abstractmethod
    def _partial(
        self, session: Session, native: str, before: Book, after: Book, bids: list[Any], asks: list[Any]
    ) -> dict[str, Any]:
        """An event with these levels."""

    def _best(
        self, session: Session, native: str, after: Book, bids: list[Any], asks: list[Any]
    ) -> dict[str, Any]:
        (bid, bid_size), (ask, ask_size) = (side[0] if side else ("0", "0") for side in (bids, asks))
        return {"u": after.sequence, "s": native, "b": bid, "B": bid_size, "a": ask, "A": ask_size}

    def _has(self, category: str, channel: str | None = None) -> bool:
        """Whether a path, or a channel at it, exists."""
        return category == ""

    def _answer(self, session: Session, method: str, params: Any, number: int | str | None) -> Frame:
        if method == "LIST_SUBSCRIPTIONS":
            return {"result": list(session.state["names"]), "id": number}
        if method in ("SET_PROPERTY", "GET_PROPERTY"):
            return _property(session, method, params, number)
        if not isinstance(params, list) or not all(isinstance(name, str) for name in params):
            return _error(2, "Invalid request: invalid type: expected a sequence of strings", number)
        if not all(map(_NAME.fullmatch, params)):
            return _error(2, "Invalid request: invalid stream", number)
        if method == "SUBSCRIBE":
            self._subscribe(session, params)
        for name in params if method == "UNSUBSCRIBE" else ():
            session.state["names"].pop(name, None)
            session.subscriptions.pop(name, None)
        return {"result": None, "id": number}

    def _subscribe(self, session: Session, names: Sequence[str]) -> None:
        for name in names:
            session.state["names"].setdefault(name)
            subscription = self._subscription(_parts(session.path)[0], name)
            if subscription is not None:
                session.subscriptions.setdefault(name, subscription)

    def _subscription(self, category: str, name: str) -> Subscription | None:
        """What a stream's name asks for; None where it says nothing."""
        symbol, _, channel = name.partition("@")
        instrument = self.venues[self.rest].listed.get(symbol.upper())
        if instrument is None or symbol != symbol.lower() or not self._has(category, channel):
            return None
        unified = instrument.symbol
        if channel in _TRADE_CHANNELS:
            return Subscription("trades", unified, name, argument=channel)
        kind, _, interval = channel.partition("_")
        if kind == "kline" and interval in INTERVALS:
            step, offset = INTERVALS[interval]
            level = interval if interval in LEVEL_MS else None
            every = self.candle_ms
            return Subscription("candles", unified, name, level, None, every, step, offset, interval)
        if channel == "bookTicker":
            return Subscription("order_book", unified, name, depth=1, argument="bookTicker")
        if channel in _MARK_PRICE_MS and instrument.settle is not None:
            return Subscription("funding", unified, name, every=_MARK_PRICE_MS[channel])
        match = _DEPTH.fullmatch(channel)
        if match is None or match[2] not in self.speeds:
            return None
        depth, argument = (int(match[1]), "partial") if match[1] else (None, "depth")
        every = self.speeds[match[2]]
        return Subscription("order_book", unified, name, depth=depth, every=every, argument=argument)

    def _named(self, subscription: Subscription) -> tuple[Instrument, str]:
        instrument = self.market.instrument(subscription.symbol)
        return instrument, self.venues[self.rest].native(instrument)

    def _digits(self, instrument: Instrument) -> tuple[int, int]:
        if self.digits is not None:
            return self.digits, self.digits
        return instrument.price_digits, instrument.quantity_digits

    def _levels(self, side: Array, instrument: Instrument) -> list[Any]:
        columns = zip(side.T.copy(), self._digits(instrument), strict=True)
        return list(
            zip(*(decimal_text(column, digits).to_pylist() for column, digits in columns), strict=True)
        )


class BinanceSpotStreams(_BinanceStreams):
    """stream.binance.com."""

    name = "binance spot streams"
    hosts = ("stream.binance.com", "data-stream.binance.vision")
    rest = "api.binance.com"
    digits = 8
    speeds: ClassVar[Mapping[str | None, int]] = {None: 1000, "100": 100, "1000": 1000}
    candle_ms = 2000

    def _trade_tail(self, channel: str) -> tuple[str, str]:
        return "", ',"M":true}'

    def _depth_update(
        self, session: Session, native: str, before: Book, after: Book, bids: list[Any], asks: list[Any]
    ) -> dict[str, Any]:
        numbers = {"U": before.sequence + 1, "u": after.sequence}
        return {"e": "depthUpdate", "E": session.now, "s": native, **numbers, "b": bids, "a": asks}

    def _partial(
        self, session: Session, native: str, before: Book, after: Book, bids: list[Any], asks: list[Any]
    ) -> dict[str, Any]:
        return {"lastUpdateId": after.sequence, "bids": bids, "asks": asks}


class BinanceFuturesStreams(_BinanceStreams):
    """fstream.binance.com: perpetuals settled in dollars."""

    name = "binance usd-m futures streams"
    hosts = ("fstream.binance.com",)
    rest = "fapi.binance.com"
    speeds: ClassVar[Mapping[str | None, int]] = {None: 250, "0": 0, "100": 100, "250": 250, "500": 500}
    candle_ms = 250
    id_before_symbol = True

    def funding(self, session: Session, subscription: Subscription, funding: NextFunding) -> Sequence[Frame]:
        """See ``StreamVenue``; the index price is the mark price."""
        _, native = self._named(subscription)
        mark = f"{funding.mark_price:.8f}"
        prices = {"p": mark, "i": mark, "P": mark, "r": f"{funding.rate:.8f}"}
        event = {"e": "markPriceUpdate", "E": funding.ts, "s": native, **prices, "T": funding.due}
        return wrapped(session, subscription, [orjson.dumps(event).decode()])

    def _has(self, category: str, channel: str | None = None) -> bool:
        if channel is None:
            return category in ("", "public", "market")
        is_public = channel in ("trade", "bookTicker") or channel.startswith("depth")
        return category == "" or (category == "public") == is_public

    def _trade_tail(self, channel: str) -> tuple[str, str]:
        return ('"X":"MARKET",', "}") if channel == "trade" else ("", "}")

    def _depth_update(
        self, session: Session, native: str, before: Book, after: Book, bids: list[Any], asks: list[Any]
    ) -> dict[str, Any]:
        times = {"E": session.now, "T": after.ts}
        numbers = {"U": before.sequence + 1, "u": after.sequence, "pu": before.sequence}
        return {"e": "depthUpdate", **times, "s": native, **numbers, "b": bids, "a": asks}

    def _partial(
        self, session: Session, native: str, before: Book, after: Book, bids: list[Any], asks: list[Any]
    ) -> dict[str, Any]:
        return self._depth_update(session, native, before, after, bids, asks)

    def _best(
        self, session: Session, native: str, after: Book, bids: list[Any], asks: list[Any]
    ) -> dict[str, Any]:
        best = super()._best(session, native, after, bids, asks)
        return {"e": "bookTicker", **best, "T": after.ts, "E": session.now}


_CANDLE_FIELDS: Final = {
    "o": "open",
    "c": "close",
    "h": "high",
    "l": "low",
    "v": "volume",
    "q": "turnover",
    "V": "taker_volume",
    "Q": "taker_turnover",
}


def _parts(path: str) -> tuple[str, str, str]:
    """What stands before ``ws`` or ``stream`` in a path, which of them it is, and what follows."""
    parts = path.strip("/").split("/")
    for number in (0, 1):
        if parts[number : number + 1] and parts[number] in ("ws", "stream"):
            return "/".join(parts[:number]), parts[number], "/".join(parts[number + 1 :])
    return path, "", ""


def wrapped(session: Session, subscription: Subscription, texts: list[str]) -> list[Frame]:
    """Events as a connection wants them: as they are, or each with the name of its stream."""
    if not session.state["combined"]:
        return list(texts)
    return [f'{{"stream":"{subscription.channel}","data":{text}}}' for text in texts]


def _property(session: Session, method: str, params: Any, number: int | str | None) -> Frame:
    names = params if isinstance(params, list) else []
    if names[:1] != ["combined"]:
        return _error(0, "Unknown property", number)
    if method == "GET_PROPERTY":
        return {"result": session.state["combined"], "id": number}
    if len(names) != 2 or not isinstance(names[1], bool):
        return _error(1, "Invalid value type: expected Boolean", number)
    session.state["combined"] = names[1]
    return {"result": None, "id": number}


def _error(code: int, message: str, number: int | str | None = None) -> Frame:
    return {"error": {"code": code, "msg": message}, "id": number}
