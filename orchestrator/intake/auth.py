"""Authentication: a request passes if any of the configured methods recognizes its sender."""

import asyncio
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from orchestrator.core.errors import SecretBlank, TemporaryError
from orchestrator.intake.access import Scope, access_of
from orchestrator.intake.app_keys import CREDENTIALS
from orchestrator.settings import ApiKey, Auth


@attrs.frozen(kw_only=True)
class Sender:
    """The sender of a request, and their scopes."""

    name: str
    scopes: frozenset[Scope]


class AuthMethod(Protocol):
    """An authentication method. A new one is a class like `ApiKeyMethod`, a line in `_METHODS`, and
    a name in the setting `auth.methods`."""

    @property
    def name(self) -> str:
        """Its name in the OpenAPI document."""

    @property
    def scheme(self) -> Mapping[str, Any]:
        """Its Security Scheme Object (OpenAPI 3.1, section 4.8.27)."""

    @property
    def challenge(self) -> str:
        """Its challenge in `WWW-Authenticate` of a 401 (RFC 9110, section 11.6.1)."""

    @property
    def refusal(self) -> str:
        """Its sentence in a 401: what is missing and what to send."""

    async def authenticate(self, request: web.Request) -> Sender | None:
        """The sender; None if this method doesn't recognize them.

        Raises:
            TemporaryError: it can't be decided now.
        """


#: The methods in the order in which they are tried; empty: no authentication, and no middleware.
AUTH_METHODS: web.AppKey[Sequence[AuthMethod]] = web.AppKey("auth_methods")

#: The authenticated sender of a request; an open service's requests have none.
SENDER: web.RequestKey[Sender] = web.RequestKey("sender", Sender)


def name_of_sender(request: web.Request) -> str | None:
    """The name of the authenticated sender; None on an open service."""
    sender = request.get(SENDER)
    return sender.name if sender else None


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request pass if its route is open, or if any of the app's methods recognizes its sender
    and the sender has the scope that the route requires.

    Else the answer is 401, or 403 if only the scope is missing. It is 503 if a method can't decide
    now and no other recognizes the sender.
    """
    access = await access_of(request)
    if not access.is_open:
        sender = request[SENDER] = await _find_sender(request, request.app[AUTH_METHODS])
        _check_scope(sender, access.scope)
    return await handler(request)


def authentication(methods: Sequence[AuthMethod]) -> Sequence[Middleware]:
    """The middlewares that authenticate by the methods: none for an open service."""
    return [authenticate] if methods else []


async def _find_sender(request: web.Request, methods: Sequence[AuthMethod]) -> Sender:
    undecided: list[TemporaryError] = []
    for method in methods:
        try:
            sender = await method.authenticate(request)
        except TemporaryError as error:
            undecided.append(error)
        else:
            if sender is not None:
                return sender
    if undecided:
        raise undecided[0]
    raise web.HTTPUnauthorized(
        text=" Or: ".join(method.refusal for method in methods),
        headers={"WWW-Authenticate": ", ".join(method.challenge for method in methods)},
    )


def _check_scope(sender: Sender, scope: Scope | None) -> None:
    if scope is not None and scope not in sender.scopes:
        raise web.HTTPForbidden(
            text=f"The sender {sender.name} lacks the scope {scope}: send credentials that have it."
        )


@attrs.frozen
class ApiKeyMethod:
    """Recognizes senders by an API key of the settings in a header.

    All keys are compared, each in constant time, against timing attacks. White space around a key
    is ignored, as in a header (RFC 9110, section 5.5), and a blank key is never accepted.
    """

    settings: ApiKey

    @property
    def name(self) -> str:
        return "apiKey"

    @property
    def scheme(self) -> Mapping[str, Any]:
        return {"type": "apiKey", "in": "header", "name": self.settings.header}

    @property
    def challenge(self) -> str:
        return f'ApiKey header="{self.settings.header}"'

    @property
    def refusal(self) -> str:
        return (
            f"The header {self.settings.header} has no valid key: send one of the service's API "
            "keys."
        )

    async def authenticate(self, request: web.Request) -> Sender | None:
        """Raises TemporaryError: a key can't be read, and the sent key is none of the others."""
        # A header may contain any bytes; aiohttp decodes those that aren't UTF-8 as surrogates.
        sent = request.headers.get(self.settings.header, "").encode("utf-8", "surrogateescape")
        credentials = request.app[CREDENTIALS]
        found = await asyncio.gather(
            *(credentials.resolve(key) for key in self.settings.keys), return_exceptions=True
        )
        keys = [key.strip() for key in found if isinstance(key, str)]
        known = [key.encode() for key in keys if key]
        if any([hmac.compare_digest(sent, key) for key in known]):  # noqa: C419 - compare all
            return Sender(name="api_key", scopes=frozenset(Scope))
        for unread in found:
            if isinstance(unread, BaseException) and not isinstance(unread, SecretBlank):
                raise unread
        return None


#: The class of each name in `auth.methods`.
_METHODS: Mapping[str, Callable[[Auth], AuthMethod]] = {
    "api_key": lambda auth: ApiKeyMethod(auth.api_key),
}


def choose_methods(auth: Auth) -> Sequence[AuthMethod]:
    """The methods that the settings name, each once, in the order in which they are tried."""
    return [_METHODS[name](auth) for name in dict.fromkeys(auth.methods)]
