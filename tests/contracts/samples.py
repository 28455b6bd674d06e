"""Records to be kept: of every type, as full and as bare as they can be."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar

import attrs

from orchestrator.core.errors import PayloadMismatch
from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.record_parts import (
    Asked,
    AttemptState,
    Awaited,
    Failure,
    Job,
    OperationState,
    PastAttempt,
    PastStart,
    Pauses,
    Report,
    ReportTry,
    Step,
    Waiter,
    WaitKind,
    WebhookCredentials,
)
from orchestrator.core.ledger.records import (
    JobRecord,
    OperationRecord,
    PayloadRecord,
    Record,
    RegistrationRecord,
    RunRecord,
    RunStatus,
    SecretsRecord,
    TenantRecord,
)

Kept = TypeVar("Kept", bound=Record)

NOW = datetime(2026, 11, 20, 9, 14, 3, 123456, tzinfo=UTC)
#: Letters of several planes, quotes, controls, and the marks that keys and JSON are made of.
TEXT = 'Ünïcode 😀 漢字 \u0000\u001f\u2028 "#~\\/\u200d '
DEEP: Any = {
    "list": [1, 1.5, -0.1, None, True, False, TEXT, [], {}, [[[{"a": [{}]}]]]],
    "": {TEXT: TEXT},
    "large": [2**53, -(2**63), 1e300, 1e-300],
}
JOB = Job(
    id="build:1",
    builder="CODE_BUILD",
    job_identifier="build",
    log_url="https://logs/1?é",
    request=DEEP,
)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def kept(record: Kept) -> Kept:
    """The record as it stands once it was written."""
    return attrs.evolve(record, version=record.version + 1)


def run(run_id: str = "run-1", **fields: Any) -> RunRecord:
    required: dict[str, Any] = {
        "request_key": "request-1",
        "event_type": "ORDER",
        "source": "shop",
        "event_id": "event-1",
        "event_time": NOW,
        "body_digest": "digest",
        "tenant_id": "tenant-1",
        "status": RunStatus.RUNNING,
        "attempt": 1,
        "first_seen": NOW,
        "started_at": NOW,
        "operation_id": "operation-1",
    }
    return RunRecord(run_id=run_id, **(required | fields))


def operation(operation_id: str = "operation-1", **fields: Any) -> OperationRecord:
    required: dict[str, Any] = {
        "tenant_id": "tenant-1",
        "kind": Kind.PROVISIONING,
        "request_key": "request-1",
        "opener": "run-1",
        "state": OperationState.OPEN,
        "start_number": 1,
        "opened_at": NOW,
    }
    return OperationRecord(operation_id=operation_id, **(required | fields))


def tenant(tenant_id: str = "tenant-1", **fields: Any) -> TenantRecord:
    required: dict[str, Any] = {"state": TenantState.ACTIVE, "changed_at": NOW}
    return TenantRecord(tenant_id=tenant_id, **(required | fields))


def job(job_id: str = "build:1", **fields: Any) -> JobRecord:
    required: dict[str, Any] = {"builder": "CODE_BUILD", "operation_id": "operation-1"}
    return JobRecord(job_id=job_id, **(required | fields))


def registration(registration_id: str = "registration-1", **fields: Any) -> RegistrationRecord:
    required: dict[str, Any] = {"tenant_id": "tenant-1"}
    return RegistrationRecord(registration_id=registration_id, **(required | fields))


def secrets(start_key: str = "operation-1-1", **fields: Any) -> SecretsRecord:
    required: dict[str, Any] = {
        "operation_id": "operation-1",
        "start_number": 1,
        "run_id": "run-1",
        "kind": "SECRETS_MANAGER",
        "noted_at": NOW,
    }
    return SecretsRecord(start_key=start_key, **(required | fields))


ASKED = Asked(
    operation_id="operation-0",
    kind=Kind.DEPROVISIONING,
    times={TEXT: later(-3), "shop": later(-1.000001)},
)
FULL: tuple[Record, ...] = (
    run(
        "full",
        source=TEXT,
        event_id=TEXT,
        event_time=NOW.astimezone(timezone(timedelta(hours=-5, minutes=-30))),
        tenant_id=TEXT,
        status=RunStatus.FAILED,
        attempt=7,
        started_at=later(1e-6),
        ended_at=later(2),
        lease_until=later(60),
        due_at=later(61.000001),
        possible_until=later(62),
        sent_to=TEXT,
        sent_job=TEXT,
        waits=3,
        bugs=2,
        takeovers=5,
        ends_by_records=True,
        sent_at=later(-7),
        start_number=4,
        outcome_of="operation-2",
        duplicate_of="run-0",
        steps={
            name: Step(name=name, result=DEEP, started_at=later(-1), recorded_at=NOW)
            for name in ("one", TEXT)
        },
        job=JOB,
        note=TEXT,
        link=TEXT,
        error=Failure(
            type="X",
            message=TEXT,
            errors=(PayloadMismatch("$.a", TEXT), PayloadMismatch("$['é']", "")),
            traceback="line 1\nline 2",
        ),
        earlier=(
            PastAttempt(
                number=5, started_at=NOW, ended_at=later(1), state=AttemptState.RETRY, reason=TEXT
            ),
            PastAttempt(
                number=6,
                started_at=later(2),
                ended_at=None,
                state=AttemptState.LEASE_EXPIRED,
                is_replay=True,
                by=TEXT,
            ),
        ),
        pauses={
            WaitKind.TENANT: Pauses(count=3, seconds=45.25),
            WaitKind.CRASH: Pauses(count=1, seconds=0.0),
        },
        is_replay=True,
        by=TEXT,
        waits_for=Awaited(operation_id="operation-3", run_id="run-3"),
        cancelled_by=TEXT,
    ),
    operation(
        "full",
        state=OperationState.OVER,
        start_number=3,
        former_state=TenantState.PROVISIONED,
        former_asked=ASKED,
        tier="PREMIUM",
        builder=TEXT,
        registration_id=TEXT,
        job=JOB,
        job_since=later(0.5),
        due_at=later(4.000001),
        stop_reason=TEXT,
        credentials=WebhookCredentials(secret=TEXT, context=TEXT, as_of=later(1)),
        told_by="run-3",
        rebuilds=1,
        stops=2,
        stopped_at=later(2),
        outcome="run-2",
        ended_at=later(3),
        succeeded=False,
        reason=TEXT,
        report=Report(
            url=TEXT,
            body={"data": DEEP},
            tries=3,
            may_have_arrived=True,
            done_at=later(5),
            trouble=TEXT,
            recent=(ReportTry(at=later(4)), ReportTry(at=later(4.5), answer="503")),
        ),
        owed=Report(url=TEXT, body={"data": DEEP}),
        bugs=4,
        trouble=TEXT,
        starts=(
            PastStart(
                number=1,
                opener="run-0",
                state=OperationState.GIVEN_BACK,
                opened_at=NOW,
                ended_at=later(1),
            ),
            PastStart(
                number=2,
                opener="run-1",
                state=OperationState.OVER,
                opened_at=later(2),
                ended_at=later(3),
                succeeded=False,
                reason=TEXT,
                job=JOB,
                job_since=later(2.5),
                outcome="run-2",
                reported_at=later(4),
                by=TEXT,
                cancelled_by=TEXT,
            ),
        ),
        by=TEXT,
        cancelled_by=TEXT,
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    tenant(
        TEXT,
        operation_id="operation-1",
        tier=TEXT,
        registration_id=TEXT,
        waiting=(Waiter(run_id=TEXT, kind=Kind.DEPLOYMENT), Waiter(run_id="2", kind=Kind.CLEAN_UP)),
        asked=ASKED,
        owes="operation-2",
        last_operation="operation-3",
        reason=TEXT,
    ),
    job(TEXT, start_number=3),
    registration(TEXT, tenant_id=TEXT),
    PayloadRecord(run_id="full", data=bytes(range(256))),
    secrets(TEXT, batch=3, names=(TEXT, "/p/a"), is_closed=True, due_at=later(6)),
)
BARE: tuple[Record, ...] = (
    run(
        "bare",
        tenant_id=None,
        steps={"nothing": Step(name="nothing", result=None, recorded_at=NOW)},
    ),
    operation("bare", tenant_id=None, kind=None),
    tenant("bare", state=None),
    job(""),
    registration(""),
    PayloadRecord(run_id="bare", data=b""),
    secrets("bare"),
)
#: One item for each value of an enumeration.
VALUES: tuple[Record, ...] = (
    *(run(f"run-{status}", status=status) for status in RunStatus),
    *(operation(f"operation-{kind}", kind=kind) for kind in Kind),
    *(operation(f"operation-{state}", state=state) for state in OperationState),
    *(tenant(f"tenant-{state}", state=state) for state in TenantState),
)
