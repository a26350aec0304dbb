"""Answers to requests that never reach the application, in the form of its own failures."""

from __future__ import annotations

from typing import Final, NamedTuple

import orjson

from zvt_crypto.server.failures import failure, new_trace_id

#: Seconds after which a client may ask a busy server again.
BUSY_SECONDS: Final = 1


class Refusal(NamedTuple):
    """What a refused client is told; see "Comprehensive Error Response Format" of ``crypto-api.md``."""

    status: int
    code: str
    message: str
    suggestion: str

    def headers_and_body(self) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """The connection ends with the answer: what else the client has sent is not looked at."""
        trace_id = new_trace_id()
        body = orjson.dumps({"error": failure(self.code, self.message, {}, [self.suggestion], trace_id)})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            (b"x-content-type-options", b"nosniff"),
            (b"x-trace-id", trace_id.encode()),
        ]
        if self.status == BUSY.status:
            headers.append((b"retry-after", str(BUSY_SECONDS).encode()))
        return headers, body


BUSY: Final = Refusal(
    503, "CRYPTO_SERVER_BUSY", "the server has as many requests as it may", "ask again in a second"
)
BODY_TOO_LARGE: Final = Refusal(
    413, "CRYPTO_REQUEST_TOO_LARGE", "the request's body is larger than 1 MiB", "send less at once"
)
TARGET_TOO_LONG: Final = Refusal(
    414,
    "CRYPTO_REQUEST_TOO_LARGE",
    "the request's URL is longer than 64 KiB",
    "name fewer codes or entity ids, and leave them out for all",
)
HEADERS_TOO_LARGE: Final = Refusal(
    431, "CRYPTO_REQUEST_TOO_LARGE", "the request's headers are larger than 64 KiB", "send fewer headers"
)
TOO_SLOW: Final = Refusal(
    408, "CRYPTO_REQUEST_TIMEOUT", "the request did not arrive in time", "send it at once, then wait"
)
NO_SUCH_PATH: Final = Refusal(404, "CRYPTO_NOT_FOUND", "WebSocket is served at /ws only", "connect to /ws")
NOT_WEBSOCKET: Final = Refusal(
    400, "CRYPTO_INVALID_REQUEST", "the request is no WebSocket handshake", "connect with a WebSocket client"
)
ORIGIN_REFUSED: Final = Refusal(
    403,
    "CRYPTO_ORIGIN_REFUSED",
    "pages of this origin may not read the server's streams",
    "add the origin to the setting cors_origins, and start the server anew",
)
NOT_HTTP: Final = Refusal(
    400, "CRYPTO_INVALID_REQUEST", "the request is not HTTP/1.1", "send it with an HTTP client"
)
