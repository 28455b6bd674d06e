"""An event with another one's key, or at a bad moment, does no harm to what is stored."""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from orchestrator import Event, PermanentError, Run, TemporaryError
from orchestrator.core.dispatch.orchestrator import current_delivery
from orchestrator.core.errors import EventTooLarge
from orchestrator.core.events.envelope import Delivery
from orchestrator.core.events.event import own_outcome_key
from orchestrator.core.identifiers import own_operation_id, start_key
from orchestrator.core.ledger.records import OperationRecord
from orchestrator.settings import Callback, Tiers
from orchestrator.testing import InMemoryBuilder, ManualClock, envelope
from tests.ledgers import find_tenant
from tests.unit.core.dispatch.test_last_resort import (
    MAX_ATTEMPTS,
    REQUEST,
    URL,
    BrokenStructure,
    open_scene,
)

P, D = "TENANT_PROVISIONING", "TENANT_DEPROVISIONING"


@pytest.fixture(autouse=True)
def no_tracebacks() -> Iterator[None]:
    with capture_logs():
        yield


def too_large(event_type: str, event_id: str) -> dict[str, Any]:
    noise = random.Random(1).randbytes(5000).hex()  # noqa: S311 - no secret
    return envelope(event_type, {"tenantId": "t-1", "noise": noise}, event_id=event_id)


async def test_a_too_large_event_is_not_counted_as_a_bug_of_a_run(clock: ManualClock) -> None:
    """413, and the run of the event whose id it has stays as it is."""
    async with open_scene(clock) as scene:
        assert await scene.send(envelope(P, {"tenantId": "t-1"}, event_id="p")) is None
        waits = await scene.send(envelope(D, {"tenantId": "t-1"}, event_id="d"))
        assert isinstance(waits, TemporaryError)
        assert scene.run(D).status == "retry"
        scene.ledger.max_payload_bytes = 1000  # DynamoDB's is 390,000; a body may have 1 MiB
        for _ in range(MAX_ATTEMPTS):
            assert isinstance(await scene.send(too_large(D, "d")), EventTooLarge)
        assert (scene.run(D).status, scene.run(D).bugs) == ("retry", 0)


async def test_a_too_large_event_gives_no_operation_back(clock: ManualClock) -> None:
    """The same, for a run that is between two attempts: the builder throttles it."""

    async def throttled(event: Event[Any], run: Run) -> None:
        raise TemporaryError("throttled")

    async with open_scene(clock, opening=throttled) as scene:
        await scene.send(envelope(P, {"tenantId": "t-1"}, event_id="p"))
        assert scene.operation.state == "open"
        scene.ledger.max_payload_bytes = 1000
        for _ in range(MAX_ATTEMPTS):
            assert isinstance(await scene.send(too_large(P, "p")), EventTooLarge)
        assert (scene.run().status, scene.operation.state) == ("retry", "open")


async def test_a_too_large_event_wakes_no_failed_run(clock: ManualClock) -> None:
    """A failed run is attempted again if its event comes again; this is another."""

    async def refuses(event: Event[Any], run: Run) -> None:
        raise PermanentError("no")

    async with open_scene(clock, opening=refuses) as scene:
        await scene.send(envelope(P, {"tenantId": "t-1"}, event_id="p"))
        assert scene.run().status == "failed"
        scene.ledger.max_payload_bytes = 1000
        assert isinstance(await scene.send(too_large(P, "p")), EventTooLarge)
        assert scene.run().status == "failed"


async def test_a_foreign_clean_up_that_was_sent_before_holds_no_tenant(clock: ManualClock) -> None:
    """Its id can be computed from the operation's; the service's own is another run all the
    same."""

    tiers = {"FULL": {"jobIdentifier": "build", "cleanupJobIdentifier": "clean"}}
    builder = InMemoryBuilder("CODE_BUILD")
    async with open_scene(
        clock, builder=builder, tiers=Tiers(backend="static", static=tiers)
    ) as scene:
        detail = {"tenantId": "t-1", "tier": "FULL"}
        assert await scene.send(envelope(P, detail, event_id="p")) is None
        operation = scene.operation
        outcome_run = own_outcome_key("TENANT_PROVISIONING_FAILURE", operation.start_key)
        known = start_key(own_operation_id(outcome_run), 1)
        contradicts = {"config": {"environmentOverride": {"tenant": {"id": "other"}}}}
        forged = envelope(
            "TENANT_CLEAN_UP",
            {"tenantId": "t-1", "builderConfig": contradicts},
            event_id=known,
            source="orchestrator",
        )
        assert await scene.send(forged) is not None
        assert scene.run("TENANT_CLEAN_UP").status == "failed"
        await scene.orchestrator.cancel("t-1")  # the provisioning fails; its clean-up follows
        await scene.sweep(times=30)
        (clean_up,) = [op for op in scene._all(type(operation)) if op.kind == "clean_up"]
        assert clean_up.job is not None
        assert clean_up.state == "over"


async def test_a_cancel_of_what_ends_by_its_records_is_no_error(clock: ManualClock) -> None:
    """The tenant is free, so the cancel says that the operation has ended."""

    class Hides(InMemoryBuilder):
        hidden = True

        async def start_job(self, *args: Any, **kw: Any) -> Any:
            raise ConnectionResetError

        async def find_job(self, **kw: Any) -> Any:
            if self.hidden:
                raise RuntimeError
            return None

    builder = Hides("CODE_BUILD")
    async with open_scene(clock, builder=builder) as scene:
        broken = scene.with_services(structure=BrokenStructure())
        await broken.send(envelope(P, {"tenantId": "t-1"}, event_id="p"))
        await broken.sweep(times=MAX_ATTEMPTS)
        assert scene.run().ends_by_records
        builder.hidden = False
        clock.turn(70)
        assert (await scene.orchestrator.cancel("t-1")).has_ended


async def test_a_cancel_makes_no_new_request_of_equal_content(clock: ManualClock) -> None:
    """The opener, known by its content alone, has its job recorded just when the operator cancels,
    and a deprovisioning waits: no second provisioning is put behind that."""
    go_on = asyncio.Event()

    async def slow(event: Event[Any], run: Run) -> None:
        await go_on.wait()
        await run.start_job("build", {})

    async with open_scene(clock, opening=slow) as scene:

        async def provision() -> None:
            current_delivery.set(Delivery(same_content_same_event=True))
            await scene.orchestrator.handle_event(P, {"tenantId": "t-1"})

        opening = asyncio.create_task(provision())
        for _ in range(50):
            await asyncio.sleep(0)
        assert isinstance(
            await scene.send(envelope(D, {"tenantId": "t-1"}, event_id="d")), TemporaryError
        )
        load = scene.ledger.load

        async def late(keys: Any) -> Any:
            if any(key.startswith("PAYLOAD#") for key in keys) and not go_on.is_set():
                go_on.set()
                await opening  # it was under way before the operator's cancel
            return await load(keys)

        scene.ledger.load = late  # type: ignore[method-assign]
        clock.turn(1)
        with contextlib.suppress(TemporaryError):
            await scene.orchestrator.cancel("t-1")
        tenant = await find_tenant(scene.ledger, "t-1")
        assert tenant is not None
        assert [one.kind for one in tenant.waiting] == ["deprovisioning"]


async def test_an_outcome_ended_by_the_records_leaves_its_report_owed(clock: ManualClock) -> None:
    """A deployment was published and will report; if it never comes, the next opening does."""

    class Bus:
        why_silent = None

        async def publish(self, **kw: Any) -> str:
            return "id"

    async with open_scene(clock, callback=Callback(url=URL, after="deployment")) as scene:
        scene = scene.with_services(publisher=Bus())
        assert await scene.send(REQUEST) is None
        builder = scene.orchestrator.services.builders["CODE_BUILD"]
        operation = scene.operation
        # its job is over; the settle that would record the deferred report breaks down
        broken: list[object] = []

        def breaks(record: object) -> bool:
            is_deferred = isinstance(record, OperationRecord) and record.owed is not None
            broken.extend([record] if is_deferred else [])
            return is_deferred and len(broken) <= MAX_ATTEMPTS

        scene.ledger.breaks_on = breaks
        assert operation.job is not None
        builder.finish(operation.job.id)  # type: ignore[attr-defined]
        await scene.sweep(times=MAX_ATTEMPTS + 2)
        assert scene.operation.state == "over"
        assert scene.operation.report is None
        tenant = await find_tenant(scene.ledger, "t-1")
        assert tenant is not None
        assert tenant.owes == operation.operation_id, scene.operation
