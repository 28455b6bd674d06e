"""The claim: a lease on an event's run, with the operation that it opens or ends, in one write.

Plain functions of a snapshot: they say what to write and what to return. `transactions`
runs them. They never wait, and don't depend on the entry point of an event.
"""

from orchestrator.core.events.event_types import Kind
from orchestrator.core.evolve import evolve
from orchestrator.core.identifiers import operation_id
from orchestrator.core.ledger.claim_action import Action, choose_action
from orchestrator.core.ledger.claim_draft import ClaimDraft, asked_for, changed
from orchestrator.core.ledger.claim_outcome import claim_outcome
from orchestrator.core.ledger.claim_request import REPLAYS, ClaimRequest
from orchestrator.core.ledger.claim_result import (
    BodyDiffers,
    ClaimResult,
    Deferred,
    Duplicate,
    InProgress,
    NeedsForce,
    NotDue,
    Refused,
)
from orchestrator.core.ledger.guards import (
    Timings,
    asks_otherwise,
    is_claimable,
    is_free,
    is_overtaken,
    is_registered_elsewhere,
    is_secured,
    is_stale,
    may_open,
)
from orchestrator.core.ledger.record_parts import Awaited, OperationState, WebhookCredentials
from orchestrator.core.ledger.records import (
    OperationRecord,
    Record,
    RegistrationRecord,
    RunRecord,
    TenantRecord,
)
from orchestrator.core.ledger.snapshot import Decision, Snapshot
from orchestrator.core.ledger.transitions import (
    as_new_event,
    new_run,
    next_attempt,
    restarted,
)
from orchestrator.core.ledger.waiting import find_first_before, without


def claim(snapshot: Snapshot, request: ClaimRequest, timings: Timings) -> Decision[ClaimResult]:
    """Claim an event's run, or say why not."""
    event, earlier = request.event, snapshot.run(request.event.key, expect_absent=True)
    if earlier is None:
        new = new_run(event, request.tenant_id, snapshot)
        return _claim(snapshot, request, Action.BEGIN, None, new, timings)
    if not event.has_body_of(earlier.body_digest):
        return Decision((), BodyDiffers(earlier))
    if not is_claimable(earlier, snapshot.now, timings):
        return Decision((), InProgress(earlier))
    match action := choose_action(snapshot, earlier, event, request.trigger, timings):
        case Action.LEAVE:
            return Decision((), NotDue())
        case Action.NEED_FORCE:
            return Decision((), NeedsForce(earlier))
        case Action.REFUSE:
            reason = earlier.error.message if earlier.error else ""
            return Decision((), Refused(earlier.run_id, reason))
        case Action.DUPLICATE:
            return Decision((), Duplicate(earlier.duplicate_of or earlier.run_id))
        case Action.RESUME:
            run = earlier
        case Action.RESTART:
            run = restarted(earlier)
        case Action.BEGIN_ANEW:
            run = as_new_event(earlier, event, snapshot)
    return _claim(snapshot, request, action, earlier, run, timings)


def _claim(
    snapshot: Snapshot,
    request: ClaimRequest,
    action: Action,
    earlier: RunRecord | None,
    run: RunRecord,
    timings: Timings,
) -> Decision[ClaimResult]:
    """The next attempt of the run, with the operation that its event opens or ends."""
    run = evolve(
        next_attempt(run, snapshot, timings),
        tenant_id=request.tenant_id or run.tenant_id,
        link=request.link or run.link,
        is_replay=request.trigger in REPLAYS,
        by=request.by,
    )
    draft = ClaimDraft(snapshot, request, action, earlier, run)
    if request.outcome:
        return claim_outcome(draft, request.outcome)
    if request.tenant_id and request.opens:
        return _open(draft, request.tenant_id, request.opens)
    return draft.hand_out(run)


def _open(draft: ClaimDraft, tenant_id: str, kind: Kind) -> Decision[ClaimResult]:
    """The event requests an operation: continue it, join it, wait for it, or open it."""
    request = draft.request
    if request.contradiction is not None and not draft.insists:
        return draft.refuse(draft.run, request.contradiction)
    wanted = operation_id(tenant_id, kind, request.request_key or draft.run.request_key)
    run = evolve(draft.run, operation_id=wanted)
    operation = draft.snapshot.operation(wanted, expect_absent=True)
    if operation is None or operation.state is OperationState.GIVEN_BACK:
        return _ask_tenant(draft, run, operation, tenant_id, kind)
    if operation.state is OperationState.OVER and draft.insists:
        return _reopen(draft, run, operation, tenant_id, kind)
    if draft.action is Action.RESTART:
        return Decision((), Deferred(run.run_id, f"The {kind} of run {operation.opener} goes on."))
    if operation.opener != run.run_id or draft.action is Action.BEGIN_ANEW:
        return _join(draft, run, operation, kind)
    return _go_on(draft, run, operation)


def _ask_tenant(
    draft: ClaimDraft, run: RunRecord, former: OperationRecord | None, tenant_id: str, kind: Kind
) -> Decision[ClaimResult]:
    """The tenant's next operation, once the tenant is free and it is this run's turn."""
    snapshot, request = draft.snapshot, draft.request
    tenant = snapshot.tenant(tenant_id, expect_absent=True)
    holder = snapshot.operation(tenant.operation_id) if tenant and tenant.operation_id else None
    # Each deployment follows a provisioning of its own.
    may_join = holder is not None and holder.kind is kind is not Kind.DEPLOYMENT
    first = find_first_before(snapshot, tenant, draft.place, other_than=kind if may_join else None)
    if holder is not None and may_join and first is None:
        return _join(draft, run, holder, kind)
    if tenant is not None and (tenant.operation_id is not None or first is not None):
        busy_with = holder.kind if holder else tenant.state
        reason = f"The tenant {tenant_id} is busy with its {busy_with}."
        if first is not None:
            reason = f"Run {first.run_id} waits for the tenant {tenant_id} before this one."
        awaited = Awaited(operation_id=tenant.operation_id, run_id=first.run_id if first else None)
        return draft.wait_in_line(run, kind, tenant, reason, awaited)
    is_follow_up = _is_follow_up(draft, tenant_id, kind)
    if not draft.insists:
        if is_follow_up and is_overtaken(request.follows, tenant):
            return draft.note(run, "Skipped: the tenant has had another request since.")
        if not is_follow_up and is_stale(run, tenant):
            asked = tenant.asked.kind if tenant and tenant.asked else None
            return draft.refuse(run, f"tenant was asked later for {asked}; replay with force")
        if not may_open(kind, tenant):
            state = tenant.state if tenant else None
            found = f"is already {state}" if state else "has had no operation yet"
            return draft.refuse(run, f"tenant {found}; replay with force")
    if (theft := _find_theft(draft, tenant_id)) is not None:
        return draft.refuse(run, theft)
    return _open_operation(draft, run, former, tenant, tenant_id, kind, asks=not is_follow_up)


def _is_follow_up(draft: ClaimDraft, tenant_id: str, kind: Kind) -> bool:
    """The event continues an operation of this tenant, and requests nothing new."""
    if kind is not Kind.DEPLOYMENT or draft.request.follows is None:
        return kind is Kind.CLEAN_UP
    before = draft.snapshot.operation(draft.request.follows)
    return before is not None and before.tenant_id == tenant_id


def _reopen(
    draft: ClaimDraft, run: RunRecord, over: OperationRecord, tenant_id: str, kind: Kind
) -> Decision[ClaimResult]:
    """A forced replay of an operation that is over: its next start, once its opener has finished
    and no other run waits.

    opener ─ running, its send under way ········ build
    replay ───────────────── next start ✗ a second build beside it
    """
    tenant = draft.snapshot.tenant(tenant_id)
    opener = draft.snapshot.run(over.opener)
    at_rest = opener is None or opener.status.is_finished
    if not at_rest or not is_free(tenant):
        return Decision((), Deferred(run.run_id, f"The tenant {tenant_id} is not at rest yet."))
    first = find_first_before(draft.snapshot, tenant, draft.place)
    if first is not None:
        return Decision(
            (), Deferred(run.run_id, f"Run {first.run_id} waits for the tenant {tenant_id}.")
        )
    return _open_operation(draft, restarted(run), over, tenant, tenant_id, kind, asks=True)


def _open_operation(
    draft: ClaimDraft,
    run: RunRecord,
    former: OperationRecord | None,
    tenant: TenantRecord | None,
    tenant_id: str,
    kind: Kind,
    *,
    asks: bool,
) -> Decision[ClaimResult]:
    opened, held = draft.opened(run.operation_id, former, tenant, tenant_id, kind, asks=asks)
    reported = _owed_reports(draft.snapshot, held, opened) if asks else ()
    held = evolve(held, owes=None) if asks else held
    run = evolve(
        run,
        start_number=opened.start_number,
        # Values of an earlier opening don't apply to this one.
        job=None,
        possible_until=None,
        waits=0,
    )
    return draft.hand_out(run, opened, held, *reported, *_registered(draft, tenant_id))


def _find_theft(draft: ClaimDraft, tenant_id: str) -> str | None:
    """Why the request's registration isn't its tenant's, as a sentence; None for a forced
    replay."""
    snapshot, registration_id = draft.snapshot, draft.request.registration_id
    if registration_id is None or draft.insists:
        return None
    known = snapshot.registration(registration_id, expect_absent=True)
    holder = snapshot.tenant(known.tenant_id) if known else None
    if not is_registered_elsewhere(known, holder, tenant_id):
        return None
    return (
        f"The registration {registration_id!r} is another tenant's: send the request with the "
        "tenantRegistrationId of its own tenant, or replay with force."
    )


def _registered(draft: ClaimDraft, tenant_id: str) -> tuple[RegistrationRecord, ...]:
    """The record that maps the request's registration to its tenant, if it isn't mapped yet."""
    registration_id = draft.request.registration_id
    if registration_id is None:
        return ()
    known = draft.snapshot.registration(registration_id, expect_absent=True)
    if known is not None and known.tenant_id == tenant_id:
        return ()
    version = known.version if known else 0
    return (
        RegistrationRecord(registration_id=registration_id, tenant_id=tenant_id, version=version),
    )


def _owed_reports(
    snapshot: Snapshot, tenant: TenantRecord, opened: OperationRecord
) -> tuple[OperationRecord, ...]:
    """Make the report due that a provisioning left to a deployment which never came.

    A provisioning that is opened again is reported at its next end.
    """
    is_other = tenant.owes is not None and tenant.owes != opened.operation_id
    before = snapshot.operation(tenant.owes) if tenant.owes and is_other else None
    if before is None or before.owed is None or before.credentials is None or before.report:
        return ()
    return (evolve(before, report=before.owed, owed=None, due_at=snapshot.now),)


def _go_on(draft: ClaimDraft, run: RunRecord, operation: OperationRecord) -> Decision[ClaimResult]:
    """Continue the operation: the run that opened it is resumed or delivered again."""
    if operation.state is OperationState.OVER and operation.job is None:
        return draft.duplicate(run, operation.outcome or run.run_id)
    run = evolve(
        run,
        start_number=operation.start_number,
        job=operation.job,
        possible_until=None if operation.job else run.possible_until,
    )
    return draft.hand_out(run, stop_reason=operation.stop_reason)


def _join(
    draft: ClaimDraft, run: RunRecord, operation: OperationRecord, kind: Kind
) -> Decision[ClaimResult]:
    """Join an operation that another run has opened, and may still give back without a job."""
    if operation.opener == run.run_id:
        # Its content counts as a new event, but the run's own operation is still open: a duplicate.
        return Decision((), Duplicate(run.run_id))
    joined = evolve(run, operation_id=operation.operation_id)
    if operation.state is not OperationState.OPEN:
        return draft.duplicate(joined, operation.opener)
    tenant_id, request = operation.tenant_id, draft.request
    tenant = draft.snapshot.tenant(tenant_id) if tenant_id else None
    assert tenant_id is not None  # noqa: S101 - what is open holds its tenant
    assert tenant is not None  # noqa: S101
    if not is_secured(operation):
        reason = f"Run {operation.opener} is opening the same operation."
        awaited = Awaited(operation_id=operation.operation_id, run_id=operation.opener)
        return draft.wait_in_line(run, kind, tenant, reason, awaited)
    if (difference := asks_otherwise(request.tier, request.builder, operation)) is not None:
        return draft.refuse(run, difference)
    if (theft := _find_theft(draft, tenant_id)) is not None:
        return draft.refuse(run, theft)
    updated = evolve(
        operation,
        credentials=_later(request.credentials, operation.credentials),
        registration_id=operation.registration_id or request.registration_id,
    )
    others: list[Record] = [*_registered(draft, tenant_id)]
    if updated != operation:
        others.append(updated)
    left = without(draft.snapshot, tenant, run.run_id)
    if not _is_follow_up(draft, tenant_id, kind):
        left = asked_for(left, operation, run)
    return draft.duplicate(joined, operation.opener, *others, *changed(left, tenant))


def _later(
    new: WebhookCredentials | None, old: WebhookCredentials | None
) -> WebhookCredentials | None:
    if new is None or (old is not None and new.as_of <= old.as_of):
        return old
    return new
