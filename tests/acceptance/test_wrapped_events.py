"""One event in each wrapper and by each entry point: it is handled once, as that event."""

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
#: Bodies with the event `event-1` of `shop`, in one wrapper or more.
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
    """The event was handled once, as its sender wrote it, and is stored as received."""
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
    """Over HTTP a wrapped event is handled by its inner type, which agrees with the path or is used
    where the path names none."""
    await read_success(await shop.post(path, json=raw))
    check_seen(seen, raw)


@wrapped
async def test_it_is_the_same_event_in_any_wrapper(
    shop: Client, seen: Seen, raw: dict[str, Any]
) -> None:
    """A sender that changes its transport sends the same event, by the event's own id."""
    first = await read_success(await shop.post("/events", json=EVENT))
    async with shop.post("/events", json=raw) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Idempotent-Replayed"] == "true"
        assert answer.headers["Location"] == first
    assert len(seen) == 1


@wrapped
async def test_a_replay_is_of_the_same_body(shop: Client, seen: Seen, raw: dict[str, Any]) -> None:
    """A replay unwraps the stored event as it was received."""
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
    """A `text/plain` body with the header of SNS is accepted, with a wrapper and with raw message
    delivery."""
    await read_success(await shop.post("/events", data=json.dumps(raw), headers=headers))
    check_seen(seen, raw)


async def test_a_message_without_an_id_has_that_of_sns(shop: Client, seen: Seen) -> None:
    """A message without an id has the id of its SNS notification, so that a retry is the same event
    and equal content sent twice is two."""
    for message_id in ("m-1", "m-1", "m-2"):
        raw = sns_notification(DETAIL, MessageId=message_id)
        await read_success(await shop.post("/events/ORDER", json=raw))
    assert [event.id for event in seen] == ["m-1", "m-2"]


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
@pytest.mark.parametrize("path", ["/events", "/events/ORDER"])
async def test_a_subscription_is_confirmed_by_a_person(shop: Client, kind: str, path: str) -> None:
    """A subscription's confirmation is a 422 that names the address to open; no run is stored, and
    nothing is fetched."""
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
    """A wrapper without a readable event is a 400 that names the wrapper."""
    problem = await read_problem(await shop.post("/events/ORDER", json=raw), 400)
    assert sentence in problem["detail"]


async def test_another_type_inside_is_content(shop: Client, seen: Seen) -> None:
    """An event that quotes an event of another type is handled as the outer one."""
    quoted = envelope("TENANT_PROVISIONING", {"tenantId": "t-1", "tier": "BASIC"})
    await read_success(await shop.post("/events", json=envelope("ORDER", quoted)))
    assert seen[0].body == quoted
    async with shop.get("/tenants") as answer:
        assert (await answer.json())["items"] == []


# Structured and binary CloudEvents, ids in headers, marks before the body


async def test_the_content_type_decides_that_a_cloudevent_is_structured(
    shop: Client, seen: Seen
) -> None:
    """With the structured media type the `ce-*` headers that a proxy has added are ignored."""
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
    """With any other media type of JSON the `ce-*` headers are the CloudEvent."""
    headers = {f"ce-{name}": str(value) for name, value in CLOUDEVENT.items() if name != "data"}
    await read_success(await shop.post("/events", json=DETAIL, headers=headers))
    check_seen(seen, CLOUDEVENT)


async def test_a_binary_cloudevent_may_have_no_data(shop: Client, seen: Seen) -> None:
    """A binary CloudEvent without data, as a schedule sends it, is handled with an empty body."""
    headers = {f"ce-{name}": str(value) for name, value in CLOUDEVENT.items() if name != "data"}
    headers["Content-Type"] = "application/json"
    answer = await shop.post("/events", data=b"", headers=headers)
    await read_success(answer)
    (event,) = seen
    assert (event.type, event.body) == (CLOUDEVENT["type"], {})


@pytest.mark.parametrize("name", ["ce-id", "ce-source", "ce-subject"])
async def test_a_header_that_is_no_text_is_refused(shop: Client, name: str) -> None:
    """A `ce-*` header that isn't percent-encoded UTF-8 is a 400 that names it."""
    headers = {"ce-specversion": "1.0", "ce-type": "ORDER", "ce-source": "/s", "ce-id": "1"}
    answer = await shop.post("/events", json=DETAIL, headers={**headers, name: "x%FF"})
    assert f"The header {name} isn't" in (await read_problem(answer, 400))["detail"]


async def test_a_batch_of_cloudevents_is_refused(shop: Client) -> None:
    """A batch is 415, since one answer couldn't say which of its events were handled."""
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
    """The first header of `events.id_headers` that isn't blank is the event's id, before that of
    the body."""
    await read_success(await shop.post("/events", json=EVENT, headers=headers))
    assert seen[0].id == event_id


async def test_which_headers_name_an_event_is_a_setting(
    start_service: StartService, settings: Settings, extension: Extension, seen: Seen
) -> None:
    """The setting replaces the whole list, in its order, and OpenAPI shows it."""
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
    """A header that can't be an id is a 400 that names it; the next header isn't used instead."""
    answer = await shop.post("/events", json=EVENT, headers={name: value})
    problem = await read_problem(answer, 400)
    assert f"The header {name} " in problem["detail"]
    assert sentence in problem["detail"]


async def test_a_byte_order_mark_is_skipped(shop: Client, seen: Seen) -> None:
    """A byte order mark before the body is ignored, since editors and .NET write one (RFC 8259,
    section 8.1, allows a reader to ignore it)."""
    body = b"\xef\xbb\xbf" + json.dumps(EVENT).encode()
    headers = {"Content-Type": "application/json"}
    await read_success(await shop.post("/events", data=body, headers=headers))
    check_seen(seen, EVENT)
    answer = await shop.post("/events", data=b"\xef\xbb\xbf", headers=headers)
    assert "body is empty" in (await read_problem(answer, 400))["detail"]


async def test_no_secret_of_a_report_is_kept_in_a_wrapper(
    start_service: StartService,
) -> None:
    """Secrets of a self-report, which is a build's whole environment, are masked within the text of
    its wrapper too."""
    ledger = InMemoryLedger()
    service = await start_service(ledger=ledger)
    self_report = {
        "tenantId": "t-1",
        "DB_PASSWORD": "hush-hush",
        "APP_PLANE_URL": "https://t-1.example",
    }
    report = envelope("TENANT_PROVISIONING_SUCCESS", self_report)
    await read_success(await service.post("/events", json=sns_notification(report)))
    payloads = [getattr(item, "data", b"") for item in ledger._items.values()]
    kept = "".join(zlib.decompress(payload).decode() for payload in payloads if payload)
    assert "https://t-1.example" in kept
    assert "hush-hush" not in kept


@wrapped
async def test_it_is_explained_as_it_would_be_handled(
    settings: Settings, raw: dict[str, Any]
) -> None:
    """`explain` unwraps an event like the service, with a byte order mark before it too."""
    text = b"\xef\xbb\xbf" + json.dumps(raw).encode()
    explained = await explain_event(settings, None, text)
    known = (explained.event_type, explained.source, explained.event_id)
    assert known == ("ORDER", "shop", "event-1")


@wrapped
async def test_a_library_call_handles_it(
    settings: Settings, extension: Extension, seen: Seen, raw: dict[str, Any]
) -> None:
    """A library call with the parsed JSON is unwrapped like any other delivery."""
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
    """A spelling of tenant or tier with another shape is ignored if another field gives the
    value."""
    await read_success(await service.post("/events/TENANT_PROVISIONING", json={**odd, **named}))
    assert only_build(codebuild).project == "basic-tenant"
    async with service.get("/tenants") as answer:
        assert [tenant["tenantId"] for tenant in (await answer.json())["items"]] == ["t-1"]


async def test_an_odd_spelling_that_is_missed_is_named(service: Client) -> None:
    """A spelling with another shape is a 422 with its path if no other field names the tier."""
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
    """A worker handles the wrapped event, whichever sender put it into the queue."""
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
    """In queue mode a wrapped event is unwrapped at the entry point, and again by the worker."""
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
    """A function handles the event in the records of Lambda's own poller, and in the bare list that
    Pipes sends."""
    records = [sqs_record(raw)]
    answer = function.handle(records if by_pipe else {"Records": records}, remaining_s=30)
    assert answer == {"batchItemFailures": []}
    check_seen(seen, raw)


def test_a_batch_of_pipes_names_the_failed_items(function: LambdaService, seen: Seen) -> None:
    """Of a batch of Pipes only the failed items are named, so that the rest isn't sent again
    (EventBridge user guide, Pipes batching)."""
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
    """A direct invocation by EventBridge, which would retry only twice, is refused with an error
    that names the way through SQS."""
    with pytest.raises(NotAnHTTPEventError, match="through SQS"):
        function.handle(EVENT, remaining_s=30)
    assert not seen
