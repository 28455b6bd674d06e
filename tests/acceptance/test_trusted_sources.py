"""Any sender can forge an event of AWS or of a build, so the builder is queried."""

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import attrs
import pytest
from aiohttp.test_utils import TestClient, TestServer

from orchestrator import Event, Extension, HandlerRegistry, Job, Run, Settings, create_app
from orchestrator.adapters.memory.inbox import InMemoryInbox
from orchestrator.app import create_worker_app
from orchestrator.embedded import Build, CodeBuildStandIn, Fault
from orchestrator.intake.app_keys import ORCHESTRATOR, TRANSACTIONS
from orchestrator.lambda_handler import LambdaService
from orchestrator.settings import Callback, Intake
from orchestrator.testing import ManualClock, envelope, provisioning_event
from tests.acceptance.answers import only_build, read_problem, read_success
from tests.acceptance.endings import change_state, read_ledger
from tests.acceptance.forged import (
    CHANGE,
    PROJECT,
    STARTED,
    actions,
    forged,
    post,
    start_key,
    start_of_a_stranger,
)
from tests.acceptance.lambda_functions import record
from tests.acceptance.queue_desk import URL, until
from tests.acceptance.stories import (
    PROVISION,
    TENANT,
    list_runs,
    read_tenant,
    replay,
    send,
    state_of,
    sweep,
    with_full_tier,
)
from tests.conftest import Client, StartService
from tests.control_plane.receiver import SECRET, ControlPlane

SOURCES = ("anything", "aws.codebuild")
FORGED_URL = "https://forged.example"


@pytest.fixture
async def service(start_service: StartService, settings: Settings) -> Client:
    """The service, which has started a build for the tenant."""
    service = await start_service(with_full_tier(settings))
    await read_success(await send(service, PROVISION, "request"))
    return service


async def over_http(service: Client, settings: Settings, event: dict[str, Any]) -> None:
    await post(service, event)


async def from_a_library(service: Client, settings: Settings, event: dict[str, Any]) -> None:
    await service.app[ORCHESTRATOR].handle_event(event["detail-type"], event)


async def from_the_queue(service: Client, settings: Settings, event: dict[str, Any]) -> None:
    transactions = service.app[TRANSACTIONS]
    inbox = InMemoryInbox(ManualClock())
    await inbox.send(text=json.dumps(event), group="g", deduplication_id="d")
    intake = Intake(mode="queue", queue_url=URL)
    worker = create_worker_app(
        attrs.evolve(with_full_tier(settings), intake=intake),
        clock=transactions.clock,
        ledger=transactions.ledger,
        inbox=inbox,
    )
    async with TestClient(TestServer(worker, host="127.0.0.1")):
        await until(lambda: len(inbox) == 0)


async def over_lambda(service: Client, settings: Settings, event: dict[str, Any]) -> None:
    transactions = service.app[TRANSACTIONS]
    app = create_app(with_full_tier(settings), clock=transactions.clock, ledger=transactions.ledger)
    batch = {"Records": [record(1, body=json.dumps(event))]}
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(max_workers=1) as thread:
        function = await loop.run_in_executor(thread, LambdaService, app)
        handle = partial(function.handle, batch, remaining_s=30)
        assert await loop.run_in_executor(thread, handle) == {"batchItemFailures": []}
        await loop.run_in_executor(thread, function.close)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
@pytest.mark.parametrize("way", [over_http, from_a_library, from_the_queue, over_lambda])
async def test_a_message_ends_no_job_that_runs(
    service: Client,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
    way: Any,
    status: str,
    source: str,
) -> None:
    """A forged end of a running build ends nothing, and the builder is queried again after 5 s."""
    build = only_build(codebuild)
    await way(service, settings, forged(build.id, status, source=source))
    assert await state_of(service) == "provisioning"
    assert [run["eventType"] for run in await list_runs(service)] == [PROVISION]
    assert "StopBuild" not in actions(codebuild)
    codebuild.finish(build.id, "SUCCEEDED")
    clock.turn(5)
    await sweep(service)
    assert await state_of(service) == "provisioned"


async def test_a_builder_that_contradicts_a_message_is_queried_again_after_5_s(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """The builder is queried again after 5 s and not before, however often the message is sent; an
    earlier due check stays."""
    every_minute = attrs.evolve(settings.operations, reconcile_every_s=60)
    service = await start_service(attrs.evolve(with_full_tier(settings), operations=every_minute))
    await read_success(await send(service, PROVISION, "request"))
    build = only_build(codebuild)
    await post(service, forged(build.id, "SUCCEEDED"))
    clock.turn(4)
    await post(service, forged(build.id, "FAILED"))
    codebuild.calls.clear()
    await sweep(service)
    assert actions(codebuild) == []
    clock.turn(1)
    await sweep(service)
    assert actions(codebuild) == ["BatchGetBuilds"]


async def test_a_message_that_agrees_with_the_builder_writes_nothing(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """A message that a running build runs writes nothing to the ledger."""
    before = read_ledger(service)
    await post(service, forged(only_build(codebuild).id, "IN_PROGRESS"))
    assert read_ledger(service) == before


@pytest.mark.parametrize("said", ["SUCCEEDED", "FAILED", "IN_PROGRESS"])
async def test_an_end_is_described_by_the_builders_answer(
    service: Client, codebuild: CodeBuildStandIn, said: str
) -> None:
    """Status, phase, message, link and exported variables come from the builder's answer, nothing
    from the message."""
    build = only_build(codebuild)
    codebuild.finish(build.id, "FAILED", reason="exit status 1")
    failed = {"phase-type": "FORGED", "phase-status": "FAILED", "phase-context": ["C: forged"]}
    about = {
        "logs": {"deep-link": "javascript:alert(1)"},
        "phases": [failed],
        "exported-environment-variables": [{"name": "APP_PLANE_URL", "value": FORGED_URL}],
    }
    answer = await service.post("/events", json=forged(build.id, said, about=about))
    await read_success(answer)
    assert await state_of(service) == "provision_failed"
    assert "exit status 1" in (await read_tenant(service))["timeline"][0]["reason"]
    kept = read_ledger(service)
    assert not [word for word in ("FORGED", "forged.example", "javascript") if word in kept]


async def test_an_exported_variable_of_a_message_is_not_reported(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    control_plane: ControlPlane,
) -> None:
    """The control plane receives the variables that the build exported, not those of the
    message."""
    callback = Callback(url=control_plane.url, after="provisioning", timeout_s=30)
    service = await start_service(attrs.evolve(settings, callback=callback))
    await control_plane.expect(TENANT, context="c-1")
    request = provisioning_event(tenant_id=TENANT, override={"secret": SECRET, "context": "c-1"})
    await read_success(await service.post("/events", json=request))
    build = only_build(codebuild)
    codebuild.finish(build.id, exported={"APP_PLANE_URL": "https://real.example"})
    about = {"exported-environment-variables": [{"name": "APP_PLANE_URL", "value": FORGED_URL}]}
    event = forged(build.id, "SUCCEEDED", about=about)
    await read_success(await service.post("/events", json=event))
    (report,) = await control_plane.accepted()
    assert report["data"]["appPlaneUrl"] == "https://real.example"


@pytest.mark.parametrize("status", ["IN_PROGRESS", "SUCCEEDED", "FAILED"])
async def test_an_invented_build_is_not_adopted(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn, status: str
) -> None:
    """A build that CodeBuild doesn't know isn't adopted, though its message has a start key: 503,
    since it may not be listed yet."""
    service = await start_service(with_full_tier(settings))
    codebuild.inject("StartBuild", *[Fault.answer_lost()] * 2)
    await read_problem(await send(service, PROVISION, "request"), 503)
    build, before = only_build(codebuild), read_ledger(service)
    event = forged("standard-tenant:invented", status, start_key=start_key(build))
    problem = await read_problem(await service.post("/events", json=event), 503)
    assert "doesn't show the job standard-tenant:invented yet" in problem["detail"]
    assert read_ledger(service) == before


@pytest.mark.parametrize("status", ["IN_PROGRESS", "SUCCEEDED"])
async def test_a_build_that_carries_the_key_is_adopted(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn, status: str
) -> None:
    """After a lost answer a build is adopted by the start key in CodeBuild's answer about it."""
    service = await start_service(with_full_tier(settings))
    codebuild.inject("StartBuild", *[Fault.answer_lost()] * 2)
    await read_problem(await send(service, PROVISION, "request"), 503)
    build = only_build(codebuild)
    if status == "SUCCEEDED":
        codebuild.finish(build.id)
    await change_state(service, build)
    tenant = await read_tenant(service)
    if status == "SUCCEEDED":
        assert tenant["state"] == "provisioned"
    else:
        assert tenant["operation"]["job"]["id"] == build.id


async def test_a_false_end_of_a_running_build_has_it_adopted_and_checked(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """A forged end of a running build with the service's start key has it adopted, and checked
    after 5 s."""
    every_minute = attrs.evolve(settings.operations, reconcile_every_s=60)
    service = await start_service(attrs.evolve(with_full_tier(settings), operations=every_minute))
    codebuild.inject("StartBuild", *[Fault.answer_lost()] * 2)
    await read_problem(await send(service, PROVISION, "request"), 503)
    build = only_build(codebuild)
    await post(service, forged(build.id, "SUCCEEDED", start_key=start_key(build)))
    assert (await read_tenant(service))["operation"]["job"]["id"] == build.id
    codebuild.finish(build.id)
    clock.turn(5)
    await sweep(service)
    assert await state_of(service) == "provisioned"


@pytest.mark.parametrize("status", ["IN_PROGRESS", "FAILED"])
async def test_a_foreign_build_is_neither_stopped_nor_adopted(
    service: Client, codebuild: CodeBuildStandIn, status: str
) -> None:
    """A foreign build is neither stopped nor adopted, though a message gives it a start key of the
    service, which CodeBuild's answer doesn't."""
    stranger, before = start_of_a_stranger(codebuild), read_ledger(service)
    key = start_key(next(iter(codebuild.builds.values())))
    await post(service, forged(stranger.id, status, start_key=key))
    assert stranger.status == "IN_PROGRESS"
    assert read_ledger(service) == before


async def test_a_build_with_another_key_than_its_message_is_left_alone(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """A build with another start key than its message is neither stopped nor adopted, since it may
    be another operation's."""
    first = only_build(codebuild)
    given = {STARTED: start_key(first)[:-1] + "7", PROJECT: "standard-tenant"}
    overrides = [{"name": name, "value": value} for name, value in given.items()]
    request = {"projectName": "standard-tenant", "environmentVariablesOverride": overrides}
    other = codebuild.builds[codebuild._start_build(request)["build"]["id"]]
    before = read_ledger(service)
    await post(service, forged(other.id, "IN_PROGRESS", start_key=start_key(first)))
    assert (other.status, read_ledger(service)) == ("IN_PROGRESS", before)


@pytest.mark.parametrize("status", ["IN_PROGRESS", "SUCCEEDED"])
async def test_a_start_that_is_not_written_yet_is_left_alone(
    service: Client, codebuild: CodeBuildStandIn, status: str
) -> None:
    """A message with a start number beyond the operation's is ignored, since that start may be
    about to be recorded."""
    key = start_key(only_build(codebuild)).rpartition("-")[0] + "-2"
    before = read_ledger(service)
    codebuild.calls.clear()
    await post(service, forged("standard-tenant:next", status, start_key=key))
    assert (read_ledger(service), codebuild.calls) == (before, [])


async def second_build_of_the_start(codebuild: CodeBuildStandIn, first: Build) -> Build:
    """A second build with the same variables, as "Retry build" in CodeBuild's console makes it."""
    parameters = {**first.parameters, "idempotencyToken": "retried"}
    return codebuild.builds[codebuild._start_build(parameters)["build"]["id"]]


@pytest.mark.parametrize("is_over", [False, True])
async def test_an_orphaned_build_is_stopped(
    service: Client, codebuild: CodeBuildStandIn, is_over: bool
) -> None:
    """A second build is stopped, whether its operation has another job or is over; a stop that
    fails is a 503, and is retried."""
    first = only_build(codebuild)
    if is_over:
        codebuild.finish(first.id)
        await change_state(service, first, event_id="over")
    second = await second_build_of_the_start(codebuild, first)
    before = read_ledger(service)
    codebuild.inject("StopBuild", *[Fault.error("InvalidInputException")] * 2)
    event = envelope(CHANGE, second.as_state_change(), source="aws.codebuild")
    problem = await read_problem(await service.post("/events", json=event), 503)
    assert f"The orphaned job {second.id} can't be stopped" in problem["detail"]
    assert second.ended is None
    codebuild.faults.clear()
    await post(service, event)
    assert (second.status, first.status) == ("STOPPED", "SUCCEEDED" if is_over else "IN_PROGRESS")
    assert read_ledger(service) == before


async def test_a_recorded_build_of_an_earlier_start_is_stopped(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """A build of an earlier start that runs again is stopped, while the second start's build
    continues."""
    first = only_build(codebuild)
    codebuild.finish(first.id)
    await change_state(service, first, event_id="over")
    (run,) = await list_runs(service, eventType=PROVISION)
    await read_success(await replay(service, f"/runs/{run['runId']}", force=True))
    first.status, first.ended = "IN_PROGRESS", None
    await post(service, envelope(CHANGE, first.as_state_change(), event_id="again"))
    assert [build.status for build in codebuild.builds.values()] == ["STOPPED", "IN_PROGRESS"]
    assert await state_of(service) == "provisioning"


@pytest.mark.parametrize("status", ["IN_PROGRESS", "SUCCEEDED"])
async def test_a_message_about_a_builder_that_is_down_is_503(
    service: Client, codebuild: CodeBuildStandIn, status: str
) -> None:
    """While the builder is down a message is 503, and writes nothing."""
    before = read_ledger(service)
    codebuild.inject("BatchGetBuilds", *[Fault.error("InternalFailure", http_status=500)] * 9)
    event = forged(only_build(codebuild).id, status)
    await read_problem(await service.post("/events", json=event), 503)
    assert read_ledger(service) == before


async def test_a_recorded_build_that_is_unknown_is_ended_by_no_message(
    service: Client, codebuild: CodeBuildStandIn
) -> None:
    """No message ends a recorded build that its builder doesn't know; that is the sweep's
    decision."""
    build = only_build(codebuild)
    codebuild.remove_build(build.id)
    for status in ("FAILED", "SUCCEEDED"):
        await post(service, forged(build.id, status))
    assert await state_of(service) == "provisioning"


class OnlyStarts:
    """A user's builder under CodeBuild's name, which can't be queried."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        self.keys.append(start_key)
        return Job(id=f"{job_identifier}:1", builder="CODE_BUILD", job_identifier=job_identifier)


@pytest.mark.parametrize(
    ("source", "state"), [("anything", "provisioning"), ("aws.codebuild", "provisioned")]
)
async def test_of_a_builder_that_cannot_describe_jobs_only_events_of_aws_count(
    start_service: StartService,
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
    source: str,
    state: str,
) -> None:
    """If the builder can't describe jobs, a state change counts only by the event's source, which
    on a bus only AWS can set."""
    extension = Extension(builders={"CODE_BUILD": OnlyStarts()})
    service = await start_service(with_full_tier(settings), extension=extension)
    await read_success(await send(service, PROVISION, "request", ends=False))
    before = read_ledger(service)
    event = forged("standard-tenant:1", "SUCCEEDED", source=source)
    assert (await service.post("/events", json=event)).status == 200
    assert await state_of(service) == state
    if state == "provisioning":
        assert read_ledger(service) == before
        printed = capsys.readouterr()
        assert (printed.out + printed.err).count("state change ignored") == 1


@pytest.mark.parametrize("detail_type", ["BUILD_STATE_CHANGE", CHANGE])
async def test_a_users_handler_gets_every_message(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn, detail_type: str
) -> None:
    """A user's handler gets each state change without its environment, whatever its sender and
    result."""
    registry, seen = HandlerRegistry(), []

    @registry.on("BUILD_STATE_CHANGE")
    async def changed(event: Event[dict[str, Any]], run: Run) -> None:
        seen.append(event.body)

    service = await start_service(with_full_tier(settings), extension=Extension(registry=registry))
    await read_success(await send(service, PROVISION, "request"))
    for build_id in (only_build(codebuild).id, "theirs:1"):
        event = {**forged(build_id, "SUCCEEDED", start_key="k-1"), "detail-type": detail_type}
        await read_success(await service.post("/events", json=event))
    assert [one["build-status"] for one in seen] == ["SUCCEEDED"] * 2
    assert "environment-variables" not in str(seen)
    assert await state_of(service) == "provisioning"


OTHER_CHANGES = (
    "CodeBuild Build Phase Change",
    "CodeBuild Fleet State Change",
    "CodeBuild Build Batch State Change",
    "CodeBuild Batch Build State Change",
    "CodeBuild Batch State Change",
    "Step Functions Map Run Status Change",
)


@pytest.mark.parametrize("mode", ["inline", "queue"])
@pytest.mark.parametrize("detail_type", OTHER_CHANGES)
async def test_other_changes_of_awss_builders_leave_nothing(
    start_service: StartService, settings: Settings, detail_type: str, mode: Any
) -> None:
    """Other changes of AWS's builders are answered 200; no run and nothing of a build's environment
    is stored."""
    intake = attrs.evolve(settings.intake, mode=mode, queue_url="https://sqs.example/1/q")
    parts = {"inbox": InMemoryInbox(ManualClock())} if mode == "queue" else {}
    service = await start_service(attrs.evolve(settings, intake=intake), **parts)
    event = {**forged("theirs:1", "SUCCEEDED", start_key="hush-1"), "detail-type": detail_type}
    for path in ("/events", f"/events/{detail_type}"):
        answer = await service.post(path, json=event)
        assert answer.status == 200, await answer.text()
    assert read_ledger(service) == ""


@pytest.mark.parametrize("detail_type", OTHER_CHANGES)
async def test_other_changes_are_for_a_users_handler(
    start_service: StartService, settings: Settings, detail_type: str
) -> None:
    """A user's handler gets other changes without the environment that they carry."""
    registry, seen = HandlerRegistry(), []

    @registry.on(detail_type)
    async def changed(event: Event[dict[str, Any]], run: Run) -> None:
        seen.append(event.body)

    service = await start_service(extension=Extension(registry=registry))
    event = {**forged("theirs:1", "SUCCEEDED", start_key="hush-1"), "detail-type": detail_type}
    await read_success(await service.post("/events", json=event))
    assert seen[0]["build-status"] == "SUCCEEDED"
    assert "hush-1" not in read_ledger(service)
