"""The event types: their names, their aliases, and what each opens or ends."""

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
RECONCILE = "RECONCILE"

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


class Kind(StrEnum):
    """What an operation does to its tenant."""

    PROVISIONING = "provisioning"
    DEPLOYMENT = "deployment"
    DEPROVISIONING = "deprovisioning"
    CLEAN_UP = "clean_up"


#: The operation that an event of the type opens.
OPENS: Mapping[str, Kind] = {
    TENANT_PROVISIONING: Kind.PROVISIONING,
    TENANT_DEPLOYMENT: Kind.DEPLOYMENT,
    TENANT_DEPROVISIONING: Kind.DEPROVISIONING,
    TENANT_CLEAN_UP: Kind.CLEAN_UP,
}


@attrs.frozen
class Ending:
    """How an operation of a kind ends."""

    kind: Kind
    succeeded: bool


#: How an event of the type ends an operation.
ENDS: Mapping[str, Ending] = {
    TENANT_PROVISIONING_SUCCESS: Ending(Kind.PROVISIONING, True),
    TENANT_PROVISIONING_FAILURE: Ending(Kind.PROVISIONING, False),
    TENANT_DEPLOYMENT_SUCCESS: Ending(Kind.DEPLOYMENT, True),
    TENANT_DEPLOYMENT_FAILURE: Ending(Kind.DEPLOYMENT, False),
    TENANT_DEPROVISIONING_SUCCESS: Ending(Kind.DEPROVISIONING, True),
    TENANT_DEPROVISIONING_FAILURE: Ending(Kind.DEPROVISIONING, False),
    TENANT_CLEAN_UP_SUCCESS: Ending(Kind.CLEAN_UP, True),
    TENANT_CLEAN_UP_FAILURE: Ending(Kind.CLEAN_UP, False),
}


def outcome_type(kind: Kind, *, succeeded: bool) -> str:
    """The event type that ends an operation of the kind."""
    return next(name for name, ending in ENDS.items() if ending == Ending(kind, succeeded))
