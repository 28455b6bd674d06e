"""Protects from other origins' pages: whose requests are refused, and what a page may load.

A page of any origin can have its visitor's browser send a POST to a service on the visitor's
network, without asking (CORS has no preflight for a plain form). The browser says so, in headers
that no script can set: `Sec-Fetch-Site` (W3C Fetch Metadata Request Headers, section 2.4), sent to
https:// and to loopback addresses, and `Origin` (Fetch standard, section 3.2) with each unsafe
method.
"""

from collections.abc import Collection

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from yarl import URL

#: RFC 9110, section 9.2.1.
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")
_SITE = "Sec-Fetch-Site"
_OWN_SITES = ("same-origin", "none")

#: What a page of the service may load (Content Security Policy Level 3): only files of the service.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

#: The headers that restrict what browsers do with an answer.
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def protect_from_other_origins(allowed_hosts: Collection[str]) -> Middleware:
    """Refuse requests to a `Host` that isn't in `allowed_hosts` (empty: any), and requests with an
    unsafe method from a page of another origin.

    A name that leads to this service only by DNS rebinding makes any page one of the same origin,
    but its requests have that name in `Host`.
    """
    allowed = {host.lower() for host in allowed_hosts}

    @web.middleware
    async def protect(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get(hdrs.HOST, "").lower()
        if allowed and host not in allowed:
            raise web.HTTPMisdirectedRequest(
                text=f"The Host is {host!r}, and http.allowed_hosts has only "
                f"{', '.join(sorted(allowed))}: use one of these."
            )
        if request.method not in _SAFE_METHODS and _is_of_another_origin(request, host):
            raise web.HTTPForbidden(
                text=f"A page of another origin sent this {request.method}: send it from a page of "
                "this service, or not from a browser."
            )
        return await handler(request)

    return protect


def _is_of_another_origin(request: web.Request, host: str) -> bool:
    site = request.headers.get(_SITE)
    if site is not None:
        return site not in _OWN_SITES
    origin = request.headers.get(hdrs.ORIGIN)
    return origin is not None and _host_of(origin) != host


def _host_of(origin: str) -> str | None:
    """The origin's host and port as `Host` has them; None for `null`, and what isn't an origin."""
    try:
        return URL(origin).raw_authority.lower() or None
    except ValueError:
        return None


async def add_security_headers(_request: web.Request, answer: web.StreamResponse) -> None:
    """Add the security headers, except those that the answer has."""
    for name, value in SECURITY_HEADERS.items():
        answer.headers.setdefault(name, value)
