"""Breakdowns: what is counted, which run ends by its records, and what that does to a tenant."""

from typing import Any

import attrs
import pytest

from orchestrator.core.errors import TakenOver
from orchestrator.core.events.event import OWN_SOURCE
from orchestrator.core.events.event_types import ENDS
from orchestrator.core.ledger.breakdowns import USED_UP, Breakdown, count
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.claim_result import Deferred
from orchestrator.core.ledger.event_codec import encode_event
from orchestrator.core.ledger.history import BROKE_DOWN
from orchestrator.core.ledger.lease import RunLease, claim_by_records
from orchestrator.core.ledger.operations import Adopted, replace
from orchestrator.core.ledger.record_parts import Failure
from orchestrator.core.ledger.records import Progress, RunRecord, RunStatus, payload_key
from tests.desk import (
    DEPROVISIONED,
    DEPROVISIONING,
    NOT_PROVISIONED,
    ORDER,
    PROVISIONED,
    PROVISIONING,
    TIMINGS,
    Desk,
    adopt_job,
    event,
    follow_up,
    possible_until,
    run_id,
)
from tests.unit.core.ledger.by_records import last_attempt, our_outcome

MAX_ATTEMPTS = 3


async def break_down(
    desk: Desk, event_type: str = PROVISIONING, event_id: str = "a", **options: Any
) -> RunRecord | None:
    """Count an attempt at the run that raised; the stored run, or None if it isn't counted."""
    options = {"run_id": run_id(event_type, event_id), "cause": "KeyError", **options}
    breakdown = Breakdown(**options)
    timings = attrs.evolve(desk.timings, max_attempts=MAX_ATTEMPTS)
    return await desk.transactions.run(lambda snapshot: count(snapshot, breakdown, timings))


async def use_up(desk: Desk, event_type: str, event_id: str) -> RunRecord:
    """Break the claim down until no attempt is left."""
    for _ in range(MAX_ATTEMPTS):
        run = await break_down(desk, event_type, event_id)
    assert run is not None
    return run


async def test_a_breakdown_of_an_attempt_is_a_bug_of_its_run(desk: Desk) -> None:
    """It is tried again after a pause that doubles; the cause is kept by its class alone."""
    await desk.claimed(ORDER, "a")
    run = await break_down(desk, ORDER, attempt=1)
    assert run is not None
    assert (run.status, run.attempt, run.bugs, run.ends_by_records) == ("retry", 1, 1, False)
    assert run.error == Failure(type="KeyError", message=BROKE_DOWN)
    assert run.due_at == desk.later(5)
    desk.turn(5)
    await desk.claimed(ORDER, "a", trigger=Trigger.SWEEP)
    run = await break_down(desk, ORDER, attempt=2)
    assert run is not None
    assert run.due_at == desk.later(10)


async def test_a_breakdown_counts_as_a_take_over(desk: Desk) -> None:
    """A start may have been sent up to the lease's end, to any builder."""
    await desk.claimed(PROVISIONING, "a")
    lease_until = desk.later(TIMINGS.lease_s)
    run = await break_down(desk, attempt=1)
    assert run is not None
    assert (run.possible_until, run.sent_to, run.sent_job) == (lease_until, None, None)


async def test_only_the_attempt_that_broke_down_is_counted(desk: Desk) -> None:
    """An attempt that lost the run, or has settled it, isn't counted."""
    await desk.claimed(ORDER, "a")
    second = await desk.taken_over(ORDER, "a")
    assert await break_down(desk, ORDER, attempt=1) is None
    await desk.finish(second)
    assert await break_down(desk, ORDER, attempt=2) is None
    assert (await desk.run(ORDER, "a")).bugs == 0


async def test_a_claim_that_raised_is_counted_unless_an_attempt_holds_the_run(desk: Desk) -> None:
    """It isn't counted under a live lease, and by the sweep only once the run is due."""
    attempt = await desk.claimed(ORDER, "a")
    assert await break_down(desk, ORDER) is None
    await desk.hand_back(attempt, pause_s=20)
    assert await break_down(desk, ORDER, trigger=Trigger.SWEEP) is None
    desk.turn(20)
    run = await break_down(desk, ORDER, trigger=Trigger.SWEEP)
    assert run is not None
    assert (run.status, run.attempt, run.bugs) == ("retry", 1, 1)
    assert await break_down(desk, ORDER, trigger=Trigger.SWEEP) is None


async def test_a_claim_that_broke_down_forgets_no_start(desk: Desk) -> None:
    """What an attempt whose process crashed may have sent is still possible."""
    attempt = await desk.claimed(PROVISIONING, "a")
    desk.turn(TIMINGS.lease_s + TIMINGS.skew_s)
    run = await break_down(desk)
    assert run is not None
    assert run.possible_until == attempt.run.lease_until


@pytest.mark.parametrize(
    ("status", "trigger", "counts"),
    [
        (RunStatus.SUCCEEDED, Trigger.DELIVERY, False),
        (RunStatus.FAILED, Trigger.DELIVERY, True),
        (RunStatus.FAILED, Trigger.REPLAY, False),
        (RunStatus.QUEUED, Trigger.DELIVERY, True),
        (RunStatus.RETRY, Trigger.REPLAY, True),
    ],
)
async def test_a_finished_run_is_not_counted(
    desk: Desk, status: RunStatus, trigger: Trigger, counts: bool
) -> None:
    """A succeeded or cancelled run isn't counted; a failed one that is delivered again is."""
    attempt = await desk.claimed(ORDER, "a")
    await desk.ledger.put(attrs.evolve(attempt.run, status=status, lease_until=None, due_at=None))
    assert (await break_down(desk, ORDER, trigger=trigger) is not None) is counts


async def test_an_operators_cancel_is_not_taken_back_by_a_breakdown(desk: Desk) -> None:
    """Only an operator may have a cancelled run tried again."""
    attempt = await desk.claimed(PROVISIONING, "a")
    await desk.fail(attempt, error=Failure(type="Cancelled", message="Cancelled."))
    assert await break_down(desk) is None


async def test_of_an_unknown_event_nothing_is_kept(desk: Desk) -> None:
    """Its sender sends it again; a run that can't be claimed must not be due."""
    assert await break_down(desk, ORDER, outcome=event(ORDER, "a")) is None
    assert desk.ledger._items == {}


async def test_an_outcome_of_our_own_is_kept_by_its_first_breakdown(desk: Desk) -> None:
    """No sender would send it again; once its start is over, nothing is kept."""
    opener = await desk.provision()
    ours = our_outcome(opener)
    run = await break_down(desk, run_id=ours.key, outcome=ours)
    assert run is not None
    assert (run.status, run.bugs, run.tenant_id) == ("retry", 1, "t-1")
    assert await desk.ledger.load([payload_key(ours.key)]) == {payload_key(ours.key): None}
    late = attrs.evolve(ours, id="x-9", ends_start=f"{opener.run.operation_id}-9")
    assert await break_down(desk, run_id=late.key, outcome=late) is None


async def test_the_last_breakdown_leaves_a_run_to_its_records(desk: Desk) -> None:
    """It is due at once, for an attempt that only ends it."""
    attempt = await desk.claimed(ORDER, "a")
    await desk.hand_back(attempt)
    run = await use_up(desk, ORDER, "a")
    assert (run.ends_by_records, run.due_at) == (True, desk.clock.now())
    assert run.error == Failure(type="KeyError", message=USED_UP)
    last = await claim_by_records(desk.transactions, run.run_id)
    assert last is not None
    assert (last.run.attempt, last.run.error) == (2, run.error)
    assert await claim_by_records(desk.transactions, run.run_id) is None


async def test_a_failed_run_that_is_redelivered_is_a_new_attempt(desk: Desk) -> None:
    """After its end by the records a redelivery is attempted, since the cause may be fixed."""
    await desk.hand_back(await desk.claimed(ORDER, "a"))
    await use_up(desk, ORDER, "a")
    last = await claim_by_records(desk.transactions, run_id(ORDER, "a"))
    assert last is not None
    await desk.fail(last)
    again = await desk.claimed(ORDER, "a")
    assert (again.run.attempt, again.run.ends_by_records) == (3, False)


async def test_a_run_that_ends_by_its_records_sends_no_start(desk: Desk) -> None:
    """However often the attempt that ends it is taken over: time and builder of the last possible
    send stay."""
    attempt = await desk.claimed(PROVISIONING, "a")
    await desk.hand_back(attempt, possible_until=desk.clock.now(), sent_to="FIRST")
    run = await use_up(desk, PROVISIONING, "a")
    await claim_by_records(desk.transactions, run.run_id)
    desk.turn(TIMINGS.lease_s + TIMINGS.skew_s)
    last = await claim_by_records(desk.transactions, run.run_id)
    assert last is not None
    assert possible_until(last) == run.possible_until == attempt.run.possible_until
    assert (last.run.sent_to, run.sent_to) == ("FIRST", "FIRST")


@pytest.mark.parametrize("died", [TIMINGS.max_takeovers - 1, TIMINGS.max_takeovers])
async def test_a_run_whose_holders_die_ends_by_its_records(desk: Desk, died: int) -> None:
    """It ends after `runs.max_takeovers` in a row, before it kills one process after the other."""
    await desk.claimed(ORDER, "a")
    for _ in range(died):
        attempt = await desk.taken_over(ORDER, "a")
    assert attempt.run.ends_by_records is (died == TIMINGS.max_takeovers)


async def test_a_word_of_a_holder_ends_the_row_of_deaths(desk: Desk) -> None:
    """An attempt that hands its run back ends the row of take-overs, however long the run takes."""
    await desk.claimed(ORDER, "a")
    for _ in range(TIMINGS.max_takeovers - 1):
        attempt = await desk.taken_over(ORDER, "a")
    await desk.hand_back(attempt)
    attempt = await desk.claimed(ORDER, "a")
    assert attempt.run.takeovers == 0
    assert not (await desk.taken_over(ORDER, "a")).run.ends_by_records


async def test_a_clean_up_that_never_began_is_known_by_its_records(desk: Desk) -> None:
    """Its operation was opened with the failure's settlement; its own run doesn't name it yet."""
    await desk.provision()
    outcome = await desk.claimed("TENANT_PROVISIONING_FAILURE", "failed", job="b-1")
    clean_up = follow_up("TENANT_CLEAN_UP", "clean", outcome.run.operation_id)
    await desk.finish(outcome, ending=ENDS["TENANT_PROVISIONING_FAILURE"], clean_up=clean_up)
    assert (await desk.tenant())[0] == "cleaning_up"
    await use_up(desk, "TENANT_CLEAN_UP", "clean")
    last = await claim_by_records(desk.transactions, clean_up.event.key)
    assert last is not None
    await last.go_on_by_records()
    await desk.fail(last)
    assert await desk.tenant() == ("provision_failed", None)


async def test_a_run_that_waits_for_a_tenant_ends_alone(desk: Desk) -> None:
    """The operation that holds the tenant belongs to another run, and stays."""
    opener = await desk.claimed(PROVISIONING, "a")
    assert isinstance(await desk.claim(DEPROVISIONING, "b"), Deferred)
    await use_up(desk, DEPROVISIONING, "b")
    last = await claim_by_records(desk.transactions, run_id(DEPROVISIONING, "b"))
    assert last is not None
    await last.go_on_by_records()
    await desk.fail(last)
    assert await desk.tenant() == ("provisioning", opener.run.operation_id)


async def test_an_end_is_left_to_the_outcome_that_was_claimed_for_it(desk: Desk) -> None:
    """An outcome of our own ends nothing while another outcome of the operation is in progress."""
    opener = await desk.provision()
    other = await desk.claimed(PROVISIONED, "other", job="b-1")
    ours = our_outcome(opener)
    for _ in range(MAX_ATTEMPTS):
        await break_down(desk, run_id=ours.key, outcome=ours)
    last = await claim_by_records(desk.transactions, ours.key)
    assert last is not None
    await last.go_on_by_records()
    assert last.run.outcome_of is None
    assert (await desk.operation(of=opener)).outcome == other.run.run_id


async def test_an_end_of_an_earlier_start_ends_no_later_one(desk: Desk) -> None:
    """Its operation was ended by others meanwhile, and opened again under the next number."""
    opener = await desk.provision()
    ours = our_outcome(opener)
    await break_down(desk, run_id=ours.key, outcome=ours)
    await desk.end(PROVISIONED, "other", job="b-1")
    again = await desk.claimed(PROVISIONING, "opener", trigger=Trigger.FORCED_REPLAY)
    await desk.finish(again, desk.job("b-2"))
    for _ in range(MAX_ATTEMPTS - 1):
        await break_down(desk, run_id=ours.key, outcome=ours)
    last = await claim_by_records(desk.transactions, ours.key)
    assert last is not None
    await last.go_on_by_records()
    operation = await desk.operation(of=opener)
    assert (operation.start_number, operation.outcome, last.run.outcome_of) == (2, None, None)


async def test_an_end_of_a_job_that_was_built_again_ends_no_newer_one(desk: Desk) -> None:
    """The builder has built the job again since: its end by the records ends nothing, and one that
    breaks down only now isn't kept."""
    opener = await desk.provision()
    ours = our_outcome(opener)
    for _ in range(MAX_ATTEMPTS):
        await break_down(desk, run_id=ours.key, outcome=ours)
    operation, newer = await desk.operation(of=opener), desk.job("b-2")
    assert operation.job is not None
    former = operation.job
    replaced = await desk.transactions.run(
        lambda snapshot: replace(snapshot, operation.operation_id, 1, former, newer, desk.timings)
    )
    assert replaced is not None
    last = await claim_by_records(desk.transactions, ours.key)
    assert last is not None
    await last.go_on_by_records()
    assert (last.run.outcome_of, (await desk.operation(of=opener)).outcome) == (None, None)
    late = attrs.evolve(ours, type=NOT_PROVISIONED)
    assert await break_down(desk, run_id=late.key, outcome=late) is None
    present = attrs.evolve(late, id=replaced.outcome_id)
    assert await break_down(desk, run_id=present.key, outcome=present) is not None


# --- what a breakdown leaves of a run ----------------------------------------------------------


async def test_a_run_that_ends_by_its_records_does_so_after_one_more_breakdown(desk: Desk) -> None:
    """It gets no ordinary attempt any more, however few of its attempts a bug has ended."""
    attempt = await desk.claimed(ORDER, "a")
    await desk.ledger.put(attrs.evolve(attempt.run, ends_by_records=True))
    run = await break_down(desk, ORDER, attempt=1)
    assert run is not None
    assert (run.bugs, run.ends_by_records, run.due_at) == (1, True, desk.clock.now())


async def test_a_run_with_a_job_has_no_start_out_after_a_breakdown(desk: Desk) -> None:
    """A start that was answered with a job isn't possible any more."""
    attempt = await desk.claimed(ORDER, "a")
    await attempt.record(Progress(job=desk.job("b-1")))
    run = await break_down(desk, ORDER, attempt=1)
    assert run is not None
    assert (run.job, run.possible_until) == (desk.job("b-1"), None)


@pytest.mark.parametrize(("attempt", "known"), [(None, ("FIRST", "standard")), (2, (None, None))])
async def test_only_a_run_without_an_attempt_is_known_to_have_sent_nothing_more(
    desk: Desk, attempt: int | None, known: tuple[str | None, str | None]
) -> None:
    """A failed claim leaves the builder and job identifier of the last start as they are; an
    attempt that broke down may have sent another start, to any builder."""
    first = await desk.claimed(PROVISIONING, "a")
    await desk.hand_back(
        first, possible_until=desk.clock.now(), sent_to="FIRST", sent_job="standard"
    )
    if attempt is not None:
        await desk.claimed(PROVISIONING, "a")
    run = await break_down(desk, attempt=attempt)
    assert run is not None
    assert (run.sent_to, run.sent_job) == known


async def test_an_outcome_of_our_own_is_kept_with_its_payload(desk: Desk) -> None:
    """Its first breakdown stores both: no sender would deliver it again."""
    ours = our_outcome(await desk.provision())
    payload = encode_event(ours)
    assert await break_down(desk, run_id=ours.key, outcome=ours, payload=payload) is not None
    kept = (await desk.transactions.find_kept(ours.key))[1]
    assert kept == attrs.evolve(payload, version=1)


@pytest.mark.parametrize("is_its_own", [True, False])
async def test_a_claim_of_another_body_is_not_counted(desk: Desk, is_its_own: bool) -> None:
    """An event that only has the run's key has nothing to do with the run."""
    attempt = await desk.claimed(ORDER, "a")
    await desk.hand_back(attempt)
    delivered = event(ORDER, "a", body=None if is_its_own else {"tenantId": "another"})
    counted = await break_down(desk, ORDER, delivered=delivered)
    assert (counted is not None) is is_its_own


# --- which run ends by its records ---------------------------------------------------------------


async def test_a_run_with_attempts_left_is_not_ended_by_its_records(desk: Desk) -> None:
    """A run with attempts left is resumed by its event."""
    await desk.hand_back(await desk.claimed(ORDER, "a"), pause_s=0)
    assert await claim_by_records(desk.transactions, run_id(ORDER, "a")) is None
    assert await claim_by_records(desk.transactions, "unknown") is None


async def test_an_end_by_the_records_waits_until_it_is_due(desk: Desk) -> None:
    """An attempt that ends a run by its records is not repeated before its pause is over."""
    await desk.hand_back(await desk.claimed(ORDER, "a"))
    run = await use_up(desk, ORDER, "a")
    await desk.hand_back(await last_attempt(desk, run), pause_s=5)
    assert await claim_by_records(desk.transactions, run.run_id) is None
    desk.turn(5)
    again = await claim_by_records(desk.transactions, run.run_id)
    assert again is not None
    assert again.run.ends_by_records


async def test_a_live_lease_outranks_the_time_at_which_a_run_is_due(desk: Desk) -> None:
    """A process that allows less skew wrote that time: the run is still held by another one."""
    attempt = await desk.claimed(ORDER, "a")
    held = attrs.evolve(attempt.run, ends_by_records=True, due_at=attempt.run.lease_until)
    await desk.ledger.put(held)
    desk.turn(TIMINGS.lease_s)
    assert await claim_by_records(desk.transactions, held.run_id) is None
    desk.turn(TIMINGS.skew_s)
    assert await claim_by_records(desk.transactions, held.run_id) is not None


@pytest.mark.parametrize("write", ["go_on_by_records", "fail_alone"])
async def test_an_attempt_that_lost_its_lease_ends_nothing_by_the_records(
    desk: Desk, write: str
) -> None:
    """Only the attempt that has claimed the run since may end it."""
    opener = await desk.claimed(PROVISIONING, "a")
    await desk.ledger.put(attrs.evolve(opener.run, ends_by_records=True))
    desk.turn(TIMINGS.lease_s + TIMINGS.skew_s)
    first = await claim_by_records(desk.transactions, opener.run.run_id)
    desk.turn(TIMINGS.lease_s + TIMINGS.skew_s)
    assert first is not None
    assert await claim_by_records(desk.transactions, opener.run.run_id) is not None
    await adopt_the_job(desk, opener)
    before = await desk.run(PROVISIONING, "a")
    no = Failure(type="PermanentError", message="no")
    with pytest.raises(TakenOver):
        await (first.go_on_by_records() if write != "fail_alone" else first.fail_alone(no, "no"))
    assert await desk.run(PROVISIONING, "a") == before


# --- what such a run ends ----------------------------------------------------------------------


async def adopt_the_job(desk: Desk, opener: RunLease) -> None:
    """The builder reports the opener's job b-1, which isn't recorded in the run."""
    adopted = await adopt_job(
        desk.transactions,
        operation_id=opener.run.operation_id,
        number=opener.run.start_number,
        job=desk.job("b-1"),
    )
    assert isinstance(adopted, Adopted)


async def test_an_opener_finds_the_job_that_its_operation_has(desk: Desk) -> None:
    """It was adopted from a message: its operation continues, and the run shows the job."""
    opener = await desk.claimed(PROVISIONING, "a")
    await adopt_the_job(desk, opener)
    desk.turn(TIMINGS.lease_s + TIMINGS.skew_s)
    last = await last_attempt(desk, await use_up(desk, PROVISIONING, "a"))
    assert last.run.job == desk.job("b-1")
    assert (await desk.run(PROVISIONING, "a")).job == desk.job("b-1")


async def test_an_opener_gets_nothing_from_an_operation_that_has_ended(desk: Desk) -> None:
    """The run gets no job of an operation that its job has ended meanwhile."""
    opener = await desk.claimed(PROVISIONING, "a")
    await adopt_the_job(desk, opener)
    await desk.end(PROVISIONED, "done")
    desk.turn(TIMINGS.lease_s + TIMINGS.skew_s)
    last = await last_attempt(desk, await use_up(desk, PROVISIONING, "a"))
    assert last.run.job is None


async def test_a_second_request_takes_nothing_of_the_first_ones_operation(desk: Desk) -> None:
    """It waited for the operation under its own request key, which another run has opened."""
    opener = await desk.claimed(PROVISIONING, "a", key="k")
    assert isinstance(await desk.claim(PROVISIONING, "b", key="k"), Deferred)
    await opener.record(Progress(job=desk.job("b-1")))
    last = await last_attempt(desk, await use_up(desk, PROVISIONING, "b"))
    assert last.run.job is None


@pytest.mark.parametrize(
    ("event_type", "source", "ends"),
    [
        (PROVISIONED, OWN_SOURCE, True),
        (PROVISIONED, "control-plane", False),
        (DEPROVISIONED, OWN_SOURCE, False),
    ],
)
async def test_only_our_own_outcome_of_its_kind_ends_an_operation_by_the_records(
    desk: Desk, event_type: str, source: str, ends: bool
) -> None:
    """Any sender can use the id of our event; an outcome of another kind ends nothing."""
    opener = await desk.provision()
    outcome = attrs.evolve(our_outcome(opener, event_type), source=source)
    if source != OWN_SOURCE:
        outcome = attrs.evolve(outcome, ends_start=None)
    for _ in range(MAX_ATTEMPTS):
        run = await break_down(desk, run_id=outcome.key, outcome=outcome)
    assert run is not None
    last = await last_attempt(desk, run)
    assert (last.run.outcome_of == opener.run.operation_id) is ends
    assert (await desk.operation(of=opener)).outcome == (outcome.key if ends else None)
