"""Operations under way: a job is checked, stopped, and ends a run that opened no operation."""

from functools import partial
from typing import Any

import attrs
import pytest

from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.operations import (
    Adopted,
    OrphanedJob,
    ask_again,
    ask_to_stop,
    begin_look,
    count_stops,
    end_alone,
    note_stop,
    replace,
)
from orchestrator.core.ledger.record_parts import Job, OperationState
from orchestrator.core.ledger.records import JobRecord, OperationRecord
from orchestrator.core.ledger.snapshot import Decision, Snapshot
from tests.desk import (
    ORDER,
    PROVISIONED,
    PROVISIONING,
    SENT_AT,
    TENANT,
    Desk,
    adopt_job,
    operation_id,
)

WANTED = operation_id("k")


async def under_way(desk: Desk) -> OperationRecord:
    await desk.finish(await desk.claimed(PROVISIONING, "a", key="k"), desk.job("b-1"))
    return await desk.operation("k")


async def look(desk: Desk, wanted: str = WANTED) -> OperationRecord | None:
    return await desk.transactions.run(lambda snapshot: begin_look(snapshot, wanted, desk.timings))


async def stop(desk: Desk, reason: str = "enough", *, number: int = 1) -> OperationRecord | None:
    return await desk.transactions.run(
        lambda snapshot: ask_to_stop(snapshot, WANTED, number, reason)
    )


async def adopt(desk: Desk, job_id: str = "b-1", *, number: int = 1) -> Adopted | OrphanedJob:
    job = desk.job(job_id)
    return await adopt_job(desk.transactions, operation_id=WANTED, number=number, job=job)


async def test_a_job_is_due_for_a_look_from_when_it_is_known(desk: Desk) -> None:
    """Its first check is due after the pause, and its deadline counts from there, too."""
    desk.turn(10)
    operation = await under_way(desk)
    assert (operation.job_since, operation.due_at) == (desk.clock.now(), desk.later(60))


@pytest.mark.parametrize(
    ("due_in_s", "again_in_s"), [(60, 5), (5.5, 5), (5, 5), (2, 2), (-9, -9), (None, 5)]
)
async def test_a_job_is_checked_again_soon_but_not_later_than_it_was_due(
    desk: Desk, due_in_s: float | None, again_in_s: float
) -> None:
    """A message contradicts its builder; an earlier check stays."""
    due_at = None if due_in_s is None else desk.later(due_in_s)
    await desk.ledger.put(attrs.evolve(await under_way(desk), due_at=due_at))
    written = await desk.transactions.run(lambda snapshot: ask_again(snapshot, WANTED, 1, 5))
    operation = await desk.operation("k")
    assert (operation.due_at, written) == (desk.later(again_in_s), again_in_s == 5 != due_in_s)


@pytest.mark.parametrize(
    ("changes", "number"), [({}, 2), ({"state": OperationState.OVER}, 1), ({"job": None}, 1)]
)
async def test_an_operation_without_its_job_under_way_is_not_checked(
    desk: Desk, changes: dict[str, Any], number: int
) -> None:
    """Its report's due time stays, and a message about another start's job doesn't count."""
    due_at = desk.later(60)
    await desk.ledger.put(attrs.evolve(await under_way(desk), due_at=due_at, **changes))
    assert not await desk.transactions.run(lambda snapshot: ask_again(snapshot, WANTED, number, 5))
    assert (await desk.operation("k")).due_at == due_at


async def test_only_one_looks_at_a_time(desk: Desk) -> None:
    """Once a process begins a check, the job is due again later, for every replica."""
    await under_way(desk)
    assert await look(desk) is None
    desk.turn(60)
    begun = await look(desk)
    assert begun is not None
    assert begun.due_at == desk.later(60)
    assert await look(desk.beside()) is None
    desk.turn(60)
    assert await look(desk.beside()) is not None


async def test_two_looks_at_once_are_one(desk: Desk) -> None:
    """The second check finds that the first has begun, and does nothing."""
    await under_way(desk)
    desk.turn(60)
    seen = []

    async def another() -> None:
        seen.append(await look(desk.beside()))

    desk.ledger.before_commit.append(another)
    assert await look(desk) is None
    assert seen[0] is not None


async def test_there_is_nothing_to_look_at(desk: Desk) -> None:
    """No operation, none with a job, none that is open."""
    assert await look(desk, "none") is None
    await desk.claimed(PROVISIONING, "a", key="k")
    desk.turn(600)
    assert await look(desk) is None
    operation = attrs.evolve(await desk.operation("k"), due_at=desk.clock.now())
    await desk.ledger.put(operation)
    assert await look(desk) is None
    over = attrs.evolve(operation, job=desk.job("b-1"), state=OperationState.OVER)
    await desk.ledger.put(over)
    assert await look(desk) is None


async def test_an_ended_operation_is_not_due(desk: Desk) -> None:
    """An operation whose job has ended is not due."""
    await under_way(desk)
    await desk.end(PROVISIONED, "done")
    assert (await desk.operation("k")).due_at is None


async def test_the_first_reason_to_stop_counts(desk: Desk) -> None:
    """The second request finds that a stop was requested already."""
    await under_way(desk)
    first, second = await stop(desk, "enough"), await stop(desk, "too long")
    assert first is not None
    assert second is not None
    assert (first.stop_reason, second.stop_reason) == ("enough", "enough")


async def test_a_stop_is_requested_of_an_open_operation_only(desk: Desk) -> None:
    """A stop is requested of an operation that is open, at the start that was meant."""
    assert await stop(desk) is None
    await under_way(desk)
    assert await stop(desk, number=2) is None
    await desk.end(PROVISIONED, "done")
    assert await stop(desk) is None


async def test_a_job_that_is_to_be_stopped_is_due_at_once(desk: Desk) -> None:
    """The stop was requested before the job was known."""
    attempt = await desk.claimed(PROVISIONING, "a", key="k")
    await stop(desk)
    await desk.finish(attempt, desk.job("b-1"))
    assert (await desk.operation("k")).due_at == desk.clock.now()
    begun = await look(desk)
    assert begun is not None
    assert begun.stop_reason == "enough"


async def test_the_next_attempt_of_a_stopped_run_gets_the_stop_reason(desk: Desk) -> None:
    """The opener's next attempt gets the stop reason, and no other run's does."""
    attempt = await desk.claimed(PROVISIONING, "a", key="k")
    await stop(desk)
    await desk.hand_back(attempt)
    desk.turn(5)
    assert (await desk.claimed(PROVISIONING, "a", key="k")).stop_reason == "enough"


async def test_the_next_opening_is_not_stopped(desk: Desk) -> None:
    """The reason of an earlier start's stop doesn't count for the next start."""
    attempt = await desk.claimed(PROVISIONING, "a", key="k")
    await stop(desk)
    await desk.fail(attempt)
    again = await desk.claimed(PROVISIONING, "b", key="k")
    assert again.stop_reason is None
    assert (await desk.operation("k")).stop_reason is None


async def test_a_job_is_adopted_by_the_start_that_made_it(desk: Desk) -> None:
    """It is checked from then on, and a second adoption finds it recorded."""
    attempt = await desk.claimed(PROVISIONING, "a", key="k", as_of=SENT_AT)
    assert isinstance(await adopt(desk), Adopted)
    operation = await desk.operation("k")
    assert (operation.job, operation.due_at) == (desk.job("b-1"), desk.later(60))
    assert (await desk.transactions.find_job("IN_MEMORY", "b-1")) is not None
    assert isinstance(await adopt(desk), Adopted)
    assert isinstance(await adopt(desk, "b-2"), OrphanedJob)
    await desk.finish(attempt, desk.job("b-1"))
    assert (await desk.operation("k")).job == desk.job("b-1")


@pytest.mark.parametrize("number", [0, 2])
async def test_a_job_of_another_start_is_an_orphan(desk: Desk, number: int) -> None:
    """A job isn't adopted if its operation is at another start by now."""
    await desk.claimed(PROVISIONING, "a", key="k")
    assert isinstance(await adopt(desk, number=number), OrphanedJob)


@pytest.mark.parametrize("forced", [False, True])
async def test_a_start_that_is_not_recorded_is_known_by_its_run(desk: Desk, forced: bool) -> None:
    """A process that lost its run leaves the job to the present attempt, also that of a replay."""
    attempt = await desk.claimed(ORDER, "a")
    if forced:
        await desk.finish(attempt, desk.job("b-1"))
        attempt = await desk.claimed(ORDER, "a", trigger=Trigger.FORCED_REPLAY)
    await desk.taken_over(ORDER, "a")
    run = attempt.run
    for _ in range(2):
        outcome = await adopt_job(
            desk.transactions,
            operation_id=run.operation_id,
            number=run.start_number,
            job=desk.job("b-2"),
            run_id=run.run_id,
        )
        assert isinstance(outcome, Adopted)
        assert outcome.operation.job == desk.job("b-2")


async def test_a_job_is_not_adopted_by_the_operation_of_another_run(desk: Desk) -> None:
    """The operation isn't that of the run which is named as the one that started the job."""
    run = (await desk.claimed(ORDER, "a")).run
    outcome = await adopt_job(
        desk.transactions,
        operation_id=WANTED,
        number=1,
        job=desk.job("b-1"),
        run_id=run.run_id,
    )
    assert outcome == OrphanedJob(desk.job("b-1"))
    assert await desk.transactions.find_operation(run.operation_id) is None


async def test_a_job_that_was_known_before_is_recorded_again(desk: Desk) -> None:
    """Its item is left as it is: it may have outlived an operation that was cleared away."""
    known = JobRecord(builder="IN_MEMORY", job_id="b-1", operation_id=WANTED)
    await desk.ledger.put(known)
    await desk.claimed(PROVISIONING, "a", key="k")
    assert isinstance(await adopt(desk), Adopted)
    assert (await desk.operation("k")).job == desk.job("b-1")
    assert await desk.transactions.find_job("IN_MEMORY", "b-1") == attrs.evolve(known, version=1)


@pytest.mark.parametrize(
    ("said", "reason", "note"),
    [
        (None, None, "The job b-1 succeeded."),
        (None, "It broke.", "It broke."),
        ("An order of 3.", None, "An order of 3. The job b-1 succeeded."),
        ("An order of 3.", "It broke.", "An order of 3. It broke."),
    ],
)
async def test_the_job_of_a_run_of_its_own_ends_on_the_run(
    desk: Desk, said: str | None, reason: str | None, note: str
) -> None:
    """It holds no tenant; after its handler's note the run says how it ended, and where to look.
    Once."""
    attempt = await desk.claimed(ORDER, "a")
    job = attrs.evolve(desk.job("b-1"), log_url="https://log")
    await desk.finish(attempt, job, note=said)
    own = await desk.operation(of=attempt)
    for first in (True, False):
        ended = await desk.transactions.run(
            lambda snapshot: end_alone(snapshot, own, reason, job.log_url)
        )
        assert ended is first
    operation, run = await desk.operation(of=attempt), await desk.run(ORDER, "a")
    assert (operation.state, operation.succeeded) == (OperationState.OVER, reason is None)
    assert (operation.reason, operation.due_at) == (reason, None)
    assert (run.status, run.note, run.link) == ("succeeded", note, "https://log")


async def test_a_tenants_operation_does_not_end_like_that(desk: Desk) -> None:
    """A tenant's operation ends by an event, and not by its job alone."""
    operation = await under_way(desk)
    assert operation.tenant_id == TENANT
    assert (
        await desk.transactions.run(lambda snapshot: end_alone(snapshot, operation, "no", None))
        is False
    )


async def test_the_job_of_an_earlier_start_ends_nothing(desk: Desk) -> None:
    """The run was replayed by force, and its next job runs; or the job was built again."""
    attempt = await desk.claimed(ORDER, "a")
    await desk.finish(attempt, desk.job("b-1"))
    again = await desk.claimed(ORDER, "a", trigger=Trigger.FORCED_REPLAY)
    await desk.finish(again, desk.job("b-2"))
    own = await desk.operation(of=again)
    assert again.run.operation_id == attempt.run.operation_id
    others: list[dict[str, Any]] = [{"start_number": 0}, {"start_number": 1}, {"rebuilds": 1}]
    for other in others:
        ended = await desk.transactions.run(partial(_end_alone, attrs.evolve(own, **other)))
        assert not ended
    assert (await desk.operation(of=again)).state is OperationState.OPEN


def _end_alone(asked: OperationRecord, snapshot: Snapshot) -> Decision[bool]:
    return end_alone(snapshot, asked, None, None)


async def build_again(desk: Desk, newer: str, *, number: int = 1) -> OperationRecord | None:
    """The builder says that b-1 is over, and that the newer one carries its start key."""
    former, job = desk.job("b-1"), desk.job(newer)
    return await desk.transactions.run(
        lambda snapshot: replace(snapshot, WANTED, number, former, job, desk.timings)
    )


@pytest.mark.parametrize("stop_reason", [None, "enough"])
async def test_a_job_that_was_built_again_has_the_newer_one_in_its_place(
    desk: Desk, stop_reason: str | None
) -> None:
    """The builder is queried about it at once; the older one's self-report doesn't count for it."""
    operation = await under_way(desk)
    await desk.ledger.put(attrs.evolve(operation, told_by="run", stop_reason=stop_reason))
    desk.turn(30)
    replaced = await build_again(desk, "b-2")
    assert replaced is not None
    replaced = await desk.operation("k")
    assert replaced.job == desk.job("b-2")
    assert (replaced.rebuilds, replaced.told_by, replaced.stop_reason) == (1, None, stop_reason)
    assert replaced.job_since == replaced.due_at == desk.clock.now()
    assert replaced.outcome_id == f"{operation.start_key}/1"
    known = await desk.transactions.find_job("IN_MEMORY", "b-2")
    assert known is not None
    assert known.operation_id == WANTED


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({}, 2),
        ({"outcome": "run"}, 1),
        ({"state": OperationState.OVER}, 1),
        ({"job": None}, 1),
        ({"rebuilds": 1, "job": Job(id="b-9", builder="IN_MEMORY", job_identifier="up")}, 1),
    ],
)
async def test_no_job_takes_the_place_of_one_whose_end_is_claimed(
    desk: Desk, changes: dict[str, Any], number: int
) -> None:
    """No job replaces that of another start either, or one that isn't the operation's any more."""
    operation = attrs.evolve(await under_way(desk), **changes)
    await desk.ledger.put(operation)
    before = await desk.operation("k")
    assert await build_again(desk, "b-2", number=number) is None
    assert await desk.operation("k") == before


WAYS = ("stop", "kill")


@pytest.mark.parametrize(
    ("stops", "ago_s", "due"),
    [(0, None, 1), (1, 29, 1), (1, 30, 2), (2, 29, 2), (2, 30, 3), (3, 99, 3)],
)
async def test_a_harder_stop_is_due_once_the_job_ignored_the_last_one(
    desk: Desk, stops: int, ago_s: float | None, due: int
) -> None:
    """One way after the other; the last one again and again."""
    at = None if ago_s is None else desk.later(-ago_s)
    operation = attrs.evolve(await under_way(desk), stops=stops, stopped_at=at)
    assert count_stops(operation, WAYS, desk.clock.now()) == due


async def note(desk: Desk, asked: OperationRecord, number: int) -> OperationRecord | None:
    return await desk.transactions.run(lambda snapshot: note_stop(snapshot, asked, number, WAYS))


async def test_a_stop_that_was_answered_is_kept(desk: Desk) -> None:
    """Each way is noted once; if the job ignores the last one, the reason says so."""
    await under_way(desk)
    asked = await stop(desk)
    assert asked is not None
    for number in (1, 2, 3):
        desk.turn(40)
        noted = await note(desk, asked, number)
        assert noted is not None
        assert (noted.stops, noted.stopped_at) == (number, desk.clock.now())
        assert await note(desk, asked, number) is None
    reason = (await desk.operation("k")).stop_reason
    assert reason == "enough The job b-1 obeyed none of stop, kill: end it on IN_MEMORY by hand."


async def test_a_stop_of_an_earlier_job_is_not_the_present_ones(desk: Desk) -> None:
    """The job was built again, or started again, or is over: its own stops count from the first."""
    await under_way(desk)
    asked = await stop(desk)
    assert asked is not None
    assert await note(desk, asked, 1) is not None
    replaced = await build_again(desk, "b-2")
    assert replaced is not None
    assert (replaced.stops, replaced.stopped_at) == (0, None)
    for other in (asked, attrs.evolve(asked, start_number=2)):
        assert await note(desk, other, 2) is None
    await desk.ledger.put(attrs.evolve(replaced, state=OperationState.OVER))
    assert await note(desk, replaced, 2) is None
