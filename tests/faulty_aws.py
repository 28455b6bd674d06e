"""A proxy to DynamoDB and CodeBuild that counts requests, and lets them fail on demand.

moto can't fail; the proxy is before it, and before the CodeBuild stand-in.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import attrs
from aiohttp import web

from orchestrator.embedded import EmbeddedAWS, Fault, Faults
from orchestrator.embedded.codebuild import HOST

#: The tables of the service under test.
LEDGER, TIERS = "the-ledger", "the-tiers"

_NOT_PASSED_ON = {"host", "connection", "content-length", "transfer-encoding", "date", "server"}


@attrs.define
class FaultyAWS:
    """`calls` are the requests by name: the action, for a Query with its table or index."""

    aws: EmbeddedAWS
    url: str
    http: aiohttp.ClientSession
    calls: list[str] = attrs.field(init=False, factory=list)
    faults: Faults = attrs.field(init=False, factory=Faults)

    def environment(self) -> dict[str, str]:
        """The variables that lead to this proxy; the credentials are the embedded AWS's."""
        there = {"AWS_ENDPOINT_URL": self.url, "AWS_ENDPOINT_URL_CODEBUILD": self.url}
        return self.aws.environment() | there

    def inject(self, name: str, *faults: Fault | None) -> None:
        """Let the next requests of a name fail, one fault each; None lets one pass."""
        self.faults.inject(name, *faults)

    def mend(self) -> None:
        """Remove all faults."""
        self.faults.clear()

    @property
    def left(self) -> int:
        """How many injected faults no request has met yet."""
        return len(self.faults.left)

    async def handle_request(self, request: web.Request) -> web.Response:
        service, _, action = request.headers["X-Amz-Target"].partition(".")
        body = await request.read()
        parameters = json.loads(body)
        name = call_name(action, parameters)
        self.calls.append(name)
        fault = self.faults.take(name)

        async def respond() -> web.Response:
            if fault and fault.kind == "error":
                error = json.dumps({"__type": fault.code, "message": fault.message})
                media_type = request.content_type
                return web.Response(status=fault.http_status, text=error, content_type=media_type)
            is_codebuild = service.startswith("CodeBuild")
            upstream = self.aws.codebuild.url if is_codebuild else self.aws.endpoint_url
            return await self._pass_on(request, upstream, body)

        return await self.faults.meet(fault, request, respond)

    async def _pass_on(self, request: web.Request, upstream: str, body: bytes) -> web.Response:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _NOT_PASSED_ON}
        async with self.http.post(upstream, data=body, headers=headers) as response:
            kept = {k: v for k, v in response.headers.items() if k.lower() not in _NOT_PASSED_ON}
            return web.Response(status=response.status, headers=kept, body=await response.read())


def call_name(action: str, parameters: Mapping[str, Any]) -> str:
    """The action; a Query with its index or table."""
    if action != "Query":
        return action
    return f"Query {parameters.get('IndexName') or parameters['TableName']}"


@asynccontextmanager
async def open_faulty_aws(aws: EmbeddedAWS) -> AsyncIterator[FaultyAWS]:
    """Serve a proxy to an embedded AWS."""
    app = web.Application(client_max_size=2**24)
    runner = web.AppRunner(app, access_log=None)
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        faulty = FaultyAWS(aws, "", http)
        app.router.add_post("/", faulty.handle_request)
        app.on_shutdown.append(faulty.faults.release_slow)
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        faulty.url = f"http://{host}:{port}"
        try:
            yield faulty
        finally:
            await runner.cleanup()
