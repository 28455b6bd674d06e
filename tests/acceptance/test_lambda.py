"""The service as a Lambda function: API Gateway's and a function URL's events, and its answers.

`test_answers_table.py` has the answers to each kind of event; this module has what is
Lambda's own: formats, stages, encodings, and one service for the life of the process.
"""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import hypothesis
import pytest
import swagger_ui_bundle
from aiohttp import web

from orchestrator import Event, Extension, HandlerRegistry, Run, Settings, create_app
from orchestrator.adapters.emf import EmfMetrics
from orchestrator.intake.aws_lambda import is_sqs_batch
from orchestrator.intake.lambda_http import NotAnHTTPEventError
from orchestrator.lambda_handler import LambdaService
from orchestrator.settings import ApiKey, Auth
from orchestrator.testing import envelope
from tests.acceptance.lambda_functions import JSON, MINE, RUN, any_format, ask, post, with_stages
from tests.acceptance.ways import (
    Document,
    MakeEvent,
    function_url_event,
    http_api_event,
    rest_api_event,
)
from tests.lambda_events import HEALTH_CHECK, mutated


@attrs.define
class Life:
    """The lifespan, loops and resources that a function's events have used."""

    entered: int = 0
    left: int = 0
    loops: set[int] = attrs.field(factory=set)
    resources: list[object] = attrs.field(factory=list)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[object]:
        self.entered += 1
        yield object()
        self.left += 1


@pytest.fixture
def life() -> Life:
    return Life()


@pytest.fixture
def service(life: Life, settings: Settings) -> Iterator[LambdaService]:
    """A function with a handler of MY_EVENT that records its loop and resources."""
    registry = HandlerRegistry()

    @registry.on("MY_EVENT")
    async def handle(event: Event[dict[str, Any]], run: Run) -> None:
        life.loops.add(id(asyncio.get_running_loop()))
        life.resources.append(run.resources)

    extension = Extension(registry=registry, lifespan=life.lifespan)
    service = LambdaService(create_app(settings, extension=extension))
    yield service
    service.close()


# The request


@any_format
def test_an_event_is_handled(service: LambdaService, make_event: MakeEvent) -> None:
    """An event is 200, and `Location` leads to its run through the same function."""
    answer = ask(service, post(make_event))
    assert (answer.status, answer.json()) == (200, {"success": True})
    run = ask(service, make_event("GET", answer.headers["Location"]))
    assert (run.status, run.json()["status"]) == (200, "succeeded")


@any_format
def test_a_body_in_base64_is_the_same_body(service: LambdaService, make_event: MakeEvent) -> None:
    """A body in base64 is the same event as its text."""
    first = ask(service, post(make_event))
    event = post(make_event) | {"body": base64.b64encode(MINE).decode(), "isBase64Encoded": True}
    again = ask(service, event)
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotent-Replayed"] == "true"


@any_format
@pytest.mark.parametrize("path", ["/", "/ping", "/healthz", "/readyz", "/openapi.json", "/docs"])
def test_the_other_routes_are_there_too(
    service: LambdaService, make_event: MakeEvent, path: str
) -> None:
    """The other routes are 200 with a body."""
    answer = ask(service, make_event("GET", path))
    assert answer.status == 200, answer.text
    assert answer.body


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/events/CodeBuild%20Build%20State%20Change", id="encoded"),
        pytest.param("/events/CodeBuild Build State Change", id="decoded"),
    ],
)
@any_format
def test_a_type_with_spaces_is_read_from_the_path(
    service: LambdaService, make_event: MakeEvent, path: str
) -> None:
    """A type with spaces in the path is read whether API Gateway decoded it or not."""
    body = json.dumps(envelope("CodeBuild Build State Change", {})).encode()
    answer = ask(service, post(make_event, path, body))
    assert answer.status == 200, answer.text


# The stage


@with_stages
def test_a_stage_is_a_prefix_of_the_runs_address(
    service: LambdaService, make_event: MakeEvent
) -> None:
    """`Location` and a problem's `instance` have the stage, so that the sender can follow them."""
    answer = ask(service, post(make_event, stage="prod"))
    assert re.fullmatch(f"/prod{RUN}", answer.headers["Location"])
    path = answer.headers["Location"].removeprefix("/prod")
    assert ask(service, make_event("GET", path, stage="prod")).status == 200
    unhandled = json.dumps(envelope("TENANT_PARTY", {})).encode()
    problem = ask(service, post(make_event, body=unhandled, stage="prod"))
    assert problem.status == 400
    assert re.fullmatch(f"/prod{RUN}", problem.json()["instance"])


@with_stages
def test_pages_under_a_stage_lead_to_pages_under_it(
    service: LambdaService, make_event: MakeEvent
) -> None:
    """Each address on the pages, and the document's server, is below the stage and exists."""
    pages = [ask(service, make_event("GET", path, stage="prod")).text for path in ("/", "/docs")]
    links = re.findall(r'(?:src|href|url)[=:] ?"([^"]+)"', "".join(pages))
    assert {"/prod/docs", "/prod/openapi.json", "/prod/readyz"} <= set(links)
    for link in links:
        assert link.startswith("/prod/"), link
        answer = ask(service, make_event("GET", link.removeprefix("/prod"), stage="prod"))
        assert answer.status == 200, link
    document = ask(service, make_event("GET", "/openapi.json", stage="prod")).json()
    assert document["servers"] == [{"url": "/prod"}]


def test_the_root_of_a_stage_is_home(service: LambdaService) -> None:
    """The root of a stage is the home page, with and without a slash at the end."""
    with_slash = http_api_event("GET", "/", stage="prod")
    without = with_slash | {"rawPath": "/prod"}
    for event in (with_slash, without):
        answer = ask(service, event)
        assert (answer.status, answer.media_type) == (200, "text/html")


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(post(http_api_event), id="HTTP API's $default"),
        pytest.param(post(function_url_event), id="function URL"),
        pytest.param(post(rest_api_event), id="REST API's own domain"),
    ],
)
def test_without_a_stage_in_the_address_there_is_no_prefix(
    service: LambdaService, event: Document
) -> None:
    """Addresses under `$default` and under a custom domain have no stage."""
    assert re.fullmatch(RUN, ask(service, event).headers["Location"])
    document = ask(service, event | {"httpMethod": "GET"} | _get(event, "/openapi.json")).json()
    assert document["servers"] == [{"url": "/"}]


def _get(event: Document, path: str) -> Document:
    """The fields by which an event gets `path`."""
    context = event["requestContext"]
    if "http" not in context:
        return {"path": path, "requestContext": {**context, "path": path}, "body": None}
    http = {**context["http"], "method": "GET", "path": path}
    return {"rawPath": path, "requestContext": {**context, "http": http}, "body": None}


@pytest.mark.parametrize("name", ["X-Forwarded-Prefix", "x-forwarded-prefix"])
@pytest.mark.parametrize("stage", [None, "prod"])
@with_stages
def test_a_senders_own_prefix_is_ignored(
    service: LambdaService, make_event: MakeEvent, name: str, stage: str | None
) -> None:
    """A sender's `X-Forwarded-Prefix` doesn't change `Location`."""
    staged: dict[str, Any] = {"stage": stage} if stage else {}
    answer = ask(service, post(make_event, headers={name: "/elsewhere"}, **staged))
    assert re.fullmatch(f"{f'/{stage}' if stage else ''}{RUN}", answer.headers["Location"])


# The answer


@any_format
def test_an_image_is_answered_in_base64(service: LambdaService, make_event: MakeEvent) -> None:
    """An answer that isn't text is marked as base64, and is the file byte for byte."""
    icon = Path(str(swagger_ui_bundle.swagger_ui_path)) / "favicon-32x32.png"
    event = make_event("GET", "/docs/assets/favicon-32x32.png")
    assert service.handle(event, remaining_s=30)["isBase64Encoded"] is True
    answer = ask(service, event)
    assert (answer.status, answer.media_type) == (200, "image/png")
    assert answer.body == icon.read_bytes()


@any_format
@pytest.mark.parametrize("path", ["/", "/ping", "/nowhere", "/docs/assets/swagger-ui.css"])
def test_text_is_answered_as_text(service: LambdaService, make_event: MakeEvent, path: str) -> None:
    """An answer that is text isn't encoded, so that it is readable in Lambda's console."""
    assert service.handle(make_event("GET", path), remaining_s=30)["isBase64Encoded"] is False


def test_an_answer_has_the_form_of_its_format(service: LambdaService) -> None:
    """Format 1.0 has lists of header values and 2.0 one text for each, and neither has headers of
    the connection."""
    old = service.handle(rest_api_event("GET", "/ping"), remaining_s=30)
    new = service.handle(http_api_event("GET", "/ping"), remaining_s=30)
    assert all(isinstance(values, list) for values in old["multiValueHeaders"].values())
    assert all(isinstance(value, str) for value in new["headers"].values())
    for names in (old["multiValueHeaders"], new["headers"]):
        assert not {name.lower() for name in names} & {"connection", "content-length"}


# Unreadable events, and events that are no requests


@any_format
@pytest.mark.parametrize(
    ("parts", "said"),
    [
        pytest.param({"body": "e30", "isBase64Encoded": True}, "base64", id="wrong base64"),
        pytest.param(
            {"path": "/\ud800", "rawPath": "/\ud800", "body": 5},
            "body has a number where text must be",
            id="a path that isn't Unicode besides",
        ),
        pytest.param({"body": {"a": 1}}, "body has an object where text must be", id="no text"),
        pytest.param(
            {"headers": {"x-tag": 5}, "multiValueHeaders": {"x-tag": [5]}},
            "headers has a number where text must be",
            id="numbers in headers",
        ),
    ],
)
def test_an_unreadable_lambda_request_is_a_problem(
    service: LambdaService, make_event: MakeEvent, parts: Document, said: str
) -> None:
    """An unreadable request is a 400 with a sentence, in the sender's format; no event of it is
    handled."""
    event = post(make_event)
    event |= {name: part for name, part in parts.items() if name in event}
    answer = ask(service, event)
    problem = answer.json()
    assert (answer.status, answer.media_type) == (400, "application/problem+json")
    assert said in problem["detail"]
    assert problem["instance"] == ("/%3F" if "path" in parts else "/events")


@pytest.mark.parametrize(
    ("event", "said"),
    [
        pytest.param({}, "none", id="nothing"),
        pytest.param(None, "null", id="null"),
        pytest.param([{"a": 1}], "a list", id="list"),
        pytest.param(5, "a number", id="number"),
        pytest.param({"Records": [{"eventSource": "aws:s3", "s3": {}}]}, "Records", id="S3"),
        pytest.param(envelope("MY_EVENT", {}), "detail-type", id="EventBridge itself"),
    ],
)
def test_an_unknown_invocation_is_refused_by_its_keys(
    service: LambdaService, event: Any, said: str
) -> None:
    """An unknown invocation is an error that names the known shapes and its keys; the function
    continues to work."""
    with pytest.raises(NotAnHTTPEventError, match=r"API Gateway.*1\.0 or 2\.0.*") as refused:
        service.handle(event, remaining_s=30)
    assert said in str(refused.value)
    assert ask(service, http_api_event("GET", "/healthz")).status == 200


def test_any_mutated_event_is_answered_or_refused(service: LambdaService) -> None:
    """A mutated event is answered below 500 or refused, and the function continues to work."""

    @hypothesis.settings(max_examples=150, deadline=None)
    @hypothesis.given(event=mutated())
    def answered(event: Any) -> None:
        if is_sqs_batch(event):
            return
        try:
            answer = service.handle(event, remaining_s=30)
        except NotAnHTTPEventError:
            return
        assert answer["statusCode"] < 500, answer

    answered()


def test_a_load_balancers_health_check_needs_no_key(settings: Settings) -> None:
    """A load balancer's health check, which has neither a host nor a key, is 200."""
    auth = Auth(methods=("api_key",), api_key=ApiKey(keys=("key-1",)))
    service = LambdaService(create_app(attrs.evolve(settings, auth=auth), hands_back=True))
    try:
        answers = [ask(service, HEALTH_CHECK | {"path": path}) for path in ("/healthz", "/runs")]
    finally:
        service.close()
    assert [answer.status for answer in answers] == [200, 401]


def test_one_senders_cookies_are_not_the_next_ones(settings: Settings) -> None:
    """A cookie that an answer sets isn't part of the next sender's request."""

    async def answer(request: web.Request) -> web.Response:
        response = web.json_response(dict(request.cookies))
        response.set_cookie("session", "abc")
        return response

    app = create_app(settings)
    app.router.add_get("/mine", answer)
    service = LambdaService(app)
    try:
        first, second = (ask(service, http_api_event("GET", "/mine")) for _ in range(2))
        answered = service.handle(http_api_event("GET", "/mine"), remaining_s=30)
    finally:
        service.close()
    assert (first.json(), second.json()) == ({}, {})
    assert answered["cookies"] == ["session=abc; Path=/"]


# The time that is left


def test_no_header_sets_the_remaining_time(service: LambdaService) -> None:
    """The remaining time is that of the invocation's context, and no header sets it."""
    headers = {"X-Orchestrator-Deadline": "0", "Retry-After": "0", "X-Remaining-Time": "0"}
    assert ask(service, post(http_api_event, headers=headers)).status == 200


# The life of the process


def test_one_loop_and_one_set_of_clients_serve_all_invocations(
    service: LambdaService, life: Life
) -> None:
    """Loop and resources are opened once, and stay open between invocations."""
    for number in range(3):
        body = json.dumps(envelope("MY_EVENT", {}, event_id=f"event-{number}")).encode()
        assert ask(service, post(http_api_event, body=body)).status == 200
    assert (life.entered, life.left) == (1, 0)
    assert len(life.loops) == 1
    assert len(life.resources) == 3
    assert len(set(map(id, life.resources))) == 1


def test_an_http_api_of_format_1_leaves_the_stage_in_the_path(
    service: LambdaService,
) -> None:
    """A stage that format 1.0 leaves in the path is removed, and is a prefix of the run's
    address."""
    event = rest_api_event("POST", "/events", headers=JSON, body=MINE)
    event["path"] = event["requestContext"]["path"] = "/dev/events"
    event["requestContext"]["stage"] = "dev"
    answer = ask(service, event)
    assert answer.status == 200
    assert re.fullmatch(rf"/dev{RUN}", answer.headers["Location"])


@pytest.mark.parametrize("event", [{"requestContext": None}, {"httpMethod": None, "Records": []}])
def test_an_incomplete_lambda_request_is_refused(service: LambdaService, event: Document) -> None:
    """A request without its necessary parts is refused, without an assumption about them."""
    with pytest.raises(NotAnHTTPEventError):
        service.handle(event, remaining_s=30)


def test_an_invocation_ends_with_its_metrics(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """An invocation writes its metrics to standard output before Lambda freezes the process; there
    is no route for them."""
    metrics = EmfMetrics("saas")
    service = LambdaService(create_app(settings, hands_back=True, metrics=metrics), metrics)
    try:
        assert ask(service, post(http_api_event)).status == 400
        # In a test the log is written there, too.
        printed = capsys.readouterr().out.splitlines()
        lines = [json.loads(line) for line in printed if line.startswith("{")]
        counted = next(line for line in lines if "orchestrator_events_total" in line)
        assert (counted["event_type"], counted["outcome"]) == ("unsupported", "failed")
        assert ask(service, http_api_event("GET", "/metrics")).status == 404
    finally:
        service.close()
