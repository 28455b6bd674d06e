"""`orchestrator explain`: how an event would be parsed and which job it would start, without any
effect."""

from collections.abc import Mapping
from typing import Any

import attrs

from orchestrator.cli.layout import fields
from orchestrator.core.errors import OrchestratorError, PermanentError, UnsupportedEventType
from orchestrator.core.events.body import read_tenant_id
from orchestrator.core.events.envelope import Delivery, parse_event, read_event_type
from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import (
    ENDS,
    OPENS,
    RECONCILE,
    TENANT_DEPLOYMENT,
)
from orchestrator.core.events.javascript import to_text
from orchestrator.core.events.payloads import TenantRequest
from orchestrator.core.handlers.builtin import is_built_in
from orchestrator.core.handlers.registry import Registration
from orchestrator.core.handlers.services import Services
from orchestrator.core.identifiers import START_KEY, TRACEPARENT
from orchestrator.core.jobs.builder_calls import builder_errors, prepare
from orchestrator.core.jobs.plan import JobPlan, choose_builder, find_tier, job_identifier, plan_job
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.parts import Parts
from orchestrator.settings import Settings
from orchestrator.wire.codec import decode_json
from orchestrator.wire.fields import json_field_name

#: Variables that each start sets itself, over those of the event.
_SET_BY_A_START = frozenset({START_KEY, TRACEPARENT})


@attrs.frozen(kw_only=True)
class Explanation:
    """How an event is parsed, and its job; `note` is why no job is named. `trouble` is why the
    event would be refused; None if it wouldn't."""

    event_type: str
    handler: str | None
    source: str
    event_id: str
    key: str
    tenant_id: str | None
    tier: str | None = None
    builder: str | None = None
    job_identifier: str | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict)
    variables: Mapping[str, Any] = attrs.field(factory=dict)
    note: str | None = None
    trouble: str | None = None

    def as_json(self) -> dict[str, Any]:
        """As JSON, with names in camelCase as in the API."""
        return {
            json_field_name(field): getattr(self, field.name) for field in attrs.fields(type(self))
        }

    def as_lines(self, *, width: int | None = None) -> list[str]:
        """As text: a line for each field, and for each option and variable of the job, which are
        written as a build gets them."""
        known = {
            "type": self.event_type,
            "handler": self.handler or "-",
            "source": self.source or "-",
            "id": self.event_id,
            "key": self.key,
            "tenant": self.tenant_id or "-",
            "tier": self.tier or "-",
            "builder": self.builder or "-",
            "job": self.job_identifier or "-",
            "note": self.note,
            "trouble": self.trouble,
        }
        options = [
            f"  codebuild.{name} = {to_text(value)}" for name, value in sorted(self.options.items())
        ]
        variables = [
            f"  {name} = {to_text(value)}"
            for name, value in sorted(self.variables.items())
            if value is not None
        ]
        return [
            *fields(known, width=width),
            *(["", "OPTIONS", *options] if options else []),
            *(["", "VARIABLES", *variables] if variables else []),
        ]


async def explain_event(settings: Settings, event_type: str | None, text: bytes) -> Explanation:
    """Explain the event in a JSON text; `event_type` None uses the type that it names.

    Raises:
        BadEvent: the text is not an event.
    """
    parts = Parts.choose(settings, None)
    body = decode_json(text)
    event: Event[Any] = parse_event(
        event_type or read_event_type(body),
        body,
        delivery=Delivery(same_content_same_event=True),
        aliases=parts.aliases,
        now=parts.clock.now(),
        fresh_id=parts.ids.fresh_id,
    )
    registration = parts.registry.by_type.get(event.type)
    explained = Explanation(
        event_type=event.type,
        handler=registration.place if registration else None,
        source=event.source,
        event_id=event.id,
        key=event.key,
        tenant_id=read_tenant_id(event.body),
    )
    if event.type == RECONCILE:
        return attrs.evolve(
            explained, handler="a sweep: resumes runs, checks jobs and sends reports that are due"
        )
    try:
        if registration is None:
            raise UnsupportedEventType(event.type)
        payload = parts.wire.structure(event.body, registration.payload)
        if not isinstance(payload, TenantRequest) or event.type not in OPENS:
            return attrs.evolve(explained, note=_why_no_job(registration))
        async with parts.open_ports() as ports:
            tier_name = await _tier_name(event, payload, ports.services)
            explained = attrs.evolve(explained, tier=tier_name)
            if not is_built_in(registration):
                return attrs.evolve(explained, note=_why_no_job(registration))
            plan = await _plan(attrs.evolve(event, payload=payload), tier_name, ports.services)
    except OrchestratorError as error:
        return attrs.evolve(explained, trouble=_sentence(error))
    if plan is None:
        return attrs.evolve(
            explained,
            note="No tier names a deployment job for it: the deployment succeeds at once.",
        )
    redactor = Redactor(parts.settings.log.redact)
    return attrs.evolve(
        explained,
        builder=plan.builder or parts.settings.builders.default,
        job_identifier=plan.job_identifier,
        options=plan.options,
        variables=redactor.redact(
            {name: value for name, value in plan.variables.items() if name not in _SET_BY_A_START}
        ),
    )


def _why_no_job(registration: Registration) -> str:
    if not is_built_in(registration):
        return (
            "The handler chooses its jobs as it runs: to see them without a start, send the event "
            "with builders.dry_run, where its steps do run."
        )
    ending = ENDS.get(registration.event_type)
    ends = f": it ends its tenant's {ending.kind.replace('_', '-')}" if ending else ""
    return f"It starts no job{ends}."


async def _tier_name(event: Event[Any], payload: TenantRequest, services: Services) -> str | None:
    """The tier that the event names, else the tenant's tier in the ledger."""
    tenant_id = read_tenant_id(event.body)
    if payload.named_tier or tenant_id is None:
        return payload.named_tier
    tenant = await services.transactions.find_tenant(tenant_id)
    return tenant.tier if tenant else None


async def _plan(
    event: Event[TenantRequest], tier_name: str | None, services: Services
) -> JobPlan | None:
    """The job that would be started; None for a deployment whose tier has no deployment job.

    The start request is built as for a real start, so that its errors are found.
    """
    may_be_without = event.type == TENANT_DEPLOYMENT
    if may_be_without and tier_name is None:
        return None
    tier = await find_tier(tier_name, services.tiers)
    kind = OPENS[event.type]
    if may_be_without and job_identifier(tier, kind) is None:
        return None
    plan = plan_job(event, tier, kind, secret_prefix=services.secret_prefix)
    name = choose_builder(plan.builder, services.builders, services.default_builder)
    with builder_errors(name, "build the request of a start"):
        prepare(
            services.builders[name],
            plan.job_identifier,
            plan.variables,
            options=plan.options,
            start_key=event.key,
        )
    return plan


def _sentence(error: OrchestratorError) -> str:
    """The answer's sentence, and each mismatch that it doesn't name."""
    said = str(error)
    errors = error.errors if isinstance(error, PermanentError) else ()
    more = [f"{one.path} {one.message}" for one in errors if one.message not in said]
    return " ".join((said, *(f"{line}." for line in more)))
