"""A tenant's life, over HTTP: how each request is answered in each state."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from orchestrator import Run, Settings
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.record_parts import Job, OperationState
from orchestrator.core.ledger.records import OperationRecord, TenantRecord
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.testing import ManualClock
from tests.acceptance.answers import (
    only_build,
    read_problem,
    read_run,
    read_success,
    variables,
)
from tests.acceptance.stories import (
    DEPLOY,
    DEPROVISION,
    OPENING,
    PROVISION,
    TENANT,
    WAYS_INTO,
    bring_into,
    is_replay,
    later,
    list_runs,
    read_refusal,
    read_tenant,
    read_wait,
    send,
    state_of,
    sweep,
    with_full_tier,
)
from tests.conftest import Client, StartService

Handler = Callable[[Any, Run], Awaitable[None]]

BUSY_PAUSE_S = 15
DURING = {PROVISION: "provisioning", DEPLOY: "deploying", DEPROVISION: "deprovisioning"}

#: The result of a request in each state: it opens, joins, waits, or is refused.
TABLE = {
    # state                PROVISIONING DEPLOYMENT DEPROVISIONING
    "unseen": ("opens", "opens", "opens"),
    "provisioning": ("joins", "waits", "waits"),
    "provisioned": ("refused", "opens", "opens"),
    "provision_failed": ("opens", "refused", "opens"),
    "cleaning_up": ("waits", "waits", "waits"),
    # The next deployment is another provisioning's: it joins only by its request key.
    "deploying": ("waits", "waits", "waits"),
    "active": ("refused", "opens", "opens"),
    "deployment_failed": ("refused", "opens", "opens"),
    "deprovisioning": ("waits", "waits", "joins"),
    "deprovisioned": ("opens", "refused", "refused"),
    "deprovision_failed": ("refused", "refused", "opens"),
}
CASES = [
    pytest.param(state, event_type, answer, id=f"{state}-{event_type}")
    for state, answers in TABLE.items()
    for event_type, answer in zip(OPENING, answers, strict=True)
]


@pytest.fixture
def ledger() -> InMemoryLedger:
    return InMemoryLedger()


@pytest.fixture
async def full(start_service: StartService, settings: Settings, ledger: InMemoryLedger) -> Client:
    """The service with a job for each operation."""
    return await start_service(with_full_tier(settings), ledger=ledger)


async def clean_up(ledger: InMemoryLedger, clock: ManualClock) -> str:
    """Write a tenant whose clean-up is open; returns the address of its run."""
    operation = OperationRecord(
        operation_id="clean-up-1",
        tenant_id=TENANT,
        kind=Kind.CLEAN_UP,
        request_key="key-1",
        opener="0" * 40,
        state=OperationState.OPEN,
        start_number=1,
        opened_at=clock.now(),
        job=Job(id="cleaner:1", builder="CODE_BUILD", job_identifier="cleaner"),
    )
    tenant = TenantRecord(
        tenant_id=TENANT,
        state=TenantState.CLEANING_UP,
        changed_at=clock.now(),
        operation_id=operation.operation_id,
    )
    await ledger.commit([operation, tenant], unchanged={})
    return f"/runs/{operation.opener}"


@pytest.mark.parametrize(("state", "event_type", "expected"), CASES)
async def test_a_request_is_answered_by_the_tenants_state(
    full: Client,
    codebuild: CodeBuildStandIn,
    ledger: InMemoryLedger,
    clock: ManualClock,
    state: str,
    event_type: str,
    expected: str,
) -> None:
    """A request opens its operation, joins one like it, waits for another, or is refused
    permanently."""
    if state == "cleaning_up":
        first = await clean_up(ledger, clock)
    else:
        first = await bring_into(full, state)
    builds = len(codebuild.builds)
    answer = await send(full, event_type, "request")
    match expected:
        case "opens":
            run = await read_run(full, await read_success(answer))
            assert (run["status"], is_replay(answer)) == ("succeeded", False)
            assert run["job"] is not None
            assert await state_of(full) == DURING[event_type]
        case "joins":
            assert await read_success(answer) == first
            assert is_replay(answer)
        case "waits":
            run = await read_run(full, await read_wait(answer, pause_s=BUSY_PAUSE_S))
            assert (run["status"], run["error"], run["job"]) == ("retry", None, None)
            assert TENANT in run["note"]
        case "refused":
            words = f"tenant is already {state}; replay with force"
            run = await read_run(full, await read_refusal(answer, words))
            assert (run["status"], run["error"]["message"]) == ("failed", words)
            assert run["dueAt"] is None
    assert len(codebuild.builds) == builds + (expected == "opens")
    if expected != "opens":
        assert await state_of(full) == state


def test_the_table_is_complete() -> None:
    """The table has each state, and each state but `cleaning_up` has events that lead to it."""
    assert set(TABLE) == {"unseen", *TenantState}
    assert set(WAYS_INTO) == set(TABLE) - {"cleaning_up"}


@pytest.mark.parametrize(
    ("held_by", "waiting", "state", "status"),
    [
        (PROVISION, DEPLOY, "deploying", "succeeded"),
        (PROVISION, DEPROVISION, "deprovisioning", "succeeded"),
        (DEPLOY, DEPROVISION, "deprovisioning", "succeeded"),
        (DEPLOY, PROVISION, "active", "failed"),
        (DEPROVISION, PROVISION, "provisioning", "succeeded"),
        (DEPROVISION, DEPLOY, "deprovisioned", "failed"),
    ],
)
async def test_a_waiting_run_is_resumed_by_the_sweep(
    either: Client,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
    held_by: str,
    waiting: str,
    state: str,
    status: str,
) -> None:
    """A waiting run is retried after 15 s, 30 s and 60 s; once the other operation has ended it is
    due at once, and is handled or refused permanently."""
    await read_success(await send(either, held_by, "first"))
    address = await read_wait(await send(either, waiting, "second"), pause_s=BUSY_PAUSE_S)
    for number in range(3):
        clock.turn(BUSY_PAUSE_S * 2**number)
        await sweep(either)
        run = await read_run(either, address)
        pause_s = BUSY_PAUSE_S * 2 ** (number + 1)
        assert (run["status"], run["dueAt"]) == ("retry", later(clock, pause_s))
    assert await state_of(either) == DURING[held_by]

    await read_success(await send(either, f"{held_by}_SUCCESS", "outcome"))
    await sweep(either)
    run = await read_run(either, address)
    assert (run["status"], run["attempt"], run["dueAt"]) == (status, 5, None)
    assert await state_of(either) == state
    assert len(codebuild.builds) == (2 if status == "succeeded" else 1)


@pytest.mark.parametrize(
    ("event_type", "context"), [(PROVISION, "key-2"), (DEPLOY, "key-1"), (DEPROVISION, "key-2")]
)
async def test_a_second_request_joins_what_is_under_way(
    either: Client, codebuild: CodeBuildStandIn, event_type: str, context: str
) -> None:
    """A second request starts no build, and its own run is a duplicate of the first."""
    first = await read_success(await send(either, event_type, "first", context="key-1"))
    answer = await send(either, event_type, "second", context=context)
    assert await read_success(answer) == first
    assert is_replay(answer)
    assert only_build(codebuild)
    (duplicate,) = await list_runs(either, status="duplicate")
    assert duplicate["duplicateOf"] == first.removeprefix("/runs/")
    tenant = await read_tenant(either)
    assert tenant["operation"]["runId"] == duplicate["duplicateOf"]
    assert duplicate["operationId"] == tenant["operation"]["operationId"]


@pytest.mark.parametrize("keys", [("key-1", "key-2"), ("key-1", "key-1")], ids=["other", "same"])
async def test_no_request_joins_an_operation_without_a_job(
    either: Client, codebuild: CodeBuildStandIn, clock: ManualClock, keys: tuple[str, str]
) -> None:
    """A second request is 503 while the first one's run is in `retry`, and joins once its build is
    recorded."""
    codebuild.inject("StartBuild", Fault.error("AccountLimitExceededException"))
    first = await read_wait(await send(either, PROVISION, "first", context=keys[0]), pause_s=30)
    second = await read_wait(await send(either, PROVISION, "second", context=keys[1]), pause_s=15)
    assert second != first
    assert not codebuild.builds

    clock.turn(30)
    await sweep(either)
    assert (await read_run(either, first))["status"] == "succeeded"
    clock.turn(30)
    await sweep(either)
    run = await read_run(either, second)
    assert (run["status"], f"/runs/{run['duplicateOf']}") == ("duplicate", first)
    assert only_build(codebuild)


@pytest.mark.parametrize("ended", [None, "SUCCESS", "FAILURE"])
async def test_the_same_request_key_is_a_duplicate(
    either: Client, codebuild: CodeBuildStandIn, ended: str | None
) -> None:
    """A request with the same key under another event id is a duplicate, while the operation is
    open and after its end."""
    first = await read_success(await send(either, PROVISION, "first", context="key-1"))
    if ended:
        await read_success(await send(either, f"{PROVISION}_{ended}", "outcome"))
    answer = await send(either, PROVISION, "second", context="key-1")
    assert await read_success(answer) == first
    assert is_replay(answer)
    assert only_build(codebuild)


async def test_a_new_request_key_after_the_end_is_a_new_operation(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """A new request repeats a failed provisioning, under a start key of its own."""
    first = await read_success(await send(either, PROVISION, "first", context="key-1"))
    await read_success(await send(either, f"{PROVISION}_FAILURE", "outcome"))
    answer = await send(either, PROVISION, "second", context="key-2")
    assert await read_success(answer) != first
    keys = {variables(build)["ORCHESTRATOR_RUN_ID"] for build in codebuild.builds.values()}
    assert len(keys) == 2
    assert {key.rpartition("-")[2] for key in keys} == {"1"}


async def test_an_operation_given_back_is_as_if_never_opened(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """After a failure without a job the tenant has its former state, and the next event opens the
    operation under the next start number, since the one before may have reached the builder."""
    await bring_into(either, "provision_failed")
    builds = len(codebuild.builds)
    failed = await read_problem(await send(either, PROVISION, "a", context="k", tier="GOLD"), 422)
    assert await state_of(either) == "provision_failed"
    assert (await read_tenant(either))["operation"] is None

    answer = await send(either, PROVISION, "b", context="k")
    address = await read_success(answer)
    assert address != failed["instance"]
    assert not is_replay(answer)
    assert await state_of(either) == "provisioning"
    build = list(codebuild.builds.values())[builds]
    run = await read_run(either, address)
    assert variables(build)["ORCHESTRATOR_RUN_ID"] == f"{run['operationId']}-2"


async def test_a_tenant_whose_first_operation_is_given_back_is_unseen_again(
    either: Client,
) -> None:
    """A tenant whose first operation is given back is unseen and not listed, and an outcome for it
    counts."""
    await read_problem(await send(either, PROVISION, "a", tier="GOLD"), 422)
    assert await state_of(either) == "unseen"
    assert (await (await either.get("/tenants")).json())["items"] == []
    await read_success(await send(either, f"{DEPLOY}_SUCCESS", "b"))
    assert await state_of(either) == "active"


async def test_two_requests_at_once_are_one_operation(
    either: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """Of twenty simultaneous requests one opens the operation; the others join, or are 503 and join
    later."""
    answers = await asyncio.gather(
        *(send(either, PROVISION, f"request-{number}") for number in range(20))
    )
    assert {answer.status for answer in answers} <= {200, 503}
    assert only_build(codebuild)
    for _ in range(2):
        clock.turn(20)
        await sweep(either)
    statuses = sorted(run["status"] for run in await list_runs(either))
    assert statuses == ["duplicate"] * 19 + ["succeeded"]
    assert only_build(codebuild)
