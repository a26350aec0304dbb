"""Answers that are no rows."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Response


def json_body(value: Any, status: int = 200) -> Response:
    """A value as JSON, its keys in the order given, not to be kept by anyone."""
    answer = Response(orjson.dumps(value), status, content_type="application/json")
    answer.headers["Cache-Control"] = "no-store"
    return answer
