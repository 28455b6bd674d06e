"""Jenkins builds a job again under its start key (Naginator, Rebuild): the newest is the job."""

from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest

from orchestrator import Settings
from orchestrator.settings import Builders, Jenkins, Operations, Tiers
from orchestrator.testing import ManualClock
from tests.acceptance.answers import read_success
from tests.acceptance.stories import PROVISION, TENANT, read_tenant, send, state_of, sweep
from tests.conftest import Client, StartService
from tests.jenkins.stand_in import TOKEN, USER, JenkinsStandIn, open_jenkins_stand_in

STARTED = "ORCHESTRATOR_RUN_ID"


@pytest.fixture
async def jenkins() -> AsyncIterator[JenkinsStandIn]:
    jobs = {"up": (STARTED,), "cleanup": (STARTED,)}
    async with open_jenkins_stand_in(jobs=jobs) as stand_in:
        yield stand_in


@pytest.fixture
async def service(
    start_service: StartService, settings: Settings, jenkins: JenkinsStandIn
) -> Client:
    """The service, which has started a provisioning's job that has failed and is queued again."""
    tier = {"jobIdentifier": "up", "cleanupJobIdentifier": "cleanup", "builder": "JENKINS"}
    service = await start_service(
        attrs.evolve(
            settings,
            builders=Builders(jenkins=Jenkins(url=jenkins.url, user=USER, token=TOKEN)),
            tiers=Tiers(backend="static", static={"FULL": tier}),
            operations=Operations(reconcile_every_s=0, deadline_s=600),
        )
    )
    await read_success(await send(service, PROVISION, "request"))
    jenkins.run_queue()
    jenkins.build_again(1)
    jenkins.finish(1, "FAILURE")
    return service


async def operation_of(service: Client) -> dict[str, Any]:
    operation: dict[str, Any] = (await read_tenant(service))["operation"]
    return operation


@pytest.mark.parametrize(
    ("results", "state", "jobs"),
    [
        (["SUCCESS"], "provisioned", 2),
        (["FAILURE", "SUCCESS"], "provisioned", 3),
        (["FAILURE", "FAILURE"], "cleaning_up", 4),
    ],
)
async def test_the_end_of_the_newest_build_is_the_operations(
    service: Client, jenkins: JenkinsStandIn, results: list[str], state: str, jobs: int
) -> None:
    """The ends of older builds don't end the operation; the newest one's does."""
    for number, result in enumerate(results, start=2):
        await sweep(service)
        assert await state_of(service) == "provisioning"
        assert (await operation_of(service))["job"]["id"].startswith(f"up#{number}:")
        jenkins.run_queue(number)
        if number <= len(results):
            jenkins.build_again(number)
        jenkins.finish(number, result)
    await sweep(service)
    await sweep(service)
    assert await state_of(service) == state
    assert len(jenkins.items) == jobs


async def test_the_newest_build_has_a_deadline_of_its_own(
    service: Client, jenkins: JenkinsStandIn, clock: ManualClock
) -> None:
    """The deadline of a newer build counts from when it was recorded."""
    clock.turn(500)
    await sweep(service)
    jenkins.run_queue(2)
    clock.turn(500)
    await sweep(service)
    assert await state_of(service) == "provisioning"
    clock.turn(100)
    await sweep(service)
    build = jenkins.items[2].build
    assert build is not None
    assert build.result == "ABORTED"
    assert "took longer than 600 s" in (await read_tenant(service))["timeline"][1]["reason"]


async def test_a_cancel_stops_the_newest_build(service: Client, jenkins: JenkinsStandIn) -> None:
    """A cancel stops the newest build, which the cancel itself detects."""
    jenkins.run_queue()
    answer = await service.post(f"/tenants/{TENANT}/cancel", json={"reason": "enough"})
    assert answer.status == 202
    assert (await operation_of(service))["job"]["id"].startswith("up#2:")
    await sweep(service)
    build = jenkins.items[2].build
    assert build is not None
    assert build.result == "ABORTED"
    assert await state_of(service) == "cleaning_up"


async def test_a_rebuild_after_the_end_was_claimed_is_not_noticed(
    service: Client, jenkins: JenkinsStandIn
) -> None:
    """A rebuild after the end was claimed changes nothing: Jenkins sends no event for it, and the
    ended job is no longer checked."""
    jenkins.finish(2, "SUCCESS")
    await sweep(service)
    await sweep(service)
    assert await state_of(service) == "provisioned"
    jenkins.build_again(2)
    jenkins.finish(3, "FAILURE")
    await sweep(service)
    assert await state_of(service) == "provisioned"
