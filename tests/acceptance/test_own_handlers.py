"""Event types of users, over HTTP."""

from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator import Event, Extension, HandlerRegistry, Run
from orchestrator.core.dispatch.orchestrator import EventOrchestrator
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.testing import envelope
from tests.acceptance.answers import only_build, read_run, read_success
from tests.conftest import StartService

BODY = {"field1": "value1", "field2": 123, "nested": {"subfield": True}}


@pytest.mark.parametrize(
    ("path", "sent"),
    [("/events/MY_EVENT", BODY), ("/events", envelope("MY_EVENT", BODY))],
    ids=["bare", "envelope"],
)
async def test_a_users_handler_gets_the_body_unchanged(
    start_service: StartService, path: str, sent: dict[str, Any]
) -> None:
    """A user's handler gets the business body as it was sent, beside the body as received; the
    answer is the service's."""
    registry = HandlerRegistry()
    seen = []

    @registry.on("MY_EVENT")
    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        seen.append((event.payload, event.body, event.raw))

    service = await start_service(extension=Extension(registry=registry))
    answer = await service.post(path, json=sent)
    assert await answer.text() == '{"success": true}'
    run = await read_run(service, await read_success(answer))
    assert seen == [(BODY, BODY, sent)]
    assert (run["eventType"], run["status"], run["tenantId"]) == ("MY_EVENT", "succeeded", None)


async def test_a_handler_with_a_model_gets_it_typed(start_service: StartService) -> None:
    """The annotated model is filled from camelCase; unknown fields stay in the body."""
    registry = HandlerRegistry()
    seen = []

    @attrs.frozen
    class Registration:
        first_name: str
        seats: int = 1

    @registry.on("TENANT_REGISTRATION", payload=Registration)
    async def register(event: Event[Registration], run: Run) -> None:
        seen.append((event.payload, event.body))

    service = await start_service(extension=Extension(registry=registry))
    body = {"firstName": "Ada", "seats": 2, "extra": None}
    await read_success(await service.post("/events/TENANT_REGISTRATION", json=body))
    assert seen == [(Registration("Ada", 2), body)]


async def test_a_users_handler_takes_the_place_of_a_built_in_one(
    start_service: StartService,
) -> None:
    """A user's handler replaces the built-in one of its type."""
    registry = HandlerRegistry()
    seen = []

    @registry.on("TENANT_PROVISIONING")
    async def provision(event: Event[dict[str, Any]], run: Run) -> None:
        seen.append(event.payload)

    service = await start_service(extension=Extension(registry=registry))
    body = {"tenantId": "t-1"}
    await read_success(await service.post("/events/TENANT_PROVISIONING", json=body))
    assert seen == [body]


async def test_a_users_orchestrator_takes_the_place_of_ours(start_service: StartService) -> None:
    """A user's orchestrator gets the type and the JSON as received; whatever it returns, the answer
    is the service's."""
    seen = []

    class Own:
        async def handle_event(self, event_type: str, body: Any) -> object:
            seen.append((event_type, body))
            return "anything"

    service = await start_service(extension=Extension(orchestrator=Own()))
    sent = envelope("MY_EVENT", BODY)
    answer = await service.post("/events", json=sent)
    assert (answer.status, await answer.json()) == (200, {"success": True})
    assert seen == [("MY_EVENT", sent)]


@pytest.mark.parametrize(("passes_on", "warnings"), [(False, 1), (True, 0)])
async def test_an_orchestrator_that_swallows_sweeps_is_warned_of(
    start_service: StartService, passes_on: bool, warnings: int
) -> None:
    """An orchestrator that doesn't pass sweeps on is warned of once, at the first request for one,
    since no build's end would be detected."""

    @attrs.frozen
    class Own:
        inner: EventOrchestrator

        async def handle_event(self, event_type: str, body: Any) -> object:
            return await self.inner.handle_event(event_type, body) if passes_on else None

    service = await start_service(extension=Extension(orchestrator=Own))
    with capture_logs() as logs:
        for event_type in ("MY_EVENT", "RECONCILE", "Scheduled%20Event"):
            await service.post(f"/events/{event_type}", json={})
    said = [line for line in logs if "swallows sweeps" in line["event"]]
    assert [line["orchestrator"] for line in said] == ["Own"] * warnings


async def test_a_wrapped_orchestrator_still_knows_duplicates(start_service: StartService) -> None:
    """The `Idempotency-Key` reaches the default orchestrator though its wrapper passes on type and
    body only."""
    registry = HandlerRegistry()
    handled = []

    @registry.on("MY_EVENT")
    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        handled.append(event.id)

    @attrs.frozen
    class Wrapper:
        default: EventOrchestrator

        async def handle_event(self, event_type: str, body: Any) -> object:
            return await self.default.handle_event(event_type, body)

    service = await start_service(extension=Extension(registry=registry, orchestrator=Wrapper))
    headers = {"Idempotency-Key": "k-1"}
    first = await service.post("/events/MY_EVENT", json=BODY, headers=headers)
    again = await service.post("/events/MY_EVENT", json=BODY, headers=headers)
    assert await read_success(again) == await read_success(first)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert handled == ["k-1"]


async def test_a_handler_of_a_request_gets_the_job_for_that_request(
    start_service: StartService, codebuild: CodeBuildStandIn
) -> None:
    """In the handler of a deprovisioning `run.job_identifier` is the teardown's."""
    registry = HandlerRegistry()
    named = []

    @registry.on("TENANT_DEPROVISIONING")
    async def leave(event: Event[dict[str, Any]], run: Run) -> None:
        named.append(run.job_identifier(await run.tier_details("STANDARD")))
        run.complete()

    service = await start_service(extension=Extension(registry=registry))
    body = {"tenantId": "t-1", "tier": "STANDARD"}
    await read_success(await service.post("/events/TENANT_PROVISIONING", json=body))
    build = only_build(codebuild)
    codebuild.finish(build.id)
    change = envelope("CodeBuild Build State Change", build.as_state_change())
    await read_success(await service.post("/events", json=change))
    await read_success(await service.post("/events/TENANT_DEPROVISIONING", json=body))
    assert named == ["standard-tenant-teardown"]
