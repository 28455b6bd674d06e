"""The claim: which operation an event opens, continues, joins or waits for."""

import attrs
import pytest

from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.claim_result import Deferred, Duplicate, NeedsForce, Refused
from orchestrator.core.ledger.lease import RunLease
from orchestrator.core.ledger.lifecycle import MOVES, TenantState
from orchestrator.core.ledger.record_parts import Failure, OperationState, Step
from orchestrator.core.ledger.records import Progress
from tests.desk import (
    DEPLOYMENT,
    DEPROVISIONING,
    NOT_PROVISIONED,
    PROVISIONED,
    PROVISIONING,
    SENT_AT,
    TENANT,
    Desk,
    adopt_job,
    credentials,
    operation_id,
    possible_until,
    run_id,
)

# --- opening ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.PROVISIONING, Kind.DEPLOYMENT, Kind.DEPROVISIONING])
@pytest.mark.parametrize("state", [None, *TenantState])
async def test_an_operation_opens_where_it_may(
    desk: Desk, kind: Kind, state: TenantState | None
) -> None:
    """Legal: operation, tenant and run are one write. Else a failed run says why, unless forced."""
    await desk.stand(state)
    event_type = f"TENANT_{kind.upper()}"
    answer = await desk.claim(event_type, "a")
    if state in MOVES[kind].opens_from:
        assert isinstance(answer, RunLease)
    else:
        reason = f"tenant is already {state}; replay with force"
        assert answer == Refused(run_id(event_type, "a"), reason)
        run = await desk.run(event_type, "a")
        assert (run.status, run.due_at, run.lease_until) == ("failed", None, None)
        assert run.error == Failure(type="NotAllowed", message=reason)
        assert await desk.tenant() == (state, None)
        again = await desk.claim(event_type, "a", trigger=Trigger.REPLAY)
        assert isinstance(again, Refused)
        answer = await desk.claimed(event_type, "a", trigger=Trigger.FORCED_REPLAY)
    operation = await desk.operation(of=answer)
    assert operation.former_state is state
    assert await desk.tenant() == (MOVES[kind].during, operation.operation_id)


async def test_an_opened_operation_has_the_requests_facts(desk: Desk) -> None:
    """Opener, number, key, tier, credentials; the tenant is held from now on."""
    await desk.stand(TenantState.PROVISIONED, tier="BASIC")
    attempt = await desk.claimed(DEPLOYMENT, "a", key="k", tier="PREMIUM", as_of=SENT_AT)
    assert attempt.run.operation_id == operation_id("k", Kind.DEPLOYMENT)
    operation = await desk.operation("k", kind=Kind.DEPLOYMENT)
    assert (operation.opener, operation.start_number) == (attempt.run.run_id, 1)
    assert (operation.request_key, operation.tier) == ("k", "PREMIUM")
    assert (operation.tenant_id, operation.kind) == (TENANT, "deployment")
    assert (operation.state, operation.opened_at) == ("open", desk.clock.now())
    assert operation.credentials == credentials("a", SENT_AT)
    assert (operation.job, operation.outcome, operation.ended_at) == (None, None, None)


async def test_the_tenants_tier_counts_if_the_event_names_none(desk: Desk) -> None:
    """The operation gets the tenant's tier, and the tenant keeps it while it is held."""
    await desk.stand(TenantState.PROVISIONED, tier="BASIC")
    attempt = await desk.claimed(DEPLOYMENT, "a")
    assert (await desk.operation(of=attempt)).tier == "BASIC"
    tenant = await desk.transactions.find_tenant(TENANT)
    assert tenant is not None
    assert tenant.tier == "BASIC"


async def test_two_runs_that_open_at_once_open_one_operation(desk: Desk) -> None:
    """Two events, two processes: the slower one finds the tenant held, and waits."""
    other = desk.beside()
    desk.ledger.before_commit.append(lambda: other.claimed(PROVISIONING, "b"))
    answer = await desk.claim(PROVISIONING, "a")
    assert isinstance(answer, Deferred)
    opener = run_id(PROVISIONING, "b")
    assert (await desk.operation(opener)).opener == opener
    assert await desk.tenant() == (TenantState.PROVISIONING, operation_id(opener))


@pytest.mark.parametrize("event_type", [DEPLOYMENT, DEPROVISIONING])
@pytest.mark.parametrize("job", [None, "b-1"])
async def test_another_kind_waits_until_the_tenant_is_free(
    desk: Desk, event_type: str, job: str | None
) -> None:
    """It is kept, answered as busy, due after 15 s, and opens once the other is over."""
    first = await desk.claimed(PROVISIONING, "a")
    await desk.finish(first, desk.job(job) if job else None)
    answer = await desk.claim(event_type, "b")
    reason = f"The tenant {TENANT} is busy with its provisioning."
    assert answer == Deferred(run_id(event_type, "b"), reason, 15.0)
    run = await desk.run(event_type, "b")
    assert (run.status, run.due_at, run.note) == ("retry", desk.later(15), reason)
    assert run.lease_until is None
    desk.turn(15)
    assert isinstance(await desk.claim(event_type, "b", trigger=Trigger.SWEEP), Deferred)
    await desk.end(PROVISIONED, "done")
    desk.turn(15)
    opened = await desk.claimed(event_type, "b", trigger=Trigger.SWEEP)
    assert (opened.run.attempt, possible_until(opened), opened.run.note) == (3, None, None)
    assert (await desk.operation(of=opened)).former_state is TenantState.PROVISIONED


# --- the opener again ------------------------------------------------------------------------


async def test_the_opener_continues_with_the_same_start(desk: Desk) -> None:
    """A take-over keeps the operation and its start key, and a start is possible."""
    first = await desk.claimed(PROVISIONING, "a", key="k")
    before = await desk.operation("k")
    second = await desk.taken_over(PROVISIONING, "a", key="k")
    assert second.start_key == first.start_key == f"{operation_id('k')}-1"
    assert possible_until(second) == first.run.lease_until
    assert await desk.operation("k") == before


async def test_the_opener_finds_the_job_that_was_adopted(desk: Desk) -> None:
    """The next attempt gets the adopted job, and no start is possible any more."""
    first = await desk.claimed(PROVISIONING, "a", key="k")
    await adopt_job(
        desk.transactions, operation_id=operation_id("k"), number=1, job=desk.job("b-1")
    )
    second = await desk.taken_over(PROVISIONING, "a", key="k")
    assert (second.run.job, possible_until(second)) == (desk.job("b-1"), None)
    assert second.start_key == first.start_key


@pytest.mark.parametrize("who", ["a", "b"])
async def test_an_operation_that_was_given_back_is_opened_by_the_next_request(
    desk: Desk, who: str
) -> None:
    """It gets the next start number, and no start of the earlier opening is possible any more."""
    first = await desk.claimed(PROVISIONING, "a", key="k")
    if who == "b":
        assert isinstance(await desk.claim(PROVISIONING, "b", key="k"), Deferred)
    await desk.fail(first)
    assert (await desk.operation("k")).state is OperationState.GIVEN_BACK
    again = await desk.claimed(PROVISIONING, who, key="k")
    operation = await desk.operation("k")
    assert (operation.state, operation.start_number) == (OperationState.OPEN, 2)
    assert (operation.opener, operation.former_state) == (run_id(PROVISIONING, who), None)
    assert again.start_key == f"{operation_id('k')}-2"
    assert (possible_until(again), again.run.job) == (None, None)


async def test_a_run_that_gave_an_operation_back_waits_for_its_next_opener(desk: Desk) -> None:
    """The first opener isn't the operation's opener any more."""
    await desk.fail(await desk.claimed(PROVISIONING, "a", key="k"))
    await desk.claimed(PROVISIONING, "b", key="k")
    assert isinstance(await desk.claim(PROVISIONING, "a", key="k"), Deferred)
    assert (await desk.operation("k")).opener == run_id(PROVISIONING, "b")


async def test_an_opening_has_nothing_of_an_earlier_one(desk: Desk) -> None:
    """A job and a possible start that the run still carries were another start's."""
    await desk.fail(await desk.claimed(PROVISIONING, "a", key="k"))
    run = await desk.run(PROVISIONING, "a")
    old = attrs.evolve(run, job=None, possible_until=desk.clock.now())
    await desk.ledger.put(old)
    assert possible_until(await desk.claimed(PROVISIONING, "a", key="k")) is None
    await desk.ledger.put(attrs.evolve(old, job=desk.job("b-0")))
    await desk.stand(None)
    operation = await desk.operation("k")
    await desk.ledger.put(attrs.evolve(operation, state=OperationState.GIVEN_BACK))
    assert (await desk.claimed(PROVISIONING, "a", key="k")).run.job is None


# --- joining ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["k", None])
async def test_a_second_request_joins_once_the_job_is_recorded(desk: Desk, key: str | None) -> None:
    """Until then it waits and is no duplicate, under the same request key or another."""
    opener = await desk.claimed(PROVISIONING, "a", key="k")
    answer = await desk.claim(PROVISIONING, "b", key=key)
    reason = f"Run {opener.run.run_id} is opening the same operation."
    assert answer == Deferred(run_id(PROVISIONING, "b"), reason, 15.0)
    waiting = await desk.run(PROVISIONING, "b")
    assert (waiting.status, waiting.due_at) == ("retry", desk.later(15))
    await opener.record(Progress(job=desk.job("b-1")))
    assert await desk.claim(PROVISIONING, "b", key=key) == Duplicate(opener.run.run_id)
    joined = await desk.run(PROVISIONING, "b")
    assert (joined.status, joined.duplicate_of) == ("duplicate", opener.run.run_id)
    assert (joined.due_at, joined.lease_until) == (None, None)
    assert joined.operation_id == operation_id("k")
    assert await desk.claim(PROVISIONING, "b", key=key) == Duplicate(opener.run.run_id)


async def test_a_run_keeps_waiting_for_an_opener_that_crashed(desk: Desk) -> None:
    """Only the run that opened an operation works on it: the sweep resumes that one, not the
    waiting one."""
    await desk.claimed(PROVISIONING, "a", key="k")
    desk.turn(500)
    assert isinstance(await desk.claim(PROVISIONING, "b", key="k"), Deferred)
    assert (await desk.claimed(PROVISIONING, "a", key="k", trigger=Trigger.SWEEP)).run.attempt == 2


@pytest.mark.parametrize(
    ("ours_s", "theirs_s", "wins"),
    [(0, 1, True), (0, 0, False), (0, -1, False), (None, 0, True), (0, None, False)],
)
async def test_the_later_requests_credentials_are_used(
    desk: Desk, ours_s: float | None, theirs_s: float | None, wins: bool
) -> None:
    """The events' own times count, not the arrivals; a request without any replaces none."""
    ours = None if ours_s is None else desk.later(ours_s)
    theirs = None if theirs_s is None else desk.later(theirs_s)
    opener = await desk.claimed(PROVISIONING, "a", as_of=ours)
    await desk.finish(opener, desk.job("b-1"))
    before = await desk.operation(of=opener)
    assert isinstance(await desk.claim(PROVISIONING, "b", as_of=theirs), Duplicate)
    after = await desk.operation(of=opener)
    if wins:
        assert theirs is not None
        assert after.credentials == credentials("b", theirs)
    else:
        assert after == before


async def test_an_ended_operation_takes_no_newer_credentials(desk: Desk) -> None:
    """A duplicate of it changes no credentials, since no report would be sent with them."""
    opener = await desk.claimed(PROVISIONING, "a", key="k", as_of=desk.later(0))
    await desk.finish(opener, desk.job("b-1"))
    await desk.end(PROVISIONED, "done")
    before = await desk.operation("k")
    answer = await desk.claim(PROVISIONING, "b", key="k", as_of=desk.later(9))
    assert answer == Duplicate(opener.run.run_id)
    assert await desk.operation("k") == before


@pytest.mark.parametrize("job", [None, "b-1"])
async def test_the_request_key_of_an_ended_operation_is_a_duplicate(
    desk: Desk, job: str | None
) -> None:
    """It is one however the operation ended; another key opens the next one, if that is legal."""
    opener = await desk.claimed(PROVISIONING, "a", key="k")
    await desk.finish(opener, desk.job(job) if job else None)
    await desk.end(NOT_PROVISIONED, "done")
    assert await desk.claim(PROVISIONING, "b", key="k") == Duplicate(opener.run.run_id)
    assert await desk.tenant() == (TenantState.PROVISION_FAILED, None)
    await desk.claimed(PROVISIONING, "c", key="other")
    assert await desk.tenant() == (TenantState.PROVISIONING, operation_id("other"))


async def test_the_opener_of_an_ended_operation_does_not_join_itself(desk: Desk) -> None:
    """It failed after its job was recorded, and the job has ended since."""
    opener = await desk.claimed(PROVISIONING, "a")
    await desk.fail(opener, progress=Progress(job=desk.job("b-1")))
    await desk.end(PROVISIONED, "done")
    again = await desk.claimed(PROVISIONING, "a")
    assert again.run.job == desk.job("b-1")


async def test_an_opener_whose_operation_ended_without_a_job_is_a_duplicate(desk: Desk) -> None:
    """It failed, and an outcome has ended its operation since: there is nothing to continue."""
    await desk.fail(await desk.claimed(PROVISIONING, "a"), ends_without_job=False)
    outcome = await desk.end(PROVISIONED, "done")
    assert await desk.claim(PROVISIONING, "a") == Duplicate(outcome.run.run_id)


# --- force -----------------------------------------------------------------------------------


async def ended(desk: Desk) -> None:
    """The provisioning `k` was opened by `a`, joined by `b`, and is over."""
    opener = await desk.claimed(PROVISIONING, "a", key="k")
    await desk.finish(opener, desk.job("b-1"))
    await desk.claim(PROVISIONING, "b", key="k")
    await desk.end(PROVISIONED, "done")


@pytest.mark.parametrize("who", ["a", "b"])
async def test_force_reopens_an_ended_operation(desk: Desk, who: str) -> None:
    """It begins the next start number without steps, and inherits nothing."""
    await ended(desk)
    before = await desk.run(PROVISIONING, who)
    answer = await desk.claim(PROVISIONING, who, key="k", trigger=Trigger.REPLAY)
    assert answer == NeedsForce(before)
    forced = await desk.claimed(PROVISIONING, who, key="k", trigger=Trigger.FORCED_REPLAY)
    operation = await desk.operation("k")
    assert (operation.state, operation.start_number) == (OperationState.OPEN, 2)
    assert operation.opener == run_id(PROVISIONING, who)
    assert (operation.job, operation.outcome, operation.succeeded) == (None, None, None)
    assert (operation.former_state, operation.reason) == (TenantState.PROVISIONED, None)
    assert forced.start_key == f"{operation_id('k')}-2"
    assert (forced.run.attempt, forced.run.steps, forced.run.job) == (2, {}, None)
    assert (possible_until(forced), forced.run.duplicate_of) == (None, None)
    assert await desk.tenant() == (TenantState.PROVISIONING, operation_id("k"))


async def test_force_restarts_a_failed_opener(desk: Desk) -> None:
    """Its operation has ended: the next start has neither steps nor job of the last one."""
    opener = await desk.claimed(PROVISIONING, "a")
    step = Step(name="take", result=1, recorded_at=desk.clock.now())
    await desk.fail(opener, progress=Progress(steps=(step,), job=desk.job("b-1")))
    await desk.end(PROVISIONED, "done")
    forced = await desk.claimed(PROVISIONING, "a", trigger=Trigger.FORCED_REPLAY)
    assert (forced.run.steps, forced.run.job, forced.run.start_number) == ({}, None, 2)


@pytest.mark.parametrize("who", ["a", "b"])
async def test_force_waits_for_an_open_operation(desk: Desk, who: str) -> None:
    """Nothing is written or lost: the run stays as it is."""
    opener = await desk.claimed(PROVISIONING, "a", key="k")
    await desk.finish(opener, desk.job("b-1"))
    await desk.claim(PROVISIONING, "b", key="k")
    before = await desk.run(PROVISIONING, who)
    answer = await desk.claim(PROVISIONING, who, key="k", trigger=Trigger.FORCED_REPLAY)
    reason = f"The provisioning of run {opener.run.run_id} goes on."
    assert answer == Deferred(before.run_id, reason)
    assert await desk.run(PROVISIONING, who) == before


@pytest.mark.parametrize("is_swept", [False, True])
async def test_force_waits_until_the_opener_has_finished(desk: Desk, is_swept: bool) -> None:
    """Its job was adopted and is over, but its attempt still runs and may yet send a start."""
    await desk.claimed(PROVISIONING, "a", key="k")
    await adopt_job(
        desk.transactions, operation_id=operation_id("k"), number=1, job=desk.job("b-1")
    )
    await desk.claim(PROVISIONING, "b", key="k")
    await desk.end(PROVISIONED, "done")
    desk.turn(62 if is_swept else 0)
    who = "a" if is_swept else "b"
    answer = await desk.claim(PROVISIONING, who, key="k", trigger=Trigger.FORCED_REPLAY)
    assert answer == Deferred(run_id(PROVISIONING, who), f"The tenant {TENANT} is not at rest yet.")
    assert (await desk.operation("k")).start_number == 1
    desk.turn(62)
    await desk.finish(await desk.claimed(PROVISIONING, "a", key="k", trigger=Trigger.SWEEP))
    await desk.claimed(PROVISIONING, "b", key="k", trigger=Trigger.FORCED_REPLAY)
    assert (await desk.operation("k")).start_number == 2


async def test_force_waits_until_the_tenant_is_free(desk: Desk) -> None:
    """Another operation holds it by now, and force never opens a second one beside it."""
    await ended(desk)
    deploying = await desk.claimed(DEPLOYMENT, "d")
    before = await desk.run(PROVISIONING, "a")
    answer = await desk.claim(PROVISIONING, "a", key="k", trigger=Trigger.FORCED_REPLAY)
    assert isinstance(answer, Deferred)
    assert await desk.run(PROVISIONING, "a") == before
    assert await desk.tenant() == (TenantState.DEPLOYING, deploying.run.operation_id)


async def test_force_reopens_also_for_an_opener_that_is_forgotten(desk: Desk) -> None:
    """The opener's run has expired in the ledger, so no attempt of it can be in progress."""
    await ended(desk)
    over = await desk.operation("k")
    await desk.ledger.put(attrs.evolve(over, opener="long gone"))
    await desk.claimed(PROVISIONING, "a", key="k", trigger=Trigger.FORCED_REPLAY)
    assert (await desk.operation("k")).start_number == 2


async def test_a_plain_replay_of_an_unfinished_opener_continues(desk: Desk) -> None:
    """A replay of it continues with the same start, with and without force."""
    opener = await desk.claimed(PROVISIONING, "a", key="k")
    await desk.hand_back(opener)
    again = await desk.claimed(PROVISIONING, "a", key="k", trigger=Trigger.REPLAY)
    assert again.start_key == opener.start_key
    await desk.hand_back(again)
    forced = await desk.claimed(PROVISIONING, "a", key="k", trigger=Trigger.FORCED_REPLAY)
    assert forced.start_key == opener.start_key


# --- what waits ------------------------------------------------------------------------------


async def test_a_forced_replay_that_must_wait_is_not_kept(desk: Desk) -> None:
    """It would be tried again without its force: neither run nor place is written."""
    await desk.fail(await desk.claimed(PROVISIONING, "a"))
    await desk.stand(TenantState.PROVISIONED)
    await desk.claimed(DEPROVISIONING, "b")
    before = dict(desk.ledger._items)
    assert isinstance(await desk.claim(PROVISIONING, "a", trigger=Trigger.FORCED_REPLAY), Deferred)
    assert desk.ledger._items == before


@pytest.mark.parametrize("event_id", ["waits", "is refused"])
async def test_whatever_a_first_claim_comes_to_its_event_is_kept(desk: Desk, event_id: str) -> None:
    """A run without its event could never be tried again."""
    await desk.provision("a")
    if event_id == "waits":
        answer = await desk.claim(DEPROVISIONING, event_id)
        assert isinstance(answer, Deferred)
    else:
        answer = await desk.claim(PROVISIONING, event_id, contradiction="two tenants")
        assert isinstance(answer, Refused)
    event_type = DEPROVISIONING if event_id == "waits" else PROVISIONING
    run = await desk.run(event_type, event_id)
    assert (await desk.transactions.find_kept(run.run_id))[1] is not None
