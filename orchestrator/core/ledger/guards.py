"""The conditions that keep a tenant from being lost or handled twice, by name.

The decisions of `core.ledger.claim` and `core.ledger.settle` call them; each shows the timeline
that it prevents. `docs/delivery.md` lists the test that fails without each.
"""

from datetime import datetime, timedelta
from typing import TypeGuard

import attrs

from orchestrator.core.events.event_types import Kind
from orchestrator.core.identifiers import own_operation_id
from orchestrator.core.ledger.lifecycle import MOVES
from orchestrator.core.ledger.possible_start import PossibleStart
from orchestrator.core.ledger.record_parts import Job, OperationState, Report
from orchestrator.core.ledger.records import (
    Due,
    OperationRecord,
    RegistrationRecord,
    RunRecord,
    RunStatus,
    SecretsRecord,
    TenantRecord,
)


@attrs.frozen(kw_only=True)
class Timings:
    """Durations and limits; those in `_s` are seconds.

    `skew_s` is the largest difference between two clocks. A builder lists a job within
    `listing_lag_s` of its start. `dedupe_window_s` is how long equal content is one event.
    `look_after_s` is the pause between two checks of one job, `deadline_s` how long a job may take
    from when it was recorded. `max_takeovers` is how often in a row a run's process may crash,
    `max_attempts` how often a check or a report may end by a bug.
    """

    lease_s: float = 60.0
    skew_s: float = 2.0
    listing_lag_s: float = 60.0
    dedupe_window_s: float = 90_000.0
    look_after_s: float = 60.0
    deadline_s: float = 7200.0
    max_takeovers: int = 20
    max_attempts: int = 5


def is_mine(run: RunRecord, attempt: int) -> bool:
    """The run is running under the attempt that this process claimed.

    first  ─ claim ──(paused beyond its lease)────────────── settle ✗
    second ─────────────────────────── claim: attempt 2 ──────────────── settle
    """
    return run.status is RunStatus.RUNNING and run.attempt == attempt


def is_lease_over(run: RunRecord, now: datetime, timings: Timings) -> bool:
    """The lease has expired, even by the clock of a holder that is `skew_s` behind.

    first  ─ claim ──────────────── lease ends ┐ no start from here on
    second ──────────────────────────────── claim ✗ ── skew ── claim
    """
    return run.lease_until is None or run.lease_until + timedelta(seconds=timings.skew_s) <= now


def is_claimable(run: RunRecord, now: datetime, timings: Timings) -> bool:
    """No attempt holds it: it was handed back, or its lease has expired."""
    return run.status is not RunStatus.RUNNING or is_lease_over(run, now, timings)


def is_due(item: Due, now: datetime) -> bool:
    """The sweep may handle it."""
    return item.due_at is not None and item.due_at <= now


def is_window_over(run: RunRecord, now: datetime, timings: Timings) -> bool:
    """The deduplication window has passed: the same content is another event."""
    return run.first_seen + timedelta(seconds=timings.dedupe_window_s) <= now


def is_what_was_asked(run: RunRecord, tenant: TenantRecord | None) -> bool:
    """The operation that the run opened or joined is, as far as known, its tenant's latest request.

    provision ─ done      deprovision ─ done
    the same provision, without an id ──────────── a duplicate ✗ the tenant stays removed
    """
    asked = tenant.asked if tenant else None
    return asked is None or asked.operation_id == run.operation_id


def is_opened_since(run: RunRecord, kind: Kind, holder: OperationRecord | None) -> bool:
    """The operation that holds the tenant is of that kind, and opened after the run was first seen.

    provision ─ "success" ─── deprovision ─ "success" ─── provision
    the same "success", without an id ──────────────────────── a duplicate ✗ it never ends
    """
    return holder is not None and holder.kind is kind and holder.opened_at > run.first_seen


def has_begun_anew(opener: RunRecord, operation: OperationRecord) -> bool:
    """The run that opened the operation is another request by now: its content counted as new.

    provision ─ no job known ─────────────────── "success" ✗ waits for the run that waits for it
    deprovision ── waits
    the same provision, without an id ── waits
    """
    not_begun = own_operation_id(opener.request_key)  # a clean-up, which is opened before its run
    return opener.operation_id not in (operation.operation_id, not_begun)


def is_stale(run: RunRecord, tenant: TenantRecord | None) -> bool:
    """A request of the same source with a later time is recorded for the tenant.

    sender: 9:00 deprovision, 9:05 provision
    ledger: provision (9:05) ─ done ── deprovision (9:00) ✗ removes a new tenant
    """
    asked = tenant.asked if tenant else None
    latest = asked.times.get(run.source) if asked else None
    return latest is not None and run.sent_at is not None and run.sent_at < latest


def is_overtaken(follows: str | None, tenant: TenantRecord | None) -> bool:
    """A follow-up of an operation that is no longer its tenant's latest request.

    provisioned ─ deployment waits ··· deprovisioned ··· deployed ✗ though removed
    """
    asked = tenant.asked if tenant else None
    return follows is not None and asked is not None and asked.operation_id != follows


def last_possible_send(run: RunRecord) -> datetime | None:
    """The last moment at which a start of the run may have been sent unrecorded; None: never.

    An attempt that is taken over while it runs may have sent one up to its lease's end:

    first  ─ claim ── StartBuild ✗ crash
    second ──────────────────────────── claim: a build may be running
    """
    if run.status is not RunStatus.RUNNING:
        return run.possible_until
    return max(filter(None, (run.lease_until, run.possible_until)), default=None)


def is_none_certain(start: PossibleStart | None, now: datetime, timings: Timings) -> bool:
    """A lookup that began `now` and finds no job proves that there is none.

    send ── the build is made ····· the listing shows it within `listing_lag_s`
    lookup  ────────────── "none" ✗ ────────────────────── "none"

    Another process's clock dated the send, so the skew counts, too.
    """
    return start is None or certain_from(start.until, timings) <= now


def certain_from(moment: datetime, timings: Timings) -> datetime:
    """The time from which a lookup's "none" is certain."""
    return moment + timedelta(seconds=timings.listing_lag_s + timings.skew_s)


def may_open(kind: Kind, tenant: TenantRecord | None) -> bool:
    """The table of legal moves allows the operation in the tenant's state."""
    return (tenant.state if tenant else None) in MOVES[kind].opens_from


def is_free(tenant: TenantRecord | None) -> bool:
    """No operation holds the tenant."""
    return tenant is None or tenant.operation_id is None


def is_unseen(tenant: TenantRecord | None) -> bool:
    """The ledger has no operation of the tenant, present or past."""
    return tenant is None or (tenant.state is None and tenant.operation_id is None)


def may_adopt(known: TenantRecord | None) -> bool:
    """A tenant of another system may be written: the ledger doesn't have it.

    adopt   ─ reads "active" from its file ─────────────────────── writes "active" ✗ it is removed
    service ──────────────────────────────── deprovision ─ done
    """
    return known is None


def is_secured(operation: OperationRecord) -> bool:
    """Its job is known, or it has ended: a request for the same may be answered 200.

    first  ─ claim ── StartBuild …… refused ── give back
    second ────────────── 200 ✗ for an operation that never has a job
    """
    return operation.job is not None or operation.state is OperationState.OVER


def is_registered_elsewhere(
    known: RegistrationRecord | None, holder: TenantRecord | None, tenant_id: str
) -> bool:
    """The registration is another tenant's, the `holder`, which has had an operation.

    first  ─ tenant A, registration R ── build
    second ─ tenant B, registration R ✗ the results of A's jobs end B's operation
    """
    return known is not None and known.tenant_id != tenant_id and not is_unseen(holder)


def asks_otherwise(tier: str | None, builder: str | None, operation: OperationRecord) -> str | None:
    """Why a request with this tier and builder can't join the operation under way, as a sentence;
    None if it can.

    first  ─ BASIC ── job recorded ─────────────── provisioned as BASIC
    second ────────────── PREMIUM ── joins ✗ its sender gets a success
    """
    started = operation.builder or (operation.job.builder if operation.job else None)
    for what, named, used in (("tier", tier, operation.tier), ("builder", builder, started)):
        if named is not None and used is not None and named != used:
            return (
                f"The {operation.kind} under way has the {what} {used!r} and this event names "
                f"{named!r}: send it again once that is over."
            )
    return None


def may_record(operation: OperationRecord, number: int, job: Job) -> bool:
    """The operation is at the start that made the job, and has no other.

    first  ─ StartBuild: A ──(paused)─────────────────── record A ✗ stop it
    second ─────────────────── StartBuild: B ── record B

    It may already have this very job, even if that has ended since.
    """
    if operation.start_number != number:
        return False
    if operation.job is not None:
        return operation.job.is_same_as(job.builder, job.id)
    return operation.state is OperationState.OPEN


def may_replace(
    operation: OperationRecord | None, number: int, former: Job
) -> TypeGuard[OperationRecord]:
    """A newer job under the same start key may take the place of the operation's `former` one.

    job A ─ over ── its end is claimed ── settled: the tenant is free
    job B ───────────────────────────────────────── recorded ✗ and never checked
    """
    if not is_under_way(operation, number) or operation.outcome is not None:
        return False
    return operation.job is not None and operation.job.is_same_as(former.builder, former.id)


def works_on(operation: OperationRecord, run: RunRecord) -> bool:
    """The operation is open, by this run and under the start that it works on."""
    return (
        operation.state is OperationState.OPEN
        and operation.opener == run.run_id
        and operation.start_number == run.start_number
    )


def may_end_without_job(
    operation: OperationRecord, run: RunRecord, possible_start: PossibleStart | None
) -> bool:
    """The operation may end without a job: it is this run's, and no start may be out.

    first  ─ StartBuild, its answer lost ── hand back
    second ── the tier is gone: failed ── freed ✗ the tenant's build may be running
    """
    return works_on(operation, run) and operation.job is None and possible_start is None


def is_under_way(operation: OperationRecord | None, number: int) -> TypeGuard[OperationRecord]:
    """The operation is open, and at that start.

    start 1 ─ job A ──── over ── forced replay: start 2 ─ job B
    report of A ─────────────────────────────────────────────── ✗ says nothing of B
    """
    return (
        operation is not None
        and operation.state is OperationState.OPEN
        and operation.start_number == number
    )


def is_stray(operation: OperationRecord, number: int, job: Job) -> bool:
    """A job of that start can no longer be the operation's: if it runs, it must be stopped.

    start 1 ─ job A ─ over ── forced replay: start 2 ─ job B
    A ───────────────────────────────────────────────────── runs again ✗ beside B
    """
    if operation.start_number != number:
        return operation.start_number > number
    if operation.state is not OperationState.OPEN or operation.outcome is not None:
        return True
    return operation.job is not None and not operation.job.is_same_as(job.builder, job.id)


def is_overdue(operation: OperationRecord, now: datetime, timings: Timings) -> bool:
    """Its job has run for longer than `deadline_s`; without a job there is no deadline."""
    since = operation.job_since
    return since is not None and since + timedelta(seconds=timings.deadline_s) <= now


def is_gone_for_good(operation: OperationRecord, now: datetime, timings: Timings) -> bool:
    """A builder that doesn't know the operation's job had the time to list it: the job is gone.

    start ── recorded ··· check: "unknown" ✗ the build is running ··· check: "unknown"
    """
    since = operation.job_since
    return since is not None and certain_from(since, timings) <= now


def ends_unknown(operation: OperationRecord, now: datetime, timings: Timings) -> bool:
    """The operation ends although its builder doesn't know the job any more: there is a
    self-report of its end, a stop was requested, or the deadline is over.

    job ─ succeeded ── its build is discarded ··· check: "unknown" ✗ a good tenant has failed
    """
    has_reason = operation.told_by is not None or operation.stop_reason is not None
    is_gone = is_gone_for_good(operation, now, timings)
    return is_gone and (has_reason or is_overdue(operation, now, timings))


def may_send_report(operation: OperationRecord, now: datetime) -> bool:
    """Its report is due, no attempt to send it is under way, and the operation isn't open again.

    first  ─ begin: due after the answer ── post ── 204 ── done
    second ──────── begin ✗ a second report

    given back ─ refusal noted ── opened again ── StartBuild ── job
    sweep ───────────────────────────────────────── refusal ✗ and then a success
    """
    report = operation.report
    is_done = report is None or report.done_at is not None
    return not is_done and operation.state is not OperationState.OPEN and is_due(operation, now)


def may_refuse(earlier: Report | None) -> bool:
    """The control plane has accepted no report of the operation, as far as known.

    refused ── report ── 204      the same request comes again ── refused
    the control plane has ended it ────────────────────────────────────── report ✗
    """
    return earlier is None or not earlier.was_accepted


def is_needed(
    kept: SecretsRecord,
    operation: OperationRecord | None,
    run: RunRecord | None,
    now: datetime,
    timings: Timings,
) -> bool:
    """A job of the start may still read its secrets, or the start may still be sent.

    start ── refused for now: `retry` ─────────── start, with the same references
    sweep ─────────────────────────── remove ✗ the build finds no secret

    A job that holds no tenant may be replaced by a replay's, or its start may be out when its run
    has failed: no process checks it, so its secrets are kept as long as a job may take.
    """
    may_run = now < kept.noted_at + timedelta(seconds=timings.deadline_s)
    if operation is None or operation.start_number < kept.start_number:
        # The start has no record in the operation: its run decides.
        is_at_rest = run is None or run.status.is_finished
        return not is_at_rest or (run is not None and bool(run.possible_until) and may_run)
    if operation.start_number > kept.start_number:
        return operation.kind is None and may_run
    report = operation.report
    return operation.state is OperationState.OPEN or (report is not None and not report.done_at)
