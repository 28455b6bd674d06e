"""docs/http.md: each route and model, from the OpenAPI document."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator import create_app, load_settings
from orchestrator.intake.access import declared_access
from tests.reference.markdown import table

_FILE = Path(__file__).parents[2] / "openapi" / "openapi.json"
_REF = "#/components/schemas/"

_HEAD = """# HTTP

The routes of a service without an extension. Yours shows the routes of its own handlers, too, at
`/docs` and `/openapi.json`; [openapi/openapi.json](../openapi/openapi.json) is the document of
this page. Errors are RFC 9457 problem details. What EventBridge does with the answers is in the
[README](../README.md#the-answers-and-what-eventbridge-does-with-them), who may call a route in
[authentication](auth.md). With `http.base_path` and `http.event_paths` routes have further paths
([configuration](configuration.md#http)).
"""


def http_api() -> str:
    document = json.loads(_FILE.read_text())
    return "".join(
        (_HEAD, *_routes(document["paths"]), *_models(document["components"]["schemas"]))
    )


def _scopes() -> Mapping[str, str]:
    """The scope or credentials that each route requires."""
    app = create_app(load_settings("local.toml", environ={}))
    found = {}
    for route in app.router.routes():
        access = declared_access(route)
        if route.resource is not None and access is not None:
            needs = "no credentials" if access.is_open else "credentials of any sender"
            scope = f"the scope `{access.scope}`" if access.scope else needs
            found[f"{route.method} {route.resource.canonical}"] = scope
    return found


def _routes(paths: Mapping[str, Any]) -> Iterator[str]:
    scopes = _scopes()
    types = []
    for path, methods in paths.items():
        if path.startswith("/events/") and "{" not in path:
            types.append((path.removeprefix("/events/"), methods["post"]))
            continue
        for method, operation in methods.items():
            yield f"\n## {method.upper()} {path}\n\n"
            needs = scopes[f"{method.upper()} {path}"]
            yield f"{operation['summary']}. Needs {needs}.\n\n"
            if operation["description"]:
                yield f"{operation['description']}\n\n"
            yield from _parameters(operation)
            yield from _answers(operation["responses"])
    yield "\n## Bodies of the built-in event types\n\n"
    yield table(
        ("`POST /events/…`", "business body"),
        (
            (f"`{name}`", _type(_content(post["requestBody"])["schema"]["anyOf"][0]))
            for name, post in types
        ),
    )


def _content(value: Mapping[str, Any]) -> Any:
    return next(iter(value["content"].values()))


def _parameters(operation: Mapping[str, Any]) -> Iterator[str]:
    body = operation.get("requestBody")
    if body:
        yield f"Body: {_type(_content(body)['schema'])}.\n\n"
    if operation["parameters"]:
        yield table(
            ("parameter", "in", "type", "description"),
            (
                (f"`{one['name']}`", one["in"], _type(one["schema"]), one.get("description", ""))
                for one in operation["parameters"]
            ),
        )
        yield "\n"


def _answers(responses: Mapping[str, Any]) -> Iterator[str]:
    yield table(
        ("status", "meaning", "body", "headers"),
        (
            (
                status,
                answer["description"],
                _type(_content(answer).get("schema", {})) if "content" in answer else "",
                ", ".join(f"`{name}`" for name in answer.get("headers", ())),
            )
            for status, answer in responses.items()
        ),
    )


def _models(schemas: Mapping[str, Any]) -> Iterator[str]:
    yield "\n## Models\n"
    for name, schema in schemas.items():
        yield f"\n### {name}\n\n"
        if "description" in schema:
            yield f"{' '.join(schema['description'].split())}\n\n"
        if "enum" in schema:
            yield ", ".join(f"`{json.dumps(one)}`" for one in schema["enum"]) + "\n"
        elif fields := schema.get("properties"):
            required = schema.get("required", ())
            yield table(
                ("field", "type", "required"),
                (
                    (f"`{field}`", _type(kind), "yes" if field in required else "")
                    for field, kind in fields.items()
                ),
            )


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        return f"[{name}](#{re.sub(r'[^a-z0-9-]', '', name.lower())})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(one)}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if isinstance(kind, list):
        return " or ".join(kind)
    return str(kind)
