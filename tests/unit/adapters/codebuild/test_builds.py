"""CodeBuild's answer and its event describe a build alike, and without anything secret."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.codebuild.builds import describe_build, read_build
from orchestrator.adapters.notifications import BUILT_IN_NOTIFICATIONS
from orchestrator.core.jobs.job_description import JobDescription, JobStatus
from orchestrator.core.ledger.record_parts import Job
from orchestrator.embedded import Build

SAMPLES = Path(__file__).parents[3] / "samples"


def sample() -> dict[str, Any]:
    event: dict[str, Any] = json.loads((SAMPLES / "codebuild_build_state_change.json").read_text())
    return event


def build(status: str = "FAILED", **changes: Any) -> Build:
    given = {"ORCHESTRATOR_PROJECT": "standard-tenant", "ORCHESTRATOR_RUN_ID": "op-1"}
    overrides = [{"name": n, "value": v, "type": "PLAINTEXT"} for n, v in given.items()]
    made = Build(
        id="standard-tenant:1",
        project="standard-tenant",
        number=1,
        place=1,
        parameters={"environmentVariablesOverride": overrides},
        started=1.0,
    )
    made.status = status  # type: ignore[assignment]
    made.ended = None if status == "IN_PROGRESS" else 2.0
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_the_sample_is_read() -> None:
    """The build's id is the one that StartBuild gave, not the ARN."""
    description = BUILT_IN_NOTIFICATIONS.read_state_change(sample()["detail"])
    assert description == JobDescription(
        job=Job(
            id="premium-tenant:5d2c9f60-7b31-4e8a-a1d4-93f0c6b7e812",
            builder="CODE_BUILD",
            job_identifier="premium-tenant",
            log_url=sample()["detail"]["additional-information"]["logs"]["deep-link"],
        ),
        status=JobStatus.FAILED,
        start_key="start-7",
        phase="BUILD",
        message="terraform apply. Reason: exit status 1",
        exported={"APP_PLANE_URL": "https://harbour.example/start"},
    )


@pytest.mark.parametrize("status", list(JobStatus))
def test_an_answer_and_an_event_describe_a_build_alike(status: JobStatus) -> None:
    """The API's answer and the state change of a build are read as the same description."""
    made = build(status.value, reason="exit status 1", exported={"URL": "https://a.example"})
    description = BUILT_IN_NOTIFICATIONS.read_state_change(made.as_state_change())
    assert description == describe_build(made.as_document())
    assert description is not None
    assert (description.status, description.start_key) == (status, "op-1")
    assert description.exported == {"URL": "https://a.example"}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("SUCCEEDED", None),
        ("IN_PROGRESS", None),
        ("FAILED", "The job standard-tenant:1 failed in BUILD: exit status 1."),
        ("FAULT", "The job standard-tenant:1 broke down in BUILD: exit status 1."),
        ("TIMED_OUT", "The job standard-tenant:1 timed out in BUILD: exit status 1."),
        ("STOPPED", "The job standard-tenant:1 was stopped in BUILD: exit status 1."),
    ],
)
def test_the_reason_is_a_sentence(status: str, reason: str | None) -> None:
    """It names the job, what became of it, the phase, and what CodeBuild says of that."""
    description = describe_build(build(status, reason="exit status 1").as_document())
    assert description.reason == reason


@pytest.mark.parametrize("named", [None, "another", "standard-tenan"])
def test_a_start_key_is_a_builds_own_where_it_names_its_project(named: str | None) -> None:
    """Another build may have passed it on."""
    made = build()
    made.overrides[0]["value"] = str(named)
    if named is None:
        del made.overrides[0]
    description = BUILT_IN_NOTIFICATIONS.read_state_change(made.as_state_change())
    assert description is not None
    assert description.start_key is describe_build(made.as_document()).start_key is None


def test_a_reason_needs_neither_phase_nor_message() -> None:
    """A build that ends without a phase and a message has a reason nevertheless."""
    document = {**build("STOPPED").as_document(), "phases": []}
    assert describe_build(document).reason == "The job standard-tenant:1 was stopped."


@pytest.mark.parametrize(
    ("contexts", "message"),
    [
        (["COMMAND_EXECUTION_ERROR: Error while executing: a. Reason: exit 1"], "Error while"),
        ([": ", "YAML_FILE_ERROR: no such file"], "no such file"),
        ([": "], None),
        ([], None),
        (None, None),
        (["Build has timed out"], "Build has timed out"),
        ([{"odd": 1}, 7, "CODE: words"], "words"),
    ],
)
def test_a_phases_context_is_text(contexts: Any, message: str | None) -> None:
    """A phase's context has a code and a message; an empty one is a colon."""
    detail = build().as_state_change()
    detail["additional-information"]["phases"] = [
        {"phase-type": "BUILD", "phase-status": "FAILED", "phase-context": contexts}
    ]
    description = BUILT_IN_NOTIFICATIONS.read_state_change(detail)
    assert description is not None
    assert (description.message or "")[: len(message or "")] == (message or "")
    assert (description.message is None) == (message is None)


@pytest.mark.parametrize(
    "changes",
    [
        {"build-id": None},
        {"build-id": ""},
        {"build-id": 7},
        {"build-status": None},
        {"build-status": "ODD"},
        {"build-status": []},
    ],
)
def test_a_detail_that_names_no_build_is_none(changes: dict[str, Any]) -> None:
    """A message that names no build is ignored, and is no error."""
    assert (
        BUILT_IN_NOTIFICATIONS.read_state_change({**build().as_state_change(), **changes}) is None
    )


@pytest.mark.parametrize("odd", [None, "text", 7, [], [None, "a", 1], {"a": 1}])
@pytest.mark.parametrize(
    "field", ["environment", "exported-environment-variables", "logs", "phases", "all"]
)
def test_odd_details_are_read_past(field: str, odd: Any) -> None:
    """A build and its status are read, whatever the other fields have."""
    detail = build("SUCCEEDED").as_state_change()
    if field == "all":
        detail["additional-information"] = odd
    else:
        detail["additional-information"][field] = odd
    description = BUILT_IN_NOTIFICATIONS.read_state_change(detail)
    assert description is not None
    assert description.succeeded


def test_a_state_change_is_passed_on_without_its_environment() -> None:
    """The environment is removed in an envelope or without one."""
    for value in (sample(), sample()["detail"]):
        shown = json.dumps(BUILT_IN_NOTIFICATIONS.without_inputs(value))
        assert "start-7" not in shown
        assert "APP_PLANE_URL" in shown


WEB = "https://console.aws.amazon.com/cloudwatch/home?region=us-east-1#logEvent:"
NULL = f"{WEB}group=null;stream=null"
S3 = "https://s3.console.aws.amazon.com/s3/object/bucket/log.gz?region=us-east-1"
PAGE = (
    "https://us-east-1.console.aws.amazon.com/codesuite/codebuild/123456789012/projects/basic"
    "/build/basic%3A1-2/log?region=us-east-1"
)
ARN = "arn:aws:codebuild:us-east-1:123456789012:build/basic:1-2"


@pytest.mark.parametrize(
    ("logs", "link"),
    [
        ({"deepLink": f"{WEB}group=g;stream=s", "s3DeepLink": S3}, f"{WEB}group=g;stream=s"),
        ({"deepLink": NULL, "s3DeepLink": S3}, S3),
        ({"deepLink": NULL}, PAGE),
        ({"deepLink": f"{WEB}group=g;stream=null"}, PAGE),
        ({"deepLink": f"{WEB}group=null;stream=s"}, PAGE),
        ({"deepLink": f"{WEB}group=nullable;stream=s"}, f"{WEB}group=nullable;stream=s"),
        ({"deepLink": f"{WEB}group=/a/b;stream=null-1"}, f"{WEB}group=/a/b;stream=null-1"),
        ({"s3DeepLink": S3}, S3),
        ({"deepLink": "javascript:alert(1)", "s3DeepLink": S3}, S3),
        ({"deepLink": "ftp://a.example/1"}, PAGE),
        ({"deepLink": 7}, PAGE),
        ({}, PAGE),
    ],
)
def test_a_link_leads_to_a_log(logs: dict[str, Any], link: str | None) -> None:
    """CodeBuild names a group `null` as long as there is none; S3's log counts then, else the
    console's page of the build, which there is from its start."""
    document = {**build().as_document(), "arn": ARN, "logs": logs}
    assert describe_build(document).job.log_url == link
    detail = {**build().as_state_change(), "build-id": ARN}
    detail["additional-information"]["logs"] = {"deep-link": logs.get("deepLink")}
    description = BUILT_IN_NOTIFICATIONS.read_state_change(detail)
    assert description is not None
    assert description.job.log_url == (PAGE if link == S3 else link)


@pytest.mark.parametrize(
    "arn",
    [
        None,
        "basic:1-2",
        ARN.replace("arn:aws:", "arn:aws-cn:"),
        ARN.replace("basic", "../basic"),
        f"{ARN}?x=1",
    ],
)
def test_a_page_is_linked_only_by_a_builds_own_arn(arn: str | None) -> None:
    """Other partitions have consoles at other places, and what a message says is no link."""
    document = {**build().as_document(), "arn": arn, "logs": {}}
    assert describe_build(document).job.log_url is None
    detail = {**build().as_state_change(), "build-id": arn or "basic:1-2"}
    detail["additional-information"]["logs"] = {}
    description = BUILT_IN_NOTIFICATIONS.read_state_change(detail)
    assert description is not None
    assert description.job.log_url is None


@pytest.mark.parametrize(
    ("event_type", "expected"),
    [
        ("CodeBuild Build Phase Change", True),
        ("CodeBuild Fleet State Change", True),
        ("Step Functions Execution Status Change", True),
        ("CodeBuild", False),
        ("My CodeBuild Build Phase Change", False),
        ("CodeBuild Build Phase Changed", False),
        ("EC2 Instance State-change Notification", False),
    ],
)
def test_changes_of_awss_builders_are_known_by_their_names(event_type: str, expected: bool) -> None:
    """All that begin and end as those do that AWS lists."""
    assert BUILT_IN_NOTIFICATIONS.sends(event_type) is expected


def test_a_message_has_its_limits() -> None:
    """A message is cut so that an item of the ledger holds it, whatever the build printed."""
    description = describe_build(build(reason="x" * 300_000).as_document())
    assert description.message is not None
    assert len(description.message) == 2001


def test_a_variable_without_a_name_is_passed_over() -> None:
    """Any sender may send what looks like a state change; it must be readable, or none."""
    variables = [{"name": {"a": 1}, "value": "x"}, {"value": "y"}, {"name": "A", "value": [1]}]
    about = {"environment": {"environment-variables": variables}}
    detail = {"build-id": "p:1", "build-status": "FAILED", "additional-information": about}
    description = read_build(detail)
    assert description is not None
    assert (description.job.id, description.start_key) == ("p:1", None)
