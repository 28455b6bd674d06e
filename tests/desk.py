"""A desk for tests of decisions: transactions over a ledger in memory, and events in a word."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import ENDS, OPENS, Kind
from orchestrator.core.identifiers import operation_id as operation_id_of
from orchestrator.core.ledger.claim_request import ClaimRequest, ReportedOutcome, Trigger
from orchestrator.core.ledger.claim_result import ClaimResult
from orchestrator.core.ledger.event_codec import encode_event
from orchestrator.core.ledger.guards import Timings
from orchestrator.core.ledger.lease import RunLease, claim_run
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.operations import Adopted, OrphanedJob, adopt
from orchestrator.core.ledger.possible_start import PossibleStart
from orchestrator.core.ledger.record_parts import Failure, Job, Step, WebhookCredentials
from orchestrator.core.ledger.records import (
    OperationRecord,
    PayloadRecord,
    Progress,
    Record,
    RunRecord,
    RunStatus,
    TenantRecord,
)
from orchestrator.core.ledger.settle import FollowUp, Saved, Settlement, StartUnresolved
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.testing import ManualClock
from tests.ledgers import find_operation, find_run

TENANT = "t-1"
PROVISIONING = "TENANT_PROVISIONING"
PROVISIONED = "TENANT_PROVISIONING_SUCCESS"
NOT_PROVISIONED = "TENANT_PROVISIONING_FAILURE"
DEPLOYMENT = "TENANT_DEPLOYMENT"
DEPROVISIONING = "TENANT_DEPROVISIONING"
DEPROVISIONED = "TENANT_DEPROVISIONING_SUCCESS"
#: An event type that neither opens nor ends anything.
ORDER = "ORDER"
SOURCE = "control-plane"
SENT_AT = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
TIMINGS = Timings(lease_s=60, skew_s=2, listing_lag_s=60, dedupe_window_s=3600)

Answer = ClaimResult | RunLease


class DeskLedger(InMemoryLedger):
    """Counts its requests, and lets a test act right before a commit or fail it."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[str] = []
        self.before_commit: list[Callable[[], Awaitable[object]]] = []
        #: Raised by the next commits, after they have written if `answer_lost`.
        self.failures: list[Exception] = []
        self.answer_lost = False
        #: Writing such an item raises an error that isn't the orchestrator's.
        self.breaks_on: Callable[[Record], bool] = lambda record: False

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        if self.before_commit:
            await self.before_commit.pop(0)()
        self.requests.append("commit")
        if any(map(self.breaks_on, records)):
            raise RuntimeError("hunter2 is no number")
        failure = self.failures.pop(0) if self.failures else None
        if failure is None or self.answer_lost:
            await super().commit(records, unchanged=unchanged)
        if failure is not None:
            raise failure

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        self.requests.append("load")
        return await super().load(keys)

    async def put(self, *records: Record) -> None:
        """Write these items over whatever is stored, like another process."""
        for record in records:
            earlier = self._items.get(record.key)
            version = earlier.version + 1 if earlier else 1
            self._items[record.key] = attrs.evolve(record, version=version)
            self._unsorted.add(record.key)

    def damage_payloads(self) -> None:
        """Damage all stored events, so that none can be unpacked."""
        for key, record in self._items.items():
            if isinstance(record, PayloadRecord):
                self._items[key] = attrs.evolve(record, data=b"damaged")


def possible_until(attempt: RunLease) -> datetime | None:
    """Until when a start that may be out can have been sent; None if no start may be out."""
    return attempt.possible_start.until if attempt.possible_start else None


def settlement(status: RunStatus, options: dict[str, Any]) -> Settlement:
    """A settlement of these options, three of which describe a start that may be out."""
    until = options.pop("possible_until", None)
    to, job = options.pop("sent_to", None), options.pop("sent_job", None)
    if until is not None:
        options["possible_start"] = PossibleStart(until, to, job)
    return Settlement(status=status, **options)


async def adopt_job(
    transactions: Transactions,
    *,
    operation_id: str,
    number: int,
    job: Job,
    run_id: str | None = None,
) -> Adopted | OrphanedJob:
    """Adopt a job for the operation whose start made it, if it still can be."""
    return await transactions.run(
        lambda snapshot: adopt(snapshot, operation_id, number, job, run_id, transactions.timings)
    )


@attrs.define(kw_only=True)
class Desk:
    clock: ManualClock = attrs.field(factory=ManualClock)
    ledger: DeskLedger = attrs.field(factory=DeskLedger)
    timings: Timings = TIMINGS

    @property
    def transactions(self) -> Transactions:
        return Transactions(ledger=self.ledger, clock=self.clock, timings=self.timings)

    def beside(self, *, clock_behind_s: float = 0.0) -> "Desk":
        """Another process over the same ledger."""
        time = self.clock.now() - timedelta(seconds=clock_behind_s)
        return Desk(clock=ManualClock(time), ledger=self.ledger, timings=self.timings)

    def turn(self, seconds: float) -> None:
        self.clock.turn(seconds)

    def later(self, seconds: float) -> datetime:
        return self.clock.now() + timedelta(seconds=seconds)

    def request(
        self,
        event_type: str,
        event_id: str,
        *,
        tenant_id: str | None = TENANT,
        trigger: Trigger = Trigger.DELIVERY,
        key: str | None = None,
        as_of: datetime | None = None,
        tier: str | None = None,
        job: str | None = None,
        operation: str | None = None,
        start_number: int | None = None,
        by_content: bool = False,
        body: Mapping[str, Any] | None = None,
        sent_s: float | None = None,
        source: str = SOURCE,
        builder: str | None = None,
        follows: str | None = None,
        context: str | None = None,
        contradiction: str | None = None,
        registration: str | None = None,
        is_outranked: bool = False,
        by: str | None = None,
    ) -> ClaimRequest:
        """`key` is the request key that the payload names; `as_of` gives it credentials.

        `sent_s` is the event's own time, in seconds after SENT_AT. `is_outranked`: the builder's
        status counts, not the event's.
        """
        sent = event(
            event_type, event_id, by_content=by_content, body=body, sent_s=sent_s, source=source
        )
        ending = ENDS.get(event_type)
        outcome = None
        if ending is not None:
            outcome = ReportedOutcome(
                ending=ending,
                job=("IN_MEMORY", job) if job else None,
                operation_id=operation,
                start_number=start_number,
                context=context,
                registration_id=registration,
                outranked_by=frozenset({"IN_MEMORY"} if is_outranked else ()),
            )
        return ClaimRequest(
            event=sent,
            payload=encode_event(sent),
            tenant_id=tenant_id,
            trigger=trigger,
            opens=OPENS.get(event_type),
            outcome=outcome,
            request_key=key,
            tier=tier,
            builder=builder,
            registration_id=registration if event_type in OPENS else None,
            follows=follows,
            contradiction=contradiction,
            credentials=credentials(event_id, as_of) if as_of else None,
            by=by,
        )

    async def claim(self, event_type: str, event_id: str, **options: Any) -> Answer:
        return await claim_run(self.transactions, self.request(event_type, event_id, **options))

    async def claimed(self, event_type: str, event_id: str, **options: Any) -> RunLease:
        answer = await self.claim(event_type, event_id, **options)
        assert isinstance(answer, RunLease), answer
        return answer

    async def taken_over(self, event_type: str, event_id: str, **options: Any) -> RunLease:
        """The next attempt, once the lease of the one before has expired."""
        self.turn(self.timings.lease_s + self.timings.skew_s)
        return await self.claimed(event_type, event_id, **options)

    async def _settle(
        self, attempt: RunLease, settlement: Settlement
    ) -> OrphanedJob | StartUnresolved | None:
        """Settle; returns why that isn't possible, None if it was settled."""
        outcome = await attempt.settle(settlement)
        return None if isinstance(outcome, Saved) else outcome

    async def finish(
        self, attempt: RunLease, job: Job | None = None, **options: Any
    ) -> OrphanedJob | StartUnresolved | None:
        """Settle it as succeeded."""
        return await self._settle(
            attempt,
            settlement(RunStatus.SUCCEEDED, {"progress": Progress(job=job), **options}),
        )

    async def fail(self, attempt: RunLease, **options: Any) -> OrphanedJob | StartUnresolved | None:
        """Settle it as failed; the operation that it opened is given back."""
        options = {"ends_without_job": True, "error": Failure(type="Oops", message="no"), **options}
        return await self._settle(attempt, settlement(RunStatus.FAILED, options))

    async def hand_back(
        self, attempt: RunLease, *, pause_s: float = 5.0, **options: Any
    ) -> OrphanedJob | StartUnresolved | None:
        return await self._settle(
            attempt, settlement(RunStatus.RETRY, {"pause_s": pause_s, **options})
        )

    async def provision(self, event_id: str = "opener", job_id: str = "b-1") -> RunLease:
        """Provision the tenant with a job that is recorded."""
        attempt = await self.claimed(PROVISIONING, event_id)
        await self.finish(attempt, self.job(job_id))
        return attempt

    async def end(self, event_type: str, event_id: str, **options: Any) -> RunLease:
        """Claim and settle an outcome."""
        attempt = await self.claimed(event_type, event_id, **options)
        await self.finish(attempt, ending=ENDS[event_type])
        return attempt

    async def stand(self, state: TenantState | None, *, tier: str | None = None) -> None:
        """Write the tenant in that state, without an operation."""
        now = self.clock.now()
        await self.ledger.put(
            TenantRecord(tenant_id=TENANT, state=state, changed_at=now, tier=tier)
        )

    def job(self, job_id: str, *, builder: str = "IN_MEMORY") -> Job:
        return Job(id=job_id, builder=builder, job_identifier="standard")

    async def run(self, event_type: str, event_id: str) -> RunRecord:
        run = await find_run(self.ledger, event(event_type, event_id).key)
        assert run is not None
        return run

    async def operation(
        self, key: str | None = None, *, kind: Kind = Kind.PROVISIONING, of: RunLease | None = None
    ) -> OperationRecord:
        """The operation under that request key, or that of an attempt."""
        wanted = of.run.operation_id if of else operation_id(key or "", kind)
        operation = await find_operation(self.ledger, wanted)
        assert operation is not None
        return operation

    async def tenant(self) -> tuple[TenantState | None, str | None]:
        """The tenant's state, and the operation that holds it."""
        tenant = (await self.ledger.load([f"TENANT#{TENANT}"]))[f"TENANT#{TENANT}"]
        assert tenant is None or isinstance(tenant, TenantRecord)
        return (tenant.state, tenant.operation_id) if tenant else (None, None)


def event(
    event_type: str,
    event_id: str,
    *,
    by_content: bool = False,
    body: Mapping[str, Any] | None = None,
    sent_s: float | None = None,
    source: str = SOURCE,
) -> Event[Mapping[str, Any]]:
    content = body if body is not None else {"tenantId": TENANT}
    return Event(
        type=event_type,
        source=source,
        id=event_id,
        time=SENT_AT,
        body=content,
        raw=content,
        payload=content,
        identified_by_content=by_content,
        sent_at=None if sent_s is None else SENT_AT + timedelta(seconds=sent_s),
    )


def run_id(event_type: str, event_id: str) -> str:
    return event(event_type, event_id).key


def operation_id(key: str, kind: Kind = Kind.PROVISIONING) -> str:
    return operation_id_of(TENANT, kind, key)


def credentials(event_id: str, as_of: datetime) -> WebhookCredentials:
    return WebhookCredentials(secret=f"secret of {event_id}", context="context", as_of=as_of)


def follow_up(event_type: str, event_id: str, operation: str) -> FollowUp:
    sent = event(event_type, event_id, body={"tenantId": TENANT, "operationId": operation})
    return FollowUp(event=sent, payload=encode_event(sent), tenant_id=TENANT)


def step(desk: Desk, name: str = "take") -> Step:
    return Step(name=name, result=1, recorded_at=desk.clock.now())


def raising(error: Exception) -> Callable[[], Awaitable[object]]:
    async def act() -> None:
        raise error

    return act


async def let_others_work() -> None:
    """Let other tasks continue until all wait."""
    for _ in range(50):
        await asyncio.sleep(0)


async def pass_time(desk: Desk, *seconds: float) -> None:
    for some in seconds:
        await let_others_work()
        desk.turn(some)
    await let_others_work()
