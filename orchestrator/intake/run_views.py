"""Runs as the routes show them."""

from datetime import datetime

import attrs

from orchestrator.core.errors import PayloadMismatch
from orchestrator.core.ledger.history import current_attempt
from orchestrator.core.ledger.record_parts import (
    AttemptState,
    Awaited,
    Failure,
    Job,
    PastAttempt,
    WaitKind,
)
from orchestrator.core.ledger.records import RunRecord, RunStatus


@attrs.frozen(kw_only=True)
class StepView:
    """A step's name and times; its result is not shown. `recorded_at` is its end; `started_at` is
    null for a step of an earlier release."""

    name: str
    started_at: datetime | None
    recorded_at: datetime


@attrs.frozen(kw_only=True)
class ErrorView:
    """Why the run failed; a bug's traceback is not shown."""

    type: str
    message: str
    errors: list[PayloadMismatch]


@attrs.frozen(kw_only=True)
class AttemptView:
    """An attempt: when it began and ended, and how. `replayed`: an operator's replay began it, `by`
    is the name of who that was, null if unknown."""

    number: int
    started_at: datetime
    ended_at: datetime | None
    how: AttemptState
    reason: str | None
    replayed: bool
    by: str | None


@attrs.frozen(kw_only=True)
class WaitView:
    """How often and how long the run has waited between two attempts, by the kind of wait."""

    kind: WaitKind
    count: int
    seconds: float


@attrs.frozen(kw_only=True)
class RunSummary:
    """A run in a list. `due_at` is when the sweep resumes it, unless a delivery does so before.

    `waits_for` is the operation that it waits for, or the run before it. `by` is who replayed it
    into its current attempt.
    """

    run_id: str
    event_type: str
    tenant_id: str | None
    source: str
    event_id: str
    status: RunStatus
    attempt: int
    first_seen: datetime
    started_at: datetime
    ended_at: datetime | None
    due_at: datetime | None
    operation_id: str
    outcome_of: str | None
    duplicate_of: str | None
    waits_for: Awaited | None
    by: str | None
    note: str | None
    job: Job | None
    error: ErrorView | None


@attrs.frozen(kw_only=True)
class RunView(RunSummary):
    """A run with its steps and its last 20 attempts, the oldest first; `waits` count all pauses
    between its attempts."""

    steps: list[StepView]
    attempts: list[AttemptView]
    waits: list[WaitView]


def summarize_run(run: RunRecord) -> RunSummary:
    return RunSummary(
        run_id=run.run_id,
        event_type=run.event_type,
        tenant_id=run.tenant_id,
        source=run.source,
        event_id=run.event_id,
        status=run.status,
        attempt=run.attempt,
        first_seen=run.first_seen,
        started_at=run.started_at,
        ended_at=run.ended_at,
        due_at=run.due_at,
        operation_id=run.operation_id,
        outcome_of=run.outcome_of,
        duplicate_of=run.duplicate_of,
        waits_for=run.waits_for,
        by=run.by,
        note=run.note,
        job=run.job,
        error=None if run.error is None else _error(run.error),
    )


def view_run(run: RunRecord) -> RunView:
    return RunView(
        **attrs.asdict(summarize_run(run), recurse=False),
        steps=view_steps(run),
        attempts=view_attempts(run),
        waits=[
            WaitView(kind=kind, count=pauses.count, seconds=pauses.seconds)
            for kind, pauses in run.pauses.items()
        ],
    )


def view_steps(run: RunRecord) -> list[StepView]:
    return [
        StepView(name=step.name, started_at=step.started_at, recorded_at=step.recorded_at)
        for step in run.steps.values()
    ]


def view_attempts(run: RunRecord) -> list[AttemptView]:
    """The run's last attempts, the oldest first; none if no attempt has begun."""
    return list(map(_attempt, [*run.earlier, current_attempt(run)])) if run.attempt else []


def reason_of(run: RunRecord) -> str | None:
    """Why the run failed or waits, or its result."""
    return run.error.message if run.error else run.note


def _attempt(attempt: PastAttempt) -> AttemptView:
    return AttemptView(
        number=attempt.number,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        how=attempt.state,
        reason=attempt.reason,
        replayed=attempt.is_replay,
        by=attempt.by,
    )


def _error(error: Failure) -> ErrorView:
    return ErrorView(type=error.type, message=error.message, errors=list(error.errors))
