"""What the watch of the ledger's model test sees: builds, workers, and the facts in records."""

from datetime import datetime
from enum import StrEnum, auto
from typing import Protocol

import attrs

from orchestrator.core.jobs.job_description import JobStatus
from orchestrator.core.ledger.record_parts import Job, OperationState
from orchestrator.core.ledger.records import (
    OperationRecord,
    RunRecord,
    TenantRecord,
)


class Names(StrEnum):
    """What a report names besides the tenant."""

    JOB = auto()
    START = auto()
    OPERATION = auto()
    NOTHING = auto()


@attrs.frozen
class Report:
    """The report that an outcome event was made from."""

    names: Names
    job_id: str
    start_key: str


#: The id of a job that runs again after its end was claimed, and how often it has begun to run.
Stray = tuple[str, int]


class SomeBuild(Protocol):
    job: Job
    start_key: str
    status: JobStatus
    is_forgotten: bool
    is_rebuild: bool
    is_stray: bool
    was_stray: bool
    runs: int

    @property
    def is_running(self) -> bool: ...


class SomeWorker(Protocol):
    def now(self) -> datetime: ...


def is_only_put_off(old: RunRecord, new: RunRecord) -> bool:
    """The run is due later, with a reason, and is otherwise unchanged."""
    is_later = new.due_at is not None and old.due_at is not None and new.due_at > old.due_at
    return is_later and new == attrs.evolve(old, due_at=new.due_at, waits=new.waits, note=new.note)


def is_secured(operation: OperationRecord | None) -> bool:
    return operation is not None and (
        operation.job is not None or operation.state is OperationState.OVER
    )


def start_key_of(of: RunRecord | OperationRecord) -> str:
    return f"{of.operation_id}-{of.start_number}"


def in_words(record: RunRecord | OperationRecord | TenantRecord) -> str:
    match record:
        case RunRecord():
            job = f", job {record.job.id}" if record.job else ""
            possible = (
                f", possible {record.possible_until:%H:%M:%S}" if record.possible_until else ""
            )
            why = (
                f" ({record.error.message})"
                if record.error
                else f" ({record.note})"
                if record.note
                else ""
            )
            at = f"{record.event_type} {record.event_id} attempt {record.attempt}"
            return f"run {at}: {record.status}{job}{possible}{why}"
        case OperationRecord():
            job = f", job {record.job.id}" if record.job else ""
            outcome = f", outcome {record.outcome[:4]}" if record.outcome else ""
            at = f"{record.kind} {record.operation_id[:4]}-{record.start_number}"
            return f"operation {at}: {record.state}{job}{outcome}"
        case TenantRecord():
            held = f", held by {record.operation_id[:4]}" if record.operation_id else ""
            return f"tenant {record.tenant_id}: {record.state}{held}"
