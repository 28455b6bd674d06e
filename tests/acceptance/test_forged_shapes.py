"""Events of deliberately forged shapes: what is hidden in them has no effect."""

import json
from typing import Any

import pytest

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings, create_app
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.lambda_handler import LambdaService
from orchestrator.testing import envelope
from tests.acceptance.answers import only_build, read_problem, read_success, variables
from tests.acceptance.endings import read_ledger
from tests.acceptance.stories import (
    DEPROVISION,
    PROVISION,
    TENANT,
    send,
    with_full_tier,
)
from tests.conftest import Client, StartService


@pytest.fixture
async def full(start_service: StartService, settings: Settings) -> Client:
    return await start_service(with_full_tier(settings))


@pytest.mark.parametrize("tenant", [{"name": "Acme"}, {"id": 7}, {"id": ""}, "Acme"])
@pytest.mark.parametrize("is_override", [False, True])
async def test_a_build_is_about_the_tenant_that_is_held(
    full: Client, codebuild: CodeBuildStandIn, tenant: Any, is_override: bool
) -> None:
    """A job gets the tenant's id as the ledger holds it, however the event spells the tenant."""
    config = {"type": "CODE_BUILD", "config": {"environmentOverride": {"tenant": tenant}}}
    body = {"builderConfig": config} if is_override else {"tenant": tenant}
    await read_success(await send(full, PROVISION, "request", **body))
    assert json.loads(variables(only_build(codebuild))["tenant"])["id"] == TENANT


@pytest.mark.parametrize(
    "body",
    [
        {"tenant": '{"id":"victim"}'},
        {"TENANT_ID": "victim"},
        {"builderConfig": {"config": {"environmentOverride": {"TENANT_ID": "victim"}}}},
        {"builderConfig": {"config": {"environmentOverride": {"tenantId": "victim"}}}},
    ],
)
async def test_an_event_that_means_two_tenants_starts_nothing(
    full: Client, codebuild: CodeBuildStandIn, body: dict[str, Any]
) -> None:
    """An event that names two tenants starts nothing, since one tenant's job would work on the
    other."""
    problem = await read_problem(await send(full, DEPROVISION, "request", **body), 422)
    assert "'victim'" in problem["detail"]
    assert not codebuild.builds


async def test_a_header_makes_no_envelope(full: Client, codebuild: CodeBuildStandIn) -> None:
    """A `ce-` header is no field of another wrapper: a harmless binary CloudEvent stays one."""
    headers = {
        "ce-specversion": "1.0",
        "ce-type": "audit",
        "ce-source": "s",
        "ce-id": "1",
        "ce-data": "{}",
        "ce-detail-type": PROVISION,
        "ce-detail": json.dumps({"tenantId": "smuggled", "tier": "FULL"}),
    }
    answer = await full.post("/events", json={"hello": "world"}, headers=headers)
    assert (await read_problem(answer, 400))["detail"] == "Unsupported event type: audit"
    assert not codebuild.builds


async def test_a_cloudevent_may_have_no_data(full: Client) -> None:
    """A CloudEvent without data, which is optional, is an event."""
    event = {"specversion": "1.0", "type": "RECONCILE", "source": "s", "id": "1"}
    headers = {"Content-Type": "application/cloudevents+json"}
    answer = await full.post("/events", data=json.dumps(event), headers=headers)
    assert answer.status == 200


@pytest.mark.parametrize("lead", ["", " ", "\n", "\ufeff"])
async def test_a_padded_detail_keeps_no_environment(
    start_service: StartService, settings: Settings, lead: str
) -> None:
    """White space or a mark before a detail's text doesn't prevent that the build's environment is
    removed."""
    registry = HandlerRegistry()

    @registry.on("BUILD_STATE_CHANGE")
    async def changed(event: Event[dict[str, Any]], run: Run) -> None:
        pass

    service = await start_service(settings, extension=Extension(registry=registry))
    about = {"environment": {"environment-variables": [{"name": "DB", "value": "HUNTER2"}]}}
    detail = {"build-id": "x", "build-status": "SUCCEEDED", "additional-information": about}
    for text in (json.dumps(detail), json.dumps({**detail, "more": json.dumps([about])})):
        event = {**envelope("CodeBuild Build State Change", detail), "detail": lead + text}
        assert (await service.post("/events", json={**event, "id": str(len(text))})).status == 200
    assert "HUNTER2" not in read_ledger(service)


@pytest.mark.parametrize("value", ["\x01", "a\x7fb", "\x0b"])
def test_a_control_character_in_a_header_is_an_answer(settings: Settings, value: str) -> None:
    """A control character in a header is a 400, and no error of the function."""
    function = LambdaService(create_app(settings))
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/events/X",
        "rawQueryString": "",
        "headers": {"content-type": "application/json", "x-a": value},
        "requestContext": {"http": {"method": "POST"}, "stage": "$default"},
        "body": "{}",
        "isBase64Encoded": False,
    }
    try:
        assert function.handle(event, remaining_s=10)["statusCode"] == 400
    finally:
        function.close()
