"""Messages of ``/ws`` as bytes, each encoded once for however many clients.

The shapes are those of ``crypto-api.md`` ("Stream Message Format"). Times are ISO 8601 UTC with milliseconds.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Hashable, Iterator
from functools import lru_cache
from typing import Any, Final, Literal

import orjson
import pyarrow as pa

from zvt_crypto.exchanges.streaming import Funding
from zvt_crypto.stream.broadcast.candlemaking import Candle
from zvt_crypto.stream.broadcast.channels import Channel

Kind = Literal["snapshot", "update", "event"]

_EPOCH: Final = dt.datetime(1970, 1, 1)


class Message:
    """One message of a channel.

    Args:
        channel: Whose.
        kind: A ``snapshot`` is the newest state, for who has none yet; an ``event`` tells of the channel.
        sequence: Number of the message in its channel.
        data: The JSON of its own fields: ``data`` of a snapshot or update, all fields of an event.
        merge: Of two messages that follow each other with the same value, the later is enough; None for
            messages of which each counts.

    Attributes:
        frame: All of it as a WebSocket frame; the only copy, as many messages are kept.
    """

    __slots__ = ("_data_size", "channel", "frame", "kind", "merge", "sequence")

    def __init__(
        self, channel: Channel, kind: Kind, sequence: int, data: bytes, merge: Hashable = None
    ) -> None:
        self.channel = channel
        self.kind = kind
        self.sequence = sequence
        self.merge = merge
        self._data_size = len(data)
        if kind == "event":
            payload = b'%b,"sequence":%d,%b' % (channel.head, sequence, data[1:])
        else:
            text = kind.encode()
            payload = b'%b,"type":"%b","sequence":%d,"data":%b}' % (channel.head, text, sequence, data)
        self.frame = text_frame(payload)

    @property
    def payload(self) -> bytes:
        """The JSON of all of it."""
        return self.frame[_HEAD_BYTES.get(self.frame[1], 2) :]

    def as_snapshot(self) -> Message:
        """The same state for who has none yet; not for events."""
        data = self.frame[-self._data_size - 1 : -1]
        return Message(self.channel, "snapshot", self.sequence, data, self.merge)

    def named(self, name: bytes) -> bytes:
        """The frame for a client that has named the channel; the name is in JSON."""
        return text_frame(b'{"channel":%b,%b' % (name, self.payload[1:]))


def event(channel: Channel, sequence: int, name: str, **facts: Any) -> Message:
    """A message that tells something of a channel."""
    return Message(channel, "event", sequence, orjson.dumps({"event": name, **facts}))


#: Second byte of a frame that announces a longer head -> bytes of the head.
_HEAD_BYTES: Final = {126: 4, 127: 10}


def text_frame(payload: bytes) -> bytes:
    """A WebSocket frame from server to client, see RFC 6455, section 5.2: text, final, not masked."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 1 << 16:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


def timestamp(ts: int) -> str:
    """An epoch time in ms as text, always with milliseconds."""
    return f"{_second(ts // 1000)}.{ts % 1000:03d}Z"


def trade_data(trades: pa.Table) -> Iterator[bytes]:
    """``data`` of each trade of a table in ``schemas.TRADES``."""
    columns = (trades[name].to_pylist() for name in ("ts", "trade_id", "price", "volume", "side"))
    for ts, trade_id, price, volume, side in zip(*columns, strict=True):
        yield orjson.dumps(
            {
                "trade_id": trade_id,
                "price": price,
                "volume": volume,
                "side": side,
                "timestamp": timestamp(ts),
                # The side is the taker's, so that the maker bought where the taker sold.
                "is_buyer_maker": None if side is None else side == "sell",
            }
        )


def candle_data(candle: Candle) -> bytes:
    """``data`` of a candle; only one of which trades are missing says so."""
    facts = {
        "open": candle.open,
        "high": candle.high,
        "low": candle.low,
        "close": candle.close,
        "volume": candle.volume,
        "timestamp": timestamp(candle.ts),
        "is_closed": candle.is_closed,
    }
    return orjson.dumps(facts | {"is_partial": True} if candle.is_partial else facts)


def book_data(ts: int | None, number: int | None, bids: Any, asks: Any) -> bytes:
    """``data`` of an order book.

    Args:
        ts: Its time, None where the venue gives none.
        number: The venue's number of the state, None where it has none.
        bids: Price and amount in base currency of each level, best first.
        asks: As ``bids``.
    """
    when = None if ts is None else timestamp(ts)
    return orjson.dumps({"bids": bids, "asks": asks, "timestamp": when, "sequence": number})


def funding_data(funding: Funding) -> bytes:
    """``data`` of what a perpetual's next payment would be."""
    due = funding.next_ts
    return orjson.dumps(
        {
            "funding_rate": funding.rate,
            "mark_price": funding.mark_price,
            "next_funding_time": None if due is None else timestamp(due),
            "timestamp": timestamp(funding.ts),
        }
    )


@lru_cache(1024)
def _second(seconds: int) -> str:
    return (_EPOCH + dt.timedelta(seconds=seconds)).isoformat(timespec="seconds")
