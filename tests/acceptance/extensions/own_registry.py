"""A user's module: a registry and nothing else; a built-in handler is wrapped."""

from orchestrator import Event, HandlerRegistry, PermanentError, Run, handlers
from orchestrator.core.events.payloads import TenantProvisioning

registry = HandlerRegistry()


@registry.on("TENANT_PROVISIONING")
async def provision(event: Event[TenantProvisioning], run: Run) -> None:
    if event.payload.tier == "STANDARD" and event.body.get("unpaid"):
        raise PermanentError("Pay first.")
    await handlers.tenant_provisioning(event, run)


not_one = {"TENANT_PROVISIONING": provision}
