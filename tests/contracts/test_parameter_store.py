"""What is the Parameter Store's own: it takes few changes a second."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
from aiobotocore.config import AioConfig
from aiohttp import web
from aiohttp.test_utils import TestServer

from orchestrator import TemporaryError
from orchestrator.adapters.clock import RandomIds
from orchestrator.adapters.parameter_store.secret_store import ParameterStore
from orchestrator.core.secrets.redaction import SECRET_NAMES, Redactor
from orchestrator.core.secrets.references import SecretReferences
from orchestrator.testing import ManualClock
from tests.aws import aws_session
from tests.desk import PROVISIONING, Desk

PUT, GET, DELETE = "PutParameter", "GetParameter", "DeleteParameter"
BURST, PER_S = 20, 3


@attrs.define
class Rated:
    """A Parameter Store that takes a burst of changes, then a few a second of its clock."""

    clock: ManualClock
    kept: dict[str, str] = attrs.field(factory=dict)
    calls: list[str] = attrs.field(factory=list)
    under_way: int = 0
    most_under_way: int = 0
    tokens: float = BURST
    filled_at: float = 0.0

    async def handle_request(self, request: web.Request) -> web.Response:
        action = request.headers["X-Amz-Target"].rpartition(".")[2]
        asked = json.loads(await request.read())
        self.calls.append(action)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        if action != GET and not self._may_change():
            return _refused("ThrottlingException")
        if action == PUT:
            self.kept[asked["Name"]] = asked["Value"]
            return _answered({"Version": 1})
        if asked["Name"] not in self.kept:
            return _refused("ParameterNotFound")
        if action == DELETE:
            del self.kept[asked["Name"]]
            return _answered({})
        return _answered({"Parameter": {"Value": self.kept[asked["Name"]]}})

    def _may_change(self) -> bool:
        now = self.clock.now().timestamp()
        self.tokens = min(BURST, self.tokens + (now - self.filled_at) * PER_S)
        self.filled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def _answered(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.json_response(body, status=status, content_type="application/x-amz-json-1.1")


def _refused(code: str) -> web.Response:
    return _answered({"__type": code, "message": "Rate exceeded"}, 400)


@attrs.frozen
class Bench:
    aws: Rated
    store: ParameterStore
    pauses: list[float]


@pytest.fixture
async def bench(clock: ManualClock) -> AsyncIterator[Bench]:
    """A store whose pauses turn the clock; the SDK itself tries once."""
    aws = Rated(clock, filled_at=clock.now().timestamp())
    app = web.Application()
    app.router.add_post("/", aws.handle_request)
    pauses = list[float]()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        clock.turn(seconds)

    session = aws_session()
    once = AioConfig(retries={"mode": "standard", "total_max_attempts": 1})
    async with (
        TestServer(app, host="127.0.0.1") as server,
        session.client("ssm", endpoint_url=str(server.make_url("/")), config=once) as client,
    ):

        async def opened() -> Any:
            return client

        yield Bench(aws, ParameterStore(opened, prefix="/p", pause=pause), pauses)


async def test_changes_keep_to_the_rate(bench: Bench) -> None:
    """A few are under way at a time, and what was too fast is tried again after a pause."""
    names = [f"/p/{number}" for number in range(40)]
    await asyncio.gather(*(bench.store.put(name=name, value="hush") for name in names))
    assert set(bench.aws.kept) == set(names)
    assert bench.aws.most_under_way <= 3
    assert bench.pauses
    await asyncio.gather(*(bench.store.remove(name=name) for name in names))
    assert bench.aws.kept == {}
    assert bench.aws.most_under_way <= 3


async def test_a_throttled_parameter_store_is_temporary(bench: Bench) -> None:
    """It fails after pauses of some seconds in all; nothing else is retried."""
    bench.aws.tokens, bench.aws.filled_at = 0, 1e12
    with pytest.raises(TemporaryError, match="ThrottlingException"):
        await bench.store.put(name="/p/a", value="hush")
    assert bench.pauses == [0.5, 1.0, 2.0, 4.0]


async def test_a_secret_of_an_earlier_attempt_is_not_put_again(
    bench: Bench, clock: ManualClock
) -> None:
    """A start with many secrets finishes, however often it is retried."""
    desk = Desk()
    secret_references = SecretReferences(
        store=bench.store, ids=RandomIds(), secrets=Redactor(SECRET_NAMES), prefix="/p"
    )
    variables = {f"PASSWORD_{number}": f"hush-{number}" for number in range(10)}
    first = await desk.claimed(PROVISIONING, "a")
    sealed = await secret_references.replace_secrets(first, variables)
    assert bench.aws.calls == [PUT] * 10
    await desk.hand_back(first)
    lost = sealed["PASSWORD_3"]["value"]
    del bench.aws.kept[lost]
    bench.aws.calls.clear()
    assert (
        await secret_references.replace_secrets(await desk.claimed(PROVISIONING, "a"), variables)
        == sealed
    )
    assert (bench.aws.calls.count(GET), bench.aws.calls.count(PUT)) == (10, 1)
    changed = {**variables, "PASSWORD_5": "other"}
    await secret_references.replace_secrets(await desk.taken_over(PROVISIONING, "a"), changed)
    assert bench.aws.kept[sealed["PASSWORD_5"]["value"]] == "other"
    assert bench.aws.calls.count(PUT) == 2
