"""Builds the claim's request for an event, from its body and, for an outcome, from its job."""

from orchestrator.core.events.body import (
    read_builder,
    read_context,
    read_contradiction,
    read_ended_job,
    read_operation,
    read_registration_id,
    read_request_key,
    read_secret,
    read_tenant_id,
    read_tier,
    without_ended_job,
)
from orchestrator.core.events.envelope import Body
from orchestrator.core.events.event import Event, rewritten
from orchestrator.core.events.event_types import ENDS, OPENS
from orchestrator.core.identifiers import START_KEY, is_operation_id, read_outcome_id
from orchestrator.core.jobs.notifications import Notifications
from orchestrator.core.jobs.watch import JobWatcher
from orchestrator.core.ledger.claim_request import ClaimRequest, ReportedOutcome, Trigger
from orchestrator.core.ledger.event_codec import encode_event
from orchestrator.core.ledger.record_parts import Job, WebhookCredentials
from orchestrator.core.ledger.records import MAX_NAME, PayloadRecord
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.core.texts import shorten
from orchestrator.core.urls import web_link


async def correlate(
    event: Event[Body],
    trigger: Trigger,
    payload: PayloadRecord | None,
    *,
    watcher: JobWatcher,
    notifications: Notifications,
    secrets: Redactor,
    by: str | None = None,
) -> ClaimRequest:
    """Build the claim's request; `payload` None: the event isn't stored yet. `by` is who replays
    it.

    An outcome is matched by its job before it is claimed. A self-report contains the build's whole
    environment: its secrets are removed here.

    Raises:
        TemporaryError: ledger or builder can't be reached to find the job's operation.
    """
    secret, opens = read_secret(event.body), OPENS.get(event.type)
    tenant_id, ending = read_tenant_id(event.body), ENDS.get(event.type)
    named, number = read_operation(event.body)
    outcome = None
    if payload is None:
        # A stored event is already redacted, by the patterns of its time.
        event = as_kept(event, secrets)
    if ending is not None:
        is_own = event.ends_start is not None
        ended = read_outcome_id(event.id) if is_own else None
        job = None if is_own else notifications.read_self_report(event.body)
        if not is_own or tenant_id is None:
            started = named if number is not None or tenant_id is None else None
            tenant_id = await _find_tenant_id(watcher, event, job, started) or tenant_id
        registration_id = None
        if tenant_id is None and (registration_id := read_registration_id(event.body)) is not None:
            registered = await watcher.transactions.find_registration(registration_id)
            tenant_id = registered.tenant_id if registered else None
        outcome = ReportedOutcome(
            ending=ending,
            job=(job.builder, job.id) if job else None,
            operation_id=named,
            start_number=number,
            context=read_context(event.body),
            registration_id=registration_id,
            rebuilds=ended[2] if ended else None,
            outranked_by=frozenset() if event.ends_start else watcher.describer.describable,
        )
    return ClaimRequest(
        event=event,
        payload=payload or encode_event(event),
        tenant_id=tenant_id,
        trigger=trigger,
        opens=opens,
        outcome=outcome,
        request_key=read_request_key(event.body),
        tier=read_tier(event.body),
        builder=read_builder(event.body),
        registration_id=read_registration_id(event.body) if opens else None,
        contradiction=read_contradiction(event.body),
        credentials=WebhookCredentials(
            secret=secret[0], context=secret[1], as_of=event.sent_at or event.time
        )
        if secret
        else None,
        follows=named if named and is_operation_id(named) else None,
        link=web_link(read_ended_job(event).get("logUrl")),
        by=shorten(by, MAX_NAME) if by else None,
    )


def as_kept(event: Event[Body], secrets: Redactor) -> Event[Body]:
    """The event as it is stored: a report, which may be a build's whole environment, without
    secrets, and without `endedJob` unless it is the service's own event."""
    if event.type not in ENDS:
        return event
    event = rewritten(event, secrets.leave_out)
    return event if event.ends_start is not None else rewritten(event, without_ended_job)


async def _find_tenant_id(
    watcher: JobWatcher, event: Event[Body], job: Job | None, operation_id: str | None
) -> str | None:
    """The tenant of the operation that a report is about. A build that fails early doesn't know its
    tenant, and a report may name a wrong one: the job takes precedence, then the start key."""
    operation = None
    if job is not None:
        own_key = event.body.get(START_KEY)
        start_key = own_key if isinstance(own_key, str) else None
        operation = await watcher.adopter.identify(job, start_key)
    if operation is None and operation_id is not None:
        operation = await watcher.transactions.find_operation(operation_id)
    return operation.tenant_id if operation else None
