"""The payload models of the built-in event types.

Senders spell the same fact in several ways; a model has a field for each spelling, so that a
mismatch is reported at the sender's own field, and a property for the fact.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

# Public for users' handlers, as `orchestrator.payloads.read_…`.
from orchestrator.core.events.body import (
    read_app_plane_url as read_app_plane_url,
)
from orchestrator.core.events.body import (
    read_builder as read_builder,
)
from orchestrator.core.events.body import (
    read_context as read_context,
)
from orchestrator.core.events.body import (
    read_contradiction as read_contradiction,
)
from orchestrator.core.events.body import (
    read_ended_job as read_ended_job,
)
from orchestrator.core.events.body import (
    read_object as read_object,
)
from orchestrator.core.events.body import (
    read_operation as read_operation,
)
from orchestrator.core.events.body import (
    read_reason as read_reason,
)
from orchestrator.core.events.body import (
    read_registration_id as read_registration_id,
)
from orchestrator.core.events.body import (
    read_request_key as read_request_key,
)
from orchestrator.core.events.body import (
    read_resources as read_resources,
)
from orchestrator.core.events.body import (
    read_secret as read_secret,
)
from orchestrator.core.events.body import (
    read_tenant_id as read_tenant_id,
)
from orchestrator.core.events.body import (
    read_tier as read_tier,
)
from orchestrator.core.events.body import (
    read_webhook_url as read_webhook_url,
)


def json_name(name: str) -> dict[str, str]:
    """Field metadata for a name in JSON that isn't the field's name in camelCase."""
    return {"json_name": name}


@attrs.frozen(kw_only=True)
class Tenant:
    """The tenant, as an object or as JSON text (as in a build's environment)."""

    id: str = attrs.field(validator=attrs.validators.min_len(1))
    name: str | None = None
    key: str | None = None


@attrs.frozen(kw_only=True)
class FeatureValue:
    """What a tenant has chosen for a feature."""

    value: Any = None


@attrs.frozen(kw_only=True)
class Feature:
    """A feature of a plan, as arc-saas' subscriptions have it."""

    key: str
    default_value: Any = None
    value: FeatureValue | None = None

    @property
    def chosen(self) -> Any:
        """The tenant's choice, else the default."""
        if self.value is not None and self.value.value is not None:
            return self.value.value
        return self.default_value


@attrs.frozen(kw_only=True)
class Plan:
    """A plan: its tier and its features."""

    tier: str | None = None
    features: list[Feature] | None = None

    def feature(self, key: str) -> Any:
        """The value of a feature, None without one."""
        return next((f.chosen for f in self.features or () if f.key == key), None)


@attrs.frozen(kw_only=True)
class Subscription:
    """A subscription, as arc-saas' control plane sends it."""

    plan: Plan | None = None


@attrs.frozen(kw_only=True)
class BuilderOptions:
    """The options of a builder; others are ignored."""

    environment_override: dict[str, Any] | None = None


@attrs.frozen(kw_only=True)
class BuilderConfig:
    """Which builder starts the job, and how."""

    type: str | None = None
    config: BuilderOptions | None = None


def spells(fact: str) -> dict[str, str]:
    """Field metadata for one of several spellings of a fact of `_FACTS`."""
    return {"spells": fact}


@attrs.frozen(kw_only=True)
class TenantEvent:
    """The fields of all events about a tenant; the base of the built-in models."""

    #: The facts that such an event must have, in any spelling.
    needs: ClassVar[frozenset[str]] = frozenset()

    tenant: Tenant | None = attrs.field(default=None, metadata=spells("tenant"))
    tenant_id: str | None = attrs.field(default=None, metadata=spells("tenant"))
    tenant_id_variable: str | None = attrs.field(
        default=None, metadata=spells("tenant") | json_name("TENANT_ID")
    )
    tenant_registration_id: str | None = attrs.field(default=None, metadata=spells("registration"))
    plan_config: Plan | None = attrs.field(default=None, metadata=spells("tier"))
    subscription: Subscription | None = attrs.field(default=None, metadata=spells("tier"))
    plan: Plan | None = attrs.field(default=None, metadata=spells("tier"))
    tenant_data: Plan | None = attrs.field(default=None, metadata=spells("tier"))
    tier: str | None = attrs.field(default=None, metadata=spells("tier"))
    builder_config: BuilderConfig | None = None

    @property
    def plans(self) -> tuple[Plan, ...]:
        """Its plans, in order of precedence."""
        subscribed = self.subscription.plan if self.subscription else None
        return tuple(plan for plan in (self.plan_config, subscribed, self.plan) if plan)

    @property
    def named_tier(self) -> str | None:
        """The tier that the event names; with None the tenant's own is used."""
        planned = next((plan.tier for plan in self.plans if plan.tier), None)
        return planned or self.tier or (self.tenant_data.tier if self.tenant_data else None)

    @property
    def identity_provider(self) -> Any:
        """The value of the plan's feature `IdP`."""
        return next((idp for plan in self.plans if (idp := plan.feature("IdP"))), None)

    @property
    def builder(self) -> str | None:
        return self.builder_config.type if self.builder_config else None

    @property
    def environment_override(self) -> Mapping[str, Any]:
        options = self.builder_config.config if self.builder_config else None
        return (options.environment_override if options else None) or {}


@attrs.frozen(kw_only=True)
class TenantRequest(TenantEvent):
    """A request for an operation on a tenant, which it must name."""

    needs: ClassVar[frozenset[str]] = frozenset({"tenant"})

    def __attrs_post_init__(self) -> None:
        if not any((self.tenant, self.tenant_id, self.tenant_id_variable)):
            raise ValueError(
                "must name the tenant: as tenant.id, tenantId or TENANT_ID; a tenantRegistrationId "
                "isn't enough"
            )


@attrs.frozen(kw_only=True)
class TenantProvisioning(TenantRequest):
    """TENANT_PROVISIONING. The tier may be omitted for an existing tenant."""

    needs: ClassVar[frozenset[str]] = frozenset({"tenant", "tier"})


@attrs.frozen(kw_only=True)
class TenantDeprovisioning(TenantRequest):
    """TENANT_DEPROVISIONING."""


@attrs.frozen(kw_only=True)
class TenantDeployment(TenantRequest):
    """TENANT_DEPLOYMENT."""


@attrs.frozen(kw_only=True)
class TenantCleanUp(TenantRequest):
    """TENANT_CLEAN_UP: removes the rest of a failed provisioning."""


@attrs.frozen(kw_only=True)
class EndedJob:
    """The job that an operation ended with, by its builder's last description.

    `status` is a `JobStatus`, or UNKNOWN if the builder doesn't know the job any more, or can't
    describe jobs.
    """

    id: str
    builder: str
    job_identifier: str
    status: str
    log_url: str | None = None
    phase: str | None = None
    message: str | None = None
    exported_variables: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class TenantOutcome(TenantEvent):
    """How an operation ended: the `_SUCCESS` and the `_FAILURE` types.

    A build that fails early can't name its tenant yet, so nothing is required. `ended_job` is set
    in the service's own events; other senders' values are ignored.
    """

    codebuild_build_id: str | None = attrs.field(
        default=None, metadata=json_name("CODEBUILD_BUILD_ID")
    )
    reason: Any = None
    ended_job: EndedJob | None = attrs.field(default=None, metadata={"is_sent": False})


def read_job_id(body: Mapping[str, Any]) -> str | None:
    """The id of the build that sent a self-report."""
    named = body.get("CODEBUILD_BUILD_ID")
    return named if isinstance(named, str) and named else None
