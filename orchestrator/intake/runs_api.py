"""Routes of runs: list, show and replay. The `Location` of an answer leads to its run."""

from datetime import datetime

import attrs
from aiohttp import web

from orchestrator.core.errors import PayloadMismatch, RunNotFound
from orchestrator.core.ledger.records import Job, RunRecord, RunStatus
from orchestrator.intake.access import Access, Scope
from orchestrator.intake.app_keys import REPLAY, TRANSACTIONS, WIRE, WORKLOAD
from orchestrator.intake.auth import name_of_sender
from orchestrator.intake.documentation import Answer, documented
from orchestrator.intake.events_api import EVENT_ANSWERS, read_optional, success
from orchestrator.intake.problems import BAD_QUERY, NOT_FOUND, REFUSED, UNAVAILABLE
from orchestrator.intake.queries import page_limit, query_parameters, read_page, read_query

routes = web.RouteTableDef()


@attrs.frozen(kw_only=True)
class StepView:
    """A step's name; its result is not shown."""

    name: str
    recorded_at: datetime


@attrs.frozen(kw_only=True)
class ErrorView:
    """Why the run failed; a bug's traceback is not shown."""

    type: str
    message: str
    errors: list[PayloadMismatch]


@attrs.frozen(kw_only=True)
class RunSummary:
    """A run in a list. `due_at` is when the sweep resumes it, unless a delivery does so before."""

    run_id: str
    event_type: str
    tenant_id: str | None
    status: RunStatus
    attempt: int
    first_seen: datetime
    started_at: datetime
    ended_at: datetime | None
    due_at: datetime | None
    operation_id: str
    duplicate_of: str | None
    note: str | None
    job: Job | None
    error: ErrorView | None


@attrs.frozen(kw_only=True)
class RunView(RunSummary):
    """A run with its steps."""

    steps: list[StepView]


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
    """The optional filters of a list of runs."""

    tenant_id: str | None = None
    event_type: str | None = None
    status: RunStatus | None = None
    limit: int = page_limit()
    cursor: str | None = None


@routes.get("/runs")
@documented(
    "List runs, the latest first",
    tag="runs",
    access=Access(Scope.RUNS_READ),
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
    ledger = request.app[TRANSACTIONS].ledger
    page = await read_page(ledger.list_runs(**attrs.asdict(query, recurse=False)))
    shown = RunPage(items=[_summary(run) for run in page.items], cursor=page.cursor)
    return web.json_response(request.app[WIRE].unstructure(shown))


@routes.get("/runs/{runId:[^/]+}", name="run")
@documented(
    "Get a run with its steps, its job and its error",
    tag="runs",
    access=Access(Scope.RUNS_READ),
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
    return web.json_response(request.app[WIRE].unstructure(_view(run)))


@attrs.frozen(kw_only=True)
class ReplayRequest:
    """`force` replays a run even if it has succeeded, or if the tenant's state doesn't allow it."""

    force: bool = False


@routes.post("/runs/{runId:[^/]+}/replay")
@documented(
    "Replay a run",
    tag="runs",
    access=Access(Scope.RUNS_WRITE),
    answers={**EVENT_ANSWERS, 404: NOT_FOUND},
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


def _view(run: RunRecord) -> RunView:
    steps = [StepView(name=step.name, recorded_at=step.recorded_at) for step in run.steps.values()]
    return RunView(**attrs.asdict(_summary(run), recurse=False), steps=steps)


def _summary(run: RunRecord) -> RunSummary:
    error = None
    if run.error is not None:
        error = ErrorView(
            type=run.error.type, message=run.error.message, errors=list(run.error.errors)
        )
    return RunSummary(
        run_id=run.run_id,
        event_type=run.event_type,
        tenant_id=run.tenant_id,
        status=run.status,
        attempt=run.attempt,
        first_seen=run.first_seen,
        started_at=run.started_at,
        ended_at=run.ended_at,
        due_at=run.due_at,
        operation_id=run.operation_id,
        duplicate_of=run.duplicate_of,
        note=run.note,
        job=run.job,
        error=error,
    )
