"""Why candles are absent that the exchange answered for: what trades and other markets tell. Pure, columnar.

A slot is the open time of one missing candle. Nothing here is a guess about prices: evidence only says
whether a slot is empty because nobody traded, because the venue stood still, or against what is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from zvt_crypto.quality.gaps import ABSENT, CONTRADICTED, KINDS, NO_TRADE, OUTAGE, Array, Gaps

#: So many markets of a venue that usually have every candle do not all stop trading at once.
MANY: Final = 3
#: Candles by whose number it is told whether a market usually has every candle.
_BUCKET: Final = 60


@dataclass(frozen=True, eq=False, slots=True)
class TradesSeen:
    """Recorded trades of the market itself, one entry for each slot.

    Attributes:
        is_covered: Whether the exchange answered for the trades of the whole slot.
        count: Recorded trades in it.
    """

    is_covered: Array
    count: Array


@dataclass(frozen=True, eq=False, slots=True)
class Witness:
    """Another market, one entry for each slot.

    Attributes:
        venue: Its exchange.
        is_answered: Whether its exchange answered for the slot, and the market was listed.
        has_candle: Whether a candle of it is recorded.
        fill: Share of its candles that it usually has, see ``usual_fill``; where it is 1, a missing one says
            something.
    """

    venue: str
    is_answered: Array
    has_candle: Array
    fill: float


@dataclass(frozen=True, eq=False, slots=True)
class Seen:
    """All evidence about some slots.

    Attributes:
        slots: Their times, epoch ms, ascending.
        trades: None where no trades of the market are recorded.
        peers: Other markets of the same venue.
        elsewhere: The same instrument at other venues.
        fill: Share of its candles that the market itself usually has, see ``usual_fill``.
    """

    slots: Array
    trades: TradesSeen | None
    peers: Sequence[Witness]
    elsewhere: Sequence[Witness]
    fill: float


def usual_fill(bucket_counts: Array) -> float:
    """Share of the candles that a market usually has: the median of its hours of sixty candles.

    Long holes do not count, as an hour without any candle is not among them; nor do the first and last one,
    which may be known in part.

    Args:
        bucket_counts: Candles of each stretch of ``bucket_ms`` that has any, by time.

    Returns:
        A share up to 1; NaN where there are too few candles to tell.
    """
    whole = bucket_counts[1:-1]
    return float(np.median(whole)) / _BUCKET if len(whole) else float("nan")


def bucket_ms(step: int) -> int:
    """Length of the stretches whose candles ``usual_fill`` takes, in ms."""
    return _BUCKET * step


def judge(seen: Seen) -> Array:
    """The kind of each slot, as its position in ``KINDS``.

    ``CONTRADICTED`` where trades are recorded. ``OUTAGE`` where no recorded market of the venue has a candle
    and either another venue has one, while this market or another one of the venue usually has every candle,
    or ``MANY`` such markets of the venue lack it. ``NO_TRADE`` where the trades are recorded and there are
    none, or the market is thin and others of the venue have candles. ``ABSENT`` where nothing tells.
    """
    size = len(seen.slots)
    none, zero = np.zeros(size, bool), np.zeros(size, np.int64)
    trades = seen.trades or TradesSeen(none, zero)
    here = _any(seen.peers, size)
    elsewhere = _any(seen.elsewhere, size)
    stopped = sum((_lacks(peer) for peer in seen.peers if peer.fill >= 1), start=zero)
    told = (stopped >= 1) | (seen.fill >= 1)
    is_outage = ~here & ((elsewhere & told) | (stopped >= MANY))
    is_quiet = trades.is_covered | (here & (seen.fill < 1))
    conditions = [trades.count > 0, is_outage, is_quiet]
    kinds = [KINDS.index(kind) for kind in (CONTRADICTED, OUTAGE, NO_TRADE)]
    return np.select(conditions, kinds, default=KINDS.index(ABSENT))


def pieces(gaps: Gaps, seen: Seen) -> tuple[Gaps, Array]:
    """Gaps cut where the verdict on their slots changes, and the position of each piece's first slot.

    Args:
        gaps: The gaps whose ``opens()`` are the slots.
        seen: The evidence.
    """
    assert isinstance(gaps.step, int)
    code = judge(seen)
    owner = np.repeat(np.arange(len(gaps)), gaps.missing)
    changes = np.ones(len(code), bool)
    changes[1:] = (code[1:] != code[:-1]) | (owner[1:] != owner[:-1])
    first = np.flatnonzero(changes)
    last = np.append(first[1:], len(code)) - 1
    return Gaps(seen.slots[first], seen.slots[last] + gaps.step, code[first], gaps.step), first


def facts(seen: Seen, first: Array) -> list[list[dict[str, Any]]]:
    """What the evidence says about each piece of ``pieces``, machine-readable."""
    if not len(first):
        return []
    usual = None if np.isnan(seen.fill) else round(seen.fill, 3)
    found: list[list[dict[str, Any]]] = [[{"usual_fill": usual}] for _ in first]
    _tell_trades(found, seen.trades, first)
    _tell_elsewhere(found, seen.elsewhere, first)
    _tell_peers(found, seen.peers, first)
    return found


def _tell_trades(found: list[list[dict[str, Any]]], trades: TradesSeen | None, first: Array) -> None:
    if trades is None:
        return
    covered = np.logical_and.reduceat(trades.is_covered, first).tolist()
    counts = np.add.reduceat(trades.count, first).tolist()
    for entry, is_covered, count in zip(found, covered, counts, strict=True):
        entry.append({"trades_covered": is_covered, "trades": count})


def _tell_elsewhere(found: list[list[dict[str, Any]]], elsewhere: Sequence[Witness], first: Array) -> None:
    for witness in elsewhere:
        asked = np.logical_or.reduceat(witness.is_answered, first).tolist()
        candles = np.add.reduceat(witness.has_candle.astype(np.int64), first).tolist()
        for entry, was_asked, count in zip(found, asked, candles, strict=True):
            if was_asked or count:
                entry.append({"second_venue": witness.venue, "candles": count})


def _tell_peers(found: list[list[dict[str, Any]]], peers: Sequence[Witness], first: Array) -> None:
    asked, lacking = (np.zeros(len(first), np.int64) for _ in range(2))
    for peer in peers:
        was_asked = np.logical_or.reduceat(peer.is_answered, first)
        asked += was_asked
        lacking += was_asked & ~np.logical_or.reduceat(peer.has_candle, first)
    for entry, count, of in zip(found, lacking.tolist(), asked.tolist(), strict=True):
        if of:
            entry.append({"same_venue_missing": [count, of]})


def _any(witnesses: Sequence[Witness], size: int) -> Array:
    found = np.zeros(size, bool)
    for witness in witnesses:
        found |= witness.has_candle
    return found


def _lacks(witness: Witness) -> Array:
    lacks: Array = (witness.is_answered & ~witness.has_candle).astype(np.int64)
    return lacks
