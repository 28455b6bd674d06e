"""A control plane stand-in for `demo`: its webhook verifies each report.

It checks what arc-saas' tenant-management checks, except that it doesn't serialize the body again
as JavaScript does: the tests have a verifier in JavaScript for that.
"""

import hashlib
import hmac
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
from aiohttp import web

from orchestrator.embedded.codebuild import HOST

_TOLERANCE_MS = 20_000


@attrs.define
class ControlPlaneStandIn:
    """The webhook at `url`, and the reports that it accepted and refused."""

    url: str
    accepted: list[dict[str, Any]] = attrs.field(init=False, factory=list)
    refused: list[str] = attrs.field(init=False, factory=list)
    _expected: dict[str, tuple[str, str]] = attrs.field(init=False, factory=dict)

    def expect(self, tenant_id: str, *, secret: str, context: str) -> None:
        """Expect one report on the tenant."""
        self._expected[tenant_id] = (secret, context)

    async def handle_report(self, request: web.Request) -> web.Response:
        text = await request.text()
        body = json.loads(text)
        secret, context = self._expected.get(body["initiatorId"], ("", ""))
        timestamp = request.headers.get("x-timestamp", "0")
        message = f"{text}{context}{timestamp}".encode()
        signature = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
        is_signed = hmac.compare_digest(signature, request.headers.get("x-signature", ""))
        is_in_time = abs(time.time() * 1000 - int(timestamp)) <= _TOLERANCE_MS
        if not (secret and is_signed and is_in_time):
            self.refused.append(text)
            return web.Response(status=401)
        del self._expected[body["initiatorId"]]
        self.accepted.append(body)
        return web.Response(status=204)


@asynccontextmanager
async def open_control_plane() -> AsyncIterator[ControlPlaneStandIn]:
    """Serve the webhook."""
    listener = socket.create_server((HOST, 0))
    control_plane = ControlPlaneStandIn(f"http://{HOST}:{listener.getsockname()[1]}/webhook")
    app = web.Application()
    app.router.add_post("/webhook", control_plane.handle_report)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    try:
        yield control_plane
    finally:
        await runner.cleanup()
