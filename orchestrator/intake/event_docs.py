"""What the OpenAPI document says of each event type."""

from collections.abc import Mapping
from inspect import cleandoc

from orchestrator.core.events.event_types import (
    BUILD_STATE_CHANGE,
    TENANT_CLEAN_UP,
    TENANT_CLEAN_UP_FAILURE,
    TENANT_CLEAN_UP_SUCCESS,
    TENANT_DEPLOYMENT,
    TENANT_DEPLOYMENT_FAILURE,
    TENANT_DEPLOYMENT_SUCCESS,
    TENANT_DEPROVISIONING,
    TENANT_DEPROVISIONING_FAILURE,
    TENANT_DEPROVISIONING_SUCCESS,
    TENANT_PROVISIONING,
    TENANT_PROVISIONING_FAILURE,
    TENANT_PROVISIONING_SUCCESS,
)
from orchestrator.core.handlers.registry import Registration

_REQUEST = (
    "Opens the operation and starts {job}. A request that is sent again starts no second job; one "
    "that finds the tenant busy with another operation waits for it, in order, and is answered 503."
)
_OUTCOME = (
    "Ends the operation, which is named by `operationId`, the start key, the job's id or the "
    "tenant. The builder is queried first, and its answer counts. {then}"
)
_ON_SUCCESS = "Then the tenant's deployment is requested, and the control plane gets its report."
_ON_FAILURE = "Then the control plane gets its report, and a clean-up follows if the tier has one."
_REPORT = "Then the control plane gets its report."
_NOTHING = "Nothing follows."
_STATE_CHANGE = (
    "Amazon EventBridge sends it as `CodeBuild Build State Change`. The build is looked up in AWS "
    "CodeBuild; if it is over, its operation ends. Other services' builds are answered 200 and "
    "ignored."
)

#: What an event of each built-in type requests or reports, and what is done.
_WORDS: Mapping[str, tuple[str, str]] = {
    TENANT_PROVISIONING: (
        "Provision a tenant",
        _REQUEST.format(job="the job that the tier names, such as an AWS CodeBuild build"),
    ),
    TENANT_DEPROVISIONING: (
        "Deprovision a tenant",
        _REQUEST.format(job="the tier's `deprovisioningJobIdentifier`"),
    ),
    TENANT_DEPLOYMENT: (
        "Deploy a tenant's application",
        _REQUEST.format(job="the tier's `deploymentJobIdentifier`, if it has one"),
    ),
    TENANT_CLEAN_UP: (
        "Clean up after a failed provisioning",
        _REQUEST.format(job="the tier's `cleanupJobIdentifier`"),
    ),
    TENANT_PROVISIONING_SUCCESS: (
        "Report that a provisioning succeeded",
        _OUTCOME.format(then=_ON_SUCCESS),
    ),
    TENANT_PROVISIONING_FAILURE: (
        "Report that a provisioning failed",
        _OUTCOME.format(then=_ON_FAILURE),
    ),
    TENANT_DEPLOYMENT_SUCCESS: (
        "Report that a deployment succeeded",
        _OUTCOME.format(then=_REPORT),
    ),
    TENANT_DEPLOYMENT_FAILURE: (
        "Report that a deployment failed",
        _OUTCOME.format(then=_REPORT),
    ),
    TENANT_DEPROVISIONING_SUCCESS: (
        "Report that a deprovisioning succeeded",
        _OUTCOME.format(then=_REPORT),
    ),
    TENANT_DEPROVISIONING_FAILURE: (
        "Report that a deprovisioning failed",
        _OUTCOME.format(then=_REPORT),
    ),
    TENANT_CLEAN_UP_SUCCESS: (
        "Report that a clean-up succeeded",
        _OUTCOME.format(then=_NOTHING),
    ),
    TENANT_CLEAN_UP_FAILURE: ("Report that a clean-up failed", _OUTCOME.format(then=_NOTHING)),
    BUILD_STATE_CHANGE: (
        "Notify of an AWS CodeBuild build's state change",
        _STATE_CHANGE,
    ),
}


def describe_event(registration: Registration) -> tuple[str, str]:
    """The summary and the description of an event type's path.

    Those of a handler of your own are its docstring's first line and the docstring.
    """
    words = _WORDS.get(registration.event_type)
    if words is not None:
        return words
    name = registration.event_type
    description = cleandoc(registration.handler.__doc__ or "")
    summary = description.partition("\n")[0].rstrip(".")
    return summary or f"Handle {name}", description or f"Handled by `{registration.place}`."
