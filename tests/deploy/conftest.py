"""The stacks that the templates can create."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.deploy.templates import ECS, LAMBDA, Stack

EVERYTHING = {
    "StateMachinePrefix": "tenant-",
    "StateMachines": '{"up": "arn:aws:states:eu-west-1:111122223333:stateMachine:tenant-up"}',
}
STACKS = {
    "queue": Stack(ECS),
    "api-destination": Stack(ECS, {"Target": "api-destination", **EVERYTHING}),
    "private": Stack(
        ECS,
        {
            "Target": "private-api-destination",
            "SecretStore": "ssm",
            "RestoredLedger": "restored",
            "LedgerKeyArn": "arn:aws:kms:eu-west-1:111122223333:key/1",
        },
    ),
    "lambda": Stack(LAMBDA),
    "lambda-api": Stack(LAMBDA, {"HttpApi": "true", "SecretStore": "", **EVERYTHING}),
}


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> Stack:
    """Each stack."""
    return STACKS[request.param]


@pytest.fixture
async def denied_aws(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """An AWS that denies all requests, since the policy that `check` prints doesn't depend on the
    answers."""

    async def deny(_: web.Request) -> web.Response:
        return web.json_response({"__type": "AccessDeniedException"}, status=400)

    app = web.Application()
    app.router.add_post("/", deny)
    async with TestServer(app, host="127.0.0.1") as server:
        for name, value in {
            "AWS_ENDPOINT_URL": str(server.make_url("/")),
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_DEFAULT_REGION": "eu-west-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield
