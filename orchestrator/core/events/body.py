"""The facts that any business body may carry, in each of their spellings.

A spelling that has another shape is ignored where another field has the fact.
"""

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.core.events.event import Event
from orchestrator.core.events.javascript import is_well_formed
from orchestrator.core.events.json_text import parse_json
from orchestrator.core.identifiers import START_KEY, read_start_key
from orchestrator.core.texts import web_address

#: DynamoDB's sort keys have at most 1 KB (developer guide, Constraints).
MAX_NAME_BYTES = 512


def read_tenant_id(body: Mapping[str, Any]) -> str | None:
    """The tenant that a business body of any type names, None where it names none."""
    tenant = body.get("tenant")
    candidates = (
        tenant.get("id") if isinstance(tenant, Mapping) else None,
        body.get("tenantId"),
        body.get("TENANT_ID"),
        read_object(tenant).get("id"),
    )
    return next((found for found in candidates if _is_name(found)), None)


def read_registration_id(body: Mapping[str, Any]) -> str | None:
    """The registration that the control plane of the SaaS Builder Toolkit keeps for a tenant. It
    leads to the tenant whose request carried it, and is no tenant's id."""
    named = body.get("tenantRegistrationId")
    return named if isinstance(named, str) and _is_name(named) else None


def _is_name(value: object) -> bool:
    """Text that something can be kept under."""
    return isinstance(value, str) and value != "" and is_well_formed(value)


def read_tier(body: Mapping[str, Any]) -> str | None:
    """The tier that a business body of any type names, None where it names none."""
    subscribed = read_object(read_object(body.get("subscription")).get("plan"))
    named = ("planConfig", "plan", "tenantData")
    chosen, plan, data = (read_object(body.get(name)) for name in named)
    tiers = (place.get("tier") for place in (chosen, subscribed, plan, body, data))
    return next((tier for tier in tiers if isinstance(tier, str) and tier), None)


_FACTS: Mapping[str, Callable[[Mapping[str, Any]], str | None]] = {
    "tenant": read_tenant_id,
    "registration": read_registration_id,
    "tier": read_tier,
}


def dispensable(model: type, body: Mapping[str, Any], misfits: Mapping[str, str]) -> set[str]:
    """Which of the fields of `body` that don't fit `model` are passed over.

    `misfits` has the fact that each is a spelling of. One is passed over if what the body says of
    that fact is the same without it; where it says nothing then, if the model can do without.
    """
    rest = {name: value for name, value in body.items() if name not in misfits}
    needs: frozenset[str] = getattr(model, "needs", frozenset())
    known = {
        fact
        for fact in set(misfits.values())
        if (said := _FACTS[fact](rest)) == _FACTS[fact](body)
        and (said is not None or fact not in needs)
    }
    return {name for name, fact in misfits.items() if fact in known}


def read_request_key(body: Mapping[str, Any]) -> str | None:
    """What makes two requests the same: the start that they follow, or its `operationId`, else
    the webhook's `context`."""
    before = _text(body.get(START_KEY)) or _text(body.get("operationId"))
    return before or _override(body, "context")


def read_context(body: Mapping[str, Any]) -> str | None:
    """What the control plane knows its request by."""
    return _override(body, "context")


def read_builder(body: Mapping[str, Any]) -> str | None:
    """The builder that a request names; what is too long to be kept is no builder's name."""
    named = _text(read_object(body.get("builderConfig")).get("type"))
    return named if named and len(named.encode(errors="replace")) <= MAX_NAME_BYTES else None


def read_contradiction(body: Mapping[str, Any]) -> str | None:
    """In which way a request means two tenants, in a sentence: by two of its names for it, or by
    what its job is given."""
    named = read_tenant_id(body)
    config = read_object(read_object(body.get("builderConfig")).get("config"))
    override = read_object(config.get("environmentOverride"))
    for place, said in (("", body), ("environmentOverride.", override)):
        others = {
            "tenant": read_object(said.get("tenant")).get("id"),
            "tenantId": said.get("tenantId"),
            "TENANT_ID": said.get("TENANT_ID"),
        }
        for name, other in others.items():
            if _is_name(other) and other != named:
                return (
                    f"The event is about the tenant {named!r}, and its {place}{name} about "
                    f"{other!r}: send it with one of them."
                )
    return None


def read_operation(body: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """The operation that a report is about, and its start: by the start key of its job, else
    by `operationId`, which says nothing of a start."""
    started = read_start_key(_text(body.get(START_KEY)) or "")
    return started or (_text(body.get("operationId")), None)


def read_reason(body: Mapping[str, Any]) -> str | None:
    """Why it ended so, in the words of the report."""
    return _text(body.get("reason"))


def read_resources(body: Mapping[str, Any]) -> list[Any]:
    """What the tenant consists of now, as the webhook wants it listed.

    A build names the bucket that holds its Terraform state; what it exported outranks the rest.
    """
    exported, listed = _exported(body), body.get("resources")
    exported_bucket = _text(exported.get("TF_STATE_BUCKET"))
    if exported_bucket is None and isinstance(listed, list):
        return listed
    bucket = exported_bucket or _text(body.get("TF_STATE_BUCKET"))
    if bucket is None:
        return []
    path = _text(exported.get("TF_KEY")) or _text(body.get("TF_KEY")) or ""
    return [{"type": "bucket", "metadata": {"bucket": bucket, "path": path}}]


def read_app_plane_url(body: Mapping[str, Any]) -> str | None:
    """Where the tenant finds its application; what the job exported outranks the rest."""
    exported, names = _exported(body), ("APP_PLANE_REDIRECT_URL", "APP_PLANE_URL")
    named = (
        *(exported.get(name) for name in names),
        body.get("appPlaneUrl"),
        *(body.get(name) for name in names),
    )
    return next(filter(None, map(web_address, named)), None)


def read_webhook_url(body: Mapping[str, Any]) -> str | None:
    """The URL of the control plane's webhook in the event; the caller decides if it is trusted."""
    return _override(body, "API_ENDPOINT")


def read_ended_job(event: Event[Any]) -> Mapping[str, Any]:
    """The ended job in an event of the service's own; in any other event it is ignored."""
    return read_object(event.body.get("endedJob")) if event.ends_start is not None else {}


def without_ended_job(value: Any) -> Any:
    """A body, or an envelope around one, without what only an event of our own may say."""
    match value:
        case Mapping():
            shown = ((name, item) for name, item in value.items() if name != "endedJob")
            return {name: without_ended_job(item) for name, item in shown}
        case list():
            return [without_ended_job(item) for item in value]
    return value


def _exported(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The variables that the ended job gave to the outside, as its builder told them."""
    return read_object(read_object(body.get("endedJob")).get("exportedVariables"))


def read_secret(body: Mapping[str, Any]) -> tuple[str, str] | None:
    """The webhook's secret and context, where a body has both."""
    secret, context = _override(body, "secret"), _override(body, "context")
    return (secret, context) if secret and context else None


def named_for(body: Mapping[str, Any], tenant_id: str | None) -> Mapping[str, Any]:
    """A body as one about that tenant, however it calls its own; None leaves it as it is."""
    if tenant_id is None:
        return body
    tenant = body.get("tenant")
    own = {"tenant": {**tenant, "id": tenant_id}} if isinstance(tenant, Mapping) else {}
    return {**body, **own, "tenantId": tenant_id}


def without_context(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """A body without what makes it the same request: the context, and what it followed."""
    naming = ("context", "operationId", START_KEY)
    shown = {name: value for name, value in body.items() if name not in naming}
    config = read_object(body.get("builderConfig"))
    options = read_object(config.get("config"))
    override = read_object(options.get("environmentOverride"))
    if "context" in override:
        override = {name: value for name, value in override.items() if name != "context"}
        options = {**options, "environmentOverride": override}
        shown["builderConfig"] = {**config, "config": options}
    return shown


def _override(body: Mapping[str, Any], name: str) -> str | None:
    """A variable that the event sets for the build, or that stands at the top of its body."""
    config = read_object(read_object(body.get("builderConfig")).get("config"))
    return _text(read_object(config.get("environmentOverride")).get(name)) or _text(body.get(name))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def read_object(value: object) -> Mapping[str, Any]:
    """An object, or the object in a JSON text; an empty one for anything else."""
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except ValueError:
            return {}
    return value if isinstance(value, Mapping) else {}
