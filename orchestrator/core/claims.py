"""The claim: an event's run is taken in hand, with what it opens or ends, in one write.

A plain function of a view: it says what to write and what is then true. `core.books` carries
it out. It never waits, and it never looks at how an event came.
"""

from collections.abc import Mapping
from datetime import timedelta
from enum import Enum, auto
from typing import Any

import attrs

from orchestrator.core.conditions import (
    Terms,
    is_claimable,
    is_due,
    is_free,
    is_secured,
    is_unseen,
    last_possible_send,
    may_open,
)
from orchestrator.core.events import Event, digest
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
    operation_key,
    payload_key,
    run_key,
    tenant_key,
)
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


def operation_id(tenant_id: str, kind: Kind, request_key: str) -> str:
    """40 hexadecimal characters: the same for each request of the same thing."""
    return digest(tenant_id, kind, request_key)


def is_operation_id(text: str) -> bool:
    """Whether `operation_id` may have made it."""
    return len(text) == 40 and text.isalnum() and text.isascii()


def own_operation_id(request_key: str) -> str:
    """What the starts of a run are known by that opens no operation."""
    return digest("run", request_key)


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
        is_new = _is_new_event(earlier, request, view, terms)
        if is_done and request.why is Why.REPLAY:
            return Move((), NeedsForce(earlier))
        if is_done and request.why is Why.DELIVERY and not is_new:
            return Move((), Duplicate(earlier.duplicate_of or earlier.run_id))
        forced = is_done and request.why is Why.FORCED_REPLAY
        run = _as_new_event(earlier, view) if is_new else earlier
        run = _afresh(run) if forced else run
    run = attrs.evolve(_next_attempt(run, view, terms), link=request.link or run.link)
    decision = _Decision(view, request, earlier, run, forced=forced, is_new=is_new)
    if request.reports:
        return decision.report(request.reports)
    if request.tenant_id and request.opens:
        return decision.open(request.tenant_id, request.opens)
    return decision.work_alone()


def new_run(event: Event[Mapping[str, Any]], tenant_id: str | None, view: View) -> RunRecord:
    """The run of an event that was never seen: nobody has tried it, and it is due at once."""
    return RunRecord(
        run_id=event.key,
        request_key=event.key,
        event_type=event.type,
        source=event.source,
        event_id=event.id,
        event_time=event.time,
        body_digest=event.body_digest,
        tenant_id=tenant_id,
        status=RunStatus.RETRY,
        attempt=0,
        first_seen=view.now,
        started_at=view.now,
        due_at=view.now,
        operation_id=own_operation_id(event.key),
    )


def kept(view: View, payload: PayloadRecord) -> PayloadRecord:
    """The payload of a new run; one of a run that has expired before it is written over."""
    view.guess_absent(payload.key)
    former = view.payload(payload.run_id)
    return attrs.evolve(payload, version=former.version if former else 0)


def leased(run: RunRecord, view: View, terms: Terms) -> RunRecord:
    """The run, held from now on for one lease; due when the lease is over."""
    until = view.now + timedelta(seconds=terms.lease_s)
    return attrs.evolve(run, lease_until=until, due_at=until + timedelta(seconds=terms.skew_s))


def ended(run: RunRecord, status: RunStatus, view: View) -> RunRecord:
    """The run after its attempt, with nothing due."""
    return attrs.evolve(run, status=status, ended_at=view.now, lease_until=None, due_at=None)


def _next_attempt(run: RunRecord, view: View, terms: Terms) -> RunRecord:
    return attrs.evolve(
        leased(run, view, terms),
        status=RunStatus.RUNNING,
        attempt=run.attempt + 1,
        started_at=view.now,
        ended_at=None,
        possible_until=None if run.job else last_possible_send(run),
        duplicate_of=None,
        note=None,
        error=None,
    )


def _is_new_event(run: RunRecord, request: ClaimRequest, view: View, terms: Terms) -> bool:
    """Content that was seen so long ago that it counts as new; what is unfinished goes on."""
    window = timedelta(seconds=terms.dedupe_window_s)
    return (
        request.why is Why.DELIVERY
        and request.event.identified_by_content
        and run.status.is_finished
        and run.first_seen + window <= view.now
    )


def _as_new_event(run: RunRecord, view: View) -> RunRecord:
    request_key = digest(run.run_id, view.now.isoformat())
    return attrs.evolve(
        _afresh(run),
        request_key=request_key,
        first_seen=view.now,
        operation_id=own_operation_id(request_key),
        start_number=1,
        outcome_of=None,
    )


def _afresh(run: RunRecord) -> RunRecord:
    """Nothing is remembered of what it did; the next start is another one."""
    return attrs.evolve(
        run,
        steps={},
        job=None,
        possible_until=None,
        waits=0,
        bugs=0,
        start_number=run.start_number + 1,
    )


def _later(new: Credentials | None, old: Credentials | None) -> Credentials | None:
    if new is None or (old is not None and new.as_of <= old.as_of):
        return old
    return new


@attrs.frozen
class _Decision:
    """The claim of one run, of which everything but its operation is settled."""

    view: View
    request: ClaimRequest
    earlier: RunRecord | None
    run: RunRecord
    forced: bool = attrs.field(kw_only=True)
    is_new: bool = attrs.field(kw_only=True)

    def work_alone(self) -> Move[Claim]:
        return self._hand_out(self.run)

    def open(self, tenant_id: str, kind: Kind) -> Move[Claim]:
        """The event asks for an operation: open it, go on with it, or join it."""
        wanted = operation_id(tenant_id, kind, self.request.request_key or self.run.request_key)
        run = attrs.evolve(self.run, operation_id=wanted)
        operation = self.view.operation(wanted)
        insists = self.request.why is Why.FORCED_REPLAY
        if operation is None or operation.state is OperationState.GIVEN_BACK:
            return self._open_next(run, operation, tenant_id, kind)
        if operation.state is OperationState.OVER and insists:
            return self._reopen(run, operation, tenant_id, kind)
        if self.forced:
            return Move((), Waits(run.run_id, f"The {kind} of run {operation.opener} goes on."))
        if operation.opener == run.run_id and not self.is_new:
            return self._go_on(run, operation)
        return self._join(run, operation)

    def _open_next(
        self, run: RunRecord, former: OperationRecord | None, tenant_id: str, kind: Kind
    ) -> Move[Claim]:
        """The tenant's next operation, unless another one holds it or it stands elsewhere."""
        tenant = self.view.tenant(tenant_id)
        if tenant is not None and tenant.operation_id is not None:
            holder = self.view.operation(tenant.operation_id)
            if holder is not None and holder.kind is kind:
                return self._join(run, holder)
            busy_with = holder.kind if holder else tenant.state
            return self._wait(run, f"The tenant {tenant_id} is busy with its {busy_with}.")
        if not may_open(kind, tenant) and self.request.why is not Why.FORCED_REPLAY:
            state = tenant.state if tenant else None
            return self._refuse(run, f"tenant is already {state}; replay with force")
        return self._open(run, former, tenant, tenant_id, kind)

    def _reopen(
        self, run: RunRecord, over: OperationRecord, tenant_id: str, kind: Kind
    ) -> Move[Claim]:
        """An operator insists on what is over: its next start, once its opener is at rest.

        opener ─ running, its send under way ········ build
        replay ───────────────── next start ✗ a second build beside it
        """
        tenant = self.view.tenant(tenant_id)
        opener = self.earlier if over.opener == run.run_id else self.view.run(over.opener)
        at_rest = opener is None or opener.status.is_finished
        if not at_rest or not is_free(tenant):
            return Move((), Waits(run.run_id, f"The tenant {tenant_id} is not at rest yet."))
        return self._open(_afresh(run), over, tenant, tenant_id, kind)

    def _open(
        self,
        run: RunRecord,
        former: OperationRecord | None,
        tenant: TenantRecord | None,
        tenant_id: str,
        kind: Kind,
    ) -> Move[Claim]:
        opened, held = self._opened(run.operation_id, former, tenant, tenant_id, kind)
        # What an earlier opening left behind is none of this one's business.
        run = attrs.evolve(run, start_number=opened.start_number, job=None, possible_until=None)
        return self._hand_out(run, opened, held)

    def _opened(
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

    def _go_on(self, run: RunRecord, operation: OperationRecord) -> Move[Claim]:
        """The run that opened it comes again."""
        run = attrs.evolve(
            run,
            start_number=operation.start_number,
            job=operation.job,
            possible_until=None if operation.job else run.possible_until,
        )
        return self._hand_out(run, stop_reason=operation.stop_reason)

    def _join(self, run: RunRecord, operation: OperationRecord) -> Move[Claim]:
        """A second request for what another run has opened."""
        if operation.opener == run.run_id and operation.state is not OperationState.GIVEN_BACK:
            # Old content counts as new, but what it asked for then is not over: nothing is new.
            return Move((), Duplicate(run.run_id))
        if not is_secured(operation):
            return self._wait(run, f"Run {operation.opener} is opening the same operation.")
        joined = attrs.evolve(run, operation_id=operation.operation_id)
        newer = _later(self.request.credentials, operation.credentials)
        if newer is operation.credentials or operation.state is not OperationState.OPEN:
            return self._duplicate(joined, operation.opener)
        return self._duplicate(joined, operation.opener, attrs.evolve(operation, credentials=newer))

    def report(self, outcome: Outcome) -> Move[Claim]:
        """The event says that an operation ended; the tenant stays held until it is settled."""
        run, tenant_id = self.run, self.request.tenant_id
        mine = self.view.operation(run.outcome_of) if run.outcome_of else None
        is_given_back = mine is not None and mine.state is OperationState.GIVEN_BACK
        if mine is not None and mine.outcome == run.run_id and not is_given_back:
            return self._hand_out(run)
        if tenant_id is None:
            return self._note(run, "It names no tenant, and no job of ours.")
        tenant = self.view.tenant(tenant_id)
        if tenant is None or is_unseen(tenant):
            return self._take_over(run, tenant, tenant_id, outcome.ending.kind)
        operation = self._reported(tenant, outcome)
        if operation is None:
            return self._note(run, "It ends no operation of this tenant.")
        run = attrs.evolve(run, outcome_of=operation.operation_id)
        if operation.state is not OperationState.OPEN:
            if operation.outcome is None:
                return self._note(run, "The operation was over already.")
            return self._duplicate(run, operation.outcome)
        for other_id in (operation.outcome, None if operation.job else operation.opener):
            other = self.view.run(other_id) if other_id else None
            if other is not None and not other.status.is_finished:
                return self._wait(run, f"Run {other.run_id} is at work on the operation.")
        if operation.job is not None and operation.job.builder in outcome.outranked_by:
            return self._hear(run, operation, outcome)
        return self._hand_out(run, attrs.evolve(operation, outcome=run.run_id))

    def _take_over(
        self, run: RunRecord, tenant: TenantRecord | None, tenant_id: str, kind: Kind
    ) -> Move[Claim]:
        """The tenant existed before the ledger did: what the event says is all there is."""
        wanted = operation_id(tenant_id, kind, self.request.request_key or run.request_key)
        former = self.view.operation(wanted)
        opened, held = self._opened(wanted, former, tenant, tenant_id, kind)
        run = attrs.evolve(run, outcome_of=wanted)
        return self._hand_out(run, attrs.evolve(opened, outcome=run.run_id), held)

    def _hear(self, run: RunRecord, operation: OperationRecord, outcome: Outcome) -> Move[Claim]:
        """What a job says of itself is kept; its builder is asked at once, and has the last word.

        job     ─ "success" ── last command ✗
        builder ────────────────────────────── FAILED
        """
        heard = attrs.evolve(
            operation,
            told_by=run.run_id,
            due_at=self.view.now,
            credentials=operation.credentials or self.request.credentials,
        )
        said = "success" if outcome.ending.succeeded else "failure"
        note = f"The job reports {said}; it counts once the builder says that the job is over."
        return self._note(run, note, heard)

    def _reported(self, tenant: TenantRecord, outcome: Outcome) -> OperationRecord | None:
        """The operation that the event names, else the one under way."""
        job = self.view.job(*outcome.job) if outcome.job else None
        named = job.operation_id if job else outcome.operation_id
        if outcome.job and named is None:
            return None  # of a job that is nobody's here
        wanted = named or tenant.operation_id
        found = self.view.operation(wanted) if wanted else None
        if found is None or found.kind is not outcome.ending.kind:
            return None
        is_anothers = outcome.job and found.job and not found.job.is_same_as(*outcome.job)
        number = job.start_number if job else outcome.start_number
        is_of_another_start = number not in (None, found.start_number)
        if is_anothers or is_of_another_start or found.tenant_id != tenant.tenant_id:
            return None
        return found

    def _hand_out(
        self, run: RunRecord, *others: Record, stop_reason: str | None = None
    ) -> Move[Claim]:
        return Move((run, *self._payload, *others), Claimed(run, stop_reason))

    def _wait(self, run: RunRecord, reason: str) -> Move[Claim]:
        if self.request.why is Why.FORCED_REPLAY:
            # Kept, it would be tried again without the force that it needs.
            return Move((), Waits(run.run_id, reason))
        due = self.view.now + timedelta(seconds=BUSY_PAUSE_S)
        waiting = attrs.evolve(ended(run, RunStatus.RETRY, self.view), due_at=due, note=reason)
        return Move((waiting, *self._payload), Waits(run.run_id, reason))

    def _refuse(self, run: RunRecord, reason: str) -> Move[Claim]:
        refused = attrs.evolve(
            ended(run, RunStatus.FAILED, self.view),
            error=Failure(type="NotAllowed", message=reason),
        )
        return Move((refused, *self._payload), Refused(run.run_id, reason))

    def _note(self, run: RunRecord, note: str, *others: OperationRecord) -> Move[Claim]:
        noted = attrs.evolve(ended(run, RunStatus.SUCCEEDED, self.view), note=note)
        look_at = others[0].operation_id if others else None
        return Move((noted, *self._payload, *others), Noted(run.run_id, look_at))

    def _duplicate(self, run: RunRecord, of: str, *others: Record) -> Move[Claim]:
        duplicate = attrs.evolve(ended(run, RunStatus.DUPLICATE, self.view), duplicate_of=of)
        return Move((duplicate, *self._payload, *others), Duplicate(of))

    @property
    def _payload(self) -> tuple[Record, ...]:
        """It is written once, with the run's first claim."""
        return () if self.earlier else (kept(self.view, self.request.payload),)
