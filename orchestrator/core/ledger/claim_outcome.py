"""The claim of an outcome: an event that says how an operation ended."""

from orchestrator.core.events.event_types import Kind
from orchestrator.core.evolve import evolve
from orchestrator.core.identifiers import START_KEY, operation_id
from orchestrator.core.ledger.claim_draft import ClaimDraft
from orchestrator.core.ledger.claim_request import ReportedOutcome
from orchestrator.core.ledger.claim_result import ClaimResult
from orchestrator.core.ledger.guards import is_unseen
from orchestrator.core.ledger.operations import find_followed, find_in_progress, is_reported_by_job
from orchestrator.core.ledger.record_parts import Awaited, OperationState
from orchestrator.core.ledger.records import OperationRecord, RunRecord, TenantRecord
from orchestrator.core.ledger.snapshot import Decision

#: The refusal of an outcome that doesn't identify an operation.
_NAMES_NOTHING = (
    "The event names neither a tenant (tenant.id, tenantId or TENANT_ID) nor a job nor a start key "
    "(ORCHESTRATOR_RUN_ID), so it is unknown which operation has ended."
)
_ENDS_NOTHING = "It ends no operation of this tenant."


def claim_outcome(draft: ClaimDraft, outcome: ReportedOutcome) -> Decision[ClaimResult]:
    """Claim an outcome; the operation holds the tenant until it is settled."""
    run, tenant_id = draft.run, draft.run.tenant_id
    mine = draft.snapshot.operation(run.outcome_of) if run.outcome_of else None
    is_given_back = mine is not None and mine.state is OperationState.GIVEN_BACK
    if mine is not None and mine.outcome == run.run_id and not is_given_back:
        return draft.hand_out(run)
    if tenant_id is None and not outcome.is_named:
        unknown = _unknown(outcome.registration_id) if outcome.registration_id else _NAMES_NOTHING
        return draft.refuse(run, unknown)
    if tenant_id is None:
        return draft.hand_out(run)  # it ends no operation; the handler may still refuse it
    tenant = draft.snapshot.tenant(tenant_id)
    if tenant is None or is_unseen(tenant):
        if outcome.registration_id is not None:
            return draft.refuse(run, _unknown(outcome.registration_id))
        if _names_operation_of_another(draft, tenant_id, outcome):
            return draft.note(run, _ENDS_NOTHING)
        return _take_over(draft, run, tenant, tenant_id, outcome.ending.kind)
    operation = _reported(draft, tenant, outcome)
    if operation is None:
        return draft.note(run, _ENDS_NOTHING)
    run = evolve(run, outcome_of=operation.operation_id)
    if operation.state is not OperationState.OPEN:
        if operation.outcome is None:
            return draft.note(run, "The operation was over already.")
        return draft.duplicate(run, operation.outcome)
    other = find_in_progress(draft.snapshot, operation)
    if other is not None:
        awaited = Awaited(operation_id=operation.operation_id, run_id=other.run_id)
        reason = f"Run {other.run_id} of the operation is in progress."
        return draft.wait(run, reason, awaited)
    if operation.job is not None and operation.job.builder in outcome.outranked_by:
        return _store_self_report(draft, run, operation, outcome)
    return draft.hand_out(run, evolve(operation, outcome=run.run_id))


def _unknown(registration_id: str) -> str:
    return (
        f"No tenant with the registration {registration_id!r} is known: name the tenant, or replay "
        "this once its request was handled."
    )


def _names_operation_of_another(
    draft: ClaimDraft, tenant_id: str, outcome: ReportedOutcome
) -> bool:
    """The operation that the event names is known, and another tenant's."""
    named = draft.snapshot.operation(outcome.operation_id) if outcome.operation_id else None
    return named is not None and named.tenant_id != tenant_id


def _take_over(
    draft: ClaimDraft, run: RunRecord, tenant: TenantRecord | None, tenant_id: str, kind: Kind
) -> Decision[ClaimResult]:
    """The tenant is older than the ledger: its state is taken from the event."""
    wanted = operation_id(tenant_id, kind, draft.request.request_key or run.request_key)
    former = draft.snapshot.operation(wanted)
    opened, held = draft.opened(wanted, former, tenant, tenant_id, kind, asks=False)
    run = evolve(run, outcome_of=wanted)
    return draft.hand_out(run, evolve(opened, outcome=run.run_id), held)


def _store_self_report(
    draft: ClaimDraft, run: RunRecord, operation: OperationRecord, outcome: ReportedOutcome
) -> Decision[ClaimResult]:
    """Store a self-report; the job's builder is queried at once, and its answer counts.

    job     ─ "success" ── last command ✗
    builder ────────────────────────────── FAILED

    A report that names only the tenant has no other effect than that query.
    """
    updated = evolve(operation, due_at=draft.snapshot.now)
    if is_reported_by_job(operation, outcome.job, draft.request.event.body.get(START_KEY)):
        updated = evolve(
            updated,
            told_by=run.run_id,
            credentials=operation.credentials or draft.request.credentials,
        )
    said = "success" if outcome.ending.succeeded else "failure"
    note = f"The job reports {said}; it counts once the builder says that the job is over."
    return draft.note(run, note, updated)


def _reported(
    draft: ClaimDraft, tenant: TenantRecord, outcome: ReportedOutcome
) -> OperationRecord | None:
    """The operation that the event names; if it names none, the one under way."""
    job = draft.snapshot.job(*outcome.job) if outcome.job else None
    named = job.operation_id if job else outcome.operation_id
    if outcome.job and named is None:
        return None  # the job belongs to no operation
    found = draft.snapshot.operation(named) if named else None
    if found is None and job is not None:
        return None  # its operation has expired
    request_key = outcome.operation_id or outcome.context
    if found is None and request_key is not None:
        found = _requested(draft, tenant, outcome.ending.kind, request_key)
    elif found is None and tenant.operation_id is not None:
        found = draft.snapshot.operation(tenant.operation_id)
    if found is None or found.kind is not outcome.ending.kind:
        return None
    is_anothers = outcome.job and found.job and not found.job.is_same_as(*outcome.job)
    number = job.start_number if job else outcome.start_number
    is_of_another_start = number not in (None, found.start_number)
    is_of_another_build = outcome.rebuilds not in (None, found.rebuilds)
    if is_anothers or is_of_another_start or is_of_another_build:
        return None
    if found.tenant_id != tenant.tenant_id:
        return None
    return found


def _requested(
    draft: ClaimDraft, tenant: TenantRecord, kind: Kind, request_key: str
) -> OperationRecord | None:
    """The operation whose request had that key, such as its `context`.

    The service's own deployment has another key; its provisioning's key identifies it, too.

    provision (context 1) ─ failed ── provision (context 2) ──────── job
    failure (context 1), delivered again ─────────────────── ✗ ends the second one
    """
    found = draft.snapshot.operation(operation_id(tenant.tenant_id, kind, request_key))
    if found is not None or kind is not Kind.DEPLOYMENT or tenant.operation_id is None:
        return found
    held = draft.snapshot.operation(tenant.operation_id)
    before = operation_id(tenant.tenant_id, Kind.PROVISIONING, request_key)
    return held if held is not None and find_followed(held) == before else None
