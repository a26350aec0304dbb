"""Every failure as the error body of ``crypto-api.md`` ("Comprehensive Error Response Format")."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final, get_type_hints

import orjson
from flask import Flask, Response, current_app, g, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException

from zvt_crypto.core.errors import InvalidArgument, ZvtCryptoError
from zvt_crypto.server.failures import failure, failure_of, new_trace_id
from zvt_crypto.server.services import services

logger = logging.getLogger(__name__)

_CRASH: Final = "CRYPTO_INTERNAL_ERROR"
_HTTP_CODES: Final = {
    404: "CRYPTO_NOT_FOUND",
    405: "CRYPTO_METHOD_NOT_ALLOWED",
    406: "CRYPTO_NOT_ACCEPTABLE",
    413: "CRYPTO_REQUEST_TOO_LARGE",
    414: "CRYPTO_REQUEST_TOO_LARGE",
    415: "CRYPTO_UNSUPPORTED_MEDIA_TYPE",
    429: "CRYPTO_RATE_LIMIT_EXCEEDED",
}
_HTTP_ADVICE: Final = {
    404: "see /openapi.json for what there is",
    405: "see /openapi.json for the methods of each path",
    406: "leave the Accept header out, or say format=json",
    429: "wait as long as Retry-After says",
}
#: So much of a text that a client sent is told back to it.
_SHOWN: Final = 80
#: So many names of unknown parameters are told.
_NAMES_SHOWN: Final = 10


def trace_id() -> str:
    """The id of the request under way, in its answer and in the log."""
    if "trace_id" not in g:
        g.trace_id = new_trace_id()
    return str(g.trace_id)


def register_errors(app: Flask) -> None:
    """Answer every failure of an application in our form; of a crash only its id leaves the process."""

    @app.errorhandler(ZvtCryptoError)
    def ours(error: ZvtCryptoError) -> Response:
        level = logging.ERROR if error.http_status >= 500 else logging.INFO
        logger.log(
            level, "%s %s %r: %s %s", trace_id(), request.method, request.path, error.code, error.message
        )
        return _answer(error.http_status, failure_of(error, services().settings, trace_id()))

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        status = error.code or 500
        answer = error_response(
            status,
            _HTTP_CODES.get(status, "CRYPTO_HTTP_ERROR" if status < 500 else _CRASH),
            str(error.description or error.name),
            {},
            [_HTTP_ADVICE[status]] if status in _HTTP_ADVICE else [],
        )
        # Allow of 405, Retry-After of 429.
        for name, value in error.get_headers():
            if name not in ("Content-Type", "Content-Length"):
                answer.headers[name] = value
        return answer

    @app.errorhandler(Exception)
    def crash(error: Exception) -> Response:
        logger.error("%s %s %r: unexpected error", trace_id(), request.method, request.path, exc_info=error)
        advice = ["report it with the trace_id; the log of the server tells more"]
        return error_response(500, _CRASH, "the server failed to answer this request", {}, advice)


def error_response(
    status: int, code: str, message: str, details: Mapping[str, Any], suggestions: Iterable[str]
) -> Response:
    """An answer that tells of a failure."""
    return _answer(status, failure(code, message, details, suggestions, trace_id()))


def _answer(status: int, told: Mapping[str, Any]) -> Response:
    body = orjson.dumps({"error": told}, default=str)
    answer = Response(body, status, content_type="application/json")
    answer.headers["X-Trace-Id"] = told["trace_id"]
    answer.headers["Cache-Control"] = "no-store"
    retry_after = told["details"].get("retry_after_seconds")
    if status in (429, 503) and retry_after:
        answer.headers["Retry-After"] = str(int(retry_after) + 1)
    return answer


def invalid_parameter(error: ValidationError, known: Iterable[str] | None = None) -> InvalidArgument:
    """Our error for what a model of parameters, or of a body, does not accept.

    Unknown names come first, all of them: a misspelt parameter must not pass for one that was left out.

    Args:
        error: What pydantic found.
        known: The names that there are; None for those of the view under way.
    """
    problems = error.errors(include_url=False)
    unknown = [str(problem["loc"][-1]) for problem in problems if problem["type"] == "extra_forbidden"]
    if unknown:
        return _unknown_parameters(unknown, _names_of(error.title) if known is None else list(known))
    first = problems[0]
    name = ".".join(str(part) for part in first["loc"]) or "body"
    if first["type"] == "missing":
        return InvalidArgument(
            f"parameter {name!r} is missing", suggestions=(f"give {name}",), parameter=name
        )
    value = str(first.get("input"))[:_SHOWN]
    allowed = _allowed(first)
    return InvalidArgument(
        f"parameter {name!r} is {value!r}: {first['msg']}",
        suggestions=(f"allowed: {allowed}",) if allowed else (),
        parameter=name,
        value=value,
    )


def repeated_parameters(names: list[str]) -> InvalidArgument:
    """Our error for parameters that were given more than once."""
    shown = ", ".join(repr(name[:_SHOWN]) for name in names[:_NAMES_SHOWN])
    return InvalidArgument(
        f"given more than once: {shown}",
        suggestions=("give each parameter once, several values separated by commas",),
        parameter=names[0][:_SHOWN],
    )


def _unknown_parameters(unknown: list[str], allowed: list[str]) -> InvalidArgument:
    shown = [name[:_SHOWN] for name in unknown[:_NAMES_SHOWN]]
    near = dict.fromkeys(text for name in shown for text in difflib.get_close_matches(name, allowed, n=1))
    suggestions = [f"did you mean {', '.join(near)}?"] if near else []
    suggestions.append(
        f"allowed: {', '.join(allowed)}" if allowed else "see /openapi.json for the parameters"
    )
    plural = "s" if len(unknown) > 1 else ""
    return InvalidArgument(
        f"unknown parameter{plural} {', '.join(map(repr, shown))}",
        suggestions=suggestions,
        parameter=shown[0],
        unknown=shown,
        allowed=allowed,
    )


def _names_of(title: str) -> list[str]:
    """The fields of the model of that name that the request's view takes; none where there is no such."""
    view = current_app.view_functions.get(request.endpoint or "")
    models = () if view is None else get_type_hints(view).values()
    found = (m for m in models if inspect.isclass(m) and issubclass(m, BaseModel) and m.__name__ == title)
    return [name for model in found for name in model.model_fields]


def _allowed(problem: Mapping[str, Any]) -> str:
    """What a value may be, where pydantic tells."""
    context = problem.get("ctx", {})
    if "expected" in context:
        return str(context["expected"]).replace(" or ", ", ").replace("'", "")
    if problem["type"].startswith("bool"):
        return "true, false"
    bounds = [f"{word} {context[key]}" for key, word in (("ge", "from"), ("le", "up to")) if key in context]
    if not bounds and problem["type"].startswith(("int", "float", "finite")):
        return "whole numbers" if problem["type"].startswith("int") else "numbers"
    return " ".join(bounds)
