"""Attempts that break down around their handler are counted, and after the last one the run ends by
its records."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator import Settings
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.ledger.breakdowns import USED_UP
from orchestrator.core.ledger.history import BROKE_DOWN
from orchestrator.core.ledger.records import Record, RunRecord
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.settings import Callback, Runs, Tiers
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import only_build, read_problem, read_run, read_success
from tests.acceptance.stories import (
    FULL,
    PROVISION,
    TENANT,
    list_runs,
    read_tenant,
    read_wait,
    send,
    state_of,
    sweep,
    with_full_tier,
)
from tests.conftest import Client, StartService
from tests.control_plane.receiver import SECRET, ControlPlane
from tests.desk import DeskLedger
from tests.ledgers import find_due

MAX_ATTEMPTS = 3
PROVISIONED = f"{PROVISION}_SUCCESS"
NOT_PROVISIONED = f"{PROVISION}_FAILURE"


def settles_well(event_type: str) -> Callable[[Record], bool]:
    """Matches the write of a run of the type that has succeeded."""

    def breaks_on(record: Record) -> bool:
        if not isinstance(record, RunRecord) or record.event_type != event_type:
            return False
        return record.status == "succeeded"

    return breaks_on


@pytest.fixture(autouse=True)
def no_tracebacks() -> Iterator[None]:
    """Capture the log, since rendering the traceback of each breakdown takes longer than the
    rest."""
    with capture_logs():
        yield


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A job for each operation, and few attempts."""
    full = with_full_tier(settings)
    return attrs.evolve(full, runs=Runs(max_attempts=MAX_ATTEMPTS))


@pytest.fixture
def ledger() -> DeskLedger:
    return DeskLedger()


async def let_time_pass(service: Client, clock: ManualClock, *, times: int = MAX_ATTEMPTS) -> None:
    """Sweep so often, each time after the longest pause."""
    for _ in range(times):
        clock.turn(305)
        await sweep(service)


async def nothing_is_due(ledger: InMemoryLedger, clock: ManualClock) -> bool:
    return not await find_due(ledger, before=clock.now() + timedelta(days=30))


async def test_a_settle_that_raises_ends_by_the_records(
    start_service: StartService,
    settings: Settings,
    ledger: DeskLedger,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """If the settle of an outcome always raises, the tenant gets the state of the outcome's type
    and the run fails with a fixed sentence."""
    service = await start_service(settings, ledger=ledger)
    await read_success(await send(service, PROVISION, "request"))
    ledger.breaks_on = settles_well(PROVISIONED)
    codebuild.finish(only_build(codebuild).id, "SUCCEEDED")
    await let_time_pass(service, clock)
    assert await state_of(service) == "provisioned"
    assert (await read_tenant(service))["operation"] is None
    (run,) = await list_runs(service, eventType=PROVISIONED)
    assert (run["status"], run["error"]["message"]) == ("failed", USED_UP)
    assert run["error"]["type"] == "RuntimeError"
    assert await nothing_is_due(ledger, clock)


async def test_a_failure_that_cannot_be_settled_is_not_cleaned_up(
    start_service: StartService,
    settings: Settings,
    ledger: DeskLedger,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
    control_plane: ControlPlane,
) -> None:
    """A failure whose settle always raises is reported with its status alone, and releases the
    tenant without a clean-up."""
    tiers = Tiers(backend="static", static={"FULL": {**FULL, "cleanupJobIdentifier": "clean"}})
    callback = Callback(url=control_plane.url, timeout_s=30)
    service = await start_service(
        attrs.evolve(settings, callback=callback, tiers=tiers), ledger=ledger
    )
    await control_plane.expect(TENANT, context="context")
    await read_success(await send(service, PROVISION, "request", secret=SECRET, context="context"))
    ledger.breaks_on = settles_well(NOT_PROVISIONED)
    codebuild.finish(only_build(codebuild).id, "FAILED")
    for _ in range(MAX_ATTEMPTS):
        await control_plane.turn_clock(clock.now() + timedelta(seconds=305))
        await let_time_pass(service, clock, times=1)
    assert await state_of(service) == "provision_failed"
    (accepted,) = await control_plane.accepted()
    assert accepted["data"] == {"status": 0, "resources": []}
    (run,) = await list_runs(service, eventType=NOT_PROVISIONED)
    assert run["status"] == "failed"
    assert "no clean-up" in run["note"]
    assert await nothing_is_due(ledger, clock)


async def test_an_odd_report_of_an_end_freezes_no_tenant(
    start_service: StartService,
    settings: Settings,
    ledger: DeskLedger,
    clock: ManualClock,
) -> None:
    """A report of unexpected content sets the state of its type, and holds no tenant."""
    service = await start_service(settings, ledger=ledger)
    odd = {"tenantId": TENANT, "ORCHESTRATOR_RUN_ID": "x", "endedJob": {"a": 1}}
    answer = await service.post("/events", json=envelope(PROVISIONED, odd))
    if answer.status != 200:
        assert "KeyError" not in (await read_problem(answer, 500))["detail"]
    await let_time_pass(service, clock)
    tenant = await read_tenant(service)
    assert (tenant["state"], tenant["operation"]) == ("provisioned", None)
    assert await nothing_is_due(ledger, clock)


async def test_a_request_whose_settle_raises_keeps_its_job(
    start_service: StartService,
    settings: Settings,
    ledger: DeskLedger,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """If the settle of a request always raises, the run fails, and its operation continues with its
    only job."""
    service = await start_service(settings, ledger=ledger)
    ledger.breaks_on = settles_well(PROVISION)
    problem = await read_problem(await send(service, PROVISION, "request"), 500)
    assert "hunter2" not in problem["detail"]
    run = await read_run(service, problem["instance"])
    assert (run["status"], run["attempt"]) == ("retry", 1)
    assert run["error"] == {"type": "RuntimeError", "message": BROKE_DOWN, "errors": []}
    await let_time_pass(service, clock)
    run = await read_run(service, problem["instance"])
    assert (run["status"], run["error"]["message"]) == ("failed", USED_UP)
    codebuild.finish(only_build(codebuild).id, "SUCCEEDED")
    await let_time_pass(service, clock, times=1)
    assert await state_of(service) == "provisioned"


async def test_a_kept_event_that_cannot_be_unpacked_ends(
    start_service: StartService,
    settings: Settings,
    ledger: DeskLedger,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """If the stored event can't be unpacked, the run fails, its operation is given back, and the
    tenant has its former state."""
    codebuild.inject("StartBuild", Fault.error("AccountLimitExceededException", "too many"))
    service = await start_service(settings, ledger=ledger)
    address = await read_wait(await send(service, PROVISION, "request"))
    ledger.damage_payloads()
    await let_time_pass(service, clock, times=MAX_ATTEMPTS - 1)
    assert (await read_run(service, address))["status"] == "retry"
    assert await state_of(service) == "provisioning"
    await let_time_pass(service, clock)
    run = await read_run(service, address)
    assert (run["status"], run["error"]["message"]) == ("failed", USED_UP)
    assert await state_of(service) == "unseen"
    assert await nothing_is_due(ledger, clock)
    await read_problem(await service.post(f"{address}/replay", json={}), 500)
    await read_success(await send(service, PROVISION, "another"))


async def test_an_event_whose_claim_raises_is_kept_by_its_sender(
    start_service: StartService, settings: Settings, ledger: DeskLedger
) -> None:
    """If the claim raises, the answer is 500 without a run; sent again later the event is handled
    as new."""
    service = await start_service(settings, ledger=ledger)
    ledger.breaks_on = lambda record: True
    problem = await read_problem(await send(service, PROVISION, "request"), 500)
    assert problem["instance"] == "/events"
    assert await list_runs(service) == []
    ledger.breaks_on = lambda record: False
    run = await read_run(service, await read_success(await send(service, PROVISION, "request")))
    assert run["attempt"] == 1


async def test_an_end_that_cannot_be_claimed_ends(
    start_service: StartService,
    settings: Settings,
    ledger: DeskLedger,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """If the claim of an outcome event of the service itself always raises, its operation ends all
    the same, since no sender repeats it."""
    service = await start_service(settings, ledger=ledger)
    await read_success(await send(service, PROVISION, "request"))

    def claims_the_end(record: Record) -> bool:
        if not isinstance(record, RunRecord) or record.event_type != PROVISIONED:
            return False
        return record.status == "running" and not record.ends_by_records

    ledger.breaks_on = claims_the_end
    codebuild.finish(only_build(codebuild).id, "SUCCEEDED")
    await let_time_pass(service, clock)
    assert await state_of(service) == "provisioned"
    (run,) = await list_runs(service, eventType=PROVISIONED)
    assert (run["status"], run["error"]["message"]) == ("failed", USED_UP)
    assert await nothing_is_due(ledger, clock)


async def test_a_self_report_may_be_unreadable(
    start_service: StartService,
    settings: Settings,
    ledger: DeskLedger,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """The end of a job counts without a self-report that can't be unpacked."""
    service = await start_service(settings, ledger=ledger)
    await read_success(await send(service, PROVISION, "request"))
    build = only_build(codebuild)
    self_report = {"CODEBUILD_BUILD_ID": build.id, "APP_PLANE_URL": "https://app.example"}
    await read_success(await send(service, PROVISIONED, "told", ends=False, **self_report))
    ledger.damage_payloads()
    codebuild.finish(build.id, "SUCCEEDED")
    await let_time_pass(service, clock, times=1)
    assert await state_of(service) == "provisioned"
