"""What an event asks of a builder, worked out without doing it."""

from collections.abc import Mapping
from typing import Any

import attrs

from orchestrator.core.errors import PayloadMismatch, PermanentError
from orchestrator.core.events import (
    TENANT_DEPLOYMENT,
    TENANT_DEPROVISIONING,
    TENANT_PROVISIONING,
    Event,
)
from orchestrator.core.javascript import stringify
from orchestrator.core.payloads import TenantEvent, TenantRequest, read_object, read_tenant_id
from orchestrator.core.ports import Tier, TierCatalog
from orchestrator.core.variables import build_variables

#: The tier's attributes that may name a type's job, the first that is there counts.
JOB_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    TENANT_PROVISIONING: ("jobIdentifier", "jobName"),
    TENANT_DEPROVISIONING: ("deprovisioningJobIdentifier",),
    TENANT_DEPLOYMENT: ("deploymentJobIdentifier",),
}


@attrs.frozen(kw_only=True)
class JobPlan:
    """A job to start; `builder` None is the default one."""

    job_identifier: str
    variables: Mapping[str, Any]
    builder: str | None


def named_tier(payload: TenantEvent) -> str:
    """The tier that the payload names. Raises PermanentError if it names none."""
    if payload.named_tier is None:
        raise PermanentError(
            "The event names no tier.",
            errors=[
                PayloadMismatch(
                    "$.planConfig.tier",
                    "is missing; subscription.plan.tier, plan.tier and tier are read too",
                )
            ],
        )
    return payload.named_tier


async def find_tier(tier: str, tiers: TierCatalog) -> Tier:
    """A tier of the catalog. Raises PermanentError if it isn't there."""
    found = await tiers.find_tier(tier)
    if found is None:
        raise PermanentError(
            f"Tier {tier!r} is not in the tier catalog: add it, or send the event with "
            "a tier that is."
        )
    return found


def names_job(event_type: str, tier: Tier) -> bool:
    """Whether the tier has a job for events of the type."""
    return _job_identifier(event_type, tier) is not None


def plan_job(event: Event[TenantRequest], tier: Tier) -> JobPlan:
    """The job that a request means for a tenant of the tier.

    Raises:
        PermanentError: the tier names no job for it, or an override has an illegal name.
    """
    job_identifier = _job_identifier(event.type, tier)
    if job_identifier is None:
        raise PermanentError("Builder Job name not found in plan details")
    override = {**event.payload.environment_override, "tenant": _tenant_variable(event)}
    return JobPlan(
        job_identifier=job_identifier,
        variables=build_variables(tier, override),
        builder=event.payload.builder or tier.get("builder"),
    )


def _job_identifier(event_type: str, tier: Tier) -> str | None:
    return next((tier[name] for name in JOB_ATTRIBUTES[event_type] if tier.get(name)), None)


def _tenant_variable(event: Event[TenantRequest]) -> str:
    """The tenant as JSON text, with the identity provider that its plan chose."""
    sent = event.payload.environment_override.get("tenant", event.body.get("tenant"))
    tenant = read_object(sent) or {"id": read_tenant_id(event.body)}
    identity_provider = event.payload.identity_provider
    chosen = {} if identity_provider is None else {"identityProvider": identity_provider}
    return stringify({**tenant, **chosen})
