"""The outcomes that end what a claim opened."""

from typing import Any

import attrs
import pytest

from orchestrator.core.events.event_types import ENDS, Kind
from orchestrator.core.identifiers import START_KEY, start_key
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.claim_result import Deferred, Duplicate, NothingToDo
from orchestrator.core.ledger.lease import RunLease
from orchestrator.core.ledger.lifecycle import MOVES, TenantState
from orchestrator.core.ledger.operations import replace
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import JobRecord, OperationRecord, Progress
from tests.desk import (
    DEPLOYMENT,
    DEPROVISIONING,
    NOT_PROVISIONED,
    PROVISIONED,
    PROVISIONING,
    SENT_AT,
    TENANT,
    Desk,
    credentials,
    operation_id,
    run_id,
)

DEPLOYED = "TENANT_DEPLOYMENT_SUCCESS"
ENDED = ENDS[PROVISIONED]
#: A body that carries the key of the first start of the operation `k`.
KEYED = {"tenantId": TENANT, START_KEY: start_key(operation_id("k"), 1)}
HELD = (TenantState.PROVISIONING, operation_id("k"))


# --- outcomes --------------------------------------------------------------------------------


async def opened(desk: Desk, event_id: str = "a") -> RunLease:
    return await desk.claimed(PROVISIONING, event_id, key="k", tier="PREMIUM")


async def under_way(desk: Desk) -> None:
    """The provisioning `k` is done by the job b-1."""
    await desk.finish(await opened(desk), desk.job("b-1"))


async def change(desk: Desk, **changes: Any) -> OperationRecord:
    operation = attrs.evolve(await desk.operation("k"), **changes)
    await desk.ledger.put(operation)
    return operation


@pytest.mark.parametrize("event_type", list(ENDS))
@pytest.mark.parametrize("by", ["tenant", "job", "operation"])
async def test_an_outcome_ends_the_operation_and_moves_the_tenant(
    desk: Desk, event_type: str, by: str
) -> None:
    """One write does both, by whichever of the three it names it; the tenant is held until then."""
    kind, succeeded = ENDS[event_type].kind, ENDS[event_type].succeeded
    if kind is Kind.CLEAN_UP:
        await desk.stand(TenantState.PROVISION_FAILED)
    opener = await desk.claimed(f"TENANT_{kind.upper()}", "a", tier="PREMIUM")
    await desk.finish(opener, desk.job("b-1"))
    wanted = opener.run.operation_id
    named = {"tenant": {}, "job": {"job": "b-1"}, "operation": {"operation": wanted}}[by]
    attempt = await desk.claimed(event_type, "done", **named)
    assert attempt.run.outcome_of == wanted
    assert await desk.tenant() == (MOVES[kind].during, wanted)
    desk.turn(1)
    await desk.finish(attempt, ending=ENDS[event_type], reason="because")
    operation, tenant = await desk.operation(of=opener), await desk.transactions.find_tenant(TENANT)
    assert (operation.state, operation.succeeded) == (OperationState.OVER, succeeded)
    assert (operation.ended_at, operation.reason) == (desk.clock.now(), "because")
    assert tenant is not None
    assert tenant.state == (MOVES[kind].succeeded if succeeded else MOVES[kind].failed)
    assert (tenant.operation_id, tenant.tier) == (None, "PREMIUM")
    assert tenant.changed_at == desk.clock.now()


@pytest.mark.parametrize("ends", ["finish", "fail"])
async def test_an_outcome_ends_the_operation_also_if_its_handler_failed(
    desk: Desk, ends: str
) -> None:
    """The job is over either way; only an attempt that is handed back leaves the tenant held."""
    await under_way(desk)
    attempt = await desk.claimed(PROVISIONED, "done")
    await desk.hand_back(attempt, ending=ENDED)
    assert await desk.tenant() == HELD
    assert (await desk.operation("k")).state is OperationState.OPEN
    again = await desk.claimed(PROVISIONED, "done", trigger=Trigger.REPLAY)
    await getattr(desk, ends)(again, ending=ENDED)
    assert await desk.tenant() == (TenantState.PROVISIONED, None)


@pytest.mark.parametrize("is_handed_back", [False, True])
async def test_an_outcome_waits_for_the_opener(desk: Desk, is_handed_back: bool) -> None:
    """It waits while the opener is in progress or due and has no job, since it may start one."""
    opener = await opened(desk)
    if is_handed_back:
        await desk.hand_back(opener)
    answer = await desk.claim(PROVISIONED, "done")
    reason = f"Run {opener.run.run_id} of the operation is in progress."
    assert answer == Deferred(run_id(PROVISIONED, "done"), reason)
    run = await desk.run(PROVISIONED, "done")
    assert (run.status, run.due_at) == ("retry", desk.later(15))
    assert (await desk.operation("k")).outcome is None
    await desk.finish(await opened(desk) if is_handed_back else opener)
    desk.turn(15)
    await desk.finish(await desk.claimed(PROVISIONED, "done", trigger=Trigger.SWEEP), ending=ENDED)
    assert await desk.tenant() == (TenantState.PROVISIONED, None)


async def test_an_outcome_does_not_wait_for_an_opener_whose_job_is_known(desk: Desk) -> None:
    """A build may be over before its start was settled."""
    opener = await opened(desk)
    await opener.record(Progress(job=desk.job("b-1")))
    await desk.end(PROVISIONED, "done", job="b-1")
    assert await desk.tenant() == (TenantState.PROVISIONED, None)
    await desk.finish(opener)
    assert await desk.tenant() == (TenantState.PROVISIONED, None)
    assert (await desk.run(PROVISIONING, "a")).status == "succeeded"


async def test_an_outcome_does_not_wait_for_an_opener_that_began_anew(desk: Desk) -> None:
    """Its content was received again behind another request: it waits for the end itself."""
    first = await desk.claimed(PROVISIONING, "a", by_content=True)
    await desk.finish(first)
    assert isinstance(await desk.claim(DEPROVISIONING, "b"), Deferred)
    assert isinstance(await desk.claim(PROVISIONING, "a", by_content=True), Deferred)
    attempt = await desk.claimed(PROVISIONED, "done")
    assert attempt.run.outcome_of == first.run.operation_id


async def test_only_one_outcome_works_at_a_time(desk: Desk) -> None:
    """Another one waits for it, and is its duplicate once it is done, whatever it says."""
    await under_way(desk)
    first = await desk.claimed(PROVISIONED, "one")
    assert isinstance(await desk.claim(NOT_PROVISIONED, "two"), Deferred)
    assert (await desk.operation("k")).outcome == first.run.run_id
    await desk.finish(first, ending=ENDED)
    assert await desk.claim(NOT_PROVISIONED, "two", operation=operation_id("k")) == Duplicate(
        first.run.run_id
    )
    assert await desk.tenant() == (TenantState.PROVISIONED, None)


async def test_two_outcomes_at_once_are_one(desk: Desk) -> None:
    """The other one was claimed between our read and our write."""
    await under_way(desk)
    other = desk.beside()
    desk.ledger.before_commit.append(lambda: other.claimed(PROVISIONED, "two"))
    assert isinstance(await desk.claim(NOT_PROVISIONED, "one"), Deferred)
    assert (await desk.operation("k")).outcome == run_id(PROVISIONED, "two")


async def test_an_outcome_that_came_to_nothing_leaves_room_for_another(desk: Desk) -> None:
    """It failed before its handler was reached: the tenant must not wait for it."""
    await under_way(desk)
    await desk.fail(await desk.claimed(PROVISIONED, "one"), ends_without_job=False)
    assert await desk.tenant() == HELD
    await desk.end(NOT_PROVISIONED, "two")
    assert await desk.tenant() == (TenantState.PROVISION_FAILED, None)


async def test_an_outcome_continues_after_a_crash(desk: Desk) -> None:
    """The outcome's next attempt doesn't wait for its own earlier one."""
    await under_way(desk)
    await desk.claimed(PROVISIONED, "done")
    again = await desk.taken_over(PROVISIONED, "done")
    assert again.run.outcome_of == operation_id("k")
    await desk.finish(again, ending=ENDED)
    assert await desk.tenant() == (TenantState.PROVISIONED, None)


async def test_an_outcome_that_is_replayed_with_force_moves_nothing(desk: Desk) -> None:
    """Its handler runs again; neither the ended operation nor the tenant changes."""
    await under_way(desk)
    await desk.end(PROVISIONED, "done")
    over = await desk.operation("k")
    await desk.stand(TenantState.ACTIVE)
    await desk.end(PROVISIONED, "done", trigger=Trigger.FORCED_REPLAY, operation=operation_id("k"))
    assert await desk.operation("k") == over
    assert await desk.tenant() == (TenantState.ACTIVE, None)


@pytest.mark.parametrize("named", [{"job": "foreign"}, {"operation": "foreign"}])
async def test_an_outcome_of_something_else_ends_nothing(desk: Desk, named: dict[str, str]) -> None:
    """It names a job that the operation doesn't have, or an operation that isn't in the ledger."""
    await under_way(desk)
    answer = await desk.claim(PROVISIONED, "done", **named)
    assert answer == NothingToDo(run_id(PROVISIONED, "done"))
    run = await desk.run(PROVISIONED, "done")
    assert (run.status, run.note) == ("succeeded", "It ends no operation of this tenant.")
    assert (run.due_at, run.outcome_of) == (None, None)
    assert await desk.tenant() == HELD


@pytest.mark.parametrize("event_type", [DEPLOYED, "TENANT_DEPROVISIONING_FAILURE"])
async def test_an_outcome_of_another_kind_ends_nothing(desk: Desk, event_type: str) -> None:
    """Neither does one for a tenant that has none under way, or for another tenant's operation."""
    await under_way(desk)
    assert isinstance(await desk.claim(event_type, "done"), NothingToDo)
    await change(desk, tenant_id="t-2")
    assert isinstance(await desk.claim(PROVISIONED, "others"), NothingToDo)
    await desk.stand(TenantState.ACTIVE)
    assert isinstance(await desk.claim(event_type, "idle"), NothingToDo)
    assert await desk.tenant() == (TenantState.ACTIVE, None)


async def test_a_job_outranks_an_operations_id(desk: Desk) -> None:
    """The operation of the job is ended, whatever else the report names."""
    await under_way(desk)
    attempt = await desk.claimed(PROVISIONED, "done", job="b-1", operation="foreign")
    assert attempt.run.outcome_of == operation_id("k")


async def test_the_outcome_of_an_earlier_start_ends_nothing(desk: Desk) -> None:
    """The operation was reopened and has no job yet: the earlier job's report doesn't count."""
    await under_way(desk)
    await desk.end(PROVISIONED, "done")
    forced = await desk.claimed(PROVISIONING, "a", key="k", trigger=Trigger.FORCED_REPLAY)
    await desk.finish(forced)
    assert not isinstance(await desk.claim(PROVISIONED, "late", job="b-1"), RunLease)
    assert await desk.tenant() == HELD


@pytest.mark.parametrize(("number", "is_taken"), [(None, True), (2, True), (1, False), (3, False)])
async def test_an_outcome_that_names_its_start_ends_no_other(
    desk: Desk, number: int | None, is_taken: bool
) -> None:
    """A report with the start key of its job ends that start alone."""
    await desk.fail(await opened(desk))
    await desk.finish(await opened(desk))
    answer = await desk.claim(PROVISIONED, "done", operation=operation_id("k"), start_number=number)
    assert isinstance(answer, RunLease if is_taken else NothingToDo)


async def test_an_operation_that_was_given_back_has_no_outcome(desk: Desk) -> None:
    """The outcome's run notes that the operation was over already."""
    await desk.stand(TenantState.PROVISION_FAILED)
    await desk.fail(await opened(desk))
    answer = await desk.claim(PROVISIONED, "done", operation=operation_id("k"))
    assert answer == NothingToDo(run_id(PROVISIONED, "done"))
    assert (await desk.run(PROVISIONED, "done")).note == "The operation was over already."
    assert await desk.tenant() == (TenantState.PROVISION_FAILED, None)


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("event_type", list(ENDS))
async def test_an_outcome_decides_the_state_of_an_unseen_tenant(
    desk: Desk, event_type: str, is_known: bool
) -> None:
    """The tenant is older than the ledger, or its only operation was given back."""
    if is_known:
        await desk.fail(await opened(desk))
    moves = MOVES[ENDS[event_type].kind]
    attempt = await desk.claimed(event_type, "done")
    assert await desk.tenant() == (moves.during, attempt.run.outcome_of)
    await desk.finish(attempt, ending=ENDS[event_type], tier="BASIC")
    state = moves.succeeded if ENDS[event_type].succeeded else moves.failed
    tenant = await desk.transactions.find_tenant(TENANT)
    assert tenant is not None
    assert (tenant.state, tenant.operation_id, tenant.tier) == (state, None, "BASIC")


async def test_the_outcome_of_another_tenants_operation_makes_no_tenant(desk: Desk) -> None:
    """It names an operation that the ledger has, and a tenant that the ledger doesn't have."""
    await under_way(desk)
    answer = await desk.claim(PROVISIONED, "done", tenant_id="t-2", operation=operation_id("k"))
    assert answer == NothingToDo(run_id(PROVISIONED, "done"))
    assert (await desk.run(PROVISIONED, "done")).note == "It ends no operation of this tenant."
    assert await desk.transactions.find_tenant("t-2") is None
    assert await desk.tenant() == HELD


async def test_an_unseen_tenant_is_held_until_its_outcome_is_settled(desk: Desk) -> None:
    """No other operation opens meanwhile; the outcome's next attempt continues with this one."""
    attempt = await desk.claimed(PROVISIONED, "done", job="a-stranger's")
    await desk.hand_back(attempt, ending=ENDED)
    assert isinstance(await desk.claim(DEPLOYMENT, "a"), Deferred)
    again = await desk.claimed(PROVISIONED, "done", job="a-stranger's")
    assert again.run.outcome_of == attempt.run.outcome_of
    await desk.finish(again, ending=ENDED)
    assert await desk.tenant() == (TenantState.PROVISIONED, None)


async def test_an_unseen_tenant_is_released_if_its_outcome_could_not_be_handled(desk: Desk) -> None:
    """The ledger has no state of it then, and a later attempt begins anew."""
    attempt = await desk.claimed(PROVISIONED, "done")
    await desk.fail(attempt, ends_without_job=False)
    assert await desk.tenant() == (None, None)
    again = await desk.claimed(PROVISIONED, "done")
    await desk.finish(again, ending=ENDED)
    assert await desk.tenant() == (TenantState.PROVISIONED, None)


async def test_the_report_of_a_foreign_job_ends_no_operation_without_a_job(desk: Desk) -> None:
    """A user's handler has started something that the service can't see; whose job this is is
    unknown."""
    await desk.finish(await opened(desk))
    answer = await desk.claim(PROVISIONED, "done", job="a-stranger's")
    assert isinstance(answer, NothingToDo)
    assert await desk.tenant() == HELD


async def test_an_outcome_without_a_tenant_is_worked_on_alone(desk: Desk) -> None:
    """An outcome without a tenant is handled, and no tenant is moved."""
    attempt = await desk.claimed(PROVISIONED, "done", tenant_id=None, job="a-stranger's")
    await desk.finish(attempt, ending=ENDED)
    assert (await desk.run(PROVISIONED, "done")).status == "succeeded"
    assert await desk.tenant() == (None, None)


@pytest.mark.parametrize(
    "changes",
    [{"state": OperationState.GIVEN_BACK}, {"state": OperationState.OVER}, {"outcome": "another"}],
)
async def test_an_outcome_ends_only_what_is_still_its_own(
    desk: Desk, changes: dict[str, Any]
) -> None:
    """Whatever became of the operation since the claim is left as it is."""
    await under_way(desk)
    attempt = await desk.claimed(PROVISIONED, "done")
    changed = await change(desk, **changes)
    await desk.finish(attempt, ending=ENDED)
    assert attrs.evolve(await desk.operation("k"), version=changed.version) == changed
    assert await desk.tenant() == HELD


async def test_an_outcome_moves_only_a_tenant_that_its_operation_holds(desk: Desk) -> None:
    """The operation ends; the tenant, which another operation holds, stays as it is."""
    await under_way(desk)
    attempt = await desk.claimed(PROVISIONED, "done")
    tenant = await desk.transactions.find_tenant(TENANT)
    assert tenant is not None
    await desk.ledger.put(attrs.evolve(tenant, operation_id="another"))
    await desk.finish(attempt, ending=ENDED)
    assert (await desk.operation("k")).state is OperationState.OVER
    assert await desk.tenant() == (TenantState.PROVISIONING, "another")


@pytest.mark.parametrize(
    ("of_operation", "of_event", "of_tenant", "kept"),
    [("A", "B", "C", "A"), (None, "B", "C", "B"), (None, None, "C", "C")],
)
async def test_the_tenants_tier_is_that_of_its_operation(
    desk: Desk, of_operation: str | None, of_event: str | None, of_tenant: str, kept: str
) -> None:
    """The tenant gets the operation's tier, else the outcome's, else it keeps its own."""
    await desk.stand(TenantState.PROVISIONED, tier=of_tenant)
    opener = await desk.claimed(DEPLOYMENT, "a", key="k")
    operation = await desk.operation(of=opener)
    await desk.ledger.put(attrs.evolve(operation, tier=of_operation, job=desk.job("b-1")))
    await desk.finish(await desk.claimed(DEPLOYED, "done"), ending=ENDS[DEPLOYED], tier=of_event)
    tenant = await desk.transactions.find_tenant(TENANT)
    assert tenant is not None
    assert tenant.tier == kept


async def test_an_outcome_of_an_unseen_tenant_is_no_request(desk: Desk) -> None:
    """No request is recorded of the tenant, so the next one can't be stale."""
    await desk.end(PROVISIONED, "done", sent_s=9)
    tenant = await desk.transactions.find_tenant(TENANT)
    assert tenant is not None
    assert tenant.asked is None


# --- self-reports of jobs whose builder can be queried -----------------------------------------


async def claim_self_report(desk: Desk, **options: Any) -> OperationRecord:
    """Claim a self-report; the operation `k` as it is then."""
    answer = await desk.claim(PROVISIONED, "self", is_outranked=True, **options)
    assert answer == NothingToDo(run_id(PROVISIONED, "self"), operation_id("k"))
    return await desk.operation("k")


@pytest.mark.parametrize("named", [{"job": "b-1"}, {"body": KEYED}, {}])
async def test_a_self_report_makes_its_job_due_for_a_check(
    desk: Desk, named: dict[str, Any]
) -> None:
    """It is due at once, from any sender; it counts as the job's if it names the job or start."""
    await under_way(desk)
    desk.turn(1)
    operation = await claim_self_report(desk, **named)
    assert (operation.due_at, operation.outcome) == (desk.clock.now(), None)
    assert operation.told_by == (run_id(PROVISIONED, "self") if named else None)


@pytest.mark.parametrize("is_named", [False, True])
async def test_a_self_report_of_the_job_brings_credentials(desk: Desk, is_named: bool) -> None:
    """They are used if its request had none; a report that names only the tenant brings none."""
    await under_way(desk)
    operation = await claim_self_report(desk, as_of=SENT_AT, **({"job": "b-1"} if is_named else {}))
    assert operation.credentials == (credentials("self", SENT_AT) if is_named else None)


async def test_a_self_report_replaces_no_credentials(desk: Desk) -> None:
    """The request's own credentials stay, and sign the report."""
    await under_way(desk)
    given = credentials("a", SENT_AT)
    await change(desk, credentials=given)
    assert (await claim_self_report(desk, as_of=desk.later(9), job="b-1")).credentials == given


# --- jobs that are not the operation's any more -------------------------------------------------


async def test_the_outcome_of_a_job_that_was_built_again_ends_nothing(desk: Desk) -> None:
    """Its operation, at the same start, has the newer job by now."""
    await under_way(desk)
    former, newer = desk.job("b-1"), desk.job("b-2")
    replaced = await desk.transactions.run(
        lambda snapshot: replace(snapshot, operation_id("k"), 1, former, newer, desk.timings)
    )
    assert replaced is not None
    answer = await desk.claim(PROVISIONED, "late", job="b-1")
    assert answer == NothingToDo(run_id(PROVISIONED, "late"))
    await desk.end(PROVISIONED, "done", job="b-2")
    assert (await desk.operation("k")).state is OperationState.OVER


@pytest.mark.parametrize("context", [None, "k"])
async def test_the_outcome_of_a_job_whose_operation_has_expired_ends_no_other(
    desk: Desk, context: str | None
) -> None:
    """A job's item is kept longer than its operation's. The tenant's present operation has no job
    yet, and is at its first start, too."""
    await desk.ledger.put(
        JobRecord(builder="IN_MEMORY", job_id="old", operation_id=operation_id("expired"))
    )
    await desk.finish(await opened(desk))
    answer = await desk.claim(PROVISIONED, "late", job="old", context=context)
    assert answer == NothingToDo(run_id(PROVISIONED, "late"))
    assert await desk.tenant() == HELD
