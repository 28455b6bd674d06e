"""What a job's queue item and builds say of it, also where it was built again."""

import attrs
import pytest

from orchestrator.adapters.jenkins.builder import JenkinsBuilder
from orchestrator.core.errors import TemporaryError
from orchestrator.core.jobs.job_description import SomeNotDescribed
from orchestrator.core.ledger.record_parts import Job
from orchestrator.embedded import Fault
from tests.contracts.jenkins.scene import (
    BUILD_PATH,
    JOB,
    Safe,
    describe,
    open_builder,
    posts,
    start,
)
from tests.jenkins.stand_in import ROOT, START_KEY, Build, Item, JenkinsStandIn


@pytest.mark.parametrize(
    ("result", "description", "status", "message"),
    [
        ("SUCCESS", None, "SUCCEEDED", None),
        ("FAILURE", "terraform gave up", "FAILED", "terraform gave up"),
        ("ABORTED", " ", "STOPPED", None),
        ("NOT_BUILT", None, "FAILED", "NOT_BUILT"),
        ("UNSTABLE", "2 tests failed", "FAILED", "UNSTABLE: 2 tests failed"),
        ("SOMETHING_NEW", None, "FAILED", "SOMETHING_NEW"),
    ],
)
async def test_a_result_is_a_status(
    jenkins: JenkinsStandIn,
    builder: JenkinsBuilder,
    result: str,
    description: str | None,
    status: str,
    message: str | None,
) -> None:
    """What our status doesn't show is in the message, before the build's description."""
    job = await start(builder)
    jenkins.finish(1, result, description)
    report = await describe(builder, job)
    assert report is not None
    assert (report.status, report.message) == (status, message)
    assert report.start_key == "op-1"
    assert report.job.log_url == f"{ROOT}/job/tenants/job/basic/1/console"


async def test_unstable_may_be_success(jenkins: JenkinsStandIn, safe: Safe) -> None:
    """UNSTABLE counts as success where the configuration says so, and no other result does."""
    async with open_builder(jenkins, safe, unstable_is_success=True) as builder:
        jobs = [await start(builder, f"op-{number}") for number in range(2)]
        jenkins.finish(1, "UNSTABLE")
        jenkins.finish(2, "NOT_BUILT")
        described = await builder.describe_jobs(job_ids=[job.id for job in jobs])
    assert [described[job.id].status for job in jobs] == ["SUCCEEDED", "FAILED"]


async def test_a_result_counts_once_the_build_has_ended(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """A Pipeline may set it while it runs; a build that has ended without any has no end yet."""
    job = await start(builder)
    for building, result in ((True, "FAILURE"), (False, None)):
        jenkins.finish(1, "SUCCESS")
        build = jenkins.items[1].build
        assert build is not None
        build.building, build.result = building, result
        report = await describe(builder, job)
        assert report is not None
        assert (report.status, report.reason) == ("IN_PROGRESS", None)


async def test_a_waiting_job_is_in_progress_and_a_cancelled_one_stopped(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """A cancelled item is stopped until the queue forgets it: then Jenkins doesn't list it."""
    job = await start(builder)
    report = await describe(builder, job)
    assert report is not None
    assert (report.status, report.job) == ("IN_PROGRESS", job)
    jenkins.items[1].cancelled = True
    report = await describe(builder, job)
    assert report is not None
    assert report.reason == (
        "The job tenants/basic#1:op-1 was stopped: it was cancelled in Jenkins' queue."
    )
    assert report.start_key == "op-1"
    jenkins.forget_queue_items()
    assert await describe(builder, job) is None


async def test_a_build_is_known_when_its_queue_item_is_forgotten(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """A build is found by the queue id that it keeps."""
    job = await start(builder)
    jenkins.run_queue()
    jenkins.forget_queue_items()
    report = await describe(builder, job)
    assert report is not None
    assert report.status == "IN_PROGRESS"


@pytest.mark.parametrize("step", ["queue/api/json", "queue/item/1/api/json"])
@pytest.mark.parametrize("forgets", [False, True])
async def test_a_job_that_starts_meanwhile_is_never_unknown(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, step: str, forgets: bool
) -> None:
    """It is found wherever it is between the requests for builds, queue and item."""
    job = await start(builder)
    if step != "queue/api/json":
        # The list of what waits must not have it, or the item isn't requested.
        jenkins.inject("queue/api/json", Fault.error("", '{"items": []}', http_status=200))

    def go_on() -> None:
        jenkins.run_queue()
        if forgets:
            jenkins.forget_queue_items()

    jenkins.meanwhile(step, go_on)
    report = await describe(builder, job)
    assert report is not None
    assert report.status == "IN_PROGRESS"
    assert report.job.log_url == f"{ROOT}/job/tenants/job/basic/1/console"


async def test_more_builds_than_a_page_are_looked_through(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """Pages are read as long as a build may be there: neither one on the first page nor a job that
    waits costs a second page."""
    for number in range(250):
        jenkins.queue(JOB, {START_KEY: f"op-{number}"})
    jenkins.run_queue()
    jenkins.forget_queue_items()
    job_ids = [f"{JOB}#{number}:op-{number - 1}" for number in range(1, 251)]
    assert set(await builder.describe_jobs(job_ids=job_ids)) == set(job_ids)
    assert len(jenkins.requests) == 3
    assert await builder.describe_jobs(job_ids=job_ids[-1:])
    assert len(jenkins.requests) == 4
    waits = await start(builder, "op-waits")
    jenkins.requests.clear()
    assert await describe(builder, waits) is not None
    assert len(jenkins.requests) == 2


async def test_a_build_behind_younger_ones_is_found(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """Items may leave the queue in any order: a younger one's build behind pages of older ones."""
    for number in range(250):
        jenkins.queue(JOB, {START_KEY: f"op-{number}"})
    jenkins.run_queue(250, 2, *range(3, 250), 1)
    assert await builder.describe_jobs(job_ids=[f"{JOB}#2:op-1"])
    assert [path for _, path, _ in jenkins.requests] == ["/job/tenants/job/basic/api/json"] * 3
    job_id = f"{JOB}#250:op-249"
    for forgets in (False, True):
        if forgets:
            jenkins.forget_queue_items()
            jenkins.finish(250, "SUCCESS")
        report = (await builder.describe_jobs(job_ids=[job_id])).get(job_id)
        assert report is not None
        assert report.succeeded is forgets
    jenkins.forget(249)
    jenkins.queue(JOB, {START_KEY: "op-249"})
    jenkins.run_queue()
    jenkins.forget_queue_items()
    build = jenkins.items[250].build
    assert build is not None
    build.building, build.result = True, None
    await builder.stop_job(job_id=job_id)
    assert posts(jenkins) == ["/job/tenants/job/basic/1/stop"]


async def test_jobs_of_several_kinds_are_described_at_once(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """Ids of others are left out; those of a deleted job may be hidden only."""
    jenkins.add_job("deleted", START_KEY)
    jenkins.add_job("top", START_KEY)
    jobs = [
        await start(builder, f"op-{number}", job)
        for number, job in enumerate((JOB, "top", "deleted", "top", "deleted"))
    ]
    jenkins.run_queue(2, 3)
    jenkins.remove_job("deleted")
    strange = ["none:1", "arn:aws:states:x", "top#", "#1", "top#x:1", "top#99:a"]
    with pytest.raises(SomeNotDescribed) as some:
        await builder.describe_jobs(job_ids=[*(job.id for job in jobs), *strange])
    assert set(some.value.reports) == {"tenants/basic#1:op-0", "top#2:op-1", "top#4:op-3"}
    assert some.value.hidden == {"deleted#3:op-2", "deleted#5:op-4"}
    assert not some.value.failed


async def test_one_job_that_can_not_be_described_hides_no_other(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """A failure of one job leaves only that job's builds without a description."""
    jenkins.add_job("top", START_KEY)
    jobs = [await start(builder, f"op-{n}", job) for n, job in enumerate((JOB, "top"))]
    jenkins.inject("/job/top/api/json", *[Fault.error("", http_status=500)] * 2)
    with pytest.raises(SomeNotDescribed, match="500") as some:
        await builder.describe_jobs(job_ids=[job.id for job in jobs])
    assert set(some.value.reports) == {jobs[0].id}
    assert some.value.failed == {jobs[1].id}
    jenkins.inject("/job/top/api/json", Fault.error("", http_status=500))
    with pytest.raises(TemporaryError, match="500"):
        await builder.describe_jobs(job_ids=[jobs[1].id])


async def test_a_reused_queue_id_is_another_job(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """A Jenkins that was killed may count from an earlier number: the start keys differ."""
    job = await start(builder)
    jenkins.run_queue()
    jenkins.items[1].parameters = {START_KEY: "op-2"}
    jenkins.finish(1, "SUCCESS")
    assert await builder.describe_jobs(job_ids=[job.id]) == {}
    jenkins.items[1].build = Build(2, timestamp=0)
    await builder.stop_job(job_id=job.id)
    assert posts(jenkins) == [BUILD_PATH]


async def test_two_jobs_of_one_queue_id_are_described_each(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """The one that runs isn't taken for the one that is gone, whichever is requested first."""
    first = await start(builder)
    jenkins.finish(1, "SUCCESS")
    jenkins.items[100] = Item(1, JOB, {START_KEY: "op-2"})
    jenkins.run_queue(100)
    second = attrs.evolve(first, id=f"{JOB}#1:op-2")
    for job_ids in ([first.id, second.id], [second.id, first.id]):
        reports = await builder.describe_jobs(job_ids=job_ids)
        assert {job_id: report.is_over for job_id, report in reports.items()} == {
            first.id: True,
            second.id: False,
        }


# Building again


async def described(builder: JenkinsBuilder, job: Job) -> tuple[str, bool] | None:
    """Which job the answer is about, by the number of its queue item, and whether it is over."""
    report = (await builder.describe_jobs(job_ids=[job.id])).get(job.id)
    if report is None:
        return None
    assert report.replaces == (None if report.job.id == job.id else job.id)
    assert report.start_key == "op-1"
    return report.job.id.partition("#")[2].partition(":")[0], report.is_over


async def test_the_newest_build_of_a_start_key_is_the_job(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """It counts once the older one is over, also as a queue item, which Naginator has wait."""
    job = await start(builder)
    jenkins.run_queue()
    jenkins.build_again(1)
    assert await described(builder, job) == ("1", False)
    jenkins.finish(1, "FAILURE")
    jenkins.forget_queue_items()
    assert await described(builder, job) == ("2", False)
    jenkins.run_queue()
    assert await described(builder, job) == ("2", False)
    jenkins.build_again(2)
    jenkins.finish(2, "FAILURE")
    assert await described(builder, job) == ("3", False)
    jenkins.finish(3, "SUCCESS")
    assert await described(builder, job) == ("3", True)


async def test_a_discarded_build_was_built_again(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """The rotation keeps one build; the newest stands for the job."""
    jenkins.keeps = 1
    job = await start(builder)
    jenkins.finish(1, "FAILURE")
    jenkins.build_again(1)
    jenkins.finish(2, "SUCCESS")
    jenkins.forget_queue_items()
    assert await described(builder, job) == ("2", True)


@pytest.mark.parametrize("forgets", [True, False])
async def test_a_discarded_build_is_unknown(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, forgets: bool
) -> None:
    """It is unknown also while its queue item still says that it has become a build."""
    jenkins.keeps = 0
    job = await start(builder)
    jenkins.finish(1, "SUCCESS")
    if forgets:
        jenkins.forget_queue_items()
    assert await described(builder, job) is None


@pytest.mark.parametrize("step", ["/basic/api/json", "/queue/api/json"])
async def test_a_build_that_is_queued_again_meanwhile_is_seen(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, step: str
) -> None:
    """Naginator queues the next one before the last one is over; it may leave the queue at once."""
    job = await start(builder)
    jenkins.run_queue()

    def fail() -> None:
        jenkins.build_again(1)
        jenkins.finish(1, "FAILURE")

    if step.startswith("/queue"):
        fail()
        jenkins.meanwhile(step, jenkins.run_queue)
    else:
        jenkins.meanwhile(step, fail)
    assert await described(builder, job) == ("2", False)
