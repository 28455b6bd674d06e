"""What any aiohttp service must do: read JSON, answer JSON."""

import sys

from aiohttp import web


async def post_event(request: web.Request) -> web.Response:
    event = await request.json()
    return web.json_response({"success": True}, headers={"Location": f"/runs/{event['id']}"})


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post("/events", post_event)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
