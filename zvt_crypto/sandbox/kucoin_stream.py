"""KuCoin's public streams of spot pairs (ws-api-spot.kucoin.com), and what those of its two APIs share.

Follows https://www.kucoin.com/docs-new/websocket-api/base-info/introduction,
https://www.kucoin.com/docs-new/3470072w0 (trades) and the pages beside it. What KuCoin does not document is
simulated thus: a frame with several markets of which one is unknown is refused whole; books are told only
when they have changed. Not there: changes of single levels (``level2``), tickers, candles of five minutes
(which are not documented either), the ping timeout, the limit of frames in ten seconds.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import orjson

from zvt_crypto.core.levels import LEVEL_MS
from zvt_crypto.sandbox.events import Array, Book, Trades
from zvt_crypto.sandbox.kucoin import BULLET, TYPES, level_rows, nanoseconds, taker_side, traded
from zvt_crypto.sandbox.market import Candles, Instrument
from zvt_crypto.sandbox.streams import Changes, Close, Feed, Frame, Session, StreamVenue, Subscription
from zvt_crypto.sandbox.wire import decimal_text

_BOOK_MS: Final = 100
_CANDLE_MS: Final = 1000
_MOST_IN_FRAME: Final = 100


class Refusal(Exception):
    """Why a frame is turned down: code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class KucoinStreams(StreamVenue):
    """What KuCoin's streams share: welcome, answers, topics; a topic is ``{channel}:{market},{market}``.

    Attributes:
        rest: Host of the same markets over REST.
        channels: Channels that tell trades, candles or payments, and what they tell.
        books: Channels with order books, and how many levels.
        types: Candle types that are streamed.
        most: Most topics of a connection.
    """

    rest: ClassVar[str]
    channels: ClassVar[dict[str, Feed]]
    books: ClassVar[dict[str, int]]
    types: ClassVar[frozenset[str]]
    most: ClassVar[int]

    def opened(self, session: Session) -> Sequence[Frame]:
        """See ``StreamVenue``; a token is wanted."""
        number = session.query.get("connectId") or f"sandbox-{session.number}"
        if session.query.get("token") != BULLET:
            return [_error(number, 401, "token is invalid"), Close(1000, "Bye")]
        return [{"id": number, "type": "welcome"}]

    def received(self, session: Session, text: str) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        try:
            frame = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return [_error(f"sandbox-{session.number}", 400, str(error))]
        number = frame.get("id") if isinstance(frame, dict) else None
        kind = frame.get("type") if isinstance(frame, dict) else None
        if kind == "ping":
            return [{"id": number, "type": "pong", "timestamp": session.now * 1000}]
        if kind not in ("subscribe", "unsubscribe"):
            return [_error(number, 415, "type is not supported")]
        try:
            self._change(session, kind, frame.get("topic"))
        except Refusal as refusal:
            return [_error(number, refusal.code, refusal.reason)]
        return [{"id": number, "type": "ack"}] if frame.get("response") else []

    @abstractmethod
    def unknown_market(self, topic: str) -> None:
        """A topic names a market that there is not; may raise ``Refusal``."""

    @abstractmethod
    def unknown_channel(self, topic: str) -> Refusal:
        """Why a topic of a channel that there is not, or of a candle type, is turned down."""

    @abstractmethod
    def book(self, instrument: Instrument, book: Book) -> bytes:
        """What a book's message says of it, as JSON."""

    def book_snapshot(self, session: Session, subscription: Subscription, book: Book) -> Sequence[Frame]:
        """See ``StreamVenue``."""
        instrument = self.market.instrument(subscription.symbol)
        return [message(subscription, "level2", self.book(instrument, book))]

    def book_update(
        self, session: Session, subscription: Subscription, before: Book, after: Book, changes: Changes
    ) -> Sequence[Frame]:
        """See ``StreamVenue``; each message is the whole book."""
        return self.book_snapshot(session, subscription, after)

    def named(self, subscription: Subscription) -> tuple[Instrument, str]:
        """The instrument of a subscription, and KuCoin's name of it."""
        instrument = self.market.instrument(subscription.symbol)
        return instrument, self.venues[self.rest].native(instrument)

    def _change(self, session: Session, kind: str, topic: Any) -> None:
        if not isinstance(topic, str) or not topic:
            raise Refusal(406, "topic is required")
        channel, _, listed = topic.partition(":")
        markets = listed.split(",")
        if len(markets) > _MOST_IN_FRAME:
            raise Refusal(509, f"exceed max subscription count limitation of {_MOST_IN_FRAME} per time")
        wanted = [self._subscription(channel, market, topic) for market in markets]
        if kind == "unsubscribe":
            for market in markets:
                session.subscriptions.pop(f"{channel}:{market}", None)
                session.state.pop(f"{channel}:{market}", None)
            return
        new = {one.channel: one for one in wanted if one and one.channel not in session.subscriptions}
        if len(session.subscriptions) + len(new) > self.most:
            raise Refusal(509, f"exceed max subscription count limitation of {self.most} per session")
        session.subscriptions.update(new)

    def _subscription(self, channel: str, market: str, topic: str) -> Subscription | None:
        """What one of a topic's markets asks for; None where it is acknowledged and nothing comes."""
        feed = self.channels.get(channel)
        if feed is None and channel not in self.books:
            raise self.unknown_channel(topic)
        symbol, _, kind = market.partition("_")
        if (feed == "candles") != bool(kind) or (kind and kind not in self.types):
            raise self.unknown_channel(topic)
        instrument = self.venues[self.rest].listed.get(symbol)
        if instrument is None or not instrument.active:
            self.unknown_market(topic)
            return None
        name, unified = f"{channel}:{market}", instrument.symbol
        if feed == "candles":
            step = TYPES[kind]
            level = next((level for level, ms in LEVEL_MS.items() if ms == step), None)
            return Subscription("candles", unified, name, level, None, _CANDLE_MS, step)
        if feed is not None:
            return Subscription(feed, unified, name)
        return Subscription("order_book", unified, name, depth=self.books[channel], every=_BOOK_MS)


class KucoinSpotStreams(KucoinStreams):
    """ws-api-spot.kucoin.com."""

    name = "kucoin spot streams"
    hosts = ("ws-api-spot.kucoin.com",)
    rest = "api.kucoin.com"
    channels: ClassVar[dict[str, Feed]] = {"/market/match": "trades", "/market/candles": "candles"}
    books: ClassVar[dict[str, int]] = {"/spotMarket/level2Depth5": 5, "/spotMarket/level2Depth50": 50}
    types = frozenset(TYPES) - {"5min"}
    most = 300

    def unknown_market(self, topic: str) -> None:
        """See ``KucoinStreams``."""
        raise Refusal(404, f"topic {topic} is not found")

    def unknown_channel(self, topic: str) -> Refusal:
        """See ``KucoinStreams``."""
        return Refusal(404, f"topic {topic} is not found")

    def trades(self, session: Session, subscription: Subscription, rows: Trades) -> Sequence[Frame]:
        """See ``StreamVenue``; each trade has a message."""
        _, name = self.named(subscription)
        texts = [decimal_text(rows.id), decimal_text(rows.price), decimal_text(rows.volume)]
        columns = [column.to_pylist() for column in (*texts, taker_side(rows), nanoseconds(rows))]
        return [
            message(
                subscription,
                "trade.l3match",
                f'{{"makerOrderId":"m{number}","price":"{price}","sequence":"{number}","side":"{side}",'
                f'"size":"{size}","symbol":"{name}","takerOrderId":"t{number}","time":"{ns}",'
                f'"tradeId":"{number}","type":"match"}}'.encode(),
            )
            for number, price, size, side, ns in zip(*columns, strict=True)
        ]

    def candles(
        self, session: Session, subscription: Subscription, rows: Candles, closed: bool
    ) -> Sequence[Frame]:
        """See ``StreamVenue``; the end of a candle is not told, and nothing of one without trades."""
        rows = traded(rows)
        values = candle_texts(rows, rows.volume, rows.turnover)
        return candle_messages(session, subscription, "trade.candles.update", values, 1_000_000)

    def book(self, instrument: Instrument, book: Book) -> bytes:
        """See ``KucoinStreams``."""
        sides = b'{"asks":' + level_rows(book.asks) + b',"bids":' + level_rows(book.bids)
        return sides + f',"timestamp":{book.ts}}}'.encode()


def message(subscription: Subscription, subject: str, data: bytes) -> bytes:
    """A message of a topic."""
    head = f'{{"topic":"{subscription.channel}","type":"message","subject":"{subject}","data":'
    return head.encode() + data + b"}"


def candle_texts(rows: Candles, volume: Array, turnover: Array) -> list[tuple[str, ...]]:
    """The values of each candle in KuCoin's order."""
    prices = [getattr(rows, name) for name in ("open", "close", "high", "low")]
    columns = [decimal_text(column) for column in (rows.ts // 1000, *prices, volume, turnover)]
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


def candle_messages(
    session: Session, subscription: Subscription, subject: str, values: Sequence[Sequence[str]], unit: int
) -> list[Frame]:
    """A message for each candle; the time of the message is epoch ms times ``unit``."""
    symbol = subscription.channel.partition(":")[2].partition("_")[0]
    tail = {"time": session.now * unit}
    return [
        message(subscription, subject, orjson.dumps({"symbol": symbol, "candles": candle, **tail}))
        for candle in values
    ]


def _error(number: Any, code: int, reason: str) -> dict[str, Any]:
    return {"id": number, "type": "error", "code": code, "data": reason}
