"""CodeBuild fails, over HTTP: the event is retried, and in the end there is one build.

A second try of the SDK's comes after a random pause of up to a second, which is what these
tests take.
"""

import asyncio
import socket
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import attrs
import pytest

from orchestrator import Settings
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.testing import ManualClock, provisioning_event
from tests.acceptance.answers import only_build, read_problem, read_run, read_success
from tests.conftest import Client, StartService

MakeFault = Callable[[], Fault]

EVENTBRIDGE_WAITS_S = 5
PAUSE_S = 120  # longer than any `Retry-After` of the service


def error(code: str, message: str, http_status: int = 400) -> MakeFault:
    return partial(Fault.error, code, message, http_status=http_status)


THROTTLED = error("ThrottlingException", "Rate exceeded")
QUOTA = error("AccountLimitExceededException", "Cannot have more than 60 builds in queue")
DENIED = error("AccessDeniedException", "not authorized to perform codebuild:StartBuild")
BROKEN = error("InternalFailure", "The service failed", 500)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with a short read timeout of AWS."""
    return attrs.evolve(settings, aws=attrs.evolve(settings.aws, read_timeout_s=0.2))


@pytest.mark.parametrize(
    ("faults", "least_pause_s"),
    [
        pytest.param([THROTTLED] * 2, 1, id="throttled"),
        pytest.param([QUOTA], 30, id="quota"),
        pytest.param([DENIED], 1, id="access denied"),
        pytest.param([BROKEN] * 2, 1, id="internal failure"),
        pytest.param([Fault.reset] * 2, 1, id="connection reset"),
        pytest.param([Fault.answer_lost] * 2, 1, id="answer lost"),
        pytest.param([Fault.slow] * 2, 1, id="slow"),
    ],
)
async def test_a_temporary_fault_of_aws_is_retried(
    service: Client,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
    faults: list[MakeFault],
    least_pause_s: int,
) -> None:
    """A temporary fault is a 503 and a run in `retry`; the redelivery succeeds, and there is one
    build."""
    codebuild.inject("StartBuild", *[make() for make in faults])
    event = provisioning_event()
    async with asyncio.timeout(EVENTBRIDGE_WAITS_S):
        answer = await service.post("/events", json=event)
    problem = await read_problem(answer, 503)
    assert int(answer.headers["Retry-After"]) >= least_pause_s
    assert len(codebuild.calls) == len(faults)
    run = await read_run(service, problem["instance"])
    assert (run["status"], run["attempt"], run["job"]) == ("retry", 1, None)
    assert run["error"]["message"] == problem["detail"]

    clock.turn(PAUSE_S)
    assert await read_success(await service.post("/events", json=event)) == problem["instance"]
    run = await read_run(service, problem["instance"])
    assert (run["status"], run["attempt"], run["error"]) == ("succeeded", 2, None)
    assert run["job"]["id"] == only_build(codebuild).id


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(THROTTLED, id="throttled"),
        pytest.param(BROKEN, id="internal failure"),
        pytest.param(Fault.reset, id="connection reset"),
        pytest.param(Fault.answer_lost, id="answer lost"),
        pytest.param(Fault.slow, id="slow"),
    ],
)
async def test_one_fault_is_got_over_within_the_request(
    service: Client, codebuild: CodeBuildStandIn, fault: MakeFault
) -> None:
    """After one fault the SDK's retry succeeds with the same token, so that there is one build."""
    codebuild.inject("StartBuild", fault())
    await read_success(await service.post("/events", json=provisioning_event()))
    assert len(codebuild.calls) == 2
    assert only_build(codebuild)


async def test_an_endpoint_that_refuses_connections_is_worth_another_delivery(
    start_service: StartService,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While connections to CodeBuild are refused the answer is 503; another replica that reaches it
    handles the redelivery."""
    ledger = InMemoryLedger()
    event = provisioning_event()
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        with monkeypatch.context() as cut_off:
            cut_off.setenv(
                "AWS_ENDPOINT_URL_CODEBUILD", f"http://127.0.0.1:{refusing.getsockname()[1]}"
            )
            service = await start_service(ledger=ledger)
            problem = await read_problem(await service.post("/events", json=event), 503)
    assert (await read_run(service, problem["instance"]))["status"] == "retry"

    clock.turn(PAUSE_S)
    replica = await start_service(ledger=ledger)
    assert await read_success(await replica.post("/events", json=event)) == problem["instance"]
    assert (await read_run(replica, problem["instance"]))["attempt"] == 2
    assert only_build(codebuild)


async def test_a_project_that_does_not_exist_is_named(
    start_service: StartService, settings: Settings, codebuild: CodeBuildStandIn
) -> None:
    """A missing project is a 422 that names it and a failed run; once it exists the redelivery
    succeeds."""
    tiers = {"GOLD": {"jobIdentifier": "gold-tenant"}}
    service = await start_service(
        attrs.evolve(settings, tiers=attrs.evolve(settings.tiers, static=tiers))
    )
    event = provisioning_event(tier="GOLD")
    problem = await read_problem(await service.post("/events", json=event), 422)
    assert "gold-tenant" in problem["detail"]
    assert (await read_run(service, problem["instance"]))["status"] == "failed"
    assert not codebuild.builds

    codebuild.add_project("gold-tenant")
    assert await read_success(await service.post("/events", json=event)) == problem["instance"]
    assert only_build(codebuild).project == "gold-tenant"


async def test_a_refusal_after_a_lost_answer_is_no_proof(
    service: Client, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """If the SDK's second try is refused, the build of the first, whose answer was lost, is found
    by the redelivery."""
    codebuild.inject("StartBuild", Fault.answer_lost(), DENIED())
    event = provisioning_event()
    await read_problem(await service.post("/events", json=event), 503)
    clock.turn(PAUSE_S)
    await read_success(await service.post("/events", json=event))
    assert only_build(codebuild)
    assert "ListBuildsForProject" in [action for action, _ in codebuild.calls]


async def test_a_lost_start_is_found_in_the_project_where_it_was_sent(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """A lost start is looked up in the project that it was sent to, even if the tier names another
    one since."""
    ledger = InMemoryLedger()
    service = await start_service(ledger=ledger)
    codebuild.inject("StartBuild", *[Fault.answer_lost()] * 2)
    address = (await read_problem(await service.post("/events", json=provisioning_event()), 503))[
        "instance"
    ]
    tiers = {"STANDARD": {"jobIdentifier": "premium-tenant"}}
    edited = await start_service(
        attrs.evolve(settings, tiers=attrs.evolve(settings.tiers, static=tiers)), ledger=ledger
    )
    clock.turn(400)
    codebuild.calls.clear()
    assert (await edited.post("/events/RECONCILE", json={})).status == 200
    run = await read_run(edited, address)
    assert (run["status"], run["job"]["id"]) == ("succeeded", only_build(codebuild).id)
    assert "ListBuilds" not in [action for action, _ in codebuild.calls]


async def test_a_start_of_a_process_that_died_is_found_among_all_builds_of_the_account(
    start_service: StartService,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
) -> None:
    """If no record says which project a start was sent to, all builds of the account are listed, by
    id, so that many old ones come before it."""
    codebuild.page_size = 5
    codebuild.clock = lambda: clock.now().timestamp()
    codebuild.add_project("zebra")
    for _ in range(10):
        codebuild._start_build({"projectName": "zebra"})
    clock.turn(86_400)
    codebuild.inject("StartBuild", held := Fault.slow(), Fault.slow())
    ledger = InMemoryLedger()
    dead = await start_service(ledger=ledger)
    dying = asyncio.ensure_future(dead.post("/events", json=provisioning_event()))
    await held.reached.wait()
    tiers = {"STANDARD": {"jobIdentifier": "premium-tenant"}}
    replica = await start_service(
        attrs.evolve(settings, tiers=attrs.evolve(settings.tiers, static=tiers)),
        ledger=ledger,
        clock=ManualClock(clock.now() + timedelta(seconds=400)),
    )
    assert (await replica.post("/events/RECONCILE", json={})).status == 200
    started = [one for one in codebuild.builds.values() if one.project != "zebra"]
    assert [one.project for one in started] == ["standard-tenant"]
    (run,) = (await (await replica.get("/runs")).json())["items"]
    assert (run["status"], run["job"]["id"]) == ("succeeded", started[0].id)
    dying.cancel()
