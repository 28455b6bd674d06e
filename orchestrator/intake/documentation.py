"""What routes and handlers' models contribute to the OpenAPI document.

The document is built by `openapi.py` when it is first requested: the libraries for it take longer
to import than the rest of a start.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from aiohttp import web

from orchestrator.core.errors import RegistrationError
from orchestrator.core.handlers.registry import Registration
from orchestrator.intake.access import Access, Route, declare_access
from orchestrator.intake.app_keys import REGISTRY
from orchestrator.wire.json_schema import check_schema

_DOCUMENTATION = "__openapi_documentation__"


@attrs.frozen
class Answer:
    """One documented response: its meaning, the model of its body, its headers. `example` is that
    of its body; by default the model's."""

    description: str
    model: Any = None
    media_type: str = "application/json"
    headers: Mapping[str, str] = attrs.field(factory=dict)
    example: Any = None


HTML_PAGE = Answer(
    "An HTML page",
    str,
    media_type="text/html",
    example='<!doctype html>\n<html lang="en">\n<title>SaaS orchestrator</title>\n</html>',
)


def documented(
    summary: str,
    *,
    tag: str,
    access: Access,
    answers: Mapping[int, Answer],
    description: str,
    parameters: Sequence[Mapping[str, Any]] = (),
    body: Any = None,
) -> Callable[[Route], Route]:
    """Decorate a route's handler with the access that it requires and with its documentation.

    `body` is the model of an optional body.
    """
    documentation = {
        "tags": [tag],
        "summary": summary,
        "description": description,
        "parameters": list(parameters),
        "responses": {str(status): answer for status, answer in answers.items()},
        "requestBody": body,
        "access": access,
    }

    def document(handler: Route) -> Route:
        setattr(handler, _DOCUMENTATION, documentation)
        return declare_access(access)(handler)

    return document


def documentation_of(handler: object) -> Mapping[str, Any]:
    """What `documented` has attached to a route's handler; empty for another."""
    found: Mapping[str, Any] = getattr(handler, _DOCUMENTATION, {})
    return found


def check_models(app: web.Application) -> None:
    """Raises RegistrationError: a handler's model has fields that JSON can't represent."""
    for registration in app[REGISTRY].by_type.values():
        _check_model(registration)


def _check_model(registration: Registration) -> None:
    if registration.payload is None:
        return
    try:
        check_schema(registration.payload)
    except TypeError as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise RegistrationError(
            f"{registration.place}: the model of {registration.event_type}, "
            f"{registration.payload!r}, can't be read from JSON ({reason}); give each field a "
            "type that JSON can represent."
        ) from None
