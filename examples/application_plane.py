"""The application plane of a control plane that is built with the AWS SaaS Builder Toolkit.

    orchestrator serve --app-dir examples --config examples/application_plane.toml

A rule on the control plane's bus sends `sbt_aws_onboardingRequest` and `sbt_aws_offboardingRequest`
here (source `sbt.control.plane`). Both have built-in handlers: the tier's job is started with the
request's fields as its variables, and its result goes back to the control plane as
`sbt_aws_provisionSuccess`. This module adds what is yours alone: a limit before the onboarding.
"""

from orchestrator import Event, HandlerRegistry, PermanentError, Run, handlers, payloads

registry = HandlerRegistry()
OPEN_TIERS = {"BASIC", "PREMIUM"}


@registry.on("TENANT_PROVISIONING")  # the toolkit's onboarding request is an alias of it
async def onboard(event: Event[payloads.TenantProvisioning], run: Run) -> None:
    if (tier := event.body.get("tier")) not in OPEN_TIERS:
        raise PermanentError(f"The tier {tier} is closed to new tenants.")
    await handlers.tenant_provisioning(event, run)
