"""What an event costs: the requests to AWS, counted (docs/architecture.md has the budget)."""

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings
from orchestrator.embedded import Fault
from orchestrator.intake.app_keys import TRANSACTIONS
from orchestrator.testing import envelope
from tests.acceptance.answers import read_success
from tests.acceptance.stories import FULL, PROVISION, TENANT, is_replay, send, state_of
from tests.conftest import Client, StartService
from tests.faulty_aws import TIERS, FaultyAWS

CLAIM = SETTLE = RECORD = NOTE = LOOK = "TransactWriteItems"
READ = "BatchGetItem"


@pytest.fixture
async def service(start_service: StartService, in_dynamodb: Settings, aws: FaultyAWS) -> Client:
    """The service, which has the tier in its cache after an earlier event."""
    service = await start_service(in_dynamodb)
    await read_success(await send(service, PROVISION, "earlier", tenant_id="t-0"))
    assert aws.calls == [CLAIM, f"Query {TIERS}", "StartBuild", SETTLE]
    aws.calls.clear()
    return service


async def test_a_fresh_provisioning_costs_three(service: Client, aws: FaultyAWS) -> None:
    """The requests are claim, StartBuild and settle."""
    await read_success(await send(service, PROVISION, "request"))
    assert aws.calls == [CLAIM, "StartBuild", SETTLE]


async def test_a_registration_costs_nothing_more(service: Client, aws: FaultyAWS) -> None:
    """A registration is written with the claim; a result that names it alone costs one more
    read."""
    about = {"tenantRegistrationId": "r-1"}
    await read_success(await send(service, PROVISION, "request", tenantRegistrationId="r-1"))
    assert aws.calls == [CLAIM, "StartBuild", SETTLE]
    known = await service.app[TRANSACTIONS].find_registration("r-1")
    assert known is not None
    assert known.tenant_id == TENANT
    aws.calls.clear()
    report = envelope(f"{PROVISION}_SUCCESS", about, event_id="result")
    await read_success(await service.post("/events", json=report))
    assert aws.calls == [*[READ] * 3, NOTE, READ, LOOK, "BatchGetBuilds"]


async def test_a_duplicate_by_key_costs_one(service: Client, aws: FaultyAWS) -> None:
    """The refused claim returns the run that the event is a duplicate of."""
    await read_success(await send(service, PROVISION, "request"))
    for _ in range(3):
        aws.calls.clear()
        assert is_replay(await send(service, PROVISION, "request"))
        assert aws.calls == [CLAIM]


async def test_a_business_duplicate_costs_two(service: Client, aws: FaultyAWS) -> None:
    """The same request under another event id costs a claim that is refused, and one that joins."""
    await read_success(await send(service, PROVISION, "request", context="key-1"))
    aws.calls.clear()
    assert is_replay(await send(service, PROVISION, "other", context="key-1"))
    assert aws.calls == [CLAIM, CLAIM]


def steps_then(count: int, starts_job: bool) -> Callable[[Any, Run], Any]:
    async def result() -> int:
        return 1

    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        for number in range(count):
            await run.step(f"step-{number}", result)
        if starts_job:
            await run.start_job(FULL["jobIdentifier"], {})

    return handle


@pytest.mark.parametrize(
    ("steps", "starts_job", "calls"),
    [
        (0, False, [CLAIM, SETTLE]),
        (1, False, [CLAIM, SETTLE]),
        (2, False, [CLAIM, RECORD, SETTLE]),
        (5, False, [CLAIM, *[RECORD] * 4, SETTLE]),
        (0, True, [CLAIM, "StartBuild", SETTLE]),
        (1, True, [CLAIM, RECORD, "StartBuild", SETTLE]),
        (3, True, [CLAIM, *[RECORD] * 3, "StartBuild", SETTLE]),
    ],
)
@pytest.mark.parametrize("event_type", ["MY_EVENT", PROVISION])
async def test_a_further_step_costs_one_more(
    start_service: StartService,
    in_dynamodb: Settings,
    aws: FaultyAWS,
    event_type: str,
    steps: int,
    starts_job: bool,
    calls: list[str],
) -> None:
    """Each further step costs one write, since the last one's result is written with the settle."""
    registry = HandlerRegistry()
    registry.register(event_type, steps_then(steps, starts_job))
    service = await start_service(in_dynamodb, extension=Extension(registry=registry))
    await read_success(await send(service, event_type, "request"))
    assert aws.calls == calls


async def test_a_strangers_build_costs_one_read(service: Client, aws: FaultyAWS) -> None:
    """A foreign build's state change costs one read, whether the job is recorded, and no write."""
    arn = "arn:aws:codebuild:us-east-1:123456789012:build/other:1"
    change = {"build-id": arn, "build-status": "SUCCEEDED"}
    answer = await service.post("/events", json=envelope("BUILD_STATE_CHANGE", change))
    assert answer.status == 200
    assert aws.calls == [READ]


async def test_a_build_that_ends_costs_eight(service: Client, aws: FaultyAWS) -> None:
    """The requests are the job, its operation, CodeBuild's answer, two reads of the operation's
    state, the claim, a read for the report, and the settle."""
    await read_success(await send(service, PROVISION, "request"))
    build = list(aws.aws.codebuild.builds.values())[-1]
    aws.aws.codebuild.finish(build.id, "SUCCEEDED")
    aws.calls.clear()
    change = envelope("BUILD_STATE_CHANGE", build.as_state_change())
    await read_success(await service.post("/events", json=change))
    assert aws.calls == [*[READ] * 2, "BatchGetBuilds", *[READ] * 2, CLAIM, READ, SETTLE]


async def test_a_build_that_has_begun_costs_three(service: Client, aws: FaultyAWS) -> None:
    """The requests are the job, its operation and CodeBuild's answer, and no write."""
    await read_success(await send(service, PROVISION, "request"))
    build = list(aws.aws.codebuild.builds.values())[-1]
    aws.calls.clear()
    change = envelope("BUILD_STATE_CHANGE", build.as_state_change())
    assert (await service.post("/events", json=change)).status == 200
    assert aws.calls == [READ, READ, "BatchGetBuilds"]


@pytest.mark.parametrize(
    ("is_over", "calls"),
    [
        (False, [*[READ] * 5, NOTE, READ, LOOK, "BatchGetBuilds"]),
        (
            True,
            [*[READ] * 5, NOTE, READ, LOOK, "BatchGetBuilds", *[READ] * 3, CLAIM, READ, SETTLE],
        ),
    ],
)
async def test_a_build_that_tells_of_itself_costs_nine_and_its_end_six_more(
    service: Client, aws: FaultyAWS, is_over: bool, calls: list[str]
) -> None:
    """A self-report costs the reads of its operation, a note, a look-up of the operation and
    CodeBuild's answer; then the outcome follows."""
    await read_success(await send(service, PROVISION, "request"))
    build = list(aws.aws.codebuild.builds.values())[-1]
    if is_over:
        aws.aws.codebuild.finish(build.id, "SUCCEEDED")
    aws.calls.clear()
    report = await send(service, f"{PROVISION}_SUCCESS", "report", CODEBUILD_BUILD_ID=build.id)
    await read_success(report)
    assert aws.calls == calls
    assert await state_of(service) == ("provisioned" if is_over else "provisioning")


async def test_a_redelivery_while_the_event_is_in_hand_costs_one(
    service: Client, aws: FaultyAWS
) -> None:
    """The refused claim returns the run whose lease hasn't expired."""
    aws.inject(SETTLE, None, *aws_is_gone())
    assert (await send(service, PROVISION, "request")).status == 503
    aws.calls.clear()
    assert (await send(service, PROVISION, "request")).status == 503
    assert aws.calls == [CLAIM]


def aws_is_gone() -> list[Fault]:
    return [Fault.error("AccessDeniedException")]
