"""Each refusal leaves one line in the log, and an outage doesn't flood it."""

import json
from typing import Any

import attrs
import pytest

from orchestrator import Extension, HandlerRegistry, PermanentError, Settings, TemporaryError
from orchestrator.adapters.memory.inbox import InMemoryInbox
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.app import create_app, create_worker_app
from orchestrator.core.queue.inbox import Message
from orchestrator.intake.queue_worker import MESSAGES
from orchestrator.lambda_handler import LambdaService
from orchestrator.settings import ApiKey, Auth, Http, Intake
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.ways import http_api_event
from tests.acceptance.witness import Witness
from tests.conftest import Client, StartService
from tests.desk import let_others_work

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
AMAZON = "Root=1-67891233-abcdef012345678912345678"
KEY = "the-key-of-the-service"
JSON = {"Content-Type": "application/json", "x-api-key": KEY}


class DownLedger(InMemoryLedger):
    """A ledger that is unreachable."""

    async def commit(self, records: Any, *, unchanged: Any) -> None:
        raise TemporaryError("DynamoDB can't be reached.")

    async def load(self, keys: Any) -> Any:
        raise TemporaryError("DynamoDB can't be reached.")


@pytest.fixture
def guarded(settings: Settings) -> Settings:
    return attrs.evolve(
        settings,
        auth=Auth(methods=("api_key",), api_key=ApiKey(keys=(KEY,))),
        http=Http(max_body_bytes=600),
    )


def extension() -> Extension:
    registry = HandlerRegistry()

    @registry.on("MY_EVENT")
    async def handle(event: Any, run: Any) -> None:
        raise PermanentError("It will never work.")

    @registry.on("LATER")
    async def later(event: Any, run: Any) -> None:
        raise TemporaryError("Not now.")

    return Extension(registry=registry)


@pytest.fixture
async def service(witness: Witness, start_service: StartService, guarded: Settings) -> Client:
    return await start_service(guarded, extension=extension())


def refusals(witness: Witness) -> list[dict[str, Any]]:
    lines = map(json.loads, witness.log.getvalue().splitlines())
    return [line for line in lines if line["event"] in ("request refused", "message refused")]


MINE = envelope("MY_EVENT", {"a": 1}, event_id="e-1")


@pytest.mark.parametrize(
    ("status", "method", "path", "options", "said"),
    [
        (
            401,
            "POST",
            "/events/X",
            {"json": {}, "headers": {}},
            {"reason": "no valid key", "event_type": "X"},
        ),
        (404, "GET", "/nothing", {"headers": JSON}, {"reason": "nothing at /nothing"}),
        (404, "GET", "/tenants/t-9", {"headers": JSON}, {"reason": "no tenant 't-9'"}),
        (405, "PUT", "/events", {"headers": JSON}, {"reason": "PUT is not allowed"}),
        (413, "POST", "/events", {"headers": JSON, "data": "x" * 700}, {"reason": "600 bytes"}),
        (
            415,
            "POST",
            "/events/X",
            {"headers": {**JSON, "Content-Type": "text/plain"}, "data": "x"},
            {"reason": "text/plain", "event_type": "X"},
        ),
        (
            400,
            "POST",
            "/events/X",
            {"headers": {**JSON, "Idempotency-Key": "k-1"}, "data": "{"},
            {"reason": "not JSON", "event_type": "X", "event_id": "k-1"},
        ),
        (
            400,
            "POST",
            "/events",
            {"headers": JSON, "json": {**MINE, "detail": "text"}},
            {"event_type": "MY_EVENT", "event_id": "e-1"},
        ),
        (
            400,
            "POST",
            "/events",
            {"headers": JSON, "json": envelope("OTHER", {}, event_id="e-2")},
            {"reason": "Unsupported event type", "event_type": "OTHER", "event_id": "e-2"},
        ),
        (
            422,
            "POST",
            "/events",
            {"headers": JSON, "json": MINE},
            {"reason": "never work", "event_type": "MY_EVENT", "event_id": "e-1"},
        ),
        (
            503,
            "POST",
            "/events/LATER",
            {
                "headers": {
                    **JSON,
                    "ce-id": "ce-1",
                    "ce-source": "s",
                    "ce-type": "LATER",
                    "ce-specversion": "1.0",
                },
                "json": {},
            },
            {"reason": "Not now", "event_type": "LATER", "event_id": "ce-1"},
        ),
    ],
)
async def test_a_refusal_leaves_one_line(
    service: Client,
    witness: Witness,
    status: int,
    method: str,
    path: str,
    options: dict[str, Any],
    said: dict[str, str],
) -> None:
    """The line has status and reason, the event's type and id where they can be read, and the
    trace."""
    options["headers"] = {**options["headers"], "traceparent": TRACEPARENT}
    answer = await service.request(method, path, **options)
    assert answer.status == status
    (line,) = refusals(witness)
    assert (line["event"], line["level"]) == ("request refused", "warning")
    assert (line["status"], line["count"]) == (status, 1)
    assert (line["request"], line["trace"]) == (f"{method} {path}", TRACEPARENT)
    assert said.get("reason", "") in line["reason"]
    for name in ("event_type", "event_id"):
        assert line.get(name) == said.get(name)
    if status == 422:
        assert line["run_id"] in (await answer.json())["instance"]


async def test_other_answers_leave_no_line(service: Client, witness: Witness) -> None:
    """A successful request leaves no line of a refusal."""
    assert (await service.get("/runs", headers=JSON)).status == 200
    assert refusals(witness) == []


async def test_a_load_balancers_trace_is_logged(service: Client, witness: Witness) -> None:
    """The line has the load balancer's trace id if the request has no other."""
    await service.get("/nothing", headers={**JSON, "X-Amzn-Trace-Id": AMAZON})
    await service.get("/else", headers={**JSON, "X-Amzn-Trace-Id": "x" * 5000})
    (line,) = refusals(witness)
    assert line["trace"] == AMAZON


async def test_no_key_is_logged(service: Client, witness: Witness) -> None:
    """Neither a valid key nor a wrong one is logged, wherever it is sent."""
    for headers in ({"x-api-key": "wrong-key"}, {"Authorization": f"Bearer {KEY}"}, {}):
        await service.post(f"/events/X?x-api-key={KEY}", json={}, headers=headers)
    assert refusals(witness)
    assert KEY not in witness.log.getvalue()
    assert "wrong-key" not in witness.log.getvalue()


async def test_an_outage_leaves_one_line_a_second(
    witness: Witness, start_service: StartService, settings: Settings, clock: ManualClock
) -> None:
    """Each kind of refusal is logged once a second with its count, until all of them are
    counted."""
    service = await start_service(settings, ledger=DownLedger())

    async def storm(requests: int) -> None:
        for number in range(requests):
            event = envelope("TENANT_PROVISIONING", {"tenantId": f"t-{number}"})
            assert (await service.post("/events", json=event)).status == 503
            assert (await service.get(f"/nothing/{number}")).status == 404

    await storm(7)
    assert [(line["status"], line["count"]) for line in refusals(witness)] == [(503, 1), (404, 1)]
    for _ in range(3):
        clock.turn(1)
        await let_others_work()
    counts = [(line["status"], line["count"]) for line in refusals(witness)]
    assert counts == [(503, 1), (404, 1), (503, 6), (404, 6)]
    await storm(2)
    clock.turn(1)
    await let_others_work()
    await storm(2)
    clock.turn(1)
    await let_others_work()
    counts = [(line["status"], line["count"]) for line in refusals(witness)[4:]]
    assert counts == [(503, 1), (404, 1)] * 2 + [(503, 2), (404, 2)]


async def test_each_event_that_is_lost_is_logged(service: Client, witness: Witness) -> None:
    """Each event that its sender doesn't retry is logged, however many are refused within a
    second."""
    for number in range(5):
        event = envelope("MY_EVENT", {"a": 1}, event_id=f"e-{number}")
        for _ in range(2):
            assert (await service.post("/events", json=event, headers=JSON)).status == 422
    event_ids = [line["event_id"] for line in refusals(witness)]
    assert event_ids == [f"e-{number}" for number in range(5)]
    await service.close()
    assert [line["count"] for line in refusals(witness)] == [1] * 10


async def test_counted_refusals_are_logged_at_shutdown(
    witness: Witness, start_service: StartService, settings: Settings
) -> None:
    """At shutdown the refusals since the last line are logged with their count."""
    service = await start_service(settings, ledger=DownLedger())
    for _ in range(3):
        await service.get("/nothing")
    await service.close()
    assert [line["count"] for line in refusals(witness)] == [1, 2]


@pytest.mark.parametrize("name", ["a\nb", "x" * 100_000, 7, {"a": 1}, None, ["a"]])
async def test_odd_names_are_no_lines_of_their_own(
    witness: Witness, start_service: StartService, name: Any
) -> None:
    """A name with line breaks, or of any length or type, leaves one line of limited length."""
    service = await start_service()
    event = {"detail-type": name, "id": name, "detail": "no object"}
    assert (await service.post("/events", json=event, headers=JSON)).status == 400
    (line,) = refusals(witness)
    assert len(json.dumps(line)) < 3000
    shown = f"{name[:512]}…" if name == "x" * 100_000 else name
    assert line.get("event_id") == (shown if isinstance(name, str) else None)


async def test_a_message_that_is_refused_leaves_one_line(
    aiohttp_client: Any, witness: Witness, settings: Settings, clock: ManualClock
) -> None:
    """A worker's line has the status that an HTTP answer would have had."""
    queued = attrs.evolve(settings, intake=Intake(queue_url="https://sqs.example/1/q"))
    ledger = InMemoryLedger()
    app = create_worker_app(
        queued, extension=extension(), clock=clock, ledger=ledger, inbox=InMemoryInbox(clock)
    )
    worker = await aiohttp_client(app)
    handle = worker.app[MESSAGES].handle
    later = json.dumps(envelope("LATER", {}, event_id="e-2"))
    texts = {"m-1": json.dumps(MINE), "m-2": later, "m-3": "{", "m-4": later.replace("e-2", "e-3")}
    for message_id, text in texts.items():
        await handle(Message(id=message_id, text=text, receipt="", trace=AMAZON))
    await worker.close()
    lines = [
        (line["status"], line["message_id"], line.get("event_id"), line["stays"], line["count"])
        for line in refusals(witness)
    ]
    assert lines == [
        (422, "m-1", "e-1", False, 1),
        (503, "m-2", "e-2", False, 1),
        (400, "m-3", None, True, 1),
        (503, "m-4", "e-3", False, 1),
    ]
    assert {line["trace"] for line in refusals(witness)} == {AMAZON}


def test_each_invocation_logs_its_own_refusals(witness: Witness, settings: Settings) -> None:
    """Each invocation logs its refusals before it returns, since Lambda may freeze the process
    afterwards."""
    service = LambdaService(create_app(settings, hands_back=True))
    event = http_api_event("GET", "/nothing", headers={"X-Amzn-Trace-Id": AMAZON})
    broken = {**event, "rawPath": "/events", "body": "%", "isBase64Encoded": True}
    record = {
        "messageId": "m-1",
        "receiptHandle": "",
        "body": "{",
        "eventSource": "aws:sqs",
        "attributes": {"AWSTraceHeader": AMAZON},
    }
    try:
        for _ in range(2):
            assert service.handle(event, remaining_s=30)["statusCode"] == 404
        assert service.handle(broken, remaining_s=30)["statusCode"] == 400
        batch = {"Records": [record, {**record, "messageId": "m-2"}]}
        assert len(service.handle(batch, remaining_s=30)["batchItemFailures"]) == 2
    finally:
        service.close()
    lines = [(line["status"], line.get("trace"), line["count"]) for line in refusals(witness)]
    assert lines == [(404, AMAZON, 1)] * 2 + [(400, None, 1)] + [(400, AMAZON, 1)] * 2
