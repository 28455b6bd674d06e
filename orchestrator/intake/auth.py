"""Who may come in: a middleware that lets a request pass if any configured method knows it."""

import asyncio
import hmac

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from orchestrator.core.errors import SecretBlank
from orchestrator.intake.app_keys import API_KEYS
from orchestrator.intake.links import own_path

#: What a load balancer or a person may ask without a key.
OPEN_ROUTES = ("healthz", "readyz", "ping")


def api_key_scheme(header: str) -> dict[str, str]:
    """The method as an OpenAPI security scheme."""
    return {"type": "apiKey", "in": "header", "name": header}


def require_api_key(*, header: str) -> Middleware:
    """Refuse, with 401, whoever doesn't send one of the app's API keys in `header`.

    All keys are compared, each in constant time: how long an answer takes tells nothing. White
    space around a key isn't part of it, as it isn't of a header (RFC 9110, section 5.5), and one
    that is blank is none. While one of them can't be read, and none of the others was sent, the
    answer is 503.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        # By path: a method that isn't allowed leads to no route.
        if own_path(request) in {str(request.app.router[name].url_for()) for name in OPEN_ROUTES}:
            return await handler(request)
        # A header may hold any bytes; aiohttp gives those that aren't UTF-8 as surrogates.
        sent = request.headers.get(header, "").encode("utf-8", "surrogateescape")
        found = await asyncio.gather(
            *(key() for key in request.app[API_KEYS]), return_exceptions=True
        )
        keys = [key.strip() for key in found if isinstance(key, str)]
        known = [key.encode() for key in keys if key]
        if not any([hmac.compare_digest(sent, key) for key in known]):  # noqa: C419 - compare all
            for unknown in found:
                if isinstance(unknown, BaseException) and not isinstance(unknown, SecretBlank):
                    raise unknown
            raise web.HTTPUnauthorized(
                text=f"The header {header} has no valid key: send one of the service's API keys.",
                headers={"WWW-Authenticate": f'ApiKey header="{header}"'},
            )
        return await handler(request)

    return check
