"""Jobs that their builder no longer has: deleted, or discarded by a Jenkins job's rotation."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import attrs
import pytest

from orchestrator import Settings
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.settings import Builders, Jenkins, Operations, StepFunctions, Tiers
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import read_success
from tests.acceptance.stories import PROVISION, TENANT, read_tenant, send, state_of, sweep
from tests.conftest import Client, StartService
from tests.jenkins.stand_in import TOKEN, USER, open_jenkins_stand_in
from tests.step_functions.stand_in import open_step_functions

STARTED = "ORCHESTRATOR_RUN_ID"
#: So long after its start (seconds) a job that its builder doesn't know is unknown.
LISTED_S = 62
DEADLINE_S = 600


@attrs.frozen
class Ground:
    """A builder, `lose`, which removes all jobs from it, and the start keys of its jobs."""

    name: str
    lose: Callable[[], None]
    started: Callable[[], list[str]]
    builders: Builders = attrs.field(factory=Builders)


MakeGround = Callable[[CodeBuildStandIn, pytest.MonkeyPatch], AbstractAsyncContextManager[Ground]]


@asynccontextmanager
async def on_codebuild(codebuild: CodeBuildStandIn, _: pytest.MonkeyPatch) -> AsyncIterator[Ground]:
    for project in ("up", "cleanup"):
        codebuild.add_project(project)

    def lose() -> None:
        for build_id in list(codebuild.builds):
            codebuild.finish(build_id, "SUCCEEDED")
            codebuild.remove_build(build_id)

    def started() -> list[str]:
        calls = [given for action, given in codebuild.calls if action == "StartBuild"]
        return [given["idempotencyToken"] for given in calls]

    yield Ground("CODE_BUILD", lose, started)


@asynccontextmanager
async def on_jenkins(_: CodeBuildStandIn, __: pytest.MonkeyPatch) -> AsyncIterator[Ground]:
    jobs = {"up": (STARTED,), "cleanup": (STARTED,)}
    async with open_jenkins_stand_in(jobs=jobs) as jenkins:
        jenkins.keeps = 0

        def lose() -> None:
            for queue_id in jenkins.items:
                jenkins.finish(queue_id, "SUCCESS")
            jenkins.forget_queue_items()

        yield Ground(
            "JENKINS",
            lose,
            lambda: [one.parameters[STARTED] for one in jenkins.items.values()],
            Builders(jenkins=Jenkins(url=jenkins.url, user=USER, token=TOKEN)),
        )


@asynccontextmanager
async def on_step_functions(
    _: CodeBuildStandIn, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ground]:
    async with open_step_functions() as aws:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SFN", aws.url)
        machines = {name: aws.add_machine(name) for name in ("up", "cleanup")}

        def started() -> list[str]:
            return [given["name"] for action, given in aws.calls if action == "StartExecution"]

        yield Ground(
            "STEP_FUNCTIONS",
            aws.executions.clear,
            started,
            Builders(step_functions=StepFunctions(state_machines=machines)),
        )


_GROUNDS: Mapping[str, MakeGround] = {
    "CodeBuild": on_codebuild,
    "Jenkins": on_jenkins,
    "Step Functions": on_step_functions,
}


@pytest.fixture(params=_GROUNDS)
async def ground(
    request: pytest.FixtureRequest, codebuild: CodeBuildStandIn, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ground]:
    async with _GROUNDS[request.param](codebuild, monkeypatch) as made:
        yield made


Open = Callable[..., Awaitable[Client]]


@pytest.fixture
def provisioned(start_service: StartService, settings: Settings, ground: Ground) -> Open:
    """Start the service with a provisioning's job that its builder has lost."""

    async def open_service(**operations: Any) -> Client:
        tier = {
            "jobIdentifier": "up",
            "cleanupJobIdentifier": "cleanup",
            "builder": ground.name,
        }
        service = await start_service(
            attrs.evolve(
                settings,
                builders=ground.builders,
                tiers=Tiers(backend="static", static={"FULL": tier}),
                operations=Operations(reconcile_every_s=0, deadline_s=DEADLINE_S, **operations),
            )
        )
        await read_success(await send(service, PROVISION, "request"))
        ground.lose()
        return service

    return open_service


async def send_self_report(service: Client, ground: Ground, word: str, **more: Any) -> None:
    """The job reports its end, by its start key."""
    detail = {STARTED: ground.started()[0], **more}
    event = envelope(f"{PROVISION}_{word}", detail, event_id=f"told-{word}")
    await read_success(await service.post("/events", json=event))


async def last_reason(service: Client) -> str:
    reason: str = (await read_tenant(service))["timeline"][0]["reason"]
    return reason


async def test_a_job_that_is_only_unknown_is_waited_for_until_its_deadline(
    provisioned: Open, ground: Ground, clock: ManualClock
) -> None:
    """An unknown job, which may have succeeded, fails its operation at the deadline alone, without
    a clean-up."""
    service = await provisioned()
    for _ in range(4):
        clock.turn(LISTED_S)
        await sweep(service)
    assert await state_of(service) == "provisioning"
    clock.turn(DEADLINE_S - 4 * LISTED_S)
    await sweep(service)
    await sweep(service)
    assert await state_of(service) == "provision_failed"
    assert len(ground.started()) == 1
    reason = await last_reason(service)
    assert f"{ground.name} doesn't know the job" in reason
    assert "No clean-up follows" in reason
    assert "operations.clean_up_unknown" in reason


async def test_a_clean_up_follows_what_is_unknown_if_that_is_wanted(
    provisioned: Open, ground: Ground, clock: ManualClock
) -> None:
    """With `operations.clean_up_unknown` a clean-up follows an unknown job, after the deadline and
    not before."""
    service = await provisioned(clean_up_unknown=True)
    clock.turn(DEADLINE_S - 1)
    await sweep(service)
    assert await state_of(service) == "provisioning"
    clock.turn(1)
    await sweep(service)
    assert await state_of(service) == "cleaning_up"
    assert len(ground.started()) == 2


@pytest.mark.parametrize(
    ("word", "state"), [("SUCCESS", "provisioned"), ("FAILURE", "cleaning_up")]
)
async def test_an_unknown_job_ends_by_its_self_report(
    provisioned: Open, ground: Ground, clock: ManualClock, word: str, state: str
) -> None:
    """An unknown job ends by its self-report, once its builder must list it: before that it may be
    running."""
    service = await provisioned()
    await send_self_report(service, ground, word, reason="no more addresses")
    clock.turn(LISTED_S - 1)
    await sweep(service)
    assert await state_of(service) == "provisioning"
    clock.turn(1)
    await sweep(service)
    assert await state_of(service) == state
    (outcome,) = (
        one
        for one in (await read_tenant(service))["timeline"]
        if one["eventType"] == f"{PROVISION}_{word}" and "The job reports" not in one["reason"]
    )
    assert ("reported success" if word == "SUCCESS" else "no more addresses") in outcome["reason"]
    assert ground.name in outcome["reason"]


async def test_a_report_that_names_only_the_tenant_ends_no_unknown_job(
    provisioned: Open, clock: ManualClock
) -> None:
    """A report that names the tenant alone isn't the job's self-report, since any sender can send
    it, and ends nothing."""
    service = await provisioned()
    event = envelope(f"{PROVISION}_SUCCESS", {"TENANT_ID": TENANT}, event_id="anybody's")
    await read_success(await service.post("/events", json=event))
    clock.turn(LISTED_S)
    await sweep(service)
    assert await state_of(service) == "provisioning"


async def test_a_cancel_ends_what_is_unknown_at_once(
    provisioned: Open, ground: Ground, clock: ManualClock
) -> None:
    """A cancel ends the operation of an unknown job at once, and a clean-up follows as after any
    other cancel."""
    service = await provisioned()
    clock.turn(LISTED_S)
    answer = await service.post(f"/tenants/{TENANT}/cancel", json={"reason": "enough"})
    assert answer.status == 200, await answer.text()
    assert await state_of(service) == "cleaning_up"
    assert len(ground.started()) == 2
