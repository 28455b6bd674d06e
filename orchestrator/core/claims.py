"""The claim: an event's run is taken in hand, with what it opens or ends, in one write.

Plain functions of a view: they say what to write and what is then true. `core.books` carries
it out. They never wait, and never look at how an event came.
"""

import attrs

from orchestrator.core.answers import (
    BodyDiffers,
    Claim,
    Claiming,
    ClaimRequest,
    Duplicate,
    InOtherHands,
    NeedsForce,
    NotDue,
    Refused,
    Waits,
    Why,
)
from orchestrator.core.conditions import (
    Terms,
    is_claimable,
    is_due,
    is_free,
    is_new_event,
    is_secured,
    may_open,
)
from orchestrator.core.lifecycle import Kind
from orchestrator.core.outcomes import report
from orchestrator.core.records import (
    Credentials,
    OperationRecord,
    OperationState,
    RunRecord,
    RunStatus,
    TenantRecord,
    operation_id,
)
from orchestrator.core.runs import afresh, as_new_event, new_run, next_attempt
from orchestrator.core.views import Move, View


def claim(view: View, request: ClaimRequest, terms: Terms) -> Move[Claim]:
    """Take an event's run in hand, or say why not."""
    event, earlier = request.event, view.run(request.event.key)
    forced = is_new = False
    if earlier is None:
        run = new_run(event, request.tenant_id, view)
    else:
        if earlier.body_digest != event.body_digest:
            return Move((), BodyDiffers(earlier))
        if not is_claimable(earlier, view.now, terms):
            return Move((), InOtherHands(earlier))
        if request.why is Why.SWEEP and not is_due(earlier, view.now):
            return Move((), NotDue())
        is_done = earlier.status in (RunStatus.SUCCEEDED, RunStatus.DUPLICATE)
        is_delivered = request.why is Why.DELIVERY
        is_new = is_delivered and is_new_event(earlier, event, view.now, terms)
        if is_done and request.why is Why.REPLAY:
            return Move((), NeedsForce(earlier))
        if is_delivered and not is_new and earlier.was_cancelled and earlier.error:
            # Its sender may not know; only an operator takes a cancel back.
            return Move((), Refused(earlier.run_id, earlier.error.message))
        if is_done and is_delivered and not is_new:
            return Move((), Duplicate(earlier.duplicate_of or earlier.run_id))
        forced = is_done and request.why is Why.FORCED_REPLAY
        run = as_new_event(earlier, view) if is_new else earlier
        run = afresh(run) if forced else run
    run = attrs.evolve(
        next_attempt(run, view, terms),
        tenant_id=request.tenant_id or run.tenant_id,
        link=request.link or run.link,
    )
    claiming = Claiming(view, request, earlier, run, forced=forced, is_new=is_new)
    if request.reports:
        return report(claiming, request.reports)
    if request.tenant_id and request.opens:
        return _open(claiming, request.tenant_id, request.opens)
    return claiming.hand_out(run)


def _open(claiming: Claiming, tenant_id: str, kind: Kind) -> Move[Claim]:
    """The event asks for an operation: open it, go on with it, or join it."""
    wanted = operation_id(tenant_id, kind, claiming.request.request_key or claiming.run.request_key)
    run = attrs.evolve(claiming.run, operation_id=wanted)
    operation = claiming.view.operation(wanted)
    insists = claiming.request.why is Why.FORCED_REPLAY
    if operation is None or operation.state is OperationState.GIVEN_BACK:
        return _open_next(claiming, run, operation, tenant_id, kind)
    if operation.state is OperationState.OVER and insists:
        return _reopen(claiming, run, operation, tenant_id, kind)
    if claiming.forced:
        return Move((), Waits(run.run_id, f"The {kind} of run {operation.opener} goes on."))
    if operation.opener == run.run_id and not claiming.is_new:
        return _go_on(claiming, run, operation)
    return _join(claiming, run, operation)


def _open_next(
    claiming: Claiming, run: RunRecord, former: OperationRecord | None, tenant_id: str, kind: Kind
) -> Move[Claim]:
    """The tenant's next operation, unless another one holds it or it stands elsewhere."""
    tenant = claiming.view.tenant(tenant_id)
    if tenant is not None and tenant.operation_id is not None:
        holder = claiming.view.operation(tenant.operation_id)
        if holder is not None and holder.kind is kind:
            return _join(claiming, run, holder)
        busy_with = holder.kind if holder else tenant.state
        return claiming.wait(run, f"The tenant {tenant_id} is busy with its {busy_with}.")
    if not may_open(kind, tenant) and claiming.request.why is not Why.FORCED_REPLAY:
        state = tenant.state if tenant else None
        return claiming.refuse(run, f"tenant is already {state}; replay with force")
    return _open_operation(claiming, run, former, tenant, tenant_id, kind)


def _reopen(
    claiming: Claiming, run: RunRecord, over: OperationRecord, tenant_id: str, kind: Kind
) -> Move[Claim]:
    """An operator insists on what is over: its next start, once its opener is at rest.

    opener ─ running, its send under way ········ build
    replay ───────────────── next start ✗ a second build beside it
    """
    tenant = claiming.view.tenant(tenant_id)
    opener = claiming.earlier if over.opener == run.run_id else claiming.view.run(over.opener)
    at_rest = opener is None or opener.status.is_finished
    if not at_rest or not is_free(tenant):
        return Move((), Waits(run.run_id, f"The tenant {tenant_id} is not at rest yet."))
    return _open_operation(claiming, afresh(run), over, tenant, tenant_id, kind)


def _open_operation(
    claiming: Claiming,
    run: RunRecord,
    former: OperationRecord | None,
    tenant: TenantRecord | None,
    tenant_id: str,
    kind: Kind,
) -> Move[Claim]:
    opened, held = claiming.opened(run.operation_id, former, tenant, tenant_id, kind)
    # What an earlier opening left behind is none of this one's business.
    run = attrs.evolve(run, start_number=opened.start_number, job=None, possible_until=None)
    return claiming.hand_out(run, opened, held)


def _go_on(claiming: Claiming, run: RunRecord, operation: OperationRecord) -> Move[Claim]:
    """The run that opened it comes again."""
    run = attrs.evolve(
        run,
        start_number=operation.start_number,
        job=operation.job,
        possible_until=None if operation.job else run.possible_until,
    )
    return claiming.hand_out(run, stop_reason=operation.stop_reason)


def _join(claiming: Claiming, run: RunRecord, operation: OperationRecord) -> Move[Claim]:
    """A second request for what another run has opened."""
    if operation.opener == run.run_id and operation.state is not OperationState.GIVEN_BACK:
        # Old content counts as new, but what it asked for then is not over: nothing is new.
        return Move((), Duplicate(run.run_id))
    if not is_secured(operation):
        return claiming.wait(run, f"Run {operation.opener} is opening the same operation.")
    joined = attrs.evolve(run, operation_id=operation.operation_id)
    newer = _later(claiming.request.credentials, operation.credentials)
    if newer is operation.credentials or operation.state is not OperationState.OPEN:
        return claiming.duplicate(joined, operation.opener)
    return claiming.duplicate(joined, operation.opener, attrs.evolve(operation, credentials=newer))


def _later(new: Credentials | None, old: Credentials | None) -> Credentials | None:
    if new is None or (old is not None and new.as_of <= old.as_of):
        return old
    return new
