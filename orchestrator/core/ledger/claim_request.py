"""The request of a claim: an event, and everything that the claim needs to know of it."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

import attrs

from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import Ending, Kind
from orchestrator.core.ledger.records import (
    PayloadRecord,
    WebhookCredentials,
)


class Trigger(Enum):
    """What triggers a claim."""

    DELIVERY = auto()
    SWEEP = auto()
    REPLAY = auto()
    FORCED_REPLAY = auto()
    #: An unfinished run is resumed at once, to see that it is cancelled.
    CANCEL = auto()


@attrs.frozen(kw_only=True)
class ReportedOutcome:
    """What an event reports: how an operation ended, and which; by job, or by operation.

    `context` is that of the request, by which the operation is known where its request had no
    other key. `registration_id` is the registration by which alone the event names its tenant.
    `rebuilds` is of an event of our own: how often the job that has ended was built again before.
    `outranked_by` are the builders whose own description of a job counts instead of the event.
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
        """The event says which operation it means, besides the tenant."""
        return bool(self.job or self.operation_id)


@attrs.frozen(kw_only=True)
class ClaimRequest:
    """An event to be handled, and what the claim needs to know of it.

    `request_key` is the one that the payload names, None for the event's own. `follows` is
    the operation that the event names as the one before; `link` is where its cause is seen.
    `contradiction` says in a sentence why the event can't mean one tenant.
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
