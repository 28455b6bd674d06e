"""A proxy to a DynamoDB that counts requests, and lets them fail on demand or at random.

It runs in the test's own event loop; services in other processes may use it, too. It does what
DynamoDB Local never does on its own: transaction conflicts, throttling, unprocessed keys and
broken connections.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import aiohttp
import attrs
from aiohttp import web

from orchestrator.embedded import Fault, Faults
from orchestrator.embedded.codebuild import HOST

#: Why DynamoDB cancels a transaction; a Fault.error of such a code makes it a cancelled one.
_REASONS = {
    "TransactionConflict": "Transaction is ongoing for the item",
    "ThrottlingError": "Throughput exceeds the current capacity of your table or index.",
    "ProvisionedThroughputExceeded": "The level of configured provisioned throughput was exceeded.",
}
_NOT_PASSED_ON = {"host", "connection", "content-length", "transfer-encoding", "date", "server"}
_MEDIA_TYPE = "application/x-amz-json-1.0"


def conflict() -> Fault:
    """The transaction conflicts with another one: it is cancelled, and nothing was done."""
    return Fault.error("TransactionConflict")


def throttled_transaction() -> Fault:
    """The transaction is cancelled for the table's capacity, and nothing was done."""
    return Fault.error("ThrottlingError")


def throttled() -> Fault:
    """The request is refused for the table's capacity; the SDK tries it again."""
    return Fault.error("ProvisionedThroughputExceededException")


def broken() -> Fault:
    """DynamoDB fails with 500, and did nothing; the SDK tries it again."""
    return Fault.error("InternalServerError", http_status=500)


#: BatchGetItem reads half of its keys and names the others as UnprocessedKeys.
UNPROCESSED = Fault.error("UnprocessedKeys")


@attrs.define
class Proxy:
    """`calls` are actions and parameters in order; `injected` counts the faults by their code."""

    url: str
    _upstream: str
    _http: aiohttp.ClientSession
    calls: list[tuple[str, Mapping[str, Any]]] = attrs.field(init=False, factory=list)
    injected: Counter[str] = attrs.field(init=False, factory=Counter)
    faults: Faults = attrs.field(init=False, factory=Faults)
    _shares: dict[str, tuple[float, tuple[Fault, ...]]] = attrs.field(init=False, factory=dict)
    _random: Random = attrs.field(init=False, factory=lambda: Random(0))  # noqa: S311
    _spared: set[str] = attrs.field(init=False, factory=set)

    def inject(self, action: str, *faults: Fault | None) -> None:
        """Let the next requests of an action fail, one fault each; None lets one pass."""
        self.faults.inject(action, *faults)

    def forget(self) -> None:
        """Remove all calls and faults."""
        self.calls.clear()
        self.injected.clear()
        self.faults.clear()
        self._shares.clear()
        self._spared.clear()

    def inject_at_random(self, action: str, share: float, *faults: Fault, seed: int) -> None:
        """Let a share of an action's requests fail, each with one of the faults.

        A request that is retried after a fault passes, so that no test fails by bad luck.
        """
        self._random.seed(seed)
        self._shares[action] = share, faults

    async def handle_request(self, request: web.Request) -> web.Response:
        action = request.headers["X-Amz-Target"].partition(".")[2]
        body = await request.read()
        parameters = json.loads(body)
        self.calls.append((action, parameters))
        fault = self._next_fault(action, parameters)
        if fault is not None:
            self.injected[fault.code or fault.kind] += 1

        async def respond() -> web.Response:
            if fault is UNPROCESSED:
                return await self._leave_unprocessed(request, parameters)
            if fault and fault.kind == "error":
                return _refusal(fault, parameters)
            return await self._pass_on(request, body)

        return await self.faults.meet(fault, request, respond)

    def _next_fault(self, action: str, parameters: Mapping[str, Any]) -> Fault | None:
        if action in self.faults.left:
            return self.faults.take(action)
        if action not in self._shares:
            return None
        share, faults = self._shares[action]
        # A retry of the SDK has the same token; a new try has the same content, or of a read less.
        token = parameters.get("ClientRequestToken")
        content = json.dumps({**parameters, "ClientRequestToken": None}, sort_keys=True)
        names = (token, content) if token else (action,)
        for name in names:
            if name in self._spared:
                self._spared.remove(name)
                return None
        if self._random.random() >= share:
            return None
        fault = self._random.choice(faults)
        self._spared.add(content if token and fault.code in _REASONS else names[0])
        return fault

    async def _leave_unprocessed(
        self, request: web.Request, parameters: dict[str, Any]
    ) -> web.Response:
        ((table, asked),) = parameters["RequestItems"].items()
        half = len(asked["Keys"]) // 2
        left = {table: {**asked, "Keys": asked["Keys"][half:]}}
        document: dict[str, Any] = {"Responses": {table: []}}
        if half:
            read = {table: {**asked, "Keys": asked["Keys"][:half]}}
            body = json.dumps({**parameters, "RequestItems": read}).encode()
            answer = await self._pass_on(request, body)
            assert isinstance(answer.body, bytes)
            document = json.loads(answer.body)
        return _answer(document | {"UnprocessedKeys": left})

    async def _pass_on(self, request: web.Request, body: bytes) -> web.Response:
        headers = _without(request.headers)
        async with self._http.post(self._upstream, data=body, headers=headers) as response:
            kept = _without(response.headers)
            return web.Response(status=response.status, headers=kept, body=await response.read())


def _refusal(fault: Fault, parameters: Mapping[str, Any]) -> web.Response:
    if fault.code not in _REASONS:
        return _answer({"__type": fault.code, "message": fault.message}, fault.http_status)
    # One item is the cause, and DynamoDB returns a reason for each item.
    others = [{"Code": "None"}] * (len(parameters["TransactItems"]) - 1)
    reasons = [*others, {"Code": fault.code, "Message": _REASONS[fault.code]}]
    codes = ", ".join(reason["Code"] for reason in reasons)
    document = {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled, please refer cancellation reasons for specific "
        f"reasons [{codes}]",
        "CancellationReasons": reasons,
    }
    return _answer(document, 400)


def _without(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of the content, without those of the connection."""
    return {name: value for name, value in headers.items() if name.lower() not in _NOT_PASSED_ON}


def _answer(document: Mapping[str, Any], http_status: int = 200) -> web.Response:
    body = json.dumps(document).encode()
    return web.Response(status=http_status, body=body, content_type=_MEDIA_TYPE)


@asynccontextmanager
async def open_proxy(upstream: str) -> AsyncIterator[Proxy]:
    """Serve a proxy to the DynamoDB at `upstream` on 127.0.0.1."""
    app = web.Application(client_max_size=32 * 2**20)
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        runner = web.AppRunner(app, access_log=None)
        site_url = f"http://{HOST}"
        proxy = Proxy(site_url, upstream, http)
        app.router.add_post("/", proxy.handle_request)
        app.on_shutdown.append(proxy.faults.release_slow)
        await runner.setup()
        await web.TCPSite(runner, HOST, 0).start()
        proxy.url = f"{site_url}:{runner.addresses[0][1]}"
        try:
            yield proxy
        finally:
            await runner.cleanup()
