"""From what a client asks for, in its own words, to channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from zvt_crypto.core.errors import (
    InvalidArgument,
    NotSupported,
    SymbolMappingError,
    ZvtCryptoError,
    unknown_value,
)
from zvt_crypto.core.levels import LEVEL_MS
from zvt_crypto.core.symbols import PAIR, PERP, parse_notation
from zvt_crypto.exchanges.base import Instrument
from zvt_crypto.exchanges.streaming import StreamFeed, Topic
from zvt_crypto.stream.broadcast.channels import PRIVATE_STREAMS, STREAMS, Channel, symbol_of
from zvt_crypto.stream.broadcast.sources import Source

_DEFAULT_INTERVAL: Final = "1m"
_DEFAULT_DEPTH: Final = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """Channels that a client asks for, in its own words.

    Attributes:
        stream: Name of a stream.
        provider: The data source.
        symbols: Markets in any notation.
        interval: Length of candles; a minute where None.
        depth: Levels of order books; 20, or the most that the venue streams, where None.
    """

    stream: str
    provider: str
    symbols: Sequence[str]
    interval: str | None = None
    depth: int | None = None


async def find(wanted: Wanted, source: Source) -> list[Channel | ZvtCryptoError]:
    """The channel of each symbol, or why there is none.

    Raises:
        ZvtCryptoError: None of them can be had: an unknown interval or depth, say.
    """
    feed = feed_of(wanted.stream)
    interval = _interval(wanted) if feed == "candles" else None
    found: dict[str, Channel | ZvtCryptoError] = {}
    for entity_type, names in _by_type(wanted.symbols, feed, source).items():
        if entity_type not in source.feeds:
            error = NotSupported(f"{wanted.provider} streams nothing of a {entity_type}")
            found.update(dict.fromkeys(names, error))
            continue
        for name, market in zip(names, await source.instruments(names, entity_type), strict=True):
            found[name] = (
                market
                if isinstance(market, ZvtCryptoError)
                else _channel_or_error(wanted, source, feed, market, interval)
            )
    return [found[name] for name in wanted.symbols]


def feed_of(stream: str) -> StreamFeed:
    """What a stream is of.

    Raises:
        NotSupported: It is a private one.
        InvalidArgument: There is none of that name.
    """
    if stream in PRIVATE_STREAMS:
        raise NotSupported(
            f"{stream} is not served yet: accounts are not connected to",
            suggestions=(f"streams of markets are served: {', '.join(STREAMS)}",),
            stream=stream,
        )
    if stream not in STREAMS:
        raise unknown_value("stream", stream, STREAMS)
    return STREAMS[stream]


def _interval(wanted: Wanted) -> str:
    interval = wanted.interval or _DEFAULT_INTERVAL
    if interval not in LEVEL_MS:
        raise unknown_value("interval", interval, LEVEL_MS)
    return interval


def _by_type(names: Sequence[str], feed: StreamFeed, source: Source) -> dict[str, list[str]]:
    """The names by the type of market that each means: what it says, else pairs, for funding perpetuals.

    Names that mean nothing are among those of the usual type, where they are not found.
    """
    usual = PERP if feed == "funding" or PAIR not in source.feeds else PAIR
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        try:
            kind = parse_notation(name).entity_type
        except SymbolMappingError:
            kind = None
        found.setdefault(kind or usual, []).append(name)
    return found


def _channel_or_error(
    wanted: Wanted, source: Source, feed: StreamFeed, market: Instrument, interval: str | None
) -> Channel | ZvtCryptoError:
    try:
        return _channel(wanted, source, feed, market, interval)
    except ZvtCryptoError as error:
        return error


def _channel(
    wanted: Wanted, source: Source, feed: StreamFeed, market: Instrument, interval: str | None
) -> Channel:
    symbol = symbol_of(market)
    depth = None
    if feed == "order_book":
        depth, topic_depth = _depths(wanted.depth, source.book_depths(market.entity_type), wanted.provider)
        topic = Topic(feed, market, depth=topic_depth)
    else:
        topic = Topic(feed, market, level=interval)
        if feed == "candles" and not source.serves(topic):
            topic = Topic("trades", market)
    if not source.serves(topic):
        raise NotSupported(
            f"{wanted.provider} does not stream {feed} of {symbol}",
            suggestions=("see /api/crypto/providers/capabilities for what each provider streams",),
            symbol=symbol,
        )
    return Channel(wanted.stream, wanted.provider, symbol, interval, depth, topic)


def _depths(wanted: int | None, streamed: Sequence[int], provider: str) -> tuple[int, int]:
    """The depth that a client gets, and the one that is subscribed to."""
    if not streamed:
        raise NotSupported(f"{provider} does not stream these order books")
    most = max(streamed)
    depth = min(_DEFAULT_DEPTH, most) if wanted is None else wanted
    if not 1 <= depth <= most:
        raise InvalidArgument(
            f"depth {depth} is not between 1 and {most}",
            suggestions=(f"give a depth up to {most}",),
            depth=depth,
        )
    return depth, min(one for one in streamed if one >= depth)
