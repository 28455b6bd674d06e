"""Routes of the API documentation: the OpenAPI document, and Swagger UI."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from aiohttp import web

from orchestrator.intake.access import ANY_SENDER, declare_access
from orchestrator.intake.documentation import HTML_PAGE, Answer, check_models, documented
from orchestrator.intake.links import link, server_path
from orchestrator.intake.problems import REFUSED

_BUILD: web.AppKey[Callable[[], Mapping[str, Any]]] = web.AppKey("build_openapi_document")

routes = web.RouteTableDef()


async def prepare_document(app: web.Application) -> None:
    """Prepare the document on startup, when all routes and the prefix are known. It is built by the
    first request for it, because that takes longer than the rest of a start.

    Raises:
        RegistrationError: the document can't be built.
    """
    check_models(app)
    build: Callable[[], Mapping[str, Any]] = cache(partial(_build, app))
    app[_BUILD] = build


def _build(app: web.Application) -> Mapping[str, Any]:
    from orchestrator.intake.openapi import build_document

    return build_document(app)


@cache
def _assets() -> Mapping[str, Path]:
    """Swagger UI's files by name."""
    import swagger_ui_bundle

    return {path.name: path for path in Path(str(swagger_ui_bundle.swagger_ui_path)).iterdir()}


@routes.get("/openapi.json", name="openapi")
@documented(
    "OpenAPI document",
    tag="about",
    access=ANY_SENDER,
    answers={200: Answer("OpenAPI 3.1", dict), 401: REFUSED},
)
async def get_openapi(request: web.Request) -> web.Response:
    server = {"url": server_path(request) or "/"}
    document = request.app[_BUILD]()
    return web.json_response({**document, "servers": [server]})


@routes.get("/docs", name="docs")
@documented(
    "Interactive API documentation",
    tag="about",
    access=ANY_SENDER,
    answers={200: HTML_PAGE, 401: REFUSED},
)
async def get_docs(request: web.Request) -> web.Response:
    assets = {
        name: link(request, "docs-assets", filename=file)
        for name, file in (
            ("style", "swagger-ui.css"),
            ("script", "swagger-ui-bundle.js"),
            ("icon", "favicon-32x32.png"),
        )
    }
    page = _PAGE.format(document=link(request, "openapi"), **assets)
    return web.Response(text=page, content_type="text/html")


@routes.get("/docs/assets/{filename}", name="docs-assets")
@declare_access(ANY_SENDER)
async def get_asset(request: web.Request) -> web.FileResponse:
    asset = _assets().get(request.match_info["filename"])
    if asset is None:
        raise web.HTTPNotFound
    return web.FileResponse(asset)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>SaaS orchestrator: API</title>
<link rel="icon" href="{icon}">
<link rel="stylesheet" href="{style}">
</head>
<body>
<main id="api"></main>
<script src="{script}"></script>
<script>
SwaggerUIBundle({{url: "{document}", dom_id: "#api", deepLinking: true, validatorUrl: null}});
</script>
</body>
</html>
"""
