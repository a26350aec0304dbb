"""The OpenAPI document: what the library makes of the views, and what is so for all of them."""

from __future__ import annotations

import copy
from typing import Any, Final

import orjson
from flask import Response, request
from flask_openapi3.openapi import OpenAPI

from zvt_crypto.server.schemas import FailureAnswer

#: Failures that every view may answer.
_FAILURES: Final = {
    "400": "A parameter is unknown, is given more than once, or has a value that is not allowed.",
    "429": "Too many requests; Retry-After says for how many seconds to wait.",
    "500": "The server failed to answer; the log tells more under the trace_id.",
    "503": "The database is in use by another program, or an exchange is out of reach; try again later.",
    "default": "Any other failure.",
}
#: What these failures mean where a view tells of them.
_MEANINGS: Final = {
    "401": "The token is missing or wrong.",
    "404": "What is asked for is neither recorded nor known.",
    "406": "None of the forms of an answer is accepted.",
    "422": "The data did not pass a check.",
}


def serve_document(app: OpenAPI) -> None:
    """Answer ``/openapi.json``; made at the first request, when all views are there."""
    made: list[bytes] = []

    @app.route("/openapi.json")
    def document() -> Response:
        if not made:
            made.append(orjson.dumps(document_of(app), option=orjson.OPT_SORT_KEYS))
        answer = Response(made[0], content_type="application/json")
        answer.headers["Cache-Control"] = "no-cache"
        answer.add_etag()
        answer.make_conditional(request)
        return answer


def document_of(app: OpenAPI) -> dict[str, Any]:
    """The document of an application, OpenAPI 3.1."""
    document: dict[str, Any] = copy.deepcopy(app.api_doc)
    document["servers"] = [{"url": "/", "description": "The server that answers this document."}]
    for path in document["paths"].values():
        for method, operation in path.items():
            if method in ("get", "post", "put", "patch", "delete"):
                _finish(operation)
    document["components"]["schemas"] = {
        name: _without_titles(schema) for name, schema in document["components"]["schemas"].items()
    }
    return document


def _finish(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", []):
        parameter["schema"] = _parameter_schema(parameter["schema"])
    responses = operation["responses"]
    for status, meaning in (_FAILURES | {s: m for s, m in _MEANINGS.items() if s in responses}).items():
        responses[status] = _failure(meaning)
    if "ETag" in responses.get("200", {}).get("headers", {}):
        responses["304"] = {"description": "The rows are those of the tag in If-None-Match."}
    operation["responses"] = dict(sorted(responses.items()))


def _failure(meaning: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{FailureAnswer.__name__}"}
    return {"description": meaning, "content": {"application/json": {"schema": schema}}}


def _parameter_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out is never null: a query string knows no such value."""
    options = [option for option in schema.get("anyOf", []) if option != {"type": "null"}]
    merged = {name: value for name, value in schema.items() if name != "anyOf"}
    if len(options) == 1:
        merged |= options[0]
    elif options:
        merged["anyOf"] = options
    if merged.get("default", ...) is None:
        del merged["default"]
    # The parameter itself has the example and the description.
    dropped = ("title", "example", "description")
    return {name: _whole(value) for name, value in merged.items() if name not in dropped}


def _without_titles(schema: dict[str, Any]) -> dict[str, Any]:
    """A component without the titles that repeat each property's name."""
    properties = schema.get("properties")
    if not properties:
        return schema
    plain = {
        name: {k: _whole(v) for k, v in part.items() if k != "title"} for name, part in properties.items()
    }
    return schema | {"properties": plain}


def _whole(value: Any) -> Any:
    """The library tells whole bounds as 1.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
