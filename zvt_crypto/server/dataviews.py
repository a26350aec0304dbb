"""``/api/data``: every table of the registry through one view, and what providers and tables there are."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Final, TypeVar

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ValidationError

from zvt_crypto.api import catalogue
from zvt_crypto.core.errors import unknown_value
from zvt_crypto.core.tables import TableSpec
from zvt_crypto.domain import load_tables
from zvt_crypto.server.answers import bulk, json_page, wanted_form
from zvt_crypto.server.errors import error_response, invalid_parameter, repeated_parameters
from zvt_crypto.server.parameters import Parameters, cursor_text, model_of, page_size, query_of, question_of
from zvt_crypto.server.rows import Rows
from zvt_crypto.server.schemas import (
    ProvidersAnswer,
    SchemasAnswer,
    SchemasParameters,
    failures,
    rows_answer,
)
from zvt_crypto.server.services import services

_TAG: Final = Tag(name="data", description="Recorded rows, providers and tables.")

Model = TypeVar("Model", bound=BaseModel)


def data_views() -> APIBlueprint:
    """The views of ``/api/data``; applications of a process share them."""
    return _views(tuple(load_tables().values()))


@cache
def _views(specs: tuple[TableSpec, ...]) -> APIBlueprint:
    """Views of these tables. Their models, and what the document says of them, take a third of a second."""
    api = APIBlueprint("data", __name__, url_prefix="/api/data", abp_tags=[_TAG], abp_responses=failures(400))

    @api.get(
        "/providers",
        summary="Data sources by kind of market",
        operation_id="listProviders",
        responses={200: ProvidersAnswer},
    )
    def providers() -> dict[str, list[str]]:
        _given(_Nothing)
        return catalogue.providers()

    @api.get(
        "/schemas",
        summary="Tables of a data source",
        operation_id="listSchemas",
        responses={200: SchemasAnswer},
    )
    def schemas(query: SchemasParameters) -> dict[str, list[str]]:
        return catalogue.schemas(query.provider)

    for spec in specs:
        _add_table(api, spec)
    api.add_url_rule("/<table>", "unknown_table", _unknown_table)
    return api


def _add_table(api: APIBlueprint, spec: TableSpec) -> None:
    model = model_of(spec)

    def view() -> Response:
        return answer(spec, _given(model))

    # The document tells of the parameters that the annotation names. The model is applied here: the library
    # would make its JSON schema anew for every request.
    view.__annotations__ = {"query": model, "return": Response}
    view.__delay_validate_request__ = True  # type: ignore[attr-defined]
    view.__name__ = spec.class_name
    api.get(
        f"/{spec.class_name}",
        summary=spec.doc,
        description=_description(spec),
        operation_id=f"query{spec.class_name}",
        responses={200: rows_answer(spec), **failures(404, 406)},
    )(view)


def _description(spec: TableSpec) -> str:
    text = (
        "Rows in the order asked for. A page of JSON tells in `next` where the following one begins, `null`"
        " on the last; rows that are recorded meanwhile neither repeat nor hide others. Markets of which none"
        " is recorded or listed are not found (404); known ones without rows answer an empty page."
    )
    if spec.layout == "series":
        text += (
            " The tag of an answer changes when its rows do: with `If-None-Match`, unchanged rows answer 304."
        )
    return text


class _Nothing(BaseModel, extra="forbid"):
    """The parameters of a view without any."""


def _given(model: type[Model]) -> Model:
    """The request's parameters.

    Raises:
        InvalidArgument: One is unknown, is given more than once, or has a value that is not allowed.
    """
    repeated = [name for name, values in request.args.lists() if len(values) > 1]
    if repeated:
        raise repeated_parameters(repeated)
    try:
        return model.model_validate(request.args.to_dict())
    except ValidationError as error:
        raise invalid_parameter(error) from error


def _unknown_table(table: str) -> Response:
    names = {spec.class_name: spec for spec in load_tables().values()}
    other = [name for name, spec in names.items() if table in (spec.name, spec.zvt_name)]
    error = unknown_value("table", table[:80], names)
    suggestions = [f"did you mean {', '.join(other)}?"] if other else [*error.suggestions]
    suggestions.append(f"allowed: {', '.join(names)}")
    details = {"parameter": "table", "value": table[:80], "allowed": list(names)}
    return error_response(404, "CRYPTO_NOT_FOUND", error.message, details, suggestions)


def answer(spec: TableSpec, given: Parameters) -> Response:
    """The rows of a table that a request asks for."""
    form = wanted_form(given.format)
    limit = page_size(spec, given) if form == "json" else given.limit
    query, page = query_of(spec, given, limit)
    rows = Rows(services().store, query, given, form)
    tag = rows.tag
    if tag is not None and request.if_none_match.contains_weak(tag):
        return _tagged(Response(status=304), tag)
    if form != "json":
        return _tagged(bulk(form, rows.schema, rows.batches(), spec.class_name), tag)
    assert limit is not None
    found = rows.page()
    following = None
    if found.following is not None:
        following = cursor_text(found.following, page + 1, question_of(spec, given))
    made = json_page(found.rows, total=found.total, page=page, page_size=limit, following=following)
    if tag is not None:
        return _tagged(made, tag)
    # Few rows without versions: the answer itself tells whether it is another one.
    made = _tagged(made, hashlib.sha256(made.get_data()).hexdigest()[:32])
    made.make_conditional(request)
    return made


def _tagged(answer: Response, tag: str | None) -> Response:
    """Caches may keep an answer, and must ask whether it still holds: any row can be repaired or removed."""
    if tag is not None:
        answer.set_etag(tag)
    answer.headers["Cache-Control"] = "no-cache"
    answer.vary.add("Accept")
    return answer
