"""One event in all that may lie around it, by every way in: it is handled once, as that event."""

import json
import zlib
from typing import Any

import attrs
import pytest

from orchestrator import Extension, Settings, open_orchestrator
from orchestrator.adapters.memory.inbox import InMemoryInbox
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.cli.explain import explain_event
from orchestrator.embedded import CodeBuildStandIn
from orchestrator.intake.lambda_http import NotAnHTTPEventError
from orchestrator.lambda_handler import LambdaService
from orchestrator.settings import Events, Intake
from orchestrator.testing import ManualClock, envelope
from tests.acceptance.answers import only_build, read_problem, read_success
from tests.acceptance.orders import QUEUE, Seen, work_off
from tests.conftest import Client, StartService
from tests.wrapped import (
    SUBSCRIBE_URL,
    put_events_entry,
    sns_confirmation,
    sns_notification,
    sqs_record,
)

DETAIL = {"number": 1, "secret": "s3cret"}
EVENT = envelope("ORDER", DETAIL, event_id="event-1", source="shop")
CLOUDEVENT = {
    "specversion": "1.0",
    "type": "ORDER",
    "source": "shop",
    "id": "event-1",
    "time": EVENT["time"],
    "data": DETAIL,
}
#: What names the event `event-1` of `shop`, in however many layers.
WRAPPED: dict[str, dict[str, Any]] = {
    "nothing around it": EVENT,
    "detail as text": {**EVENT, "detail": json.dumps(DETAIL)},
    "CloudEvent": CLOUDEVENT,
    "SNS": sns_notification(EVENT),
    "SNS with a CloudEvent": sns_notification(CLOUDEVENT),
    "Pipes record": sqs_record(EVENT),
    "Pipes record of SNS": sqs_record(sns_notification(EVENT)),
    "envelope in an envelope": {**EVENT, "id": "outer", "source": "relay", "detail": EVENT},
    "PutEvents entry of it": put_events_entry("ORDER", EVENT, Source="relay"),
    "Entries": {"Entries": [put_events_entry("ORDER", EVENT, Source="relay")]},
}
wrapped = pytest.mark.parametrize("raw", WRAPPED.values(), ids=WRAPPED.keys())


@pytest.fixture
async def shop(start_service: StartService, extension: Extension) -> Client:
    """The service with a handler for orders."""
    return await start_service(extension=extension)


def check_seen(seen: Seen, raw: dict[str, Any]) -> None:
    """It was handled once, as the event that its sender wrote, and kept as it came."""
    (event,) = seen
    assert (event.type, event.source, event.id) == ("ORDER", "shop", "event-1")
    assert event.body == event.payload == DETAIL
    assert event.raw == raw


# Over HTTP


@wrapped
@pytest.mark.parametrize("path", ["/events", "/events/ORDER"])
async def test_it_is_handled_over_http(
    shop: Client, seen: Seen, raw: dict[str, Any], path: str
) -> None:
    """The inner type agrees with the path, or names the event where the path doesn't."""
    await read_success(await shop.post(path, json=raw))
    check_seen(seen, raw)


@wrapped
async def test_it_is_the_same_event_in_any_wrapper(
    shop: Client, seen: Seen, raw: dict[str, Any]
) -> None:
    """A sender that changes its transport is recognized by the event's own id."""
    first = await read_success(await shop.post("/events", json=EVENT))
    async with shop.post("/events", json=raw) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Idempotent-Replayed"] == "true"
        assert answer.headers["Location"] == first
    assert len(seen) == 1


@wrapped
async def test_a_replay_is_of_the_same_body(shop: Client, seen: Seen, raw: dict[str, Any]) -> None:
    """What is kept is opened as what was received."""
    location = await read_success(await shop.post("/events", json=raw))
    await read_success(await shop.post(f"{location}/replay", json={"force": True}))
    first, second = seen
    assert (second.body, second.raw, second.key) == (first.body, first.raw, first.key)


SNS_HEADERS = {
    "Content-Type": "text/plain; charset=UTF-8",
    "x-amz-sns-message-type": "Notification",
    "x-amz-sns-message-id": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "x-amz-sns-topic-arn": "arn:aws:sns:us-west-2:123456789012:tenant-events",
    "User-Agent": "Amazon Simple Notification Service Agent",
}


@pytest.mark.parametrize(
    ("raw", "headers"),
    [
        (sns_notification(EVENT), SNS_HEADERS),
        (EVENT, {**SNS_HEADERS, "x-amz-sns-rawdelivery": "true"}),
    ],
    ids=["wrapped", "raw message delivery"],
)
async def test_sns_posts_its_json_as_plain_text(
    shop: Client, seen: Seen, raw: dict[str, Any], headers: dict[str, str]
) -> None:
    """Its header says who it is; with raw message delivery there is nothing to take off."""
    await read_success(await shop.post("/events", data=json.dumps(raw), headers=headers))
    check_seen(seen, raw)


async def test_a_message_without_an_id_has_that_of_sns(shop: Client, seen: Seen) -> None:
    """So that a retry is the same event, and equal content sent twice is two."""
    for message_id in ("m-1", "m-1", "m-2"):
        raw = sns_notification(DETAIL, MessageId=message_id)
        await read_success(await shop.post("/events/ORDER", json=raw))
    assert [event.id for event in seen] == ["m-1", "m-2"]


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
@pytest.mark.parametrize("path", ["/events", "/events/ORDER"])
async def test_a_subscription_is_confirmed_by_a_person(shop: Client, kind: str, path: str) -> None:
    """422 that says what to open; no run is kept, and nothing is fetched."""
    headers = {**SNS_HEADERS, "x-amz-sns-message-type": kind}
    body = json.dumps(sns_confirmation(kind))
    problem = await read_problem(await shop.post(path, data=body, headers=headers), 422)
    assert SUBSCRIBE_URL in problem["detail"]
    assert problem["instance"] == path
    async with shop.get("/runs") as answer:
        assert (await answer.json())["items"] == []


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (sns_notification("Budget exceeded"), '"Message" of the SNS notification'),
        (sqs_record("hello"), '"body" of the SQS record'),
        (sqs_record(sqs_record(sqs_record(sqs_record(sqs_record(EVENT))))), "more than 4 wrappers"),
        ({"Entries": [put_events_entry("ORDER", {})] * 2}, "send each by itself"),
        ({**EVENT, "detail": "{"}, '"detail" of the envelope'),
        ([sqs_record(EVENT)], "The body must be a JSON object, not a list"),
    ],
)
async def test_a_wrapper_without_an_event_is_refused(
    shop: Client, raw: object, sentence: str
) -> None:
    """400 that names the wrapper."""
    problem = await read_problem(await shop.post("/events/ORDER", json=raw), 400)
    assert sentence in problem["detail"]


async def test_another_type_inside_is_content(shop: Client, seen: Seen) -> None:
    """An event that quotes another one is not that other one."""
    quoted = envelope("TENANT_PROVISIONING", {"tenantId": "t-1", "tier": "BASIC"})
    await read_success(await shop.post("/events", json=envelope("ORDER", quoted)))
    assert seen[0].body == quoted
    async with shop.get("/tenants") as answer:
        assert (await answer.json())["items"] == []


# Structured and binary CloudEvents, ids in headers, marks before the body


async def test_the_content_type_decides_that_a_cloudevent_is_structured(
    shop: Client, seen: Seen
) -> None:
    """Whatever `ce-*` headers a proxy has added."""
    headers = {
        "Content-Type": "application/cloudevents+json; charset=utf-8",
        "ce-specversion": "1.0",
        "ce-type": "INVOICE",
        "ce-source": "/proxy",
        "ce-id": "x%FF",
    }
    await read_success(await shop.post("/events", data=json.dumps(CLOUDEVENT), headers=headers))
    check_seen(seen, CLOUDEVENT)


async def test_a_binary_cloudevent_is_its_headers(shop: Client, seen: Seen) -> None:
    """With any other media type of JSON."""
    headers = {f"ce-{name}": str(value) for name, value in CLOUDEVENT.items() if name != "data"}
    await read_success(await shop.post("/events", json=DETAIL, headers=headers))
    check_seen(seen, CLOUDEVENT)


async def test_a_binary_cloudevent_may_have_no_data(shop: Client, seen: Seen) -> None:
    """As a schedule sends it; so may a structured one."""
    headers = {f"ce-{name}": str(value) for name, value in CLOUDEVENT.items() if name != "data"}
    headers["Content-Type"] = "application/json"
    answer = await shop.post("/events", data=b"", headers=headers)
    await read_success(answer)
    (event,) = seen
    assert (event.type, event.body) == (CLOUDEVENT["type"], {})


@pytest.mark.parametrize("name", ["ce-id", "ce-source", "ce-subject"])
async def test_a_header_that_is_no_text_is_refused(shop: Client, name: str) -> None:
    """400 that names it."""
    headers = {"ce-specversion": "1.0", "ce-type": "ORDER", "ce-source": "/s", "ce-id": "1"}
    answer = await shop.post("/events", json=DETAIL, headers={**headers, name: "x%FF"})
    assert f"The header {name} isn't" in (await read_problem(answer, 400))["detail"]


async def test_a_batch_of_cloudevents_is_refused(shop: Client) -> None:
    """415: half of it could be handled, and no answer could say which."""
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    answer = await shop.post("/events", data=json.dumps([CLOUDEVENT]), headers=headers)
    assert "send each event by itself" in (await read_problem(answer, 415))["detail"]


@pytest.mark.parametrize(
    ("headers", "event_id"),
    [
        ({"Idempotency-Key": "a"}, "a"),
        ({"webhook-id": "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"}, "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"),
        ({"Webhook-Id": "b", "Idempotency-Key": "a"}, "a"),
        ({"Webhook-Id": "b", "Idempotency-Key": " "}, "b"),
        ({"Webhook-Id": "", "Idempotency-Key": ""}, "event-1"),
        ({"X-Request-Id": "c"}, "event-1"),
        ({"Idempotency-Key": "k" * 512}, "k" * 512),
    ],
)
async def test_a_header_names_the_event(
    shop: Client, seen: Seen, headers: dict[str, str], event_id: str
) -> None:
    """The first of `events.id_headers` that isn't blank, over what the body says."""
    await read_success(await shop.post("/events", json=EVENT, headers=headers))
    assert seen[0].id == event_id


async def test_which_headers_name_an_event_is_a_setting(
    start_service: StartService, settings: Settings, extension: Extension, seen: Seen
) -> None:
    """The list is the whole of it, in its order, and OpenAPI shows it."""
    events = Events(id_headers=("X-Event", "webhook-id"))
    service = await start_service(attrs.evolve(settings, events=events), extension=extension)
    headers = {"Idempotency-Key": "a", "x-event": "b", "webhook-id": "c"}
    await read_success(await service.post("/events", json=EVENT, headers=headers))
    assert seen[0].id == "b"
    async with service.get("/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    for path in ("/events", "/events/{eventType}", "/events/ORDER"):
        parameters = paths[path]["post"]["parameters"]
        assert [p["name"] for p in parameters if p["in"] == "header"] == ["X-Event", "webhook-id"]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [("k" * 513, "513 bytes long; at most 512"), ("a\tb", "control characters")],
)
@pytest.mark.parametrize("name", ["Idempotency-Key", "webhook-id"])
async def test_a_header_that_can_be_no_id_is_refused(
    shop: Client, name: str, value: str, sentence: str
) -> None:
    """400 that names the header; the next one is no way out."""
    answer = await shop.post("/events", json=EVENT, headers={name: value})
    problem = await read_problem(answer, 400)
    assert f"The header {name} " in problem["detail"]
    assert sentence in problem["detail"]


async def test_a_byte_order_mark_is_skipped(shop: Client, seen: Seen) -> None:
    """Editors and .NET put it before JSON (RFC 8259, section 8.1, lets a reader ignore it)."""
    body = b"\xef\xbb\xbf" + json.dumps(EVENT).encode()
    headers = {"Content-Type": "application/json"}
    await read_success(await shop.post("/events", data=body, headers=headers))
    check_seen(seen, EVENT)
    answer = await shop.post("/events", data=b"\xef\xbb\xbf", headers=headers)
    assert "body is empty" in (await read_problem(answer, 400))["detail"]


async def test_no_secret_of_a_report_is_kept_in_a_wrapper(
    start_service: StartService,
) -> None:
    """A build's own report is its whole environment: what is hidden there is hidden in a text."""
    ledger = InMemoryLedger()
    service = await start_service(ledger=ledger)
    told = {"tenantId": "t-1", "DB_PASSWORD": "hush-hush", "APP_PLANE_URL": "https://t-1.example"}
    report = envelope("TENANT_PROVISIONING_SUCCESS", told)
    await read_success(await service.post("/events", json=sns_notification(report)))
    payloads = [getattr(item, "data", b"") for item in ledger._items.values()]
    kept = "".join(zlib.decompress(payload).decode() for payload in payloads if payload)
    assert "https://t-1.example" in kept
    assert "hush-hush" not in kept


@wrapped
async def test_it_is_explained_as_it_would_be_handled(
    settings: Settings, raw: dict[str, Any]
) -> None:
    """From a file, with a mark before it, too."""
    text = b"\xef\xbb\xbf" + json.dumps(raw).encode()
    explained = await explain_event(settings, None, text)
    known = (explained.event_type, explained.source, explained.event_id)
    assert known == ("ORDER", "shop", "event-1")


@wrapped
async def test_a_library_call_handles_it(
    settings: Settings, extension: Extension, seen: Seen, raw: dict[str, Any]
) -> None:
    """With the parsed JSON as it was received."""
    async with open_orchestrator(settings, extension=extension) as orchestrator:
        await orchestrator.handle_event("ORDER", raw)
    check_seen(seen, raw)


@pytest.mark.parametrize(
    ("odd", "named"),
    [
        ({"plan": "monthly"}, {"tenantId": "t-1", "tier": "BASIC"}),
        ({"subscription": "sub_1", "planConfig": "x"}, {"tenantId": "t-1", "tier": "BASIC"}),
        ({"tenant": "acme"}, {"tenantId": "t-1", "tier": "BASIC"}),
        ({"tenant": "", "secret": 123}, {"TENANT_ID": "t-1", "planConfig": {"tier": "BASIC"}}),
        ({"tenantId": 7}, {"tenant": {"id": "t-1"}, "tier": "BASIC"}),
    ],
)
async def test_an_odd_spelling_spoils_no_request(
    service: Client, codebuild: CodeBuildStandIn, odd: dict[str, Any], named: dict[str, Any]
) -> None:
    """Where another one says of which tenant and tier it is."""
    await read_success(await service.post("/events/TENANT_PROVISIONING", json={**odd, **named}))
    assert only_build(codebuild).project == "basic-tenant"
    async with service.get("/tenants") as answer:
        assert [tenant["tenantId"] for tenant in (await answer.json())["items"]] == ["t-1"]


async def test_an_odd_spelling_that_is_missed_is_named(service: Client) -> None:
    """422 with its path: nothing else says of which tier the tenant is to be."""
    body = {"tenantId": "t-1", "plan": "monthly"}
    answer = await service.post("/events/TENANT_PROVISIONING", json=body)
    errors = (await read_problem(answer, 422))["errors"]
    assert [error["path"] for error in errors] == ["$.plan"]


# By a queue


@wrapped
async def test_a_worker_handles_it(
    settings: Settings,
    extension: Extension,
    clock: ManualClock,
    seen: Seen,
    raw: dict[str, Any],
) -> None:
    """Whoever put it into the queue."""
    inbox = InMemoryInbox(clock)
    await inbox.send(text=json.dumps(raw), group="g", deduplication_id="d")
    await work_off(settings, inbox, extension=extension)
    check_seen(seen, raw)


async def test_queue_mode_accepts_a_wrapped_event(
    start_service: StartService,
    settings: Settings,
    extension: Extension,
    clock: ManualClock,
    seen: Seen,
) -> None:
    """It is unwrapped at the entry point, and again by the worker."""
    inbox, raw = InMemoryInbox(clock), sns_notification(EVENT)
    queued = attrs.evolve(settings, intake=Intake(mode="queue", queue_url=QUEUE))
    service = await start_service(queued, extension=extension, inbox=inbox)
    async with service.post("/events", json=raw) as answer:
        assert answer.status == 202, await answer.text()
    await work_off(settings, inbox, extension=extension)
    check_seen(seen, raw)


# On Lambda


@wrapped
@pytest.mark.parametrize("by_pipe", [False, True], ids=["event source", "Pipes"])
def test_a_function_handles_it(
    function: LambdaService, seen: Seen, raw: dict[str, Any], by_pipe: bool
) -> None:
    """Pipes sends the bare list of what Lambda's own poller puts into an object."""
    records = [sqs_record(raw)]
    answer = function.handle(records if by_pipe else {"Records": records}, remaining_s=30)
    assert answer == {"batchItemFailures": []}
    check_seen(seen, raw)


def test_a_batch_of_pipes_names_the_failed_items(function: LambdaService, seen: Seen) -> None:
    """As a poller's batch: the rest is not sent again (EventBridge user guide, Pipes batching)."""
    records = [
        sqs_record(EVENT, messageId="m-1"),
        sqs_record("hello", messageId="m-2"),
        sqs_record(sns_confirmation(), messageId="m-3"),
    ]
    answer = function.handle(records, remaining_s=30)
    failures = [{"itemIdentifier": "m-2"}, {"itemIdentifier": "m-3"}]
    assert answer == {"batchItemFailures": failures}
    assert len(seen) == 1


def test_no_other_event_invokes_the_function_itself(function: LambdaService, seen: Seen) -> None:
    """EventBridge would try twice, and give up: it is refused with the way that keeps it."""
    with pytest.raises(NotAnHTTPEventError, match="through SQS"):
        function.handle(EVENT, remaining_s=30)
    assert not seen
