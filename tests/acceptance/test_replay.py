"""An operator runs an event again, over HTTP: POST /runs/{runId}/replay."""

import asyncio
import io
from typing import Any

import attrs
import pytest

from orchestrator import (
    Event,
    Extension,
    HandlerRegistry,
    PermanentError,
    Run,
    Settings,
    TemporaryError,
)
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.settings import Runs
from orchestrator.testing import InMemoryBuilder, ManualClock, envelope
from tests.acceptance.answers import only_build, read_problem, read_run, read_success, variables
from tests.acceptance.stories import (
    DEPLOY,
    DEPROVISION,
    OPENING,
    PROVISION,
    bring_into,
    is_replay,
    list_runs,
    read_refusal,
    read_tenant,
    read_wait,
    replay,
    send,
    state_of,
    sweep,
    with_full_tier,
)
from tests.conftest import Client, StartService

JSON = {"Content-Type": "application/json"}
EVENT = envelope("MY_EVENT", {"a": 1})
SAYS_TO_FORCE = "run is succeeded already; replay with force"
QUOTA = Fault.error("AccountLimitExceededException", "Cannot have more than 60 builds in queue")


class Scripted:
    """A handler that takes two steps, and then does what its script says next."""

    def __init__(self, *script: Exception | None) -> None:
        self.script = list(script)
        self.attempts: list[int] = []
        self.steps: list[str] = []

    @property
    def extension(self) -> Extension:
        registry = HandlerRegistry()
        registry.register("MY_EVENT", self.handle)
        return Extension(registry=registry)

    async def handle(self, event: Event[dict[str, Any]], run: Run) -> None:
        self.attempts.append(run.attempt)
        for name in ("one", "two"):
            await run.step(name, lambda name=name: self._take(name))  # type: ignore[misc]
        if (error := self.script.pop(0)) is not None:
            raise error

    async def _take(self, name: str) -> str:
        self.steps.append(name)
        return name


async def test_an_unfinished_run_continues(start_service: StartService) -> None:
    """A replay resumes an unfinished run before its pause is over, with its recorded steps."""
    scripted = Scripted(TemporaryError("not now", retry_after_s=600), None)
    service = await start_service(extension=scripted.extension)
    address = await read_wait(await service.post("/events", json=EVENT), pause_s=600)
    answer = await replay(service, address)
    assert await read_success(answer) == address
    assert not is_replay(answer)
    run = await read_run(service, address)
    assert (run["status"], run["attempt"], run["dueAt"]) == ("succeeded", 2, None)
    assert scripted.steps == ["one", "two"]


@pytest.mark.parametrize("body", [{}, {"force": False}, {"force": True}, None])
async def test_a_failed_run_gets_a_new_attempt(start_service: StartService, body: Any) -> None:
    """A replay of a failed run is a new attempt with its recorded steps, with or without force or a
    body."""
    scripted = Scripted(PermanentError("never"), None)
    service = await start_service(extension=scripted.extension)
    address = (await read_problem(await service.post("/events", json=EVENT), 422))["instance"]
    answer = await (
        service.post(f"{address}/replay") if body is None else replay(service, address, **body)
    )
    assert await read_success(answer) == address
    run = await read_run(service, address)
    assert (run["status"], run["attempt"], run["error"]) == ("succeeded", 2, None)
    assert scripted.steps == ["one", "two"]


async def test_a_run_whose_attempts_are_used_up_gets_one_more(
    start_service: StartService, settings: Settings
) -> None:
    """A replay gives a run without attempts left one more; a bug that isn't fixed is 500, and the
    run fails again."""
    scripted = Scripted(KeyError("a"), KeyError("b"), None)
    service = await start_service(
        attrs.evolve(settings, runs=Runs(max_attempts=1)), extension=scripted.extension
    )
    address = (await read_problem(await service.post("/events", json=EVENT), 500))["instance"]
    assert (await read_problem(await replay(service, address), 500))["instance"] == address
    assert (await read_run(service, address))["status"] == "failed"
    await read_success(await replay(service, address))
    assert scripted.attempts == [1, 2, 3]


async def test_a_tier_that_was_added_meanwhile(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A replay of a run that failed for its unknown tier succeeds once the tier exists, on another
    replica too."""
    ledger = InMemoryLedger()
    before = await start_service(ledger=ledger)
    answer = await send(before, PROVISION, "request")
    address = (await read_problem(answer, 422))["instance"]
    assert (await read_problem(await replay(before, address), 422))["instance"] == address

    after = await start_service(with_full_tier(settings), ledger=ledger)
    assert await read_success(await replay(after, address)) == address
    run = await read_run(after, address)
    assert (run["status"], run["attempt"]) == ("succeeded", 3)
    assert run["job"]["id"] == only_build(codebuild).id
    assert await state_of(after) == "provisioning"


async def test_a_handler_that_was_added_meanwhile(start_service: StartService) -> None:
    """A replay of a run of an unsupported type succeeds once a handler is registered."""
    ledger = InMemoryLedger()
    before = await start_service(ledger=ledger)
    problem = await read_problem(await before.post("/events", json=EVENT), 400)
    assert (await read_problem(await replay(before, problem["instance"]), 400)) == problem

    scripted = Scripted(None)
    after = await start_service(extension=scripted.extension, ledger=ledger)
    assert await read_success(await replay(after, problem["instance"])) == problem["instance"]
    assert scripted.attempts == [3]


async def test_a_run_that_succeeded_needs_force(start_service: StartService) -> None:
    """A replay without force of a run that succeeded is a 422 that says so, and changes nothing."""
    scripted = Scripted(None)
    service = await start_service(extension=scripted.extension)
    address = await read_success(await service.post("/events", json=EVENT))
    before = await read_run(service, address)
    for body in ({}, {"force": False}):
        refused = await read_refusal(await replay(service, address, **body), SAYS_TO_FORCE)
        assert refused == address
    assert await read_run(service, address) == before
    assert scripted.attempts == [1]


async def test_force_repeats_the_steps(start_service: StartService) -> None:
    """Each forced replay is another attempt of the same run, without its steps."""
    scripted = Scripted(None, None, PermanentError("never"), None)
    service = await start_service(extension=scripted.extension)
    address = await read_success(await service.post("/events", json=EVENT))
    answer = await replay(service, address, force=True)
    assert await read_success(answer) == address
    assert not is_replay(answer)
    await read_problem(await replay(service, address, force=True), 422)
    assert scripted.steps == ["one", "two"] * 3
    assert await read_success(await replay(service, address)) == address
    assert (scripted.attempts, scripted.steps) == ([1, 2, 3, 4], ["one", "two"] * 3)


async def test_a_run_that_is_its_own_operation_gets_a_second_job(
    start_service: StartService, codebuild: CodeBuildStandIn
) -> None:
    """A forced replay of a type that opens no operation starts its job again, under the next start
    number."""
    registry = HandlerRegistry()

    @registry.on("MY_EVENT")
    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        await run.start_job("standard-tenant", {})

    service = await start_service(extension=Extension(registry=registry))
    address = await read_success(await service.post("/events", json=EVENT))
    first = (await read_run(service, address))["job"]
    assert await read_success(await replay(service, address, force=True)) == address
    assert (await read_run(service, address))["job"] != first
    assert start_numbers(codebuild) == ["1", "2"]


def start_numbers(codebuild: CodeBuildStandIn) -> list[str]:
    """The start number of each build; all must be of one operation."""
    keys = [variables(build)["ORCHESTRATOR_RUN_ID"] for build in codebuild.builds.values()]
    assert len({key.rpartition("-")[0] for key in keys}) == 1
    return [key.rpartition("-")[2] for key in keys]


async def test_a_run_without_a_tenant_is_replayed_once_its_job_is_over(
    start_service: StartService, clock: ManualClock
) -> None:
    """A forced replay of a run without a tenant starts another job once its job is over."""
    builder, registry = InMemoryBuilder("MINE"), HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        await run.start_job("script", {}, builder="MINE")

    extension = Extension(registry=registry, builders={"MINE": builder})
    service = await start_service(extension=extension)
    address = await read_success(await service.post("/events/ORDER", json={"a": 1}))
    builder.finish(builder.started[0].job.id)
    clock.turn(61)
    await sweep(service)
    await read_success(await replay(service, address, force=True))
    assert len(builder.started) == 2


@pytest.mark.parametrize("forced", [False, True])
async def test_a_state_change_before_the_build_is_recorded_does_not_stop_it(
    start_service: StartService, codebuild: CodeBuildStandIn, forced: bool
) -> None:
    """A state change that arrives while the handler is still running doesn't stop the build, in a
    replay too."""
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        job = await run.start_job("standard-tenant", {})
        if forced and len(codebuild.builds) == 1:
            return
        state = codebuild.builds[job.id].as_state_change()
        change = envelope("CodeBuild Build State Change", state, event_id="change")
        assert (await service.post("/events", json=change)).status == 200

    service = await start_service(extension=Extension(registry=registry))
    address = await read_success(await service.post("/events/ORDER", json={"a": 1}))
    if forced:
        await read_success(await replay(service, address, force=True))
    assert [build.status for build in codebuild.builds.values()] == ["IN_PROGRESS"] * (1 + forced)
    assert "StopBuild" not in [action for action, _ in codebuild.calls]


@pytest.mark.parametrize("outcome", ["SUCCESS", "FAILURE"])
@pytest.mark.parametrize("event_type", OPENING)
async def test_force_reopens_an_ended_operation_over_http(
    either: Client, codebuild: CodeBuildStandIn, event_type: str, outcome: str
) -> None:
    """A forced replay opens an ended operation again, with a second build under start number 2,
    whatever the tenant's state, and it ends as usual."""
    address = await read_success(await send(either, event_type, "request"))
    during = await read_tenant(either)
    await read_success(await send(either, f"{event_type}_{outcome}", "outcome-1"))
    assert await read_success(await replay(either, address, force=True)) == address
    assert start_numbers(codebuild) == ["1", "2"]
    tenant = await read_tenant(either)
    assert tenant["state"] == during["state"]
    assert tenant["operation"]["operationId"] == during["operation"]["operationId"]
    second = list(codebuild.builds.values())[1]
    assert tenant["operation"]["job"]["id"] == second.id
    assert tenant["operation"]["endedAt"] is None
    run = await read_run(either, address)
    assert (run["attempt"], run["job"]["id"]) == (2, second.id)

    await read_success(await send(either, f"{event_type}_SUCCESS", "outcome-2"))
    assert (await read_tenant(either))["operation"] is None


async def test_a_report_of_the_first_start_does_not_end_the_second(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """A report that names the first start's build or start key doesn't end the second start."""
    address = await read_success(await send(either, PROVISION, "request"))
    await read_success(await send(either, f"{PROVISION}_FAILURE", "outcome"))
    await read_success(await replay(either, address, force=True))
    first = next(iter(codebuild.builds.values()))
    start_key = variables(first)["ORCHESTRATOR_RUN_ID"]
    named: list[dict[str, Any]]
    named = [{"CODEBUILD_BUILD_ID": first.id}, {"ORCHESTRATOR_RUN_ID": start_key}]
    for number, names in enumerate(named):
        await read_success(await send(either, f"{PROVISION}_SUCCESS", f"late-{number}", **names))
        assert await state_of(either) == "provisioning", names


@pytest.mark.parametrize("event_type", OPENING)
async def test_force_waits_for_an_open_operation_over_http(
    either: Client, codebuild: CodeBuildStandIn, event_type: str
) -> None:
    """A forced replay is 503 while the operation is open: no second build is started, and the run
    is unchanged."""
    address = await read_success(await send(either, event_type, "request"))
    before = await read_run(either, address)
    assert await read_wait(await replay(either, address, force=True), pause_s=15) == address
    assert await read_run(either, address) == before
    assert only_build(codebuild)


async def test_force_waits_for_a_tenant_that_another_operation_holds(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """A forced replay is 503 while another operation, such as a deprovisioning, holds the
    tenant."""
    address = await bring_into(either, "provisioned")
    (request,) = await list_runs(either, eventType=PROVISION)
    address = f"/runs/{request['runId']}"
    await read_success(await send(either, DEPROVISION, "request"))
    await read_wait(await replay(either, address, force=True), pause_s=15)
    assert await state_of(either) == "deprovisioning"
    assert len(codebuild.builds) == 2


async def test_force_is_refused_while_the_run_is_in_progress(start_service: StartService) -> None:
    """A replay is 503 while the run is in progress, with or without force."""
    entered, release = asyncio.Event(), asyncio.Event()
    registry = HandlerRegistry()

    @registry.on("MY_EVENT")
    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        entered.set()
        await release.wait()

    service = await start_service(extension=Extension(registry=registry))
    first = asyncio.ensure_future(service.post("/events", json=EVENT))
    await entered.wait()
    (run,) = await list_runs(service)
    address = f"/runs/{run['runId']}"
    for force in (True, False):
        assert await read_wait(await replay(service, address, force=force)) == address
    release.set()
    assert await read_success(await first) == address
    assert (await read_run(service, address))["attempt"] == 1


async def test_an_illegal_move_needs_force(either: Client, codebuild: CodeBuildStandIn) -> None:
    """A second provisioning of a provisioned tenant is refused, by a replay too, unless it is
    forced."""
    await bring_into(either, "provisioned")
    words = "tenant is already provisioned; replay with force"
    address = await read_refusal(await send(either, PROVISION, "request"), words)
    assert await read_refusal(await replay(either, address), words) == address
    assert await state_of(either) == "provisioned"
    assert await read_success(await replay(either, address, force=True)) == address
    assert await state_of(either) == "provisioning"
    assert len(codebuild.builds) == 2


async def test_a_refused_run_is_replayed_once_the_state_allows_it(either: Client) -> None:
    """A refused run is replayed without force once the tenant's state allows it."""
    await bring_into(either, "deprovisioned")
    words = "tenant is already deprovisioned; replay with force"
    address = await read_refusal(await send(either, DEPLOY, "request"), words)
    await read_success(await send(either, PROVISION, "p-1"))
    await read_success(await send(either, f"{PROVISION}_SUCCESS", "p-2"))
    assert await read_success(await replay(either, address)) == address
    assert await state_of(either) == "deploying"


async def test_a_duplicate_is_replayed_by_force_alone(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """A forced replay of a duplicate joins the open operation again, and opens one itself once that
    has ended."""
    first = await read_success(await send(either, PROVISION, "first"))
    await read_success(await send(either, PROVISION, "second"))
    (duplicate,) = await list_runs(either, status="duplicate")
    address = f"/runs/{duplicate['runId']}"
    await read_refusal(await replay(either, address), "run is duplicate already; replay with force")
    answer = await replay(either, address, force=True)
    assert await read_success(answer) == first
    assert is_replay(answer)
    assert only_build(codebuild)
    await read_success(await send(either, f"{PROVISION}_FAILURE", "outcome"))
    assert await read_success(await replay(either, address, force=True)) == address
    run = await read_run(either, address)
    assert (run["status"], run["duplicateOf"]) == ("succeeded", None)
    assert len(codebuild.builds) == 2


async def test_a_forced_replay_that_fails_gives_the_operation_back(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A forced replay that fails leaves the tenant in its former state."""
    ledger = InMemoryLedger()
    service = await start_service(with_full_tier(settings), ledger=ledger)
    address = await read_success(await send(service, PROVISION, "request"))
    await read_success(await send(service, f"{PROVISION}_SUCCESS", "outcome"))
    without_tier = await start_service(ledger=ledger)
    await read_problem(await replay(without_tier, address, force=True), 422)
    tenant = await read_tenant(service)
    assert (tenant["state"], tenant["operation"]) == ("provisioned", None)
    assert only_build(codebuild)
    run = await read_run(service, address)
    assert (run["status"], run["job"]) == ("failed", None)


async def test_a_forced_replay_that_must_wait_is_finished_by_the_sweep(
    either: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """A forced replay that waits for a quota is in `retry`, and the sweep starts one second
    build."""
    address = await read_success(await send(either, PROVISION, "request"))
    await read_success(await send(either, f"{PROVISION}_FAILURE", "outcome"))
    codebuild.inject("StartBuild", QUOTA)
    assert await read_wait(await replay(either, address, force=True), pause_s=30) == address
    clock.turn(30)
    await sweep(either)
    run = await read_run(either, address)
    assert (run["status"], run["attempt"]) == ("succeeded", 3)
    assert start_numbers(codebuild) == ["1", "2"]


async def test_two_operators_insist_at_once(either: Client, codebuild: CodeBuildStandIn) -> None:
    """Of simultaneous forced replays one opens the operation again, and the others are 503."""
    address = await read_success(await send(either, PROVISION, "request"))
    await read_success(await send(either, f"{PROVISION}_FAILURE", "outcome"))
    answers = await asyncio.gather(*(replay(either, address, force=True) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [200, 503, 503, 503, 503]
    assert start_numbers(codebuild) == ["1", "2"]


async def test_a_failed_run_whose_operation_was_ended_meanwhile(
    either: Client, codebuild: CodeBuildStandIn
) -> None:
    """A replay without force of a failed request that another run has handled meanwhile is a
    duplicate, and starts no build."""
    await bring_into(either, "deployment_failed")
    await read_problem(await send(either, DEPLOY, "a", context="k", tier="GOLD"), 422)
    (run,) = await list_runs(either, status="failed")
    address = f"/runs/{run['runId']}"
    await read_success(await send(either, DEPLOY, "b", context="k"))
    await read_success(await send(either, f"{DEPLOY}_SUCCESS", "c"))
    builds = len(codebuild.builds)
    answer = await replay(either, address)
    assert answer.status == 200
    assert is_replay(answer)
    assert (await read_run(either, address))["status"] == "duplicate"
    assert len(codebuild.builds) == builds


# What can't be replayed


@pytest.mark.parametrize("body", [b"", b"{}", b'{"force": true}'])
async def test_a_run_that_there_is_not(service: Client, body: bytes) -> None:
    """A replay of an unknown run is a 404 that names it."""
    problem = await read_problem(
        await service.post("/runs/nowhere/replay", data=body, headers=JSON), 404
    )
    assert problem["detail"] == "There is no run 'nowhere'."


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b'{"force": "yes"}', 422, "$.force must be true or false"),
        (b'{"force": 1}', 422, "$.force must be true or false"),
        (b'{"force": null}', 422, "$.force must be true or false"),
        (b"[]", 422, "must be an object"),
        (b"null", 422, "must be an object"),
        (b"true", 422, "must be an object"),
        (b'{"force": ', 400, "not JSON"),
        (b"force=true", 400, "not JSON"),
        (b'{"force": true}' + b" " * 1_048_576, 413, "1048576"),
    ],
)
async def test_a_bad_body_replays_nothing(
    start_service: StartService, body: bytes, status: int, said: str
) -> None:
    """A bad body is a problem that says what is wrong, and the run is unchanged."""
    scripted = Scripted(PermanentError("never"))
    service = await start_service(extension=scripted.extension)
    address = (await read_problem(await service.post("/events", json=EVENT), 422))["instance"]
    answer = await service.post(f"{address}/replay", data=io.BytesIO(body), headers=JSON)
    problem = await read_problem(answer, status)
    assert said in problem["detail"]
    assert scripted.attempts == [1]
