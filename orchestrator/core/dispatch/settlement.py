"""Decides the settlement of an attempt, and the error that its sender gets."""

import traceback
from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from orchestrator.core.backoff import doubling_pause_s
from orchestrator.core.errors import HandlerFailed, PayloadMismatch, PermanentError, TemporaryError
from orchestrator.core.events.body import read_ended_job, read_reason, read_tier, without_ended_job
from orchestrator.core.events.event import OWN_SOURCE, Event
from orchestrator.core.events.event_types import TENANT_CLEAN_UP, Ending, Kind, outcome_type
from orchestrator.core.events.json_text import kept_size
from orchestrator.core.evolve import evolve
from orchestrator.core.handlers.run import EndWithoutJob, Run
from orchestrator.core.identifiers import START_KEY
from orchestrator.core.ledger.event_codec import encode_event
from orchestrator.core.ledger.lease import RunLease
from orchestrator.core.ledger.record_parts import Failure
from orchestrator.core.ledger.records import RunStatus
from orchestrator.core.ledger.settle import FollowUp, Settlement
from orchestrator.core.texts import shorten

_KEPT_FRAMES = 50
_KEPT_BYTES = 100_000
_LONGEST_PAUSE_S = 86_400.0 * 30

log = structlog.get_logger("orchestrator.attempt")


def is_final(error: BaseException | None, lease: RunLease, max_attempts: int) -> bool:
    """The error ends the run, without an automatic retry; `max_attempts` may end by a bug."""
    if error is None or isinstance(error, PermanentError):
        return True
    if isinstance(error, TemporaryError):
        return False
    return lease.run.bugs + 1 >= max_attempts


def is_used_up(lease: RunLease, max_attempts: int) -> bool:
    """The last attempt (`max_attempts`) ended by a bug, and left a start that may be out."""
    return lease.possible_start is not None and lease.run.bugs >= max_attempts


def settlement_of(
    event: Event[Mapping[str, Any]],
    lease: RunLease,
    run: Run,
    opens: Kind | None,
    error: BaseException | None,
    max_attempts: int,
) -> tuple[Settlement, BaseException | None]:
    """The settlement of an attempt that returned or raised `error`, and the error to raise."""
    common = Settlement(
        status=RunStatus.SUCCEEDED,
        progress=run.unrecorded,
        error=_failure(error) if error else None,
        possible_start=lease.possible_start,
        note=shorten(" ".join(run.notes)) or None,
    )
    if error is None:
        return _done(event, lease, run, opens, common), None
    if isinstance(error, TemporaryError):
        error.run_id = run.run_id
        if error.retry_after_s is None:
            error.retry_after_s = doubling_pause_s(error.first_pause_s, lease.run.waits)
        error.retry_after_s = min(error.retry_after_s, _LONGEST_PAUSE_S)
        return _retry(common, error.retry_after_s), error
    sender_error: BaseException = error
    if isinstance(error, PermanentError):
        error.run_id = run.run_id
    else:
        log.error("handler failed", exc_info=error)
        sender_error = HandlerFailed(event.type, run.run_id)
        sender_error.__cause__ = error
    is_bug = sender_error is not error
    may_be_out = opens is not None and run.job is None and lease.possible_start is not None
    if is_final(error, lease, max_attempts) and not (is_bug and may_be_out):
        ends_without_job = opens is not None
        report = run.reports if ends_without_job else None
        failed = evolve(
            common, status=RunStatus.FAILED, ends_without_job=ends_without_job, report=report
        )
        return failed, sender_error
    pause_s = doubling_pause_s(TemporaryError.first_pause_s, lease.run.bugs)
    return _retry(common, pause_s), sender_error


def _done(
    event: Event[Mapping[str, Any]],
    lease: RunLease,
    run: Run,
    opens: Kind | None,
    common: Settlement,
) -> Settlement:
    """The handler returned: its operation continues with a job, or ends without one."""
    if run.job is not None:
        was = "would have been" if run.job.is_dry else "was"
        started = f"The job {run.job.id} {was} started on {run.job.builder}."
        common = evolve(common, note=" ".join(filter(None, (common.note, started))))
    ending = run.ending
    if opens is Kind.DEPLOYMENT and run.job is None:
        ending = ending or EndWithoutJob(None)  # without a job there is nothing to wait for
    if opens is None or ending is None or run.job is not None:
        return common
    event = evolve(event, body=run.without_secrets(event.body))
    follow_up = _own_outcome(event, lease, opens, ending)
    return evolve(common, ends_without_job=True, follow_ups=(follow_up,))


def with_outcome(
    settlement: Settlement, event: Event[Mapping[str, Any]], run: Run, ending: Ending, start: str
) -> Settlement:
    """The settlement of an outcome: the end of its operation, and the follow-ups."""
    reason = None if ending.succeeded else shorten(read_reason(event.body) or _said_by(event))
    notes = [_what_ended(event) if ending.succeeded else reason, settlement.note]
    return evolve(
        settlement,
        ending=ending,
        reason=reason,
        tier=read_tier(event.body),
        report=run.reports,
        owed=run.owes,
        clean_up=_clean_up(event, run, start),
        note=" ".join(filter(None, notes)) or None,
    )


def _said_by(event: Event[Mapping[str, Any]]) -> str:
    return f"{event.type} was reported{f' by {event.source}' if event.source else ''}."


def _what_ended(event: Event[Mapping[str, Any]]) -> str | None:
    job = read_ended_job(event)
    if job.get("status") == "UNKNOWN":
        return f"The job {job['id']} reported success; {job['builder']} doesn't know it any more."
    return f"The job {job['id']} succeeded." if job else None


def _clean_up(event: Event[Mapping[str, Any]], run: Run, start: str) -> FollowUp | None:
    """The clean-up's event. Its id is derived from the failed start, so it is the same in each
    attempt of the run, and another one if the same content counts as a new event."""
    if run.cleans_up is None:
        return None
    body = run.cleans_up
    clean_up = Event(
        type=TENANT_CLEAN_UP,
        source=OWN_SOURCE,
        id=start,
        ends_start=start,
        time=event.time,
        body=body,
        raw=body,
        payload=body,
    )
    return FollowUp(event=clean_up, payload=encode_event(clean_up), tenant_id=run.tenant_id)


def _own_outcome(
    event: Event[Mapping[str, Any]], lease: RunLease, kind: Kind, ending: EndWithoutJob
) -> FollowUp:
    """The outcome event of a run that ended its operation without a job.

    Its id is derived from the start's, so that it is the same in each attempt of the run.
    """
    reason = {"reason": shorten(ending.reason)} if ending.reason is not None else {}
    named = {"operationId": lease.run.operation_id, START_KEY: lease.start_key}
    body = {**without_ended_job(event.body), **reason, **named}
    outcome = evolve(
        event,
        type=outcome_type(kind, succeeded=ending.reason is None),
        source=OWN_SOURCE,
        id=lease.start_key,
        body=body,
        raw=body,
        payload=body,
        identified_by_content=False,
        ends_start=lease.start_key,
        sent_as=None,
    )
    return FollowUp(event=outcome, payload=encode_event(outcome), tenant_id=lease.run.tenant_id)


def _retry(settlement: Settlement, pause_s: float) -> Settlement:
    return evolve(settlement, status=RunStatus.RETRY, pause_s=pause_s)


def _failure(error: BaseException) -> Failure:
    """The error as it is stored, cut to fit into an item of the ledger."""
    is_bug = not isinstance(error, PermanentError | TemporaryError)
    return Failure(
        type=type(error).__name__,
        message=shorten(str(error)),
        errors=_shortened(error.errors) if isinstance(error, PermanentError) else (),
        traceback=_last_of(error) if is_bug else None,
    )


def _shortened(errors: Iterable[PayloadMismatch]) -> tuple[PayloadMismatch, ...]:
    kept, size = list[PayloadMismatch](), 0
    for one in errors:
        short = PayloadMismatch(shorten(one.path), shorten(one.message))
        size += kept_size([short.path, short.message])
        if size > _KEPT_BYTES:
            break
        kept.append(short)
    return tuple(kept)


def _last_of(error: BaseException) -> str:
    """The last lines of the traceback, with the innermost frames and the error itself."""
    lines = [shorten(line) for line in traceback.format_exception(error)]
    text = "".join(lines[-_KEPT_FRAMES:])
    while kept_size(text) > _KEPT_BYTES:
        text = text[len(text) // 4 :]
    return text
