"""What the last attempt at a run that ends by its records writes."""

import attrs
import pytest

from orchestrator.core.ledger.breakdowns import Breakdown, count
from orchestrator.core.ledger.lease import RunLease, claim_by_records
from orchestrator.core.ledger.record_parts import Failure
from orchestrator.core.ledger.records import Progress, RunRecord, RunStatus
from tests.desk import NOT_PROVISIONED, ORDER, PROVISIONING, Desk
from tests.unit.core.ledger.by_records import last_attempt, our_outcome


async def used_up(desk: Desk, run: RunRecord) -> RunRecord:
    """The run, without an attempt left."""
    due = attrs.evolve(run, status=RunStatus.RETRY, due_at=desk.clock.now(), ends_by_records=True)
    await desk.ledger.put(due)
    return due


async def ended_by_records(desk: Desk, opener: RunLease) -> RunLease:
    """An outcome of the service's own for the opener's operation, claimed by its records."""
    ours = our_outcome(opener)
    one = attrs.evolve(desk.timings, max_attempts=1)
    broken = Breakdown(run_id=ours.key, cause="KeyError", outcome=ours)
    run = await desk.transactions.run(lambda snapshot: count(snapshot, broken, one))
    assert run is not None
    return await last_attempt(desk, run)


async def test_a_breakdown_is_a_wait_of_its_run(desk: Desk) -> None:
    """A breakdown counts as a wait, so that the run's next pauses are longer."""
    attempt = await desk.claimed(ORDER, "a")
    broken = Breakdown(run_id=attempt.run.run_id, cause="KeyError", attempt=1)
    await desk.transactions.run(lambda snapshot: count(snapshot, broken, desk.timings))
    assert (await desk.run(ORDER, "a")).waits == 1


async def test_a_finished_run_is_not_claimed_by_its_records(desk: Desk) -> None:
    """Its last attempt has ended it; the index of due items may be behind."""
    attempt = await desk.claimed(ORDER, "a")
    await used_up(desk, attempt.run)
    due = await desk.run(ORDER, "a")
    await desk.ledger.put(attrs.evolve(due, status=RunStatus.FAILED))
    assert await claim_by_records(desk.transactions, due.run_id) is None


async def test_the_run_of_an_outcome_keeps_the_operation_that_it_ends(desk: Desk) -> None:
    """The run stores which operation it ends, so that a crash after that loses nothing."""
    opener = await desk.provision()
    last = await ended_by_records(desk, opener)
    stored = (await desk.transactions.find_kept(last.run.run_id))[0]
    assert stored is not None
    assert stored.outcome_of == last.run.outcome_of == opener.run.operation_id


@pytest.mark.parametrize(
    ("is_finished", "has_job", "ends"),
    [(True, False, True), (False, False, False), (False, True, True)],
)
async def test_an_outcome_is_left_to_an_unfinished_opener_without_a_job(
    desk: Desk, is_finished: bool, has_job: bool, ends: bool
) -> None:
    """The outcome ends no operation whose opener may start a job yet."""
    opener = await desk.claimed(PROVISIONING, "a")
    if has_job:
        await opener.record(Progress(job=desk.job("b-1")))
    if is_finished:
        await desk.finish(opener)
    last = await ended_by_records(desk, opener)
    assert (last.run.outcome_of is not None) is ends


async def test_an_outcome_ends_an_operation_whose_earlier_outcome_failed(desk: Desk) -> None:
    """A finished run of another outcome no longer ends it."""
    opener = await desk.provision()
    other = await desk.claimed(NOT_PROVISIONED, "other", job="b-1")
    await desk.fail(other, ends_without_job=False)
    last = await ended_by_records(desk, opener)
    assert last.run.outcome_of == opener.run.operation_id


@pytest.mark.parametrize("key", [None, "k"])
async def test_an_opener_works_under_its_operations_current_start(
    desk: Desk, key: str | None
) -> None:
    """It does so whether or not its request named a key, also if the run's own item is behind, as
    that of a clean-up is before its first claim."""
    opener = await desk.claimed(PROVISIONING, "a", key=key)
    behind = attrs.evolve(opener.run, start_number=0)
    last = await last_attempt(desk, await used_up(desk, behind))
    assert last.start_key == opener.start_key


async def test_a_run_that_ends_alone_keeps_the_error(desk: Desk) -> None:
    """The failed run has the error, and the note that names the items."""
    await used_up(desk, (await desk.claimed(ORDER, "a")).run)
    last = await claim_by_records(desk.transactions, (await desk.run(ORDER, "a")).run_id)
    assert last is not None
    error = Failure(type="UnreadableItem", message="OP#1")
    await last.fail_alone(error, "act")
    run = await desk.run(ORDER, "a")
    assert (run.status, run.error, run.note) == ("failed", error, "act")
