"""The built-in handlers: one plain async function for each event type.

They are defaults of every registry. Whoever replaces one may still call it:
`await handlers.tenant_provisioning(event, run)`.
"""

from collections.abc import Sequence
from typing import Any

from orchestrator.core import events
from orchestrator.core.events import Event
from orchestrator.core.payloads import (
    TenantDeployment,
    TenantDeprovisioning,
    TenantOutcome,
    TenantProvisioning,
)
from orchestrator.core.plans import (
    DEPLOYMENT_JOB,
    DEPROVISIONING_JOB,
    PROVISIONING_JOB,
    job_identifier,
    plan_job,
)
from orchestrator.core.ports import Tier
from orchestrator.core.registry import HandlerRegistry
from orchestrator.core.run import Run


async def tenant_provisioning(event: Event[TenantProvisioning], run: Run) -> None:
    """Start the job that the tenant's tier names."""
    await _start(event, run, await _tier(event, run), PROVISIONING_JOB)


async def tenant_deprovisioning(event: Event[TenantDeprovisioning], run: Run) -> None:
    """Start the job that takes the tenant down again."""
    await _start(event, run, await _tier(event, run), DEPROVISIONING_JOB)


async def tenant_deployment(event: Event[TenantDeployment], run: Run) -> None:
    """Start the tier's deployment job; a deployment without one is over when this returns."""
    named = event.payload.named_tier or await run.tenant_tier()
    tier = await run.tier_details(named) if named else {}
    if job_identifier(tier, DEPLOYMENT_JOB) is not None:
        await _start(event, run, tier, DEPLOYMENT_JOB)


async def tenant_outcome(event: Event[TenantOutcome], run: Run) -> None:
    """Take note: the lifecycle moves with the event's type."""


async def build_state_change(event: Event[dict[str, Any]], run: Run) -> None:
    """A build of somebody else's is none of our business."""


def built_in_handlers() -> HandlerRegistry:
    """A registry of the built-in handlers, to be the default of a user's own."""
    registry = HandlerRegistry()
    registry.register(events.TENANT_PROVISIONING, tenant_provisioning)
    registry.register(events.TENANT_DEPROVISIONING, tenant_deprovisioning)
    registry.register(events.TENANT_DEPLOYMENT, tenant_deployment)
    for outcome in (
        events.TENANT_PROVISIONING_SUCCESS,
        events.TENANT_PROVISIONING_FAILURE,
        events.TENANT_DEPLOYMENT_SUCCESS,
        events.TENANT_DEPLOYMENT_FAILURE,
        events.TENANT_DEPROVISIONING_SUCCESS,
        events.TENANT_DEPROVISIONING_FAILURE,
    ):
        registry.register(outcome, tenant_outcome)
    registry.register(events.BUILD_STATE_CHANGE, build_state_change)
    return registry


async def _tier(event: Event[Any], run: Run) -> Tier:
    """The tier that the event names, else the one that the tenant was provisioned with."""
    return await run.tier_details(event.payload.named_tier or await run.tenant_tier())


async def _start(event: Event[Any], run: Run, tier: Tier, attributes: Sequence[str]) -> None:
    plan = plan_job(event, tier, attributes)
    await run.start_job(plan.job_identifier, plan.variables, builder=plan.builder)
