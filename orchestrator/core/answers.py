"""A claim and its answers: what is asked, what can be said to it, and what is then kept."""

from collections.abc import Mapping
from datetime import timedelta
from enum import Enum, auto
from typing import Any

import attrs

from orchestrator.core.events import Event
from orchestrator.core.lifecycle import MOVES, Ending, Kind
from orchestrator.core.records import (
    Credentials,
    Failure,
    OperationRecord,
    OperationState,
    PayloadRecord,
    Record,
    RunRecord,
    RunStatus,
    TenantRecord,
    operation_id,
    operation_key,
    payload_key,
    run_key,
    tenant_key,
)
from orchestrator.core.runs import ended, kept
from orchestrator.core.views import Move, View

#: How long a run that waits for another one's work is left alone, in seconds.
BUSY_PAUSE_S = 15.0


class Why(Enum):
    """What brings a run to be claimed."""

    DELIVERY = auto()
    SWEEP = auto()
    REPLAY = auto()
    FORCED_REPLAY = auto()


@attrs.frozen(kw_only=True)
class Outcome:
    """What an event reports: how an operation ended, and which; by job, or by operation.

    `outranked_by` are the builders whose own word on a job counts instead of the event's.
    """

    ending: Ending
    job: tuple[str, str] | None = None
    operation_id: str | None = None
    start_number: int | None = None
    outranked_by: frozenset[str] = frozenset()


@attrs.frozen(kw_only=True)
class ClaimRequest:
    """An event that wants to be handled, and what the claim needs to know of it.

    `request_key` is the one that the payload names, None for the event's own. `follows` is
    the operation that the event names as the one before; `link` is where its cause is seen.
    """

    event: Event[Mapping[str, Any]]
    payload: PayloadRecord
    tenant_id: str | None
    why: Why = Why.DELIVERY
    opens: Kind | None = None
    reports: Outcome | None = None
    request_key: str | None = None
    tier: str | None = None
    credentials: Credentials | None = None
    follows: str | None = None
    link: str | None = None

    @property
    def likely_absent(self) -> tuple[str, ...]:
        """What isn't there when the event is new: guessed, its claim costs one request."""
        keys = [run_key(self.event.key), payload_key(self.event.key)]
        if self.opens and self.tenant_id:
            wanted = operation_id(self.tenant_id, self.opens, self.request_key or self.event.key)
            keys += [operation_key(wanted), tenant_key(self.tenant_id)]
        return tuple(keys)


@attrs.frozen
class Claimed:
    """The run is ours to work on; with a `stop_reason` only to its end."""

    run: RunRecord
    stop_reason: str | None = None


@attrs.frozen
class Duplicate:
    """The event, or what it asks for, was handled by the run `run_id`."""

    run_id: str


@attrs.frozen
class InOtherHands:
    """The event is being handled right now."""

    run: RunRecord


@attrs.frozen
class Waits:
    """The run is kept, to be tried again after the pause."""

    run_id: str
    reason: str
    pause_s: float = BUSY_PAUSE_S


@attrs.frozen
class Refused:
    """The run is kept as failed: the event is not allowed where the tenant stands."""

    run_id: str
    reason: str


@attrs.frozen
class Noted:
    """The run is kept as succeeded: there was nothing to do, or, with an `operation_id`,
    nothing but to ask its builder how the job stands."""

    run_id: str
    operation_id: str | None = None


@attrs.frozen
class BodyDiffers:
    """The event key was used before, with another business body."""

    run: RunRecord


@attrs.frozen
class NotDue:
    """The sweep came too early, or somebody was quicker."""


@attrs.frozen
class NeedsForce:
    """What is over is replayed only if somebody insists."""

    run: RunRecord


#: Why the run isn't ours to work on.
Unclaimed = Duplicate | InOtherHands | Waits | Refused | Noted | BodyDiffers | NotDue | NeedsForce
Claim = Claimed | Unclaimed


@attrs.frozen
class Claiming:
    """One claim in the making: of its run everything is settled but its operation."""

    view: View
    request: ClaimRequest
    earlier: RunRecord | None
    run: RunRecord
    forced: bool = attrs.field(kw_only=True)
    is_new: bool = attrs.field(kw_only=True)

    def hand_out(
        self, run: RunRecord, *others: Record, stop_reason: str | None = None
    ) -> Move[Claim]:
        return Move((run, *self._payload, *others), Claimed(run, stop_reason))

    def wait(self, run: RunRecord, reason: str) -> Move[Claim]:
        if self.request.why is Why.FORCED_REPLAY:
            # Kept, it would be tried again without the force that it needs.
            return Move((), Waits(run.run_id, reason))
        due = self.view.now + timedelta(seconds=BUSY_PAUSE_S)
        waiting = attrs.evolve(ended(run, RunStatus.RETRY, self.view), due_at=due, note=reason)
        return Move((waiting, *self._payload), Waits(run.run_id, reason))

    def refuse(self, run: RunRecord, reason: str) -> Move[Claim]:
        refused = attrs.evolve(
            ended(run, RunStatus.FAILED, self.view),
            error=Failure(type="NotAllowed", message=reason),
        )
        return Move((refused, *self._payload), Refused(run.run_id, reason))

    def note(self, run: RunRecord, note: str, *others: OperationRecord) -> Move[Claim]:
        noted = attrs.evolve(ended(run, RunStatus.SUCCEEDED, self.view), note=note)
        look_at = others[0].operation_id if others else None
        return Move((noted, *self._payload, *others), Noted(run.run_id, look_at))

    def duplicate(self, run: RunRecord, of: str, *others: Record) -> Move[Claim]:
        duplicate = attrs.evolve(ended(run, RunStatus.DUPLICATE, self.view), duplicate_of=of)
        return Move((duplicate, *self._payload, *others), Duplicate(of))

    def opened(
        self,
        operation_id: str,
        former: OperationRecord | None,
        tenant: TenantRecord | None,
        tenant_id: str,
        kind: Kind,
    ) -> tuple[OperationRecord, TenantRecord]:
        """The operation under its next start number, and the tenant, held by it."""
        run, request = self.run, self.request
        opened = OperationRecord(
            operation_id=operation_id,
            tenant_id=tenant_id,
            kind=kind,
            request_key=request.request_key or run.request_key,
            opener=run.run_id,
            state=OperationState.OPEN,
            start_number=former.start_number + 1 if former else 1,
            opened_at=self.view.now,
            former_state=tenant.state if tenant else None,
            tier=request.tier or (tenant.tier if tenant else None),
            credentials=request.credentials or self._credentials_before(kind, tenant_id),
            version=former.version if former else 0,
        )
        held = TenantRecord(
            tenant_id=tenant_id,
            state=MOVES[kind].during,
            changed_at=self.view.now,
            operation_id=operation_id,
            tier=tenant.tier if tenant else None,
            version=tenant.version if tenant else 0,
        )
        return opened, held

    def _credentials_before(self, kind: Kind, tenant_id: str) -> Credentials | None:
        """What a deployment is reported with: it's the end of what the control plane asked for."""
        if kind is not Kind.DEPLOYMENT or self.request.follows is None:
            return None
        before = self.view.operation(self.request.follows)
        return before.credentials if before and before.tenant_id == tenant_id else None

    @property
    def _payload(self) -> tuple[Record, ...]:
        """It is written once, with the run's first claim."""
        return () if self.earlier else (kept(self.view, self.request.payload),)
