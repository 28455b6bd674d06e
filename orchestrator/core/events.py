"""The event: its types, its key, and what every delivery of it has in common."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Any, Generic, TypeVar

import attrs

TENANT_PROVISIONING = "TENANT_PROVISIONING"
TENANT_PROVISIONING_SUCCESS = "TENANT_PROVISIONING_SUCCESS"
TENANT_PROVISIONING_FAILURE = "TENANT_PROVISIONING_FAILURE"
TENANT_DEPLOYMENT = "TENANT_DEPLOYMENT"
TENANT_DEPLOYMENT_SUCCESS = "TENANT_DEPLOYMENT_SUCCESS"
TENANT_DEPLOYMENT_FAILURE = "TENANT_DEPLOYMENT_FAILURE"
TENANT_DEPROVISIONING = "TENANT_DEPROVISIONING"
TENANT_DEPROVISIONING_SUCCESS = "TENANT_DEPROVISIONING_SUCCESS"
TENANT_DEPROVISIONING_FAILURE = "TENANT_DEPROVISIONING_FAILURE"
TENANT_CLEAN_UP = "TENANT_CLEAN_UP"
TENANT_CLEAN_UP_SUCCESS = "TENANT_CLEAN_UP_SUCCESS"
TENANT_CLEAN_UP_FAILURE = "TENANT_CLEAN_UP_FAILURE"
BUILD_STATE_CHANGE = "BUILD_STATE_CHANGE"
RECONCILE = "RECONCILE"

#: What sets the keys of our own outcomes apart from those of all other events.
_ENDS = "ends"

#: The source of the events that we make ourselves.
OWN_SOURCE = "orchestrator"

#: What others call the events that we know by another name: EventBridge, and the control and
#: application planes of the SaaS Builder Toolkit (github.com/awslabs/sbt-aws).
AWS_ALIASES: Mapping[str, str] = {
    "Scheduled Event": RECONCILE,
    "sbt_aws_onboardingRequest": TENANT_PROVISIONING,
    "sbt_aws_onboardingSuccess": TENANT_PROVISIONING_SUCCESS,
    "sbt_aws_onboardingFailure": TENANT_PROVISIONING_FAILURE,
    "sbt_aws_provisionSuccess": TENANT_PROVISIONING_SUCCESS,
    "sbt_aws_provisionFailure": TENANT_PROVISIONING_FAILURE,
    "sbt_aws_offboardingRequest": TENANT_DEPROVISIONING,
    "sbt_aws_offboardingSuccess": TENANT_DEPROVISIONING_SUCCESS,
    "sbt_aws_offboardingFailure": TENANT_DEPROVISIONING_FAILURE,
    "sbt_aws_deprovisionSuccess": TENANT_DEPROVISIONING_SUCCESS,
    "sbt_aws_deprovisionFailure": TENANT_DEPROVISIONING_FAILURE,
}

Payload = TypeVar("Payload", covariant=True)


@attrs.frozen(kw_only=True)
class Event(Generic[Payload]):
    """One message, as a handler sees it.

    Two deliveries with one `key` (type, source and id) are the same event. `payload` is
    the handler's model, `body` the business body with every unknown field, `raw` what
    was received. `time` is the event's own, or that of its receipt; `sent_at` is the event's own,
    at the latest that of its receipt, and None where the event names none. `received_at` is None
    for an event that was kept, or made here. `ends_start` is the start key of what an event of
    our own ends. There is one such event for each start, or for each job where that was built
    again, whoever noticed the end and whatever he knew of it: by its `id`. `sent_as` is what its
    sender calls the type, where that is an alias of it.
    """

    type: str
    source: str
    id: str
    time: datetime
    body: Mapping[str, Any]
    raw: Mapping[str, Any]
    payload: Payload
    #: The id was made from the content, so it holds for `events.dedupe_window_s` alone.
    identified_by_content: bool = False
    ends_start: str | None = None
    sent_as: str | None = None
    sent_at: datetime | None = None
    received_at: datetime | None = attrs.field(default=None, eq=False)

    @cached_property
    def key(self) -> str:
        """The event key: 40 hexadecimal characters, the same for each delivery.

        That of an event of our own is one that nobody else's can have.
        """
        if self.ends_start is not None:
            return own_outcome_key(self.type, self.id)
        # An event of a type by this name would have the key of what it says that it ends.
        apart = ("event",) if self.type == _ENDS else ()
        return digest(*apart, self.type, self.source, self.id)

    @cached_property
    def body_digest(self) -> str:
        """What the bodies of two deliveries are compared by."""
        return digest(self.body) if self.ends_start is None else digest(self.ends_start)


def own_outcome_key(event_type: str, outcome_id: str) -> str:
    """The event key of an outcome of our own, which is known by the start that it ends, and by
    how often its job was built again."""
    return digest(_ENDS, event_type, outcome_id)


def digest(*parts: object) -> str:
    """40 hexadecimal characters (160 bits of SHA-256) over JSON values, unambiguously joined."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:40]
