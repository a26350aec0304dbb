"""One codec between any notation of a market and our code and entity id.

``code`` is base + quote in lower case (``btcusdt``); a perpetual settled in another currency than its
quote carries the settlement too (``btcusd-btc``). ``entity_id`` is ``{entity_type}_{exchange}_{code}``.
zvt splits ids at ``_`` and drops what is left over, so the characters that have a meaning in ids and
notations are percent-encoded inside a currency's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from zvt_crypto.core.errors import InvalidArgument, SymbolMappingError
from zvt_crypto.core.levels import parse_time

EntityType = Literal["cryptoasset", "cryptopair", "cryptoperp"]
PAIR: Final = "cryptopair"
PERP: Final = "cryptoperp"
ASSET: Final = "cryptoasset"

_RESERVED = re.compile(r"[%_\-/:\s]")
_PERP_SUFFIX = re.compile(r"[-_](perp|swap)$")


@dataclass(frozen=True, slots=True)
class Market:
    """A market's currencies as the venue writes them; ``settle`` is None for spot."""

    base: str
    quote: str
    settle: str | None = None

    @property
    def entity_type(self) -> str:
        """``cryptopair`` for spot, ``cryptoperp`` for a perpetual."""
        return PAIR if self.settle is None else PERP

    @property
    def code(self) -> str:
        """Our code of the market, such as ``btcusdt`` or ``btcusd-btc``."""
        code = _encode(self.base) + _encode(self.quote)
        if self.settle is not None and self.settle.lower() != self.quote.lower():
            code += "-" + _encode(self.settle)
        return code

    @property
    def symbol(self) -> str:
        """Unified symbol of ccxt, such as ``BTC/USDT`` or ``BTC/USD:BTC``."""
        pair = f"{self.base}/{self.quote}"
        return pair if self.settle is None else f"{pair}:{self.settle}"


@dataclass(frozen=True, slots=True)
class Notation:
    """What a user's text can mean: codes in order of preference, and the entity type if the text tells."""

    text: str
    codes: tuple[str, ...]
    entity_type: str | None


def entity_id(entity_type: str, exchange: str, code: str) -> str:
    """``{entity_type}_{exchange}_{code}``.

    Raises:
        SymbolMappingError: A part contains ``_`` or is empty, so the id could not be taken apart again.
    """
    for part in (entity_type, exchange, code):
        if not part or "_" in part:
            raise SymbolMappingError(f"{part!r} cannot be part of an entity id", value=part)
    return f"{entity_type}_{exchange}_{code}"


def split_entity_id(text: str) -> tuple[str, str, str]:
    """Entity type, exchange and code of an entity id; the inverse of ``entity_id``.

    Raises:
        SymbolMappingError: The text is not an entity id.
    """
    parts = text.split("_")
    if len(parts) != 3 or not all(parts):
        raise SymbolMappingError(
            f"{text!r} is not an entity id",
            suggestions=("write it as {entity type}_{exchange}_{code}, such as cryptopair_binance_btcusdt",),
            value=text,
        )
    return parts[0], parts[1], parts[2]


def split_row_id(text: str) -> tuple[str, int] | None:
    """Entity id and time (epoch ms) of a series row's id ``{entity_id}_{time}``, the time in any notation.

    Returns:
        None where the text ends with no time.
    """
    owner, _, when = text.rpartition("_")
    try:
        return (owner, parse_time(when)) if owner else None
    except InvalidArgument:
        return None


def split_key_id(text: str) -> tuple[str, str] | None:
    """Entity id and key of the id ``{entity_id}_{key}`` of a row whose table has keys, such as trades.

    Returns:
        None where the text has no key.
    """
    parts = text.split("_", 3)
    return ("_".join(parts[:3]), parts[3]) if len(parts) == 4 else None


def parse_symbol(symbol: str) -> Market:
    """The market of a ccxt unified symbol.

    Raises:
        SymbolMappingError: The text is not ``BASE/QUOTE`` or ``BASE/QUOTE:SETTLE``.
    """
    match = re.fullmatch(r"([^/]+)/([^/:]+)(?::([^/:]+))?", symbol)
    if match is None:
        raise SymbolMappingError(
            f"{symbol!r} is not a unified symbol",
            suggestions=("write it as BTC/USDT (spot) or BTC/USDT:USDT (perpetual)",),
            value=symbol,
        )
    return Market(*match.groups())


def parse_notation(text: str) -> Notation:
    """Read what a user may write for a market.

    ``btcusdt``, ``BTC/USDT``, ``BTC-USDT``, ``BTC_USDT``, ``BTCUSDT``, ``btcusdt-perp``, ``BTC-USDT-SWAP``,
    ``BTC/USDT:USDT``, ``btcusd-btc`` and an entity id are all understood. Only the venue's own list of
    markets can tell some of them apart (``btcusd-btc``: a code, or base ``btcusd`` over quote ``btc``), so
    the result holds the possible codes, the likeliest first.

    Raises:
        SymbolMappingError: The text is empty.
    """
    wanted = text.strip()
    if not wanted:
        raise SymbolMappingError("an empty text names no market", suggestions=("write for example btcusdt",))
    if wanted.startswith((f"{PAIR}_", f"{PERP}_", f"{ASSET}_")):
        entity_type, _, code = split_entity_id(wanted)
        return Notation(text, (code,), entity_type)
    if "/" in wanted:
        market = parse_symbol(wanted)
        return Notation(text, (market.code,), PERP if market.settle else None)
    lower = wanted.lower()
    stripped = _PERP_SUFFIX.sub("", lower)
    entity_type_or_none = PERP if stripped != lower else None
    joined = re.sub(r"[-_]", "", stripped)
    codes = [stripped, joined] if "_" not in stripped else [joined]
    if entity_type_or_none and lower.endswith("swap") and stripped.count("-") == 1:
        base, quote = stripped.split("-")
        # OKX writes coin-margined swaps without their settlement: BTC-USD-SWAP is settled in BTC.
        codes.append(f"{base}{quote}-{base}")
    return Notation(text, tuple(dict.fromkeys(codes)), entity_type_or_none)


def _encode(currency: str) -> str:
    return _RESERVED.sub(lambda match: f"%{ord(match[0]):02x}", currency.lower())
