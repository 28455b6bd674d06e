"""The sweep, over HTTP: due work is resumed without its sender."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from orchestrator import Event, Extension, PermanentError, Run, Settings, TemporaryError
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.errors import QuotaReached
from orchestrator.core.events.envelope import Delivery, parse_event
from orchestrator.core.ledger.claim_request import ClaimRequest
from orchestrator.core.ledger.event_codec import encode_event
from orchestrator.core.ledger.guards import Timings
from orchestrator.core.ledger.lease import RunLease, claim_run
from orchestrator.core.ledger.pages import Page
from orchestrator.core.ledger.records import run_key
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.settings import LedgerSettings, Runs
from orchestrator.testing import ManualClock, envelope, provisioning_event
from tests.acceptance.answers import only_build, read_problem, read_run
from tests.acceptance.stories import PROVISION, later, list_runs, read_wait, send, sweep
from tests.acceptance.sweeps import EVENT, LEASE_S, SKEW_S, my_event
from tests.conftest import Client, StartService

QUOTA = Fault.error("AccountLimitExceededException", "Cannot have more than 60 builds in queue")


def raising(make_error: Callable[[], Exception]) -> Extension:
    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        raise make_error()

    return my_event(handle)


# How it is requested


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/events/RECONCILE", {}),
        ("/events", envelope("RECONCILE", {})),
        ("/events", envelope("Scheduled Event", {}, source="aws.events")),
        ("/events/Scheduled Event", envelope("Scheduled Event", {}, source="aws.events")),
    ],
)
async def test_a_sweep_is_no_event_to_remember(
    service: Client, path: str, body: dict[str, Any]
) -> None:
    """A request for a sweep is 200 each time, never a duplicate whatever its key, and has no
    run."""
    for _ in range(2):
        answer = await service.post(path, json=body, headers={"Idempotency-Key": "k-1"})
        assert (answer.status, await answer.json()) == (200, {"success": True})
        assert not {"Location", "Idempotent-Replayed"} & set(answer.headers)
    assert await list_runs(service) == []


async def test_a_ledger_that_cant_be_reached_is_no_sweep(
    start_service: StartService, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the ledger is unreachable a sweep is 503, so that it is requested again."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9")
    service = await start_service(attrs.evolve(settings, ledger=LedgerSettings()))
    await read_problem(await service.post("/events/RECONCILE", json={}), 503)


# What is due


async def test_a_run_is_resumed_after_its_pause_and_not_before(
    either: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """A run that waits 30 s for a quota is resumed after exactly 30 s."""
    codebuild.inject("StartBuild", QUOTA)
    address = await read_wait(await send(either, PROVISION, "request"), pause_s=30)
    due = later(clock, 30)
    for _ in range(29):
        clock.turn(1)
        await sweep(either)
    run = await read_run(either, address)
    assert (run["status"], run["attempt"], run["dueAt"]) == ("retry", 1, due)
    assert not codebuild.builds

    clock.turn(1)
    await sweep(either)
    run = await read_run(either, address)
    assert (run["status"], run["attempt"], run["error"], run["dueAt"]) == (
        "succeeded",
        2,
        None,
        None,
    )
    assert run["job"]["id"] == only_build(codebuild).id


@pytest.mark.parametrize(
    ("make_error", "pauses"),
    [
        pytest.param(
            lambda: TemporaryError("not now"), [5, 10, 20, 40, 80, 160, 300, 300], id="growing"
        ),
        pytest.param(lambda: QuotaReached("full"), [30, 60, 120, 240, 300, 300], id="quota"),
        pytest.param(lambda: TemporaryError("", retry_after_s=7), [7, 7, 7], id="the user's"),
        pytest.param(lambda: TemporaryError("", retry_after_s=900), [900, 900], id="long"),
    ],
)
async def test_retry_after_is_the_runs_pause(
    start_service: StartService,
    clock: ManualClock,
    make_error: Callable[[], Exception],
    pauses: list[int],
) -> None:
    """Each attempt's pause is its `Retry-After`, and the sweep resumes the run after it."""
    service = await start_service(extension=raising(make_error))
    for attempt, pause_s in enumerate(pauses, start=1):
        address = await read_wait(await service.post("/events", json=EVENT), pause_s=pause_s)
        run = await read_run(service, address)
        assert (run["attempt"], run["dueAt"]) == (attempt, later(clock, pause_s))
        clock.turn(pause_s - 1)
        await sweep(service)
        assert (await read_run(service, address))["attempt"] == attempt
        clock.turn(1)


async def test_pauses_grow_from_sweep_to_sweep(
    start_service: StartService, clock: ManualClock
) -> None:
    """Pauses grow with each sweep, without the event being sent again."""
    service = await start_service(extension=raising(lambda: TemporaryError("not now")))
    address = await read_wait(await service.post("/events", json=EVENT), pause_s=5)
    clock.turn(5)
    for pause_s in (10, 20, 40, 80, 160, 300, 300):
        await sweep(service)
        assert (await read_run(service, address))["dueAt"] == later(clock, pause_s)
        clock.turn(pause_s)


async def test_a_fraction_of_a_second_is_rounded_up_for_the_sender_alone(
    start_service: StartService, clock: ManualClock
) -> None:
    """`Retry-After` is rounded up to whole seconds, and the run is due after the handler's own
    pause."""
    service = await start_service(
        extension=raising(lambda: TemporaryError("not now", retry_after_s=41.2))
    )
    address = await read_wait(await service.post("/events", json=EVENT), pause_s=42)
    assert (await read_run(service, address))["dueAt"] == later(clock, 41.2)


async def test_a_bug_is_tried_again_until_its_attempts_are_used_up(
    start_service: StartService, settings: Settings, clock: ManualClock
) -> None:
    """The sweep retries a bug with growing pauses until no attempt is left; then the run has failed
    and stays so."""
    service = await start_service(
        attrs.evolve(settings, runs=Runs(max_attempts=3)), extension=raising(lambda: KeyError("k"))
    )
    problem = await read_problem(await service.post("/events", json=EVENT), 500)
    for attempt, pause_s in ((1, 5), (2, 10)):
        run = await read_run(service, problem["instance"])
        assert (run["status"], run["attempt"]) == ("retry", attempt)
        assert run["dueAt"] == later(clock, pause_s)
        clock.turn(pause_s)
        await sweep(service)
    clock.turn(24 * 3600)
    await sweep(service)
    run = await read_run(service, problem["instance"])
    assert (run["status"], run["attempt"], run["dueAt"]) == ("failed", 3, None)


async def test_a_sweep_leaves_failed_runs_alone(
    start_service: StartService, clock: ManualClock
) -> None:
    """A sweep doesn't resume a failed run."""
    service = await start_service(extension=raising(lambda: PermanentError("never")))
    problem = await read_problem(await service.post("/events", json=EVENT), 422)
    clock.turn(24 * 3600)
    await sweep(service)
    assert (await read_run(service, problem["instance"]))["attempt"] == 1


async def test_one_sweep_resumes_all_due_runs_and_no_others(
    start_service: StartService, clock: ManualClock
) -> None:
    """One sweep resumes all due runs of more than one page of the ledger, and failing runs don't
    affect the others."""
    attempts: dict[int, int] = {}

    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        number = event.body["n"]
        attempts[number] = run.attempt
        if run.attempt == 1:
            raise TemporaryError("not now", retry_after_s=100 if number < 45 else 200)
        if number % 10 == 0:
            raise PermanentError("never") if number % 20 else KeyError("a bug")

    service = await start_service(extension=my_event(handle))
    for number in range(50):
        await service.post(
            "/events", json=envelope("MY_EVENT", {"n": number}, event_id=f"{number}")
        )
    clock.turn(100)
    await sweep(service)
    assert attempts == {number: 2 if number < 45 else 1 for number in range(50)}


async def test_the_event_is_handled_as_it_came(
    start_service: StartService, clock: ManualClock
) -> None:
    """A resumed event has the id, source, time, raw body and business body of the first attempt,
    from the stored payload."""
    seen = []

    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        seen.append(event)
        if run.attempt == 1:
            raise TemporaryError("not now")

    service = await start_service(extension=my_event(handle))
    detail = {"type": "x", "data": {"n": 1.5, "text": "Grüße 😀", "none": None}}
    await read_wait(
        await service.post(
            "/events", json=envelope("MY_EVENT", detail), headers={"Idempotency-Key": "k-1"}
        )
    )
    clock.turn(5)
    await sweep(service)
    first, second = seen
    assert first == second
    assert (second.id, second.body, second.raw["detail"]) == ("k-1", detail["data"], detail)


async def in_progress(ledger: InMemoryLedger, clock: ManualClock) -> str:
    """Another replica claims the event and dies; returns the address of its run."""
    event = parse_event(
        "MY_EVENT",
        EVENT,
        delivery=Delivery(),
        aliases={},
        now=datetime(2026, 11, 20, tzinfo=UTC),
        fresh_id=str,
    )
    transactions = Transactions(ledger=ledger, clock=clock, timings=Timings())
    claimed = await claim_run(
        transactions, ClaimRequest(event=event, payload=encode_event(event), tenant_id=None)
    )
    assert isinstance(claimed, RunLease)
    return f"/runs/{claimed.run.run_id}"


async def test_a_run_of_a_crashed_process_is_resumed_when_its_lease_has_expired(
    start_service: StartService, clock: ManualClock
) -> None:
    """The run of a crashed process is resumed when its lease has expired, with a margin for clocks
    that differ."""
    attempts = []

    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        attempts.append(run.attempt)

    ledger = InMemoryLedger()
    service = await start_service(extension=my_event(handle), ledger=ledger)
    address = await in_progress(ledger, clock)
    for seconds in (LEASE_S, SKEW_S - 0.5):
        clock.turn(seconds)
        await sweep(service)
        assert await read_wait(await service.post("/events", json=EVENT)) == address
        assert (await read_run(service, address))["status"] == "running"
    clock.turn(0.5)
    await sweep(service)
    run = await read_run(service, address)
    assert (run["status"], run["attempt"], attempts) == ("succeeded", 2, [2])


class OldIndex(InMemoryLedger):
    """A ledger whose index of due items is stale: it has all runs."""

    async def find_due(self, **asked: Any) -> Page[str]:
        return Page([key for key in self._items if key.startswith(run_key(""))], None)


async def test_items_of_a_stale_index_are_read_again(
    start_service: StartService, clock: ManualClock
) -> None:
    """A sweep over a stale index leaves finished runs, and a run whose pause isn't over, as they
    are."""
    attempts = []

    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        attempts.append((event.id, run.attempt))
        if event.id == "failed":
            raise PermanentError("never")
        if event.id == "retry":
            raise TemporaryError("not now")

    service = await start_service(extension=my_event(handle), ledger=OldIndex())
    for event_id in ("succeeded", "failed", "retry"):
        await service.post("/events", json=envelope("MY_EVENT", {}, event_id=event_id))
    before = await list_runs(service)
    clock.turn(4)
    await sweep(service)
    assert await list_runs(service) == before
    clock.turn(1)
    await sweep(service)
    assert attempts == [("succeeded", 1), ("failed", 1), ("retry", 1), ("retry", 2)]


async def test_two_replicas_sweep_at_once(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """Each due run is resumed once, by one of the replicas."""
    ledger = InMemoryLedger()
    first = await start_service(ledger=ledger)
    second = await start_service(ledger=ledger)
    codebuild.inject("StartBuild", *[QUOTA] * 10)
    for number in range(10):
        event = provisioning_event(tenant_id=f"t-{number}", event_id=f"e-{number}")
        await read_wait(await first.post("/events", json=event))
    clock.turn(30)
    await asyncio.gather(sweep(first), sweep(second), sweep(first), sweep(second))
    runs = await list_runs(first)
    assert {(run["status"], run["attempt"]) for run in runs} == {("succeeded", 2)}
    assert len(codebuild.builds) == 10


async def test_a_sweep_finishes_runs_once_the_fault_is_over(
    either: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """However many attempts a lasting fault costs, sweeps end with one build."""
    codebuild.inject("StartBuild", *[QUOTA] * 8)
    address = await read_wait(await send(either, PROVISION, "request"), pause_s=30)
    for _ in range(8):
        assert (await read_run(either, address))["status"] == "retry"
        clock.turn(300)
        await sweep(either)
    run = await read_run(either, address)
    assert (run["status"], run["attempt"]) == ("succeeded", 9)
    assert only_build(codebuild)
