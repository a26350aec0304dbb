"""Coinbase's streams, Advanced Trade: spot pairs.

https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-overview and
https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels

Candles are streamed of five minutes only, so ours are made of trades.
"""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Hashable, Iterable, Sequence
from operator import attrgetter
from typing import Annotated, Any, Final, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.coinbase_rows import TIME, trade_table
from zvt_crypto.exchanges.streaming import (
    BookUpdate,
    Confirmed,
    Limits,
    Message,
    Missed,
    Reader,
    Refused,
    Streams,
    Topic,
    Trades,
)

logger = logging.getLogger(__name__)

_URL: Final = "wss://advanced-trade-ws.coinbase.com"
_CHANNELS: Final = {"trades": "market_trades", "order_book": "level2"}
#: Channels close when nothing happens for a minute or so, unless this one is subscribed, too.
_HEARTBEATS: Final = {"type": "subscribe", "channel": "heartbeats"}
#: Errors that say nothing of what was asked for: it is asked for again.
_PASSING: Final = re.compile(
    r"rate.?limit|too many|internal|unavailable|timed? ?out|try again", re.IGNORECASE
)
#: Products in USDC that are markets of their own. The others are those in USD by another name, and what is
#: sent of them has that of USD.
_OWN_USDC: Final = frozenset({"USDT-USDC", "EURC-USDC"})
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_MS: Final = dt.timedelta(milliseconds=1)
_NOTHING: Final[Sequence[Message]] = ()


class _Trade(msgspec.Struct, gc=False):
    product_id: str
    trade_id: str
    price: float
    size: float
    #: RFC 3339; kept as text, as a ``datetime`` would lose its nanoseconds.
    time: str
    side: str


class _TradeEvent(msgspec.Struct, gc=False):
    trades: list[_Trade]


class _Level(msgspec.Struct, gc=False):
    side: Literal["bid", "offer"]
    price_level: float
    new_quantity: float


class _BookEvent(msgspec.Struct, gc=False):
    type: Literal["snapshot", "update"]
    product_id: str
    updates: list[_Level]


class _SubscriptionEvent(msgspec.Struct, gc=False):
    subscriptions: dict[str, list[str]]


class _TradeFrame(msgspec.Struct, tag_field="channel", tag="market_trades", gc=False):
    sequence_num: int
    events: list[_TradeEvent]


class _BookFrame(msgspec.Struct, tag_field="channel", tag="l2_data", gc=False):
    sequence_num: int
    timestamp: Annotated[dt.datetime, msgspec.Meta(tz=True)]
    events: list[_BookEvent]


class _SubscriptionFrame(msgspec.Struct, tag_field="channel", tag="subscriptions", gc=False):
    """All that is subscribed on the connection by now; comes after each frame of a client."""

    sequence_num: int
    events: list[_SubscriptionEvent]


class _HeartbeatFrame(msgspec.Struct, tag_field="channel", tag="heartbeats", gc=False):
    sequence_num: int


class _Error(msgspec.Struct, tag_field="type", tag="error", gc=False):
    message: str
    reason: str = ""


_decode: Final = msgspec.json.Decoder(
    _TradeFrame | _BookFrame | _SubscriptionFrame | _HeartbeatFrame, strict=False
).decode
_decode_error: Final = msgspec.json.Decoder(_Error).decode
_product_of: Final = attrgetter("product_id")


class CoinbaseStreams(Streams):
    """Trades are sent every 250 ms, ids without holes; books are whole, however many levels they have.

    Nothing but the count of the connection's messages tells that changes of a book were lost: its states
    have no numbers. Products that Coinbase does not have are left out of what it confirms, without an error.
    """

    feeds = {"cryptopair": frozenset({"trades", "order_book"})}
    book_depths = {"cryptopair": (1000,)}
    consecutive_ids = frozenset({"cryptopair"})
    # An address may connect, and send frames, eight times a second; how many products are too many for one
    # connection is not documented.
    limits = Limits(topics=100, topics_per_frame=50, frames_per_second=4.0, connections_per_minute=120)

    def endpoint(self, topic: Topic) -> str:
        """Products in USDC have connections of their own, as messages do not tell them from those in USD."""
        return f"{_URL}/" if _is_other_name(topic.instrument.native_id) else _URL

    def subscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        """A frame for each channel, and one for the heartbeats, which may be subscribed to again."""
        return [*_requests("subscribe", topics), _HEARTBEATS]

    def unsubscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        """See ``Streams``."""
        return _requests("unsubscribe", topics)

    def reader(self) -> Reader:
        """See ``Streams``."""
        return CoinbaseReader()

    def trades(self, instrument: Instrument, rows: Sequence[_Trade]) -> pa.Table:
        """See ``Streams``."""
        return trade_table(
            pc.cast(pa.array([row.time for row in rows], pa.string()), TIME),
            pa.array([row.trade_id for row in rows], pa.string()),
            pa.array([row.price for row in rows], pa.float64()),
            pa.array([row.size for row in rows], pa.float64()),
            pa.array([row.side for row in rows], pa.string()),
        )


class CoinbaseReader(Reader):
    """Counts the messages of a connection: ``sequence_num`` runs through all channels, without holes."""

    def __init__(self) -> None:
        super().__init__()
        self._due: int | None = None
        #: Topics of each channel, by product as messages name it.
        self._sent: dict[str, dict[str, Topic]] = {channel: {} for channel in _CHANNELS.values()}

    def expect(self, topics: Iterable[Topic]) -> None:
        """See ``Reader``."""
        super().expect(topics)
        self._find_names()

    def forget(self, topics: Iterable[Topic]) -> None:
        """See ``Reader``."""
        super().forget(topics)
        self._find_names()

    def key(self, topic: Topic) -> Hashable:
        """The channel as it is subscribed to, and the product."""
        return _CHANNELS[topic.feed], topic.instrument.native_id

    def read(self, frame: str) -> Sequence[Message] | None:
        """See ``Reader``; nothing is left to ccxt, which ends its loop at an error."""
        if '"channel"' not in frame:
            return self._refused(_decode_error(frame))
        said = _decode(frame)
        due, number = self._due, said.sequence_num
        if due is not None and number == due - 1:
            return _NOTHING  # the same again
        self._due = number + 1
        messages = self._messages(said)
        if due is None or number == due:
            return messages
        return [Missed(f"message {number} came where {due} was due"), *messages]

    def _find_names(self) -> None:
        """What is sent of a product that is one in USD by another name has either name."""
        for sent in self._sent.values():
            sent.clear()
        for topic in self.topics.values():
            sent, product = self._sent[_CHANNELS[topic.feed]], topic.instrument.native_id
            sent[product] = topic
            if _is_other_name(product):
                sent[product.removesuffix("C")] = topic

    def _messages(
        self, said: _TradeFrame | _BookFrame | _SubscriptionFrame | _HeartbeatFrame
    ) -> Sequence[Message]:
        if isinstance(said, _BookFrame):
            return self._books(said)
        if isinstance(said, _TradeFrame):
            return self._trades(said.events)
        if isinstance(said, _SubscriptionFrame):
            return self._confirmed(said)
        return _NOTHING

    def _trades(self, events: list[_TradeEvent]) -> Sequence[Message]:
        """The oldest first; Coinbase sends the newest first."""
        sent = self._sent["market_trades"]
        messages = []
        for event in events:
            rows = event.trades
            if len(rows) > 1 and _order(rows[0]) > _order(rows[-1]):
                rows.reverse()
            products = {row.product_id for row in rows}
            for product in products:
                topic = sent.get(product)
                if topic is not None:
                    mine = rows if len(products) == 1 else [row for row in rows if row.product_id == product]
                    messages.append(Trades(topic, mine))
        return messages

    def _books(self, said: _BookFrame) -> Sequence[Message]:
        ts = (said.timestamp - _EPOCH) // _MS
        sent = self._sent["level2"]
        messages = []
        for event in said.events:
            topic = sent.get(event.product_id)
            if topic is None:
                continue
            bids: list[tuple[float, float]] = []
            asks: list[tuple[float, float]] = []
            for row in event.updates:
                (bids if row.side == "bid" else asks).append((row.price_level, row.new_quantity))
            messages.append(BookUpdate(topic, event.type == "snapshot", bids, asks, ts=ts))
        return messages

    def _confirmed(self, said: _SubscriptionFrame) -> Sequence[Message]:
        named = (
            self._sent.get(channel, {}).get(product)
            for event in said.events
            for channel, products in event.subscriptions.items()
            for product in products
        )
        topics = [topic for topic in named if topic is not None]
        return (Confirmed(topics),) if topics else _NOTHING

    def _refused(self, error: _Error) -> Sequence[Message]:
        reason = f"{error.message}: {error.reason}" if error.reason else error.message
        if _PASSING.search(reason):
            logger.warning("coinbase does not subscribe now: %s", reason)
            return _NOTHING
        named = set(re.findall(r"[A-Z0-9]+-[A-Z0-9]+", reason))
        topics = [topic for topic in self.topics.values() if topic.instrument.native_id in named]
        return [Refused(topic, reason) for topic in topics] or (Refused(None, reason),)


def _is_other_name(product: str) -> bool:
    """Whether a product is the one in USD by another name."""
    return product.endswith("-USDC") and product not in _OWN_USDC


def _order(row: _Trade) -> tuple[int, str]:
    """What puts the numbers that ids are in order."""
    return len(row.trade_id), row.trade_id


def _requests(kind: str, topics: Sequence[Topic]) -> list[Any]:
    """One frame for each channel."""
    products: dict[str, list[str]] = {}
    for topic in topics:
        products.setdefault(_CHANNELS[topic.feed], []).append(topic.instrument.native_id)
    return [{"type": kind, "product_ids": ids, "channel": channel} for channel, ids in products.items()]
