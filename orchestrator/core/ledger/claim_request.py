"""The request of a claim: an event, and all the facts about it that the claim needs."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

import attrs

from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import Ending, Kind
from orchestrator.core.ledger.record_parts import WebhookCredentials
from orchestrator.core.ledger.records import PayloadRecord


class Trigger(Enum):
    """What triggers a claim."""

    DELIVERY = auto()
    SWEEP = auto()
    REPLAY = auto()
    FORCED_REPLAY = auto()
    #: A cancel: an unfinished run is resumed at once, and finds that it is cancelled.
    CANCEL = auto()


#: The triggers of a replay.
REPLAYS = frozenset({Trigger.REPLAY, Trigger.FORCED_REPLAY})


@attrs.frozen(kw_only=True)
class ReportedOutcome:
    """The outcome that an event reports: how an operation ended, and which, by job or operation.

    `context` is the request's, which identifies the operation if its request had no other key.
    `registration_id` is set if the event names its tenant only by that. `rebuilds`, in an event of
    the service's own, is how often the job was rebuilt before. `outranked_by` are the builders
    whose description of a job counts instead of the event.
    """

    ending: Ending
    job: tuple[str, str] | None = None
    operation_id: str | None = None
    start_number: int | None = None
    context: str | None = None
    registration_id: str | None = None
    rebuilds: int | None = None
    outranked_by: frozenset[str] = frozenset()

    @property
    def is_named(self) -> bool:
        """Whether the event identifies its operation, not only the tenant."""
        return bool(self.job or self.operation_id)


@attrs.frozen(kw_only=True, slots=False)
class ClaimRequest:
    """An event to be handled, and the facts about it that the claim needs.

    `request_key` is the payload's, None for the event's own key. `follows` is the operation that
    the event follows; `link` leads to its cause's log. `contradiction` says in a sentence why the
    event is about two tenants. `by` is the name of who replays the run. `traceparent` is the span
    that handles the event.
    """

    event: Event[Mapping[str, Any]]
    payload: PayloadRecord
    tenant_id: str | None
    trigger: Trigger = Trigger.DELIVERY
    opens: Kind | None = None
    outcome: ReportedOutcome | None = None
    request_key: str | None = None
    tier: str | None = None
    builder: str | None = None
    registration_id: str | None = None
    contradiction: str | None = None
    credentials: WebhookCredentials | None = None
    follows: str | None = None
    link: str | None = None
    by: str | None = None
    traceparent: str | None = None
