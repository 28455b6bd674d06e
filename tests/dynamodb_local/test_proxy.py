"""The proxy injects the given faults into requests, and nothing else."""

from collections.abc import AsyncIterator

import aiohttp
import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from orchestrator.embedded import Fault
from tests.dynamodb_local.proxy import UNPROCESSED, Proxy, broken, conflict, open_proxy, throttled


@attrs.define
class Upstream:
    """A DynamoDB that counts the requests that reach it."""

    url: str = ""
    reached: int = 0

    async def handle_request(self, request: web.Request) -> web.Response:
        self.reached += 1
        asked = await request.json()
        tables = asked.get("RequestItems", {})
        found = {name: keys["Keys"] for name, keys in tables.items()}
        return web.json_response({"Responses": found})


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    app = web.Application()
    app.router.add_post("/", upstream.handle_request)
    async with TestServer(app) as server:
        upstream.url = str(server.make_url("/"))
        yield upstream


@pytest.fixture
async def proxy(upstream: Upstream) -> AsyncIterator[Proxy]:
    async with open_proxy(upstream.url) as proxy:
        yield proxy


async def ask(proxy: Proxy, action: str, **parameters: object) -> tuple[int, str]:
    """Status and error's code; the status is -1 if there was no answer."""
    headers = {"X-Amz-Target": f"DynamoDB_20120810.{action}"}
    async with aiohttp.ClientSession() as http:
        try:
            async with http.post(proxy.url, json=parameters, headers=headers) as answer:
                document = await answer.json(content_type=None)
        except aiohttp.ClientConnectionError:
            return -1, ""
    return answer.status, document.get("__type", "").rpartition("#")[2]


@pytest.mark.parametrize(
    ("fault", "answer", "reached"),
    [
        (None, (200, ""), 1),
        (Fault.reset(), (-1, ""), 0),
        (Fault.answer_lost(), (-1, ""), 1),
        (throttled(), (400, "ProvisionedThroughputExceededException"), 0),
        (broken(), (500, "InternalServerError"), 0),
        (conflict(), (400, "TransactionCanceledException"), 0),
    ],
)
async def test_a_listed_fault_is_done_once(
    proxy: Proxy, upstream: Upstream, fault: Fault | None, answer: tuple[int, str], reached: int
) -> None:
    """An injected fault hits the next request of its action; requests of other actions, and the
    next one, pass."""
    proxy.inject("TransactWriteItems", fault)
    assert await ask(proxy, "Query") == (200, "")
    assert await ask(proxy, "TransactWriteItems", TransactItems=[1, 2]) == answer
    assert upstream.reached == 1 + reached
    assert await ask(proxy, "TransactWriteItems", TransactItems=[1, 2]) == (200, "")
    assert [action for action, _ in proxy.calls] == ["Query", *["TransactWriteItems"] * 2]


async def test_half_of_the_keys_are_left(proxy: Proxy) -> None:
    """Half of the keys are read, and the others named as unprocessed, as they were requested."""
    proxy.inject("BatchGetItem", UNPROCESSED)
    headers = {"X-Amz-Target": "DynamoDB_20120810.BatchGetItem"}
    asked = {"t": {"Keys": ["a", "b", "c"], "ConsistentRead": True}}
    async with (
        aiohttp.ClientSession() as http,
        http.post(proxy.url, json={"RequestItems": asked}, headers=headers) as answer,
    ):
        assert await answer.json(content_type=None) == {
            "Responses": {"t": ["a"]},
            "UnprocessedKeys": {"t": {"Keys": ["b", "c"], "ConsistentRead": True}},
        }


async def test_a_share_of_requests_fails_and_passes_when_retried(proxy: Proxy) -> None:
    """About that share of new requests fails, the same for the same seed, and each passes when it
    is retried."""
    faults = (conflict(), Fault.answer_lost())
    seen: list[list[bool]] = []
    for _ in range(2):
        proxy.forget()
        proxy.inject_at_random("TransactWriteItems", 0.2, *faults, seed=1)
        statuses = []
        for n in range(100):
            asked = {"TransactItems": [n], "ClientRequestToken": f"token {n}"}
            statuses.append((await ask(proxy, "TransactWriteItems", **asked))[0])
            if statuses[-1] == 400:
                asked["ClientRequestToken"] = "another"
            if statuses[-1] != 200:
                assert (await ask(proxy, "TransactWriteItems", **asked))[0] == 200
        assert 10 <= proxy.injected["TransactionConflict"] + proxy.injected["answer_lost"] <= 30
        assert proxy.injected["TransactionConflict"] > 0 < proxy.injected["answer_lost"]
        seen.append([status == 200 for status in statuses])
    assert seen[0] == seen[1]
