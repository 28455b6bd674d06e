"""The query of a request as a model: names in camelCase, values as text."""

from collections.abc import Awaitable
from typing import Any, TypeVar

import attrs
from aiohttp import web
from attrs.validators import ge, le

from orchestrator.core.ledger.pages import Page
from orchestrator.wire.codec import structure_texts
from orchestrator.wire.fields import json_field_name
from orchestrator.wire.json_schema import json_schemas

Query = TypeVar("Query")
Item = TypeVar("Item")


def page_limit() -> Any:
    """The field of a query that says how much of a list is asked for."""
    return attrs.field(default=50, validator=[ge(1), le(100)])


def read_query(request: web.Request, model: type[Query]) -> Query:
    """The query as a `model`, an attrs class.

    Raises:
        web.HTTPBadRequest: an unknown parameter, or one that doesn't fit.
    """
    names = {json_field_name(field): field.name for field in attrs.fields(model)}  # type: ignore[arg-type]
    unknown = sorted(set(request.query) - set(names))
    if unknown:
        raise web.HTTPBadRequest(
            text=f"There is no parameter {unknown[0]!r} here; there is {', '.join(names)}."
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
    """The page that a ledger lists. Raises web.HTTPBadRequest for a cursor that it didn't give."""
    try:
        return await listing
    except ValueError as error:
        raise _misfit(error) from None


def _misfit(error: ValueError) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=f"The query does not fit: {error}.")


def query_parameters(model: type) -> list[dict[str, Any]]:
    """The parameters of a model in OpenAPI's form; none is required."""
    _, components = json_schemas([model], ref_template="#/components/schemas/{name}")
    return [
        {"in": "query", "name": name, "schema": _without_null(schema)}
        for name, schema in components[model.__name__]["properties"].items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query has no null: a parameter that is none is left out."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else schema
