"""`orchestrator check`: faults are named, and the policy is what the service calls."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings, create_app
from orchestrator.adapters.dynamodb.items import table_schema
from orchestrator.cli.check import Checkup, check_setup
from orchestrator.embedded import SAMPLE_TIERS, CodeBuildStandIn, EmbeddedAWS, open_embedded_aws
from orchestrator.settings import (
    ApiKey,
    Auth,
    Aws,
    Callback,
    Events,
    LedgerSettings,
    Secrets,
    Tiers,
)
from orchestrator.testing import provisioning_event
from tests.integration.commands import run

SECRET = "s3cr3t"
BUS = "saas-bus"


@attrs.frozen
class Watched:
    """An embedded AWS with a bus and tiers, and the actions that were requested of it."""

    aws: EmbeddedAWS
    environment: Mapping[str, str]
    asked: set[str]

    @property
    def actions(self) -> set[str]:
        """The actions as IAM names them; a transaction needs those of its parts."""
        asked = self.asked | {f"codebuild:{action}" for action, _ in self.aws.codebuild.calls}
        if "dynamodb:TransactWriteItems" not in asked:
            return asked
        made_of = {"dynamodb:PutItem", "dynamodb:ConditionCheckItem"}
        return asked - {"dynamodb:TransactWriteItems"} | made_of


@asynccontextmanager
async def watching(endpoint_url: str, asked: set[str]) -> AsyncIterator[str]:
    """A proxy that records the requested actions with their service."""

    async def forward(request: web.Request) -> web.Response:
        signed = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", request.headers["Authorization"])
        assert signed is not None
        asked.add(f"{signed[1]}:{request.headers['X-Amz-Target'].partition('.')[2]}")
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() in ("authorization", "content-type", "x-amz-date", "x-amz-target")
        }
        body = await request.read()
        async with http.post(endpoint_url, data=body, headers=headers) as answer:
            return web.Response(
                status=answer.status,
                body=await answer.read(),
                content_type=answer.content_type,
            )

    app = web.Application()
    app.router.add_post("/", forward)
    async with aiohttp.ClientSession() as http, TestServer(app) as server:
        yield str(server.make_url("/"))


@pytest.fixture
async def watched(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    asked: set[str] = set()
    async with open_embedded_aws() as aws, watching(aws.endpoint_url, asked) as url:
        projects = ["standard-tenant", "basic-tenant"]
        await aws.prepare(
            tier_table="plans",
            tiers=SAMPLE_TIERS,
            tables=[table_schema("orchestrator-ledger")],
            bus=BUS,
            projects=projects,
        )
        environment = {**aws.environment(), "AWS_ENDPOINT_URL": url}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield Watched(aws, environment, asked)


@pytest.fixture
def real() -> Settings:
    """The settings of a service that uses all of the AWS services."""
    return Settings(
        tiers=Tiers(table="plans"),
        events=Events(bus=BUS),
        aws=Aws(connect_timeout_s=2.0, read_timeout_s=5.0),
    )


def troubles(checkup: Checkup) -> dict[str, str]:
    return {finding.name: finding.trouble for finding in checkup.findings if finding.trouble}


async def test_a_good_setup_is_healthy(watched: Watched, real: Settings) -> None:
    """Each resource is named with its use and can be reached, and nothing is started."""
    checkup = await check_setup(real)
    assert checkup.healthy, "\n".join(checkup.as_lines())
    uses = {finding.name: finding.uses for finding in checkup.findings}
    assert "orchestrator-ledger" in uses["ledger"]
    assert "plans" in uses["tiers"]
    assert "CodeBuild" in uses["builder CODE_BUILD"]
    assert BUS in uses["events.bus"]
    assert "open" in uses["http"]
    assert watched.aws.codebuild.builds == {}
    assert "FAIL" not in "\n".join(checkup.as_lines())


async def test_the_policy_is_what_the_service_calls(
    watched: Watched, real: Settings, aiohttp_client: Any
) -> None:
    """Each requested action is allowed; the other allowed ones are requested only after faults."""
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        await run.publish("ORDERED", {})

    policy = (await check_setup(real)).policy
    service = await aiohttp_client(create_app(real, extension=Extension(registry=registry)))
    for body, path in ((provisioning_event(), "/events"), ({"a": 1}, "/events/ORDER")):
        answer = await service.post(path, json=body)
        assert answer.status == 200, await answer.text()
    assert {"dynamodb:Query", "events:PutEvents", "codebuild:StartBuild"} <= watched.actions
    allowed = [action for statement in policy["Statement"] for action in statement["Action"]]
    assert watched.actions <= set(allowed)
    assert set(allowed) - watched.actions == {
        "codebuild:ListBuilds",
        "codebuild:ListBuildsForProject",
        "codebuild:StopBuild",
        "dynamodb:BatchGetItem",
    }
    assert policy["Version"] == "2012-10-17"
    assert {statement["Effect"] for statement in policy["Statement"]} == {"Allow"}
    assert {statement["Resource"] for statement in policy["Statement"]} == {
        "arn:aws:dynamodb:*:*:table/orchestrator-ledger",
        "arn:aws:dynamodb:*:*:table/orchestrator-ledger/index/*",
        "arn:aws:dynamodb:*:*:table/plans",
        f"arn:aws:events:*:*:event-bus/{BUS}",
        "arn:aws:codebuild:*:*:project/*",
        "*",
    }


async def test_without_a_bus_none_is_allowed(
    settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """With static tiers and no bus only actions of CodeBuild are allowed, and the setup is
    healthy."""
    checkup = await check_setup(settings)
    assert checkup.healthy, "\n".join(checkup.as_lines())
    allowed = [action for one in checkup.policy["Statement"] for action in one["Action"]]
    assert allowed
    assert all(action.startswith("codebuild:") for action in allowed)


@pytest.mark.parametrize(
    ("section", "name", "said"),
    [
        ({"ledger": LedgerSettings(table="nowhere")}, "ledger", "ResourceNotFoundException"),
        ({"tiers": Tiers(table="nowhere")}, "tiers", "ResourceNotFoundException"),
        ({"events": Events(bus="nowhere")}, "events.bus", "ResourceNotFoundException"),
    ],
)
async def test_the_end_that_fails_is_named(
    watched: Watched, real: Settings, section: dict[str, Any], name: str, said: str
) -> None:
    """Only the resource that fails has trouble, in AWS's words."""
    checkup = await check_setup(attrs.evolve(real, **section))
    assert not checkup.healthy
    found = troubles(checkup)
    assert found.keys() == {name}
    assert said in found[name]
    assert f"FAIL {name}" in "\n".join(checkup.as_lines())
    assert found[name] in "\n".join(checkup.as_lines())


async def test_a_key_is_not_shown(settings: Settings, codebuild: CodeBuildStandIn) -> None:
    """`check` says that a key is required, and not which."""
    auth = Auth(methods=("api_key",), api_key=ApiKey(keys=(f"{SECRET}-key",)))
    checkup = await check_setup(attrs.evolve(settings, auth=auth))
    assert "authenticated by api_key" in "\n".join(checkup.as_lines())
    assert SECRET not in "\n".join(checkup.as_lines()) + json.dumps(checkup.as_json())


async def test_a_good_setup_has_a_json_form(watched: Watched, real: Settings) -> None:
    """The JSON form has each finding and the policy."""
    shown = json.loads(json.dumps((await check_setup(real)).as_json()))
    assert shown["healthy"] is True
    assert {finding["trouble"] for finding in shown["findings"]} == {None}
    assert shown["policy"]["Statement"]


async def test_the_command_reports_what_fails(watched: Watched) -> None:
    """A missing bus exits 1, and the other findings and the policy are reported all the same."""
    named = {"TIER_DETAILS_TABLE": "plans", "EVENT_BUS_NAME": "nowhere"}
    ended = await run("check", **watched.environment, **named)
    assert (ended.code, ended.err) == (1, "")
    out = ended.out
    assert "FAIL events.bus" in out
    assert "nowhere" in out
    assert re.search(r"^ok +tiers .*plans", out, re.MULTILINE)
    assert json.loads(out[out.index("{") :])["Statement"]
    assert watched.aws.codebuild.builds == {}


async def test_a_callback_is_shown_without_its_query(settings: Settings) -> None:
    """A callback's address is shown without its query, which may be a key."""
    callback = Callback(url="https://control.example/webhook?key=hunter2")
    checkup = await check_setup(attrs.evolve(settings, callback=callback))
    assert "https://control.example/webhook, after" in "\n".join(checkup.as_lines())
    assert "hunter2" not in "\n".join(checkup.as_lines())


async def test_a_callback_that_would_never_be_made_is_a_warning(
    settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """Reports after deployments without a bus, so that none follows, are a warning, not a
    failure."""
    callback = Callback(url="https://control.example/webhook")
    checkup = await check_setup(attrs.evolve(settings, callback=callback))
    assert checkup.healthy
    assert "warn callback" in "\n".join(checkup.as_lines())
    assert "Set events.bus" in "\n".join(checkup.as_lines())


async def test_secrets_in_plain_text_are_a_warning(
    settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """Secrets in plain text are a warning that says who can read them, and what a store needs."""
    (finding,) = (one for one in (await check_setup(settings)).findings if one.name == "secrets")
    assert finding.trouble is None
    assert "anyone who can view a build can read its secret" in (finding.warning or "")
    assert "role must be allowed to read them" in (finding.warning or "")


@pytest.mark.parametrize(
    ("kind", "action", "arn"),
    [
        (
            "secretsmanager",
            "secretsmanager:GetSecretValue",
            "arn:aws:secretsmanager:*:*:secret:/orchestrator",
        ),
        ("ssm", "ssm:GetParameters", "arn:aws:ssm:*:*:parameter/orchestrator"),
    ],
)
async def test_a_store_for_secrets_is_checked(
    settings: Settings,
    codebuild: CodeBuildStandIn,
    ministack: str,
    monkeypatch: pytest.MonkeyPatch,
    kind: Any,
    action: str,
    arn: str,
) -> None:
    """A store is checked, the output says which permission the builds' role needs, and the policy
    has what the service needs."""
    for service in ("SECRETS_MANAGER", "SSM"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", ministack)
    chosen = attrs.evolve(
        settings,
        secrets=Secrets(store=kind),
        auth=Auth(methods=("api_key",), api_key=ApiKey(keys=(f"{kind}:/not/there", "plain"))),
        aws=attrs.evolve(settings.aws, read_timeout_s=10.0),
    )
    checkup = await check_setup(chosen)
    (finding,) = (one for one in checkup.findings if one.name == "secrets")
    assert finding.trouble is None
    assert finding.warning == f"each build's role needs {action} on {arn}/*"
    (key,) = (one for one in checkup.findings if one.name == "credential")
    assert "There is no secret '/not/there'" in (key.trouble or "")
    resources = [one["Resource"] for one in checkup.policy["Statement"]]
    assert f"{arn}/*" in resources
    place = arn.partition("orchestrator")[0]
    assert any(resource.startswith(f"{place}not/there") for resource in resources)
