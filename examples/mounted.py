"""The service inside an aiohttp app of yours, under a prefix, sharing its process.

python examples/mounted.py
curl http://127.0.0.1:8080/tenants-api/docs
"""

from aiohttp import web

from orchestrator import ORCHESTRATOR, setup


async def sign_up(request: web.Request) -> web.Response:
    """A route of yours that hands an event straight to the orchestrator."""
    form = await request.json()
    await request.app[ORCHESTRATOR].handle_event(
        "TENANT_PROVISIONING", {"tenant": {"id": form["company"]}, "tier": form["plan"]}
    )
    return web.json_response({"welcome": form["company"]})


def create_shop() -> web.Application:
    app = web.Application()
    app.router.add_post("/sign-up", sign_up)
    setup(app, prefix="/tenants-api")
    return app


if __name__ == "__main__":
    web.run_app(create_shop(), host="127.0.0.1")
