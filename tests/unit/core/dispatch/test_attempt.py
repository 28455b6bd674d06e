"""Attempts whose writes meet others: renewals, take-overs, and what the ledger can't store."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import attrs
import pytest

from orchestrator import (
    Event,
    Extension,
    HandlerRegistry,
    Job,
    PermanentError,
    Run,
    Settings,
    TemporaryError,
    open_orchestrator,
)
from orchestrator.core.ledger.records import OperationRecord, Record, RunRecord
from orchestrator.settings import Operations
from orchestrator.testing import InMemoryBuilder, ManualClock, SequentialIds, envelope
from tests.desk import DeskLedger, adopt_job, let_others_work
from tests.ledgers import find_tenant

REQUEST = envelope("TENANT_PROVISIONING", {"tenantId": "t-1"})
Open = Callable[..., Any]


@pytest.fixture
def open_with(clock: ManualClock) -> Open:
    """Open an orchestrator over a ledger and a builder, with one handler of the test's."""

    @asynccontextmanager
    async def open_it(ledger: DeskLedger, builder: Any, **handlers: Any) -> AsyncIterator[Any]:
        registry = HandlerRegistry()
        for event_type, handler in handlers.items():
            registry.register(event_type, handler)
        async with open_orchestrator(
            Settings(operations=Operations(reconcile_every_s=0)),
            extension=Extension(registry=registry, builders={"CODE_BUILD": builder}),
            clock=clock,
            ids=SequentialIds(),
            ledger=ledger,
        ) as orchestrator:
            yield orchestrator

    return open_it


def records(ledger: DeskLedger, kind: type[Any]) -> list[Any]:
    return [record for record in ledger._items.values() if isinstance(record, kind)]


@pytest.mark.parametrize("fails", [False, True], ids=["done", "failed"])
async def test_a_job_that_a_renewal_is_writing_is_settled(
    open_with: Open, clock: ManualClock, fails: bool
) -> None:
    """The handler ends while the renewal's write, which has the job, is under way."""
    ledger, builder = DeskLedger(), InMemoryBuilder("CODE_BUILD")
    started, go_on, inside, release = (asyncio.Event() for _ in range(4))

    async def handler(event: Event[dict[str, Any]], run: Run) -> None:
        await run.start_job("build", {})
        started.set()
        await go_on.wait()
        if fails:
            raise PermanentError("no")

    async def hold() -> None:
        inside.set()
        await release.wait()

    async with open_with(ledger, builder, TENANT_PROVISIONING=handler) as orchestrator:
        task = asyncio.create_task(orchestrator.handle_event("TENANT_PROVISIONING", REQUEST))
        await started.wait()
        await let_others_work()
        ledger.before_commit.append(hold)
        clock.turn(20)
        await inside.wait()
        go_on.set()
        await let_others_work()
        release.set()
        await asyncio.wait({task})
        assert isinstance(task.exception(), PermanentError) is fails
    (operation,) = records(ledger, OperationRecord)
    assert (operation.state, operation.job) == ("open", builder.started[0].job)


async def test_an_ending_that_was_dropped_is_not_followed(open_with: Open) -> None:
    """The handler ends the operation, but an earlier attempt's job is found right before."""
    ledger, job = DeskLedger(), Job(id="b-1", builder="CODE_BUILD", job_identifier="build")

    async def handler(event: Event[dict[str, Any]], run: Run) -> None:
        run.complete()

        async def adopt() -> None:
            (operation,) = records(ledger, OperationRecord)
            await adopt_job(
                orchestrator.services.transactions,
                operation_id=operation.operation_id,
                number=1,
                job=job,
            )

        ledger.before_commit.append(adopt)

    async with open_with(
        ledger, InMemoryBuilder("CODE_BUILD"), TENANT_PROVISIONING=handler
    ) as orchestrator:
        await orchestrator.handle_event("TENANT_PROVISIONING", REQUEST)
    (operation,) = records(ledger, OperationRecord)
    assert (operation.state, operation.job) == ("open", job)


async def test_an_ending_names_its_start(open_with: Open) -> None:
    """An ending names its start, so that it ends no other one, however late it comes."""
    ledger, seen = DeskLedger(), []

    async def handler(event: Event[dict[str, Any]], run: Run) -> None:
        run.fail("no room")

    async def failed(event: Event[dict[str, Any]], run: Run) -> None:
        seen.append(event.body)

    handlers = {"TENANT_PROVISIONING": handler, "TENANT_PROVISIONING_FAILURE": failed}
    async with open_with(ledger, InMemoryBuilder("CODE_BUILD"), **handlers) as orchestrator:
        await orchestrator.handle_event("TENANT_PROVISIONING", REQUEST)
    (operation,) = records(ledger, OperationRecord)
    (body,) = seen
    assert body["reason"] == "no room"
    assert body["ORCHESTRATOR_RUN_ID"] == f"{operation.operation_id}-1"
    assert operation.state == "over"


class SmallLedger(DeskLedger):
    """It can't store any step."""

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        if any(isinstance(record, RunRecord) and record.steps for record in records):
            raise PermanentError("too large")
        await super().commit(records, unchanged=unchanged)


async def take_a_step(run: Run) -> None:
    async def action() -> str:
        return "more than fits"

    await run.step("large", action)


async def test_a_step_that_cannot_be_kept_gives_the_tenant_back(open_with: Open) -> None:
    """The run fails with the ledger's reason, and holds no tenant."""

    async def handler(event: Event[dict[str, Any]], run: Run) -> None:
        await take_a_step(run)

    ledger = SmallLedger()
    async with open_with(
        ledger, InMemoryBuilder("CODE_BUILD"), TENANT_PROVISIONING=handler
    ) as orchestrator:
        with pytest.raises(PermanentError, match="too large"):
            await orchestrator.handle_event("TENANT_PROVISIONING", REQUEST)
    (run,) = records(ledger, RunRecord)
    assert (run.status, run.error.message) == ("failed", "too large")
    assert await find_tenant(ledger, "t-1") is None


class SilentBuilder:
    """The answer to each start is lost."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        raise TemporaryError("answer lost")


async def test_a_step_that_cannot_be_kept_forgets_no_start(open_with: Open) -> None:
    """While a start may be out the run stays due, and the tenant held."""

    async def handler(event: Event[dict[str, Any]], run: Run) -> None:
        try:
            await run.start_job("build", {})
        finally:
            await take_a_step(run)

    ledger = SmallLedger()
    async with open_with(ledger, SilentBuilder(), TENANT_PROVISIONING=handler) as orchestrator:
        with pytest.raises(TemporaryError):
            await orchestrator.handle_event("TENANT_PROVISIONING", REQUEST)
    (run,) = records(ledger, RunRecord)
    assert run.status == "retry"
    assert run.due_at is not None
    assert run.possible_until is not None
    tenant = await find_tenant(ledger, "t-1")
    assert tenant is not None
    assert tenant.state == "provisioning"


@attrs.define
class SlowToFind(InMemoryBuilder):
    """Its look-up lasts until the test says so."""

    asked: asyncio.Event = attrs.field(factory=asyncio.Event)
    may_answer: asyncio.Event = attrs.field(factory=asyncio.Event)
    stopped: list[str] = attrs.field(factory=list)

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        self.asked.set()
        await self.may_answer.wait()
        return next((one.job for one in self.started if one.start_key == start_key), None)

    async def stop_job(self, *, job_id: str) -> None:
        self.stopped.append(job_id)


async def test_a_predecessor_leaves_the_job_to_its_successor(
    open_with: Open, clock: ManualClock
) -> None:
    """The job of an event that opens no operation is the run's, whichever attempt holds that."""
    ledger, builder, started = DeskLedger(), SlowToFind("CODE_BUILD"), asyncio.Event()

    async def handler(event: Event[dict[str, Any]], run: Run) -> None:
        await run.start_job("build", {})
        if run.attempt == 1:
            started.set()
            await builder.asked.wait()

    order = envelope("ORDER", {"tenantId": "t-1"})
    async with open_with(ledger, builder, ORDER=handler) as orchestrator:
        first = asyncio.create_task(orchestrator.handle_event("ORDER", order))
        first.add_done_callback(lambda _: builder.may_answer.set())
        await started.wait()
        clock.time = clock.time.replace(minute=clock.time.minute + 2)
        await orchestrator.handle_event("ORDER", order)
        assert isinstance(first.exception(), TemporaryError)
    (run,) = records(ledger, RunRecord)
    assert (run.status, run.job, builder.stopped) == ("succeeded", builder.started[0].job, [])


@attrs.define
class Stoppable(InMemoryBuilder):
    """Its jobs can be stopped, and a start may last until the test says so."""

    may_start: asyncio.Event = attrs.field(factory=asyncio.Event)
    stopped: list[str] = attrs.field(factory=list)
    lost: bool = False

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        await self.may_start.wait()
        if self.lost:
            raise TemporaryError("answer lost")
        return await super().start_job(job_identifier, params, start_key=start_key)

    async def stop_job(self, *, job_id: str) -> None:
        self.stopped.append(job_id)


OTHER = Job(id="b-other", builder="CODE_BUILD", job_identifier="build")


@pytest.mark.parametrize("is_taken_over", [False, True], ids=["still ours", "taken over"])
async def test_a_job_of_an_operation_that_has_another_is_stopped(
    open_with: Open, is_taken_over: bool
) -> None:
    """The operation has another job when the attempt is settled; the run is due again."""
    ledger, builder = DeskLedger(), Stoppable("CODE_BUILD")
    builder.may_start.set()

    async def handler(event: Event[dict[str, Any]], run: Run) -> None:
        await run.start_job("build", {})
        ledger.before_commit.append(be_quicker)

    async def be_quicker() -> None:
        (operation,) = records(ledger, OperationRecord)
        await adopt_job(
            orchestrator.services.transactions,
            operation_id=operation.operation_id,
            number=1,
            job=OTHER,
        )
        if is_taken_over:
            (run,) = records(ledger, RunRecord)
            await ledger.put(attrs.evolve(run, attempt=run.attempt + 1))

    async with open_with(ledger, builder, TENANT_PROVISIONING=handler) as orchestrator:
        reason = "taken over" if is_taken_over else "The operation has another job by now"
        with pytest.raises(TemporaryError, match=reason):
            await orchestrator.handle_event("TENANT_PROVISIONING", REQUEST)
    (run,) = records(ledger, RunRecord)
    (operation,) = records(ledger, OperationRecord)
    assert builder.stopped == [builder.started[0].job.id]
    assert (operation.state, operation.job) == ("open", OTHER)
    assert (run.status, run.job) == ("running" if is_taken_over else "retry", None)
    assert run.due_at is not None


@pytest.mark.parametrize("is_lost", [False, True], ids=["a job", "none"])
async def test_an_operation_is_not_ended_beside_a_start(
    open_with: Open, clock: ManualClock, is_lost: bool
) -> None:
    """A handler leaves a start behind: nothing ends until a later attempt has looked it up."""
    ledger, builder = DeskLedger(), Stoppable("CODE_BUILD", lost=is_lost)
    starts = list[asyncio.Task[Job]]()

    async def handler(event: Event[dict[str, Any]], run: Run) -> None:
        if not starts:
            starts.append(asyncio.create_task(run.start_job("build", {})))
        run.complete()

    async def done(event: Event[dict[str, Any]], run: Run) -> None:
        pass

    handlers = {"TENANT_PROVISIONING": handler, "TENANT_PROVISIONING_SUCCESS": done}
    async with open_with(ledger, builder, **handlers) as orchestrator:
        with pytest.raises(TemporaryError, match="A start of the operation may be out"):
            await orchestrator.handle_event("TENANT_PROVISIONING", REQUEST)
        (run,) = records(ledger, RunRecord)
        (operation,) = records(ledger, OperationRecord)
        assert (run.status, operation.state, operation.job) == ("retry", "open", None)
        assert run.due_at is not None
        assert run.possible_until is not None
        builder.may_start.set()
        await asyncio.wait(starts)
        assert isinstance(starts[0].exception(), TemporaryError) is is_lost
        clock.turn(3600)
        await orchestrator.handle_event("TENANT_PROVISIONING", REQUEST)
    (operation,) = records(ledger, OperationRecord)
    job = None if is_lost else builder.started[0].job
    assert (operation.state, operation.job) == ("over" if is_lost else "open", job)


async def test_a_step_that_cannot_be_kept_forgets_no_job(open_with: Open) -> None:
    """The run fails by its step, and the operation continues with the job."""
    ledger, builder = SmallLedger(), InMemoryBuilder("CODE_BUILD")

    async def handler(event: Event[dict[str, Any]], run: Run) -> None:
        async def action() -> str:
            await run.start_job("build", {})
            return "more than fits"

        await run.step("large", action)

    async with open_with(ledger, builder, TENANT_PROVISIONING=handler) as orchestrator:
        with pytest.raises(PermanentError, match="too large"):
            await orchestrator.handle_event("TENANT_PROVISIONING", REQUEST)
    (run,) = records(ledger, RunRecord)
    (operation,) = records(ledger, OperationRecord)
    job = builder.started[0].job
    assert (run.status, run.job, operation.state, operation.job) == ("failed", job, "open", job)
