"""Coinbase's recorded streams: frames of Coinbase Pro (2021) in today's layout, that of Advanced Trade.

The channel ``level2`` becomes ``l2_data`` and ``matches`` becomes ``market_trades``; prices, sizes, sides and
times are those that were recorded. A first message of a book has no time there: it is when it was received.
The last match before the recording is what trades begin with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import orjson

from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.sandbox.market import Instrument
from zvt_crypto.sandbox.stream_captures import (
    BookChange,
    Key,
    Message,
    Replay,
    Trade,
    decimals,
    listing_time,
)
from zvt_crypto.sandbox.streams import Frame, Session, Subscription

_CHANNELS: Final = {
    "snapshot": "l2_data",
    "l2update": "l2_data",
    "last_match": "market_trades",
    "match": "market_trades",
}
_LAST_MATCH: Final = '{"type":"last_match"'
#: Side of a changed level -> today's word for it.
_SIDES: Final = {"buy": "bid", "sell": "offer"}


class CoinbaseReplay(Replay):
    """Spot."""

    recorded_hosts = ("ws-feed.pro.coinbase.com",)
    hosts = ("advanced-trade-ws.coinbase.com",)
    rest_hosts = ("api.coinbase.com",)
    serves_answers = False

    @cached_property
    def eve(self) -> int:
        """See ``Replay``; here it is after the last matches, which trades begin with."""
        first = (next(iter(self.trades(instrument)), None) for instrument in self.instruments())
        return max((self.clock.start, *(trade.ts for trade in first if trade is not None)))

    def messages(self, subscription: Subscription) -> Sequence[Message]:
        """See ``Replay``."""
        recorded = super().messages(subscription)
        return [message for message in recorded if not message.text.startswith(_LAST_MATCH)]

    def key_of(self, text: str) -> Key | None:
        """See ``Replay``."""
        frame = orjson.loads(text)
        channel = _CHANNELS.get(frame["type"])
        return None if channel is None else (channel, frame["product_id"])

    def key(self, subscription: Subscription) -> Key:
        """See ``Replay``."""
        channel = "market_trades" if subscription.feed == "trades" else "l2_data"
        return channel, subscription.argument

    def frame(self, session: Session, subscription: Subscription, message: Message) -> Frame:
        """See ``Replay``; counted among all messages of the connection."""
        recorded = orjson.loads(message.text)
        if subscription.feed == "trades":
            channel, event = "market_trades", _trade_event(recorded)
        else:
            channel, event = "l2_data", _book_event(recorded, message.ts)
        number = session.counters["messages"]
        session.counters["messages"] += 1
        time = recorded.get("time", _iso(message.ts))
        return {"channel": channel, "timestamp": time, "sequence_num": number, "events": [event]}

    def instruments(self) -> Iterable[Instrument]:
        """See ``Replay``."""
        body = self.answers.find("api.pro.coinbase.com", "/products", {})
        if body is None:
            raise InvalidArgument(
                "the recorded streams of Coinbase lack its /products",
                suggestions=("give the file with the recorded answer, too",),
            )
        recorded = {product for _, product in self._messages}
        return [self._instrument(entry) for entry in orjson.loads(body) if entry["id"] in recorded]

    def trades(self, instrument: Instrument) -> Iterable[Trade]:
        """See ``Replay``; the recorded side is the maker's."""
        key = "market_trades", f"{instrument.base}-{instrument.quote}"
        for message in self._messages.get(key, ()):
            row = orjson.loads(message.text)
            microseconds = int(np.datetime64(row["time"].rstrip("Z"), "us").astype(np.int64))
            ts, rest = divmod(microseconds, 1000)
            price, size = float(row["price"]), float(row["size"])
            yield Trade(ts, rest * 1000, row["trade_id"], price, size, row["side"] == "sell")

    def book_changes(self, instrument: Instrument) -> Iterable[BookChange]:
        """See ``Replay``."""
        for message in self._messages.get(("l2_data", f"{instrument.base}-{instrument.quote}"), ()):
            sides: dict[str, list[tuple[float, float]]] = {"bid": [], "offer": []}
            recorded = orjson.loads(message.text)
            for side, price, size in _changes(recorded):
                sides[side].append((float(price), float(size)))
            is_snapshot = recorded["type"] == "snapshot"
            yield BookChange(message.ts, is_snapshot, sides["bid"], sides["offer"])

    def _instrument(self, entry: Mapping[str, str]) -> Instrument:
        return Instrument(
            entry["base_currency"],
            entry["quote_currency"],
            None,
            decimals(entry["quote_increment"]),
            decimals(entry["base_increment"]),
            listing_time(self.clock),
        )


def _trade_event(recorded: Mapping[str, Any]) -> dict[str, Any]:
    trade = {
        "trade_id": str(recorded["trade_id"]),
        **{name: recorded[name] for name in ("product_id", "price", "size", "time")},
        "side": recorded["side"].upper(),
    }
    return {"type": "update", "trades": [trade]}


def _book_event(recorded: Mapping[str, Any], ts: int) -> dict[str, Any]:
    is_snapshot = recorded["type"] == "snapshot"
    time = recorded.get("time", _iso(ts))
    updates = [
        {"side": side, "event_time": time, "price_level": price, "new_quantity": size}
        for side, price, size in _changes(recorded)
    ]
    kind = "snapshot" if is_snapshot else "update"
    return {"type": kind, "product_id": recorded["product_id"], "updates": updates}


def _changes(recorded: Mapping[str, Any]) -> list[Sequence[str]]:
    """Side, price and size of each level in a message."""
    if recorded["type"] == "l2update":
        return [(_SIDES[side], price, size) for side, price, size in recorded["changes"]]
    sides = (("bid", recorded["bids"]), ("offer", recorded["asks"]))
    return [(side, *level) for side, levels in sides for level in levels]


def _iso(ts: int) -> str:
    return f"{np.datetime64(ts * 1000, 'us')}Z"
