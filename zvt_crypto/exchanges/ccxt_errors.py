"""ccxt's errors and bad HTTP answers as ours: one table, for all venues.

Classes of ccxt are looked up by name, the class itself before its parents, so nothing here imports ccxt.
Where a venue's answer says more than the class that ccxt chose for it, its words decide.
"""

from __future__ import annotations

import asyncio
import email.utils
import re
import time
from collections.abc import Iterable, Mapping
from typing import Final

from zvt_crypto.core.errors import (
    AuthError,
    ClockSkew,
    ConfigError,
    ExchangeMaintenance,
    NotSupported,
    PairNotFound,
    ProviderUnavailable,
    RateLimitExceeded,
    RegionBlocked,
    ZvtCryptoError,
    unknown_value,
)
from zvt_crypto.exchanges.headers import header

_BY_CLASS: Final[dict[str, type[ZvtCryptoError]]] = {
    "BadSymbol": PairNotFound,
    "ContractUnavailable": PairNotFound,
    "OnMaintenance": ExchangeMaintenance,
    "InvalidNonce": ClockSkew,
    "RateLimitExceeded": RateLimitExceeded,
    "DDoSProtection": RateLimitExceeded,
    "RestrictedLocation": RegionBlocked,
    "AuthenticationError": AuthError,
    "InvalidProxySettings": ConfigError,
    "BadRequest": NotSupported,
    "ArgumentsRequired": NotSupported,
    "OperationRejected": NotSupported,
    "NotSupported": NotSupported,
    "BaseError": ProviderUnavailable,
}

#: The last one is the page of the network in front of Bybit and others.
_RESTRICTED: Final = (
    r"restricted location|not available in your (country|region)|block access from your country"
    r"|services are currently unavailable in"
)

_BY_WORDS: Final[tuple[tuple[re.Pattern[str], type[ZvtCryptoError]], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (_RESTRICTED, RegionBlocked),
        (r"maintenance|system upgrad", ExchangeMaintenance),
        # okx 50026, which ccxt takes for a bad request
        (r"system error", ProviderUnavailable),
        (r'too many (visits|requests)|"code"\s*:\s*"?429000', RateLimitExceeded),
        # bybit, coinbase, kraken, kucoin: ccxt has BadRequest or ExchangeError for these
        (r"symbol invalid|valid product_id|Unknown asset pair|\"code\"\s*:\s*\"900001", PairNotFound),
        # coinbase's words in the answer with the status 404
        (r"product \S+ not supported", PairNotFound),
        # kraken's futures
        (r"invalidArgument: symbol|Contract does not exist", PairNotFound),
        # bitget's code for a symbol that does not exist
        (r"\"code\"\s*:\s*\"40034\"", PairNotFound),
        # crypto.com's, with the code 40004 (a wrong parameter)
        (r"invalid instrument_name", PairNotFound),
        # kucoin's words for it, with the codes 400100 (a wrong parameter) and 404000 (a wrong path)
        (r"pair is not provided|contract information you requested does not exist", PairNotFound),
    )
)

_PHRASE: Final[dict[type[ZvtCryptoError], str]] = {
    ExchangeMaintenance: "is in maintenance",
    ClockSkew: "rejects this machine's time",
    RateLimitExceeded: "refuses more requests for now",
    RegionBlocked: "does not serve this country",
    AuthError: "refuses the credentials",
    NotSupported: "refuses this request",
    ProviderUnavailable: "cannot be reached or gives no usable answer",
    ConfigError: "cannot be called with these proxy settings",
}

_LONGEST: Final = 200
_VENUE_WORDS = re.compile(r'"(?:msg|message|retMsg|error_description)"\s*:\s*"((?:[^"\\]|\\.)+)"')
_BANNED_UNTIL = re.compile(r"banned until (\d{13})")
#: Bybit's answer to an address that it bans, which it says takes ten minutes at least.
_TOO_FREQUENT = re.compile(r"access too frequent", re.IGNORECASE)
_TOO_FREQUENT_SECONDS: Final = 600.0


def our_error(
    error: Exception, exchange: str, subject: str | None = None, known: Iterable[str] = ()
) -> ZvtCryptoError:
    """Our error for one of ccxt's.

    Args:
        error: What ccxt raised.
        exchange: ccxt's id of the exchange, for the message.
        subject: The unified symbol that was asked for, if any.
        known: The venue's symbols as far as they are loaded, to name the nearest ones.

    Returns:
        The error, to be raised ``from error`` by the caller.
    """
    kind = _kind(error)
    if kind is PairNotFound and subject:
        return unknown_value(f"{exchange} symbol", subject, known, error=PairNotFound)
    about = f" ({subject})" if subject else ""
    phrase = _PHRASE.get(kind, "answers with an error")
    return kind(f"{exchange} {phrase}{about}: {_words(error)}", exchange=exchange, subject=subject)


def refusal(exchange: str, status: int, headers: Mapping[str, str], body: str) -> ZvtCryptoError | None:
    """The error that a status, or 403 and the body, stand for: a rate limit, a ban, a blocked region.

    None for everything else.
    """
    forbidden = status == 403
    if status == 451 or (forbidden and re.search(_RESTRICTED, body, re.IGNORECASE)):
        return RegionBlocked(
            f"{exchange} does not serve this country (HTTP {status}): {readable(body)}",
            exchange=exchange,
            status=status,
        )
    if status in (418, 429) or (forbidden and _TOO_FREQUENT.search(body)):
        return RateLimitExceeded(
            f"{exchange} refuses more requests for now (HTTP {status}): {readable(body)}",
            retry_after=_retry_after(headers, body),
            exchange=exchange,
            status=status,
        )
    return None


def no_answer(exchange: str, status: int, reason: str | None, body: str) -> ProviderUnavailable:
    """The error for an answer that is not JSON, or has a status that ccxt does not know."""
    kind = ExchangeMaintenance if re.search(r"maintenance", body, re.IGNORECASE) else ProviderUnavailable
    what = f"answers HTTP {status} {reason or ''}".rstrip()
    if status < 400:
        what = f"sends something that is not JSON (HTTP {status})"
    return kind(f"{exchange} {what}: {readable(body)}", exchange=exchange, status=status)


def readable(text: str) -> str:
    """A text on one line, without markup and query strings (they may hold keys), at most 200 long."""
    words = _VENUE_WORDS.search(text)
    plain = words[1] if words else re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL)
    plain = re.sub(r"\?\S*=\S*", "", plain)
    plain = " ".join(plain.split())
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 3] + "..." if plain else "(nothing)"


def _kind(error: Exception) -> type[ZvtCryptoError]:
    text = str(error)
    for pattern, kind in _BY_WORDS:
        if pattern.search(text):
            return kind
    for ancestor in type(error).__mro__:
        if ancestor.__name__ in _BY_CLASS:
            return _BY_CLASS[ancestor.__name__]
    return ProviderUnavailable


def _words(error: Exception) -> str:
    if type(error).__name__ == "RequestTimeout" and isinstance(error.__cause__, asyncio.TimeoutError):
        return "no answer in time"
    if error.__cause__ is not None and str(error.__cause__):
        return readable(str(error.__cause__))
    return readable(str(error))


def _retry_after(headers: Mapping[str, str], body: str) -> float | None:
    """Seconds to wait, from the header (RFC 9110: seconds or a date), kucoin's own, or a ban's words.

    The header comes first, as seconds need no agreement of clocks.
    """
    value = header(headers, "retry-after")
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    reset = header(headers, "gw-ratelimit-reset")
    if not value and reset.isdigit():
        return int(reset) / 1000
    banned = _BANNED_UNTIL.search(body)
    if banned:
        return max(int(banned[1]) / 1000 - time.time(), 1.0)
    if not value and _TOO_FREQUENT.search(body):
        return _TOO_FREQUENT_SECONDS
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(moment.timestamp() - time.time(), 1.0)
