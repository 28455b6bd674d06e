"""Routes of the API documentation: the OpenAPI document, and Swagger UI."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from aiohttp import web

from orchestrator.intake.access import OPEN, declare_access
from orchestrator.intake.assets import answer_asset
from orchestrator.intake.browsers import CONTENT_POLICY
from orchestrator.intake.documentation import HTML_PAGE, Answer, check_models, documented
from orchestrator.intake.links import link, server_path

_BUILD: web.AppKey[Callable[[], Mapping[str, Any]]] = web.AppKey("build_openapi_document")

_SWAGGER_UI = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")

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


@contextmanager
def _of_the_extra() -> Iterator[None]:
    """Imports of the extra `service`. Raises HTTPNotImplemented, with a sentence, without it."""
    try:
        yield
    except ModuleNotFoundError as missing:
        raise web.HTTPNotImplemented(
            text=f"The API's documentation needs the package {missing.name}: "
            "pip install 'saas-orchestrator[service]'."
        ) from None


def _build(app: web.Application) -> Mapping[str, Any]:
    # Those of apispec's old code, which a user's tests may turn into errors.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with _of_the_extra():
            from orchestrator.intake.openapi import build_document

        return build_document(app)


@cache
def _assets() -> Mapping[str, Path]:
    """The files of the pages by name: Swagger UI's that are used, and the service's own."""
    with _of_the_extra():
        import swagger_ui_bundle

    bundle = Path(str(swagger_ui_bundle.swagger_ui_path))
    own = Path(__file__).with_name("pages").iterdir()
    return {path.name: path for path in (*(bundle / name for name in _SWAGGER_UI), *own)}


@routes.get("/openapi.json", name="openapi")
@documented(
    "Get the OpenAPI document",
    description=(
        "The OpenAPI 3.1 document of this service, with a path for each event type that has a "
        "handler, yours included."
    ),
    tag="about",
    access=OPEN,
    answers={
        200: Answer(
            "OpenAPI 3.1",
            dict,
            example={"openapi": "3.1.0", "info": {"title": "SaaS orchestrator"}, "paths": {}},
        )
    },
)
async def get_openapi(request: web.Request) -> web.Response:
    server = {"url": server_path(request) or "/"}
    document = request.app[_BUILD]()
    return web.json_response({**document, "servers": [server]})


@routes.get("/docs", name="docs")
@documented(
    "Read and try the API",
    description=("A page that shows the OpenAPI document and sends requests to this service."),
    tag="about",
    access=OPEN,
    answers={200: HTML_PAGE},
)
async def get_docs(request: web.Request) -> web.Response:
    _assets()
    assets = {
        name: link(request, "docs-assets", filename=file)
        for name, file in (
            ("style", "swagger-ui.css"),
            ("script", "swagger-ui-bundle.js"),
            ("start", "docs.js"),
            ("icon", "favicon-32x32.png"),
        )
    }
    page = _PAGE.format(document=link(request, "openapi"), **assets)
    return web.Response(text=page, content_type="text/html", headers=_PAGE_HEADERS)


@routes.get("/docs/assets/{filename}", name="docs-assets")
@declare_access(OPEN)
async def get_asset(request: web.Request) -> web.Response:
    asset = _assets().get(request.match_info["filename"])
    if asset is None:
        raise web.HTTPNotFound
    return answer_asset(request, asset)


#: Swagger UI's style sheet has images as data: URLs.
_PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY.replace("img-src 'self'", "img-src 'self' data:")
}

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>SaaS orchestrator: API</title>
<link rel="icon" href="{icon}">
<link rel="service-desc" href="{document}">
<link rel="stylesheet" href="{style}">
</head>
<body>
<main id="api"></main>
<script src="{script}"></script>
<script src="{start}"></script>
</body>
</html>
"""
