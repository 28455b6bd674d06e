"""The OpenAPI document: valid, honest, and as committed."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs
import jsonschema_rs
import pytest
from openapi_spec_validator import validate

from orchestrator import (
    Event,
    Extension,
    HandlerRegistry,
    RegistrationError,
    Run,
    Settings,
    create_app,
    load_settings,
)
from orchestrator.intake.openapi import build_document
from orchestrator.settings import ApiKey, Auth

Item = TypeVar("Item")

COMMITTED = Path(__file__).parents[2] / "openapi" / "openapi.json"
#: docs of the contract, section 2: all that `POST /events…` ever answers.
CONTRACT_STATUSES = {200, 202, 400, 401, 403, 413, 415, 422, 429, 500, 503}
OPERATIONS = {"get", "post", "put", "patch", "delete"}


@attrs.frozen
class Registration:
    first_name: str
    seats: int = attrs.field(default=1, validator=attrs.validators.ge(1))


@attrs.frozen
class Invoice:
    amount: float


def document_of(**handled: type) -> dict[str, Any]:
    """The document of an app with a handler for each type, taking the model given."""
    registry = HandlerRegistry()
    for event_type, model in handled.items():

        async def handle(event: Event[Any], run: Run) -> None:
            """Nothing to do."""

        registry.register(event_type, handle, payload=model)
    return build_document(create_app(Settings(), extension=Extension(registry=registry)))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return document_of(TENANT_REGISTRATION=Registration)


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every operation by method and path."""
    return {
        f"{method} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in OPERATIONS
    }


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    """It is OpenAPI 3.1 by the specification's own schema."""
    assert document["openapi"] == "3.1.0"
    validate(document)


def test_no_reference_dangles(document: dict[str, Any]) -> None:
    """Each `$ref` leads to a component of the document."""
    found = list(references(document))
    assert found
    components = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(found) <= components


def references(value: Any) -> list[str]:
    """All `$ref` within a JSON value."""
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in references(item)]
    if isinstance(value, list):
        return [found for item in value for found in references(item)]
    return []


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    """A generated client has one function for each operation."""
    ids = [operation["operationId"] for operation in operations(document).values()]
    assert len(ids) == len(set(ids))


def test_a_users_model_is_in_the_document(document: dict[str, Any]) -> None:
    """Its type has a path of its own with the model in JSON's names, beside the path for any."""
    assert "/events/{eventType}" in document["paths"]
    body = document["paths"]["/events/TENANT_REGISTRATION"]["post"]["requestBody"]
    assert "#/components/schemas/Registration" in references(body)
    schema = document["components"]["schemas"]["Registration"]
    assert schema["properties"]["firstName"] == {"type": "string"}
    assert schema["properties"]["seats"]["minimum"] == 1
    assert schema["required"] == ["firstName"]


def test_two_apps_in_one_process_have_documents_of_their_own() -> None:
    """Neither's handlers nor models show in the other, whichever is built first."""
    first = document_of(TENANT_REGISTRATION=Registration)
    second = document_of(TENANT_INVOICED=Invoice)
    assert document_of(TENANT_REGISTRATION=Registration) == first
    for own, other, path, model in (
        (first, second, "/events/TENANT_REGISTRATION", "Registration"),
        (second, first, "/events/TENANT_INVOICED", "Invoice"),
    ):
        validate(own)
        assert path in own["paths"]
        assert path not in other["paths"]
        assert model in own["components"]["schemas"]
        assert model not in other["components"]["schemas"]


def test_events_are_answered_by_the_contract(document: dict[str, Any]) -> None:
    """All documented statuses are the contract's, and those of every release are documented."""
    posts = {
        name: op for name, op in operations(document).items() if name.startswith("post /event")
    }
    assert {"post /events", "post /events/{eventType}"} <= posts.keys()
    for name, operation in posts.items():
        statuses = {int(status) for status in operation["responses"]}
        assert statuses <= CONTRACT_STATUSES, name
        assert {200, 400, 413, 415, 422, 500, 503} <= statuses, name


def test_problems_are_documented_as_problems(document: dict[str, Any]) -> None:
    """Every documented error has the media type of RFC 9457, and 503 its `Retry-After`."""
    for name, operation in operations(document).items():
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"], (name, status)
            if int(status) == 503:
                assert "Retry-After" in answer["headers"], name


def test_each_operation_has_a_summary_and_a_description(document: dict[str, Any]) -> None:
    """Each operation has both, a user's handler those of its docstring."""
    summaries = [operation["summary"] for operation in operations(document).values()]
    assert len(summaries) == len(set(summaries))
    for name, operation in operations(document).items():
        assert len(operation["summary"]) > 8, name
        assert operation["description"], name
        for parameter in operation["parameters"]:
            assert parameter["description"], (name, parameter["name"])
    own = operations(document)["post /events/TENANT_REGISTRATION"]
    assert (own["summary"], own["description"]) == ("Nothing to do", "Nothing to do.")


def test_each_field_has_a_description(document: dict[str, Any]) -> None:
    """Each schema of the service has a description, and each of its fields."""
    schemas = {
        name: schema
        for name, schema in document["components"]["schemas"].items()
        if name != "Registration"
    }
    assert [name for name, schema in schemas.items() if not schema.get("description")] == []
    assert [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, shape in schema.get("properties", {}).items()
        if not shape.get("description")
    ] == []


def test_each_body_has_an_example_that_fits(document: dict[str, Any]) -> None:
    """Each request, answer and object's schema has an example that its JSON Schema accepts."""
    contents = {
        f"{name} {where}": content
        for name, operation in operations(document).items()
        for where, part in {
            "body": operation.get("requestBody", {}),
            **operation["responses"],
        }.items()
        for content in part.get("content", {}).values()
    }
    assert len(contents) > 100
    for where, content in contents.items():
        examples = [one["value"] for one in content.get("examples", {}).values()]
        examples += [content["example"]] if "example" in content else []
        assert examples, where
        for example in examples:
            if "TENANT_REGISTRATION" not in where:
                assert_fits(example, content["schema"], document)
    for name, schema in document["components"]["schemas"].items():
        if name != "Registration" and "properties" in schema:
            assert schema["examples"], name
            for example in schema["examples"]:
                assert_fits(example, schema, document)


def assert_fits(example: Any, schema: Mapping[str, Any], document: dict[str, Any]) -> None:
    """Raises ValidationError unless it does."""
    jsonschema_rs.validate({**schema, "components": document["components"]}, example)


def test_no_example_is_a_placeholder(document: dict[str, Any]) -> None:
    """`"string"` and `0` are what Swagger UI shows where no example is given."""
    shown = [value for example in examples(document) for value in leaves(example)]
    assert len(shown) > 1000
    assert [
        value for value in shown if value == "string" or (type(value) is int and not value)
    ] == []


def examples(value: Any) -> list[Any]:
    """All examples within the document."""
    if isinstance(value, dict):
        own = [value[name] for name in ("example", "examples") if name in value]
        return own + [found for item in value.values() for found in examples(item)]
    if isinstance(value, list):
        return [found for item in value for found in examples(item)]
    return []


def leaves(value: Any) -> list[Any]:
    """The texts, numbers, booleans and nulls within a value."""
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return [leaf for item in items for leaf in leaves(item)]
    return [value]


def test_codebuilds_state_change_is_shown_as_aws_sends_it(document: dict[str, Any]) -> None:
    """The example has AWS's own names of type, source and fields."""
    body = operations(document)["post /events/BUILD_STATE_CHANGE"]["requestBody"]
    envelope = body["content"]["application/json"]["examples"]["envelope"]["value"]
    assert envelope["detail-type"] == "CodeBuild Build State Change"
    assert envelope["source"] == "aws.codebuild"
    assert {"build-id", "build-status", "project-name"} <= envelope["detail"].keys()


def test_there_is_something_to_authorize_only_with_authentication() -> None:
    """Swagger UI shows its button for an empty list of schemes, too."""
    open_to_all = build_document(create_app(Settings()))
    guarded = Settings(auth=Auth(methods=("api_key",), api_key=ApiKey(keys=("key-1",))))
    assert "securitySchemes" not in open_to_all["components"]
    assert build_document(create_app(guarded))["components"]["securitySchemes"]


def test_the_committed_document_is_current() -> None:
    """`make openapi` was run after the last change."""
    current = build_document(create_app(load_settings("local.toml", environ={})))
    assert json.loads(COMMITTED.read_text()) == current


@attrs.frozen
class Tenant:
    """Named as a model of ours."""

    first_name: str


@attrs.frozen
class Box(Generic[Item]):
    item_count: int
    content: Item


def test_models_may_be_named_as_ours_and_types_nearly_alike() -> None:
    """Each model is in the document under names of its own, in camelCase; ids are unique."""
    registry = HandlerRegistry()

    async def handle(event: Event[Any], run: Run) -> None: ...

    for event_type, model in (("a.b", Tenant), ("a_b", Box[int]), ("X", None), ("x", None)):
        registry.register(event_type, handle, payload=model)
    document = build_document(create_app(Settings(), extension=Extension(registry=registry)))
    validate(document)
    shown = [set(s.get("properties", {})) for s in document["components"]["schemas"].values()]
    assert {"firstName"} in shown
    assert {"itemCount", "content"} in shown
    assert {"id", "name", "key"} in shown


class Opaque:
    """Nothing that JSON has a form for."""


@attrs.frozen
class Odd:
    thing: Opaque


def test_a_model_that_json_has_no_form_for_is_refused_at_start() -> None:
    """The refusal names the handler, the model and the event type, in one line."""
    registry = HandlerRegistry()

    async def odd_handler(event: Event[Any], run: Run) -> None: ...

    registry.register("ODD", odd_handler, payload=Odd)
    with pytest.raises(RegistrationError) as refused:
        build_document(create_app(Settings(), extension=Extension(registry=registry)))
    sentence = str(refused.value)
    assert "\n" not in sentence
    for said in ("odd_handler", "Odd", "ODD"):
        assert said in sentence


def test_the_document_is_built_without_a_warning() -> None:
    """A user's tests may turn warnings into errors; those of a library's old code aren't theirs to
    mend."""
    program = """
import asyncio
from aiohttp.test_utils import TestClient, TestServer
from orchestrator import create_app

async def main():
    async with TestClient(TestServer(create_app(), host="127.0.0.1")) as client:
        assert (await client.get("/openapi.json")).status == 200
        assert (await client.get("/docs")).status == 200

asyncio.run(main())
"""
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
