"""Runs and operations that follow earlier ones: what they keep, and what they begin anew."""

import attrs
import pytest

from orchestrator.core.ledger.snapshot import NotLoaded, Snapshot
from orchestrator.core.ledger.transitions import as_new_event, own_operation
from tests.desk import ORDER, Desk, event


async def test_a_job_of_a_run_without_an_operation_says_who_replayed_it(desk: Desk) -> None:
    """The operation of its job has who replayed it, and the starts before it."""
    lease = await desk.claimed(ORDER, "a")
    run = attrs.evolve(lease.run, by="ops")
    first = own_operation(run, None)
    assert (first.by, first.starts, first.version) == ("ops", (), 0)
    ended = attrs.evolve(first, job=desk.job("b-1"), version=3)
    again = own_operation(attrs.evolve(run, start_number=2), ended)
    assert [start.job for start in again.starts] == [desk.job("b-1")]
    assert (again.start_number, again.version) == (2, 3)


async def test_content_that_is_a_new_event_has_the_times_of_that(desk: Desk) -> None:
    """The new event has its own times, and not those of its first delivery days ago."""
    run = (await desk.claimed(ORDER, "a", by_content=True)).run
    desk.turn(200_000)
    later = attrs.evolve(event(ORDER, "a"), time=desk.later(-5), sent_at=desk.later(-7))
    renewed = as_new_event(run, later, Snapshot(desk.clock.now()))
    assert (renewed.event_time, renewed.sent_at) == (later.time, later.sent_at)
    assert renewed.first_seen == desk.clock.now()


def test_what_was_not_loaded_is_not_absent(desk: Desk) -> None:
    """Reading it raises `NotLoaded`, unless the decision expects it to be absent."""
    snapshot = Snapshot(desk.clock.now())
    with pytest.raises(NotLoaded):
        snapshot.registration("r-1")
    with pytest.raises(NotLoaded):
        snapshot.secrets("s-1")
    assert snapshot.secrets("s-1", expect_absent=True) is None
