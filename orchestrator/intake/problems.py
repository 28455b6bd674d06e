"""Maps errors to HTTP statuses, in one table. Answers are RFC 9457 problem details.

The status decides whether EventBridge retries an event, so none is 3xx or 409, and a temporary
failure is never 4xx (README.md has the table).
"""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import attrs
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from orchestrator.core.errors import (
    BadEvent,
    EventTooLarge,
    HandlerFailed,
    OrchestratorError,
    Overloaded,
    PayloadMismatch,
    PermanentError,
    RunNotFound,
    TemporaryError,
    TenantNotFound,
    UnconfirmedSubscription,
    UnsupportedEventType,
)
from orchestrator.core.texts import shorten
from orchestrator.intake.data_dictionary import RUN_ID
from orchestrator.intake.documentation import Answer
from orchestrator.intake.links import address, link
from orchestrator.intake.refusal_log import REFUSALS, Refusal, name_event, read_trace
from orchestrator.wire.codec import encode_json

DEFAULT_RETRY_AFTER_S = 5.0

#: The first match counts, so a class comes before its base.
STATUSES: tuple[tuple[type[OrchestratorError], HTTPStatus], ...] = (
    (UnconfirmedSubscription, HTTPStatus.UNPROCESSABLE_ENTITY),
    (BadEvent, HTTPStatus.BAD_REQUEST),
    (RunNotFound, HTTPStatus.NOT_FOUND),
    (TenantNotFound, HTTPStatus.NOT_FOUND),
    (EventTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (UnsupportedEventType, HTTPStatus.BAD_REQUEST),
    (PermanentError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (Overloaded, HTTPStatus.TOO_MANY_REQUESTS),
    (TemporaryError, HTTPStatus.SERVICE_UNAVAILABLE),
    (HandlerFailed, HTTPStatus.INTERNAL_SERVER_ERROR),
)

MEDIA_TYPE = "application/problem+json"

#: The event's id from a header, and the parsed body, once they were read.
SENT_ID: web.RequestKey[str] = web.RequestKey("sent_id", str)
SENT_BODY: web.RequestKey[object] = web.RequestKey("sent_body", object)

log = structlog.get_logger("orchestrator.http")


@attrs.frozen(kw_only=True)
class Problem:
    """RFC 9457 problem details. The status identifies the problem, so `type` is about:blank."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    errors: list[PayloadMismatch] | None = None


def problem(
    status: int,
    detail: str,
    *,
    instance: str,
    errors: Sequence[PayloadMismatch] = (),
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A problem response, whose texts are shortened: a sender chooses how long a value is that they
    quote. `instance` is the path of the run, without one that of the request."""
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=int(status),
        # A lone surrogate, which any message may contain, can't be encoded in UTF-8.
        detail=shorten(detail).encode("utf-8", "replace").decode(),
        instance=instance,
        errors=[PayloadMismatch(shorten(one.path), shorten(one.message)) for one in errors] or None,
    )
    given = attrs.asdict(body, filter=lambda _, value: value is not None)
    return web.Response(
        status=status, body=encode_json(given), content_type=MEDIA_TYPE, headers=headers
    )


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn exceptions of a route into problem responses, without tracebacks, and log them."""
    try:
        return await handler(request)
    except OrchestratorError as error:
        answer = problem_of(error, instance=_instance(request, error))
        return _logged(request, answer, error, str(error))
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        sentence, headers = _sentence(request, error), _own_headers(error)
        answer = problem(error.status, sentence, instance=address(request), headers=headers)
        return _logged(request, answer, error, sentence)
    except Exception as error:
        log.error("request failed", path=request.path, exc_info=error)
        sentence = "The request failed with an internal error; the log has the traceback."
        answer = problem(HTTPStatus.INTERNAL_SERVER_ERROR, sentence, instance=address(request))
        return _logged(request, answer, error, sentence)


def _logged(
    request: web.Request, answer: web.Response, error: Exception, reason: str
) -> web.Response:
    """Log the refusal; returns the response."""
    path_type = request.match_info.get("eventType")
    request.app[REFUSALS].add(
        Refusal(
            what="request",
            status=answer.status,
            error=type(error).__name__,
            reason=reason,
            about={
                "request": f"{request.method} {request.path}",
                **name_event(path_type, request.get(SENT_ID), request.get(SENT_BODY)),
                "run_id": error.run_id if isinstance(error, OrchestratorError) else None,
                "trace": read_trace(request.headers.items()),
            },
        )
    )
    return answer


def _instance(request: web.Request, error: OrchestratorError) -> str:
    if error.run_id is None:
        return address(request)
    return link(request, "run", runId=error.run_id)


def _sentence(request: web.Request, error: web.HTTPException) -> str:
    match error:
        case web.HTTPMethodNotAllowed():
            allowed = " or ".join(sorted(error.allowed_methods))
            return f"{request.method} is not allowed at {address(request)}: use {allowed}."
        case web.HTTPNotFound() if error.text == f"{error.status}: {error.reason}":
            listing = link(request, "openapi")
            return f"There is nothing at {address(request)}; {listing} lists what there is."
    return error.text or error.reason


def _own_headers(error: web.HTTPException) -> dict[str, str]:
    return {
        name: value
        for name, value in error.headers.items()
        if name in ("Accept-Encoding", "Allow", "WWW-Authenticate")
    }


def problem_of(error: OrchestratorError, *, instance: str) -> web.Response:
    """The problem response for an error."""
    headers = {}
    if isinstance(error, TemporaryError):
        headers["Retry-After"] = str(retry_after_s(error))
    errors = error.errors if isinstance(error, PermanentError) else ()
    return problem(status_of(error), str(error), instance=instance, errors=errors, headers=headers)


def status_of(error: OrchestratorError) -> HTTPStatus:
    """The HTTP status of an error."""
    return next(status for kind, status in STATUSES if isinstance(error, kind))


def retry_after_s(error: TemporaryError) -> int:
    """Whole seconds, at least 1: a negative `Retry-After` makes EventBridge give up."""
    pause = DEFAULT_RETRY_AFTER_S if error.retry_after_s is None else error.retry_after_s
    return max(1, math.ceil(pause))


def stays_in_queue(error: OrchestratorError) -> bool:
    """Whether a message whose event raised this must stay in the queue: it isn't in the ledger.

    A message that is not an event stays, too, and goes to the dead-letter queue in the end.
    """
    return error.run_id is None and not isinstance(error, RunNotFound)


def _documented(
    status: HTTPStatus, description: str, detail: str, *headers: str, instance: str = "/events"
) -> Answer:
    """A documented problem; `detail` is an example of its sentence."""
    texts = {
        "Retry-After": "Seconds to wait, at least 1",
        "WWW-Authenticate": "The accepted authentication scheme",
    }
    example = {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "detail": detail,
        "instance": instance,
    }
    return Answer(
        description,
        Problem,
        media_type=MEDIA_TYPE,
        headers={name: texts[name] for name in headers},
        example=example,
    )


_RUN = f"/runs/{RUN_ID}"

NOT_FOUND = _documented(
    HTTPStatus.NOT_FOUND, "Not found", f"There is no run '{RUN_ID}'.", instance=_RUN
)
BAD_QUERY = _documented(
    HTTPStatus.BAD_REQUEST,
    "A query parameter is unknown or invalid",
    "Unknown parameter 'tenant'; known parameters: tenantId, eventType, status.",
    instance="/runs",
)
REFUSED = _documented(
    HTTPStatus.UNAUTHORIZED,
    "No valid credentials",
    "Send a valid key in the header x-api-key.",
    "WWW-Authenticate",
)
UNAVAILABLE = _documented(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Temporarily unavailable: retry after the pause",
    "The tenant t-1 is busy with its provisioning.",
    "Retry-After",
    instance=_RUN,
)

BAD_BODY = _documented(
    HTTPStatus.BAD_REQUEST,
    "The body is not JSON",
    "The body is not JSON: Expecting value: line 1 column 11 (char 10).",
    instance="/tenants/t-1/cancel",
)
#: Of a replay and a cancel.
FORBIDDEN_ACTION = _documented(
    HTTPStatus.FORBIDDEN,
    "From a page of another origin, or the scope is missing",
    "The sender has no scope runs:write.",
    instance=_RUN,
)

#: The responses to an event that was not handled.
EVENT_PROBLEMS: Mapping[int, Answer] = {
    400: _documented(
        HTTPStatus.BAD_REQUEST,
        "Not an event, or a type without a handler",
        "Unsupported event type: TENANT_UPGRADE",
        instance=_RUN,
    ),
    401: REFUSED,
    403: _documented(
        HTTPStatus.FORBIDDEN,
        "From a page of another origin, or the scope is missing",
        "The sender has no scope events:write.",
    ),
    413: _documented(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "The body is too large",
        "The body is larger than 1048576 bytes.",
    ),
    415: _documented(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "The Content-Type is not JSON",
        "The body is text/plain: send JSON with the header Content-Type: application/json.",
    ),
    422: _documented(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "A retry would fail again; `errors` has the mismatches",
        "Tier 'GOLD' is not in the tier catalog: add it, or send the event with a tier that is.",
        instance=_RUN,
    ),
    429: _documented(
        HTTPStatus.TOO_MANY_REQUESTS,
        "Too many events at once",
        "The service handles as many events as it may: send it again.",
        "Retry-After",
    ),
    500: _documented(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "A handler has a bug; retry",
        "The handler of TENANT_PROVISIONING failed with an internal error.",
        instance=_RUN,
    ),
    503: UNAVAILABLE,
}
