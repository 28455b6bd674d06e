"""Where each tenant stands: its state, what is being done to it, and how it came there."""

from datetime import datetime

import attrs
import structlog
from aiohttp import web

from orchestrator.core.books import Books
from orchestrator.core.errors import TenantNotFound
from orchestrator.core.lifecycle import Kind, TenantState
from orchestrator.core.ports import UnreadableItems
from orchestrator.core.records import (
    Job,
    OperationRecord,
    OperationState,
    RunRecord,
    RunStatus,
    TenantRecord,
)
from orchestrator.intake.events_api import EVENT_ANSWERS, Success, read_optional
from orchestrator.intake.keys import BOOKS, OWN_ORCHESTRATOR, WIRE, WORKLOAD
from orchestrator.intake.links import link
from orchestrator.intake.openapi import Answer, documented
from orchestrator.intake.problems import BAD_QUERY, NOT_FOUND, REFUSED, UNAVAILABLE
from orchestrator.intake.queries import page_limit, query_parameters, read_page, read_query

routes = web.RouteTableDef()
log = structlog.get_logger("orchestrator.tenants_api")


@attrs.frozen(kw_only=True)
class TenantSummary:
    """A tenant in a list."""

    tenant_id: str
    state: TenantState
    changed_at: datetime
    tier: str | None


@attrs.frozen(kw_only=True)
class OperationView:
    """What is being done to a tenant; `job` null: no job of it is known."""

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
    """Why; the operation ends with it as its reason."""

    reason: str | None = None


@attrs.frozen(kw_only=True)
class TimelineEntry:
    """One event of a tenant's life: when, what, what came of it, why, and where to look."""

    at: datetime
    event_type: str
    status: RunStatus
    reason: str | None
    run_id: str
    link: str | None


@attrs.frozen(kw_only=True)
class TenantView(TenantSummary):
    """One tenant. `waiting` are the runs that wait for it, in the order of their turns.

    The timeline is the latest first; its `cursor` is that of the next page, null: there is none.
    """

    operation: OperationView | None
    waiting: list[str]
    timeline: list[TimelineEntry]
    cursor: str | None


@attrs.frozen(kw_only=True)
class TenantPage:
    """Tenants, and the cursor of the next page; null: there is none.

    It may have fewer than `limit`, or none, and a cursor: read on until that is null.
    """

    items: list[TenantSummary]
    cursor: str | None


@attrs.frozen(kw_only=True)
class TenantsQuery:
    """What a list of tenants may be asked for; all of it is optional."""

    state: TenantState | None = None
    limit: int = page_limit()
    cursor: str | None = None


@attrs.frozen(kw_only=True)
class TimelineQuery:
    """How much of the timeline is asked for."""

    limit: int = page_limit()
    cursor: str | None = None


@routes.get("/tenants")
@documented(
    "Tenants, by their ids",
    tag="tenants",
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
    ledger = request.app[BOOKS].ledger
    page = await read_page(ledger.list_tenants(**attrs.asdict(query, recurse=False)))
    shown = TenantPage(items=[_summary(tenant) for tenant in page.items], cursor=page.cursor)
    return web.json_response(request.app[WIRE].unstructure(shown))


@routes.get("/tenants/{tenantId}", name="tenant")
@documented(
    "One tenant: where it stands and how it came there",
    tag="tenants",
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
    tenant_id, books = request.match_info["tenantId"], request.app[BOOKS]
    query: TimelineQuery = read_query(request, TimelineQuery)
    tenant = await books.find_tenant(tenant_id)
    if tenant is None:
        raise web.HTTPNotFound(text=str(TenantNotFound(tenant_id)))
    operation = await _find_operation(books, tenant.operation_id)
    page = await read_page(
        books.ledger.list_runs(tenant_id=tenant_id, limit=query.limit, cursor=query.cursor)
    )
    shown = TenantView(
        **attrs.asdict(_summary(tenant), recurse=False),
        operation=_operation(operation),
        waiting=[waiter.run_id for waiter in tenant.waiting],
        timeline=[_entry(run) for run in page.items],
        cursor=page.cursor,
    )
    return web.json_response(request.app[WIRE].unstructure(shown))


@routes.post("/tenants/{tenantId}/cancel")
@documented(
    "Stop what is being done to a tenant",
    tag="tenants",
    answers={
        **EVENT_ANSWERS,
        200: Answer("It has ended, as failed", Success, headers={"Location": "The tenant"}),
        202: Answer(
            "Its job was told to stop; it ends once the builder says that the job has",
            Success,
            headers={"Location": "The tenant"},
        ),
        404: NOT_FOUND,
    },
    body=CancelRequest,
)
async def cancel_operation(request: web.Request) -> web.Response:
    tenant_id = request.match_info["tenantId"]
    asked = await read_optional(request, CancelRequest)
    work = request.app[OWN_ORCHESTRATOR].cancel(tenant_id, reason=asked.reason)
    try:
        has_ended = await request.app[WORKLOAD].handle(work)
    except TenantNotFound as error:
        raise web.HTTPNotFound(text=str(error)) from None
    return web.json_response(
        {"success": True},
        status=200 if has_ended else 202,
        headers={"Location": link(request, "tenant", tenantId=tenant_id)},
    )


async def _find_operation(books: Books, operation_id: str | None) -> OperationRecord | None:
    """The operation, if there is one; one that can't be read hides nothing else of the tenant."""
    try:
        return await books.find_operation(operation_id) if operation_id else None
    except UnreadableItems as error:
        log.error("operation left out", operation_id=operation_id, reason=str(error))
        return None


def _summary(tenant: TenantRecord) -> TenantSummary:
    assert tenant.state is not None  # noqa: S101 - one that was never seen is not to be had
    return TenantSummary(
        tenant_id=tenant.tenant_id,
        state=tenant.state,
        changed_at=tenant.changed_at,
        tier=tenant.tier,
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
