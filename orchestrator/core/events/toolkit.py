"""The AWS SaaS Builder Toolkit: recognizes its requests, builds results for its control plane.

Names and shapes are those of github.com/awslabs/sbt-aws (`src/utils/event-manager.ts`,
`src/core-app-plane/script-job.ts`, `resources/functions/tenant-registrations/index.py`); the names
of its requests are aliases (`core.events.event_types`).
"""

from collections.abc import Mapping
from typing import Any

from orchestrator.core.events.body import read_registration_id
from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import TENANT_CLEAN_UP, TENANT_DEPLOYMENT, Ending, Kind

#: The default sources of its two planes.
CONTROL_PLANE = "sbt.control.plane"
APPLICATION_PLANE = "sbt.application.plane"

#: The prefix of its detail-types.
_PREFIX = "sbt_aws_"
#: The types of results; its control plane updates a registration with their `jobOutput`.
RESULTS: Mapping[Ending, str] = {
    Ending(Kind.PROVISIONING, True): f"{_PREFIX}provisionSuccess",
    Ending(Kind.PROVISIONING, False): f"{_PREFIX}provisionFailure",
    Ending(Kind.DEPROVISIONING, True): f"{_PREFIX}deprovisionSuccess",
    Ending(Kind.DEPROVISIONING, False): f"{_PREFIX}deprovisionFailure",
}
#: The registration's status that its sample scripts set.
_STATUSES: Mapping[Kind, str] = {Kind.PROVISIONING: "created", Kind.DEPROVISIONING: "deleted"}
#: The failure messages of its script jobs.
_FAILURES: Mapping[Kind, str] = {
    Kind.PROVISIONING: "Failed to provision tenant.",
    Kind.DEPROVISIONING: "Failed to deprovision tenant.",
}

_STATUS = "registrationStatus"
#: The keys of its tables, which an update must not set.
_KEYS = frozenset({"tenantId", "tenantRegistrationId"})
#: The events for which it has no request of its own.
_FOLLOW_UPS = frozenset({TENANT_CLEAN_UP, TENANT_DEPLOYMENT})


def is_of_toolkit(event: Event[Any]) -> bool:
    """Whether the event is a request of the toolkit, by type or source, or follows one: a clean-up
    or a deployment with its registration."""
    if event.type in _FOLLOW_UPS:
        return read_registration_id(event.body) is not None
    return (event.sent_as or "").startswith(_PREFIX) or event.source == CONTROL_PLANE


def build_job_output(
    ending: Ending, exported: Mapping[str, str], reason: str | None
) -> Mapping[str, Any]:
    """The `jobOutput` of a result.

    `exported` are the job's exported variables: the registration's status, which a script may
    omit, and the tenant's data. Those of a failed job may be wrong, and are left out; the control
    plane stores everything in `tenantRegistrationData`, so the reason is put there.
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
