"""Authentication: a request passes if any of the configured methods recognizes its sender."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from orchestrator.core.errors import TemporaryError
from orchestrator.intake.access import access_of
from orchestrator.intake.sender import SENDER, Sender
from orchestrator.settings.auth import Scope

#: Set by the Lambda handler alone: the ARN of the caller whom API Gateway has authenticated.
CALLER_HEADER = "X-Orchestrator-Caller"


class AuthMethod(Protocol):
    """An authentication method. A new one is a module in `auth_methods`, a line in its `choose.py`,
    and a name in the setting `auth.methods`."""

    @property
    def name(self) -> str:
        """Its name in the OpenAPI document."""

    @property
    def scheme(self) -> Mapping[str, Any] | None:
        """Its Security Scheme Object (OpenAPI 3.1, section 4.8.27); None if the sender's requests
        need no credentials."""

    @property
    def challenge(self) -> str:
        """Its challenge in `WWW-Authenticate` of a 401 (RFC 9110, section 11.6.1)."""

    @property
    def refusal(self) -> str:
        """Its sentence in a 401: what is missing and what to send."""

    async def authenticate(self, request: web.Request) -> Sender | None:
        """The sender; None if this method doesn't recognize them.

        Raises:
            TemporaryError: it can't be decided now. The method logs why; no answer says so.
        """


#: The methods in the order in which they are tried; empty: no authentication, and no middleware.
AUTH_METHODS: web.AppKey[Sequence[AuthMethod]] = web.AppKey("auth_methods")


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request pass if its route is open, or if any of the app's methods recognizes a sender
    who has the scope that the route requires.

    Else the answer is 401, or 403 if only the scope is missing. It is 503 if a method can't decide
    now and no other recognizes the sender.
    """
    access = await access_of(request)
    if not access.is_open:
        sender = await _find_sender(request, request.app[AUTH_METHODS], access.scope)
        request[SENDER] = sender
        with structlog.contextvars.bound_contextvars(sender=sender.name):
            return await handler(request)
    return await handler(request)


def authentication(methods: Sequence[AuthMethod]) -> Sequence[Middleware]:
    """The middlewares that authenticate by the methods: none for an open service."""
    return [authenticate] if methods else []


async def _find_sender(
    request: web.Request, methods: Sequence[AuthMethod], scope: Scope | None
) -> Sender:
    undecided: list[TemporaryError] = []
    without_scope: list[Sender] = []
    for method in methods:
        try:
            sender = await method.authenticate(request)
        except TemporaryError as error:
            # The sender is unknown: the reason, which may name roles and secrets, is only logged.
            unsure = TemporaryError(
                f"The authentication method {method.name} can't check credentials now; the log "
                "says why: retry.",
                retry_after_s=error.retry_after_s,
            )
            undecided.append(unsure)
            continue
        if sender is not None and (scope is None or scope in sender.scopes):
            return sender
        without_scope += [sender] if sender is not None else []
    if without_scope:
        raise web.HTTPForbidden(
            text=f"The sender {without_scope[0].name} lacks the scope {scope}: send credentials "
            "that have it."
        )
    if undecided:
        raise undecided[0]
    raise web.HTTPUnauthorized(
        text=" Or: ".join(method.refusal for method in methods),
        headers={"WWW-Authenticate": ", ".join(method.challenge for method in methods)},
    )
