"""An event identified by its content: the same within the window, then another one."""

from datetime import timedelta

import attrs
import pytest

from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.claim_result import Deferred, Duplicate
from orchestrator.core.ledger.lease import RunLease, claim_run
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.record_parts import OperationState, Step
from orchestrator.core.ledger.records import Progress, RunStatus
from tests.desk import (
    DEPLOYMENT,
    DEPROVISIONED,
    DEPROVISIONING,
    ORDER,
    PROVISIONED,
    PROVISIONING,
    SENT_AT,
    TIMINGS,
    Desk,
    run_id,
)
from tests.unit.core.ledger.lines import line

WINDOW_S = TIMINGS.dedupe_window_s


# --- content ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passed_s", "by_content", "trigger", "is_new"),
    [
        (WINDOW_S, True, Trigger.DELIVERY, True),
        (WINDOW_S - 0.001, True, Trigger.DELIVERY, False),
        (WINDOW_S, False, Trigger.DELIVERY, False),
        (WINDOW_S, True, Trigger.REPLAY, False),
    ],
)
async def test_equal_content_is_one_event_for_a_while(
    desk: Desk, passed_s: float, by_content: bool, trigger: Trigger, is_new: bool
) -> None:
    """After the window a delivery is another event, without steps; attempt numbers continue."""
    first = await desk.claimed(ORDER, "a", by_content=by_content)
    await desk.finish(first, desk.job("b-1"))
    desk.turn(passed_s)
    answer = await desk.claim(ORDER, "a", by_content=by_content, trigger=trigger)
    assert isinstance(answer, RunLease) is is_new
    if isinstance(answer, RunLease):
        run = answer.run
        assert (run.attempt, run.steps, run.job, run.first_seen) == (2, {}, None, desk.clock.now())
        assert run.request_key != first.run.request_key
        assert answer.start_key != first.start_key


@pytest.mark.parametrize("status", [RunStatus.RETRY, RunStatus.RUNNING])
async def test_equal_content_of_an_unfinished_run_is_the_same_event(
    desk: Desk, status: RunStatus
) -> None:
    """A run that waits or whose lease has expired continues, however old it is."""
    first = await desk.claimed(ORDER, "a", by_content=True)
    if status is RunStatus.RETRY:
        await desk.hand_back(
            first,
            progress=Progress(steps=(Step(name="take", result=1, recorded_at=desk.clock.now()),)),
        )
    desk.turn(WINDOW_S)
    again = await desk.claimed(ORDER, "a", by_content=True)
    assert again.start_key == first.start_key
    assert again.run.first_seen == first.run.first_seen


@pytest.mark.parametrize("trigger", [Trigger.REPLAY, Trigger.FORCED_REPLAY])
async def test_only_a_delivery_makes_old_content_new(desk: Desk, trigger: Trigger) -> None:
    """A replay is of the run that the operator names."""
    first = await desk.claimed(ORDER, "a", by_content=True)
    await desk.fail(first, ends_without_job=False)
    desk.turn(WINDOW_S)
    again = await desk.claimed(ORDER, "a", by_content=True, trigger=trigger)
    assert again.start_key == first.start_key


async def test_new_content_counts_its_starts_from_the_beginning(desk: Desk) -> None:
    """Its first start has the number 1, and an outcome's run names no operation that it ended."""
    await desk.finish(await desk.claimed(ORDER, "a", by_content=True))
    await desk.finish(
        await desk.claimed(ORDER, "a", by_content=True, trigger=Trigger.FORCED_REPLAY)
    )
    await desk.provision()
    await desk.end(PROVISIONED, "done", by_content=True)
    desk.turn(WINDOW_S)
    assert (await desk.claimed(ORDER, "a", by_content=True)).start_key.endswith("-1")
    await desk.claim(PROVISIONED, "done", by_content=True)
    assert (await desk.run(PROVISIONED, "done")).outcome_of is None


async def test_failed_content_is_new_after_the_window(desk: Desk) -> None:
    """It is a new request then, and opens another operation."""
    first = await desk.claimed(PROVISIONING, "a", by_content=True)
    await desk.fail(first)
    desk.turn(WINDOW_S)
    again = await desk.claimed(PROVISIONING, "a", by_content=True)
    assert again.run.operation_id != first.run.operation_id
    assert (await desk.operation(of=again)).request_key == again.run.request_key
    assert again.run.start_number == 1


async def test_old_content_does_not_wait_for_itself(desk: Desk) -> None:
    """Its operation continues without a job: an outcome must still be able to end it."""
    await desk.finish(await desk.claimed(PROVISIONING, "a", by_content=True))
    desk.turn(WINDOW_S)
    answer = await desk.claim(PROVISIONING, "a", by_content=True)
    if isinstance(answer, RunLease):
        await desk.finish(answer)
    await desk.end(PROVISIONED, "done")
    assert await desk.tenant() == (TenantState.PROVISIONED, None)


@pytest.mark.parametrize("job", [None, "b-1"])
async def test_old_content_with_the_request_key_of_an_ended_operation_is_a_duplicate(
    desk: Desk, job: str | None
) -> None:
    """The payload names its request, and that has ended: there is nothing to continue."""
    first = await desk.claimed(PROVISIONING, "a", by_content=True, key="k")
    await desk.finish(first, desk.job(job) if job else None)
    await desk.end(PROVISIONED, "done")
    desk.turn(WINDOW_S)
    answer = await desk.claim(PROVISIONING, "a", by_content=True, key="k")
    assert answer == Duplicate(first.run.run_id)


# --- once something else was requested of the tenant ---------------------------------------------


async def test_equal_content_is_another_event_once_it_is_not_the_latest_request(
    desk: Desk,
) -> None:
    """Provision, deprovision, the same provision without an id: three runs."""
    first = await desk.claimed(PROVISIONING, "a", by_content=True)
    await desk.finish(first, desk.job("b-1"))
    await desk.end(PROVISIONED, "done")
    assert isinstance(await desk.claim(PROVISIONING, "a", by_content=True), Duplicate)
    removal = await desk.claimed(DEPROVISIONING, "b", by_content=True)
    await desk.finish(removal, desk.job("b-2"))
    await desk.end(DEPROVISIONED, "gone")
    desk.turn(1)
    again = await desk.claimed(PROVISIONING, "a", by_content=True)
    assert (again.run.attempt, again.run.steps, again.run.job) == (2, {}, None)
    assert again.run.first_seen == desk.clock.now()
    assert again.run.operation_id != first.run.operation_id


async def test_content_is_another_event_while_another_kind_waits(desk: Desk) -> None:
    """It is placed behind that one, and waits for its turn."""
    first = await desk.claimed(PROVISIONING, "a", by_content=True)
    await desk.finish(first, desk.job("b-1"))
    await desk.claim(DEPROVISIONING, "b", by_content=True)
    desk.turn(1)
    assert isinstance(await desk.claim(PROVISIONING, "a", by_content=True), Deferred)
    assert await line(desk) == [run_id(DEPROVISIONING, "b"), run_id(PROVISIONING, "a")]


async def test_a_clean_up_and_our_deployment_make_no_content_new(desk: Desk) -> None:
    """They are follow-ups, not requests of a sender."""
    first = await desk.claimed(PROVISIONING, "a", by_content=True)
    await desk.finish(first, desk.job("b-1"))
    await desk.end(PROVISIONED, "done")
    follows = first.run.operation_id
    deployment = await desk.claimed(DEPLOYMENT, "d", follows=follows)
    await desk.finish(deployment, desk.job("b-2"))
    desk.turn(1)
    assert isinstance(await desk.claim(PROVISIONING, "a", by_content=True), Duplicate)


async def test_content_of_an_outcome_is_another_event_once_the_same_is_done_again(
    desk: Desk,
) -> None:
    """Provision and deprovision, twice: each ends by a report without an id, once."""
    for number in range(2):
        opener = await desk.provision(f"p-{number}", f"b-{number}")
        desk.turn(1)
        await desk.end(PROVISIONED, "done", by_content=True)
        assert (await desk.operation(of=opener)).state is OperationState.OVER
        assert isinstance(await desk.claim(PROVISIONED, "done", by_content=True), Duplicate)
        removal = await desk.claimed(DEPROVISIONING, f"d-{number}")
        assert isinstance(await desk.claim(PROVISIONED, "done", by_content=True), Duplicate)
        await desk.finish(removal, desk.job(f"c-{number}"))
        desk.turn(1)
        await desk.end(DEPROVISIONED, "gone", by_content=True)
        desk.turn(1)


async def test_content_that_a_job_repeats_is_one_event(desk: Desk) -> None:
    """Its builder decides whether the job is over, and has not been queried yet."""
    await desk.provision()
    for _ in range(2):
        desk.turn(1)
        again = await desk.claim(PROVISIONED, "done", by_content=True, is_outranked=True)
    assert again == Duplicate(run_id(PROVISIONED, "done"))


# --- what makes no new event ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("received_s", "is_new"), [(-1, False), (0, False), (1, True), (None, True)]
)
async def test_content_that_was_received_before_its_run_is_the_same_event(
    desk: Desk, received_s: float | None, is_new: bool
) -> None:
    """It is the same one however late a queue delivers it; a stored one has no time of receipt."""
    request = desk.request(ORDER, "a", by_content=True)
    received_at = None if received_s is None else desk.later(received_s)
    again = attrs.evolve(request, event=attrs.evolve(request.event, received_at=received_at))
    await desk.finish(await desk.claimed(ORDER, "a", by_content=True))
    desk.turn(WINDOW_S)
    answer = await claim_run(desk.transactions, again)
    assert isinstance(answer, RunLease if is_new else Duplicate)


async def test_content_that_has_failed_is_attempted_again(desk: Desk) -> None:
    """It is the same request within its window, whatever was done to the tenant meanwhile."""
    first = await desk.claimed(PROVISIONING, "a", by_content=True)
    await desk.fail(first)
    removal = await desk.claimed(DEPROVISIONING, "b")
    await desk.finish(removal, desk.job("b-2"))
    await desk.end(DEPROVISIONED, "gone")
    again = await desk.claimed(PROVISIONING, "a", by_content=True)
    assert (again.run.attempt, again.run.request_key) == (2, first.run.request_key)


async def test_equal_content_that_is_no_request_is_one_event(desk: Desk) -> None:
    """Only the window makes it another one, whatever the tenant's latest request is."""
    first = await desk.claimed(ORDER, "a", by_content=True)
    await desk.finish(first)
    await desk.claimed(PROVISIONING, "b")
    assert await desk.claim(ORDER, "a", by_content=True) == Duplicate(first.run.run_id)


async def test_content_is_the_same_event_while_its_own_kind_waits(desk: Desk) -> None:
    """The waiting request is of the same kind: it joins, or is a duplicate, too."""
    first = await desk.claimed(PROVISIONING, "a", by_content=True)
    await desk.finish(first)
    assert isinstance(await desk.claim(PROVISIONING, "b"), Deferred)
    await desk.end(PROVISIONED, "done")
    assert await desk.claim(PROVISIONING, "a", by_content=True) == Duplicate(first.run.run_id)


async def test_a_new_event_has_its_own_time(desk: Desk) -> None:
    """That time decides whether a request is stale."""
    await desk.finish(await desk.claimed(ORDER, "a", by_content=True, sent_s=0))
    desk.turn(WINDOW_S)
    again = await desk.claimed(ORDER, "a", by_content=True, sent_s=9)
    assert again.run.sent_at == SENT_AT + timedelta(seconds=9)
