"""The history of a run: its attempts before the current one, and the pauses between them.

The current attempt is in the run's own fields. It joins the others when the next one begins, so a
run that needs one attempt stores nothing more.
"""

from collections.abc import Mapping
from datetime import datetime

from orchestrator.core.evolve import evolve
from orchestrator.core.ledger.record_parts import (
    MAX_ATTEMPTS,
    MAX_PAST_REASON,
    AttemptState,
    Failure,
    PastAttempt,
    Pauses,
    WaitKind,
)
from orchestrator.core.ledger.records import RunRecord, RunStatus
from orchestrator.core.texts import shorten

#: The message of an attempt that failed outside of its handler.
BROKE_DOWN = "The attempt failed outside of the handler; the log has the cause."


def with_last_attempt(run: RunRecord, now: datetime) -> RunRecord:
    """The run before its next attempt begins, with the last attempt added to its history.

    A run that ends by its records is unchanged, since its item may have no room for more.
    """
    if not run.attempt or run.ends_by_records:
        return run
    earlier = (*run.earlier, _past(run))[1 - MAX_ATTEMPTS :]
    return evolve(run, earlier=earlier, pauses=_count_pause(run, now))


def current_attempt(run: RunRecord) -> PastAttempt:
    """The run's current attempt, as its history will have it; it may still be running."""
    reason = run.error.message if run.error else run.note
    return PastAttempt(
        number=run.attempt,
        started_at=run.started_at,
        ended_at=run.ended_at,
        state=AttemptState(run.status),
        reason=shorten(reason, MAX_PAST_REASON) if reason else None,
        is_replay=run.is_replay,
        by=run.by,
    )


def _past(run: RunRecord) -> PastAttempt:
    current = current_attempt(run)
    if current.state is not AttemptState.RUNNING:
        return current
    return evolve(current, state=AttemptState.LEASE_EXPIRED, ended_at=run.lease_until)


def _count_pause(run: RunRecord, now: datetime) -> Mapping[WaitKind, Pauses]:
    kind, since = _kind_of_pause(run), run.lease_until or run.ended_at
    if kind is None or since is None:
        return run.pauses
    before = run.pauses.get(kind) or Pauses(count=0, seconds=0.0)
    seconds = round(before.seconds + max(0.0, (now - since).total_seconds()), 3)
    counted = evolve(before, count=before.count + 1, seconds=seconds)
    return {**run.pauses, kind: counted}


def _kind_of_pause(run: RunRecord) -> WaitKind | None:
    """Why the run has waited since its last attempt; None: it was over."""
    match run:
        case RunRecord(status=RunStatus.RUNNING):
            return WaitKind.CRASH
        case RunRecord(status=RunStatus.RETRY, waits_for=None):
            return WaitKind.BUG if _is_bug(run.error) else WaitKind.TEMPORARY
        case RunRecord(status=RunStatus.RETRY):
            return WaitKind.TENANT
    return None


def _is_bug(error: Failure | None) -> bool:
    return error is not None and (error.is_bug or error.message == BROKE_DOWN)
