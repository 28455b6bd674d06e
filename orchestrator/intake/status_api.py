"""Routes of the service's status: home page, ping, liveness, readiness."""

import importlib.metadata
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
    """The answer to a ping."""

    greeting: str
    date: str
    url: str


@attrs.frozen(kw_only=True)
class Health:
    """The answer of a health check."""

    status: str


@routes.get("/")
@documented(
    "Open the home page",
    description="What the service is, its version, and links to its pages.",
    tag="about",
    access=OPEN,
    answers={200: HTML_PAGE},
)
async def get_home(request: web.Request) -> web.Response:
    routes = request.app.router.named_resources()
    links = "".join(
        f'<li><a href="{link(request, name)}">{title}</a>: {text}</li>'
        for name, title, text in _PAGES
        if name in routes
    )
    page = _HOME.format(
        links=links,
        style=link(request, "docs-assets", filename="home.css"),
        version=importlib.metadata.version("saas-orchestrator"),
    )
    return web.Response(text=page, content_type="text/html")


@routes.get("/ping", name="ping")
@documented(
    "Ping the service",
    description="Answers with the time, and checks nothing. A health check uses /healthz.",
    tag="about",
    access=OPEN,
    answers={200: Answer("The service answers", Ping)},
)
async def get_ping(request: web.Request) -> web.Response:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    ping = Ping(greeting="Hello from the SaaS orchestrator", date=now, url=address(request))
    return web.json_response(attrs.asdict(ping))


@health_routes.get("/healthz", name="healthz")
@documented(
    "Check that the process is alive",
    description="For a container's health check. It checks nothing else: a ledger that can't be "
    "reached is no reason to restart the process.",
    tag="about",
    access=OPEN,
    answers={200: Answer("The process is alive", Health)},
)
async def get_healthz(_: web.Request) -> web.Response:
    return web.json_response(attrs.asdict(Health(status="ok")))


@health_routes.get("/readyz", name="readyz")
@documented(
    "Check that the service is ready for events",
    description="For a load balancer. 503 names the check that failed: the ledger, the queue, or "
    "that the service is shutting down.",
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


#: The routes that the home page links, with what is there. The metrics may be absent.
_PAGES = (
    ("console", "Console", "tenants, operations and runs; replay and cancel"),
    ("docs", "API", "read it, and try it"),
    ("openapi", "OpenAPI document", "for generators of clients"),
    ("metrics", "Metrics", "for Prometheus"),
    ("readyz", "Readiness", "whether the service takes events"),
)

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
<p>Turns a SaaS control plane's events into jobs, exactly one for each request: it provisions,
deploys and deprovisions tenants by AWS CodeBuild, Jenkins or AWS Step Functions, and reports to the
control plane how each operation ended.</p>
<ul>{links}</ul>
<p>Version {version}</p>
</body>
</html>
"""
