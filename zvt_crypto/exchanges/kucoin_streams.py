"""KuCoin's public streams of spot pairs and contracts: topics, tokens, and what their rows are.

https://www.kucoin.com/docs-new/websocket-api/base-info/introduction
"""

from __future__ import annotations

import logging
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from zvt_crypto.core.errors import ProviderUnavailable
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.kucoin_candles import TYPES, contract_page, spot_page
from zvt_crypto.exchanges.kucoin_messages import (
    Acknowledged,
    Candle,
    Execution,
    Fill,
    Refusal,
    decode_answer,
    decode_push,
)
from zvt_crypto.exchanges.objects import base_volume, split_time
from zvt_crypto.exchanges.schemas import TRADES
from zvt_crypto.exchanges.streaming import (
    Asking,
    Confirmed,
    Funding,
    Limits,
    Message,
    Reader,
    Refused,
    Streams,
    Topic,
)

logger = logging.getLogger(__name__)

_ENDPOINTS: Final = {
    "cryptopair": "wss://ws-api-spot.kucoin.com",
    "cryptoperp": "wss://ws-api-futures.kucoin.com",
}
_TOKENS: Final = {"cryptopair": "publicPostBulletPublic", "cryptoperp": "futuresPublicPostBulletPublic"}
_CHANNELS: Final = {
    ("cryptopair", "trades"): "/market/match",
    ("cryptopair", "candles"): "/market/candles",
    ("cryptopair", "order_book"): "/spotMarket/level2Depth",
    ("cryptoperp", "trades"): "/contractMarket/execution",
    ("cryptoperp", "candles"): "/contractMarket/limitCandle",
    ("cryptoperp", "order_book"): "/contractMarket/level2Depth",
    ("cryptoperp", "funding"): "/contract/instrument",
}
#: KuCoin takes a hundred markets in a frame. The frame's id names them, and should not become long.
_MARKETS_PER_FRAME: Final = 10
#: Codes of errors about the topic itself; others (509, 500) say that it cannot be had now.
_WRONG_TOPIC: Final = (400, 403, 404, 406)


class _Server(msgspec.Struct):
    endpoint: str


class _Bullet(msgspec.Struct, rename="camel"):
    token: str
    instance_servers: list[_Server]


class _BulletAnswer(msgspec.Struct):
    data: _Bullet


class KucoinReader(Reader):
    """Reads frames of pairs or contracts; keeps the last mark prices and rates, which come apart."""

    def __init__(self) -> None:
        super().__init__()
        self._funding: dict[str, Funding] = {}

    def key(self, topic: Topic) -> str:
        """KuCoin's name of the topic."""
        return name_of(topic)

    def forget(self, topics: Iterable[Topic]) -> None:
        """See ``Reader``."""
        for topic in topics:
            self._funding.pop(name_of(topic), None)
            super().forget([topic])

    def read(self, frame: str) -> Sequence[Message] | None:
        """See ``Reader``."""
        if '"subject"' not in frame:
            return self._read_answer(frame)
        push = decode_push(frame)
        topic = self.topics.get(push.topic)
        message = None if topic is None else push.message(topic)
        if message is None:
            return ()
        return (self._complete(push.topic, message) if isinstance(message, Funding) else message,)

    def _complete(self, name: str, told: Funding) -> Funding:
        """What is told now, and what was told before of the rest."""
        known = self._funding.get(name, told)
        mark_price = known.mark_price if told.mark_price is None else told.mark_price
        rate = known.rate if told.rate is None else told.rate
        self._funding[name] = now = told._replace(mark_price=mark_price, rate=rate)
        return now

    def _read_answer(self, frame: str) -> Sequence[Message] | None:
        answer = decode_answer(frame)
        if isinstance(answer, Acknowledged):
            names = _names_in(answer.id)
            topics = [self.topics[name] for name in names if name in self.topics]
            return (Confirmed(topics),) if topics else ()
        return self._refused(answer) if isinstance(answer, Refusal) else None

    def _refused(self, refusal: Refusal) -> Sequence[Message]:
        names = _names_in(refusal.id)
        # Of several topics it is not told which is wrong: none is confirmed, so they are asked for alone.
        if len(names) == 1 and names[0] in self.topics and refusal.code in _WRONG_TOPIC:
            return (Refused(self.topics[names[0]], f"{refusal.code} {refusal.data}"),)
        logger.warning("kucoin refuses %s: %d %s", refusal.id, refusal.code, refusal.data)
        return ()


class KucoinStreams(Streams):
    """Two hosts, which want a token; the topics differ, the frames are alike.

    Books are those of ``level2Depth``: all of 5 or 50 levels every 100 ms, so that a lost message does no
    harm. The changes of single levels (``level2``) belong to the whole book, which KuCoin only answers to its
    customers; in a book that began with the hundred levels that everyone gets, those that move up from
    further away would be missing.
    """

    feeds = {
        "cryptopair": frozenset({"trades", "candles", "order_book"}),
        "cryptoperp": frozenset({"trades", "candles", "order_book", "funding"}),
    }
    levels = tuple(TYPES)
    book_depths = {"cryptopair": (5, 50), "cryptoperp": (5, 50)}
    #: A client may send 100 frames in ten seconds, pings included.
    limits = Limits(
        topics=100, topics_per_frame=100, frames_per_second=8, connections_per_minute=30, connections=50
    )

    def serves(self, topic: Topic) -> bool:
        """See ``Streams``; of pairs, candles of five minutes are not among those that are documented."""
        if topic.level == "5m" and topic.instrument.entity_type == "cryptopair":
            return False
        return super().serves(topic)

    def endpoint(self, topic: Topic) -> str:
        """See ``Streams``."""
        return _ENDPOINTS[topic.instrument.entity_type]

    async def url(self, endpoint: str, entity_type: str, client: Asking) -> str:
        """Where to connect to now; the token in it is valid for a day.

        Raises:
            ProviderUnavailable: KuCoin gives no token.
        """
        answer = await client.call(entity_type, _TOKENS[entity_type], {})
        try:
            bullet = msgspec.convert(answer, _BulletAnswer).data
        except msgspec.ValidationError as error:
            raise ProviderUnavailable(f"kucoin gives no token for its streams: {error}") from error
        if not bullet.instance_servers:
            raise ProviderUnavailable("kucoin names no server of its streams")
        query = urlencode({"token": bullet.token, "connectId": uuid.uuid4().hex})
        return f"{bullet.instance_servers[0].endpoint}?{query}"

    def subscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        """Frames whose ids name what they are about: all that an answer tells is the id."""
        return [
            {"id": f"{number} {name}", "type": "subscribe", "topic": name, "response": True}
            for name in _joined(topics)
        ]

    def unsubscribe(self, topics: Sequence[Topic], number: int) -> list[Any]:
        """See ``Streams``; the answers are of no interest."""
        return [
            {"id": str(number), "type": "unsubscribe", "topic": name, "response": True}
            for name in _joined(topics)
        ]

    def reader(self) -> Reader:
        """See ``Streams``."""
        return KucoinReader()

    def trades(self, instrument: Instrument, rows: Sequence[Fill | Execution]) -> pa.Table:
        """See ``Streams``."""
        ts, nanosecond = split_time(pa.array([row.ns for row in rows], pa.int64()))
        price = pa.array([row.price for row in rows], pa.float64())
        size = pa.array([row.size for row in rows], pa.float64())
        columns = {
            "ts": ts,
            "trade_id": pa.array([row.id for row in rows], pa.string()),
            "price": price,
            "volume": base_volume(instrument, size.to_numpy(), price.to_numpy()),
            "side": pa.array([row.side for row in rows], pa.string()),
            "nanosecond": nanosecond,
        }
        return pa.table(columns, TRADES)

    def candles(self, instrument: Instrument, level: str, rows: Sequence[Candle]) -> pa.Table:
        """See ``Streams``; linear contracts have no turnover, that of inverse ones is their lots."""
        columns = {"seconds": pa.array([row.seconds for row in rows], pa.int64())}
        for name in ("open", "high", "low", "close", "volume", "turnover"):
            columns[name] = pa.array([getattr(row, name) for row in rows], pa.float64())
        page = _page(instrument, pa.table(columns))
        return page.append_column("is_closed", pa.nulls(len(rows), pa.bool_()))


def name_of(topic: Topic) -> str:
    """KuCoin's name of a topic, such as ``/market/candles:BTC-USDT_1min``."""
    return f"{_channel(topic)}:{_market(topic)}"


def _channel(topic: Topic) -> str:
    return f"{_CHANNELS[topic.instrument.entity_type, topic.feed]}{topic.depth or ''}"


def _market(topic: Topic) -> str:
    return topic.instrument.native_id + (f"_{TYPES[topic.level]}" if topic.level else "")


def _joined(topics: Iterable[Topic]) -> list[str]:
    """Names of topics, those of a channel joined."""
    markets: defaultdict[str, list[str]] = defaultdict(list)
    for topic in topics:
        markets[_channel(topic)].append(_market(topic))
    return [
        f"{channel}:{','.join(names[start : start + _MARKETS_PER_FRAME])}"
        for channel, names in markets.items()
        for start in range(0, len(names), _MARKETS_PER_FRAME)
    ]


def _names_in(frame_id: str | int) -> list[str]:
    """The topics that a frame subscribed to, by its id; one nameless where it was about something else."""
    channel, _, markets = str(frame_id).partition(" ")[2].partition(":")
    return [f"{channel}:{market}" for market in markets.split(",")]


def _page(instrument: Instrument, rows: pa.Table) -> pa.Table:
    if instrument.entity_type == "cryptopair":
        return spot_page(rows)
    ts = pc.multiply(rows["seconds"], 1000)
    columns = {"ts": ts, **{name: rows[name] for name in ("open", "high", "low", "close")}}
    columns |= {"lots": rows["turnover"], "value": pa.nulls(rows.num_rows, pa.float64())}
    return contract_page(instrument, pa.table(columns))
