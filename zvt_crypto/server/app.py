"""The application: views, errors and limits put together."""

from __future__ import annotations

from flask import Response
from flask_openapi3 import Info, OpenAPI
from pydantic import ValidationError

import zvt_crypto
from zvt_crypto.core.config import Settings
from zvt_crypto.server.compression import compress_answers
from zvt_crypto.server.cryptoviews import crypto_views
from zvt_crypto.server.dataviews import data_views
from zvt_crypto.server.document import serve_document
from zvt_crypto.server.errors import error_response, invalid_parameter, register_errors
from zvt_crypto.server.headers import add_security_headers
from zvt_crypto.server.limits import apply_limits
from zvt_crypto.server.liveservice import LiveService
from zvt_crypto.server.liveviews import live_views
from zvt_crypto.server.overview import overview_views
from zvt_crypto.server.pageviews import page_views
from zvt_crypto.server.schemas import FailureAnswer
from zvt_crypto.server.services import Services
from zvt_crypto.store.engine import Store


def create_app(settings: Settings, live: LiveService | None = None) -> OpenAPI:
    """A Flask application that answers over HTTP what is recorded under ``settings.data_path``.

    Args:
        settings: Limits and paths.
        live: The streams that are served beside it, of which it tells.
    """
    app = OpenAPI(
        "zvt_crypto.server",
        info=Info(title="zvt-crypto", version=zvt_crypto.__version__, description="Recorded crypto markets."),
        responses={"default": FailureAnswer},
        validation_error_status=400,
        validation_error_model=FailureAnswer,
        validation_error_callback=_refuse,
        security_schemes={"adminToken": {"type": "http", "scheme": "bearer"}},
        doc_ui=False,
        static_folder=None,
    )
    Services(settings, Store(settings), live).attach(app.extensions)
    register_errors(app)
    add_security_headers(app)
    apply_limits(app, settings)
    compress_answers(app)
    for api in (data_views(), overview_views(), *crypto_views()):
        app.register_api(api)
    app.register_blueprint(page_views())
    app.register_blueprint(live_views())
    serve_document(app)
    return app


def _refuse(error: ValidationError) -> Response:
    """Our answer to parameters that do not fit their model."""
    ours = invalid_parameter(error)
    return error_response(ours.http_status, ours.code, ours.message, ours.details, ours.suggestions)
