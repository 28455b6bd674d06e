"""The role's credentials become available after the service has started, which uses them from then
on."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from orchestrator import Settings
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.testing import ManualClock, provisioning_event
from tests.acceptance.answers import only_build, read_problem, read_run, read_success
from tests.conftest import StartService
from tests.metadata_service import MetadataService, open_metadata_service


@pytest.fixture
async def metadata(
    codebuild: CodeBuildStandIn, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[MetadataService]:
    """The only source of credentials for the SDK."""
    async with open_metadata_service() as service:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
            monkeypatch.delenv(name)
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            monkeypatch.setenv(name, "/nowhere")
        yield service


@pytest.mark.parametrize("where", ["instance", "container"])
async def test_credentials_that_come_late_are_used(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    metadata: MetadataService,
    where: str,
) -> None:
    """Without credentials the answer is 503 and the run in `retry`; once they are available the
    same process succeeds."""
    variables = metadata.instance() if where == "instance" else metadata.container()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    service = await start_service(settings)
    problem = await read_problem(await service.post("/events", json=provisioning_event()), 503)
    assert "credentials" in problem["detail"]
    run = await read_run(service, problem["instance"])
    assert run["status"] == "retry"
    assert not codebuild.calls

    metadata.is_ready = True
    clock.turn(60)
    assert (await service.post("/events/RECONCILE", json={})).status == 200
    run = await read_run(service, problem["instance"])
    assert (run["status"], run["job"]["id"]) == ("succeeded", only_build(codebuild).id)
    # No start can have been sent, so that none was looked up.
    assert codebuild.calls[0][0] == "StartBuild"


async def test_a_crowd_does_not_look_for_credentials_one_by_one(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    monkeypatch: pytest.MonkeyPatch,
    metadata: MetadataService,
) -> None:
    """Requests that wait for a query of the credentials, which may take seconds, share the result
    of the next one."""
    for name, value in metadata.instance().items():
        monkeypatch.setenv(name, value)
    service = await start_service(settings)
    events = [
        provisioning_event(tenant_id=f"t-{number}", event_id=f"e-{number}") for number in range(20)
    ]
    answers = await asyncio.gather(*(service.post("/events", json=event) for event in events))
    assert {answer.status for answer in answers} == {503}
    assert metadata.asked.count("/latest/api/token") < len(events)
    metadata.is_ready = True
    event = provisioning_event(tenant_id="t-late", event_id="late")
    await read_success(await service.post("/events", json=event))
