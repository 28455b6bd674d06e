"""Transactions: one attempt at a time holds a run, and decisions rest on current items."""

from typing import Any

import attrs
import pytest

from orchestrator.core.errors import EventTooLarge, TemporaryError
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.claim_result import (
    BodyDiffers,
    Duplicate,
    InProgress,
    NeedsForce,
    NotDue,
    Refused,
)
from orchestrator.core.ledger.lease import RunLease
from orchestrator.core.ledger.ledger import Conflict
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.record_parts import Failure
from orchestrator.core.ledger.records import Progress, run_key
from orchestrator.core.ledger.snapshot import Decision, Snapshot
from tests.desk import (
    DEPLOYMENT,
    ORDER,
    PROVISIONED,
    PROVISIONING,
    SENT_AT,
    TENANT,
    Desk,
    follow_up,
    operation_id,
    possible_until,
    run_id,
    step,
)

# --- the run ---------------------------------------------------------------------------------


async def test_a_new_event_gets_a_run_under_a_lease(desk: Desk) -> None:
    """First attempt, everything from the event, and due once the lease is surely over."""
    attempt = await desk.claimed(ORDER, "a", body={"x": 1})
    run, now = attempt.run, desk.clock.now()
    assert (run.run_id, run.request_key) == (run_id(ORDER, "a"),) * 2
    assert (run.event_type, run.source, run.event_id) == (ORDER, "control-plane", "a")
    assert (run.event_time, run.tenant_id) == (SENT_AT, TENANT)
    assert (run.status, run.attempt, run.start_number) == ("running", 1, 1)
    assert (run.first_seen, run.started_at, run.ended_at) == (now, now, None)
    assert (run.lease_until, run.due_at) == (desk.later(60), desk.later(62))
    assert (run.possible_until, run.outcome_of, run.steps) == (None, None, {})
    kept = await desk.run(ORDER, "a")
    assert attrs.evolve(run, version=1) == kept
    payload = (await desk.transactions.find_kept(run.run_id))[1]
    assert payload is not None
    assert payload.data == desk.request(ORDER, "a", body={"x": 1}).payload.data


@pytest.mark.parametrize("options", [{"tenant_id": None}, {"event_type": ORDER}])
async def test_an_event_that_opens_nothing_has_starts_of_its_own(
    desk: Desk, options: dict[str, Any]
) -> None:
    """Its run works alone and holds no tenant, without a tenant or if its type opens nothing."""
    event_type = options.pop("event_type", PROVISIONING)
    attempt = await desk.claimed(event_type, "a", **options)
    assert attempt.run.operation_id not in (operation_id("a"), run_id(event_type, "a"))
    assert await attempt.find_operation() is None
    assert await desk.tenant() == (None, None)


@pytest.mark.parametrize(
    ("passed_s", "behind_s", "free"),
    [(0, 0, False), (61.999, 0, False), (62, 0, True), (64, 2.5, False), (64, 2, True)],
)
async def test_a_run_under_a_live_lease_is_in_progress(
    desk: Desk, passed_s: float, behind_s: float, free: bool
) -> None:
    """No process takes it over before `skew_s` after the lease, by its own clock."""
    await desk.claimed(ORDER, "a")
    before = await desk.run(ORDER, "a")
    desk.turn(passed_s)
    answer = await desk.beside(clock_behind_s=behind_s).claim(ORDER, "a")
    if free:
        assert isinstance(answer, RunLease)
        assert answer.run.attempt == 2
    else:
        assert answer == InProgress(before)
        assert await desk.run(ORDER, "a") == before


async def test_only_one_of_two_gets_a_new_event(desk: Desk) -> None:
    """The other process claimed it between our read and our write, and keeps it."""
    other = desk.beside()
    desk.ledger.before_commit.append(lambda: other.claimed(PROVISIONING, "a"))
    answer = await desk.claim(PROVISIONING, "a")
    assert isinstance(answer, InProgress)
    assert answer.run.attempt == 1


async def test_only_one_of_two_takes_a_run_over(desk: Desk) -> None:
    """The other process claimed a run whose lease is over between our read and our write."""
    await desk.claimed(ORDER, "a")
    desk.turn(62)
    other = desk.beside()
    desk.ledger.before_commit.append(lambda: other.claimed(ORDER, "a"))
    assert isinstance(await desk.claim(ORDER, "a"), InProgress)
    assert (await desk.run(ORDER, "a")).attempt == 2


async def test_the_next_attempt_forgets_how_the_last_one_ended(desk: Desk) -> None:
    """Steps, pauses and bugs stay; error, note and end go; the lease is new."""
    first = await desk.claimed(ORDER, "a")
    bug = Failure(type="ValueError", message="no", traceback="…")
    await desk.hand_back(first, progress=Progress(steps=(step(desk),)), error=bug)
    desk.turn(5)
    again = await desk.claimed(ORDER, "a", trigger=Trigger.SWEEP)
    run = again.run
    assert (run.attempt, run.status, run.waits, run.bugs) == (2, "running", 1, 1)
    assert (run.error, run.note, run.ended_at) == (None, None, None)
    assert list(run.steps) == ["take"]
    assert (run.started_at, run.lease_until) == (desk.clock.now(), desk.later(60))
    assert run.first_seen == first.run.first_seen


async def test_an_attempt_that_was_taken_over_may_have_sent_a_start(desk: Desk) -> None:
    """A start is possible up to the lease's end; an attempt that is handed back says it itself."""
    first = await desk.claimed(ORDER, "a")
    second = await desk.taken_over(ORDER, "a")
    assert possible_until(second) == second.run.possible_until == first.run.lease_until
    await desk.hand_back(second, possible_until=None)
    third = await desk.claimed(ORDER, "a")
    assert possible_until(third) is None
    await desk.hand_back(third, possible_until=desk.later(-7))
    assert possible_until(await desk.claimed(ORDER, "a")) == desk.later(-7)


async def test_a_run_with_a_job_has_no_start_out(desk: Desk) -> None:
    """Its start is answered: there is nothing to look up."""
    first = await desk.claimed(ORDER, "a")
    await first.record(Progress(job=desk.job("b-1")))
    second = await desk.taken_over(ORDER, "a")
    assert (second.run.job, possible_until(second)) == (desk.job("b-1"), None)


@pytest.mark.parametrize("trigger", list(Trigger))
async def test_another_body_under_the_same_key_is_refused(desk: Desk, trigger: Trigger) -> None:
    """It is refused before any other check, and nothing is written."""
    await desk.claimed(ORDER, "a")
    before = await desk.run(ORDER, "a")
    desk.turn(100)
    assert await desk.claim(ORDER, "a", body={"x": 2}, trigger=trigger) == BodyDiffers(before)
    assert await desk.run(ORDER, "a") == before


@pytest.mark.parametrize(
    ("passed_s", "trigger", "is_taken"),
    [
        (4.999, Trigger.SWEEP, False),
        (5, Trigger.SWEEP, True),
        (0, Trigger.DELIVERY, True),
        (0, Trigger.REPLAY, True),
        (0, Trigger.FORCED_REPLAY, True),
    ],
)
async def test_the_sweep_alone_waits_until_a_run_is_due(
    desk: Desk, passed_s: float, trigger: Trigger, is_taken: bool
) -> None:
    """A redelivery or a replay is attempted at once."""
    await desk.hand_back(await desk.claimed(ORDER, "a"), pause_s=5)
    desk.turn(passed_s)
    answer = await desk.claim(ORDER, "a", trigger=trigger)
    assert isinstance(answer, RunLease if is_taken else NotDue)


async def test_the_sweep_skips_a_run_that_has_finished(desk: Desk) -> None:
    """The index proposed it, and another process has finished it since."""
    await desk.finish(await desk.claimed(ORDER, "a"))
    assert isinstance(await desk.claim(ORDER, "a", trigger=Trigger.SWEEP), NotDue)


@pytest.mark.parametrize("trigger", [Trigger.DELIVERY, Trigger.REPLAY, Trigger.FORCED_REPLAY])
async def test_a_failed_run_gets_a_new_attempt(desk: Desk, trigger: Trigger) -> None:
    """Whatever triggers it, the remembered steps are kept, also with force."""
    first = await desk.claimed(ORDER, "a")
    await desk.fail(first, ends_without_job=False, progress=Progress(steps=(step(desk),)))
    again = await desk.claimed(ORDER, "a", trigger=trigger)
    assert (again.run.attempt, list(again.run.steps)) == (2, ["take"])
    assert again.start_key == first.start_key


async def test_a_finished_event_is_a_duplicate_and_needs_force(desk: Desk) -> None:
    """Delivered: the first run answers. Replayed: only with force."""
    first = await desk.claimed(ORDER, "a")
    await desk.finish(first)
    before = await desk.run(ORDER, "a")
    assert await desk.claim(ORDER, "a") == Duplicate(first.run.run_id)
    assert await desk.claim(ORDER, "a", trigger=Trigger.REPLAY) == NeedsForce(before)
    assert await desk.run(ORDER, "a") == before


@pytest.mark.parametrize("job", [None, "b-1"])
async def test_force_restarts_a_finished_run(desk: Desk, job: str | None) -> None:
    """Nothing is kept but the number of attempts; the next start has another number."""
    bug = Failure(type="ValueError", message="no", traceback="…")
    await desk.hand_back(await desk.claimed(ORDER, "a"), error=bug)
    second = await desk.claimed(ORDER, "a")
    await second.record(Progress(steps=(step(desk),)))
    await desk.finish(second, desk.job(job) if job else None, possible_until=desk.clock.now())
    run = (await desk.claimed(ORDER, "a", trigger=Trigger.FORCED_REPLAY)).run
    assert (run.attempt, run.steps, run.job) == (3, {}, None)
    assert (run.start_number, run.possible_until) == (2, None)
    assert (run.waits, run.bugs) == (0, 0)


# --- requests --------------------------------------------------------------------------------


@pytest.mark.parametrize("event_type", [PROVISIONING, ORDER])
async def test_a_fresh_event_costs_two_requests(desk: Desk, event_type: str) -> None:
    """One for its claim, one for its settlement with job and follow-up; a duplicate costs one."""
    attempt = await desk.claimed(event_type, "a")
    assert desk.ledger.requests == ["commit"]
    after = follow_up(PROVISIONED, "own", "op")
    await desk.finish(attempt, desk.job("b-1"), follow_ups=(after,))
    assert desk.ledger.requests == ["commit", "commit"]
    assert await desk.claim(event_type, "a") == Duplicate(attempt.run.run_id)
    assert desk.ledger.requests == ["commit", "commit", "commit"]


async def test_an_events_payload_is_written_once(desk: Desk) -> None:
    """The first claim of its run writes it, and no later claim does."""
    attempt = await desk.claimed(ORDER, "a")
    await desk.hand_back(attempt)
    await desk.claimed(ORDER, "a")
    kept = (await desk.transactions.find_kept(attempt.run.run_id))[1]
    assert kept is not None
    assert kept.version == 1


async def test_a_payload_that_does_not_fit_is_refused_before_the_claim(desk: Desk) -> None:
    """A payload up to the ledger's limit is stored; beyond it nothing is written."""
    size = len(desk.request(ORDER, "a").payload.data)
    desk.ledger.max_payload_bytes = size - 1
    with pytest.raises(EventTooLarge, match=f"{size} bytes as stored, at most {size - 1}"):
        await desk.claim(ORDER, "a")
    assert desk.ledger.requests == []
    desk.ledger.max_payload_bytes = size
    await desk.claimed(ORDER, "a")


async def test_a_payload_that_outlived_its_run_is_no_hindrance(desk: Desk) -> None:
    """A ledger may delete an expired run before its payload, which is then overwritten."""
    payload = desk.request(ORDER, "a").payload
    await desk.ledger.put(attrs.evolve(payload, data=b"of old"))
    attempt = await desk.claimed(ORDER, "a")
    assert attempt.run.attempt == 1
    kept = (await desk.transactions.find_kept(attempt.run.run_id))[1]
    assert kept == attrs.evolve(payload, version=2)
    again = follow_up(PROVISIONED, "own", "op")
    await desk.ledger.put(attrs.evolve(again.payload, data=b"of old"))
    await desk.finish(attempt, follow_ups=(again,))
    assert (await desk.transactions.find_kept(again.event.key))[1] == attrs.evolve(
        again.payload, version=2
    )


async def test_a_decision_that_always_conflicts_is_given_up(desk: Desk) -> None:
    """After so many conflicts it fails with a temporary error, and nothing is written."""
    absent = {run_key(run_id(ORDER, "a")): None}
    desk.ledger.failures = [Conflict(absent)] * 100
    with pytest.raises(TemporaryError, match="at once"):
        await desk.claim(ORDER, "a")
    desk.ledger.failures = [Conflict(absent)] * 5
    await desk.claimed(ORDER, "a")


async def test_a_refusal_is_decided_on_current_items(desk: Desk) -> None:
    """A decision to write nothing is no commit, so the items that it used are read again."""
    attempt = await desk.claimed(ORDER, "a")
    snapshot = Snapshot(desk.clock.now())

    def is_there(snapshot: Snapshot) -> Decision[bool]:
        run = snapshot.run(attempt.run.run_id, expect_absent=True)
        return Decision((), run is not None)

    assert await desk.transactions.run(is_there, snapshot) is True
    await desk.finish(attempt)
    snapshot.turn_to(desk.later(1))

    def status(snapshot: Snapshot) -> Decision[str]:
        run = snapshot.run(attempt.run.run_id)
        return Decision((), run.status if run else "none")

    assert await desk.transactions.run(status, snapshot) == "succeeded"


async def test_items_that_were_read_must_be_unchanged(desk: Desk) -> None:
    """Also an item that is only read must be: the tenant was busy when that was decided, and is
    free now."""
    await desk.provision()
    other = desk.beside()
    looked = desk.claim(DEPLOYMENT, "a", tier="BASIC")

    async def meanwhile() -> None:
        desk.ledger.before_commit.append(lambda: other.end(PROVISIONED, "done"))

    desk.ledger.before_commit.append(meanwhile)
    assert isinstance(await looked, RunLease)
    assert (await desk.tenant())[0] is TenantState.DEPLOYING


# --- the order of a claim's checks ----------------------------------------------------------------


async def test_another_body_is_refused_before_anything_else(desk: Desk) -> None:
    """Its sender must not retry without end, also while another attempt holds the run."""
    await desk.claimed(ORDER, "a", body={"x": 1})
    assert isinstance(await desk.claim(ORDER, "a", body={"x": 2}), BodyDiffers)
    assert isinstance(
        await desk.claim(ORDER, "a", body={"x": 2}, trigger=Trigger.SWEEP), BodyDiffers
    )


async def test_a_live_lease_is_checked_before_the_due_time(desk: Desk) -> None:
    """A running run is due once its lease expires: until then it is in progress."""
    await desk.claimed(ORDER, "a")
    assert isinstance(await desk.claim(ORDER, "a", trigger=Trigger.SWEEP), InProgress)
    desk.turn(62)
    assert isinstance(await desk.claim(ORDER, "a", trigger=Trigger.SWEEP), RunLease)


CANCELLED = Failure(type="Cancelled", message="Cancelled by an operator.")


async def test_a_cancel_of_a_finished_run_changes_nothing(desk: Desk) -> None:
    """Whatever the status of the finished run, no handler is called."""
    for event_id, finish in (("a", desk.finish), ("b", desk.fail)):
        await finish(await desk.claimed(ORDER, event_id))
        assert await desk.claim(ORDER, event_id, trigger=Trigger.CANCEL) == Duplicate(
            run_id(ORDER, event_id)
        )
    await desk.hand_back(await desk.claimed(ORDER, "c"))
    assert isinstance(await desk.claim(ORDER, "c", trigger=Trigger.CANCEL), RunLease)


async def test_only_an_operators_replay_undoes_a_cancel(desk: Desk) -> None:
    """Its sender gets a refusal; content that counts as new is another event."""
    for by_content in (False, True):
        event_id = f"a-{by_content}"
        attempt = await desk.claimed(ORDER, event_id, by_content=by_content)
        await desk.fail(attempt, error=CANCELLED)
        refused = await desk.claim(ORDER, event_id, by_content=by_content)
        assert refused == Refused(run_id(ORDER, event_id), CANCELLED.message)
    desk.turn(desk.timings.dedupe_window_s)
    assert isinstance(await desk.claim(ORDER, "a-True", by_content=True), RunLease)
    assert isinstance(await desk.claim(ORDER, "a-False", trigger=Trigger.REPLAY), RunLease)


async def test_a_runs_facts_are_kept_by_its_next_claim(desk: Desk) -> None:
    """Its tenant and the link to its job, though the event doesn't name them."""
    attempt = await desk.claimed(ORDER, "a")
    await desk.hand_back(attempt)
    await desk.ledger.put(attrs.evolve(await desk.run(ORDER, "a"), link="https://logs"))
    again = await desk.claimed(ORDER, "a", tenant_id=None, body={"tenantId": TENANT})
    assert (again.run.tenant_id, again.run.link) == (TENANT, "https://logs")
