"""Every error this package raises, grouped by what the caller can do about it.

ZvtCryptoError
├── RetriableError          the same call may succeed later
│   ├── ProviderUnavailable     CRYPTO_PROVIDER_UNAVAILABLE    503
│   │   └── ExchangeMaintenance CRYPTO_EXCHANGE_MAINTENANCE    503
│   ├── RateLimitExceeded       CRYPTO_RATE_LIMIT_EXCEEDED     429
│   ├── ClockSkew               CRYPTO_CLOCK_SKEW              503
│   ├── StreamDisconnected      CRYPTO_WEBSOCKET_DISCONNECTED  503
│   ├── OrderBookDesync         CRYPTO_ORDERBOOK_DESYNC        503
│   └── StoreBusy               CRYPTO_STORE_BUSY              503
├── SkippableError          this symbol or page cannot be had; the rest goes on
│   ├── PairNotFound            CRYPTO_PAIR_NOT_FOUND          404
│   ├── SymbolMappingError      CRYPTO_SYMBOL_MAPPING_ERROR    400
│   ├── DataQualityFailure      CRYPTO_DATA_QUALITY_FAILURE    422
│   ├── ArchiveUnusable         CRYPTO_ARCHIVE_UNUSABLE        502
│   └── NotSupported            CRYPTO_NOT_SUPPORTED           501
└── FatalError              nothing sensible can follow before a person acts
    ├── InvalidArgument         CRYPTO_INVALID_ARGUMENT        400
    ├── ConfigError             CRYPTO_CONFIG_INVALID          400
    ├── AuthError               CRYPTO_AUTH_FAILED             401
    ├── RegionBlocked           CRYPTO_REGION_BLOCKED          451
    ├── StoreFull               CRYPTO_STORE_FULL              507
    ├── StoreCorrupt            CRYPTO_STORE_CORRUPT           500
    └── BrokenInstall           CRYPTO_BROKEN_INSTALL          500

Codes and HTTP statuses follow ``crypto-api.md`` ("Crypto-Specific Error Codes") where it names one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar, Final

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_MISUSE: Final = 2
EXIT_PARTIAL: Final = 3


class ZvtCryptoError(Exception):
    """Base of all errors of this package.

    Args:
        message: One line for a person: what is wrong, and with which value.
        suggestions: What to do next, one action each.
        **details: Machine-readable facts (provider, symbol, retry_after_seconds, ...).
    """

    code: ClassVar[str] = "CRYPTO_ERROR"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = EXIT_FAILED
    default_suggestions: ClassVar[tuple[str, ...]] = ()

    def __init__(self, message: str, *, suggestions: Iterable[str] = (), **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.suggestions = tuple(suggestions) or self.default_suggestions
        self.details = details

    def one_line(self) -> str:
        """Message and next steps on one line, as shown to a person."""
        text = self.message.rstrip(".")
        return f"{text}. {'; '.join(self.suggestions)}" if self.suggestions else text

    def as_dict(self) -> dict[str, Any]:
        """Code, message, details and recovery suggestions, as ``crypto-api.md`` shapes an error."""
        return {
            "code": self.code,
            "message": self.message,
            "details": self.details,
            "recovery_suggestions": list(self.suggestions),
        }


class RetriableError(ZvtCryptoError):
    """The same call may succeed later."""


class SkippableError(ZvtCryptoError):
    """This symbol or page cannot be had; the others can."""


class FatalError(ZvtCryptoError):
    """Nothing sensible can follow before a person acts."""


class ProviderUnavailable(RetriableError):
    """The exchange cannot be reached, is too slow, or answers something that is no answer."""

    code = "CRYPTO_PROVIDER_UNAVAILABLE"
    http_status = 503
    default_suggestions = (
        "check the network and the exchange's status page, then run the same command again",
    )


class ExchangeMaintenance(ProviderUnavailable):
    """The exchange says that it is in maintenance."""

    code = "CRYPTO_EXCHANGE_MAINTENANCE"
    default_suggestions = ("wait for the exchange's maintenance to end, then run the same command again",)


class RateLimitExceeded(RetriableError):
    """The exchange refuses more requests for now; ``retry_after`` says for how many seconds, if it told."""

    code = "CRYPTO_RATE_LIMIT_EXCEEDED"
    http_status = 429

    def __init__(self, message: str, *, retry_after: float | None = None, **details: Any) -> None:
        wait = f"wait {retry_after:.0f} seconds" if retry_after else "wait a minute"
        suggestions = (f"{wait}, then run the same command again; only what is missing is fetched",)
        super().__init__(message, suggestions=suggestions, retry_after_seconds=retry_after, **details)
        self.retry_after = retry_after


class ClockSkew(RetriableError):
    """The exchange rejects this machine's time."""

    code = "CRYPTO_CLOCK_SKEW"
    http_status = 503
    default_suggestions = (
        "set the system clock (for example with NTP) and check it with `zvt-crypto doctor`",
    )


class StreamDisconnected(RetriableError):
    """A WebSocket connection is lost, cannot be made, or says nothing although it should."""

    code = "CRYPTO_WEBSOCKET_DISCONNECTED"
    http_status = 503
    default_suggestions = (
        "wait: lost connections are made anew, and what they missed is fetched",
        "check the network and the exchange's status page if it goes on",
    )


class OrderBookDesync(RetriableError):
    """An order book has lost a change, so that what is known of it is not the exchange's book."""

    code = "CRYPTO_ORDERBOOK_DESYNC"
    http_status = 503
    default_suggestions = ("wait a few seconds: the book is fetched anew",)


class StoreBusy(RetriableError):
    """Another process holds the database longer than we are willing to wait."""

    code = "CRYPTO_STORE_BUSY"
    http_status = 503
    default_suggestions = ("end the other program that writes to this file, then run the same command again",)


class PairNotFound(SkippableError):
    """The exchange does not list this pair, or it has not been recorded yet."""

    code = "CRYPTO_PAIR_NOT_FOUND"
    http_status = 404
    exit_code = EXIT_MISUSE


class SymbolMappingError(SkippableError):
    """A symbol does not map to exactly one market."""

    code = "CRYPTO_SYMBOL_MAPPING_ERROR"
    http_status = 400
    exit_code = EXIT_MISUSE


class DataQualityFailure(SkippableError):
    """The exchange's rows cannot be true, or its pages repeat."""

    code = "CRYPTO_DATA_QUALITY_FAILURE"
    http_status = 422
    default_suggestions = ("run the same command again; rows that passed the checks are stored already",)


class ArchiveUnusable(SkippableError):
    """A file of a public archive is missing, or is not what its checksum and name say."""

    code = "CRYPTO_ARCHIVE_UNUSABLE"
    http_status = 502
    default_suggestions = ("nothing needs to be done: its rows are asked for page by page",)


class NotSupported(SkippableError):
    """The venue, or this version, cannot do what was asked."""

    code = "CRYPTO_NOT_SUPPORTED"
    http_status = 501
    exit_code = EXIT_MISUSE


class InvalidArgument(FatalError):
    """An argument has a value that is not allowed."""

    code = "CRYPTO_INVALID_ARGUMENT"
    http_status = 400
    exit_code = EXIT_MISUSE


class ConfigError(FatalError):
    """A setting is missing or wrong."""

    code = "CRYPTO_CONFIG_INVALID"
    http_status = 400
    exit_code = EXIT_MISUSE


class AuthError(FatalError):
    """The exchange refuses the credentials."""

    code = "CRYPTO_AUTH_FAILED"
    http_status = 401


class RegionBlocked(FatalError):
    """The exchange does not serve this country (HTTP 451)."""

    code = "CRYPTO_REGION_BLOCKED"
    http_status = 451
    default_suggestions = (
        "record from another provider, or send the calls through a gateway of yours (ZVT_CRYPTO_GATEWAY)",
    )


class StoreFull(FatalError):
    """The disk has no room for the page; what was committed before is kept."""

    code = "CRYPTO_STORE_FULL"
    http_status = 507
    default_suggestions = (
        "free disk space, then run the same command again; only what is missing is fetched",
    )


class StoreCorrupt(FatalError):
    """The database file is damaged or is not one of ours."""

    code = "CRYPTO_STORE_CORRUPT"
    http_status = 500
    default_suggestions = ("move the file away (or restore a copy) and record again",)


class BrokenInstall(FatalError):
    """An installed package does not work as published."""

    code = "CRYPTO_BROKEN_INSTALL"
    default_suggestions = ("run `zvt-crypto doctor` and follow what it says",)


def unknown_value(
    what: str, value: object, allowed: Iterable[str], *, error: type[ZvtCryptoError] = InvalidArgument
) -> ZvtCryptoError:
    """An error that names the value, the nearest allowed ones first, and all of them if they are few.

    Args:
        what: The argument's name for a person, such as ``"provider"``.
        value: What was given.
        allowed: All allowed values.
        error: The class to make.

    Returns:
        The error, to be raised by the caller.
    """
    known = sorted(set(allowed))
    near = difflib.get_close_matches(str(value), known, n=3, cutoff=0.5)
    suggestions = []
    if near:
        suggestions.append(f"did you mean {', '.join(near)}?")
    if known and len(known) <= 20:
        suggestions.append(f"allowed: {', '.join(known)}")
    return error(f"unknown {what} {str(value)!r}", suggestions=suggestions, value=str(value), nearest=near)
