"""A Jenkins build that ignores a stop is stopped in a harder way; after the last one the reason
says so."""

from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest

from orchestrator import Settings
from orchestrator.embedded import Fault
from orchestrator.settings import Builders, Jenkins, Operations, Tiers
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import read_success
from tests.acceptance.stories import PROVISION, TENANT, read_tenant, send, state_of, sweep
from tests.conftest import Client, StartService
from tests.jenkins.stand_in import TOKEN, USER, JenkinsStandIn, open_jenkins_stand_in

STARTED = "ORCHESTRATOR_RUN_ID"
WAYS = ["stop", "term", "kill"]
#: Longer than the time (seconds) that a job has to end after a stop.
HEEDED_S = 31


@pytest.fixture
async def jenkins() -> AsyncIterator[JenkinsStandIn]:
    async with open_jenkins_stand_in(jobs={"up": (STARTED,)}) as stand_in:
        stand_in.pipelines.add("up")
        yield stand_in


@pytest.fixture
async def service(
    start_service: StartService, settings: Settings, jenkins: JenkinsStandIn
) -> Client:
    """The service, which has started a provisioning's job, whose pipeline runs."""
    tier = {"jobIdentifier": "up", "builder": "JENKINS"}
    service = await start_service(
        attrs.evolve(
            settings,
            builders=Builders(jenkins=Jenkins(url=jenkins.url, user=USER, token=TOKEN)),
            tiers=Tiers(backend="static", static={"FULL": tier}),
            operations=Operations(reconcile_every_s=0),
        )
    )
    await read_success(await send(service, PROVISION, "request"))
    jenkins.run_queue()
    return service


async def cancel(service: Client) -> int:
    answer = await service.post(f"/tenants/{TENANT}/cancel", json={"reason": "enough"})
    return answer.status


def ways(jenkins: JenkinsStandIn) -> list[str]:
    posts = [path for method, path, _ in jenkins.requests if method == "POST"]
    return [way for path in posts if (way := path.rpartition("/")[2]) in WAYS]


async def reason_of(service: Client) -> str:
    found: dict[str, Any] = await read_tenant(service)
    operation = found["operation"]
    reason: str = operation["reason"] if operation else found["timeline"][0]["reason"]
    return reason


@pytest.mark.parametrize("deaf_to", [0, 1, 2, 3])
async def test_a_job_that_ignores_a_stop_is_stopped_harder(
    service: Client, jenkins: JenkinsStandIn, clock: ManualClock, deaf_to: int
) -> None:
    """A job that ignores a stop is stopped in the next harder way; if it ignores all of them the
    operation's reason says so, also after its end."""
    jenkins.ignored_stops.update(WAYS[:deaf_to])
    assert await cancel(service) == (202 if deaf_to else 200)
    for _ in range(deaf_to):
        assert await state_of(service) == "provisioning"
        assert "heeded" not in await reason_of(service)
        clock.turn(HEEDED_S)
        await sweep(service)
    assert ways(jenkins) == ["stop", "term", "kill", "kill"][: deaf_to + 1]
    if deaf_to == 3:
        for _ in range(2):
            clock.turn(HEEDED_S)
            await sweep(service)
        said = "obeyed none of stop, term, kill: end it on JENKINS by hand."
        assert (await reason_of(service)).count(said) == 1
        assert await state_of(service) == "provisioning"
        jenkins.finish(1, "ABORTED")
        await sweep(service)
        assert said in await reason_of(service)
    assert await state_of(service) == "provision_failed"


async def test_a_job_has_time_to_end_before_a_harder_stop(
    service: Client, jenkins: JenkinsStandIn, clock: ManualClock
) -> None:
    """Neither a second cancel nor a self-report has the job stopped harder at once, since its last
    stages may clean up."""
    jenkins.ignored_stops.update(WAYS)
    for _ in range(2):
        assert await cancel(service) == 202
        (key,) = (one.parameters[STARTED] for one in jenkins.items.values())
        self_report = envelope(f"{PROVISION}_FAILURE", {STARTED: key}, event_id="told")
        await read_success(await service.post("/events", json=self_report))
        await sweep(service)
        clock.turn(10)
    assert set(ways(jenkins)) == {"stop"}


async def test_a_stop_that_was_not_answered_counts_for_nothing(
    service: Client, jenkins: JenkinsStandIn, clock: ManualClock
) -> None:
    """After a stop that failed the next one is of the same way."""
    jenkins.inject("1/stop", Fault.error("", http_status=500))
    assert await cancel(service) == 202
    clock.turn(HEEDED_S)
    await sweep(service)
    assert ways(jenkins) == ["stop", "stop"]
    assert await state_of(service) == "provision_failed"
