"""The roles of the deployments may do what the adapters call, and nothing else.

`orchestrator check` prints what they call, by the adapters' own lists; that these are what is
called is tested in `tests/integration/test_check.py`.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from orchestrator import load_settings
from orchestrator.cli.check import check_setup
from tests.deploy.environments import environments
from tests.deploy.templates import Stack

#: An action on a resource.
Right = tuple[str, str]


def rights(statements: Iterable[Mapping[str, Any]]) -> set[Right]:
    """What the statements allow."""
    found = set()
    for statement in statements:
        assert statement["Effect"] == "Allow"
        actions, resources = statement["Action"], statement["Resource"]
        for action in [actions] if isinstance(actions, str) else actions:
            for resource in [resources] if isinstance(resources, str) else resources:
                found.add((action, resource))
    return found


def is_same(one: Right, other: Right) -> bool:
    """The same action, and one's resources are among the other's."""
    patterns = [(one[1], other[1]), (other[1], one[1])]
    return one[0] == other[0] and any(fnmatchcase(name, pattern) for name, pattern in patterns)


def differences(granted: set[Right], called: set[Right]) -> dict[str, list[Right]]:
    """What is granted and not called, and what is called and not granted."""
    return {
        "not called": sorted(one for one in granted if not any(is_same(one, c) for c in called)),
        "not granted": sorted(one for one in called if not any(is_same(one, g) for g in granted)),
    }


async def called_by(environment: Mapping[str, str]) -> set[Right]:
    """What a service with these variables calls, as `orchestrator check` prints it."""
    settings = load_settings("production.toml", environ=environment)
    return rights((await check_setup(settings)).policy["Statement"])


@pytest.fixture(autouse=True)
async def _denied(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """An AWS that denies all: the policy that `check` prints doesn't depend on what it finds."""

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


async def test_the_role_s_policy_is_what_the_adapters_call(stack: Stack) -> None:
    """Of service and worker together, since they have one role."""
    called: set[Right] = set()
    for environment in environments(stack).values():
        called |= await called_by(environment)
    granted = {
        right
        for role in stack.of_type("AWS::IAM::Role").values()
        for policy in role["Policies"]
        if policy["PolicyName"] == "orchestrator"
        for right in rights(policy["PolicyDocument"]["Statement"])
    }
    assert differences(granted, called) == {"not called": [], "not granted": []}


def test_a_difference_is_found() -> None:
    """Both ways, and in the resource, too."""
    table = "arn:aws:dynamodb:eu-west-1:1:table/a"
    granted = {("dynamodb:PutItem", table), ("dynamodb:DeleteItem", table)}
    called = {
        ("dynamodb:PutItem", "arn:aws:dynamodb:*:*:table/a"),
        ("dynamodb:Query", "arn:aws:dynamodb:*:*:table/a/index/*"),
        ("dynamodb:PutItem", "arn:aws:dynamodb:*:*:table/b"),
    }
    assert differences(granted, called) == {
        "not called": [("dynamodb:DeleteItem", table)],
        "not granted": [
            ("dynamodb:PutItem", "arn:aws:dynamodb:*:*:table/b"),
            ("dynamodb:Query", "arn:aws:dynamodb:*:*:table/a/index/*"),
        ],
    }
