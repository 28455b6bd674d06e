"""Plans the job that an event would start, without side effects: which one, on which builder, with
which variables and options.

Variables are JSON values, which every builder can convert to text.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import attrs
import structlog

from orchestrator.core.errors import PayloadMismatch, PermanentError, event_mismatch
from orchestrator.core.events.body import read_object, read_tenant_id
from orchestrator.core.events.event import Event
from orchestrator.core.events.event_types import JOB_ATTRIBUTES, Kind
from orchestrator.core.events.javascript import stringify
from orchestrator.core.events.json_text import as_json, has_more_values
from orchestrator.core.events.payloads import TenantRequest
from orchestrator.core.events.toolkit import is_of_toolkit
from orchestrator.core.jobs.tier_catalog import Tier, TierCatalog

#: The maximum number of variables that an event or a handler passes to a job: far more than any job
#: needs, and few enough that no event keeps the process busy with them.
MAX_VARIABLES = 1000
#: The maximum number of values in all of a job's variables: one for every 64 bytes of 256 KiB,
#: twice what a process of Linux takes in one variable (execve(2), MAX_ARG_STRLEN).
MAX_VARIABLE_VALUES = 4096
#: The maximum number of names in a line of the log.
_MOST_NAMED = 20

_LEGAL_NAME = re.compile(r"(?!CODEBUILD_)[A-Za-z_][A-Za-z0-9_]*")

_NAME_RULE = (
    "is no variable name: letters, digits and _, not a digit first, not starting with CODEBUILD_"
)

#: Fields of a body that are passed to a job in another way.
_OWN_FIELDS = frozenset({"tenant", "builderConfig"})
#: Names that shells and tools interpret, which a body's fields must not set: POSIX reserves names
#: in capitals (XBD 8.1), and some tools use others, too.
_STEERS_TOOLS = re.compile(r"[A-Z0-9_]+|TF_VAR_.*|npm_config_.*|.*_proxy")
_RESERVED_NAME = re.compile(r"jobIdentifier|.*JobIdentifier|builder|codebuild")

log = structlog.get_logger("orchestrator.plan")


@attrs.frozen(kw_only=True)
class JobPlan:
    """A job to start; `builder` None is the default one, `options` are for the builder."""

    job_identifier: str
    variables: Mapping[str, Any]
    builder: str | None
    options: Mapping[str, Any]


async def find_tier(tier: str | None, tiers: TierCatalog) -> Tier:
    """A tier of the catalog. Raises PermanentError if none is named or it doesn't exist."""
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
    """The job that a tier names for operations of the kind; an empty name counts as none."""
    return next((tier[name] for name in JOB_ATTRIBUTES[kind] if tier.get(name)), None)


def named_job(tier: Tier, kind: Kind) -> str:
    """The same, for an operation that needs a job.

    Raises:
        PermanentError: the tier names no job for it, or what it names is no text.
    """
    named = job_identifier(tier, kind)
    if named is None:
        raise _tier_error(
            "Builder Job name not found in plan details",
            f"the tier has no attribute {' or '.join(JOB_ATTRIBUTES[kind])}",
        )
    _require_text("job identifier", named)
    return named


def _require_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise _tier_error(
            f"The tier's {name} is {value!r}: it must be text.", f"the tier's {name} is no text"
        )


def choose_builder(name: str | None, builders: Collection[str], default: str) -> str:
    """The name of a builder that there is, the default one for None.

    Raises:
        PermanentError: there is none of that name.
    """
    chosen = name or default
    if chosen not in builders:
        there = ", ".join(sorted(builders))
        raise PermanentError(
            "Invalid builder config provided.",
            errors=[
                PayloadMismatch(
                    "$.builderConfig.type", f"{chosen!r} is no builder here; there is {there}"
                )
            ],
        )
    return chosen


def plan_job(
    event: Event[TenantRequest],
    tier: Tier,
    kind: Kind,
    *,
    secret_prefix: str,
) -> JobPlan:
    """Plan the job of a request for a tenant of the tier, for an operation of the kind.

    Raises:
        PermanentError: the tier names no job for it, or an invalid name; an override has an
            illegal name, or refers to a secret under `secret_prefix`; a variable or an option can't
            be passed to a job.
    """
    named = named_job(tier, kind)
    builder = event.payload.builder or tier.get("builder")
    if builder is not None:
        _require_text("builder", builder)
    _refuse_many(event.payload.environment_override)
    override = {**event.payload.environment_override, "tenant": _tenant(event)}
    _refuse_large(override)
    _refuse_references(override, secret_prefix)
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
    """The tenant as sent, with the id that the event is claimed for, and the plan's identity
    provider."""
    sent = event.payload.environment_override.get("tenant", event.body.get("tenant"))
    tenant = {**read_object(sent), "id": read_tenant_id(event.body)}
    identity_provider = event.payload.identity_provider
    chosen = {} if identity_provider is None else {"identityProvider": identity_provider}
    return {**tenant, **chosen}


def _refuse_references(override: Mapping[str, Any], prefix: str) -> None:
    """An event must not refer to the secrets of other starts. References of a tier are the
    operator's, and allowed."""
    refused = [name for name, value in override.items() if _is_below(prefix, value)]
    if refused:
        reason = f"refers to a secret under {prefix}, which the service reserves"
        raise _override_error(dict.fromkeys(refused, reason))


def _is_below(prefix: str, value: Any) -> bool:
    """Whether a reference's name or ARN is below the prefix; Parameter Store accepts a name with or
    without its first slash (Systems Manager user guide, Working with parameter ARNs)."""
    match value:
        case {"type": "SECRETS_MANAGER" | "PARAMETER_STORE", "value": str(name)}:
            place = rf"\s*(arn:.*[:/]|/*){re.escape(prefix.strip('/'))}(/|\s*$)"
            return bool(prefix) and bool(re.match(place, name, re.DOTALL))
    return False


def build_variables(tier: Tier, override: Mapping[str, Any]) -> dict[str, Any]:
    """The job's variables by name, as JSON values.

    A tier's attribute with an illegal name is left out with a warning, since the tier table may
    serve other purposes, too. Attributes that configure the orchestrator are left out silently.

    Raises:
        PermanentError: an override has an illegal name, or a value can't be passed to a job.
    """
    illegal = {name: _NAME_RULE for name in override if not _LEGAL_NAME.fullmatch(name)}
    if illegal:
        raise _override_error(illegal)
    variables, odd = _split({**_legal(tier, "tier attributes"), **override})
    if of_event := {name: why for name, why in odd.items() if name in override}:
        raise _override_error(of_event)
    if odd:
        raise _attribute_error(odd)
    return variables


def build_field_variables(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a body as variables, each under its own name; objects and lists as JSON text.

    Fields with an illegal name, or with one that shells and tools interpret, are left out with a
    warning; those with another meaning (`tenant`, `builderConfig`, and names of tier attributes
    that configure the orchestrator) silently.

    Raises:
        PermanentError: a value can't be passed to a job.
    """
    _refuse_many(body)
    _refuse_large(body)
    fields = _legal({name: body[name] for name in body if name not in _OWN_FIELDS}, "fields")
    steering = list(filter(_STEERS_TOOLS.fullmatch, fields))
    _log_left_out("fields", steering, "shells and tools interpret such a name")
    harmless = {name: fields[name] for name in fields if not _STEERS_TOOLS.fullmatch(name)}
    passed, odd = _split(harmless)
    if odd:
        raise PermanentError(
            "A field can't be passed to a job.",
            errors=[PayloadMismatch(f"$.{name}", why) for name, why in odd.items()],
        )
    # Converted to text, so that no field can be a reference to a secret.
    return {
        name: stringify(value) if isinstance(value, dict | list) else value
        for name, value in passed.items()
    }


def as_variables(params: Mapping[str, Any]) -> dict[str, Any]:
    """The variables that a handler passes to a job, as JSON values.

    Raises:
        PermanentError: a value can't be passed to a job.
    """
    _refuse_many(params)
    _refuse_large(params)
    variables, odd = _split(params)
    for name, why in odd.items():
        raise event_mismatch(f"The variable {name} {why}.")
    return variables


def tier_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """A tier's `codebuild`, as JSON values.

    Raises:
        PermanentError: a value can't be passed to a builder.
    """
    passed, odd = _split({f"codebuild.{name}": value for name, value in options.items()})
    if odd:
        raise _attribute_error(odd)
    return {name.removeprefix("codebuild."): value for name, value in passed.items()}


def _attribute_error(odd: Mapping[str, str]) -> PermanentError:
    mismatches = [f"attribute {name} {why}" for name, why in odd.items()]
    return PermanentError(
        f"The tier's {mismatches[0]}.",
        errors=[PayloadMismatch("$.planConfig.tier", mismatch) for mismatch in mismatches],
    )


def _override_error(odd: Mapping[str, str]) -> PermanentError:
    return PermanentError(
        "Invalid builder config provided.",
        errors=[
            PayloadMismatch(f"$.builderConfig.config.environmentOverride.{name}", why)
            for name, why in odd.items()
        ],
    )


def _split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The values that are valid, as JSON values, and the errors of the others."""
    passed, odd = dict[str, Any](), dict[str, str]()
    for name, value in values.items():
        try:
            passed[name] = as_json(value)
        except ValueError as error:
            odd[name] = f"can't be passed to a job: {error}"
    return passed, odd


def _legal(values: Mapping[str, Any], what: str) -> dict[str, Any]:
    named = {name: value for name, value in values.items() if not _RESERVED_NAME.fullmatch(name)}
    passed = {name: value for name, value in named.items() if _LEGAL_NAME.fullmatch(name)}
    _log_left_out(what, [name for name in named if name not in passed], _NAME_RULE)
    return passed


def _log_left_out(what: str, names: Sequence[str], reason: str) -> None:
    """One line for all of them: a sender chooses how many there are."""
    if names:
        shown = list(names[:_MOST_NAMED])
        log.warning(f"{what} left out", attributes=shown, count=len(names), reason=reason)


def _refuse_many(variables: Collection[str]) -> None:
    if len(variables) > MAX_VARIABLES:
        raise event_mismatch(
            f"There are {len(variables)} variables for the job, and at most {MAX_VARIABLES} can be "
            "passed: send less, or one that refers to them."
        )


def _refuse_large(variables: Mapping[str, Any]) -> None:
    if has_more_values(variables, MAX_VARIABLE_VALUES):
        raise event_mismatch(
            f"The variables for the job have more than {MAX_VARIABLE_VALUES} values, which is the "
            "most that can be passed: send less, or one that refers to them."
        )
