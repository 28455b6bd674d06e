"""The embedded CodeBuild, seen through the real aioboto3 clients that the service uses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import attrs
import pytest
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError

from orchestrator.embedded import CodeBuildStandIn, Fault, open_codebuild
from tests.aws import aws_session
from tests.integration.embedded import PROJECT, start

NO_RETRIES = AioConfig(retries={"total_max_attempts": 1})


@attrs.define
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def stand_in(clock: Clock) -> AsyncIterator[CodeBuildStandIn]:
    async with open_codebuild(clock=clock, page_size=2) as stand_in:
        stand_in.add_project(PROJECT)
        yield stand_in


@pytest.fixture
async def codebuild(stand_in: CodeBuildStandIn) -> AsyncIterator[Any]:
    session = aws_session()
    async with session.client(
        "codebuild", endpoint_url=stand_in.url, config=NO_RETRIES
    ) as codebuild:
        yield codebuild


async def describe(codebuild: Any, build_id: str) -> dict[str, Any]:
    answer = await codebuild.batch_get_builds(ids=[build_id])
    build: dict[str, Any] = answer["builds"][0]
    return build


def variables(**values: str) -> list[dict[str, str]]:
    return [{"name": name, "value": value, "type": "PLAINTEXT"} for name, value in values.items()]


# StartBuild


async def test_start_build_records_what_it_was_given(
    stand_in: CodeBuildStandIn, codebuild: Any
) -> None:
    """The overrides are in the build's description, and every parameter is recorded for the
    test."""
    overrides = [
        *variables(ORCHESTRATOR_RUN_ID="run-1"),
        {"name": "secret", "value": "arn:of:it", "type": "SECRETS_MANAGER"},
    ]
    parameters = {
        "projectName": PROJECT,
        "environmentVariablesOverride": overrides,
        "idempotencyToken": "run-1",
        "timeoutInMinutesOverride": 15,
    }
    answer = (await codebuild.start_build(**parameters))["build"]
    assert answer["environment"]["environmentVariables"] == overrides
    assert stand_in.builds[answer["id"]].parameters == parameters
    assert stand_in.builds[answer["id"]].overrides == overrides
    assert stand_in.calls == [("StartBuild", parameters)]


async def test_a_started_build_looks_like_codebuilds(
    clock: Clock, stand_in: CodeBuildStandIn, codebuild: Any
) -> None:
    """A running build has CodeBuild's kind of id, ARN, number, start, phase and log link."""
    build = (await codebuild.start_build(projectName=PROJECT))["build"]
    project, _, uuid = build["id"].partition(":")
    assert (project, len(uuid)) == (PROJECT, 36)
    assert build["arn"] == f"arn:aws:codebuild:us-east-1:123456789012:build/{build['id']}"
    assert build["arn"] == stand_in.builds[build["id"]].arn
    assert build["startTime"].timestamp() == clock.now
    assert (build["buildNumber"], build["projectName"]) == (1, PROJECT)
    assert (build["buildStatus"], build["buildComplete"]) == ("IN_PROGRESS", False)
    assert build["currentPhase"] == build["phases"][-1]["phaseType"] == "BUILD"
    assert "endTime" not in build
    assert build["environment"]["environmentVariables"] == []
    assert build["exportedEnvironmentVariables"] == []
    assert build["initiator"] == "orchestrator"
    console = "https://console.aws.amazon.com/cloudwatch/home?region=us-east-1"
    logs = {
        "groupName": f"/aws/codebuild/{PROJECT}",
        "streamName": uuid,
        "deepLink": f"{console}#logEvent:group=/aws/codebuild/{PROJECT};stream={uuid}",
    }
    # There is no log group yet.
    assert build["logs"] == {"deepLink": f"{console}#logEvent:group=null;stream=null"}
    assert await describe(codebuild, build["id"]) == {**build, "logs": logs}


async def test_a_project_may_have_its_logs_in_s3_alone(
    stand_in: CodeBuildStandIn, codebuild: Any
) -> None:
    """The builds of a project that logs to S3 alone have a link to CloudWatch that leads to no
    log."""
    stand_in.add_project("quiet", logs_in_s3=True)
    build = (await codebuild.start_build(projectName="quiet"))["build"]
    logs = (await describe(codebuild, build["id"]))["logs"]
    assert logs["deepLink"].endswith("#logEvent:group=null;stream=null")
    assert logs["s3DeepLink"].startswith("https://s3.console.aws.amazon.com/s3/object/")
    assert build["id"].partition(":")[2] in logs["s3DeepLink"]
    assert set(logs) == {"deepLink", "s3DeepLink", "s3LogsArn"}


async def test_an_unknown_project_is_refused(stand_in: CodeBuildStandIn, codebuild: Any) -> None:
    """Starting and listing builds of a project that is not there fail as they do in AWS."""
    message = "Project cannot be found: arn:aws:codebuild:us-east-1:123456789012:project/nowhere"
    for call in codebuild.start_build, codebuild.list_builds_for_project:
        with pytest.raises(codebuild.exceptions.ResourceNotFoundException, match=message):
            await call(projectName="nowhere")
    assert not stand_in.builds


async def test_a_repeated_token_finds_the_build(
    clock: Clock, stand_in: CodeBuildStandIn, codebuild: Any
) -> None:
    """The same token with the same parameters starts one build for five minutes."""
    first = await start(codebuild, idempotencyToken="run-1")
    clock.now += 300
    assert await start(codebuild, idempotencyToken="run-1") == first
    assert await start(codebuild, idempotencyToken="run-2") != first
    assert len(stand_in.builds) == 2


async def test_builds_without_a_token_are_never_the_same(
    stand_in: CodeBuildStandIn, codebuild: Any
) -> None:
    """Without a token each request starts a build with a number of its own."""
    ids = [await start(codebuild) for _ in range(2)]
    assert list(stand_in.builds) == ids
    assert [build.number for build in stand_in.builds.values()] == [1, 2]


async def test_a_token_is_forgotten_after_five_minutes(clock: Clock, codebuild: Any) -> None:
    """An old token starts a new build, and is then good for five minutes more."""
    first = await start(codebuild, idempotencyToken="run-1")
    clock.now += 300.5
    second = await start(codebuild, idempotencyToken="run-1")
    clock.now += 300
    assert second != first
    assert await start(codebuild, idempotencyToken="run-1") == second


@pytest.mark.parametrize(
    "change",
    [
        {"environmentVariablesOverride": variables(a="2")},
        {"environmentVariablesOverride": variables(a="1"), "timeoutInMinutesOverride": 15},
        {"environmentVariablesOverride": variables(a="1"), "projectName": "other"},
        {},
    ],
)
async def test_a_token_with_changed_parameters_is_refused(
    change: dict[str, Any], stand_in: CodeBuildStandIn, codebuild: Any
) -> None:
    """A token with other parameters than before is refused as a mismatch, and starts nothing."""
    stand_in.add_project("other")
    await start(codebuild, environmentVariablesOverride=variables(a="1"), idempotencyToken="run-1")
    with pytest.raises(codebuild.exceptions.InvalidInputException, match="mismatch"):
        await codebuild.start_build(
            **{"projectName": PROJECT, "idempotencyToken": "run-1"} | change
        )
    assert len(stand_in.builds) == 1


# How builds end


async def test_a_build_succeeds(clock: Clock, stand_in: CodeBuildStandIn, codebuild: Any) -> None:
    """A finished build has an end, its exported variables, and phases that all went well."""
    build_id = await start(codebuild)
    clock.now += 90
    stand_in.finish(build_id, exported={"APP_PLANE_URL": "https://bluebird.example/app"})
    build = await describe(codebuild, build_id)
    assert (build["buildStatus"], build["buildComplete"]) == ("SUCCEEDED", True)
    assert build["currentPhase"] == build["phases"][-1]["phaseType"] == "COMPLETED"
    assert (build["endTime"] - build["startTime"]).total_seconds() == 90
    assert build["exportedEnvironmentVariables"] == [
        {"name": "APP_PLANE_URL", "value": "https://bluebird.example/app"}
    ]
    done = build["phases"][:-1]
    assert [phase["phaseType"] for phase in done] == ["SUBMITTED", "BUILD", "FINALIZING"]
    assert [phase["phaseStatus"] for phase in done] == ["SUCCEEDED"] * 3
    assert [phase["durationInSeconds"] for phase in done] == [0, 90, 0]
    assert all(phase["contexts"] == [{"statusCode": "", "message": ""}] for phase in done)


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        ("FAILED", None, "Error while executing command. Reason: exit status 1"),
        ("FAILED", "terraform: no such VPC", "terraform: no such VPC"),
        ("FAULT", None, "Internal Service Error: the build host was lost"),
        ("TIMED_OUT", None, "Build has timed out."),
        ("STOPPED", None, ""),
        ("STOPPED", "operator", "operator"),
    ],
)
async def test_a_build_goes_wrong(
    status: Any, reason: str | None, message: str, stand_in: CodeBuildStandIn, codebuild: Any
) -> None:
    """A build that did not succeed names the phase it ended in, and the reason."""
    build_id = await start(codebuild)
    stand_in.finish(build_id, status, reason=reason)
    build = await describe(codebuild, build_id)
    assert (build["buildStatus"], build["currentPhase"]) == (status, "COMPLETED")
    [ended_in] = [phase for phase in build["phases"] if phase.get("phaseStatus") == status]
    assert ended_in["phaseType"] == "BUILD"
    assert ended_in["contexts"][0]["message"] == message


async def test_stop_build_stops_a_running_build(stand_in: CodeBuildStandIn, codebuild: Any) -> None:
    """StopBuild ends a running build as STOPPED and leaves a finished one as it is."""
    running, done = await start(codebuild), await start(codebuild)
    stand_in.finish(done)
    assert (await codebuild.stop_build(id=running))["build"]["buildStatus"] == "STOPPED"
    assert (await codebuild.stop_build(id=done))["build"]["buildStatus"] == "SUCCEEDED"
    assert (await describe(codebuild, running))["buildComplete"]


async def test_stop_build_does_not_know_every_build(codebuild: Any) -> None:
    """Stopping a build that is not there is refused."""
    with pytest.raises(codebuild.exceptions.ResourceNotFoundException, match="does not exist"):
        await codebuild.stop_build(id=f"{PROJECT}:gone")


# Looking up builds and projects


async def test_deleted_builds_are_not_found(stand_in: CodeBuildStandIn, codebuild: Any) -> None:
    """A deleted build is named among those not found and left out of the listing."""
    kept, deleted = await start(codebuild), await start(codebuild)
    stand_in.remove_build(deleted)
    answer = await codebuild.batch_get_builds(ids=[deleted, kept])
    assert [build["id"] for build in answer["builds"]] == [kept]
    assert answer["buildsNotFound"] == [deleted]
    assert (await codebuild.list_builds_for_project(projectName=PROJECT))["ids"] == [kept]


async def test_projects_are_looked_up(codebuild: Any) -> None:
    """BatchGetProjects separates the projects that exist from those that do not."""
    answer = await codebuild.batch_get_projects(names=[PROJECT, "nowhere"])
    assert [project["name"] for project in answer["projects"]] == [PROJECT]
    assert answer["projectsNotFound"] == ["nowhere"]


async def test_a_batch_has_a_limit(codebuild: Any) -> None:
    """A hundred ids are looked up in one call, and not one more."""
    ids = [f"{PROJECT}:{n}" for n in range(101)]
    assert len((await codebuild.batch_get_builds(ids=ids[:100]))["buildsNotFound"]) == 100
    with pytest.raises(codebuild.exceptions.InvalidInputException):
        await codebuild.batch_get_builds(ids=ids)


async def test_listings_are_paged_newest_first(stand_in: CodeBuildStandIn, codebuild: Any) -> None:
    """A project's own builds are listed newest first, or oldest first on request, page by page."""
    stand_in.add_project("other")
    await codebuild.start_build(projectName="other")
    ids = [await start(codebuild) for _ in range(5)]
    paginator = codebuild.get_paginator("list_builds_for_project")
    for order, expected in ({}, ids[::-1]), ({"sortOrder": "ASCENDING"}, ids):
        pages = [page["ids"] async for page in paginator.paginate(projectName=PROJECT, **order)]
        assert pages == [expected[:2], expected[2:4], expected[4:]]


async def test_pages_stay_put_while_builds_come_and_go(
    stand_in: CodeBuildStandIn, codebuild: Any
) -> None:
    """The next page continues where the last one ended, whatever was started or deleted since."""
    ids = [await start(codebuild) for _ in range(5)]
    first = await codebuild.list_builds_for_project(projectName=PROJECT)
    await start(codebuild)
    stand_in.remove_build(ids[2])
    second = await codebuild.list_builds_for_project(
        projectName=PROJECT, nextToken=first["nextToken"]
    )
    assert second["ids"] == [ids[1], ids[0]]
    assert "nextToken" not in second


async def test_a_listing_lags(stand_in: CodeBuildStandIn, codebuild: Any) -> None:
    """A lagging listing hides the newest builds, which can still be looked up by id."""
    ids = [await start(codebuild) for _ in range(2)]
    for lag, listed in (1, ids[:1]), (3, []), (0, ids[::-1]):
        stand_in.listing_lag = lag
        answer = await codebuild.list_builds_for_project(projectName=PROJECT)
        assert answer["ids"] == listed
        assert (await describe(codebuild, ids[1]))["id"] == ids[1]


async def test_a_busy_project_cannot_be_sorted(codebuild: Any) -> None:
    """With more than a hundred builds only the default order can be listed."""
    for _ in range(100):
        await start(codebuild)
    await codebuild.list_builds_for_project(projectName=PROJECT, sortOrder="DESCENDING")
    await start(codebuild)
    with pytest.raises(codebuild.exceptions.InvalidInputException, match="sortOrder"):
        await codebuild.list_builds_for_project(projectName=PROJECT, sortOrder="DESCENDING")
    assert (await codebuild.list_builds_for_project(projectName=PROJECT))["nextToken"]


async def test_other_actions_are_unknown(stand_in: CodeBuildStandIn, codebuild: Any) -> None:
    """An action that the stand-in does not have is refused and recorded."""
    with pytest.raises(ClientError) as refused:
        await codebuild.list_projects()
    assert refused.value.response["Error"]["Code"] == "UnknownOperationException"
    assert stand_in.calls == [("ListProjects", {})]


async def test_errors_speak_aws_json(stand_in: CodeBuildStandIn) -> None:
    """On the wire an error is a 400 in AWS's JSON 1.1, without a charset."""
    headers = {"X-Amz-Target": "CodeBuild_20161006.StopBuild"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(stand_in.url, headers=headers, json={"id": "gone"}) as response,
    ):
        assert response.status == 400
        assert response.headers["Content-Type"] == "application/x-amz-json-1.1"
        assert await response.json(content_type=None) == {
            "__type": "ResourceNotFoundException",
            "message": "Build gone does not exist",
        }


# Faults


@pytest.mark.parametrize(
    ("code", "http_status"),
    [
        ("ThrottlingException", 400),
        ("AccountLimitExceededException", 400),
        ("AccessDeniedException", 400),
        ("InternalFailure", 500),
    ],
)
async def test_an_injected_error_is_answered(
    code: str, http_status: int, stand_in: CodeBuildStandIn, codebuild: Any
) -> None:
    """An injected error is the answer to one request, which starts nothing but is recorded."""
    stand_in.inject("StartBuild", Fault.error(code, "not today", http_status=http_status))
    with pytest.raises(ClientError, match="not today") as refused:
        await start(codebuild)
    assert refused.value.response["Error"]["Code"] == code
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == http_status
    assert (len(stand_in.builds), len(stand_in.calls)) == (0, 1)
    await start(codebuild)


async def test_faults_are_used_up_in_turn_by_their_action(
    stand_in: CodeBuildStandIn, codebuild: Any
) -> None:
    """Each action has its own faults, and each of its requests takes the next one."""
    stand_in.inject("StartBuild", Fault.error("AccessDeniedException"), Fault.reset())
    await codebuild.batch_get_projects(names=[PROJECT])
    with pytest.raises(ClientError):
        await start(codebuild)
    with pytest.raises(ConnectionClosedError):
        await start(codebuild)
    await start(codebuild)


async def test_a_reset_does_nothing(stand_in: CodeBuildStandIn, codebuild: Any) -> None:
    """A reset connection has no answer and did no work."""
    stand_in.inject("StartBuild", Fault.reset())
    with pytest.raises(ConnectionClosedError):
        await start(codebuild)
    assert (len(stand_in.builds), len(stand_in.calls)) == (0, 1)


async def test_a_lost_answer_did_the_work(
    stand_in: CodeBuildStandIn, codebuild: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A lost answer leaves its build behind, to be found again by token."""
    stand_in.inject("StartBuild", Fault.answer_lost())
    with pytest.raises(ConnectionClosedError):
        await start(codebuild, idempotencyToken="run-1")
    [build_id] = stand_in.builds
    assert await start(codebuild, idempotencyToken="run-1") == build_id
    assert not caplog.records


async def test_a_slow_answer_waits_to_be_released(
    stand_in: CodeBuildStandIn, codebuild: Any
) -> None:
    """A slow request has done its work when it is reached, and is answered when released."""
    slow = Fault.slow()
    stand_in.inject("StartBuild", slow)
    starting = asyncio.create_task(start(codebuild))
    await slow.reached.wait()
    [build_id] = stand_in.builds
    assert (await describe(codebuild, build_id))["buildStatus"] == "IN_PROGRESS"
    assert not starting.done()
    slow.release.set()
    assert await starting == build_id


async def test_a_client_may_give_up_on_a_slow_answer(
    stand_in: CodeBuildStandIn, codebuild: Any
) -> None:
    """A client that disconnects doesn't affect the next one, which is served."""
    slow = Fault.slow()
    stand_in.inject("StartBuild", slow)
    starting = asyncio.create_task(start(codebuild))
    await slow.reached.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await start(codebuild)
    assert len(stand_in.builds) == 2


async def test_closing_does_not_wait_for_slow_answers(clients: AsyncExitStack) -> None:
    """The end of the server releases an answer that the test has not released."""
    slow = Fault.slow()
    session = aws_session()
    async with asyncio.timeout(5):
        async with open_codebuild() as stand_in:
            stand_in.inject("BatchGetProjects", slow)
            codebuild = await clients.enter_async_context(
                session.client("codebuild", endpoint_url=stand_in.url, config=NO_RETRIES)
            )
            asking = asyncio.create_task(codebuild.batch_get_projects(names=[PROJECT]))
            await slow.reached.wait()
        assert (await asking)["projectsNotFound"] == [PROJECT]
    with pytest.raises(BotoCoreError):
        await codebuild.batch_get_projects(names=[PROJECT])
