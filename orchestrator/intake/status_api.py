"""Routes of the service's status: home page, ping, liveness, readiness."""

from datetime import UTC, datetime

import attrs
from aiohttp import web

from orchestrator.core.errors import TemporaryError
from orchestrator.intake.access import OPEN
from orchestrator.intake.app_keys import CHECKS
from orchestrator.intake.documentation import HTML_PAGE, Answer, documented
from orchestrator.intake.links import address, link
from orchestrator.intake.problems import UNAVAILABLE
from orchestrator.intake.workload import WAITS_FOR

routes = web.RouteTableDef()
#: The only routes of a worker.
health_routes = web.RouteTableDef()


@attrs.frozen(kw_only=True)
class Ping:
    greeting: str
    date: str
    url: str


@attrs.frozen(kw_only=True)
class Health:
    status: str


@routes.get("/")
@documented("Home page", tag="about", access=OPEN, answers={200: HTML_PAGE})
async def get_home(request: web.Request) -> web.Response:
    links = "".join(
        f'<li><a href="{link(request, name)}">{text}</a></li>'
        for name, text in (
            ("console", "Console"),
            ("docs", "API documentation"),
            ("openapi", "OpenAPI document"),
            ("readyz", "Readiness"),
        )
    )
    style = link(request, "docs-assets", filename="home.css")
    return web.Response(text=_HOME.format(links=links, style=style), content_type="text/html")


@routes.get("/ping", name="ping")
@documented("Ping", tag="about", access=OPEN, answers={200: Answer("The service answers", Ping)})
async def get_ping(request: web.Request) -> web.Response:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    ping = Ping(greeting="Hello from the SaaS orchestrator", date=now, url=address(request))
    return web.json_response(attrs.asdict(ping))


@health_routes.get("/healthz", name="healthz")
@documented(
    "Liveness", tag="about", access=OPEN, answers={200: Answer("The process is alive", Health)}
)
async def get_healthz(_: web.Request) -> web.Response:
    return web.json_response(attrs.asdict(Health(status="ok")))


@health_routes.get("/readyz", name="readyz")
@documented(
    "Readiness",
    tag="about",
    access=OPEN,
    answers={200: Answer("Ready for events", Health), 503: UNAVAILABLE},
)
async def get_readyz(request: web.Request) -> web.Response:
    for name, check in request.app[CHECKS].items():
        request[WAITS_FOR] = f"the check {name!r}"
        try:
            await check()
        except TemporaryError as error:
            raise TemporaryError(
                f"Not ready: the check {name!r} failed.", retry_after_s=error.retry_after_s
            ) from error
    return web.json_response(attrs.asdict(Health(status="ready")))


_HOME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>SaaS orchestrator</title>
<link rel="stylesheet" href="{style}">
</head>
<body>
<h1>SaaS orchestrator</h1>
<p>Turns a control plane's events into jobs, once each, and reports how each of them ended.</p>
<ul>{links}</ul>
</body>
</html>
"""
