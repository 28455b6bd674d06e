"""A job is taken out of the queue, or its build is stopped."""

import pytest

from orchestrator.adapters.jenkins.builder import JenkinsBuilder
from orchestrator.core.errors import TemporaryError
from orchestrator.embedded import Fault
from tests.contracts.jenkins.scene import BUILD_PATH, JOB, describe, posts, start, wants_login
from tests.jenkins.stand_in import START_KEY, JenkinsStandIn, job_path


@pytest.mark.parametrize("is_old", [False, True])
async def test_a_waiting_job_is_taken_out_of_the_queue(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, is_old: bool
) -> None:
    """The item is cancelled, whichever way the version of Jenkins answers."""
    jenkins.is_old = is_old
    job = await start(builder)
    for _ in range(2):
        await builder.stop_job(job_id=job.id)
    assert jenkins.items[1].cancelled
    assert posts(jenkins) == [BUILD_PATH, "/queue/cancelItem"]


@pytest.mark.parametrize("name", ["tenants/basic", "create-login"])
async def test_a_running_build_is_stopped(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, name: str
) -> None:
    """It is stopped at the builder's url, not at Jenkins' own; its redirect is no login page."""
    jenkins.add_job(name, START_KEY)
    job = await start(builder, job=name)
    jenkins.run_queue()
    jenkins.forget_queue_items()
    await builder.stop_job(job_id=job.id)
    assert posts(jenkins)[1:] == [f"/{job_path(name)}1/stop"]
    report = await describe(builder, job)
    assert report is not None
    assert report.status == "STOPPED"


@pytest.mark.parametrize("step", ["queue/item/1/api/json", "queue/cancelItem"])
@pytest.mark.parametrize("is_old", [False, True])
async def test_a_job_that_starts_while_it_is_stopped_is_stopped(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, step: str, is_old: bool
) -> None:
    """A cancellation that came too late is followed by a stop of the build."""
    jenkins.is_old = is_old
    job = await start(builder)
    jenkins.meanwhile(step, jenkins.run_queue)
    await builder.stop_job(job_id=job.id)
    report = await describe(builder, job)
    assert report is not None
    assert report.status == "STOPPED"


@pytest.mark.parametrize("is_old", [False, True])
async def test_a_job_that_can_not_be_stopped_is_no_success(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, is_old: bool
) -> None:
    """A stop that fails raises, of a job that waits and of one that runs."""
    jenkins.is_old, jenkins.may_cancel = is_old, is_old
    job = await start(builder)
    jenkins.inject("queue/cancelItem", Fault.error("", http_status=302 if is_old else 422))
    with pytest.raises(TemporaryError, match="item 1 still waits: check the user"):
        await builder.stop_job(job_id=job.id)
    jenkins.run_queue()
    jenkins.inject("stop", Fault.error("", http_status=403))
    with pytest.raises(TemporaryError, match=r"403.*permission"):
        await builder.stop_job(job_id=job.id)


@pytest.mark.parametrize("is_pipeline", [True, False])
@pytest.mark.parametrize("way", ["term", "kill"])
async def test_a_build_is_stopped_harder_where_it_can_be(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, way: str, is_pipeline: bool
) -> None:
    """A pipeline's has harder ways; any other one is asked to stop once more."""
    if is_pipeline:
        jenkins.pipelines.add(JOB)
    job = await start(builder)
    jenkins.run_queue()
    await builder.stop_job(job_id=job.id, way=way)
    ways = [path.rpartition("/")[2] for path in posts(jenkins)[1:]]
    assert ways == [way] if is_pipeline else [way, "stop"]
    report = await describe(builder, job)
    assert report is not None
    assert report.status == "STOPPED"


async def test_a_login_page_stops_nothing(jenkins: JenkinsStandIn, builder: JenkinsBuilder) -> None:
    """A login page, which looks like the redirect that answers a stop, is an error."""
    job = await start(builder)
    jenkins.run_queue()
    jenkins.meanwhile("1/stop", lambda: wants_login(jenkins))
    with pytest.raises(TemporaryError, match="a redirect to a login page"):
        await builder.stop_job(job_id=job.id)


async def test_a_foreign_or_ended_job_is_not_stopped(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """Nothing is posted for an id of another builder, a job that is gone or a build that is over;
    one that ends just now is no error."""
    for job_id in ("project:uuid", f"{JOB}#7:op-7", "deleted#1:op-1"):
        await builder.stop_job(job_id=job_id)
    assert posts(jenkins) == []
    over, gone = [await start(builder, f"op-{number}") for number in range(2)]
    jenkins.finish(1, "SUCCESS")
    await builder.stop_job(job_id=over.id)
    assert posts(jenkins) == [BUILD_PATH] * 2
    jenkins.run_queue()
    jenkins.meanwhile("2/stop", lambda: jenkins.forget(2))
    await builder.stop_job(job_id=gone.id)
