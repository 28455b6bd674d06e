"""Routes of tenants: list, show with operations and timeline, cancel the operation."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import attrs
import structlog
from aiohttp import web

from orchestrator.core.errors import NotAllowed, TemporaryError, TenantNotFound
from orchestrator.core.events.event_types import Kind
from orchestrator.core.jobs.cancel import Stopped
from orchestrator.core.ledger.ledger import Ledger
from orchestrator.core.ledger.lifecycle import NO_STATE, TenantState
from orchestrator.core.ledger.pages import Page
from orchestrator.core.ledger.record_parts import Awaited
from orchestrator.core.ledger.records import OperationRecord, RunRecord, RunStatus, TenantRecord
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.core.tasks import gather_or_cancel
from orchestrator.intake.access import Access
from orchestrator.intake.app_keys import OWN_ORCHESTRATOR, TRANSACTIONS, WIRE, WORKLOAD
from orchestrator.intake.documentation import Answer, documented
from orchestrator.intake.events_api import EVENT_ANSWERS, Success, read_optional
from orchestrator.intake.links import link
from orchestrator.intake.operation_views import (
    OperationHistory,
    OperationView,
    is_slow,
    openers_without_job,
    view_history,
    view_operation,
)
from orchestrator.intake.problems import (
    BAD_BODY,
    BAD_QUERY,
    FORBIDDEN_ACTION,
    NOT_FOUND,
    REFUSED,
    UNAVAILABLE,
)
from orchestrator.intake.queries import page_limit, query_parameters, read_page, read_query
from orchestrator.intake.run_views import (
    AttemptView,
    StepView,
    reason_of,
    view_attempts,
    view_steps,
)
from orchestrator.intake.sender import name_of_sender

#: How many operations a page of a tenant's has.
_OPERATIONS = 20
#: `core.ledger.lifecycle.StateName`, as a query says it.
StateFilter = Literal[
    "none",
    "provisioning",
    "provisioned",
    "provision_failed",
    "cleaning_up",
    "deploying",
    "active",
    "deployment_failed",
    "deprovisioning",
    "deprovisioned",
    "deprovision_failed",
]

routes = web.RouteTableDef()
log = structlog.get_logger("orchestrator.http")


@attrs.frozen(kw_only=True)
class TenantSummary:
    """A tenant in a list. `tier` is that of the operation under way, else the tenant's own.

    `state` is null if all requests for the tenant were refused or wait; then `changed_at` is the
    time of the latest request. `operation` is the one that holds it, `last_operation` the last one
    if none does; its run is the one to replay. `is_slow`: the operation waits without a job, or has
    used half of the time until its deadline. `waiting_count` requests wait for the tenant. `reason`
    is why the operation waits or is stopped, else why the last one failed.
    """

    tenant_id: str
    state: TenantState | None
    changed_at: datetime
    tier: str | None
    operation: OperationView | None
    last_operation: OperationView | None
    is_slow: bool
    waiting_count: int
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
    """The answer to a cancel."""

    stopped: StoppedOperation


@attrs.frozen(kw_only=True)
class TimelineEntry:
    """An event in a tenant's timeline: its time, type, status, reason, run and log link.

    `operation_id` is the operation that it requests, `outcome_of` the one that it ends, and
    `waits_for` what it waits for. `attempts` are its last 20, the oldest first, with who replayed
    it; `steps` are those of its current start; `cancelled_by` is who cancelled its operation.
    """

    at: datetime
    event_type: str
    status: RunStatus
    reason: str | None
    run_id: str
    link: str | None
    operation_id: str
    outcome_of: str | None
    duplicate_of: str | None
    ended_at: datetime | None
    due_at: datetime | None
    waits_for: Awaited | None
    attempts: list[AttemptView]
    steps: list[StepView]
    cancelled_by: str | None


@attrs.frozen(kw_only=True)
class TenantView(TenantSummary):
    """A tenant. `waiting` has the runs that wait for it, in order.

    `operations` has the last opened first, the timeline the latest event first; `operations_cursor`
    and `cursor` are those of their next pages, null on the last.
    """

    waiting: list[str]
    operations: list[OperationHistory]
    operations_cursor: str | None
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
    """The optional filters of a list of tenants, and its order. `state` none: the first request
    never began. `sort` attention: see the route."""

    state: StateFilter | None = None
    prefix: str | None = None
    sort: Literal["id", "attention"] = "id"
    limit: int = page_limit()
    cursor: str | None = None


@attrs.frozen(kw_only=True)
class TimelineQuery:
    """The pages of the timeline and of the operations."""

    limit: int = page_limit()
    cursor: str | None = None
    operations_cursor: str | None = None


@routes.get("/tenants")
@documented(
    "List tenants, ordered by id or by the attention that they need",
    description=(
        "Each tenant with its state, the operation that holds it, the reason of its last "
        "failure, and how many requests wait for it."
    ),
    tag="tenants",
    access=Access("runs:read"),
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
    page = await read_page(_list(transactions.ledger, query))
    named = (tenant.operation_id or tenant.last_operation for tenant in page.items)
    operations = await transactions.find_operations([one for one in named if one is not None])
    runs = await transactions.find_runs(openers_without_job(operations.values()))
    known = _Known(transactions, operations, runs)
    shown = TenantPage(items=list(map(known.summarize, page.items)), cursor=page.cursor)
    return web.json_response(request.app[WIRE].unstructure(shown))


async def _list(ledger: Ledger, query: TenantsQuery) -> Page[TenantRecord]:
    """Raises web.HTTPBadRequest: the order has no such filter."""
    if query.sort == "id":
        state = query.state if query.state in (None, NO_STATE) else TenantState(query.state)
        return await ledger.list_tenants(
            state=state, prefix=query.prefix, limit=query.limit, cursor=query.cursor
        )
    if query.state is not None or query.prefix is not None:
        raise web.HTTPBadRequest(
            text="sort=attention has all tenants: leave out 'state' and 'prefix', or 'sort'."
        )
    return await ledger.list_by_attention(limit=query.limit, cursor=query.cursor)


@routes.get("/tenants/{tenantId:[^/]+}", name="tenant")
@documented(
    "Get a tenant: its state, operations and timeline",
    description=(
        "All that happened to one tenant since its first request: each operation with its "
        "starts, jobs and reports, each event with its reason and a link to the job's log."
    ),
    tag="tenants",
    access=Access("runs:read"),
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
    ledger = transactions.ledger
    tenant, page, listed = await gather_or_cancel(
        (
            transactions.find_tenant(tenant_id),
            read_page(
                ledger.list_runs(tenant_id=tenant_id, limit=query.limit, cursor=query.cursor)
            ),
            read_page(
                ledger.list_operations(
                    tenant_id=tenant_id, limit=_OPERATIONS, cursor=query.operations_cursor
                )
            ),
        )
    )
    if tenant is None and page.items:
        # No request for the tenant has opened an operation yet.
        asked_at = page.items[0].first_seen
        tenant = TenantRecord(tenant_id=tenant_id, state=None, changed_at=asked_at)
    if tenant is None:
        raise web.HTTPNotFound(text=str(TenantNotFound(tenant_id)))
    operations = {one.operation_id: one for one in listed.items}
    named = {tenant.operation_id or tenant.last_operation} - {None, *operations}
    operations |= await transactions.find_operations([one for one in named if one is not None])
    runs = {run.run_id: run for run in page.items}
    openers = openers_without_job(operations.values())
    runs |= await transactions.find_runs([one for one in openers if one not in runs])
    known = _Known(transactions, operations, runs)
    shown = TenantView(
        **attrs.asdict(known.summarize(tenant), recurse=False),
        waiting=[waiter.run_id for waiter in tenant.waiting],
        operations=[view_history(one, runs, transactions.timings) for one in listed.items],
        operations_cursor=listed.cursor,
        timeline=[_entry(run, operations.get(run.operation_id)) for run in page.items],
        cursor=page.cursor,
    )
    return web.json_response(request.app[WIRE].unstructure(shown))


@routes.post("/tenants/{tenantId:[^/]+}/cancel")
@documented(
    "Cancel a tenant's operation",
    description=(
        "Stops the job of the operation that holds the tenant. The operation ends as failed "
        "once the builder says that the job is over; until then the answer is 202. Requests "
        "that wait for the tenant continue."
    ),
    tag="tenants",
    access=Access("runs:write"),
    answers={
        **EVENT_ANSWERS,
        200: Answer("Ended, as failed", CancelAnswer, headers={"Location": "The tenant"}),
        202: Answer(
            "The cancel is recorded; the operation ends once the builder says that its job is over",
            CancelAnswer,
            headers={"Location": "The tenant"},
        ),
        400: BAD_BODY,
        403: FORBIDDEN_ACTION,
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
        ledger = request.app[TRANSACTIONS].ledger
        if (await ledger.list_runs(tenant_id=tenant_id, limit=1)).items:
            # As in `get_tenant`: no request for the tenant has opened an operation yet.
            raise NotAllowed(f"the tenant {tenant_id} has no operation under way") from None
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


@attrs.frozen
class _Known:
    """The operations and runs that were read for a view, by id."""

    transactions: Transactions
    operations: Mapping[str, OperationRecord]
    runs: Mapping[str, RunRecord]

    def summarize(self, tenant: TenantRecord) -> TenantSummary:
        holder = self.operations.get(tenant.operation_id or "")
        last = None if tenant.operation_id else self.operations.get(tenant.last_operation or "")
        shown, now = self._view(holder), self.transactions.clock.now()
        return TenantSummary(
            tenant_id=tenant.tenant_id,
            state=tenant.state,
            changed_at=tenant.changed_at,
            tier=(holder.tier if holder else None) or tenant.tier,
            operation=shown,
            last_operation=self._view(last),
            is_slow=holder is not None
            and is_slow(holder, self.runs, now, self.transactions.timings),
            waiting_count=len(tenant.waiting),
            reason=(shown.reason if shown else None) or tenant.reason,
        )

    def _view(self, operation: OperationRecord | None) -> OperationView | None:
        if operation is None:
            return None
        return view_operation(operation, self.runs, self.transactions.timings)


def _entry(run: RunRecord, operation: OperationRecord | None) -> TimelineEntry:
    """`operation` is the run's, if it is known: there its job's link leads to the log itself once
    the job is over."""
    job = run.job
    if job and operation and operation.job and operation.job.is_same_as(job.builder, job.id):
        job = operation.job
    return TimelineEntry(
        at=run.first_seen,
        event_type=run.event_type,
        status=run.status,
        reason=reason_of(run),
        run_id=run.run_id,
        link=run.link or (job.log_url if job else None),
        operation_id=run.operation_id,
        outcome_of=run.outcome_of,
        duplicate_of=run.duplicate_of,
        ended_at=run.ended_at,
        due_at=run.due_at,
        waits_for=run.waits_for,
        attempts=view_attempts(run),
        steps=view_steps(run),
        cancelled_by=run.cancelled_by,
    )
