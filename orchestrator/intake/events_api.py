"""Routes of events: parse a request, pass the event to the orchestrator, answer.

`problems.py` has the statuses of errors. The routes accept all event types: the orchestrator
decides which are supported.
"""

import unicodedata
from typing import Any, TypeVar

import aiohttp
import attrs
from aiohttp import web

from orchestrator.core.dispatch.orchestrator import Handled, current_delivery
from orchestrator.core.errors import BadEvent
from orchestrator.core.events.body import MAX_NAME_BYTES
from orchestrator.core.events.envelope import Delivery, open_named, structured_cloudevent
from orchestrator.core.events.wrappers import Opened
from orchestrator.intake.access import Access
from orchestrator.intake.app_keys import ID_HEADERS, INTAKE, WIRE, WORKLOAD
from orchestrator.intake.bodies import read_body
from orchestrator.intake.documentation import Answer, documented
from orchestrator.intake.links import link
from orchestrator.intake.problems import EVENT_PROBLEMS, SENT_BODY, SENT_ID
from orchestrator.intake.sender import name_of_sender
from orchestrator.wire.codec import decode_json

Model = TypeVar("Model")

_CLOUDEVENT_PREFIX = "ce-"
_STRUCTURED = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch+json"
#: What a form of a web page may be sent as (HTML standard, section 4.10.21.3).
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
#: Set by SNS, which sends JSON as text/plain (SNS developer guide, HTTP/HTTPS headers).
_SNS_HEADER = "x-amz-sns-message-type"


@attrs.frozen(kw_only=True)
class Success:
    """The answer to an event that was handled or accepted."""

    success: bool


EVENT_ANSWERS = {
    200: Answer(
        "Handled, now or by an earlier delivery",
        Success,
        headers={
            "Location": "The run",
            "Idempotent-Replayed": "`true` if an earlier delivery was handled: a duplicate",
        },
    ),
    202: Answer(
        "Accepted durably, and handled later (queue mode)", Success, headers={"Location": "The run"}
    ),
    **EVENT_PROBLEMS,
}

_SUCCESS, _CONTENT_TYPE = b'{"success": true}', "application/json; charset=utf-8"

routes = web.RouteTableDef()


@routes.post("/events/{eventType:[^/]+}")
@documented(
    "Handle an event of the type in the path",
    description=(
        "Send one event: its business body alone, an Amazon EventBridge envelope, an Amazon "
        "SNS notification, or a CloudEvent (structured or binary). It is handled once, "
        "however often it is delivered: type, source and id recognize it. An envelope must be "
        "of the type in the path. A temporary failure is 503 with Retry-After: send it again."
    ),
    tag="events",
    access=Access("events:write"),
    answers=EVENT_ANSWERS,
)
async def post_typed_event(request: web.Request) -> web.Response:
    return await _handle(request, await _read_event(request), request.match_info["eventType"])


@routes.post("/events")
@documented(
    "Handle an event with its type in the body",
    description=(
        "As POST /events/{eventType}, with the type from the envelope (detail-type) or the "
        "CloudEvent (type). This is the target of an Amazon EventBridge API destination."
    ),
    tag="events",
    access=Access("events:write"),
    answers=EVENT_ANSWERS,
)
async def post_event(request: web.Request) -> web.Response:
    body = await _read_event(request)
    event_type, opened = open_named(body)
    return await _handle(request, body, event_type, opened)


def routes_at(path: str) -> web.RouteTableDef:
    """The same routes at another path than `/events`."""
    further = web.RouteTableDef()
    further.post(path)(post_event)
    further.post(f"{path}/{{eventType:[^/]+}}")(post_typed_event)
    return further


async def _handle(
    request: web.Request, body: Any, event_type: str, opened: Opened | None = None
) -> web.Response:
    headers = request.headers
    how = Delivery(
        event_id=request.get(SENT_ID),
        same_content_same_event=True,
        opened=opened,
        trace=headers.get("traceparent") or headers.get("X-Amzn-Trace-Id"),
    )
    token = current_delivery.set(how)
    try:
        work = request.app[INTAKE].handle_event(event_type, body)
        outcome = await request.app[WORKLOAD].handle(work, sender=name_of_sender(request))
    finally:
        current_delivery.reset(token)
    return success(request, outcome)


def success(request: web.Request, outcome: object) -> web.Response:
    """The response for an event that was handled or queued."""
    is_queued = isinstance(outcome, Handled) and outcome.queued
    headers = {aiohttp.hdrs.CONTENT_TYPE: _CONTENT_TYPE, **_headers(request, outcome)}
    return web.Response(body=_SUCCESS, status=202 if is_queued else 200, headers=headers)


def _headers(request: web.Request, outcome: object) -> dict[str, str]:
    """The run's headers; a user's own orchestrator may return a value without a run."""
    if not isinstance(outcome, Handled) or outcome.run_id is None:
        return {}
    replayed = {"Idempotent-Replayed": "true"} if outcome.replayed else {}
    return {"Location": link(request, "run", runId=outcome.run_id), **replayed}


def _read_id(request: web.Request) -> None:
    """Read the event's id from the first header of `events.id_headers` that isn't blank.

    Raises:
        BadEvent: it is too long, or not valid text.
    """
    for name in request.app[ID_HEADERS]:
        value = request.headers.get(name, "").strip()
        if value:
            request[SENT_ID] = value
            _check_id(value, name)
            return


def _check_id(value: str, header: str) -> None:
    size = len(value.encode(errors="surrogateescape"))
    if size > MAX_NAME_BYTES:
        raise BadEvent(
            f"The header {header} is {size} bytes long; at most {MAX_NAME_BYTES} are allowed."
        )
    # aiohttp decodes what isn't UTF-8 to surrogates.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise BadEvent(f"The header {header} has control characters, or isn't UTF-8.")


async def _read_event(request: web.Request) -> Any:
    """The parsed JSON body; a binary CloudEvent is converted to structured mode.

    The Content-Type distinguishes the two modes (HTTP binding 1.0.2, section 3).
    """
    _read_id(request)
    _check_media_type(request)
    request[SENT_BODY] = body = _structured(request, await read_body(request))
    return body


def _structured(request: web.Request, text: bytes) -> Any:
    if request.content_type == _STRUCTURED:
        return decode_json(text)
    attributes = {
        name.lower().removeprefix(_CLOUDEVENT_PREFIX): value
        for name, value in request.headers.items()
        if name.lower().startswith(_CLOUDEVENT_PREFIX)
    }
    if "specversion" not in attributes:
        return decode_json(text)
    # An event may have no data (CloudEvents 1.0.2, section 3.1).
    return structured_cloudevent(attributes, decode_json(text) if text else {})


def _check_media_type(request: web.Request) -> None:
    """Refuse a Content-Type that isn't JSON; a request without one is accepted."""
    if aiohttp.hdrs.CONTENT_TYPE not in request.headers:
        return
    media_type = request.content_type
    if media_type == _BATCH:
        raise web.HTTPUnsupportedMediaType(
            text=f"The body is {media_type}: send each event by itself, as {_STRUCTURED}."
        )
    is_of_sns = media_type == "text/plain" and _SNS_HEADER in request.headers
    if not _is_json(media_type) and not is_of_sns:
        raise _not_json(media_type)


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or media_type.endswith("+json")


def _not_json(media_type: str) -> web.HTTPUnsupportedMediaType:
    return web.HTTPUnsupportedMediaType(
        text=f"The body is {media_type}: send JSON with the header Content-Type: application/json."
    )


async def read_optional(request: web.Request, model: type[Model]) -> Model:
    """The optional JSON body as a `model`; without a body, with its defaults.

    A form of a web page is refused even if it is empty. Clients may name any other type without a
    body: aiohttp's does.
    """
    media_type = request.content_type
    is_named = aiohttp.hdrs.CONTENT_TYPE in request.headers and not _is_json(media_type)
    if is_named and (request.body_exists or media_type in _FORMS):
        raise _not_json(media_type)
    text = await read_body(request)
    structured: Model = request.app[WIRE].structure(
        decode_json(text) if text.strip() else {}, model
    )
    return structured
