"""Failures that a server tells of, as the errors that the local call would raise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zvt_crypto.core.errors import RateLimitExceeded, ZvtCryptoError


def error_of(told: Mapping[str, Any], **details: Any) -> ZvtCryptoError:
    """The error that a server's ``error`` tells of.

    Args:
        told: See "Comprehensive Error Response Format" of ``crypto-api.md``.
        **details: Further facts.

    Raises:
        ValueError: It is not of that form.
    """
    try:
        code, message = str(told["code"]), str(told["message"])
        suggestions = tuple(map(str, told["recovery_suggestions"]))
        facts = {str(name): value for name, value in told["details"].items()} | details
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an error as a server tells it: {error}") from error
    kind = _classes().get(code, ZvtCryptoError)
    # Some classes make their own message of what an exchange said.
    found = kind.__new__(kind)
    ZvtCryptoError.__init__(found, message)
    found.suggestions, found.details = suggestions, facts | {"trace_id": told.get("trace_id")}
    if isinstance(found, RateLimitExceeded):
        found.retry_after = facts.get("retry_after_seconds")
    return found


def _classes() -> dict[str, type[ZvtCryptoError]]:
    """Our error classes by code."""
    found: dict[str, type[ZvtCryptoError]] = {}
    waiting = [ZvtCryptoError]
    while waiting:
        kind = waiting.pop()
        if "code" in vars(kind):
            found[kind.code] = kind
        waiting += kind.__subclasses__()
    return found
