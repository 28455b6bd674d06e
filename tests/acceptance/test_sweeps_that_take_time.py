"""Sweeps by the timer, and slow work: no handler and no builder delays another."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from orchestrator import Event, Extension, JobDescription, Run, Settings, TemporaryError
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.settings import Intake, Operations, Tiers
from orchestrator.testing import InMemoryBuilder, ManualClock, envelope
from tests.acceptance.answers import read_problem, read_run, read_success
from tests.acceptance.stories import PROVISION, later, list_runs, read_wait, state_of, sweep
from tests.acceptance.sweeps import EVENT, LEASE_S, SKEW_S, my_event, until
from tests.conftest import StartService
from tests.desk import let_others_work


async def test_the_timer_sweeps(
    start_service: StartService, settings: Settings, clock: ManualClock
) -> None:
    """The service sweeps every `operations.reconcile_every_s` without a request."""
    attempts: asyncio.Queue[int] = asyncio.Queue()

    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        attempts.put_nowait(run.attempt)
        raise TemporaryError("not now", retry_after_s=1)

    service = await start_service(
        attrs.evolve(settings, operations=Operations(reconcile_every_s=60)),
        extension=my_event(handle),
    )
    address = await read_wait(await service.post("/events", json=EVENT))
    assert attempts.get_nowait() == 1
    clock.turn(59)
    await read_run(service, address)
    assert attempts.empty()

    for attempt in (2, 3):
        clock.turn(60)
        async with asyncio.timeout(5):
            assert await attempts.get() == attempt

        async def is_kept(attempt: int = attempt) -> bool:
            run = await read_run(service, address)
            return (run["status"], run["attempt"]) == ("retry", attempt)

        await until(is_kept)


async def test_a_slow_handler_delays_no_later_sweep(
    start_service: StartService, settings: Settings, clock: ManualClock
) -> None:
    """The next sweep begins while a run of the one before is still in progress."""
    swept: asyncio.Queue[str] = asyncio.Queue()
    release = asyncio.Event()

    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        if run.attempt == 1:
            raise TemporaryError("not now", retry_after_s=event.body["pause"])
        swept.put_nowait(event.id)
        await release.wait()

    service = await start_service(
        attrs.evolve(settings, operations=Operations(reconcile_every_s=60)),
        extension=my_event(handle),
    )
    for event_id, pause in (("first", 60), ("second", 120)):
        body = envelope("MY_EVENT", {"pause": pause}, event_id=event_id)
        await read_wait(await service.post("/events", json=body))
    for event_id in ("first", "second"):
        clock.turn(60)
        async with asyncio.timeout(5):
            assert await swept.get() == event_id
        await let_others_work()
    release.set()

    async def are_done() -> bool:
        return {run["status"] for run in await list_runs(service)} == {"succeeded"}

    await until(are_done)


async def test_a_requested_sweep_ends_before_its_deadline(
    start_service: StartService, settings: Settings, clock: ManualClock
) -> None:
    """A requested sweep is 200 before its deadline, and hands back the runs in progress, which stay
    due."""
    finished = []

    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        if run.attempt == 1:
            raise TemporaryError("not now")
        if run.attempt == 2 and event.id == "slow":
            await asyncio.Event().wait()
        finished.append(event.id)

    service = await start_service(
        attrs.evolve(settings, intake=Intake(deadline_s=30)), extension=my_event(handle)
    )
    for event_id in ("slow", "quick"):
        await read_wait(
            await service.post("/events", json=envelope("MY_EVENT", {}, event_id=event_id))
        )
    clock.turn(5)
    sweeping = asyncio.ensure_future(sweep(service))

    async def is_slow_alone_at_work() -> bool:
        at_work = await list_runs(service, status="running")
        return finished == ["quick"] and len(at_work) == 1

    await until(is_slow_alone_at_work)
    clock.turn(24)
    await sweeping
    assert finished == ["quick"]
    (run,) = await list_runs(service, status="retry")
    assert run["attempt"] == 2

    clock.turn(5)
    await sweep(service)
    assert finished == ["quick", "slow"]


class Silent(InMemoryBuilder):
    """A builder that takes starts, and never answers `describe_jobs`."""

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobDescription]:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_builder_that_hangs_delays_no_other(
    start_service: StartService, settings: Settings, clock: ManualClock
) -> None:
    """Each builder is queried separately, so that one that hangs delays no other's jobs."""
    silent, other = Silent("A_SILENT"), InMemoryBuilder("OTHER")
    tiers = {name: {"jobIdentifier": "up", "builder": name} for name in ("A_SILENT", "OTHER")}
    service = await start_service(
        attrs.evolve(settings, tiers=Tiers(backend="static", static=tiers)),
        extension=Extension(builders={"A_SILENT": silent, "OTHER": other}),
    )
    for name in tiers:
        body = {"tenantId": name, "tier": name}
        await read_success(await service.post(f"/events/{PROVISION}", json=body))
    other.finish(other.started[0].job.id)
    clock.turn(61)
    sweeping = asyncio.ensure_future(service.post("/events/RECONCILE", json={}))

    async def is_over() -> bool:
        return await state_of(service, "OTHER") == "provisioned"

    await until(is_over)
    assert await state_of(service, "A_SILENT") == "provisioning"
    sweeping.cancel()


async def test_slow_is_not_lost(
    start_service: StartService, settings: Settings, clock: ManualClock
) -> None:
    """After the deadline the answer is 503 and the run continues under a lease that is renewed: for
    ten leases neither a replica's sweep nor a redelivery takes it over, and then it succeeds."""
    release, attempts = asyncio.Event(), []

    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        attempts.append(run.attempt)
        await release.wait()

    ledger = InMemoryLedger()
    impatient = attrs.evolve(settings, intake=Intake(deadline_s=0.1))
    service = await start_service(impatient, extension=my_event(handle), ledger=ledger)
    replica = await start_service(impatient, extension=my_event(handle), ledger=ledger)
    await read_problem(await service.post("/events", json=EVENT), 503)
    (run,) = await list_runs(service)
    address = f"/runs/{run['runId']}"
    for _ in range(30):
        clock.turn(LEASE_S / 3)

        async def is_renewed() -> bool:
            due = later(clock, LEASE_S + SKEW_S)
            return bool((await read_run(replica, address))["dueAt"] == due)

        await until(is_renewed)
        await sweep(replica)
    assert await read_wait(await replica.post("/events", json=EVENT)) == address
    assert (await read_run(replica, address))["status"] == "running"

    release.set()

    async def is_done() -> bool:
        return bool((await read_run(service, address))["status"] == "succeeded")

    await until(is_done)
    assert attempts == [1]
    answer = await replica.post("/events", json=EVENT)
    assert await read_success(answer) == address
    assert answer.headers["Idempotent-Replayed"] == "true"
