"""What ``/ws`` answers to requests that ask for no WebSocket."""

from __future__ import annotations

from flask import Blueprint, Response

from zvt_crypto.server.errors import error_response


def live_views() -> Blueprint:
    """The view of ``/ws``, which is not part of the API: connections that are upgraded never reach it."""
    live = Blueprint("live", __name__)

    @live.get("/ws")
    def upgrade() -> Response:
        answer = error_response(
            426,
            "CRYPTO_UPGRADE_REQUIRED",
            "/ws is for WebSocket connections",
            {},
            ("connect with a WebSocket client to ws://<host>/ws",),
        )
        answer.headers["Upgrade"] = "websocket"
        answer.headers["Connection"] = "Upgrade"
        return answer

    return live
