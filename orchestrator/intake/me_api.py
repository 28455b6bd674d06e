"""The route of the sender's own name and scopes."""

import attrs
from aiohttp import web

from orchestrator.intake.access import ANY_SENDER
from orchestrator.intake.app_keys import WIRE
from orchestrator.intake.documentation import Answer, documented
from orchestrator.intake.problems import REFUSED
from orchestrator.intake.sender import SENDER
from orchestrator.settings.auth import ALL_SCOPES, Scope

routes = web.RouteTableDef()


@attrs.frozen(kw_only=True)
class Me:
    """The authenticated sender's name, null on an open service, and what the sender may do."""

    name: str | None
    scopes: list[Scope]


@routes.get("/me")
@documented(
    "Get the sender's own name and scopes",
    description=(
        "The name of the sender whom your credentials identify, and what you may do; needs no "
        "scope."
    ),
    tag="about",
    access=ANY_SENDER,
    answers={200: Answer("The sender", Me), 401: REFUSED},
)
async def get_me(request: web.Request) -> web.Response:
    sender = request.get(SENDER)
    scopes = sorted(ALL_SCOPES if sender is None else sender.scopes)
    shown = Me(name=sender.name if sender else None, scopes=scopes)
    return web.json_response(request.app[WIRE].unstructure(shown))
