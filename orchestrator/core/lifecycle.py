"""Which event moves a tenant where.

The moves belong to the event type and are made by the orchestrator, whoever handles the
event.
"""

from collections.abc import Mapping

from orchestrator.core import events

#: The state in which a tenant is once an event of the type has been handled.
STATE_AFTER: Mapping[str, str] = {
    events.TENANT_PROVISIONING: "provisioning",
    events.TENANT_PROVISIONING_SUCCESS: "provisioned",
    events.TENANT_PROVISIONING_FAILURE: "provision_failed",
    events.TENANT_DEPLOYMENT: "deploying",
    events.TENANT_DEPLOYMENT_SUCCESS: "active",
    events.TENANT_DEPLOYMENT_FAILURE: "deployment_failed",
    events.TENANT_DEPROVISIONING: "deprovisioning",
    events.TENANT_DEPROVISIONING_SUCCESS: "deprovisioned",
    events.TENANT_DEPROVISIONING_FAILURE: "deprovision_failed",
}
