"""Parses query strings into models: names in camelCase, values as text."""

from collections.abc import Awaitable
from typing import Any, TypeVar

import attrs
from aiohttp import web
from attrs.validators import ge, le

from orchestrator.core.ledger.pages import Page
from orchestrator.intake.data_dictionary import describe_query
from orchestrator.wire.codec import structure_texts
from orchestrator.wire.fields import json_field_name
from orchestrator.wire.json_schema import json_schemas

Query = TypeVar("Query")
Item = TypeVar("Item")


def page_limit() -> Any:
    """The query field for the maximum number of items of a page."""
    return attrs.field(default=50, validator=[ge(1), le(100)])


def read_query(request: web.Request, model: type[Query]) -> Query:
    """Parse the query into `model`, an attrs class.

    Raises:
        web.HTTPBadRequest: a parameter is unknown, repeated or invalid.
    """
    names = {json_field_name(field): field.name for field in attrs.fields(model)}  # type: ignore[arg-type]
    unknown = sorted(set(request.query) - set(names))
    if unknown:
        raise web.HTTPBadRequest(
            text=f"Unknown parameter {unknown[0]!r}; known parameters: {', '.join(names)}."
        )
    repeated = [name for name in names if len(request.query.getall(name, [])) > 1]
    if repeated:
        raise web.HTTPBadRequest(text=f"The parameter {repeated[0]!r} is given more than once.")
    texts = {names[name]: value for name, value in request.query.items()}
    try:
        return structure_texts(texts, model)
    except ValueError as error:
        raise _misfit(error) from None


async def read_page(listing: Awaitable[Page[Item]]) -> Page[Item]:
    """Read a page from the ledger. Raises web.HTTPBadRequest for an invalid cursor."""
    try:
        return await listing
    except ValueError as error:
        raise _misfit(error) from None


def _misfit(error: ValueError) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=f"The query is invalid: {error}.")


def query_parameters(model: type) -> list[dict[str, Any]]:
    """The OpenAPI parameters of a model, all optional."""
    _, components = json_schemas([model], ref_template="#/components/schemas/{name}")
    return [
        {"in": "query", "name": name, "schema": _without_null(schema), **describe_query(name)}
        for name, schema in components[model.__name__]["properties"].items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Remove null from a schema: a query omits a parameter that is None."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else schema
