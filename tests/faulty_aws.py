"""A way to DynamoDB and CodeBuild on which requests are counted, and go wrong when told to.

moto can't fail; this lies before it, and before the CodeBuild stand-in.
"""

import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import attrs
from aiohttp import web

from orchestrator.embedded import EmbeddedAWS, Fault
from orchestrator.embedded.codebuild import HOST

#: The tables of the service that is behind it.
LEDGER, TIERS = "the-ledger", "the-tiers"

_NOT_PASSED_ON = {"host", "connection", "content-length", "transfer-encoding", "date", "server"}


@attrs.frozen
class _Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def as_response(self) -> web.Response:
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@attrs.define
class FaultyAWS:
    """`calls` are the requests by name: the action, for a Query with its table or index."""

    aws: EmbeddedAWS
    url: str
    http: aiohttp.ClientSession
    calls: list[str] = attrs.field(init=False, factory=list)
    _faults: dict[str, deque[Fault | None]] = attrs.field(
        init=False, factory=lambda: defaultdict(deque)
    )
    _slow: list[Fault] = attrs.field(init=False, factory=list)

    def environment(self) -> dict[str, str]:
        """The variables that lead here; the credentials are the embedded AWS's."""
        there = {"AWS_ENDPOINT_URL": self.url, "AWS_ENDPOINT_URL_CODEBUILD": self.url}
        return self.aws.environment() | there

    def inject(self, name: str, *faults: Fault | None) -> None:
        """Let the next requests of a name go wrong, one fault each; None lets one pass."""
        self._faults[name].extend(faults)

    def mend(self) -> None:
        """Nothing goes wrong any more."""
        self._faults.clear()

    @property
    def left(self) -> int:
        """How many injected faults nobody has met yet."""
        return sum(len(waiting) for waiting in self._faults.values())

    async def handle_request(self, request: web.Request) -> web.Response:
        service, _, action = request.headers["X-Amz-Target"].partition(".")
        body = await request.read()
        parameters = json.loads(body)
        name = _name(action, parameters)
        self.calls.append(name)
        fault = self._faults[name].popleft() if self._faults[name] else None
        if fault and fault.kind == "reset":
            return _hang_up(request)
        if fault and fault.kind == "error":
            error = json.dumps({"__type": fault.code, "message": fault.message})
            media_type = request.content_type
            return web.Response(status=fault.http_status, text=error, content_type=media_type)
        is_codebuild = service.startswith("CodeBuild")
        upstream = self.aws.codebuild.url if is_codebuild else self.aws.endpoint_url
        answer = await self._pass_on(request, upstream, body)
        if fault and fault.kind == "answer_lost":
            return _hang_up(request)
        if fault and fault.kind == "slow":
            self._slow.append(fault)
            fault.reached.set()
            await fault.release.wait()
        return answer.as_response()

    async def _pass_on(self, request: web.Request, upstream: str, body: bytes) -> _Answer:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _NOT_PASSED_ON}
        async with self.http.post(upstream, data=body, headers=headers) as response:
            kept = {k: v for k, v in response.headers.items() if k.lower() not in _NOT_PASSED_ON}
            return _Answer(response.status, kept, await response.read())

    async def release_slow(self, _app: web.Application) -> None:
        """No slow answer holds up the end of the server."""
        for fault in self._slow:
            fault.release.set()


def _name(action: str, parameters: dict[str, Any]) -> str:
    if action != "Query":
        return action
    return f"Query {parameters.get('IndexName') or parameters['TableName']}"


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


@asynccontextmanager
async def open_faulty_aws(aws: EmbeddedAWS) -> AsyncIterator[FaultyAWS]:
    """Serve a way to an embedded AWS."""
    app = web.Application(client_max_size=2**24)
    runner = web.AppRunner(app, access_log=None)
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        faulty = FaultyAWS(aws, "", http)
        app.router.add_post("/", faulty.handle_request)
        app.on_shutdown.append(faulty.release_slow)
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        faulty.url = f"http://{host}:{port}"
        try:
            yield faulty
        finally:
            await runner.cleanup()
