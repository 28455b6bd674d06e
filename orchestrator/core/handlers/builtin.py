"""The built-in handlers: one plain async function for each event type.

They are defaults of every registry. A handler that replaces one may still call it:
`await handlers.tenant_provisioning(event, run)`.
"""

from typing import Any

from orchestrator.core.errors import PermanentError
from orchestrator.core.events.body import (
    read_app_plane_url,
    read_ended_job,
    read_reason,
    read_resources,
    read_webhook_url,
)
from orchestrator.core.events.event import Event
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
    Ending,
    Kind,
)
from orchestrator.core.events.payloads import (
    TenantCleanUp,
    TenantDeployment,
    TenantDeprovisioning,
    TenantOutcome,
    TenantProvisioning,
)
from orchestrator.core.events.toolkit import RESULTS, build_job_output
from orchestrator.core.handlers.registry import HandlerRegistry, Registration
from orchestrator.core.handlers.run import Run
from orchestrator.core.identifiers import START_KEY
from orchestrator.core.jobs.plan import job_identifier, plan_job
from orchestrator.core.jobs.tier_catalog import Tier
from orchestrator.core.urls import read_origin, shown_url, web_address


async def tenant_provisioning(event: Event[TenantProvisioning], run: Run) -> None:
    """Start the job that the tenant's tier names."""
    await _start(event, run, await _tier(event, run), Kind.PROVISIONING)


async def tenant_deprovisioning(event: Event[TenantDeprovisioning], run: Run) -> None:
    """Start the job that removes the tenant."""
    await _start(event, run, await _tier(event, run), Kind.DEPROVISIONING)


async def tenant_deployment(event: Event[TenantDeployment], run: Run) -> None:
    """Start the tier's deployment job; without one the deployment succeeds when this returns."""
    named = event.payload.named_tier or await run.tenant_tier()
    tier = await run.tier_details(named) if named else {}
    if job_identifier(tier, Kind.DEPLOYMENT) is None:
        run.note("The tier has no deployment job: there is nothing more to do.")
    else:
        await _start(event, run, tier, Kind.DEPLOYMENT)


async def tenant_clean_up(event: Event[TenantCleanUp], run: Run) -> None:
    """Start the job that removes the rest of a failed provisioning."""
    await _start(event, run, await _tier(event, run), Kind.CLEAN_UP)


async def tenant_provisioning_success(event: Event[TenantOutcome], run: Run) -> None:
    """Publish the deployment; the report is sent now, or after the deployment."""
    is_later = run.callback.after is Kind.DEPLOYMENT
    await _report(event, run, succeeded=True, unless_deployed=is_later)
    await _publish_deployment(event, run)
    await _answer_toolkit(event, run, Ending(Kind.PROVISIONING, True))


async def _publish_deployment(event: Event[TenantOutcome], run: Run) -> None:
    if run.why_silent is not None:
        run.note(f"No TENANT_DEPLOYMENT was published, since {run.why_silent}.")
        return
    trusted = await run.trusted_body(event)
    made = {
        "tier": await run.tenant_tier(),
        "resources": read_resources(trusted) or None,
        "appPlaneUrl": read_app_plane_url(trusted),
        # A provisioning that is started again is deployed again.
        START_KEY: await run.ended_start() or event.body.get(START_KEY),
        **run.identity,
    }
    known = {name: value for name, value in made.items() if value is not None}
    await run.publish(TENANT_DEPLOYMENT, {**await run.request_body(), **known})
    run.note("TENANT_DEPLOYMENT was published.")


async def tenant_provisioning_failure(event: Event[TenantOutcome], run: Run) -> None:
    """Report to the control plane, and clean up if the tier has a job for that."""
    await _report(event, run, succeeded=False)
    if job_identifier(await _known_tier(run), Kind.CLEAN_UP) is not None:
        await _clean_up(event, run)
    await _answer_toolkit(event, run, Ending(Kind.PROVISIONING, False))


async def _clean_up(event: Event[TenantOutcome], run: Run) -> None:
    """Request a clean-up, unless it is unknown how the job ended: the tenant may work."""
    if read_ended_job(event).get("cleansUp") is False:
        run.note(
            "No clean-up follows, since it is unknown how the job ended "
            "(operations.clean_up_unknown): check what it has left, then deprovision the tenant or "
            "provision it again."
        )
        return
    run.clean_up({**await run.request_body(), "tier": await run.tenant_tier()})
    run.note("A clean-up follows.")


async def tenant_deployment_success(event: Event[TenantOutcome], run: Run) -> None:
    """Report to the control plane, unless that was done after the provisioning."""
    if run.callback.after is Kind.DEPLOYMENT:
        await _report(event, run, succeeded=True)


async def tenant_deployment_failure(event: Event[TenantOutcome], run: Run) -> None:
    """Report to the control plane."""
    await _report(event, run, succeeded=False)


async def tenant_deprovisioning_success(event: Event[TenantOutcome], run: Run) -> None:
    """Report to the control plane, if its request had a secret."""
    await _report(event, run, succeeded=True)
    await _answer_toolkit(event, run, Ending(Kind.DEPROVISIONING, True))


async def tenant_deprovisioning_failure(event: Event[TenantOutcome], run: Run) -> None:
    """Report to the control plane, if its request had a secret."""
    await _report(event, run, succeeded=False)
    await _answer_toolkit(event, run, Ending(Kind.DEPROVISIONING, False))


async def tenant_clean_up_outcome(event: Event[TenantOutcome], run: Run) -> None:
    """Do nothing: the failure has been reported before."""


async def build_state_change(event: Event[dict[str, Any]], run: Run) -> None:
    """Do nothing: the outcome event of the job's operation handles its end."""


def built_in_handlers() -> HandlerRegistry:
    """A registry of the built-in handlers, the defaults of a user's own."""
    registry = HandlerRegistry()
    registry.register(TENANT_PROVISIONING, tenant_provisioning)
    registry.register(TENANT_DEPROVISIONING, tenant_deprovisioning)
    registry.register(TENANT_DEPLOYMENT, tenant_deployment)
    registry.register(TENANT_CLEAN_UP, tenant_clean_up)
    registry.register(TENANT_PROVISIONING_SUCCESS, tenant_provisioning_success)
    registry.register(TENANT_PROVISIONING_FAILURE, tenant_provisioning_failure)
    registry.register(TENANT_DEPLOYMENT_SUCCESS, tenant_deployment_success)
    registry.register(TENANT_DEPLOYMENT_FAILURE, tenant_deployment_failure)
    registry.register(TENANT_DEPROVISIONING_SUCCESS, tenant_deprovisioning_success)
    registry.register(TENANT_DEPROVISIONING_FAILURE, tenant_deprovisioning_failure)
    registry.register(TENANT_CLEAN_UP_SUCCESS, tenant_clean_up_outcome)
    registry.register(TENANT_CLEAN_UP_FAILURE, tenant_clean_up_outcome)
    registry.register(BUILD_STATE_CHANGE, build_state_change)
    return registry


def is_built_in(registration: Registration) -> bool:
    """Whether the handler is the built-in one of its type, and no user's."""
    own = built_in_handlers().by_type.get(registration.event_type)
    return own is not None and own.handler is registration.handler


async def _tier(event: Event[Any], run: Run) -> Tier:
    """The tier that the event names, else the one that the tenant was provisioned with."""
    return await run.tier_details(event.payload.named_tier or await run.tenant_tier())


async def _known_tier(run: Run) -> Tier:
    """The tier of the operation that the event ends; without attributes if it no longer exists,
    since the end of an operation must not depend on it."""
    name = await run.tenant_tier()
    try:
        return await run.tier_details(name) if name else {}
    except PermanentError as error:
        run.note(f"The tier is not known: {error}")
        return {}


async def _report(
    event: Event[TenantOutcome], run: Run, *, succeeded: bool, unless_deployed: bool = False
) -> None:
    """Request a report to the control plane, if there are credentials and a webhook."""
    if not await run.has_credentials():
        return
    url = await _webhook_url(event, run)
    if url is None:
        return
    trusted = {**await run.made_before(), **await run.trusted_body(event)}
    try:
        run.report(
            succeeded=succeeded,
            url=url,
            resources=read_resources(trusted),
            app_plane_url=read_app_plane_url(trusted),
            unless_deployed=unless_deployed,
        )
    except ValueError as error:
        run.note(f"The report is sent without resources, since {error}.")
        run.report(succeeded=succeeded, url=url, unless_deployed=unless_deployed)


async def report_refusal(event: Event[Any], run: Run) -> None:
    """Request a report that the event's operation could not begin, if there are credentials and a
    webhook.

    Raises:
        TemporaryError: ledger or tier catalog can't be reached to find the webhook.
    """
    if not run.callback.refusals or not await run.has_credentials():
        return
    if run.is_dry:
        run.note("No report is sent to the control plane, since this is a dry run.")
        return
    url = await _webhook_url(event, run)
    if url is None:
        return
    try:
        run.report_refusal(url)
    except ValueError as error:
        run.note(f"No report is sent to the control plane, since {error}.")


async def _answer_toolkit(event: Event[TenantOutcome], run: Run, ending: Ending) -> None:
    """Publish the result for the SaaS Builder Toolkit, if the tenant has a registration. It is the
    last step of a handler: if the bus refuses it permanently, all others are done."""
    registration_id, name = await run.registration_id(), RESULTS[ending]
    if registration_id is None or event.sent_as == name:
        return  # not from the toolkit, or the event is that result itself
    if run.why_silent is not None:
        run.note(f"No {name} was published, since {run.why_silent}.")
        return
    exported = read_ended_job(event).get("exportedVariables") or {}
    output = build_job_output(ending, exported, read_reason(await run.trusted_body(event)))
    detail = {
        "tenantRegistrationId": registration_id,
        "jobOutput": output,
        # The event comes back over the bus, and must not end a later start.
        START_KEY: await run.ended_start(),
    }
    await run.publish(name, detail, source=run.sbt_source)
    run.note(f"{name} was published.")


async def _webhook_url(event: Event[Any], run: Run) -> str | None:
    """The control plane's webhook, if there is one."""
    url = await _find_webhook_url(event, run)
    if url is not None and web_address(url) is None:
        run.note(f"No report is sent to the control plane: {shown_url(url)!r} is no web address.")
        return None
    return url


async def _find_webhook_url(event: Event[Any], run: Run) -> str | None:
    """The webhook of the settings, else of the tier, else of the event if its origin is allowed.

    Otherwise a build could name any address, and the service would call it from inside the network
    (SSRF).
    """
    if run.callback.url is not None:
        return run.callback.url
    tier = await _known_tier(run)
    if isinstance(named := tier.get("API_ENDPOINT"), str) and named:
        return named
    trusted = await run.trusted_body(event)
    named_url = read_webhook_url(trusted) or read_webhook_url(await run.request_body())
    if named_url is None:
        return None
    if read_origin(named_url) not in run.callback.allowed_origins:
        run.note(
            f"No report is sent to the control plane: {shown_url(named_url)!r} is at no origin of "
            "callback.allowed_hosts (https and its port 443 where an entry names no other)."
        )
        return None
    return named_url


async def _start(event: Event[Any], run: Run, tier: Tier, kind: Kind) -> None:
    plan = plan_job(event, tier, kind, secret_prefix=run.secret_prefix)
    await run.start_job(
        plan.job_identifier, plan.variables, builder=plan.builder, options=plan.options
    )
