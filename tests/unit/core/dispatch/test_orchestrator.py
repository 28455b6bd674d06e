"""An event through the orchestrator: claimed, handled once, and settled as its handler ended."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pytest

from orchestrator import (
    BadEvent,
    Event,
    Handled,
    HandlerFailed,
    HandlerRegistry,
    InvalidPayload,
    PayloadMismatch,
    PermanentError,
    Run,
    TemporaryError,
    UnsupportedEventType,
)
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.errors import BeingHandled, EventKeyReused
from orchestrator.core.ledger.records import Record, RunRecord
from orchestrator.testing import InMemoryBuilder, ManualClock, envelope, provisioning_event
from tests.ledgers import find_run, find_tenant
from tests.unit.core.dispatch.counter import Counter, Order


@attrs.frozen
class Held:
    """An act that signals when it has begun, and ends when it is released."""

    begun: asyncio.Event = attrs.field(factory=asyncio.Event)
    release: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def __call__(self, event: Event[Any], run: Run) -> None:
        self.begun.set()
        await self.release.wait()


async def test_an_event_is_handled_once_and_settled(counter: Counter) -> None:
    """The handler gets the typed payload, and the run says how and when it ended."""

    async def act(event: Event[Any], run: Run) -> None:
        counter.clock.turn(2)

    counter.act = act
    began = counter.clock.now()
    raw = envelope("ORDER", {"itemCount": 1, "note": "x", "tenantId": "t-1"})
    handled = await counter.deliver(raw)
    assert handled.replayed is False
    ((event, run),) = counter.calls
    assert event.payload == Order(1)
    assert event.body["note"] == "x"
    assert event.raw == raw
    record = await counter.run_of(handled)
    assert record.run_id == run.run_id == event.key
    assert (record.status, record.attempt, record.error) == ("succeeded", 1, None)
    assert (record.event_type, record.event_id) == ("ORDER", "event-1")
    assert (record.source, record.tenant_id) == ("TenantManagementService", "t-1")
    assert record.first_seen == record.started_at == began
    assert record.ended_at == counter.clock.now()


async def test_a_duplicate_is_answered_by_the_first_run(counter: Counter) -> None:
    """A second delivery runs nothing and names the run of the first."""
    first = await counter.deliver()
    second = await counter.deliver()
    assert second == Handled(run_id=first.run_id, replayed=True)
    assert len(counter.calls) == 1
    assert (await counter.run_of(first)).attempt == 1


async def test_a_duplicate_under_the_alias_is_one_too(counter: Counter) -> None:
    """The foreign name and ours are one type."""
    first = await counter.deliver()
    aliased = envelope("Tenant Ordered", {"itemCount": 1})
    second = await counter.orchestrator.handle_event("Tenant Ordered", aliased)
    assert second == Handled(run_id=first.run_id, replayed=True)


async def test_an_event_that_is_being_handled_is_not_started_again(counter: Counter) -> None:
    """A delivery meanwhile gets an error to retry; the one in progress ends as if alone."""
    counter.act = held = Held()
    first = asyncio.create_task(counter.deliver())
    await held.begun.wait()
    with pytest.raises(BeingHandled) as refused:
        await counter.deliver()
    assert (await counter.run_of(refused.value)).status == "running"
    held.release.set()
    handled = await first
    assert refused.value.run_id == handled.run_id
    assert len(counter.calls) == 1
    assert (await counter.run_of(handled)).status == "succeeded"


async def test_other_events_do_not_wait_for_one_that_is_being_handled(counter: Counter) -> None:
    """Only deliveries of the same event stand in each other's way."""
    counter.act = held = Held()
    first = asyncio.create_task(counter.deliver())
    await held.begun.wait()
    counter.act = None
    await counter.deliver(envelope("ORDER", {"itemCount": 1}, event_id="event-2"))
    held.release.set()
    await first


async def test_an_event_key_with_another_body_is_refused(counter: Counter) -> None:
    """The first run stays as it is, and the refusal names the id and that run."""
    first = await counter.deliver()
    before = await counter.run_of(first)
    with pytest.raises(EventKeyReused, match="'event-1' came before with another body") as refused:
        await counter.deliver(envelope("ORDER", {"itemCount": 2}))
    assert refused.value.run_id == first.run_id
    assert await counter.run_of(first) == before
    assert len(counter.calls) == 1


async def test_only_the_business_body_is_compared(counter: Counter) -> None:
    """A redelivery with another envelope around the same body is the same event."""
    first = await counter.deliver()
    again = envelope("ORDER", {"itemCount": 1}) | {"time": "2026-11-21T00:00:00Z", "extra": 1}
    assert await counter.deliver(again) == Handled(run_id=first.run_id, replayed=True)


async def test_a_permanent_error_fails_the_run(counter: Counter) -> None:
    """The run keeps the sentence and the mismatches, but no traceback: it is no bug."""
    mismatch = PayloadMismatch("$.itemCount", "is sold out")
    counter.fail_with(PermanentError("Sold out.", errors=[mismatch]))
    with pytest.raises(PermanentError, match=r"^Sold out\.$") as refused:
        await counter.deliver()
    record = await counter.run_of(refused.value)
    assert record.status == "failed"
    assert record.ended_at == counter.clock.now()
    assert record.error is not None
    assert (record.error.type, record.error.message) == ("PermanentError", "Sold out.")
    assert record.error.errors == (mismatch,)
    assert record.error.traceback is None


async def test_a_temporary_error_leaves_the_run_to_be_tried_again(counter: Counter) -> None:
    """The run waits in `retry` with its reason, however often it has been tried."""
    counter.fail_with(*[TemporaryError("Busy.", retry_after_s=7)] * 5)
    for attempt in range(1, 6):
        with pytest.raises(TemporaryError, match=r"^Busy\.$") as refused:
            await counter.deliver()
        assert refused.value.retry_after_s == 7
        record = await counter.run_of(refused.value)
        assert (record.status, record.attempt) == ("retry", attempt)
        assert record.error is not None
        assert record.error.type == "TemporaryError"


@pytest.mark.parametrize("error", [PermanentError("no"), TemporaryError("no"), ValueError("no")])
async def test_a_redelivery_is_a_new_attempt_that_keeps_its_steps(
    counter: Counter, error: Exception
) -> None:
    """What failed or waits is tried again when its event comes again, from where it stopped."""
    taken: list[int] = []

    async def act(event: Event[Any], run: Run) -> None:
        async def take() -> int:
            taken.append(run.attempt)
            return run.attempt

        assert await run.step("take", take) == 1
        if run.attempt == 1:
            raise error

    counter.act = act
    with pytest.raises((PermanentError, TemporaryError, HandlerFailed)) as refused:
        await counter.deliver()
    counter.clock.turn(60)
    handled = await counter.deliver()
    assert handled == Handled(run_id=str(getattr(refused.value, "run_id", None)))
    assert taken == [1]
    record = await counter.run_of(handled)
    assert (record.status, record.attempt, record.error) == ("succeeded", 2, None)
    assert record.first_seen < record.started_at == counter.clock.now()


async def test_a_bug_is_tried_again_until_the_last_attempt(counter: Counter) -> None:
    """The run is `retry`, after `runs.max_attempts` `failed`, always with its traceback."""
    counter.fail_with(*[ZeroDivisionError("by zero")] * 3)
    statuses = []
    for _ in range(3):
        with pytest.raises(HandlerFailed) as failed:
            await counter.deliver()
        assert isinstance(failed.value.__cause__, ZeroDivisionError)
        record = await counter.run_of(failed.value)
        statuses.append(record.status)
        assert record.error is not None
        assert (record.error.type, record.error.message) == ("ZeroDivisionError", "by zero")
        assert record.error.traceback is not None
        assert "counter.py" in record.error.traceback
    assert statuses == ["retry", "retry", "failed"]


async def test_a_bugs_details_are_for_the_ledger_alone(counter: Counter) -> None:
    """The error that is handed on says which run to look at and nothing of the cause."""
    counter.fail_with(ValueError("password is hunter2"))
    with pytest.raises(HandlerFailed) as failed:
        await counter.deliver()
    assert "hunter2" not in str(failed.value)
    assert str(failed.value.run_id) in str(failed.value)


async def test_a_failed_bug_can_be_delivered_again(counter: Counter) -> None:
    """Once the handler is mended, a redelivery of a `failed` run works."""
    counter.fail_with(*[ValueError("bug")] * 3)
    for _ in range(3):
        with pytest.raises(HandlerFailed):
            await counter.deliver()
    record = await counter.run_of(await counter.deliver())
    assert (record.status, record.attempt) == ("succeeded", 4)


async def test_a_cancelled_attempt_is_handed_back(counter: Counter) -> None:
    """The run isn't left to the end of its lease: it waits in `retry`, its steps remembered."""
    held = Held()

    async def act(event: Event[Any], run: Run) -> None:
        async def open_account() -> str:
            return "a-1"

        await run.step("open", open_account)
        await held(event, run)

    counter.act = act
    task = asyncio.create_task(counter.deliver())
    await held.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    record = await find_run(counter.ledger, counter.calls[0][1].run_id)
    assert record is not None
    assert record.status == "retry"
    assert record.steps["open"].result == "a-1"
    counter.act = None
    assert (await counter.run_of(await counter.deliver())).attempt == 2


async def test_a_payload_that_does_not_fit_is_a_failed_run(counter: Counter) -> None:
    """The handler is not called, and the run keeps every mismatch."""
    with pytest.raises(InvalidPayload) as refused:
        await counter.deliver(envelope("ORDER", {"itemCount": "1"}))
    assert counter.calls == []
    record = await counter.run_of(refused.value)
    assert record.status == "failed"
    assert record.error is not None
    assert record.error.errors == (PayloadMismatch("$.itemCount", "must be an integer"),)


async def test_an_unsupported_event_waits_for_its_handler(counter: Counter) -> None:
    """It is kept as a failed run, which a redelivery handles once a handler exists."""
    registered = envelope("INVOICE", {"total": 5})
    with pytest.raises(UnsupportedEventType, match=r"^Unsupported event type: INVOICE$") as refused:
        await counter.orchestrator.handle_event("INVOICE", registered)
    record = await counter.run_of(refused.value)
    assert record.status == "failed"
    assert record.error is not None
    assert record.error.message == "Unsupported event type: INVOICE"

    counter.registry.register("INVOICE", counter.handle, payload=None)
    async with counter.open() as newer:
        handled = await newer.handle_event("INVOICE", registered)
    assert handled.run_id == refused.value.run_id
    record = await counter.run_of(handled)
    assert (record.status, record.attempt, record.error) == ("succeeded", 2, None)


@pytest.mark.parametrize(
    "body", ["text", envelope("INVOICE", {}), envelope("ORDER", {}) | {"id": 7}]
)
async def test_a_broken_envelope_leaves_no_run(counter: Counter, body: object) -> None:
    """It is refused before anything is claimed."""
    with pytest.raises(BadEvent) as refused:
        await counter.deliver(body)
    assert refused.value.run_id is None
    assert counter.calls == []


async def test_the_built_in_handlers_are_defaults(counter: Counter) -> None:
    """A provisioning request starts its tier's job and moves the tenant, once."""
    request = provisioning_event(override={"SIZE": 5})
    for replayed in (False, True):
        handled = await counter.orchestrator.handle_event("TENANT_PROVISIONING", request)
        assert handled.replayed is replayed
    (started,) = counter.builder.started
    assert started.job.job_identifier == "standard-tenant"
    assert started.params["SIZE"] == 5
    assert (await counter.run_of(handled)).job == started.job
    tenant = await find_tenant(counter.ledger, "tenant-1")
    assert tenant is not None
    assert tenant.state == "provisioning"


async def test_a_request_that_failed_does_not_move_the_tenant(counter: Counter) -> None:
    """Without a job the tenant is as it was."""
    with pytest.raises(PermanentError):
        await counter.orchestrator.handle_event(
            "TENANT_PROVISIONING", provisioning_event(tier="GOLD")
        )
    assert await find_tenant(counter.ledger, "tenant-1") is None


async def test_any_error_that_is_not_the_handlers_to_raise_keeps_its_traceback(
    counter: Counter,
) -> None:
    """An error of ours that a handler lets through from elsewhere is a bug of the handler."""
    counter.fail_with(BadEvent("from within"))
    with pytest.raises(HandlerFailed) as failed:
        await counter.deliver()
    record = await counter.run_of(failed.value)
    assert record.error is not None
    assert "from within" in (record.error.traceback or "")


async def test_a_cancellation_of_the_handlers_own_making_is_a_bug(counter: Counter) -> None:
    """Only a cancellation of the attempt itself hands it back; else it ends like any bug."""

    async def act(event: Event[Any], run: Run) -> None:
        raise asyncio.CancelledError

    counter.act = act
    for _ in range(3):
        with pytest.raises(HandlerFailed) as failed:
            await counter.deliver()
    assert (await counter.run_of(failed.value)).status == "failed"


class SlowToSettle(InMemoryLedger):
    """A ledger whose settlements take a while."""

    def __init__(self) -> None:
        super().__init__()
        self.settling, self.go_on = asyncio.Event(), asyncio.Event()

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        if any(isinstance(one, RunRecord) and one.status.is_finished for one in records):
            self.settling.set()
            await self.go_on.wait()
        await super().commit(records, unchanged=unchanged)


async def test_a_settlement_under_way_is_finished(clock: ManualClock) -> None:
    """A cancellation in the middle of it can't leave a started job unrecorded."""
    ledger = SlowToSettle()
    counter = Counter(HandlerRegistry(), ledger, InMemoryBuilder("CODE_BUILD"), clock)
    counter.registry.register("ORDER", counter.handle, payload=Order)

    async def act(event: Event[Any], run: Run) -> None:
        await run.start_job("job", {})

    counter.act = act
    async with counter.open() as orchestrator:
        counter.orchestrator = orchestrator
        delivering = asyncio.create_task(counter.deliver())
        await ledger.settling.wait()
        delivering.cancel()
        await asyncio.sleep(0)
        ledger.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await delivering
    ((_, run),) = counter.calls
    record = await find_run(ledger, run.run_id)
    assert record is not None
    assert (record.status, record.job) == ("succeeded", counter.builder.started[0].job)


async def test_waits_do_not_count_as_bugs(counter: Counter) -> None:
    """A run that waited long for something still has all its attempts at a bug."""
    waits: list[Exception | None] = [TemporaryError("wait") for _ in range(5)]
    counter.fail_with(*waits, *[LookupError("bug") for _ in range(3)])
    for _ in waits:
        with pytest.raises(TemporaryError):
            await counter.deliver()
    statuses = []
    for _ in range(3):
        with pytest.raises(HandlerFailed) as failed:
            await counter.deliver()
        statuses.append((await counter.run_of(failed.value)).status)
    assert statuses == ["retry", "retry", "failed"]
