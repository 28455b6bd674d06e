"""Routes of tenants: list, show with operation and timeline, cancel the operation."""

from datetime import datetime

import attrs
import structlog
from aiohttp import web

from orchestrator.core.errors import TemporaryError, TenantNotFound
from orchestrator.core.events.event_types import Kind
from orchestrator.core.jobs.cancel import Stopped
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.records import (
    Job,
    OperationRecord,
    OperationState,
    RunRecord,
    RunStatus,
    TenantRecord,
)
from orchestrator.intake.access import Access, Scope
from orchestrator.intake.app_keys import OWN_ORCHESTRATOR, TRANSACTIONS, WIRE, WORKLOAD
from orchestrator.intake.auth import name_of_sender
from orchestrator.intake.documentation import Answer, documented
from orchestrator.intake.events_api import EVENT_ANSWERS, Success, read_optional
from orchestrator.intake.links import link
from orchestrator.intake.problems import BAD_QUERY, NOT_FOUND, REFUSED, UNAVAILABLE
from orchestrator.intake.queries import page_limit, query_parameters, read_page, read_query

routes = web.RouteTableDef()
log = structlog.get_logger("orchestrator.http")


@attrs.frozen(kw_only=True)
class TenantSummary:
    """A tenant in a list. `tier` is that of the operation under way, else the tenant's own.

    `state` is null if all requests for the tenant were refused or wait; then `changed_at` is the
    time of the latest request.
    """

    tenant_id: str
    state: TenantState | None
    changed_at: datetime
    tier: str | None


@attrs.frozen(kw_only=True)
class OperationView:
    """The operation that holds a tenant; `job` is null if no job of it is known."""

    operation_id: str
    kind: Kind
    state: OperationState
    run_id: str
    opened_at: datetime
    ended_at: datetime | None
    job: Job | None
    reason: str | None


@attrs.frozen(kw_only=True)
class CancelRequest:
    """`reason` becomes the reason of the operation's end. `cleanUp` allows a clean-up to be
    stopped, too."""

    reason: str | None = None
    clean_up: bool = False


@attrs.frozen(kw_only=True)
class StoppedOperation:
    """The operation that was stopped."""

    kind: Kind
    operation_id: str


@attrs.frozen(kw_only=True)
class CancelAnswer(Success):
    stopped: StoppedOperation


@attrs.frozen(kw_only=True)
class TimelineEntry:
    """An event in a tenant's timeline: its time, type, status, reason, run and log link."""

    at: datetime
    event_type: str
    status: RunStatus
    reason: str | None
    run_id: str
    link: str | None


@attrs.frozen(kw_only=True)
class TenantView(TenantSummary):
    """A tenant. `waiting` has the runs that wait for it, in order.

    The timeline has the latest event first; `cursor` is that of its next page, null on the last.
    """

    operation: OperationView | None
    waiting: list[str]
    timeline: list[TimelineEntry]
    cursor: str | None


@attrs.frozen(kw_only=True)
class TenantPage:
    """Tenants, and the cursor of the next page; null on the last page.

    A page with a cursor may have fewer than `limit` tenants, or none: continue until the cursor is
    null.
    """

    items: list[TenantSummary]
    cursor: str | None


@attrs.frozen(kw_only=True)
class TenantsQuery:
    """The optional filters of a list of tenants."""

    state: TenantState | None = None
    limit: int = page_limit()
    cursor: str | None = None


@attrs.frozen(kw_only=True)
class TimelineQuery:
    """The page of the timeline."""

    limit: int = page_limit()
    cursor: str | None = None


@routes.get("/tenants")
@documented(
    "List tenants, ordered by id",
    tag="tenants",
    access=Access(Scope.RUNS_READ),
    answers={
        200: Answer("A page of tenants", TenantPage),
        400: BAD_QUERY,
        401: REFUSED,
        503: UNAVAILABLE,
    },
    parameters=query_parameters(TenantsQuery),
)
async def get_tenants(request: web.Request) -> web.Response:
    query: TenantsQuery = read_query(request, TenantsQuery)
    transactions = request.app[TRANSACTIONS]
    page = await read_page(transactions.ledger.list_tenants(**attrs.asdict(query, recurse=False)))
    holders = await transactions.find_holders(page.items)
    shown = TenantPage(
        items=[_summary(tenant, holders.get(tenant.tenant_id)) for tenant in page.items],
        cursor=page.cursor,
    )
    return web.json_response(request.app[WIRE].unstructure(shown))


@routes.get("/tenants/{tenantId:[^/]+}", name="tenant")
@documented(
    "Get a tenant: its state, operation and timeline",
    tag="tenants",
    access=Access(Scope.RUNS_READ),
    answers={
        200: Answer("The tenant", TenantView),
        400: BAD_QUERY,
        401: REFUSED,
        404: NOT_FOUND,
        503: UNAVAILABLE,
    },
    parameters=query_parameters(TimelineQuery),
)
async def get_tenant(request: web.Request) -> web.Response:
    tenant_id, transactions = request.match_info["tenantId"], request.app[TRANSACTIONS]
    query: TimelineQuery = read_query(request, TimelineQuery)
    tenant = await transactions.find_tenant(tenant_id)
    page = await read_page(
        transactions.ledger.list_runs(tenant_id=tenant_id, limit=query.limit, cursor=query.cursor)
    )
    if tenant is None and page.items:
        # No request for the tenant has opened an operation yet.
        asked_at = page.items[0].first_seen
        tenant = TenantRecord(tenant_id=tenant_id, state=None, changed_at=asked_at)
    if tenant is None:
        raise web.HTTPNotFound(text=str(TenantNotFound(tenant_id)))
    operation = (await transactions.find_holders([tenant])).get(tenant_id)
    shown = TenantView(
        **attrs.asdict(_summary(tenant, operation), recurse=False),
        operation=_operation(operation),
        waiting=[waiter.run_id for waiter in tenant.waiting],
        timeline=[_entry(run) for run in page.items],
        cursor=page.cursor,
    )
    return web.json_response(request.app[WIRE].unstructure(shown))


@routes.post("/tenants/{tenantId:[^/]+}/cancel")
@documented(
    "Cancel a tenant's operation",
    tag="tenants",
    access=Access(Scope.RUNS_WRITE),
    answers={
        **EVENT_ANSWERS,
        200: Answer("Ended, as failed", CancelAnswer, headers={"Location": "The tenant"}),
        202: Answer(
            "The cancel is recorded; the operation ends once the builder says that its job is over",
            CancelAnswer,
            headers={"Location": "The tenant"},
        ),
        404: NOT_FOUND,
    },
    body=CancelRequest,
)
async def cancel_operation(request: web.Request) -> web.Response:
    tenant_id = request.match_info["tenantId"]
    asked = await read_optional(request, CancelRequest)
    certain: list[Stopped] = []
    work = request.app[OWN_ORCHESTRATOR].cancel(
        tenant_id,
        reason=asked.reason,
        clean_up=asked.clean_up,
        by=name_of_sender(request),
        on_certain=certain.append,
    )
    try:
        stopped = await request.app[WORKLOAD].handle(work, sender=name_of_sender(request))
    except TenantNotFound as error:
        raise web.HTTPNotFound(text=str(error)) from None
    except TemporaryError as error:
        if not certain:
            raise
        log.warning("cancelled, and not stopped yet", tenant_id=tenant_id, reason=str(error))
        (stopped, *_) = certain
    named = StoppedOperation(kind=stopped.kind, operation_id=stopped.operation_id)
    return web.json_response(
        request.app[WIRE].unstructure(CancelAnswer(success=True, stopped=named)),
        status=200 if stopped.has_ended else 202,
        headers={"Location": link(request, "tenant", tenantId=tenant_id)},
    )


def _summary(tenant: TenantRecord, operation: OperationRecord | None) -> TenantSummary:
    return TenantSummary(
        tenant_id=tenant.tenant_id,
        state=tenant.state,
        changed_at=tenant.changed_at,
        tier=(operation.tier if operation else None) or tenant.tier,
    )


def _operation(operation: OperationRecord | None) -> OperationView | None:
    if operation is None or operation.kind is None:
        return None
    return OperationView(
        operation_id=operation.operation_id,
        kind=operation.kind,
        state=operation.state,
        run_id=operation.opener,
        opened_at=operation.opened_at,
        ended_at=operation.ended_at,
        job=operation.job,
        reason=operation.reason or operation.stop_reason or operation.trouble,
    )


def _entry(run: RunRecord) -> TimelineEntry:
    return TimelineEntry(
        at=run.first_seen,
        event_type=run.event_type,
        status=run.status,
        reason=run.error.message if run.error else run.note,
        run_id=run.run_id,
        link=run.link or (run.job.log_url if run.job else None),
    )
