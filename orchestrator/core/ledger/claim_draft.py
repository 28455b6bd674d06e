"""The draft of a claim, and its possible results."""

from datetime import timedelta

import attrs

from orchestrator.core.backoff import doubling_pause_s
from orchestrator.core.events.event_types import Kind
from orchestrator.core.evolve import evolve
from orchestrator.core.ledger.claim_action import Action
from orchestrator.core.ledger.claim_request import ClaimRequest, Trigger
from orchestrator.core.ledger.claim_result import (
    BUSY_PAUSE_S,
    Claimed,
    ClaimResult,
    Deferred,
    Duplicate,
    NothingToDo,
    Refused,
)
from orchestrator.core.ledger.guards import is_due
from orchestrator.core.ledger.lifecycle import MOVES
from orchestrator.core.ledger.record_parts import (
    Asked,
    Awaited,
    Failure,
    OperationState,
    Waiter,
    WebhookCredentials,
)
from orchestrator.core.ledger.records import (
    OperationRecord,
    Record,
    RunRecord,
    RunStatus,
    TenantRecord,
)
from orchestrator.core.ledger.snapshot import Decision, Snapshot
from orchestrator.core.ledger.transitions import ended, kept
from orchestrator.core.ledger.waiting import is_full, is_in_list, wake_next, with_waiter, without


@attrs.frozen
class ClaimDraft:
    """The draft of a claim: its run is complete except for its operation."""

    snapshot: Snapshot
    request: ClaimRequest
    action: Action
    earlier: RunRecord | None
    run: RunRecord

    @property
    def is_due(self) -> bool:
        return self.earlier is not None and is_due(self.earlier, self.snapshot.now)

    @property
    def place(self) -> str | None:
        """The run, if it may be on the waiting list; a failed run has lost its place."""
        has_waited = self.earlier is not None and self.earlier.status is RunStatus.RETRY
        return self.run.run_id if has_waited else None

    @property
    def insists(self) -> bool:
        """Whether it is a forced replay."""
        return self.request.trigger is Trigger.FORCED_REPLAY

    def hand_out(
        self, run: RunRecord, *others: Record, stop_reason: str | None = None
    ) -> Decision[ClaimResult]:
        return Decision((run, *self._payload, *others), Claimed(run, stop_reason))

    def wait(self, run: RunRecord, reason: str, awaited: Awaited) -> Decision[ClaimResult]:
        """The run waits for another one, with backoff."""
        if self.insists:
            # Not stored, since the run would be retried without the force that it needs.
            return Decision((), Deferred(run.run_id, reason))
        now, earlier, waits = self.snapshot.now, self.earlier, run.waits + 1
        due_at = now + timedelta(seconds=doubling_pause_s(BUSY_PAUSE_S, run.waits))
        if earlier and earlier.status is RunStatus.RETRY and earlier.due_at and not self.is_due:
            # A delivery meanwhile must not postpone its turn.
            due_at, waits = earlier.due_at, earlier.waits
        waiting = evolve(
            ended(run, RunStatus.RETRY, self.snapshot),
            due_at=due_at,
            note=reason,
            waits=waits,
            waits_for=awaited,
        )
        pause_s = (due_at - now).total_seconds()
        return Decision((waiting, *self._payload), Deferred(run.run_id, reason, pause_s))

    def wait_in_line(
        self, run: RunRecord, kind: Kind, tenant: TenantRecord, reason: str, awaited: Awaited
    ) -> Decision[ClaimResult]:
        """The run waits for the tenant: at its place on the list, or at the end."""
        if is_full(self.snapshot, tenant, run.run_id):
            full = f"{reason} The tenant's waiting list is full: {len(tenant.waiting)}."
            return Decision((), Deferred(None, full))
        waits = self.wait(run, reason, awaited)
        if not waits.writes:
            return waits
        waiter = Waiter(run_id=run.run_id, kind=kind)
        waited_for = with_waiter(self.snapshot, tenant, waiter, last=self.place is None)
        return Decision((*waits.writes, *changed(waited_for, tenant)), waits.result)

    def refuse(self, run: RunRecord, reason: str) -> Decision[ClaimResult]:
        refused = evolve(
            ended(run, RunStatus.FAILED, self.snapshot),
            error=Failure(type="NotAllowed", message=reason),
        )
        return self._ends_waiting(refused, Refused(run.run_id, reason))

    def note(self, run: RunRecord, note: str, *others: OperationRecord) -> Decision[ClaimResult]:
        noted = evolve(ended(run, RunStatus.SUCCEEDED, self.snapshot), note=note)
        look_at = others[0].operation_id if others else None
        return self._ends_waiting(noted, NothingToDo(run.run_id, look_at), *others)

    def duplicate(self, run: RunRecord, of: str, *others: Record) -> Decision[ClaimResult]:
        duplicate = evolve(ended(run, RunStatus.DUPLICATE, self.snapshot), duplicate_of=of)
        return self._ends_waiting(duplicate, Duplicate(of), *others)

    def _ends_waiting(
        self, run: RunRecord, result: ClaimResult, *others: Record
    ) -> Decision[ClaimResult]:
        """Remove a run that is over from its tenant's waiting list."""
        writes: list[Record] = [run, *self._payload, *others]
        is_written = any(isinstance(other, TenantRecord) for other in others)
        if self.place is not None and run.tenant_id is not None and not is_written:
            tenant = self.snapshot.tenant(run.tenant_id)
            if tenant is not None and is_in_list(tenant, run.run_id):
                left = without(self.snapshot, tenant, run.run_id)
                writes += [left, *wake_next(self.snapshot, left)]
        return Decision(tuple(writes), result)

    def opened(
        self,
        operation_id: str,
        former: OperationRecord | None,
        tenant: TenantRecord | None,
        tenant_id: str,
        kind: Kind,
        *,
        asks: bool,
    ) -> tuple[OperationRecord, TenantRecord]:
        """The operation under its next start number, and the tenant, held by it.

        `asks`: it is a request's, so it is the tenant's latest request.
        """
        run, request = self.run, self.request
        opened = OperationRecord(
            operation_id=operation_id,
            tenant_id=tenant_id,
            kind=kind,
            request_key=request.request_key or run.request_key,
            opener=run.run_id,
            state=OperationState.OPEN,
            start_number=former.start_number + 1 if former else 1,
            opened_at=self.snapshot.now,
            former_state=tenant.state if tenant else None,
            former_asked=tenant.asked if tenant else None,
            tier=request.tier or (tenant.tier if tenant else None),
            builder=request.builder,
            registration_id=request.registration_id or (tenant.registration_id if tenant else None),
            credentials=request.credentials or self._credentials_before(kind, tenant_id),
            report=former.kept_report if former else None,
            starts=former.starts_before_next if former else (),
            by=request.by,
            traceparent=request.traceparent,
            version=former.version if former else 0,
        )
        held = evolve(
            without(self.snapshot, tenant, run.run_id)
            if tenant
            else _unseen(tenant_id, self.snapshot),
            state=MOVES[kind].during,
            changed_at=self.snapshot.now,
            operation_id=operation_id,
        )
        return opened, asked_for(held, opened, run) if asks else held

    def _credentials_before(self, kind: Kind, tenant_id: str) -> WebhookCredentials | None:
        """The credentials of a deployment's report: those of the provisioning that it completes."""
        if kind is not Kind.DEPLOYMENT or self.request.follows is None:
            return None
        before = self.snapshot.operation(self.request.follows)
        return before.credentials if before and before.tenant_id == tenant_id else None

    @property
    def _payload(self) -> tuple[Record, ...]:
        """The payload is written once, with the run's first claim."""
        return () if self.earlier else (kept(self.snapshot, self.request.payload),)


def changed(tenant: TenantRecord, former: TenantRecord) -> tuple[TenantRecord, ...]:
    """The tenant, if there is anything to write."""
    return () if tenant == former else (tenant,)


def asked_for(tenant: TenantRecord, operation: OperationRecord, run: RunRecord) -> TenantRecord:
    """The tenant, with that operation as its latest request."""
    assert operation.kind is not None  # noqa: S101 - one without has no tenant
    times = tenant.asked.times if tenant.asked else {}
    asked = Asked(operation_id=operation.operation_id, kind=operation.kind, times=times)
    return evolve(tenant, asked=asked.with_time(run.source, run.sent_at))


def _unseen(tenant_id: str, snapshot: Snapshot) -> TenantRecord:
    return TenantRecord(tenant_id=tenant_id, state=None, changed_at=snapshot.now)
