"""Requests made from the served OpenAPI document: no crash, and no answer that the document does not tell of."""

from __future__ import annotations

import contextlib

import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from recorded_market import record_market
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from zvt_crypto.core.config import Settings
from zvt_crypto.server.app import create_app
from zvt_crypto.store.engine import Store

_CHECKS = [
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
    content_type_conformance,
]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The document over the recorded market, without limits on the rate of requests."""
    settings = Settings(data_path=tmp_path_factory.mktemp("fuzzed"))
    record_market(Store(settings))
    app = create_app(settings)
    app.config["RATELIMIT_ENABLED"] = False

    def closing(environ, start_response):
        # As servers do: an answer that is only forgotten keeps its stream until it is collected.
        with contextlib.closing(app(environ, start_response)) as answer:
            return list(answer)

    return schemathesis.openapi.from_wsgi("/openapi.json", closing)


def test_answers_are_as_the_document_says(served):
    tried = 0
    for found in served.get_all_operations():
        operation = found.ok()

        @hypothesis_settings(
            max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy(), is_recorded=st.booleans())
        def answers(case, is_recorded):
            if is_recorded and case.path.startswith("/api/data/Crypto"):
                # Most texts are no provider, and never come to the rows.
                case.query = {**case.query, "provider": "binance"}
                case.query.pop("cursor", None)
            # In-process, nothing decompresses the answer.
            case.call_and_validate(checks=_CHECKS, headers={"Accept-Encoding": "identity"})

        answers()
        tried += 1
    assert tried > 20
