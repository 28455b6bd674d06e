"""The AWS SaaS Builder Toolkit: its requests, and the results for its control plane.

Names and shapes are those of github.com/awslabs/sbt-aws (`src/utils/event-manager.ts`,
`src/core-app-plane/script-job.ts`, `resources/functions/tenant-registrations/index.py`); the names
of its requests are aliases of ours (`core.events.event_types`).
"""

from collections.abc import Mapping
from typing import Any

from orchestrator.core.events.body import read_registration_id
from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import TENANT_CLEAN_UP, TENANT_DEPLOYMENT, Ending, Kind

#: The sources of its two planes, unless its user has chosen others.
CONTROL_PLANE = "sbt.control.plane"
APPLICATION_PLANE = "sbt.application.plane"

#: What all of its detail-types begin with.
_PREFIX = "sbt_aws_"
#: Its control plane updates a registration with the `jobOutput` of these.
RESULTS: Mapping[Ending, str] = {
    Ending(Kind.PROVISIONING, True): f"{_PREFIX}provisionSuccess",
    Ending(Kind.PROVISIONING, False): f"{_PREFIX}provisionFailure",
    Ending(Kind.DEPROVISIONING, True): f"{_PREFIX}deprovisionSuccess",
    Ending(Kind.DEPROVISIONING, False): f"{_PREFIX}deprovisionFailure",
}
#: What its sample scripts set the registration's status to.
_STATUSES: Mapping[Kind, str] = {Kind.PROVISIONING: "created", Kind.DEPROVISIONING: "deleted"}
#: What its script jobs say of a failure.
_FAILURES: Mapping[Kind, str] = {
    Kind.PROVISIONING: "Failed to provision tenant.",
    Kind.DEPROVISIONING: "Failed to deprovision tenant.",
}

_STATUS = "registrationStatus"
#: The keys of its tables, which no update may set.
_KEYS = frozenset({"tenantId", "tenantRegistrationId"})
#: What it has no requests for.
_FOLLOW_UPS = frozenset({TENANT_CLEAN_UP, TENANT_DEPLOYMENT})


def is_of_toolkit(event: Event[Any]) -> bool:
    """The event is a request of the toolkit's, by its name or its source, or follows one: a
    clean-up or a deployment that carries its registration."""
    if event.type in _FOLLOW_UPS:
        return read_registration_id(event.body) is not None
    return (event.sent_as or "").startswith(_PREFIX) or event.source == CONTROL_PLANE


def build_job_output(
    ending: Ending, exported: Mapping[str, str], reason: str | None
) -> Mapping[str, Any]:
    """The `jobOutput` of a result.

    `exported` are the variables that the job exported: the registration's status, which a script
    may leave to us, and the tenant's data. Of a job that failed they may be wrong, and are left
    out; the control plane keeps whatever `tenantRegistrationData` has, so the reason is there.
    """
    if not ending.succeeded:
        why = {} if reason is None else {"reason": reason}
        return {
            "tenantStatus": _FAILURES[ending.kind],
            "tenantData": {},
            "tenantRegistrationData": {_STATUS: "failed", **why},
        }
    return {
        "tenantData": {
            name: value for name, value in exported.items() if name not in {_STATUS, *_KEYS}
        },
        "tenantRegistrationData": {_STATUS: exported.get(_STATUS) or _STATUSES[ending.kind]},
    }
