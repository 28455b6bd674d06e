"""The ledger's items as plain values: runs, operations, tenants, jobs, payloads.

Each is one item under one `key`. `version` is how often it was written; 0 is an item that
doesn't exist yet. A write names the version that its decision has read, so none overwrites
an unseen change; and fields that a newer release wrote are written back.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import attrs

from orchestrator.core.errors import Cancelled
from orchestrator.core.events.event_types import Kind
from orchestrator.core.evolve import evolve
from orchestrator.core.identifiers import start_key
from orchestrator.core.ledger.lifecycle import FAILED_STATES, NO_STATE, StateName, TenantState
from orchestrator.core.ledger.record_parts import (
    MAX_PAST_REASON,
    MAX_STARTS,
    SPARSE,
    Asked,
    Awaited,
    Failure,
    Job,
    OperationState,
    PastAttempt,
    PastStart,
    Pauses,
    Report,
    Step,
    Stored,
    Waiter,
    WaitKind,
    WebhookCredentials,
)
from orchestrator.core.texts import shorten

#: The maximum number of characters of the name of who replayed or cancelled.
MAX_NAME = 200


class RunStatus(StrEnum):
    """How far a run is. `retry`: it waits and is resumed; `queued`: it hasn't begun."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRY = "retry"
    DUPLICATE = "duplicate"
    #: Its message is in the queue: no attempt has begun.
    QUEUED = "queued"

    @property
    def is_finished(self) -> bool:
        """Whether no attempt runs, and the sweep begins none."""
        return self not in (RunStatus.RUNNING, RunStatus.RETRY, RunStatus.QUEUED)


@attrs.frozen(kw_only=True, slots=False)
class RunRecord(Stored):
    """The durable record of one event being handled.

    `attempt` is the fencing token: a write needs the attempt that its process claimed, and
    no other process takes the run over before `lease_until`. `due_at` is when the sweep resumes it.
    `possible_until` is the last moment at which a start may have been sent whose answer
    is unknown; None: no such start is out. `sent_to` is the builder that it was sent to,
    `sent_job` the job identifier; None: the process crashed before it stored them.
    `operation_id` and `start_number` make the key of its starts; `outcome_of` is the
    operation that it ends. `waits` counts pauses in a row, `bugs` attempts that a bug ended,
    `takeovers` attempts in a row whose process crashed. `ends_by_records`: no attempt is left, and
    its effect on operation and tenant is decided by items of the ledger alone. `sent_at` is the
    event's own time, at the latest that of its receipt. `note` is a sentence about the result,
    `link` leads to its log.

    `earlier` are the attempts before the current one, the last `MAX_ATTEMPTS - 1` of them; `pauses`
    count those between all attempts. `is_replay`: an operator's replay began the current attempt,
    `by` is who that was. `waits_for` is what it waits for. `cancelled_by` is who cancelled the
    operation that it opened or ended.
    """

    run_id: str
    request_key: str
    event_type: str
    source: str
    event_id: str
    event_time: datetime
    sent_at: datetime | None = None
    body_digest: str
    tenant_id: str | None
    status: RunStatus
    attempt: int
    first_seen: datetime
    started_at: datetime
    ended_at: datetime | None = None
    lease_until: datetime | None = None
    due_at: datetime | None = None
    possible_until: datetime | None = None
    sent_to: str | None = None
    sent_job: str | None = None
    waits: int = 0
    bugs: int = 0
    takeovers: int = 0
    ends_by_records: bool = False
    operation_id: str
    start_number: int = 1
    outcome_of: str | None = None
    duplicate_of: str | None = None
    steps: Mapping[str, Step] = attrs.field(factory=dict)
    job: Job | None = None
    note: str | None = None
    link: str | None = None
    error: Failure | None = None
    earlier: tuple[PastAttempt, ...] = attrs.field(metadata=SPARSE, default=())
    pauses: Mapping[WaitKind, Pauses] = attrs.field(metadata=SPARSE, factory=dict)
    is_replay: bool = attrs.field(metadata=SPARSE, default=False)
    by: str | None = attrs.field(metadata=SPARSE, default=None)
    waits_for: Awaited | None = attrs.field(metadata=SPARSE, default=None)
    cancelled_by: str | None = attrs.field(metadata=SPARSE, default=None)
    version: int = 0

    @property
    def key(self) -> str:
        return run_key(self.run_id)

    @property
    def was_cancelled(self) -> bool:
        """Whether an operator cancelled its operation before that began."""
        return self.error is not None and self.error.type == Cancelled.__name__

    @property
    def position(self) -> str:
        """Its position in the order of runs; the id orders those of the same time."""
        return f"{self.first_seen.isoformat(timespec='microseconds')} {self.run_id}"


@attrs.frozen(kw_only=True, slots=False)
class OperationRecord(Stored):
    """A provisioning, deployment, deprovisioning or clean-up of a tenant, until its end.

    `opener` is the run that works on it until its job is known. `start_number` counts its
    openings; a write about one opening never touches the next. `former_state` is the state that the
    tenant returns to when it is given back, and `former_asked` its latest request before. `builder`
    is the one that its request names. `registration_id` is the SaaS Builder Toolkit's id of the
    tenant. `kind` None is a run that is its own operation and holds no tenant.

    `rebuilds` counts how often a newer job under the current start key replaced the recorded one.
    `job_since` is when its job was recorded; `due_at` when the job is next checked
    or, once the operation is over, when its `report` is next sent. `stop_reason` is
    why the job must be stopped, `stops` how many ways of that were answered, each harder than
    the one before, and `stopped_at` when the last of them was. `told_by` is the run of the job's
    last self-report, `outcome` the run that ends the operation. `owed` is the
    report of a provisioning that is left to its deployment, and sent if that never comes. The
    `report` of an operation that was given back is its refusal; it is never sent while the
    operation is open again. `bugs` counts checks and reports that a bug ended, `trouble` is why the
    last one was postponed. `starts` are the last `MAX_STARTS` before the current one. `by` is who
    replayed the run that opened the current start, `cancelled_by` who cancelled it. `traceparent`
    is the span that opened it; None: no traces then.
    """

    operation_id: str
    tenant_id: str | None
    kind: Kind | None
    request_key: str
    opener: str
    state: OperationState
    start_number: int
    opened_at: datetime
    former_state: TenantState | None = None
    former_asked: Asked | None = None
    tier: str | None = None
    builder: str | None = None
    registration_id: str | None = None
    job: Job | None = None
    rebuilds: int = 0
    job_since: datetime | None = None
    due_at: datetime | None = None
    stop_reason: str | None = None
    stops: int = 0
    stopped_at: datetime | None = None
    credentials: WebhookCredentials | None = None
    told_by: str | None = None
    outcome: str | None = None
    ended_at: datetime | None = None
    succeeded: bool | None = None
    reason: str | None = None
    report: Report | None = None
    owed: Report | None = None
    bugs: int = 0
    trouble: str | None = None
    starts: tuple[PastStart, ...] = attrs.field(metadata=SPARSE, default=())
    by: str | None = attrs.field(metadata=SPARSE, default=None)
    cancelled_by: str | None = attrs.field(metadata=SPARSE, default=None)
    traceparent: str | None = attrs.field(metadata=SPARSE, default=None)
    version: int = 0

    @property
    def key(self) -> str:
        return operation_key(self.operation_id)

    @property
    def position(self) -> str:
        """Its position in the order of operations, with the tenant that it holds."""
        opened_at = self.opened_at.isoformat(timespec="microseconds")
        return f"{opened_at} {self.operation_id} {self.tenant_id or ''}"

    @property
    def as_past(self) -> PastStart:
        """Its current start, as it is kept once the next one is opened."""
        return PastStart(
            number=self.start_number,
            opener=self.opener,
            state=self.state,
            opened_at=self.opened_at,
            ended_at=self.ended_at,
            succeeded=self.succeeded,
            reason=shorten(self.reason, MAX_PAST_REASON) if self.reason else None,
            # The request of a dry run's job may be large.
            job=evolve(self.job, request=None) if self.job else None,
            job_since=self.job_since,
            outcome=self.outcome,
            reported_at=self._reported_at,
            by=self.by,
            cancelled_by=self.cancelled_by,
        )

    @property
    def _reported_at(self) -> datetime | None:
        """When the current start's report was done; an earlier start's may have stayed."""
        done_at = self.report.done_at if self.report else None
        return done_at if done_at is not None and done_at >= self.opened_at else None

    @property
    def starts_before_next(self) -> tuple[PastStart, ...]:
        """The starts before the next one."""
        return (*self.starts, self.as_past)[-MAX_STARTS:]

    @property
    def start_key(self) -> str:
        """The key of its current start at the builder: at most 64 characters."""
        return start_key(self.operation_id, self.start_number)

    @property
    def outcome_id(self) -> str:
        """The id of the event that ends its current start by its current job."""
        return f"{self.start_key}/{self.rebuilds}" if self.rebuilds else self.start_key

    @property
    def kept_report(self) -> Report | None:
        """Its report, if it has arrived or may have: that stays when it is opened again. One that
        certainly did not arrive is dropped."""
        report = self.report
        is_unsent = report is None or (report.done_at is None and not report.may_have_arrived)
        return None if is_unsent else report


@attrs.frozen(kw_only=True, slots=False)
class TenantRecord(Stored):
    """A tenant's state, and the operation that holds it.

    `state` None: it had no operation yet. `waiting` is the order of arrival of the runs that wait
    for it, and nothing else: each has its own due time, and an entry whose run no longer waits has
    no effect. `asked` None: unknown. `owes` is the operation whose report is left to the deployment
    that follows. `registration_id` is that of the last operation that ended and had one.
    `last_operation` is the last operation that ended or was given back, `reason` why it failed.
    """

    tenant_id: str
    state: TenantState | None
    changed_at: datetime
    operation_id: str | None = None
    tier: str | None = None
    registration_id: str | None = None
    waiting: tuple[Waiter, ...] = ()
    asked: Asked | None = None
    owes: str | None = None
    last_operation: str | None = attrs.field(metadata=SPARSE, default=None)
    reason: str | None = attrs.field(metadata=SPARSE, default=None)
    version: int = 0

    @property
    def key(self) -> str:
        return tenant_key(self.tenant_id)

    @property
    def state_name(self) -> StateName:
        """Its state, or that it has none."""
        return self.state or NO_STATE

    @property
    def has_failed(self) -> bool:
        """Whether its last operation failed, or none ever began."""
        return self.state is None or self.state in FAILED_STATES


@attrs.frozen(kw_only=True, slots=False)
class JobRecord(Stored):
    """Which operation a builder's job belongs to, and which of its starts."""

    builder: str
    job_id: str
    operation_id: str
    start_number: int = 1
    version: int = 0

    @property
    def key(self) -> str:
        return job_key(self.builder, self.job_id)


@attrs.frozen(kw_only=True, slots=False)
class RegistrationRecord(Stored):
    """Which tenant's request carried a registration (`tenantRegistrationId`)."""

    registration_id: str
    tenant_id: str
    version: int = 0

    @property
    def key(self) -> str:
        return registration_key(self.registration_id)


@attrs.frozen(kw_only=True, slots=False)
class PayloadRecord(Stored):
    """The event as received, packed by `core.ledger.event_codec`; written once, with the claim."""

    run_id: str
    data: bytes
    version: int = 0

    @property
    def key(self) -> str:
        return payload_key(self.run_id)


@attrs.frozen(kw_only=True, slots=False)
class SecretsRecord(Stored):
    """What a store of a `kind` keeps for one start, since `noted_at`; `names` are those of all
    batches.

    `is_closed`: they are being removed, so that the next secret needs a name of another batch.
    `due_at` is when the sweep next checks whether they are needed; None: nothing is stored.
    """

    start_key: str
    operation_id: str
    start_number: int
    run_id: str
    kind: str
    noted_at: datetime
    batch: int = 1
    names: tuple[str, ...] = ()
    is_closed: bool = False
    due_at: datetime | None = None
    version: int = 0

    @property
    def key(self) -> str:
        return secrets_key(self.start_key)


Record = (
    RunRecord
    | OperationRecord
    | TenantRecord
    | JobRecord
    | RegistrationRecord
    | PayloadRecord
    | SecretsRecord
)

#: The items that the sweep handles once they are due.
Due = RunRecord | OperationRecord | SecretsRecord


def run_key(run_id: str) -> str:
    return f"RUN#{run_id}"


def payload_key(run_id: str) -> str:
    return f"PAYLOAD#{run_id}"


def operation_key(operation_id: str) -> str:
    return f"OP#{operation_id}"


def tenant_key(tenant_id: str) -> str:
    return f"TENANT#{tenant_id}"


def job_key(builder: str, job_id: str) -> str:
    return f"JOB#{builder}#{job_id}"


def registration_key(registration_id: str) -> str:
    return f"REGISTRATION#{registration_id}"


def secrets_key(start_key: str) -> str:
    return f"SECRETS#{start_key}"


@attrs.frozen(kw_only=True)
class Progress:
    """What an attempt must record: its steps, and the job that it started."""

    steps: tuple[Step, ...] = ()
    job: Job | None = None

    def __bool__(self) -> bool:
        return bool(self.steps or self.job)

    def followed_by(self, later: "Progress") -> "Progress":
        """This progress, followed by later progress."""
        return Progress(steps=(*self.steps, *later.steps), job=later.job or self.job)
