"""The body of "Comprehensive Error Response Format" of ``crypto-api.md``, over HTTP and WebSocket alike."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from zvt_crypto.core.config import Settings
from zvt_crypto.core.errors import ZvtCryptoError
from zvt_crypto.core.levels import iso
from zvt_crypto.server.clock import now_ms


def new_trace_id() -> str:
    """An id by which an answer is found in the log."""
    return uuid.uuid4().hex


def failure(
    code: str, message: str, details: Mapping[str, Any], suggestions: Iterable[str], trace_id: str
) -> dict[str, Any]:
    """What a client is told of a failure."""
    return {
        "code": code,
        "message": message,
        "details": details,
        "recovery_suggestions": list(suggestions),
        "timestamp": iso(now_ms()),
        "trace_id": trace_id,
    }


def failure_of(error: ZvtCryptoError, settings: Settings, trace_id: str) -> dict[str, Any]:
    """As ``failure``; where files lie on the server is none of a client's business."""
    return failure(
        error.code,
        without_paths(error.message, settings),
        {name: without_paths(value, settings) for name, value in error.details.items()},
        (without_paths(text, settings) for text in error.suggestions),
        trace_id,
    )


def without_paths(value: Any, settings: Settings) -> Any:
    """A text without the data folder; what is no text stays as it is."""
    folder = str(settings.data_path)
    return (
        value.replace(folder + os.sep, "").replace(folder, "the data folder")
        if isinstance(value, str)
        else value
    )
