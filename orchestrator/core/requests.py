"""What an event asks of the claim: read from its body, and, for an outcome, from its job."""

from orchestrator.core.answers import ClaimRequest, Outcome, Why
from orchestrator.core.builds import CODE_BUILD
from orchestrator.core.envelopes import Body
from orchestrator.core.events import Event
from orchestrator.core.lifecycle import ENDS, OPENS
from orchestrator.core.oversight import Overseer
from orchestrator.core.parcels import pack_event, rewritten
from orchestrator.core.payloads import (
    read_builder,
    read_context,
    read_contradiction,
    read_job_id,
    read_object,
    read_operation,
    read_request_key,
    read_secret,
    read_tenant_id,
    read_tier,
)
from orchestrator.core.records import Credentials, PayloadRecord, is_operation_id
from orchestrator.core.secrets import Redactor
from orchestrator.core.variables import START_KEY


async def build_request(
    event: Event[Body],
    why: Why,
    payload: PayloadRecord | None,
    *,
    overseer: Overseer,
    secrets: Redactor,
) -> ClaimRequest:
    """What the claim needs to know; `payload` None: the event isn't kept yet.

    An outcome is matched by its job before it is claimed. What a build tells of itself is its
    whole environment: its secrets go no further than here.

    Raises:
        TemporaryError: ledger or builder can't be asked whose job it is.
    """
    secret, opens = read_secret(event.body), OPENS.get(event.type)
    tenant_id, ending = read_tenant_id(event.body), ENDS.get(event.type)
    named, number = read_operation(event.body)
    outcome = None
    if ending is not None:
        if payload is None:
            # What is kept was rewritten by the patterns of its time, and is the same event still.
            event = rewritten(event, secrets.leave_out)
        job_id = read_job_id(event.body) if event.ends_start is None else None
        if tenant_id is None or job_id is not None:
            tenant_id = await _find_tenant_id(overseer, event, job_id, named) or tenant_id
        outcome = Outcome(
            ending=ending,
            job=(CODE_BUILD, job_id) if job_id else None,
            operation_id=named,
            start_number=number,
            context=read_context(event.body),
            outranked_by=frozenset() if event.ends_start else overseer.askable,
        )
    ended_job = read_object(event.body.get("endedJob")) if event.ends_start else {}
    return ClaimRequest(
        event=event,
        payload=payload or pack_event(event),
        tenant_id=tenant_id,
        why=why,
        opens=opens,
        reports=outcome,
        request_key=read_request_key(event.body),
        tier=read_tier(event.body),
        builder=read_builder(event.body),
        contradiction=read_contradiction(event.body),
        credentials=Credentials(
            secret=secret[0], context=secret[1], as_of=event.sent_at or event.time
        )
        if secret
        else None,
        follows=named if named and is_operation_id(named) else None,
        link=ended_job.get("logUrl"),
    )


async def _find_tenant_id(
    overseer: Overseer, event: Event[Body], job_id: str | None, operation_id: str | None
) -> str | None:
    """The tenant of the operation that a report is about, which it may not name: a build
    that fails early doesn't know it yet."""
    if job_id is not None:
        own_key = event.body.get(START_KEY)
        start_key = own_key if isinstance(own_key, str) else None
        operation = await overseer.identify(job_id, start_key)
    else:
        operation = await overseer.books.find_operation(operation_id or "")
    return operation.tenant_id if operation else None
