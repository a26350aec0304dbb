"""Kraken's recorded streams: frames of WebSocket v1 (2021) in today's layout, that of v2.

Prices, volumes and times are those that were recorded, with as many digits as v2 writes. Trades, which have
no ids in v1, are numbered by pair from 1 on. A checksum of v2 is made of other digits than one of v1, so it
is computed from the book, which also tells what comes into a smaller depth than was recorded.
"""

from __future__ import annotations

import bisect
import datetime as dt
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from zvt_crypto.core.errors import InvalidArgument
from zvt_crypto.sandbox.captures import Captures
from zvt_crypto.sandbox.market import Instrument
from zvt_crypto.sandbox.stream_captures import (
    BookChange,
    Key,
    Message,
    Replay,
    Trade,
    listing_time,
)
from zvt_crypto.sandbox.streams import Frame, Session, Subscription

_CHECKED: Final = 10
_VOLUME_DIGITS: Final = 8
#: Kraken's own names of currencies, which v1 uses and v2 does not.
_NAMES: Final = {"XBT": "BTC", "XDG": "DOGE"}
_ORDER_TYPES: Final = {"l": "limit", "m": "market"}

#: A level as it is sent: price and volume, with as many digits as v2 writes.
Level = tuple[str, str]


class KrakenReplay(Replay):
    """Spot."""

    recorded_hosts = hosts = ("ws.kraken.com",)
    rest_hosts = ("api.kraken.com",)
    serves_answers = False

    def __init__(self, messages: Sequence[Message], answers: Captures, speed: float | None) -> None:
        super().__init__(messages, answers, speed)
        self._digits: dict[str, int] = {i.symbol: i.price_digits for i in self.instruments()}
        self._translated: dict[tuple[Key, int | None], list[Message]] = {}

    def key_of(self, text: str) -> Key | None:
        """See ``Replay``."""
        frame = orjson.loads(text)
        if not isinstance(frame, list):
            return None
        channel, pair = frame[-2:]
        return channel.partition("-")[0], _symbol(pair)

    def key(self, subscription: Subscription) -> Key:
        """See ``Replay``."""
        return "trade" if subscription.feed == "trades" else "book", subscription.symbol

    def messages(self, subscription: Subscription) -> Sequence[Message]:
        """See ``Replay``; they are translated when they are first asked for."""
        key = self.key(subscription), subscription.depth
        if subscription.feed == "candles":
            return ()
        if key not in self._translated:
            recorded = super().messages(subscription)
            make = self._trades if subscription.feed == "trades" else self._book
            self._translated[key] = list(make(subscription, recorded))
        return self._translated[key]

    def frame(self, session: Session, subscription: Subscription, message: Message) -> Frame:
        """See ``Replay``."""
        return message.text

    def instruments(self) -> Iterable[Instrument]:
        """See ``Replay``."""
        body = self.answers.find(self.rest_hosts[0], "/0/public/AssetPairs", {})
        if body is None:
            raise InvalidArgument(
                "the recorded streams of Kraken lack its AssetPairs",
                suggestions=("give the file with the recorded answer, too",),
            )
        recorded = {symbol for _, symbol in self._messages}
        entries = orjson.loads(body)["result"].values()
        named = [(_symbol(entry["wsname"]), entry) for entry in entries if "wsname" in entry]
        return [self._instrument(symbol, entry) for symbol, entry in named if symbol in recorded]

    def trades(self, instrument: Instrument) -> Iterable[Trade]:
        """See ``Replay``."""
        number = 0
        for message in self._messages.get(("trade", instrument.symbol), ()):
            for price, volume, time, side, *_ in orjson.loads(message.text)[1]:
                number += 1
                ts, microsecond = divmod(_microseconds(time), 1000)
                yield Trade(ts, microsecond * 1000, number, float(price), float(volume), side == "b")

    def book_changes(self, instrument: Instrument) -> Iterable[BookChange]:
        """See ``Replay``."""
        for message in self._messages.get(("book", instrument.symbol), ()):
            told = _BookMessage.of(message.text)
            sides = [[(float(row[0]), float(row[1])) for row in rows] for rows in (told.bids, told.asks)]
            yield BookChange(message.ts, told.is_snapshot, *sides)

    def _instrument(self, symbol: str, entry: Mapping[str, Any]) -> Instrument:
        base, quote = symbol.split("/")
        digits = entry["pair_decimals"], entry["lot_decimals"]
        return Instrument(base, quote, None, *digits, listed=listing_time(self.clock))

    def _trades(self, subscription: Subscription, recorded: Iterable[Message]) -> Iterator[Message]:
        symbol, number = subscription.symbol, 0
        for message in recorded:
            rows = []
            for price, volume, time, side, kind, *_ in orjson.loads(message.text)[1]:
                number += 1
                level = self._level(symbol, (price, volume))
                rows.append(
                    f'{{"symbol":"{symbol}","side":"{"buy" if side == "b" else "sell"}","price":{level[0]},'
                    f'"qty":{level[1]},"ord_type":"{_ORDER_TYPES[kind]}","trade_id":{number},'
                    f'"timestamp":"{_iso(time)}"}}'
                )
            text = f'{{"channel":"trade","type":"update","data":[{",".join(rows)}]}}'
            yield message._replace(text=text)

    def _book(self, subscription: Subscription, recorded: Iterable[Message]) -> Iterator[Message]:
        """Messages of a book at the depth of a subscription, which may be less than was recorded."""
        symbol, depth = subscription.symbol, subscription.depth or _CHECKED
        bids, asks = _Side(-1), _Side(1)
        for message in recorded:
            told = _BookMessage.of(message.text)
            changed = [
                side.change([self._level(symbol, row) for row in rows], told, depth)
                for side, rows in ((bids, told.bids), (asks, told.asks))
            ]
            if any(changed):
                kind = "snapshot" if told.is_snapshot else "update"
                checksum, time = _checksum(asks, bids), _iso(told.time)
                yield message._replace(text=_book_text(symbol, kind, changed, checksum, time))

    def _level(self, symbol: str, row: Sequence[str]) -> Level:
        """A recorded level with as many digits as v2 writes; those that it does not have are zeros."""
        return _fixed(row[0], self._digits[symbol]), _fixed(row[1], _VOLUME_DIGITS)


class _BookMessage(NamedTuple):
    """A message of v1: rows are price, volume and time, all as texts."""

    is_snapshot: bool
    depth: int
    bids: list[list[str]]
    asks: list[list[str]]

    @staticmethod
    def of(text: str) -> _BookMessage:
        """Read a frame; one part of it may have the bids and another one the asks."""
        _, *parts, channel, _ = orjson.loads(text)
        sides: dict[str, Any] = {name: rows for part in parts for name, rows in part.items()}
        is_snapshot = "as" in sides
        bids, asks = (sides.get(name + "s" * is_snapshot, []) for name in "ba")
        return _BookMessage(is_snapshot, int(channel.partition("-")[2]), bids, asks)

    @property
    def time(self) -> str:
        """That of the newest level, epoch seconds."""
        return max(row[2] for row in (*self.bids, *self.asks))


class _Side:
    """One side of a book, as deep as it was recorded.

    Args:
        sign: 1 where the lowest price is the best, -1 where the highest is.
    """

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._order: list[float] = []
        self._levels: dict[float, Level] = {}

    def change(self, rows: Sequence[Level], message: _BookMessage, depth: int) -> list[Level]:
        """Take over the levels of a message.

        Returns:
            What of that is told of the best ``depth`` levels: those that changed or came in, and those that
            were removed; a level that has fallen out is not told of.
        """
        if not rows and not message.is_snapshot:
            return []
        before = set(self.best(depth))
        if message.is_snapshot:
            self._order, self._levels = [], {}
        for price, volume in rows:
            self._set(price, volume)
        for key in self._order[message.depth :]:
            del self._levels[key]
        del self._order[message.depth :]
        after = self.best(depth)
        if message.is_snapshot:
            return after
        known = {price for price, _ in before}
        removed = [row for row in rows if not float(row[1]) and row[0] in known]
        return [*removed, *(level for level in after if level not in before)]

    def best(self, count: int) -> list[Level]:
        """The best levels."""
        return [self._levels[key] for key in self._order[:count]]

    def _set(self, price: str, volume: str) -> None:
        key = self._sign * float(price)
        position = bisect.bisect_left(self._order, key)
        is_known = self._order[position : position + 1] == [key]
        if float(volume):
            if not is_known:
                self._order.insert(position, key)
            self._levels[key] = price, volume
        elif is_known:
            del self._order[position], self._levels[key]


def _book_text(symbol: str, kind: str, changed: Sequence[Sequence[Level]], checksum: int, time: str) -> str:
    bids, asks = (",".join(f'{{"price":{p},"qty":{q}}}' for p, q in side) for side in changed)
    data = f'"bids":[{bids}],"asks":[{asks}],"checksum":{checksum},"timestamp":"{time}"'
    return f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}",{data}}}]}}'


def _checksum(asks: _Side, bids: _Side) -> int:
    """CRC-32 of the best levels, asks first: their digits without decimal points and leading zeros."""
    levels = (*asks.best(_CHECKED), *bids.best(_CHECKED))
    return zlib.crc32(
        "".join(text.replace(".", "").lstrip("0") for level in levels for text in level).encode()
    )


def _fixed(number: str, digits: int) -> str:
    """A number with so many decimal digits; only zeros may be lost."""
    whole, _, fraction = number.partition(".")
    if fraction[digits:].strip("0"):
        raise InvalidArgument(f"the recorded number {number} has more than {digits} decimal digits")
    return f"{whole}.{fraction[:digits].ljust(digits, '0')}" if digits else whole


def _symbol(pair: str) -> str:
    """v2's name of a pair of v1, such as ``KSM/BTC`` of ``KSM/XBT``."""
    return "/".join(_NAMES.get(name, name) for name in pair.split("/"))


def _microseconds(time: str) -> int:
    seconds, _, fraction = time.partition(".")
    return int(seconds) * 1_000_000 + int(fraction.ljust(6, "0"))


def _iso(time: str) -> str:
    """A time as v2 writes it, of epoch seconds."""
    seconds, microseconds = divmod(_microseconds(time), 1_000_000)
    moment = dt.datetime.fromtimestamp(seconds, dt.timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{microseconds:06d}Z"
