"""What an event costs: the requests to AWS, counted (docs/architecture.md has the budget)."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings
from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.pages import CANDIDATES
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import Record, RunStatus
from orchestrator.embedded import Fault
from orchestrator.intake.app_keys import TRANSACTIONS
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import read_success
from tests.acceptance.stories import FULL, PROVISION, TENANT, is_replay, send, state_of
from tests.conftest import Client, StartService
from tests.contracts import samples
from tests.faulty_aws import TIERS, FaultyAWS
from tests.ledgers import fill

CLAIM = SETTLE = RECORD = NOTE = LOOK = "TransactWriteItems"
READ = "BatchGetItem"


@pytest.fixture
async def service(start_service: StartService, in_dynamodb: Settings, aws: FaultyAWS) -> Client:
    """The service, which has had an event of the tier: it knows it."""
    service = await start_service(in_dynamodb)
    await read_success(await send(service, PROVISION, "earlier", tenant_id="t-0"))
    assert aws.calls == [CLAIM, f"Query {TIERS}", "StartBuild", SETTLE]
    aws.calls.clear()
    return service


async def test_a_fresh_provisioning_costs_three(service: Client, aws: FaultyAWS) -> None:
    """Claim, StartBuild, settle."""
    await read_success(await send(service, PROVISION, "request"))
    assert aws.calls == [CLAIM, "StartBuild", SETTLE]


async def test_a_registration_costs_nothing_more(service: Client, aws: FaultyAWS) -> None:
    """It is written with the claim; a result that names it alone is read once more."""
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
    """The claim that is refused brings the run that it is a duplicate of."""
    await read_success(await send(service, PROVISION, "request"))
    for _ in range(3):
        aws.calls.clear()
        assert is_replay(await send(service, PROVISION, "request"))
        assert aws.calls == [CLAIM]


async def test_a_business_duplicate_costs_two(service: Client, aws: FaultyAWS) -> None:
    """The same request under another event id: a claim that is refused, and one that joins."""
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
    """What the last one did is folded into the settle."""
    registry = HandlerRegistry()
    registry.register(event_type, steps_then(steps, starts_job))
    service = await start_service(in_dynamodb, extension=Extension(registry=registry))
    await read_success(await send(service, event_type, "request"))
    assert aws.calls == calls


async def test_a_strangers_build_costs_one_read(service: Client, aws: FaultyAWS) -> None:
    """Whether it is ours; nothing is written."""
    arn = "arn:aws:codebuild:us-east-1:123456789012:build/other:1"
    change = {"build-id": arn, "build-status": "SUCCEEDED"}
    answer = await service.post("/events", json=envelope("BUILD_STATE_CHANGE", change))
    assert answer.status == 200
    assert aws.calls == [READ]


async def test_a_build_that_ends_costs_eight(service: Client, aws: FaultyAWS) -> None:
    """Whose it is, how that stands, CodeBuild's answer; how that stands again, claim, who is told
    of it, settle."""
    await read_success(await send(service, PROVISION, "request"))
    build = list(aws.aws.codebuild.builds.values())[-1]
    aws.aws.codebuild.finish(build.id, "SUCCEEDED")
    aws.calls.clear()
    change = envelope("BUILD_STATE_CHANGE", build.as_state_change())
    await read_success(await service.post("/events", json=change))
    assert aws.calls == [*[READ] * 2, "BatchGetBuilds", *[READ] * 2, CLAIM, READ, SETTLE]


async def test_a_build_that_has_begun_costs_three(service: Client, aws: FaultyAWS) -> None:
    """Whose it is, how that stands, CodeBuild's answer; nothing is written."""
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
    """Whose it is, a note of it, a look at the operation, CodeBuild's word; then the outcome."""
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
    """The refused claim brings the run whose lease lasts."""
    aws.inject(SETTLE, None, *aws_is_gone())
    assert (await send(service, PROVISION, "request")).status == 503
    aws.calls.clear()
    assert (await send(service, PROVISION, "request")).status == 503
    assert aws.calls == [CLAIM]


ALL, OF_TENANT, BY_STATUS, BY_DUE = (
    f"Query {index}" for index in ("list", "tenant", "status", "due")
)
#: Partitions that the overview counts: the states of tenants, and the shards of failed runs.
STATES, SHARDS, KINDS = len(TenantState) + 1, 4, len(Kind)


async def test_a_list_costs_the_same_however_long_it_is(
    service: Client, aws: FaultyAWS, clock: ManualClock
) -> None:
    """A page of what isn't there is a fixed number of requests, and says where it goes on."""
    ledger = service.app[TRANSACTIONS].ledger
    (known,) = (await ledger.list_runs()).items
    operation_id = known.operation_id
    runs = [
        evolve(known, run_id=f"{n}", first_seen=later(clock, n), tenant_id=TENANT, version=0)
        for n in range(CANDIDATES + 10)
    ]
    await fill(ledger, runs)
    for path, calls in (
        ("/runs?eventType=NONE&limit=1", [*[ALL] * 4, *[READ] * 4]),
        (f"/runs?tenantId={TENANT}&status=failed", [OF_TENANT, *[READ] * 4]),
        ("/runs?status=failed", [BY_STATUS] * 4),
        ("/runs", [*[ALL] * 4, READ]),
        (f"/runs?tenantId={TENANT}", [OF_TENANT, READ]),
        ("/tenants", [ALL, READ, READ]),
        ("/tenants?state=active", [BY_STATUS]),
        ("/tenants?prefix=t-", [ALL, READ, READ]),
        ("/tenants?state=none", [BY_STATUS]),
        ("/tenants?sort=attention", [BY_DUE, *[BY_STATUS] * 2 * KINDS, BY_DUE, READ, READ]),
        ("/tenants/t-0", [READ, OF_TENANT, READ, ALL, READ]),
        (f"/operations/{operation_id}", [READ, READ]),
        (f"/runs/{known.run_id}", [READ]),
        (f"/runs/{known.run_id}/payload", [READ]),
        ("/overview", [*[BY_STATUS] * (STATES + SHARDS + 2 * KINDS), READ]),
        ("/me", []),
    ):
        aws.calls.clear()
        answer = await service.get(path)
        assert answer.status == 200, await answer.text()
        assert sorted(aws.calls) == sorted(calls), path

    pages, query = 0, {"eventType": "NONE"}
    while "cursor" not in query or query["cursor"]:
        aws.calls.clear()
        page = await (await service.get("/runs", params=query)).json()
        assert page["items"] == []
        assert len(aws.calls) <= 8
        pages, query["cursor"] = pages + 1, page["cursor"]
    assert pages == 2


def later(clock: ManualClock, seconds: int) -> datetime:
    return clock.now() + timedelta(seconds=seconds)


def aws_is_gone() -> list[Fault]:
    return [Fault.error("AccessDeniedException")]


#: Views of tenants, and how many requests each costs at most.
VIEWS = {
    "/tenants": 4,
    "/tenants?limit=100": 5,
    "/tenants?state=deploying": 4,
    "/tenants?state=none": 4,
    "/tenants?prefix=waits": 4,
    "/tenants?sort=attention": 13,
    "/tenants?sort=attention&limit=100": 13,
    "/tenants/waits-0": 7,
    "/overview": 25,
}


async def test_a_view_costs_the_same_however_many_tenants_there_are(
    service: Client, aws: FaultyAWS, clock: ManualClock
) -> None:
    """Each state has more than a page of them, and then twice as many."""
    ledger, costs = service.app[TRANSACTIONS].ledger, list[dict[str, list[str]]]()
    for start in (0, 120):
        await fill(ledger, [one for n in range(start, start + 120) for one in life(clock, n)])
        costs.append({})
        for path in VIEWS:
            aws.calls.clear()
            answer = await service.get(path)
            assert answer.status == 200, await answer.text()
            costs[-1][path] = sorted(aws.calls)
    few, many = costs
    assert few == many
    assert {path: len(calls) for path, calls in many.items() if len(calls) > VIEWS[path]} == {}
    # Where operations have no job, their runs are read, too.
    waiting = ("/tenants?state=deploying", "/overview")
    assert [len(many[path]) for path in waiting] == [VIEWS[path] for path in waiting]


def life(clock: ManualClock, number: int) -> list[Record]:
    """A tenant that failed, one that never began, one that waits for a job, and one at rest."""
    at = later(clock, number - 1000)
    held = samples.operation(
        f"{number:040}", tenant_id=f"waits-{number}", opener=f"run-{number}", opened_at=at
    )
    last = samples.operation(
        f"{number + 5000:040}", tenant_id=f"failed-{number}", state=OperationState.OVER
    )
    states = {"failed": TenantState.DEPLOYMENT_FAILED, "none": None, "rests": TenantState.ACTIVE}
    return [
        held,
        last,
        samples.run(f"run-{number}", tenant_id=f"waits-{number}", first_seen=at),
        samples.run(f"failed-{number}", status=RunStatus.FAILED, first_seen=at),
        samples.tenant(
            f"waits-{number}",
            state=TenantState.DEPLOYING,
            changed_at=at,
            operation_id=held.operation_id,
        ),
        *(
            samples.tenant(
                f"{name}-{number}", state=state, changed_at=at, last_operation=last.operation_id
            )
            for name, state in states.items()
        ),
    ]
