"""The job that an event would start, worked out without any side effect."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from orchestrator.core.errors import PayloadMismatch, PermanentError
from orchestrator.core.events.body import read_object, read_tenant_id
from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import JOB_ATTRIBUTES, Kind
from orchestrator.core.events.javascript import stringify
from orchestrator.core.events.payloads import TenantRequest
from orchestrator.core.events.toolkit import is_of_toolkit
from orchestrator.core.jobs.tier_catalog import Tier, TierCatalog
from orchestrator.core.jobs.variables import build_field_variables, build_variables, tier_options


@attrs.frozen(kw_only=True)
class JobPlan:
    """A job to start; `builder` None is the default one, `options` are how that one runs it."""

    job_identifier: str
    variables: Mapping[str, Any]
    builder: str | None
    options: Mapping[str, Any]


async def find_tier(tier: str | None, tiers: TierCatalog) -> Tier:
    """A tier of the catalog. Raises PermanentError if none is named or it isn't there."""
    if tier is None:
        raise _tier_error(
            "The event names no tier, and the tenant has none.",
            "is missing; subscription.plan.tier, plan.tier and tier are read too",
        )
    found = await tiers.find_tier(tier)
    if found is None:
        raise _tier_error(
            f"Tier {tier!r} is not in the tier catalog: add it, or send the event with "
            "a tier that is.",
            f"{tier!r} is not in the tier catalog",
        )
    return found


def job_identifier(tier: Tier, kind: Kind) -> str | None:
    """The job that a tier names for operations of the kind; an empty name is none."""
    return next((tier[name] for name in JOB_ATTRIBUTES[kind] if tier.get(name)), None)


def plan_job(
    event: Event[TenantRequest],
    tier: Tier,
    kind: Kind,
    *,
    check_override: Callable[[Mapping[str, Any]], None],
) -> JobPlan:
    """The job that a request means for a tenant of the tier, for an operation of the kind.

    `check_override` raises for what an event must not set (`SecretReferences.check_override`).

    Raises:
        PermanentError: the tier names no job for it, or one that is no name; an override has an
            illegal name; a variable or an option can't be passed on.
    """
    named = job_identifier(tier, kind)
    if named is None:
        raise _tier_error(
            "Builder Job name not found in plan details",
            f"the tier has no attribute {' or '.join(JOB_ATTRIBUTES[kind])}",
        )
    builder = event.payload.builder or tier.get("builder")
    for name, value in (("job identifier", named), ("builder", builder)):
        if value is not None and not isinstance(value, str):
            raise _tier_error(
                f"The tier's {name} is {value!r}: it must be text.", f"the tier's {name} is no text"
            )
    override = {**event.payload.environment_override, "tenant": _tenant(event)}
    check_override(override)
    fields = build_field_variables(event.body) if is_of_toolkit(event) else {}
    variables = build_variables({**fields, **tier}, override)
    return JobPlan(
        job_identifier=named,
        variables={**variables, "tenant": stringify(variables["tenant"])},
        builder=builder,
        options=_options(tier),
    )


def _options(tier: Tier) -> Mapping[str, Any]:
    options = tier.get("codebuild") or {}
    if not isinstance(options, Mapping):
        raise _tier_error(
            "The tier's attribute codebuild must be a map, such as "
            '{"computeType": "BUILD_GENERAL1_LARGE"}.',
            "the tier's codebuild is no map",
        )
    return tier_options(options)


def _tier_error(sentence: str, mismatch: str) -> PermanentError:
    return PermanentError(sentence, errors=[PayloadMismatch("$.planConfig.tier", mismatch)])


def _tenant(event: Event[TenantRequest]) -> Mapping[str, Any]:
    """The tenant as sent, under the id that the event is claimed for, with the identity provider
    that its plan chose."""
    sent = event.payload.environment_override.get("tenant", event.body.get("tenant"))
    tenant = {**read_object(sent), "id": read_tenant_id(event.body)}
    identity_provider = event.payload.identity_provider
    chosen = {} if identity_provider is None else {"identityProvider": identity_provider}
    return {**tenant, **chosen}
