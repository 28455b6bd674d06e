"""One table: what each error means over HTTP. Answers are RFC 9457 problem details.

EventBridge decides by the status whether it sends an event again, so nothing here is 3xx or
409, and a temporary failure is never 4xx (README.md has the table).
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
from orchestrator.intake.links import address, link
from orchestrator.intake.openapi import Answer
from orchestrator.intake.refusal_log import REFUSALS, Refusal, name_event, read_trace
from orchestrator.wire.codec import encode_json

DEFAULT_RETRY_AFTER_S = 5.0

#: The first match counts, so a class stands before its base.
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

#: What an event's request names it by, and its parsed body, once they were read.
SENT_ID: web.RequestKey[str] = web.RequestKey("sent_id", str)
SENT_BODY: web.RequestKey[object] = web.RequestKey("sent_body", object)

log = structlog.get_logger("orchestrator.http")


@attrs.frozen(kw_only=True)
class Problem:
    """RFC 9457 problem details. The status says what kind it is, so `type` adds nothing."""

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
    """A problem answer. `instance` is the address of the run, or of the request without one."""
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=int(status),
        # A lone surrogate, in a message of anybody's, has no place in UTF-8.
        detail=detail.encode("utf-8", "replace").decode(),
        instance=instance,
        errors=list(errors) or None,
    )
    given = attrs.asdict(body, filter=lambda _, value: value is not None)
    return web.Response(
        status=status, body=encode_json(given), content_type=MEDIA_TYPE, headers=headers
    )


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a route raises into a problem, and leave a line in the log; nobody outside
    sees a traceback."""
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
        sentence = "The request failed for a reason of our own; the log says which."
        answer = problem(HTTPStatus.INTERNAL_SERVER_ERROR, sentence, instance=address(request))
        return _logged(request, answer, error, sentence)


def _logged(
    request: web.Request, answer: web.Response, error: Exception, reason: str
) -> web.Response:
    """The answer, once the log has it."""
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
            allowed = ", ".join(sorted(error.allowed_methods))
            return f"{request.method} is not allowed at {address(request)}; {allowed} is."
        case web.HTTPNotFound() if error.text == f"{error.status}: {error.reason}":
            listing = link(request, "openapi")
            return f"There is nothing at {address(request)}; {listing} lists what there is."
    return error.text or error.reason


def _own_headers(error: web.HTTPException) -> dict[str, str]:
    return {
        name: value
        for name, value in error.headers.items()
        if name in ("Allow", "WWW-Authenticate")
    }


def problem_of(error: OrchestratorError, *, instance: str) -> web.Response:
    """The answer to an error."""
    headers = {}
    if isinstance(error, TemporaryError):
        headers["Retry-After"] = str(retry_after_s(error))
    errors = error.errors if isinstance(error, PermanentError) else ()
    return problem(status_of(error), str(error), instance=instance, errors=errors, headers=headers)


def status_of(error: OrchestratorError) -> HTTPStatus:
    """What the error means over HTTP."""
    return next(status for kind, status in STATUSES if isinstance(error, kind))


def retry_after_s(error: TemporaryError) -> int:
    """Whole seconds, at least 1: a negative `Retry-After` makes EventBridge give up."""
    pause = DEFAULT_RETRY_AFTER_S if error.retry_after_s is None else error.retry_after_s
    return max(1, math.ceil(pause))


def stays_in_queue(error: OrchestratorError) -> bool:
    """Whether a message whose event met this must stay in its queue: the ledger doesn't have it.

    What is no event at all stays, too: the queue hands it to its dead-letter queue in the end.
    """
    return error.run_id is None and not isinstance(error, RunNotFound)


def _documented(description: str, *headers: str) -> Answer:
    texts = {
        "Retry-After": "Seconds to wait, at least 1",
        "WWW-Authenticate": "The credentials that are accepted",
    }
    return Answer(
        description, Problem, media_type=MEDIA_TYPE, headers={name: texts[name] for name in headers}
    )


NOT_FOUND = _documented("There is no such thing")
BAD_QUERY = _documented("A parameter of the query is unknown or wrong")
REFUSED = _documented("No valid credentials", "WWW-Authenticate")
UNAVAILABLE = _documented("Not now: try again after the pause", "Retry-After")

#: The answers to an event that was not handled.
EVENT_PROBLEMS: Mapping[int, Answer] = {
    400: _documented("Not an event, or of a type without a handler"),
    401: REFUSED,
    413: _documented("The body is too large"),
    415: _documented("The body is not JSON by its own account"),
    422: _documented("It will never work as it is; `errors` has the mismatches"),
    429: _documented("Too many events at once", "Retry-After"),
    500: _documented("A handler has a bug; worth another try"),
    503: UNAVAILABLE,
}
