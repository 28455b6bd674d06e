"""The event types: one table of what each opens or ends, and their aliases.

The ledger and the dispatch know a type only by this table. Its handler (`core.handlers.builtin`)
and its example (`intake.examples`) refer to it, and its payload model is that of the handler's
annotation.
"""

from collections.abc import Mapping
from enum import StrEnum

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
#: Requests a sweep. It has no handler and no run, and so no row in the table.
RECONCILE = "RECONCILE"

#: Other senders' names for the service's event types: of EventBridge, and of the control and
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


class Kind(StrEnum):
    """What an operation does to its tenant."""

    PROVISIONING = "provisioning"
    DEPLOYMENT = "deployment"
    DEPROVISIONING = "deprovisioning"
    CLEAN_UP = "clean_up"


@attrs.frozen
class Ending:
    """How an operation of a kind ends."""

    kind: Kind
    succeeded: bool


@attrs.frozen
class EventType:
    """A type: the operation that its events open, or how they end one.

    `job_attributes` are the tier's attributes that may name the job of an operation that it opens;
    the first that exists counts.
    """

    name: str
    opens: Kind | None = None
    ends: Ending | None = None
    job_attributes: tuple[str, ...] = ()


#: All types with a built-in handler.
EVENT_TYPES: tuple[EventType, ...] = (
    EventType(
        TENANT_PROVISIONING,
        opens=Kind.PROVISIONING,
        job_attributes=("jobIdentifier", "jobName"),
    ),
    EventType(TENANT_PROVISIONING_SUCCESS, ends=Ending(Kind.PROVISIONING, True)),
    EventType(TENANT_PROVISIONING_FAILURE, ends=Ending(Kind.PROVISIONING, False)),
    EventType(
        TENANT_DEPLOYMENT,
        opens=Kind.DEPLOYMENT,
        job_attributes=("deploymentJobIdentifier",),
    ),
    EventType(TENANT_DEPLOYMENT_SUCCESS, ends=Ending(Kind.DEPLOYMENT, True)),
    EventType(TENANT_DEPLOYMENT_FAILURE, ends=Ending(Kind.DEPLOYMENT, False)),
    EventType(
        TENANT_DEPROVISIONING,
        opens=Kind.DEPROVISIONING,
        job_attributes=("deprovisioningJobIdentifier",),
    ),
    EventType(TENANT_DEPROVISIONING_SUCCESS, ends=Ending(Kind.DEPROVISIONING, True)),
    EventType(TENANT_DEPROVISIONING_FAILURE, ends=Ending(Kind.DEPROVISIONING, False)),
    EventType(
        TENANT_CLEAN_UP,
        opens=Kind.CLEAN_UP,
        job_attributes=("cleanupJobIdentifier",),
    ),
    EventType(TENANT_CLEAN_UP_SUCCESS, ends=Ending(Kind.CLEAN_UP, True)),
    EventType(TENANT_CLEAN_UP_FAILURE, ends=Ending(Kind.CLEAN_UP, False)),
    EventType(BUILD_STATE_CHANGE),
)

#: The operation that an event of the type opens.
OPENS: Mapping[str, Kind] = {row.name: row.opens for row in EVENT_TYPES if row.opens}

#: How an event of the type ends an operation.
ENDS: Mapping[str, Ending] = {row.name: row.ends for row in EVENT_TYPES if row.ends}

#: The tier's attributes that may name the job of an operation of the kind.
JOB_ATTRIBUTES: Mapping[Kind, tuple[str, ...]] = {
    row.opens: row.job_attributes for row in EVENT_TYPES if row.opens
}


def outcome_type(kind: Kind, *, succeeded: bool) -> str:
    """The event type that ends an operation of the kind."""
    return next(name for name, ending in ENDS.items() if ending == Ending(kind, succeeded))
