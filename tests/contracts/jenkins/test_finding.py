"""A start whose answer was lost is found, in the queue or among the builds."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from orchestrator.adapters.jenkins.builder import JenkinsBuilder
from orchestrator.core.errors import TemporaryError
from orchestrator.embedded import Fault
from tests.contracts.jenkins.scene import BUILD_PATH, JOB, LONG_AGO, posts, start
from tests.jenkins.stand_in import START_KEY, JenkinsStandIn


async def test_a_start_whose_answer_was_lost_is_found(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """It is found while it waits, while it runs, and when it is over."""
    jenkins.inject("buildWithParameters", Fault.answer_lost())
    with pytest.raises(TemporaryError) as caught:
        await start(builder)
    assert not caught.value.nothing_done
    assert posts(jenkins) == [BUILD_PATH]
    moves: list[Callable[[], object]] = [
        lambda: None,
        jenkins.run_queue,
        jenkins.forget_queue_items,
        lambda: jenkins.finish(1, "SUCCESS"),
    ]
    for move in moves:
        move()
        job = await builder.find_job(start_key="op-1", job_identifier=JOB, started_after=LONG_AGO)
        assert job is not None
        assert job.id == "tenants/basic#1:op-1"


@pytest.mark.parametrize("step", ["queue/api/json", "basic/api/json"])
async def test_a_build_that_leaves_the_queue_meanwhile_is_found(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, step: str
) -> None:
    """It is found, since the queue is read before the builds."""
    await start(builder)
    jenkins.meanwhile(step, jenkins.run_queue)
    assert await builder.find_job(start_key="op-1", job_identifier=JOB, started_after=LONG_AGO)


async def test_a_job_is_found_before_its_child(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """A child that waits with its parent's parameters isn't taken for it."""
    jenkins.add_job("aa/child", START_KEY)
    jenkins.queue("aa/child", {START_KEY: "op-1"})
    child = await builder.find_job(start_key="op-1", job_identifier=JOB, started_after=LONG_AGO)
    assert child is not None
    assert (child.id, child.job_identifier) == ("aa/child#1:op-1", "aa/child")
    jenkins.queue(JOB, {START_KEY: "op-1"})
    for runs in (False, True):
        if runs:
            jenkins.run_queue(2)
        found = await builder.find_job(start_key="op-1", job_identifier=JOB, started_after=LONG_AGO)
        assert found is not None
        assert (found.id, found.job_identifier) == ("tenants/basic#2:op-1", JOB)


async def test_builds_are_searched_page_by_page_until_they_are_too_old(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """A hundred at a time, and none that began long before the start."""
    for number in range(250):
        jenkins.clock = lambda number=number: 1_000_000.0 + number  # type: ignore[misc]
        jenkins.queue(JOB, {START_KEY: f"op-{number}"})
        jenkins.run_queue()

    async def find(start_key: str, started_after: float) -> tuple[str | None, int]:
        before = len(jenkins.requests)
        found = await builder.find_job(
            start_key=start_key,
            job_identifier=JOB,
            started_after=datetime.fromtimestamp(started_after, UTC),
        )
        return found.id if found else None, len(jenkins.requests) - before

    assert await find("op-249", 0) == ("tenants/basic#250:op-249", 2)
    assert await find("op-0", 0) == ("tenants/basic#1:op-0", 4)
    assert await find("none", 0) == (None, 4)
    assert await find("none", 1_000_200) == (None, 2)
    assert await find("op-150", 1_000_150) == ("tenants/basic#151:op-150", 2)
    assert await find("op-149", 1_000_149) == ("tenants/basic#150:op-149", 3)
