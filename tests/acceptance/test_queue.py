"""Queue mode: accepted with 202 and handled once, later, with the same guarantees."""

import json
import zlib
from typing import Any

import pytest

from orchestrator import Event, HandlerRegistry, PermanentError, Run, TemporaryError
from orchestrator.core.ledger.records import RunRecord
from orchestrator.core.queue.inbox import Message
from orchestrator.core.queue.message_codec import QueuedEvent, read_message
from orchestrator.embedded import CodeBuildStandIn, Fault
from orchestrator.intake.app_keys import REPLAY
from orchestrator.settings import Intake
from orchestrator.testing import ManualClock, envelope, provisioning_event
from tests.acceptance.answers import only_build, read_problem, read_run, variables
from tests.acceptance.queue_desk import Desk, StartDesk, accepted, until

PROVISION = "/events/TENANT_PROVISIONING"


def statuses(desk: Desk) -> set[str]:
    """The statuses of all runs."""
    kept = desk.ledger._items.values()
    return {one.status.value for one in kept if isinstance(one, RunRecord)}


async def test_an_event_is_accepted_and_handled_later(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """An event's run is shown as queued, and after a worker has handled it with its result."""
    desk = await start_desk()
    address = await accepted(desk, provisioning_event(), PROVISION)
    run = await read_run(desk.service, address)
    assert (run["status"], run["attempt"], run["tenantId"]) == ("queued", 0, "tenant-1")
    assert not codebuild.builds
    await desk.work()
    run = await read_run(desk.service, address)
    assert (run["status"], run["attempt"]) == ("succeeded", 1)
    assert run["job"]["id"] == only_build(codebuild).id


async def test_the_senders_name_of_an_event_goes_through_the_queue(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """A bare body whose path has the toolkit's name of the type makes a build with the toolkit's
    variables."""
    desk = await start_desk()
    detail = {"tenantId": "t-1", "tenantName": "Harbour", "tier": "STANDARD"}
    await accepted(desk, detail, "/events/sbt_aws_onboardingRequest")
    await desk.work()
    assert variables(only_build(codebuild))["tenantName"] == "Harbour"


async def test_a_redelivered_event_is_queued_again(
    start_desk: StartDesk, codebuild: CodeBuildStandIn, in_groups: bool
) -> None:
    """A redelivered event is 202 again and makes one job; once it is handled it is a duplicate."""
    desk = await start_desk()
    event = provisioning_event()
    first = await accepted(desk, event)
    assert await accepted(desk, event) == first
    assert len(desk.inbox) == (1 if in_groups else 2)
    await desk.work()
    assert only_build(codebuild)
    answer = await desk.service.post("/events", json=event)
    assert (answer.status, answer.headers["Idempotent-Replayed"]) == (200, "true")
    await desk.work()
    assert only_build(codebuild)


async def test_a_failed_event_that_is_redelivered_is_a_new_attempt(
    start_desk: StartDesk, clock: ManualClock
) -> None:
    """A FIFO queue doesn't drop a failed event that is sent again within minutes."""
    registry, causes = HandlerRegistry(), [PermanentError("no such tier")]

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        if causes:
            raise causes.pop()

    desk = await start_desk(registry)
    event = envelope("ORDER", {"a": 1})
    address = await accepted(desk, event)
    await desk.work()
    assert (await read_run(desk.service, address))["status"] == "failed"
    clock.turn(60)
    assert await accepted(desk, event) == address
    await desk.work()
    run = await read_run(desk.service, address)
    assert (run["status"], run["attempt"]) == ("succeeded", 2)


async def test_a_forced_replay_that_must_wait_stays_in_the_queue(
    start_desk: StartDesk, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """A forced replay that must wait stays in the queue, since its run has no record of it, and is
    handled later."""
    desk = await start_desk()
    address = await accepted(desk, provisioning_event(tenant_id="t-1", event_id="up"))
    await desk.work()
    codebuild.finish(only_build(codebuild).id, "FAILED")
    clock.turn(61)
    assert (await desk.service.post("/events/RECONCILE", json={})).status == 200
    down = {"tenantId": "t-1", "tier": "STANDARD"}
    await accepted(desk, envelope("TENANT_DEPROVISIONING", down, event_id="down"))
    await desk.work()
    assert (await desk.service.post(f"{address}/replay", json={"force": True})).status == 202
    async with desk.worker():
        await until(lambda: [one.message.receives for one in desk.inbox._waiting] == [1])
    codebuild.finish(next(reversed(codebuild.builds)))
    clock.turn(desk.inbox.visibility_s + 1)
    assert (await desk.service.post("/events/RECONCILE", json={})).status == 200
    await desk.work()
    assert len(codebuild.builds) == 3


async def test_a_worker_that_is_quicker_than_the_service(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """An event that a worker has handled before its run is written as queued is answered 200."""
    desk = await start_desk()
    sent = desk.inbox.send

    async def send_and_work(**message: Any) -> None:
        await sent(**message)
        await desk.work()

    desk.inbox.send = send_and_work  # type: ignore[method-assign]
    answer = await desk.service.post("/events", json=provisioning_event())
    assert answer.status == 200
    assert (await read_run(desk.service, answer.headers["Location"]))["status"] == "succeeded"
    assert only_build(codebuild)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/events", b"{", 400),
        ("/events", b"[]", 400),
        ("/events/TENANT_PARTY", b"{}", 400),
        (PROVISION, b'{"tenant": 7}', 422),
    ],
)
async def test_an_event_that_cannot_be_handled_is_refused_before_the_queue(
    start_desk: StartDesk, path: str, body: bytes, status: int
) -> None:
    """An event that can't be handled is refused at once, and isn't queued."""
    desk = await start_desk()
    headers = {"Content-Type": "application/json"}
    await read_problem(await desk.service.post(path, data=body, headers=headers), status)
    assert len(desk.inbox) == 0


async def test_another_body_under_the_same_id_is_refused(start_desk: StartDesk) -> None:
    """Another body under the same id is 422; the first one is handled."""
    desk = await start_desk()
    await accepted(desk, provisioning_event(tier="STANDARD"))
    other = provisioning_event(tier="BASIC")
    await read_problem(await desk.service.post("/events", json=other), 422)
    await desk.work()
    (run,) = (await (await desk.service.get("/runs")).json())["items"]
    assert run["status"] == "succeeded"


async def test_equal_content_is_one_event(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """A body without an id keeps its identity in the queue, so equal content sent again is a
    duplicate."""
    desk = await start_desk()
    body = {"tenantId": "t-1", "tier": "STANDARD"}
    first = await accepted(desk, body, PROVISION)
    await desk.work()
    answer = await desk.service.post(PROVISION, json=body)
    assert (answer.status, answer.headers["Location"]) == (200, first)
    assert only_build(codebuild)


async def test_queued_equal_content_is_another_event_after_another_request(
    start_desk: StartDesk, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """Provision, deprovision and the same provision again within minutes are three jobs; a
    redelivered message of the first makes no fourth."""
    desk = await start_desk()
    body = {"tenantId": "t-1", "tier": "STANDARD"}
    await accepted(desk, body, PROVISION)
    (first,) = await desk.inbox.receive(limit=1, wait_s=0)
    await desk.inbox.hide(first, seconds=0)

    async def has_ended() -> None:
        await desk.work()
        codebuild.finish(list(codebuild.builds)[-1], "SUCCEEDED")
        clock.turn(60)
        assert (await desk.service.post("/events/RECONCILE", json={})).status == 200

    await has_ended()
    for path in ("/events/TENANT_DEPROVISIONING", PROVISION):
        await accepted(desk, body, path)
        await has_ended()
    assert len(codebuild.builds) == 3

    clock.turn(5)
    await accepted(desk, body, "/events/TENANT_DEPROVISIONING")
    await desk.work()
    assert len(codebuild.builds) == 4
    await desk.inbox.send(text=first.text, group="again", deduplication_id="again")
    await desk.work()
    assert len(codebuild.builds) == 4
    tenant = await (await desk.service.get("/tenants/t-1")).json()
    assert tenant["state"] == "deprovisioning"


async def test_equal_content_that_is_accepted_in_a_row_is_three_pieces_of_work(
    start_desk: StartDesk, clock: ManualClock
) -> None:
    """Provision, deprovision, provision without ids, each answered 202 before a worker starts, are
    three requests; a message with the content of a run in progress stays in the queue until it is
    known whether they are the same."""
    desk = await start_desk()
    body = {"tenantId": "t-1", "tier": "STANDARD"}
    for path in (PROVISION, "/events/TENANT_DEPROVISIONING", PROVISION):
        await accepted(desk, body, path)
        clock.turn(1)
    assert len(desk.inbox) == 3
    async with desk.worker():
        await until(lambda: {"succeeded", "retry"} <= statuses(desk) and len(desk.inbox) <= 1)
        await desk.work_over_time()
    tenant = await (await desk.service.get("/tenants/t-1")).json()
    assert len(tenant["waiting"]) == 2


async def test_a_header_names_the_event(start_desk: StartDesk) -> None:
    """An event with an id header has the same run for the service and for the worker."""
    desk = await start_desk()
    headers = {"Idempotency-Key": "mine"}
    body = {"tenantId": "t-1", "tier": "STANDARD"}
    answer = await desk.service.post(PROVISION, json=body, headers=headers)
    await desk.work()
    run = await read_run(desk.service, answer.headers["Location"])
    assert run["status"] == "succeeded"


async def test_eventbridge_may_fill_the_queue_itself(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """A message that is an envelope is handled, and identified by the envelope's id."""
    desk = await start_desk()
    for number in range(2):
        text = json.dumps(provisioning_event())
        await desk.inbox.send(text=text, group="g", deduplication_id=str(number))
    await desk.work()
    assert only_build(codebuild)
    (run,) = (await (await desk.service.get("/runs")).json())["items"]
    assert run["status"] == "succeeded"


async def test_the_sweep_takes_up_what_the_queue_has_lost(
    start_desk: StartDesk, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """The sweep handles a queued event whose message expired or went to the dead-letter queue."""
    desk = await start_desk()
    address = await accepted(desk, provisioning_event())
    (lost,) = await desk.inbox.receive(limit=1, wait_s=0)
    await desk.inbox.delete(lost)
    clock.turn(899)
    await desk.service.post("/events/RECONCILE", json={})
    assert not codebuild.builds
    clock.turn(1)
    assert (await desk.service.post("/events/RECONCILE", json={})).status == 200
    assert (await read_run(desk.service, address))["status"] == "succeeded"


async def test_a_replay_goes_through_the_queue(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """Each replay is queued, even where equal messages count as one."""
    desk = await start_desk()
    codebuild.inject("StartBuild", Fault.error("InvalidInputException"))
    address = await accepted(desk, provisioning_event())
    await desk.work()
    assert (await read_run(desk.service, address))["status"] == "failed"
    for _ in range(2):
        answer = await desk.service.post(f"{address}/replay", json={})
        assert (answer.status, answer.headers["Location"]) == (202, address)
    assert len(desk.inbox) == 2
    await desk.work()
    assert (await read_run(desk.service, address))["status"] == "succeeded"
    await read_problem(await desk.service.post("/runs/nowhere/replay", json={}), 404)


async def test_a_queued_replay_has_the_name_of_its_operator(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """The worker records the operator's name with the attempt, as an HTTP replay does."""
    desk = await start_desk()
    codebuild.inject("StartBuild", Fault.error("InvalidInputException"))
    address = await accepted(desk, provisioning_event())
    await desk.work()
    run_id = address.removeprefix("/runs/")
    await desk.service.app[REPLAY](run_id, force=False, by="maria.k")
    await desk.work()
    attempts = (await read_run(desk.service, address))["attempts"]
    assert [(one["replayed"], one["by"]) for one in attempts] == [(False, None), (True, "maria.k")]


@pytest.mark.parametrize(
    "error", [TemporaryError("later"), PermanentError("no"), ValueError("bug")]
)
async def test_messages_of_stored_runs_are_deleted_from_the_queue(
    start_desk: StartDesk, error: Exception
) -> None:
    """A message is deleted whatever its run's result, since the ledger counts attempts, not the
    queue."""
    registry = HandlerRegistry()

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        raise error

    desk = await start_desk(registry)
    address = await accepted(desk, {"a": 1}, "/events/ORDER")
    await desk.work()
    expected = "failed" if isinstance(error, PermanentError) else "retry"
    assert (await read_run(desk.service, address))["status"] == expected


async def test_an_outcome_does_not_wait_behind_the_request_that_waits_for_it(
    start_desk: StartDesk, codebuild: CodeBuildStandIn, clock: ManualClock
) -> None:
    """A provisioning's outcome is handled although the deployment before it in the queue waits for
    the provisioning."""
    desk = await start_desk()
    await accepted(desk, provisioning_event(tenant_id="t-1", event_id="p"))
    await desk.work()
    deployment = {"tenantId": "t-1", "tier": "PREMIUM"}
    waits = await accepted(desk, envelope("TENANT_DEPLOYMENT", deployment, event_id="d"))
    codebuild.finish(only_build(codebuild).id, "SUCCEEDED")
    self_report = {"tenantId": "t-1", "CODEBUILD_BUILD_ID": only_build(codebuild).id}
    await accepted(desk, envelope("TENANT_PROVISIONING_SUCCESS", self_report, event_id="o"))
    await desk.work()
    clock.turn(15)
    assert (await desk.service.post("/events/RECONCILE", json={})).status == 200
    assert (await read_run(desk.service, waits))["status"] == "succeeded"


async def test_requests_of_a_tenant_share_a_message_group_and_outcomes_do_not(
    start_desk: StartDesk, in_groups: bool
) -> None:
    """In a FIFO queue a tenant's requests are one group, and each outcome is a group of its own."""
    desk = await start_desk()
    named = {"tenantId": "t-1", "tier": "STANDARD"}
    for event_type in (
        "TENANT_PROVISIONING",
        "TENANT_DEPLOYMENT",
        "TENANT_PROVISIONING_SUCCESS",
        "TENANT_DEPLOYMENT_SUCCESS",
    ):
        await accepted(desk, envelope(event_type, named, event_id=event_type))
    await accepted(desk, envelope("TENANT_PROVISIONING", {**named, "tenantId": "t-2"}))
    received = await desk.inbox.receive(limit=10, wait_s=0)
    types = []
    for message in received:
        queued = read_message(message.text, message_id=message.id)
        assert isinstance(queued, QueuedEvent)
        types.append(queued.event_type)
    assert ("TENANT_DEPLOYMENT" in types) is not in_groups
    assert len(types) == (4 if in_groups else 5)


async def test_a_secret_in_a_self_report_is_not_stored(
    start_desk: StartDesk, codebuild: CodeBuildStandIn
) -> None:
    """A self-report's secret is stored neither while it is queued nor after, and the worker
    recognizes the same event."""
    desk = await start_desk()
    await accepted(desk, provisioning_event(tenant_id="t-1", event_id="p"))
    await desk.work()
    self_report = {
        "tenantId": "t-1",
        "CODEBUILD_BUILD_ID": only_build(codebuild).id,
        "DB_PASSWORD": "hush-hush",
    }
    address = await accepted(
        desk, envelope("TENANT_PROVISIONING_SUCCESS", self_report, event_id="o")
    )
    await desk.work()
    assert (await read_run(desk.service, address))["status"] == "succeeded"
    kept = [getattr(item, "data", b"") for item in desk.ledger._items.values()]
    assert "hush-hush" not in "".join(zlib.decompress(one).decode() for one in kept if one)


async def test_a_message_is_read_as_it_was_written(start_desk: StartDesk) -> None:
    """A message carries the event's type and identity as the service has determined them."""
    desk = await start_desk()
    await accepted(desk, {"tenantId": "t-1", "tier": "STANDARD"}, PROVISION)
    (message,) = await desk.inbox.receive(limit=1, wait_s=0)
    queued = read_message(message.text, message_id=message.id)
    assert isinstance(queued, QueuedEvent)
    assert queued.event_type == "TENANT_PROVISIONING"
    assert queued.delivery.same_content_same_event
    assert queued.delivery.event_id is None
    assert isinstance(message, Message)


async def test_production_needs_a_queue_for_queue_mode() -> None:
    """Queue mode without a queue is an error that names the missing setting."""
    with pytest.raises(ValueError, match=r"intake\.queue_url"):
        Intake(mode="queue")


async def test_a_foreign_report_with_an_ended_job_is_handled_without_it(
    start_desk: StartDesk,
) -> None:
    """A foreign report is queued without its `endedJob`, and is the same event for the worker."""
    desk = await start_desk()
    ended = {"id": "b", "builder": "B", "jobIdentifier": "j", "status": "SUCCEEDED"}
    detail = {"tenantId": "t-1", "endedJob": ended}
    address = await accepted(desk, envelope("TENANT_PROVISIONING_SUCCESS", detail))
    await desk.work()
    assert (await read_run(desk.service, address))["status"] == "succeeded"
