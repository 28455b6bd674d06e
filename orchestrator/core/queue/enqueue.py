"""Enqueues events in queue mode: they are accepted durably, and handled by a worker.

An event that can't be handled at all is answered at once; any other is put into the queue first and
then recorded as a `queued` run, unless a worker was faster.
"""

from typing import Any

import attrs

from orchestrator.core.dispatch.correlate import as_kept
from orchestrator.core.dispatch.orchestrator import Handled, Orchestrator, current_delivery
from orchestrator.core.errors import EventKeyReused, InvalidPayload, RunNotFound
from orchestrator.core.events.body import read_tenant_id
from orchestrator.core.events.envelope import Body, Delivery, parse_event
from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import BUILD_STATE_CHANGE, ENDS, RECONCILE
from orchestrator.core.evolve import evolve
from orchestrator.core.identifiers import digest
from orchestrator.core.ledger.claim_result import BodyDiffers, Duplicate
from orchestrator.core.ledger.event_codec import encode_event
from orchestrator.core.ledger.guards import Timings
from orchestrator.core.ledger.ledger import check_size
from orchestrator.core.ledger.records import PayloadRecord, RunStatus
from orchestrator.core.ledger.snapshot import Decision, Snapshot
from orchestrator.core.ledger.transitions import is_new_event, kept, new_run
from orchestrator.core.queue.inbox import Inbox
from orchestrator.core.queue.message_codec import QueuedEvent, QueuedReplay, pack_message
from orchestrator.core.tracing import SpanKind

#: A queued run is due after this time (seconds): the sweep resumes it if its message got lost.
_LOST_AFTER_S = 900.0


@attrs.frozen
class Queued:
    """The event's run is recorded as `queued`."""


@attrs.frozen(kw_only=True)
class Enqueuer:
    """Replaces the orchestrator at the entry points, and puts events into the inbox; `queue` is its
    name, for traces."""

    orchestrator: Orchestrator
    inbox: Inbox
    queue: str = ""

    async def handle_event(self, event_type: str, body: object) -> Handled:
        """Accept one event, as `Orchestrator.handle_event` would handle it.

        Raises:
            BadEvent: it can't be read as an event.
            PermanentError: a retry would fail again; a failed run has the reason.
            EventTooLarge: it is too large for the queue or the ledger.
            TemporaryError: try again later.
        """
        services, how = self.orchestrator.services, current_delivery.get()
        now = services.clock.now()
        event = parse_event(
            event_type,
            body,
            delivery=how,
            aliases=self.orchestrator.aliases,
            now=now,
            fresh_id=self.orchestrator.ids.fresh_id,
        )
        is_notification = services.notifications.sends(event.type)
        is_inline = event.type in (RECONCILE, BUILD_STATE_CHANGE) or is_notification
        if is_inline or not self._can_be_handled(event):
            return await self.orchestrator.handle_event(event_type, body)
        event_id = how.event_id if event.identified_by_content else event.id
        accepted = evolve(how, event_id=event_id, received_at=now)
        with self.orchestrator.observer.handling(
            event.type, event.key, trace=event.trace
        ) as handling:
            handling.tenant_id = read_tenant_id(event.body)
            handled = handling.answer = await self._enqueue(event, accepted)
            return handled

    async def _enqueue(self, event: Event[Body], accepted: Delivery) -> Handled:
        services = self.orchestrator.services
        # Its run shows the event as the claim will store it.
        shown = as_kept(event, services.secrets)
        payload = encode_event(shown)
        check_size(services.transactions.ledger, payload)
        text = pack_message(
            QueuedEvent(event_type=event.sent_as or event.type, body=event.raw, delivery=accepted)
        )
        deduplication_id = await self._deduplication_id(event)
        about = describe_messaging("send", self.queue)
        with services.tracing.span(f"send {self.queue}", SpanKind.PRODUCER, about):
            await self.inbox.send(text=text, group=_group(event), deduplication_id=deduplication_id)
        timings = services.transactions.timings
        answer = await services.transactions.run(
            lambda snapshot: _queue(snapshot, shown, payload, timings)
        )
        match answer:
            case Duplicate(run_id):
                return Handled(run_id=run_id, replayed=True)
            case BodyDiffers(run):
                raise EventKeyReused(event.id, run.run_id)
            case _:
                return Handled(run_id=event.key, queued=True)

    async def _deduplication_id(self, event: Event[Body]) -> str:
        """The deduplication id: a new attempt must be no duplicate in a FIFO queue."""
        if not self.inbox.in_groups:
            return event.key
        if event.identified_by_content:
            # Events accepted in between decide whether the same content is the same event.
            return digest(event.key, self.orchestrator.ids.fresh_id())
        transactions = self.orchestrator.services.transactions
        earlier = await transactions.run(
            lambda snapshot: _count_attempts(snapshot, event, transactions.timings)
        )
        return digest(event.key, str(earlier)) if earlier else event.key

    async def replay(self, run_id: str, *, force: bool, by: str | None = None) -> Handled:
        """Enqueue the replay of a run, for a worker; `by` is who replays it.

        Raises:
            RunNotFound: there is no such run.
            TemporaryError: try again later.
        """
        run = await self.orchestrator.services.transactions.find_run(run_id)
        if run is None:
            raise RunNotFound(run_id)
        # Each request is distinct: a queue with deduplication must not drop it.
        wish = self.orchestrator.ids.fresh_id()
        text = pack_message(QueuedReplay(run_id=run_id, force=force, by=by))
        await self.inbox.send(
            text=text, group=digest("replay", run.run_id), deduplication_id=digest(wish)
        )
        return Handled(run_id=run_id, queued=True)

    def _can_be_handled(self, event: Event[Body]) -> bool:
        """Check that there is a handler, and that the body matches its model."""
        registration = self.orchestrator.registry.by_type.get(event.type)
        if registration is None:
            return False
        try:
            self.orchestrator.services.structure.structure(event.body, registration.payload)
        except InvalidPayload:
            return False
        return True


def describe_messaging(operation: str, queue: str) -> dict[str, str]:
    """A span's attributes (OpenTelemetry, Semantic conventions for messaging spans); the operation
    is `send` or `process`."""
    return {
        "messaging.system": "aws_sqs",
        "messaging.operation.type": operation,
        "messaging.operation.name": operation,
        "messaging.destination.name": queue,
    }


def _group(event: Event[Any]) -> str:
    """The message group: one for the requests of a tenant. An outcome has a group of its own, since
    it must not wait behind the request that waits for it."""
    tenant_id = read_tenant_id(event.body)
    if tenant_id is None or event.type in ENDS:
        return event.key
    return digest("tenant", tenant_id)


def _count_attempts(snapshot: Snapshot, event: Event[Body], timings: Timings) -> Decision[int]:
    """The attempts before a new one that a delivery begins, because the run has failed or the
    content counts as another event. 0: it is the same event."""
    run = snapshot.run(event.key)
    if run is None:
        return Decision((), 0)
    is_anew = run.status is RunStatus.FAILED or is_new_event(snapshot, run, event, timings)
    return Decision((), run.attempt if is_anew else 0)


def _queue(
    snapshot: Snapshot, event: Event[Body], payload: PayloadRecord, timings: Timings
) -> Decision[Queued | Duplicate | BodyDiffers]:
    """Record the event as queued, unless its run has already begun."""
    run = snapshot.run(event.key, expect_absent=True)
    if run is None:
        queued = evolve(
            new_run(event, read_tenant_id(event.body), snapshot),
            status=RunStatus.QUEUED,
            due_at=snapshot.later(_LOST_AFTER_S),
        )
        return Decision((queued, kept(snapshot, payload)), Queued())
    if not event.has_body_of(run.body_digest):
        return Decision((), BodyDiffers(run))
    is_done = run.status in (RunStatus.SUCCEEDED, RunStatus.DUPLICATE)
    if is_done and not is_new_event(snapshot, run, event, timings):
        return Decision((), Duplicate(run.duplicate_of or run.run_id))
    return Decision((), Queued())
