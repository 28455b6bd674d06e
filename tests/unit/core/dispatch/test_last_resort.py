"""Runs that end by their records, whatever it is that raises around their handler."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator import (
    Event,
    Extension,
    HandlerFailed,
    HandlerRegistry,
    Job,
    Orchestrator,
    Run,
    Settings,
    TemporaryError,
    open_orchestrator,
)
from orchestrator.core.errors import AttemptFailed, EventTooLarge
from orchestrator.core.ledger.breakdowns import DIED, USED_UP
from orchestrator.core.ledger.history import BROKE_DOWN
from orchestrator.core.ledger.records import OperationRecord, Record, RunRecord, RunStatus
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.settings import Callback, Operations, Runs
from orchestrator.testing import InMemoryBuilder, ManualClock, SequentialIds, envelope
from tests.desk import DeskLedger
from tests.ledgers import find_due, find_tenant

MAX_ATTEMPTS, MAX_TAKEOVERS, DEADLINE_S = 3, 4, 3600.0
REQUEST = envelope("TENANT_PROVISIONING", {"tenantId": "t-1", "secret": "s", "context": "c"})
PROVISIONED = envelope("TENANT_PROVISIONING_SUCCESS", {"tenantId": "t-1"}, event_id="end")
URL = "http://127.0.0.1:9/webhook"

Handlers = Mapping[str, Callable[[Event[Any], Run], Any]]


@attrs.frozen
class Scene:
    """An orchestrator over a ledger and a builder of the test's."""

    orchestrator: Orchestrator
    ledger: DeskLedger
    clock: ManualClock

    async def send(self, event: Mapping[str, Any]) -> Exception | None:
        """Send an event; the error that its sender gets, or None if the event is handled."""
        try:
            await self.orchestrator.handle_event(str(event["detail-type"]), event)
        except Exception as error:  # noqa: BLE001 - it is looked at
            return error
        return None

    async def sweep(self, *, times: int = 1, after_s: float = 305) -> None:
        for _ in range(times):
            self.clock.turn(after_s)
            await self.orchestrator.reconcile()

    def with_services(self, **services: Any) -> "Scene":
        """The same with other ports."""
        changed = attrs.evolve(self.orchestrator.services, **services)
        return attrs.evolve(self, orchestrator=attrs.evolve(self.orchestrator, services=changed))

    def run(self, event_type: str = "TENANT_PROVISIONING") -> RunRecord:
        (run,) = (one for one in self._all(RunRecord) if one.event_type == event_type)
        assert isinstance(run, RunRecord)
        return run

    @property
    def operation(self) -> OperationRecord:
        (operation,) = self._all(OperationRecord)
        assert isinstance(operation, OperationRecord)
        return operation

    async def tenant_state(self) -> str | None:
        tenant = await find_tenant(self.ledger, "t-1")
        return tenant.state if tenant else None

    async def is_at_rest(self) -> bool:
        """Nothing is due, now or ever."""
        return not await find_due(self.ledger, before=self.clock.now() + timedelta(days=30))

    def _all(self, kind: type) -> list[Any]:
        return [record for record in self.ledger._items.values() if isinstance(record, kind)]


@pytest.fixture(autouse=True)
def no_tracebacks() -> Iterator[None]:
    """Each attempt that breaks down is logged with one, which takes longer than all the rest."""
    with capture_logs():
        yield


async def start(event: Event[Any], run: Run) -> None:
    await run.start_job("build", {})


async def stay(event: Event[Any], run: Run) -> None:
    """It starts nothing."""


@asynccontextmanager
async def open_scene(
    clock: ManualClock,
    *,
    builder: Any = None,
    opening: Callable[[Event[Any], Run], Any] = start,
    **settings: Any,
) -> AsyncIterator[Scene]:
    registry = HandlerRegistry()
    registry.register("TENANT_PROVISIONING", opening)
    given = {
        "operations": Operations(reconcile_every_s=0, deadline_s=DEADLINE_S),
        "runs": Runs(max_attempts=MAX_ATTEMPTS, max_takeovers=MAX_TAKEOVERS),
        **settings,
    }
    ledger = DeskLedger()
    async with open_orchestrator(
        Settings(**given),
        extension=Extension(
            registry=registry, builders={"CODE_BUILD": builder or InMemoryBuilder("CODE_BUILD")}
        ),
        clock=clock,
        ids=SequentialIds(),
        ledger=ledger,
    ) as orchestrator:
        assert isinstance(orchestrator, Orchestrator)
        yield Scene(orchestrator, ledger, clock)


class BrokenStructure:
    """No body ever becomes a model: it raises an error of its own."""

    def structure(self, value: object, model: Any) -> Any:
        raise RuntimeError(f"what is {value}?")

    def unstructure(self, value: object) -> Any:
        return value


class BrokenRedactor(Redactor):
    """It raises whatever text it is called with."""

    def leave_out(self, value: Any) -> Any:
        raise RecursionError(f"too deep: {value}")


async def test_a_model_that_breaks_down_ends_a_request(clock: ManualClock) -> None:
    """Nothing was sent, but that is certain only once a look-up is: then the tenant is free."""
    async with open_scene(clock) as scene:
        broken = scene.with_services(structure=BrokenStructure())
        error = await broken.send(REQUEST)
        assert isinstance(error, AttemptFailed)
        assert "t-1" not in str(error)
        run = scene.run()
        assert (run.status, run.bugs) == ("retry", 1)
        assert run.error is not None
        assert (run.error.type, run.error.message) == ("RuntimeError", BROKE_DOWN)
        assert run.error.traceback is None
        await broken.sweep(times=MAX_ATTEMPTS - 1)
        assert scene.run().status == "retry"
        await broken.sweep()
        run = scene.run()
        assert run.error is not None
        assert (run.status, run.error.message) == ("failed", USED_UP)
        assert (scene.operation.state, await scene.tenant_state()) == ("given_back", None)
        assert await scene.is_at_rest()


async def test_a_run_that_broke_down_continues_once_the_bug_is_fixed(clock: ManualClock) -> None:
    """It continues as after a bug of its handler; so does a failed one that is delivered again."""
    async with open_scene(clock) as scene:
        broken = scene.with_services(structure=BrokenStructure())
        assert isinstance(await broken.send(REQUEST), HandlerFailed)
        await scene.sweep()
        assert (scene.run().status, scene.operation.state) == ("succeeded", "open")


async def test_redaction_that_breaks_down_ends_what_a_handler_ended(clock: ManualClock) -> None:
    """The settle of a handler's `run.complete()` makes an event of the request."""

    async def complete(event: Event[Any], run: Run) -> None:
        run.complete()

    async with open_scene(clock, opening=complete) as scene:
        broken = scene.with_services(secrets=BrokenRedactor())
        assert isinstance(await broken.send(REQUEST), AttemptFailed)
        await broken.sweep(times=MAX_ATTEMPTS + 1)
        assert scene.run().status == "failed"
        assert (scene.operation.state, await scene.tenant_state()) == ("given_back", None)


async def test_redaction_that_breaks_down_before_the_claim_leaves_an_outcome_to_its_sender(
    clock: ManualClock,
) -> None:
    """Nothing of it is stored, and a run that was stored before continues."""
    async with open_scene(clock, opening=stay) as scene:
        assert await scene.send(REQUEST) is None
        error = await scene.with_services(secrets=BrokenRedactor()).send(PROVISIONED)
        assert isinstance(error, AttemptFailed)
        assert error.run_id is None
        assert len(scene._all(RunRecord)) == 1
        assert await scene.send(PROVISIONED) is None
        assert await scene.tenant_state() == "provisioned"


@attrs.define
class Blind(InMemoryBuilder):
    """It loses the answers to its starts, and its look-ups fail."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        raise TemporaryError("no answer")

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        raise TemporaryError("no answer", retry_after_s=1e9)


async def test_a_look_up_that_only_raises_holds_a_tenant_to_the_deadline(
    clock: ManualClock,
) -> None:
    """Counted from the last possible send, which no further attempt can move."""
    async with open_scene(clock, builder=Blind("CODE_BUILD")) as scene:
        assert isinstance(await scene.send(REQUEST), TemporaryError)
        broken = scene.with_services(structure=BrokenStructure())
        await broken.sweep(times=MAX_ATTEMPTS)
        run = scene.run()
        assert run.ends_by_records
        assert run.possible_until is not None
        until = run.possible_until + timedelta(seconds=DEADLINE_S)
        while clock.now() + timedelta(seconds=305) < until:
            await broken.sweep()
            assert (scene.run().status, scene.operation.state) == ("retry", "open")
        await broken.sweep()
        assert (scene.run().status, scene.operation.state) == ("failed", "given_back")
        assert await scene.tenant_state() is None
        assert await scene.is_at_rest()


async def test_the_job_of_a_run_that_ends_by_its_records_is_found(clock: ManualClock) -> None:
    """The run fails, and the operation continues with the job."""

    @attrs.define
    class Silent(InMemoryBuilder):
        async def start_job(
            self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
        ) -> Job:
            await super().start_job(job_identifier, params, start_key=start_key)
            raise TemporaryError("no answer")

    builder = Silent("CODE_BUILD")
    async with open_scene(clock, builder=builder) as scene:
        await scene.send(REQUEST)
        await scene.with_services(structure=BrokenStructure()).sweep(times=MAX_ATTEMPTS)
        (started,) = builder.started
        assert (scene.run().status, scene.run().job) == ("failed", started.job)
        assert (scene.operation.state, scene.operation.job) == ("open", started.job)


async def test_an_outcome_counts_by_its_type(clock: ManualClock) -> None:
    """The tenant moves as the type says, and the control plane is sent the bare status."""
    async with open_scene(clock, callback=Callback(url=URL), opening=stay) as scene:
        assert await scene.send(REQUEST) is None
        broken = scene.with_services(structure=BrokenStructure())
        assert isinstance(await broken.send(PROVISIONED), AttemptFailed)
        await broken.sweep(times=MAX_ATTEMPTS - 1)
        run, operation = scene.run("TENANT_PROVISIONING_SUCCESS"), scene.operation
        assert run.status == "failed"
        assert (operation.state, operation.succeeded) == ("over", True)
        assert await scene.tenant_state() == "provisioned"
        assert operation.report is not None
        data = {"status": 1, "resources": []}
        assert operation.report.body == {"initiatorId": "t-1", "type": 0, "data": data}
        assert operation.report.url == URL


async def test_a_report_without_an_address_is_noted(clock: ManualClock) -> None:
    """The tier and the event that might name one are not read any more."""
    async with open_scene(clock, opening=stay) as scene:
        assert await scene.send(REQUEST) is None
        broken = scene.with_services(structure=BrokenStructure())
        await broken.send(PROVISIONED)
        await broken.sweep(times=MAX_ATTEMPTS - 1)
        note = scene.run("TENANT_PROVISIONING_SUCCESS").note
        assert note is not None
        assert "callback.url is not set" in note
        assert await scene.is_at_rest()


async def test_a_run_whose_holders_only_die_ends(clock: ManualClock) -> None:
    """A run ends after `runs.max_takeovers` take-overs in a row without a write of its attempts."""
    async with open_scene(clock, opening=stay) as scene:
        await scene.send(REQUEST)
        died = attrs.evolve(
            scene.run(),
            status=RunStatus.RUNNING,
            takeovers=MAX_TAKEOVERS - 1,
            lease_until=clock.now(),
            due_at=clock.now(),
        )
        await scene.ledger.put(died)
        await scene.sweep()
        assert (scene.run().status, scene.run().error) == ("failed", DIED)
        assert (scene.operation.state, await scene.tenant_state()) == ("given_back", None)
        assert await scene.is_at_rest()


async def test_an_unreadable_item_ends_the_run_alone(clock: ManualClock) -> None:
    """It isn't retried without end; the run names the items that an operator has to look at."""
    async with open_scene(clock, opening=stay) as scene:
        await scene.send(REQUEST)

        def is_over(record: Record) -> bool:
            return isinstance(record, OperationRecord) and record.state == "over"

        scene.ledger.breaks_on = is_over
        assert isinstance(await scene.send(PROVISIONED), AttemptFailed)
        await scene.sweep(times=MAX_ATTEMPTS)
        run = scene.run("TENANT_PROVISIONING_SUCCESS")
        assert run.status == "failed"
        assert run.note is not None
        assert scene.operation.operation_id in run.note
        assert await scene.is_at_rest()


async def test_a_stored_event_that_is_another_one_is_not_retried_without_end(
    clock: ManualClock,
) -> None:
    """The stored event can be read, but isn't the one that the run was claimed for."""
    async with open_scene(clock, builder=Blind("CODE_BUILD")) as scene:
        await scene.send(REQUEST)
        await scene.ledger.put(
            attrs.evolve(scene.run(), body_digest="another", possible_until=None)
        )
        await scene.sweep(times=MAX_ATTEMPTS)
        assert (scene.run().status, scene.operation.state) == ("failed", "given_back")
        assert await scene.is_at_rest()


async def test_a_run_without_its_event_is_not_retried_without_end(clock: ManualClock) -> None:
    """If its payload was deleted, the run ends."""
    async with open_scene(clock, builder=Blind("CODE_BUILD")) as scene:
        await scene.send(REQUEST)
        await scene.ledger.put(attrs.evolve(scene.run(), possible_until=None))
        gone = f"PAYLOAD#{scene.run().run_id}"
        del scene.ledger._items[gone]
        scene.ledger._unsorted.discard(gone)
        await scene.sweep(times=MAX_ATTEMPTS)
        assert (scene.run().status, scene.operation.state) == ("failed", "given_back")
        assert await scene.is_at_rest()


async def test_a_settle_that_the_ledger_cannot_take_now_is_no_bug(clock: ManualClock) -> None:
    """The run stays with its holder until the lease is over, as it would if that had died."""
    async with open_scene(clock, opening=stay) as scene:
        closed = TemporaryError("closed")

        async def close() -> None:
            scene.ledger.failures.append(closed)

        async def nothing() -> None:
            return None

        scene.ledger.before_commit += [nothing, close]
        assert await scene.send(REQUEST) is closed
        assert (scene.run().status, scene.run().bugs) == ("running", 0)
        await scene.sweep()
        assert scene.run().status == "succeeded"


async def test_steps_that_were_taken_are_kept_where_a_settle_raises(clock: ManualClock) -> None:
    """The steps are stored, so that none is taken again after a bug behind the handler."""
    taken = []

    async def welcome(event: Event[Any], run: Run) -> None:
        async def send() -> None:
            taken.append(run.attempt)

        await run.step("welcome", send)
        run.complete()

    async with open_scene(clock, opening=welcome) as scene:
        broken = scene.with_services(secrets=BrokenRedactor())
        await broken.send(REQUEST)
        await broken.sweep(times=MAX_ATTEMPTS + 1)
        assert (scene.run().status, taken) == ("failed", [1])


async def test_a_run_that_ends_by_its_records_does_not_wait(clock: ManualClock) -> None:
    """Its tenant is busy with another operation: the sweep ends it all the same, without a claim of
    its event."""
    async with open_scene(clock, opening=stay) as scene:
        await scene.send(REQUEST)
        removal = envelope("TENANT_DEPROVISIONING", {"tenantId": "t-1"})
        assert isinstance(await scene.send(removal), TemporaryError)
        waiting = scene.run("TENANT_DEPROVISIONING")
        assert waiting.status == "retry"
        await scene.ledger.put(attrs.evolve(waiting, ends_by_records=True, error=DIED))
        await scene.sweep()
        assert scene.run("TENANT_DEPROVISIONING").status == "failed"
        assert scene.run("TENANT_DEPROVISIONING").error == DIED
        assert scene.operation.state == "open"


async def test_an_event_that_is_too_large_by_now_is_no_bug_of_its_run(clock: ManualClock) -> None:
    """The ledger takes less than it did for the run: the sender gets that error, no bug counts."""

    async def busy(event: Event[Any], run: Run) -> None:
        raise TemporaryError("throttled")

    async with open_scene(clock, opening=busy) as scene:
        await scene.send(REQUEST)
        before = scene.run()
        scene.ledger.max_payload_bytes = 1
        assert isinstance(await scene.send(REQUEST), EventTooLarge)
        assert scene.run() == before
