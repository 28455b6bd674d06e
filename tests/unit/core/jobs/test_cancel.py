"""Jobs that are stopped: one way after the other, and by a cancel of their operation."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator.core.errors import (
    Cancelled,
    HandlerFailed,
    NotAllowed,
    PermanentError,
    TemporaryError,
    TenantNotFound,
)
from orchestrator.core.events.event_types import ENDS, Kind
from orchestrator.core.jobs.cancel import Stopped, cancel
from orchestrator.core.jobs.job_description import JobDescription, JobStatus
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.operations import ask_to_stop
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import OperationRecord
from orchestrator.testing import InMemoryBuilder
from tests.desk import (
    NOT_PROVISIONED,
    PROVISIONING,
    TENANT,
    Desk,
    follow_up,
    operation_id,
    run_id,
)
from tests.unit.core.jobs.watching import Bench, Down, OnlyStarts, OnlyTells, running

AnyBuilder = TypeVar("AnyBuilder", bound=InMemoryBuilder)
WHY = "Cancelled by an operator: enough."
PENDING = Stopped(kind=Kind.PROVISIONING, operation_id=operation_id("k"), has_ended=False)


@attrs.define
class Deaf(InMemoryBuilder):
    """It has three ways to stop a job, which obeys none of them."""

    stop_ways: Sequence[str] = ("stop", "term", "kill")
    ways: list[str] = attrs.field(factory=list)

    async def stop_job(self, *, job_id: str, way: str = "") -> None:
        self.ways.append(way)


class CannotStop(InMemoryBuilder):
    """It can't be reached for a stop."""

    async def stop_job(self, *, job_id: str) -> None:
        raise TemporaryError("down")


class BuiltAgain(OnlyTells):
    """The job b-1 is over, and b-2 is the newest under its start key."""

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        newer = attrs.evolve(Desk().job("b-2"), builder=self.name)
        return {"b-1": JobDescription(job=newer, status=JobStatus.IN_PROGRESS, replaces="b-1")}


async def under_way(desk: Desk, job_id: str | None = "b-1") -> OperationRecord:
    opener = await desk.claimed(PROVISIONING, "a", key="k")
    await desk.finish(opener, desk.job(job_id) if job_id else None)
    return await desk.operation("k")


async def b_1_runs(builder: AnyBuilder) -> AnyBuilder:
    await asyncio.to_thread(running, builder, "b-1")
    return builder


# --- a stop ------------------------------------------------------------------------------------


async def test_a_job_that_is_stopped_ends_its_operation(desk: Desk) -> None:
    """It ends at once if its builder says that the job is over; else the next check ends it."""
    operation = await under_way(desk)
    bench = Bench(desk, {"IN_MEMORY": await b_1_runs(InMemoryBuilder())})
    await bench.stopper.stop(operation, "Enough.")
    assert bench.reasons == ["Enough. The job b-1 was stopped."]
    deaf = await b_1_runs(Deaf())
    bench = Bench(desk, {"IN_MEMORY": deaf})
    await bench.stopper.stop(operation, "Enough.")
    assert bench.concluded == []


async def test_a_job_that_has_ended_is_not_stopped(desk: Desk) -> None:
    """An operation that has ended since it was read is left alone."""
    operation = await under_way(desk)
    await desk.ledger.put(attrs.evolve(operation, state=OperationState.OVER))
    builder = await b_1_runs(InMemoryBuilder())
    bench = Bench(desk, {"IN_MEMORY": builder})
    await bench.stopper.stop(operation, "Enough.")
    assert (bench.concluded, builder._ended) == ([], {})


@pytest.mark.parametrize("builder", [None, OnlyStarts()])
async def test_a_cancelled_operation_ends_at_once_if_no_builder_can_describe_its_job(
    desk: Desk, builder: OnlyStarts | None
) -> None:
    """It has no job, or one whose builder can't describe it."""
    operation = await under_way(desk, "b-1" if builder else None)
    bench = Bench(desk, {"IN_MEMORY": builder or InMemoryBuilder()})
    await bench.stopper.stop(operation, "Enough.")
    assert bench.reasons == ["Enough."]


async def test_a_job_that_is_unknown_after_its_stop_ends_its_operation(desk: Desk) -> None:
    """It ends once its builder has had the time to list the job."""
    operation = await under_way(desk)
    bench = Bench(desk, {"IN_MEMORY": InMemoryBuilder()})
    await bench.stopper.stop(operation, "Enough.")
    assert bench.concluded == []
    desk.turn(62)
    await bench.stopper.stop(operation, "Enough.")
    (event,) = bench.concluded
    assert event.type == NOT_PROVISIONED
    assert str(event.body["reason"]).startswith("Enough. IN_MEMORY doesn't know the job b-1")


async def test_a_job_that_was_built_again_is_stopped_next(desk: Desk) -> None:
    """Its builder names the newest one, which takes its place and is due at once."""
    operation = await under_way(desk)
    bench = Bench(desk, {"IN_MEMORY": BuiltAgain()})
    await bench.stopper.stop(operation, "Enough.")
    present = await desk.operation("k")
    assert (present.job, present.stop_reason) == (desk.job("b-2"), "Enough.")
    assert (present.due_at, bench.concluded) == (desk.clock.now(), [])


async def test_a_job_that_obeys_no_stop_is_stopped_harder(desk: Desk) -> None:
    """Each way has its time; the last one is repeated, and the reason says that it has failed."""
    operation = await under_way(desk)
    builder = await b_1_runs(Deaf())
    bench = Bench(desk, {"IN_MEMORY": builder})
    stops = list[tuple[int, object]]()
    with capture_logs() as logs:
        for passed_s in (0, 29, 1, 30, 30, 30):
            desk.turn(passed_s)
            await bench.stopper.stop(operation, "Enough.")
            present = await desk.operation("k")
            stops.append((present.stops, present.stopped_at == desk.clock.now()))
    assert builder.ways == ["stop", "stop", "term", "kill", "kill", "kill"]
    assert stops == [(1, True), (1, False), (2, True), (3, True), (4, True), (4, False)]
    assert "obeyed none of stop, term, kill" in str((await desk.operation("k")).stop_reason)
    by_hand = "a job doesn't obey a stop: end it by hand"
    assert [entry["event"] for entry in logs].count(by_hand) == 2


async def test_a_stop_that_is_repeated_writes_nothing(desk: Desk) -> None:
    """Its time to be obeyed counts from the first of it."""
    operation = await under_way(desk)
    builder = await b_1_runs(Deaf())
    bench = Bench(desk, {"IN_MEMORY": builder})
    await bench.stopper.stop(operation, "Enough.")
    desk.ledger.requests.clear()
    await bench.stopper.stop(operation, "Enough.")
    assert "commit" not in desk.ledger.requests


# --- a cancel ----------------------------------------------------------------------------------


@attrs.define
class Cancelling:
    """Cancels of the tenant, with the runs that were resumed and what was certain."""

    bench: Bench
    resume: Callable[[str], Awaitable[object]] | None = None
    resumed: list[str] = attrs.field(factory=list)
    certain: list[Stopped] = attrs.field(factory=list)

    async def __call__(self, tenant_id: str = TENANT, *, clean_up: bool = False) -> Stopped:
        async def resume(run_id: str) -> None:
            self.resumed.append(run_id)
            if self.resume is not None:
                await self.resume(run_id)

        return await cancel(
            self.bench.stopper,
            resume,
            tenant_id,
            "enough.",
            clean_up=clean_up,
            on_certain=self.certain.append,
        )


async def test_a_cancel_stops_the_job_and_ends_its_operation(desk: Desk) -> None:
    """The operation fails for the reason that the operator gave."""
    await under_way(desk)
    bench = Bench(desk, {"IN_MEMORY": await b_1_runs(InMemoryBuilder())})
    cancelling = Cancelling(bench)
    assert await cancelling() == PENDING
    assert bench.reasons == [f"{WHY} The job b-1 was stopped."]
    assert (cancelling.resumed, cancelling.certain[0]) == ([], PENDING)


async def test_a_cancel_of_a_job_has_taken_effect_though_its_builder_is_down(desk: Desk) -> None:
    """The sweep stops the job as soon as it can."""
    await under_way(desk)
    cancelling = Cancelling(Bench(desk, {"IN_MEMORY": await b_1_runs(CannotStop())}))
    with pytest.raises(TemporaryError, match="down"):
        await cancelling()
    assert cancelling.certain == [PENDING]
    assert (await desk.operation("k")).stop_reason == WHY


@pytest.mark.parametrize("is_at_rest", [True, False])
async def test_a_cancel_before_a_job_is_certain_if_no_attempt_holds_the_opener(
    desk: Desk, is_at_rest: bool
) -> None:
    """Its next claim finds the reason; an attempt in progress may start a job without seeing it."""

    async def down(run_id: str) -> None:
        raise TemporaryError("in progress")

    opener = await desk.claimed(PROVISIONING, "a", key="k")
    if is_at_rest:
        await desk.hand_back(opener)
    cancelling = Cancelling(Bench(desk, {}), down)
    with pytest.raises(TemporaryError, match="in progress"):
        await cancelling()
    assert cancelling.certain == ([PENDING] if is_at_rest else [])


async def test_an_unfinished_opener_is_resumed_and_gives_its_operation_back(desk: Desk) -> None:
    """It fails as cancelled, which is no error of the cancel."""
    opener = await desk.claimed(PROVISIONING, "a", key="k")
    await desk.hand_back(opener)

    async def resume(run_id: str) -> None:
        resumed = await desk.claimed(PROVISIONING, "a", key="k", trigger=Trigger.CANCEL)
        assert resumed.stop_reason == WHY
        await desk.fail(resumed)
        raise Cancelled(WHY)

    bench = Bench(desk, {})
    cancelling = Cancelling(bench, resume)
    assert await cancelling() == attrs.evolve(PENDING, has_ended=True)
    assert (cancelling.resumed, bench.concluded) == ([run_id(PROVISIONING, "a")], [])
    assert await desk.tenant() == (None, None)


async def test_a_finished_opener_is_not_resumed(desk: Desk) -> None:
    """It has left its operation without a job: that ends at once."""
    await under_way(desk, None)
    bench = Bench(desk, {})
    cancelling = Cancelling(bench)
    await cancelling()
    assert (cancelling.resumed, bench.reasons) == ([], [WHY])


@pytest.mark.parametrize("has_ended", [True, False])
async def test_an_opener_that_fails_by_a_bug_fails_the_cancel_unless_it_has_ended(
    desk: Desk, has_ended: bool
) -> None:
    """Then a job of it may run that isn't recorded yet: nothing is ended beside it."""
    opener = await desk.claimed(PROVISIONING, "a", key="k")
    await desk.hand_back(opener)

    async def resume(run_id: str) -> None:
        if has_ended:
            await desk.fail(await desk.claimed(PROVISIONING, "a", key="k"))
        raise HandlerFailed(PROVISIONING, run_id)

    bench = Bench(desk, {})
    cancelling = Cancelling(bench, resume)
    if has_ended:
        assert await cancelling() == attrs.evolve(PENDING, has_ended=True)
    else:
        with pytest.raises(HandlerFailed):
            await cancelling()
        assert (await desk.operation("k")).state is OperationState.OPEN
    assert bench.concluded == []


@pytest.mark.parametrize("error", [PermanentError("no"), HandlerFailed(NOT_PROVISIONED, "r")])
async def test_an_outcome_whose_handler_fails_is_no_error_of_the_cancel(
    desk: Desk, error: Exception
) -> None:
    """The cancel succeeds; the outcome's run stores the error."""
    await under_way(desk, None)
    cancelling = Cancelling(Bench(desk, {}, outcome_error=error))
    assert await cancelling() == PENDING
    assert cancelling.certain == [PENDING]


async def test_a_clean_up_is_cancelled_only_where_that_is_meant(desk: Desk) -> None:
    """A second cancel of a provisioning must not leave behind what that has made."""
    opener = await under_way(desk)
    outcome = await desk.claimed(NOT_PROVISIONED, "failed")
    clean_up = follow_up("TENANT_CLEAN_UP", "clean", opener.operation_id)
    await desk.finish(outcome, ending=ENDS[NOT_PROVISIONED], clean_up=clean_up)
    cancelling = Cancelling(Bench(desk, {}))
    with pytest.raises(NotAllowed, match="is being cleaned up"):
        await cancelling()
    assert (cancelling.resumed, cancelling.certain) == ([], [])
    assert (await cancelling(clean_up=True)).kind is Kind.CLEAN_UP


@pytest.mark.parametrize("is_dry", [True, False])
async def test_a_dry_run_and_real_jobs_do_not_cancel_each_other(desk: Desk, is_dry: bool) -> None:
    """The job was never started, or was started for real."""
    operation = await under_way(desk)
    request: dict[str, Any] | None = {"job": "up"} if is_dry else None
    job = attrs.evolve(desk.job("b-1"), request=request)
    await desk.ledger.put(attrs.evolve(operation, job=job))
    cancelling = Cancelling(Bench(desk, {"IN_MEMORY": Down()}, dry_run=not is_dry))
    with pytest.raises(NotAllowed, match="dry run"):
        await cancelling()
    assert (await desk.operation("k")).stop_reason is None


async def test_there_is_nothing_to_cancel(desk: Desk) -> None:
    """A tenant that isn't known, or has no operation under way, can't be cancelled."""
    cancelling = Cancelling(Bench(desk, {}))
    with pytest.raises(TenantNotFound):
        await cancelling()
    await desk.stand(None)
    with pytest.raises(NotAllowed, match="no operation under way"):
        await cancelling()


async def test_a_cancel_beside_an_end_answers_that_it_has_ended(desk: Desk) -> None:
    """The operation ends before the reason is written."""
    operation = await under_way(desk)
    stopper = Bench(desk, {"IN_MEMORY": InMemoryBuilder()})
    over = attrs.evolve(operation, state=OperationState.OVER)
    desk.ledger.before_commit.append(lambda: desk.ledger.put(over))
    assert (await Cancelling(stopper)()).has_ended
    asked = await desk.transactions.run(
        lambda snapshot: ask_to_stop(snapshot, operation.operation_id, 1, "late")
    )
    assert asked is None
