"""The claim: an event's run is taken in hand, with what it opens or ends, in one write.

Plain functions of a snapshot: they say what to write and what is then true. `transactions`
carries it out. They never wait, and never look at how an event came.
"""

import attrs

from orchestrator.core.events.event_types import Kind
from orchestrator.core.identifiers import operation_id
from orchestrator.core.ledger.claim_draft import Claiming, asked_for, changed
from orchestrator.core.ledger.claim_outcome import report
from orchestrator.core.ledger.claim_request import ClaimRequest, Why
from orchestrator.core.ledger.claim_result import (
    BodyDiffers,
    Claim,
    Duplicate,
    InOtherHands,
    NeedsForce,
    NotDue,
    Refused,
    Waits,
)
from orchestrator.core.ledger.guards import (
    Terms,
    asks_otherwise,
    is_claimable,
    is_due,
    is_free,
    is_overtaken,
    is_registered_elsewhere,
    is_secured,
    is_stale,
    may_open,
)
from orchestrator.core.ledger.records import (
    Credentials,
    OperationRecord,
    OperationState,
    Record,
    RegistrationRecord,
    RunRecord,
    RunStatus,
    TenantRecord,
)
from orchestrator.core.ledger.snapshot import Decision, Snapshot
from orchestrator.core.ledger.transitions import (
    afresh,
    as_new_event,
    is_new_event,
    new_run,
    next_attempt,
)
from orchestrator.core.ledger.waiting import find_first_before, without


def claim(snapshot: Snapshot, request: ClaimRequest, terms: Terms) -> Decision[Claim]:
    """Take an event's run in hand, or say why not."""
    event, earlier = request.event, snapshot.run(request.event.key)
    forced = is_new = False
    if earlier is None:
        run = new_run(event, request.tenant_id, snapshot)
    else:
        if earlier.body_digest != event.body_digest:
            return Decision((), BodyDiffers(earlier))
        if not is_claimable(earlier, snapshot.now, terms):
            return Decision((), InOtherHands(earlier))
        if request.why is Why.SWEEP and not is_due(earlier, snapshot.now):
            return Decision((), NotDue())
        if request.why is Why.CANCEL and earlier.status.is_finished:
            return Decision((), Duplicate(earlier.run_id))
        is_done = earlier.status in (RunStatus.SUCCEEDED, RunStatus.DUPLICATE)
        is_delivered = request.why is Why.DELIVERY
        is_new = is_delivered and is_new_event(snapshot, earlier, event, terms)
        if is_done and request.why is Why.REPLAY:
            return Decision((), NeedsForce(earlier))
        if is_delivered and not is_new and earlier.was_cancelled and earlier.error:
            # Its sender may not know; only an operator takes a cancel back.
            return Decision((), Refused(earlier.run_id, earlier.error.message))
        if is_done and is_delivered and not is_new:
            return Decision((), Duplicate(earlier.duplicate_of or earlier.run_id))
        forced = is_done and request.why is Why.FORCED_REPLAY
        run = as_new_event(earlier, event, snapshot) if is_new else earlier
        run = afresh(run) if forced else run
    run = attrs.evolve(
        next_attempt(run, snapshot, terms),
        tenant_id=request.tenant_id or run.tenant_id,
        link=request.link or run.link,
    )
    claiming = Claiming(snapshot, request, earlier, run, forced=forced, is_new=is_new)
    if request.reports:
        return report(claiming, request.reports)
    if request.tenant_id and request.opens:
        return _open(claiming, request.tenant_id, request.opens)
    return claiming.hand_out(run)


def _open(claiming: Claiming, tenant_id: str, kind: Kind) -> Decision[Claim]:
    """The event asks for an operation: go on with it, join it, wait for it, or open it."""
    request = claiming.request
    if request.contradiction is not None and not claiming.insists:
        return claiming.refuse(claiming.run, request.contradiction)
    wanted = operation_id(tenant_id, kind, request.request_key or claiming.run.request_key)
    run = attrs.evolve(claiming.run, operation_id=wanted)
    operation = claiming.snapshot.operation(wanted)
    if operation is None or operation.state is OperationState.GIVEN_BACK:
        return _ask_tenant(claiming, run, operation, tenant_id, kind)
    if operation.state is OperationState.OVER and claiming.insists:
        return _reopen(claiming, run, operation, tenant_id, kind)
    if claiming.forced:
        return Decision((), Waits(run.run_id, f"The {kind} of run {operation.opener} goes on."))
    if operation.opener != run.run_id or claiming.is_new:
        return _join(claiming, run, operation, kind)
    return _go_on(claiming, run, operation)


def _ask_tenant(
    claiming: Claiming, run: RunRecord, former: OperationRecord | None, tenant_id: str, kind: Kind
) -> Decision[Claim]:
    """The tenant's next operation, once the tenant is free and it is this run's turn."""
    snapshot, request = claiming.snapshot, claiming.request
    tenant = snapshot.tenant(tenant_id)
    holder = snapshot.operation(tenant.operation_id) if tenant and tenant.operation_id else None
    # Each deployment is of something else that was provisioned.
    may_join = holder is not None and holder.kind is kind is not Kind.DEPLOYMENT
    first = find_first_before(
        snapshot, tenant, claiming.place, other_than=kind if may_join else None
    )
    if holder is not None and may_join and first is None:
        return _join(claiming, run, holder, kind)
    if tenant is not None and (tenant.operation_id is not None or first is not None):
        busy_with = holder.kind if holder else tenant.state
        reason = f"The tenant {tenant_id} is busy with its {busy_with}."
        if first is not None:
            reason = f"Run {first.run_id} waits for the tenant {tenant_id} before this one."
        return claiming.wait_in_line(run, kind, tenant, reason)
    is_follow_up = _is_follow_up(claiming, tenant_id, kind)
    if not claiming.insists:
        if is_follow_up and is_overtaken(request.follows, tenant):
            return claiming.note(run, "The tenant was asked for something else since.")
        if not is_follow_up and is_stale(run, tenant):
            asked = tenant.asked.kind if tenant and tenant.asked else None
            return claiming.refuse(run, f"tenant was asked later for {asked}; replay with force")
        if not may_open(kind, tenant):
            state = tenant.state if tenant else None
            return claiming.refuse(run, f"tenant is already {state}; replay with force")
    if (theft := _find_theft(claiming, tenant_id)) is not None:
        return claiming.refuse(run, theft)
    return _open_operation(claiming, run, former, tenant, tenant_id, kind, asks=not is_follow_up)


def _is_follow_up(claiming: Claiming, tenant_id: str, kind: Kind) -> bool:
    """The event continues an operation of this tenant, and asks for nothing new."""
    if kind is not Kind.DEPLOYMENT or claiming.request.follows is None:
        return kind is Kind.CLEAN_UP
    before = claiming.snapshot.operation(claiming.request.follows)
    return before is not None and before.tenant_id == tenant_id


def _reopen(
    claiming: Claiming, run: RunRecord, over: OperationRecord, tenant_id: str, kind: Kind
) -> Decision[Claim]:
    """An operator insists on what is over: its next start, once its opener is at rest and nobody
    waits.

    opener ─ running, its send under way ········ build
    replay ───────────────── next start ✗ a second build beside it
    """
    tenant = claiming.snapshot.tenant(tenant_id)
    opener = claiming.earlier if over.opener == run.run_id else claiming.snapshot.run(over.opener)
    at_rest = opener is None or opener.status.is_finished
    if not at_rest or not is_free(tenant):
        return Decision((), Waits(run.run_id, f"The tenant {tenant_id} is not at rest yet."))
    first = find_first_before(claiming.snapshot, tenant, claiming.place)
    if first is not None:
        return Decision(
            (), Waits(run.run_id, f"Run {first.run_id} waits for the tenant {tenant_id}.")
        )
    return _open_operation(claiming, afresh(run), over, tenant, tenant_id, kind, asks=True)


def _open_operation(
    claiming: Claiming,
    run: RunRecord,
    former: OperationRecord | None,
    tenant: TenantRecord | None,
    tenant_id: str,
    kind: Kind,
    *,
    asks: bool,
) -> Decision[Claim]:
    opened, held = claiming.opened(run.operation_id, former, tenant, tenant_id, kind, asks=asks)
    reported = _owed_reports(claiming.snapshot, held, opened) if asks else ()
    held = attrs.evolve(held, owes=None) if asks else held
    run = attrs.evolve(
        run,
        start_number=opened.start_number,
        # What an earlier opening left behind says nothing of this one.
        job=None,
        possible_until=None,
        waits=0,
    )
    return claiming.hand_out(run, opened, held, *reported, *_registered(claiming, tenant_id))


def _find_theft(claiming: Claiming, tenant_id: str) -> str | None:
    """Why the request's registration can't be its tenant's, in a sentence, unless an operator
    insists that it is."""
    snapshot, registration_id = claiming.snapshot, claiming.request.registration_id
    if registration_id is None or claiming.insists:
        return None
    known = snapshot.registration(registration_id)
    holder = snapshot.tenant(known.tenant_id) if known else None
    if not is_registered_elsewhere(known, holder, tenant_id):
        return None
    return (
        f"The registration {registration_id!r} is another tenant's: send the request with the "
        "tenantRegistrationId of its own tenant, or replay with force."
    )


def _registered(claiming: Claiming, tenant_id: str) -> tuple[RegistrationRecord, ...]:
    """The request's registration, which leads to its tenant from now on, if it doesn't yet."""
    registration_id = claiming.request.registration_id
    if registration_id is None:
        return ()
    known = claiming.snapshot.registration(registration_id)
    if known is not None and known.tenant_id == tenant_id:
        return ()
    version = known.version if known else 0
    return (
        RegistrationRecord(registration_id=registration_id, tenant_id=tenant_id, version=version),
    )


def _owed_reports(
    snapshot: Snapshot, tenant: TenantRecord, opened: OperationRecord
) -> tuple[OperationRecord, ...]:
    """The report that a provisioning has left to a deployment, which never came, is due now.

    One that is opened again is reported when that ends.
    """
    is_other = tenant.owes is not None and tenant.owes != opened.operation_id
    before = snapshot.operation(tenant.owes) if tenant.owes and is_other else None
    if before is None or before.owed is None or before.credentials is None or before.report:
        return ()
    return (attrs.evolve(before, report=before.owed, owed=None, due_at=snapshot.now),)


def _go_on(claiming: Claiming, run: RunRecord, operation: OperationRecord) -> Decision[Claim]:
    """The run that opened it comes again."""
    if operation.state is OperationState.OVER and operation.job is None:
        return claiming.duplicate(run, operation.outcome or run.run_id)
    run = attrs.evolve(
        run,
        start_number=operation.start_number,
        job=operation.job,
        possible_until=None if operation.job else run.possible_until,
    )
    return claiming.hand_out(run, stop_reason=operation.stop_reason)


def _join(
    claiming: Claiming, run: RunRecord, operation: OperationRecord, kind: Kind
) -> Decision[Claim]:
    """A request for what another run has opened, and may give back until the job is known."""
    if operation.opener == run.run_id:
        # Its content counts as new, but what it asked for then isn't over: nothing is new.
        return Decision((), Duplicate(run.run_id))
    joined = attrs.evolve(run, operation_id=operation.operation_id)
    if operation.state is not OperationState.OPEN:
        return claiming.duplicate(joined, operation.opener)
    tenant_id, request = operation.tenant_id, claiming.request
    tenant = claiming.snapshot.tenant(tenant_id) if tenant_id else None
    assert tenant_id is not None  # noqa: S101 - what is open holds its tenant
    assert tenant is not None  # noqa: S101
    if not is_secured(operation):
        reason = f"Run {operation.opener} is opening the same operation."
        return claiming.wait_in_line(run, kind, tenant, reason)
    if (difference := asks_otherwise(request.tier, request.builder, operation)) is not None:
        return claiming.refuse(run, difference)
    if (theft := _find_theft(claiming, tenant_id)) is not None:
        return claiming.refuse(run, theft)
    heard = attrs.evolve(
        operation,
        credentials=_later(request.credentials, operation.credentials),
        registration_id=operation.registration_id or request.registration_id,
    )
    others: list[Record] = [*_registered(claiming, tenant_id)]
    if heard != operation:
        others.append(heard)
    left = without(claiming.snapshot, tenant, run.run_id)
    if not _is_follow_up(claiming, tenant_id, kind):
        left = asked_for(left, operation, run)
    return claiming.duplicate(joined, operation.opener, *others, *changed(left, tenant))


def _later(new: Credentials | None, old: Credentials | None) -> Credentials | None:
    if new is None or (old is not None and new.as_of <= old.as_of):
        return old
    return new
