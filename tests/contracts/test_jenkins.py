"""What is Jenkins' own in `JenkinsBuilder`: beyond what every builder does."""

import base64
import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs

from orchestrator.adapters.jenkins.builder import JenkinsBuilder, open_jenkins
from orchestrator.adapters.jenkins.client import JenkinsClient
from orchestrator.core.errors import NotPermitted, OrchestratorError, PermanentError, TemporaryError
from orchestrator.core.jobs.job_description import JobDescription, SomeNotDescribed
from orchestrator.core.ledger.records import Job
from orchestrator.embedded import Fault
from tests.jenkins.stand_in import (
    HOST,
    PASSWORD,
    ROOT,
    START_KEY,
    TOKEN,
    USER,
    Build,
    Item,
    JenkinsStandIn,
    job_path,
    open_jenkins_stand_in,
)

JOB = "tenants/basic"
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
VALUE = "what only the build may know"
BUILD_PATH = "/job/tenants/job/basic/buildWithParameters"


@attrs.define
class Safe:
    """Where the token is kept; it may change."""

    token: str = TOKEN

    async def open(self) -> str:
        return self.token


def open_builder(
    jenkins: JenkinsStandIn, safe: Safe, **options: Any
) -> AbstractAsyncContextManager[JenkinsBuilder]:
    given: dict[str, Any] = {"url": jenkins.url, "connect_timeout_s": 5, "timeout_s": 10}
    return open_jenkins(user=USER, token=safe.open, name="JENKINS", **{**given, **options})


@pytest.fixture
async def jenkins() -> AsyncIterator[JenkinsStandIn]:
    async with open_jenkins_stand_in(jobs={JOB: (START_KEY, "A", "flag", "plan")}) as jenkins:
        yield jenkins


@pytest.fixture
def safe() -> Safe:
    return Safe()


@pytest.fixture
async def builder(jenkins: JenkinsStandIn, safe: Safe) -> AsyncIterator[JenkinsBuilder]:
    async with open_builder(jenkins, safe) as builder:
        yield builder


async def start(
    builder: JenkinsBuilder, start_key: str = "op-1", job: str = JOB, **params: Any
) -> Job:
    return await builder.start_job(job, params, start_key=start_key)


async def describe(builder: JenkinsBuilder, job: Job) -> JobDescription | None:
    return (await builder.describe_jobs(job_ids=[job.id])).get(job.id)


def posts(jenkins: JenkinsStandIn) -> list[str]:
    return [path for method, path, _ in jenkins.requests if method == "POST"]


# Starting


async def test_a_start_is_a_queue_item_of_a_job_in_its_folder(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """Its id is by queue item and start key, its link is where Jenkins says that the job is."""
    job = await start(builder)
    assert job == Job(
        id="tenants/basic#1:op-1",
        builder="JENKINS",
        job_identifier=JOB,
        log_url=f"{ROOT}/job/tenants/job/basic/",
    )
    assert posts(jenkins) == [BUILD_PATH]


@pytest.mark.parametrize(
    ("job", "path"),
    [
        ("top", "/job/top"),
        ("a/b/c", "/job/a/job/b/job/c"),
        ("job/job", "/job/job/job/job"),
        ("Bäume & Co/one two", "/job/B%C3%A4ume%20%26%20Co/job/one%20two"),
        ("repo/feature%2Fx", "/job/repo/job/feature%252Fx"),
        ("what?/100#1", "/job/what%3F/job/100%231"),
    ],
)
async def test_each_part_of_a_jobs_path_is_encoded(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, job: str, path: str
) -> None:
    """Also a branch's name, in which Jenkins itself writes a slash as %2F."""
    jenkins.add_job(job, START_KEY)
    started = await start(builder, job=job)
    assert posts(jenkins) == [f"{path}/buildWithParameters"]
    found = await builder.find_job(start_key="op-1", job_identifier="other", started_after=LONG_AGO)
    assert found == started
    report = await describe(builder, started)
    assert report is not None
    assert report.job == started


async def test_parameters_are_a_form_as_javascript_prints_it(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """None is left out, and the start key is among them whether it was given or not."""
    await start(builder, A=3600, flag=True, plan={"tier": "ÄÖÜ &=%"}, gone=None)
    assert jenkins.items[1].parameters == {
        START_KEY: "op-1",
        "A": "3600",
        "flag": "true",
        "plan": '{"tier":"ÄÖÜ &=%"}',
    }


async def test_a_job_without_the_start_key_is_refused(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """Its builds couldn't be told apart; a folder has no parameters either."""
    jenkins.add_job("tenants/none")
    jenkins.add_job("tenants/others", "A")
    for job in ("tenants/none", "tenants/others", "tenants"):
        with pytest.raises(PermanentError, match=f"{job}.*{START_KEY}.*add it") as caught:
            await start(builder, job=job)
        assert [error.path for error in caught.value.errors] == ["$"]
    assert posts(jenkins) == []


async def test_a_start_key_that_jenkins_hides_is_none(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """A password's value is told to nobody, so that the build would never be found again."""
    jenkins.passwords.add(START_KEY)
    with pytest.raises(PermanentError, match="as a string parameter, no password"):
        await start(builder)
    assert posts(jenkins) == []


async def test_a_value_that_is_no_choice_is_refused(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """By name, without the value; Jenkins itself would answer 500."""
    jenkins.choices["plan"] = ["small", "large"]
    with pytest.raises(PermanentError, match="leaves plan a choice of small, large") as refused:
        await start(builder, plan=VALUE)
    assert VALUE not in str(refused.value)
    assert posts(jenkins) == []
    await start(builder, plan="large")


@pytest.mark.parametrize(
    "job", ["tenants/gone", "nowhere", "", "tenants//basic", "tenants/../basic"]
)
async def test_a_job_that_is_not_there_is_refused(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, job: str
) -> None:
    """For good, naming it; a name that no job can have is one of those."""
    with pytest.raises(PermanentError, match=f"no Jenkins job '{job}'.*create it") as caught:
        await start(builder, job=job)
    assert caught.value.errors
    found = await builder.find_job(start_key="op-1", job_identifier=job, started_after=LONG_AGO)
    assert found is None
    job_id = f"{job}#1:op-1"
    with pytest.raises(SomeNotDescribed) as hiding:
        await builder.describe_jobs(job_ids=[job_id])
    assert (hiding.value.reports, hiding.value.failed) == ({}, frozenset())
    assert hiding.value.hidden == {job_id}


async def test_a_job_that_goes_while_it_is_started_is_refused(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """As one that never was."""
    jenkins.meanwhile("buildWithParameters", lambda: jenkins.remove_job(JOB))
    with pytest.raises(PermanentError, match="no Jenkins job"):
        await start(builder)


async def test_a_wrong_address_says_nothing_of_jobs(jenkins: JenkinsStandIn, safe: Safe) -> None:
    """Where no Jenkins answers, neither a job nor a build is missing for good."""
    async with open_builder(jenkins, safe, url=f"{jenkins.url}/typo") as builder:
        for action in (
            builder.check(),
            start(builder),
            builder.describe_jobs(job_ids=["tenants/basic#1:op-1"]),
            builder.find_job(start_key="op-1", job_identifier=JOB, started_after=LONG_AGO),
            builder.stop_job(job_id="tenants/basic#1:op-1"),
        ):
            with pytest.raises(TemporaryError, match="check its url"):
                await action


async def test_undefined_parameters_are_named_once(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """One warning has their names without values; they aren't sent, since Jenkins has its own
    use for some."""
    with capture_logs() as logs:
        await start(builder, A=VALUE, delay=VALUE, VPC=VALUE, TRACEPARENT="00-1", none=None)
    assert [(log["log_level"], log["parameters"]) for log in logs] == [
        ("warning", ["VPC", "delay"])
    ]
    assert VALUE not in str(logs)
    assert set(jenkins.requests[-1][2]) == {START_KEY, "A"}


async def test_a_traceparent_alone_is_no_news(builder: JenkinsBuilder) -> None:
    """Every job is offered one."""
    with capture_logs() as logs:
        await start(builder, TRACEPARENT="00-1")
    assert logs == []


async def test_a_start_key_in_the_queue_is_not_started_again(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """Not even with other parameters, which Jenkins wouldn't merge."""
    assert await start(builder, A="2") == await start(builder, A="1")
    assert posts(jenkins) == [BUILD_PATH]


@pytest.mark.parametrize("is_over", [False, True])
async def test_a_start_key_among_the_builds_is_not_started_again(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, is_over: bool
) -> None:
    """Neither while it runs nor afterwards, although the queue knows it no longer."""
    job = await start(builder)
    jenkins.run_queue()
    jenkins.forget_queue_items()
    if is_over:
        jenkins.finish(1, "FAILURE")
    again = await start(builder)
    assert again.id == job.id
    assert again.log_url == f"{ROOT}/job/tenants/job/basic/1/console"
    assert posts(jenkins) == [BUILD_PATH]


@pytest.mark.parametrize("step", ["queue/api/json", "basic/api/json"])
async def test_what_leaves_the_queue_during_a_start_is_seen(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, step: str
) -> None:
    """The queue is looked at before the builds, so that nothing slips through in between."""
    job = await start(builder)
    jenkins.meanwhile(step, jenkins.run_queue)
    assert (await start(builder)).id == job.id
    assert len(jenkins.items) == 1


async def test_equal_starts_that_wait_are_merged(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """Jenkins answers with the item that waits, should somebody be quicker than the look-up."""
    jenkins.meanwhile("buildWithParameters", lambda: jenkins.queue(JOB, {START_KEY: "op-1"}))
    job = await start(builder)
    assert (job.id, len(jenkins.items)) == ("tenants/basic#1:op-1", 1)


async def test_a_start_may_be_answered_with_its_build(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """303, and a build in place of a queue item: its id is that of its item all the same."""
    jenkins.answers_with_build = True
    job = await start(builder)
    assert job.id == f"{JOB}#1:op-1"
    report = await describe(builder, job)
    assert report is not None
    assert not report.is_over


@pytest.mark.parametrize("trouble", ["another's", "down", "gone"])
async def test_a_build_that_may_not_be_the_starts_is_looked_up(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, trouble: str
) -> None:
    """The start may have made a job all the same, so that nobody may make another one yet."""
    jenkins.answers_with_build = True

    def befall() -> None:
        if trouble == "another's":
            jenkins.items[1].parameters = {START_KEY: "op-9"}
        elif trouble == "gone":
            jenkins.forget(1)

    jenkins.meanwhile("/1/api/json", befall)
    if trouble == "down":
        jenkins.inject("/1/api/json", Fault.error("", http_status=500))
    with pytest.raises(TemporaryError) as raised:
        await start(builder)
    assert not raised.value.nothing_done


async def test_a_disabled_job_waits_to_be_enabled(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """It may be for a while, and nothing was started."""
    jenkins.disabled.add(JOB)
    with pytest.raises(TemporaryError, match=r"409.*disabled: enable it") as caught:
        await start(builder)
    assert caught.value.nothing_done
    jenkins.disabled.clear()
    assert await start(builder)


# Finding


async def test_a_start_whose_answer_was_lost_is_found(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """While it waits, while it runs, and when it is over."""
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
async def test_what_leaves_the_queue_meanwhile_is_found(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, step: str
) -> None:
    """The queue is asked first."""
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


# Describing


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
    """What our status doesn't tell is in the message, before the build's description."""
    job = await start(builder)
    jenkins.finish(1, result, description)
    report = await describe(builder, job)
    assert report is not None
    assert (report.status, report.message) == (status, message)
    assert report.start_key == "op-1"
    assert report.job.log_url == f"{ROOT}/job/tenants/job/basic/1/console"


async def test_unstable_may_be_success(jenkins: JenkinsStandIn, safe: Safe) -> None:
    """Where the configuration says so, and still no other result is."""
    async with open_builder(jenkins, safe, unstable_is_success=True) as builder:
        jobs = [await start(builder, f"op-{number}") for number in range(2)]
        jenkins.finish(1, "UNSTABLE")
        jenkins.finish(2, "NOT_BUILT")
        described = await builder.describe_jobs(job_ids=[job.id for job in jobs])
    assert [described[job.id].status for job in jobs] == ["SUCCEEDED", "FAILED"]


async def test_a_result_counts_once_the_build_is_over(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """A Pipeline may set it while it goes on; one that is over without any isn't, yet."""
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
    """Until the queue forgets that it was cancelled: then Jenkins knows it no longer."""
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
    """By the queue id that the build keeps."""
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
    """Wherever it is between the looks at builds, queue and item, and however long they take."""
    job = await start(builder)
    if step != "queue/api/json":
        # The list of what waits must not have it, or the item isn't asked for.
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
    """For as long as one of them may be there: neither what is on the first one nor what waits
    costs a second page."""
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


async def test_a_build_that_others_have_overtaken_is_found(
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


async def test_one_job_that_can_not_be_asked_about_hides_no_other(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """Its own builds are the ones that nothing is known of."""
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


async def test_a_queue_id_that_comes_again_is_another_job(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """A Jenkins that was killed may count from where it was: the start key tells them apart."""
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
    """Whichever is asked for first: the one that runs isn't taken for the one that is gone."""
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
    """Once the older one is over: as a queue item, which Naginator has wait, and as a build."""
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
    """Also while its queue item still says that it has become a build."""
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


# Stopping


@pytest.mark.parametrize("is_old", [False, True])
async def test_a_waiting_job_is_taken_out_of_the_queue(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, is_old: bool
) -> None:
    """Whichever way the version of Jenkins answers."""
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
    """Where the builder's url says, not where Jenkins believes to be; the redirect that answers
    it is no login page."""
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
    """Neither one that waits nor one that runs."""
    jenkins.is_old, jenkins.may_cancel = is_old, is_old
    job = await start(builder)
    jenkins.inject("queue/cancelItem", Fault.error("", http_status=302 if is_old else 422))
    with pytest.raises(TemporaryError, match="item 1 still waits: may the user cancel it"):
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
    """It looks like the redirect that answers a stop."""
    job = await start(builder)
    jenkins.run_queue()
    jenkins.meanwhile("1/stop", lambda: wants_login(jenkins))
    with pytest.raises(TemporaryError, match="a redirect to a login page"):
        await builder.stop_job(job_id=job.id)


async def test_what_is_no_job_of_ours_is_not_stopped(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """Nothing is posted for an id of another builder's, a job that is gone or a build that is
    over; one that went just now is no error."""
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


# Who asks


async def test_an_api_token_needs_no_crumb(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """None is asked for."""
    await builder.check()
    await start(builder)
    assert not any("crumb" in path for _, path, _ in jenkins.requests)


async def test_a_password_needs_a_crumb_and_its_session(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, safe: Safe
) -> None:
    """One is fetched for the first start and kept, also after sessions have expired."""
    safe.token = PASSWORD
    crumbs = "/crumbIssuer/api/json"
    await start(builder, "op-1")
    await start(builder, "op-2")
    assert [path for _, path, _ in jenkins.requests].count(crumbs) == 1
    assert posts(jenkins) == [BUILD_PATH] * 3
    jenkins.expire_sessions()
    await start(builder, "op-3")
    assert [path for _, path, _ in jenkins.requests].count(crumbs) == 2
    assert posts(jenkins) == [BUILD_PATH] * 5
    assert len(jenkins.items) == 3
    await builder.stop_job(job_id=f"{JOB}#1:op-1")
    assert jenkins.items[1].cancelled


async def test_crumbs_without_end_are_not_asked_for(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, safe: Safe
) -> None:
    """One repetition, then it is an error that says what to use instead."""
    safe.token = PASSWORD
    refusal = Fault.error("", "HTTP ERROR 403 No valid crumb was included", http_status=403)
    jenkins.inject("buildWithParameters", refusal, refusal)
    with pytest.raises(TemporaryError, match="use an API token") as caught:
        await start(builder)
    assert caught.value.nothing_done
    jenkins.inject("crumbIssuer/api/json", Fault.error("", http_status=404))
    jenkins.expire_sessions()
    with pytest.raises(TemporaryError, match="issues none: use an API token") as caught:
        await start(builder)
    assert caught.value.nothing_done


async def test_a_missing_permission_is_not_taken_for_a_missing_crumb(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """Jenkins' pages have breadcrumbs."""
    page = '<div id="breadcrumbs">orchestrator is missing the Job/Build permission</div>'
    jenkins.inject("buildWithParameters", Fault.error("", page, http_status=403))
    with pytest.raises(TemporaryError, match="403 Forbidden: the user may not") as caught:
        await start(builder)
    assert caught.value.nothing_done
    assert posts(jenkins) == [BUILD_PATH]


async def test_a_rotated_token_is_used(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, safe: Safe
) -> None:
    """From the next request on, without a restart."""
    await builder.check()
    jenkins.token = "a new token"
    with pytest.raises(TemporaryError, match="401 Unauthorized: user and token are refused"):
        await builder.check()
    safe.token = "a new token"
    await builder.check()
    await start(builder)


async def test_a_token_that_can_not_be_had_has_started_nothing(jenkins: JenkinsStandIn) -> None:
    """The error of whoever keeps it goes through, with that certainty."""

    async def out_of_order() -> str:
        raise TemporaryError("The safe is out of order.")

    async with open_jenkins(
        url=jenkins.url,
        user=USER,
        token=out_of_order,
        name="JENKINS",
        connect_timeout_s=5,
        timeout_s=5,
    ) as builder:
        with pytest.raises(TemporaryError, match="safe is out of order") as caught:
            await start(builder)
    assert caught.value.nothing_done


# What goes wrong

Trouble = Callable[[JenkinsStandIn], None]


def answers(path_end: str, status: int, text: str = "") -> Trouble:
    return lambda jenkins: jenkins.inject(path_end, Fault.error("", text, http_status=status))


def meets(path_end: str, *faults: Callable[[], Fault]) -> Trouble:
    return lambda jenkins: jenkins.inject(path_end, *(fault() for fault in faults))


def wants_login(jenkins: JenkinsStandIn) -> None:
    jenkins.wants_login = True


def wants_login_to_build(jenkins: JenkinsStandIn) -> None:
    jenkins.meanwhile("buildWithParameters", lambda: wants_login(jenkins))


TROUBLES: dict[str, tuple[Trouble, type[OrchestratorError], bool | None, str]] = {
    "queue down": (answers("queue/api/json", 500), TemporaryError, True, "500"),
    "job down": (answers("basic/api/json", 503), TemporaryError, True, "503 Service Unavailable"),
    "not JSON": (answers("basic/api/json", 200, "<html>"), TemporaryError, True, "check its url"),
    "not Jenkins": (answers("basic/api/json", 200, "[1]"), TemporaryError, True, "check its url"),
    "bad text": (answers("queue/api/json", 200, '{"items": 7}'), TemporaryError, True, "items"),
    "no queue": (answers("queue/api/json", 404), TemporaryError, True, "no queue"),
    "no access": (answers("basic/api/json", 403), NotPermitted, True, "permission"),
    "hung up": (
        meets("queue/api/json", Fault.reset, Fault.reset),
        TemporaryError,
        True,
        "disconnected",
    ),
    "login": (wants_login, NotPermitted, True, "a login page: check user and token"),
    "login to build": (wants_login_to_build, TemporaryError, False, "a login page"),
    "build refused": (answers("buildWithParameters", 400), PermanentError, None, "400 Bad Request"),
    "build denied": (answers("buildWithParameters", 403), TemporaryError, True, "403"),
    "build down": (answers("buildWithParameters", 500), TemporaryError, False, "500"),
    "build busy": (answers("buildWithParameters", 503), TemporaryError, False, "503"),
    "build moved": (answers("buildWithParameters", 302), TemporaryError, False, "nowhere"),
    "no place": (answers("buildWithParameters", 201), TemporaryError, False, "201"),
    "hung up on": (meets("buildWithParameters", Fault.reset), TemporaryError, False, "isconnected"),
    "too slow": (meets("buildWithParameters", Fault.slow), TemporaryError, False, "in time"),
}


@pytest.mark.parametrize("name", TROUBLES)
@pytest.mark.parametrize("secret", [TOKEN, PASSWORD], ids=["token", "password"])
async def test_trouble_says_what_it_is_and_no_secret(
    jenkins: JenkinsStandIn, safe: Safe, name: str, secret: str
) -> None:
    """Temporary unless Jenkins refuses the very start; `nothing_done` only where that's certain."""
    cause, kind, nothing_done, sentence = TROUBLES[name]
    safe.token = secret
    timeout_s = 0.2 if name == "too slow" else 10
    async with open_builder(jenkins, safe, timeout_s=timeout_s) as builder:
        cause(jenkins)
        with capture_logs() as logs, pytest.raises(kind, match=sentence) as caught:
            await start(builder, A=VALUE, undefined=VALUE)
    assert getattr(caught.value, "nothing_done", None) is nothing_done
    told = f"{caught.value!r} {caught.value.__cause__!r} {logs}"
    encoded = base64.b64encode(f"{USER}:{secret}".encode()).decode()
    for hidden in (secret, encoded, VALUE, "ticket", "crumb-"):
        assert hidden not in told


async def test_a_refused_connection_has_started_nothing(
    jenkins: JenkinsStandIn, safe: Safe
) -> None:
    """Nobody listens there, be it when the job is looked at or when it is to be built."""
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    async with open_builder(jenkins, safe, url=f"http://{HOST}:{port}") as builder:
        with pytest.raises(TemporaryError, match="Cannot connect") as caught:
            await start(builder)
        assert caught.value.nothing_done
    async with aiohttp.ClientSession() as http:
        client = JenkinsClient(http, url=f"http://{HOST}:{port}", user=USER, token=safe.open)
        with pytest.raises(TemporaryError, match="Cannot connect") as caught:
            await client.post("job/x/buildWithParameters")
        assert caught.value.nothing_done


@pytest.mark.parametrize("url", ["jenkins.example.com", "ftp://jenkins.example.com"])
async def test_an_address_that_is_none_is_named(
    jenkins: JenkinsStandIn, safe: Safe, url: str
) -> None:
    """Instead of a traceback."""
    async with open_builder(jenkins, safe, url=url) as builder:
        with pytest.raises(TemporaryError, match="no address of a web server"):
            await builder.check()


async def test_a_redirect_is_not_followed(jenkins: JenkinsStandIn, builder: JenkinsBuilder) -> None:
    """The credentials go nowhere else; where it leads to is said."""
    fault = Fault.error("", http_status=301)
    jenkins.inject("/api/json", fault)
    with pytest.raises(TemporaryError, match=r"a redirect to nowhere.*is the final one"):
        await builder.check()
    assert len(jenkins.requests) == 1


# TLS


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "jenkins")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address(HOST))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "jenkins.pem"
    file.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


async def test_a_certificate_that_is_not_trusted_is_refused(tmp_path: Path, safe: Safe) -> None:
    """Before anything is sent, saying how to mend it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate(tmp_path))
    async with (
        open_jenkins_stand_in(jobs={JOB: (START_KEY,)}, ssl_context=context) as jenkins,
        open_builder(jenkins, safe) as builder,
    ):
        for action in (builder.check(), start(builder)):
            with pytest.raises(TemporaryError, match="certificate isn't trusted: add") as caught:
                await action
            assert caught.value.nothing_done
        assert jenkins.requests == []
