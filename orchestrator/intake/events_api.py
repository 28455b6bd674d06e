"""Events over HTTP: reads a request, has the orchestrator handle it, answers.

What each answer means to EventBridge stands in `problems.py`. The route rejects no event
type: whether one is supported is for the orchestrator to say.
"""

import unicodedata
from typing import Any, TypeVar

import aiohttp
import attrs
from aiohttp import web

from orchestrator.core.dispatch.orchestrator import Handled, current_delivery
from orchestrator.core.errors import BadEvent
from orchestrator.core.events.body import MAX_NAME_BYTES
from orchestrator.core.events.envelope import Delivery, read_event_type, structured_cloudevent
from orchestrator.intake.access import Access, Scope
from orchestrator.intake.app_keys import ID_HEADERS, INTAKE, MAX_BODY_BYTES, WIRE, WORKLOAD
from orchestrator.intake.links import link
from orchestrator.intake.openapi import Answer, documented
from orchestrator.intake.problems import EVENT_PROBLEMS, SENT_BODY, SENT_ID
from orchestrator.wire.codec import decode_json

Model = TypeVar("Model")

_CLOUDEVENT_PREFIX = "ce-"
_STRUCTURED = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch+json"
#: SNS says so of each request, and calls the JSON in it text/plain (SNS developer guide,
#: HTTP/HTTPS headers).
_SNS_HEADER = "x-amz-sns-message-type"


@attrs.frozen(kw_only=True)
class Success:
    success: bool


EVENT_ANSWERS = {
    200: Answer(
        "Handled, now or by an earlier delivery",
        Success,
        headers={
            "Location": "The run",
            "Idempotent-Replayed": "`true` if an earlier delivery was handled",
        },
    ),
    202: Answer(
        "Accepted durably, and handled later (queue mode)", Success, headers={"Location": "The run"}
    ),
    **EVENT_PROBLEMS,
}

routes = web.RouteTableDef()


@routes.post("/events/{eventType}")
@documented(
    "Handle one event of the type in the path",
    tag="events",
    access=Access(Scope.EVENTS_WRITE),
    answers=EVENT_ANSWERS,
)
async def post_typed_event(request: web.Request) -> web.Response:
    return await _handle(request, await _read_event(request), request.match_info["eventType"])


@routes.post("/events")
@documented(
    "Handle one event that names its type",
    tag="events",
    access=Access(Scope.EVENTS_WRITE),
    answers=EVENT_ANSWERS,
)
async def post_event(request: web.Request) -> web.Response:
    body = await _read_event(request)
    return await _handle(request, body, read_event_type(body))


async def _handle(request: web.Request, body: Any, event_type: str) -> web.Response:
    how = Delivery(event_id=request.get(SENT_ID), same_content_same_event=True)
    token = current_delivery.set(how)
    try:
        work = request.app[INTAKE].handle_event(event_type, body)
        outcome = await request.app[WORKLOAD].handle(work)
    finally:
        current_delivery.reset(token)
    return success(request, outcome)


def success(request: web.Request, outcome: object) -> web.Response:
    """The answer to what is handled, or lies in the queue."""
    is_queued = isinstance(outcome, Handled) and outcome.queued
    return web.json_response(
        {"success": True}, status=202 if is_queued else 200, headers=_headers(request, outcome)
    )


def _headers(request: web.Request, outcome: object) -> dict[str, str]:
    """A user's own orchestrator may return anything; only ours knows of a run."""
    if not isinstance(outcome, Handled) or outcome.run_id is None:
        return {}
    replayed = {"Idempotent-Replayed": "true"} if outcome.replayed else {}
    return {"Location": link(request, "run", runId=outcome.run_id), **replayed}


def _read_id(request: web.Request) -> None:
    """Keep the id in the first header of `events.id_headers` that isn't blank.

    Raises:
        BadEvent: it is too long, or no text.
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
    """The parsed JSON body; a binary CloudEvent in its structured form.

    Which of the two a CloudEvent is says its Content-Type (HTTP binding 1.0.2, section 3).
    """
    _read_id(request)
    _check_media_type(request)
    request[SENT_BODY] = body = _structured(request, decode_json(await read_body(request)))
    return body


def _structured(request: web.Request, data: Any) -> Any:
    if request.content_type == _STRUCTURED:
        return data
    attributes = {
        name.lower().removeprefix(_CLOUDEVENT_PREFIX): value
        for name, value in request.headers.items()
        if name.lower().startswith(_CLOUDEVENT_PREFIX)
    }
    return structured_cloudevent(attributes, data) if "specversion" in attributes else data


def _check_media_type(request: web.Request) -> None:
    """Refuse what says that it isn't JSON; a request that says nothing is given the benefit."""
    if aiohttp.hdrs.CONTENT_TYPE not in request.headers:
        return
    media_type = request.content_type
    if media_type == _BATCH:
        raise web.HTTPUnsupportedMediaType(
            text=f"The body is {media_type}: send each event by itself, as {_STRUCTURED}."
        )
    is_json = media_type == "application/json" or media_type.endswith("+json")
    if not is_json and not (media_type == "text/plain" and _SNS_HEADER in request.headers):
        raise web.HTTPUnsupportedMediaType(
            text=f"The body is {media_type}: send JSON with the header "
            "Content-Type: application/json."
        )


async def read_optional(request: web.Request, model: type[Model]) -> Model:
    """The body as a `model`, all of which is optional: no body is an empty one."""
    text = await read_body(request)
    structured: Model = request.app[WIRE].structure(
        decode_json(text) if text.strip() else {}, model
    )
    return structured


async def read_body(request: web.Request) -> bytes:
    """The body after decompression; the limit is ours whatever app we are mounted in."""
    limit = request.app[MAX_BODY_BYTES]
    body = bytearray()
    try:
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > limit:
                raise web.HTTPRequestEntityTooLarge(
                    limit, text=f"The body is larger than {limit} bytes: send a smaller event."
                )
    except (web.RequestPayloadError, aiohttp.http_exceptions.ContentEncodingError) as error:
        raise web.HTTPBadRequest(
            text=f"The body can't be decoded: {error}. Send it as its Content-Encoding says."
        ) from error
    return bytes(body)
