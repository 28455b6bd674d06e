"""Routes of runs: list, show and replay. The `Location` of an answer leads to its run."""

import asyncio
import json
from datetime import datetime

import attrs
import msgspec
import structlog
from aiohttp import web

from orchestrator.core.errors import RunNotFound
from orchestrator.core.events.event_types import TENANT_PROVISIONING
from orchestrator.core.ledger.event_codec import decode_event
from orchestrator.core.ledger.records import PayloadRecord, RunRecord, RunStatus
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.intake.access import Access
from orchestrator.intake.app_keys import OWN_ORCHESTRATOR, REPLAY, TRANSACTIONS, WIRE, WORKLOAD
from orchestrator.intake.documentation import Answer, documented
from orchestrator.intake.events_api import EVENT_ANSWERS, read_optional, success
from orchestrator.intake.examples import EXAMPLES
from orchestrator.intake.problems import (
    BAD_QUERY,
    FORBIDDEN_ACTION,
    NOT_FOUND,
    REFUSED,
    UNAVAILABLE,
)
from orchestrator.intake.queries import page_limit, query_parameters, read_page, read_query
from orchestrator.intake.run_views import RunSummary, RunView, summarize_run, view_run
from orchestrator.intake.sender import name_of_sender

routes = web.RouteTableDef()
log = structlog.get_logger("orchestrator.http")


@attrs.frozen(kw_only=True)
class RunPage:
    """Runs, and the cursor of the next page; null on the last page.

    A request scans a limited number of runs, so a page with a cursor may have fewer than `limit`
    runs, or none: continue until the cursor is null.
    """

    items: list[RunSummary]
    cursor: str | None


@attrs.frozen(kw_only=True)
class RunQuery:
    """The optional filters of a list of runs: those first seen at or after `since`, and before
    `until`."""

    tenant_id: str | None = None
    event_type: str | None = None
    status: RunStatus | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = page_limit()
    cursor: str | None = None


@routes.get("/runs")
@documented(
    "List runs, the latest first",
    description=(
        "A run is the record of one event: its progress, its result, and why it failed. "
        "The filters can be combined."
    ),
    tag="runs",
    access=Access("runs:read"),
    answers={
        200: Answer("A page of runs", RunPage),
        400: BAD_QUERY,
        401: REFUSED,
        503: UNAVAILABLE,
    },
    parameters=query_parameters(RunQuery),
)
async def get_runs(request: web.Request) -> web.Response:
    query: RunQuery = read_query(request, RunQuery)
    for name, moment in (("since", query.since), ("until", query.until)):
        if moment is not None and moment.tzinfo is None:
            raise web.HTTPBadRequest(
                text=f"The parameter {name!r} has no offset from UTC: send 2026-11-20T09:14:03Z."
            )
    ledger = request.app[TRANSACTIONS].ledger
    page = await read_page(ledger.list_runs(**attrs.asdict(query, recurse=False)))
    shown = RunPage(items=list(map(summarize_run, page.items)), cursor=page.cursor)
    return web.json_response(request.app[WIRE].unstructure(shown))


@routes.get("/runs/{runId:[^/]+}", name="run")
@documented(
    "Get a run with its attempts, its steps, its job and its error",
    description=("What happened to one event. The Location of an answer to an event leads here."),
    tag="runs",
    access=Access("runs:read"),
    answers={
        200: Answer("The run", RunView),
        401: REFUSED,
        404: NOT_FOUND,
        503: UNAVAILABLE,
    },
)
async def get_run(request: web.Request) -> web.Response:
    run_id = request.match_info["runId"]
    run = await request.app[TRANSACTIONS].find_run(run_id)
    if run is None:
        raise web.HTTPNotFound(text=str(RunNotFound(run_id)))
    return web.json_response(request.app[WIRE].unstructure(view_run(run)))


@routes.get("/runs/{runId}/payload")
@documented(
    "Get the event of a run as it was received, without secrets",
    description=("Values of fields whose names look secret are masked (log.redact)."),
    tag="runs",
    access=Access("runs:read"),
    answers={
        200: Answer("The event", dict, example=EXAMPLES[TENANT_PROVISIONING]),
        401: REFUSED,
        404: NOT_FOUND,
        503: UNAVAILABLE,
    },
)
async def get_payload(request: web.Request) -> web.Response:
    run_id = request.match_info["runId"]
    run, payload = await request.app[TRANSACTIONS].find_kept(run_id)
    if run is None or payload is None:
        raise web.HTTPNotFound(text=str(RunNotFound(run_id)))
    secrets = request.app[OWN_ORCHESTRATOR].services.secrets
    try:
        # In a thread: a large event keeps it busy for as long as many small requests take.
        body = await asyncio.to_thread(_show_event, run, payload, secrets)
    except Exception as error:
        # Damaged in any way, or of another release: the run is shown all the same.
        log.error("event can't be read", run_id=run_id, exc_info=error)
        raise web.HTTPNotFound(text=f"The event of the run {run_id!r} can't be read.") from None
    return web.Response(body=body, content_type="application/json")


def _show_event(run: RunRecord, payload: PayloadRecord, secrets: Redactor) -> bytes:
    """JSON for a reader, with integers of any size as they came."""
    shown = secrets.redact(decode_event(run, payload).raw)
    try:
        return msgspec.json.format(msgspec.json.encode(shown), indent=2)
    except UnicodeEncodeError:
        # Half a surrogate pair, which a message may have, is no UTF-8; escaped it is ASCII.
        return json.dumps(shown, indent=2).encode()


@attrs.frozen(kw_only=True)
class ReplayRequest:
    """`force` replays a run even if it has succeeded, or if the tenant's state doesn't allow it."""

    force: bool = False


@routes.post("/runs/{runId:[^/]+}/replay")
@documented(
    "Replay a run",
    description=(
        "Handle a run's event again, once the cause of its failure is fixed. An unfinished "
        "run continues, a failed one gets a new attempt that keeps its steps. With force a "
        "succeeded one is repeated, too: if its operation is over, that starts again, with "
        "fresh steps."
    ),
    tag="runs",
    access=Access("runs:write"),
    answers={**EVENT_ANSWERS, 403: FORBIDDEN_ACTION, 404: NOT_FOUND},
    body=ReplayRequest,
)
async def replay_run(request: web.Request) -> web.Response:
    run_id = request.match_info["runId"]
    asked = await read_optional(request, ReplayRequest)
    work = request.app[REPLAY](run_id, force=asked.force, by=name_of_sender(request))
    try:
        outcome = await request.app[WORKLOAD].handle(work, sender=name_of_sender(request))
    except RunNotFound as error:
        raise web.HTTPNotFound(text=str(error)) from None
    return success(request, outcome)
