"""The served OpenAPI document tells what the server does."""

from __future__ import annotations

import pytest
from flask_openapi3.models import APISpec

from zvt_crypto.domain import load_tables
from zvt_crypto.server.answers import MEDIA_TYPE
from zvt_crypto.server.parameters import model_of

SPECS = list(load_tables().values())


@pytest.fixture
def document(client):
    return client.get("/openapi.json").json


def operations(document):
    return [
        (path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in ("get", "post", "put", "patch", "delete")
    ]


def references(part):
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_the_document_is_whole(document):
    assert document["openapi"].startswith("3.1")
    assert document["servers"] == [{"url": "/", "description": "The server that answers this document."}]
    APISpec.model_validate(document)
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known


def test_every_operation_is_named_and_tells_its_failures(document):
    tags = {tag["name"] for tag in document["tags"]}
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    for path, method, operation in operations(document):
        assert operation["summary"], path
        assert set(operation["tags"]) <= tags
        assert {"400", "429", "500", "503"} <= set(operation["responses"]), (path, method)
        for status, response in operation["responses"].items():
            assert response["description"], (path, status)
            if status[0] in "45d" and (path, status) != ("/health", "503"):
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/FailureAnswer"}, (path, status)


def test_every_parameter_tells_its_meaning_and_bounds(document):
    for path, _, operation in operations(document):
        for parameter in operation.get("parameters", []):
            where = (path, parameter["name"])
            assert parameter["description"], where
            schema = parameter["schema"]
            assert "null" not in str(schema), where
            assert schema["type"] != "string" or {"maxLength", "enum", "pattern", "format"} & set(schema), (
                where
            )
            assert schema["type"] != "integer" or "minimum" in schema, where


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.class_name)
def test_every_table_tells_its_parameters_and_forms(document, spec):
    operation = document["paths"][f"/api/data/{spec.class_name}"]["get"]
    assert operation["operationId"] == f"query{spec.class_name}"
    assert [p["name"] for p in operation["parameters"]] == list(model_of(spec).model_fields)
    assert [p["name"] for p in operation["parameters"] if p["required"]] == ["provider"]
    content = operation["responses"]["200"]["content"]
    assert set(content) == set(MEDIA_TYPE.values())
    assert "304" in operation["responses"]
    columns = document["components"]["schemas"][f"{spec.class_name}Row"]["properties"]
    assert all(column["description"] for column in columns.values())
    example = content["application/json"]["example"]
    assert set(example["data"][0]) <= set(columns)


def test_enumerations_are_the_models(document):
    parameters = {
        p["name"]: p["schema"] for p in document["paths"]["/api/data/CryptoPair1mKdata"]["get"]["parameters"]
    }
    assert parameters["resample"]["enum"] == ["1m", "5m", "15m", "30m", "1h", "4h", "1d"]
    assert parameters["order"] == {
        "type": "string", "enum": ["timestamp_asc", "timestamp_desc"], "default": "timestamp_asc",
    }  # fmt: skip
    assert parameters["limit"]["minimum"] == 1


def test_an_unchanged_document_is_not_sent_again(client):
    known = client.get("/openapi.json").headers["ETag"]
    assert client.get("/openapi.json", headers={"If-None-Match": known}).status_code == 304
