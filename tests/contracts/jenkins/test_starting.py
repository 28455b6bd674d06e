"""A start is a queue item of a job in its folder; what Jenkins would not take is refused."""

import pytest
from structlog.testing import capture_logs

from orchestrator.adapters.jenkins.builder import JenkinsBuilder
from orchestrator.core.errors import PermanentError, TemporaryError
from orchestrator.core.jobs.job_description import SomeNotDescribed
from orchestrator.core.ledger.record_parts import Job
from orchestrator.embedded import Fault
from tests.contracts.jenkins.scene import (
    BUILD_PATH,
    JOB,
    LONG_AGO,
    VALUE,
    Safe,
    describe,
    open_builder,
    posts,
    start,
)
from tests.jenkins.stand_in import ROOT, START_KEY, JenkinsStandIn


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
    """A branch's name is encoded, too, in which Jenkins itself writes a slash as %2F."""
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
    """Its builds couldn't be distinguished; a folder has no parameters either."""
    jenkins.add_job("tenants/none")
    jenkins.add_job("tenants/others", "A")
    for job in ("tenants/none", "tenants/others", "tenants"):
        with pytest.raises(PermanentError, match=f"{job}.*{START_KEY}.*add it") as caught:
            await start(builder, job=job)
        assert [error.path for error in caught.value.errors] == ["$"]
    assert posts(jenkins) == []


async def test_a_start_key_that_jenkins_hides_is_refused(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """Jenkins never shows a password parameter's value, so the build could not be found again."""
    jenkins.passwords.add(START_KEY)
    with pytest.raises(PermanentError, match="as a string parameter, not a password"):
        await start(builder)
    assert posts(jenkins) == []


async def test_a_value_that_is_no_choice_is_refused(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """The refusal names it without the value; Jenkins itself would answer 500."""
    jenkins.choices["plan"] = ["small", "large"]
    with pytest.raises(
        PermanentError, match="allows plan only the choices small, large"
    ) as refused:
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
    """It is refused for good and named, also if it is a name that no job can have."""
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
    """A job that is removed during its start is refused as one that never was."""
    jenkins.meanwhile("buildWithParameters", lambda: jenkins.remove_job(JOB))
    with pytest.raises(PermanentError, match="no Jenkins job"):
        await start(builder)


async def test_a_wrong_address_is_no_missing_job(jenkins: JenkinsStandIn, safe: Safe) -> None:
    """If no Jenkins answers, neither a job nor a build is missing for good."""
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
    """A job that doesn't define TRACEPARENT causes no warning, since every job is offered one."""
    with capture_logs() as logs:
        await start(builder, TRACEPARENT="00-1")
    assert logs == []


async def test_a_start_key_in_the_queue_is_not_started_again(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """It isn't, even with other parameters, which Jenkins wouldn't merge."""
    assert await start(builder, A="2") == await start(builder, A="1")
    assert posts(jenkins) == [BUILD_PATH]


@pytest.mark.parametrize("is_over", [False, True])
async def test_a_start_key_among_the_builds_is_not_started_again(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, is_over: bool
) -> None:
    """It isn't, neither while it runs nor afterwards, although the queue has forgotten it."""
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
async def test_a_build_that_leaves_the_queue_during_a_start_is_seen(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder, step: str
) -> None:
    """The queue is read before the builds, so that none is missed in between."""
    job = await start(builder)
    jenkins.meanwhile(step, jenkins.run_queue)
    assert (await start(builder)).id == job.id
    assert len(jenkins.items) == 1


async def test_equal_starts_that_wait_are_merged(
    jenkins: JenkinsStandIn, builder: JenkinsBuilder
) -> None:
    """Jenkins answers with the item that waits, if another start was quicker than the look-up."""
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
    """The start may have made a job all the same, so that no other one may be started yet."""
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
    """A start of a disabled job is retried later, and nothing was started."""
    jenkins.disabled.add(JOB)
    with pytest.raises(TemporaryError, match=r"409.*disabled: enable it") as caught:
        await start(builder)
    assert caught.value.nothing_done
    jenkins.disabled.clear()
    assert await start(builder)
