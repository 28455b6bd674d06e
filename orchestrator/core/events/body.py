"""Reads the facts of a business body, in each of their spellings.

A spelling with an invalid value is ignored if another field has the fact.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from orchestrator.core.events.event import Event
from orchestrator.core.events.javascript import is_well_formed
from orchestrator.core.events.json_text import parse_json
from orchestrator.core.identifiers import START_KEY, read_start_key
from orchestrator.core.urls import web_address

#: DynamoDB's sort keys have at most 1 KB (developer guide, Constraints).
MAX_NAME_BYTES = 512
#: The fields of an envelope that the business body is in.
_AROUND_BODY = frozenset({"detail", "data"})


def read_tenant_id(body: Mapping[str, Any]) -> str | None:
    """The tenant id in a business body of any type; None without one."""
    tenant = body.get("tenant")
    candidates = (
        tenant.get("id") if isinstance(tenant, Mapping) else None,
        body.get("tenantId"),
        body.get("TENANT_ID"),
        read_object(tenant).get("id"),
    )
    return next((found for found in candidates if _is_name(found)), None)


def read_registration_id(body: Mapping[str, Any]) -> str | None:
    """The id of a tenant's registration in the SaaS Builder Toolkit. It identifies the tenant whose
    request had it, and is not a tenant id."""
    named = body.get("tenantRegistrationId")
    return named if isinstance(named, str) and _is_name(named) else None


def _is_name(value: object) -> bool:
    """Whether it is text that can be a key in the ledger."""
    return isinstance(value, str) and value != "" and is_well_formed(value)


def read_tier(body: Mapping[str, Any]) -> str | None:
    """The tier in a business body of any type; None without one."""
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
    """The fields of `body` that don't match `model` and can be ignored.

    `misfits` maps each to the fact that it is a spelling of. One is ignored if the body gives the
    same fact without it; if it then gives none, the model must not need it.
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
    """The request key, the same for equal requests: the start that it follows, or `operationId`,
    else the webhook's `context`."""
    before = _text(body.get(START_KEY)) or _text(body.get("operationId"))
    return before or _override(body, "context")


def read_context(body: Mapping[str, Any]) -> str | None:
    """The webhook's `context`, with which the control plane identifies its request."""
    return _override(body, "context")


def read_builder(body: Mapping[str, Any]) -> str | None:
    """The builder that a request names; None if it is too long to be stored."""
    named = _text(read_object(body.get("builderConfig")).get("type"))
    return named if named and len(named.encode(errors="replace")) <= MAX_NAME_BYTES else None


def read_contradiction(body: Mapping[str, Any]) -> str | None:
    """Why a request is about two tenants, as a sentence: two of its fields differ, or a field and
    a variable of its job; None if it isn't."""
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
    """The operation that a report is about, and its start: from the job's start key, else from
    `operationId`, which has no start number."""
    started = read_start_key(_text(body.get(START_KEY)) or "")
    return started or (_text(body.get("operationId")), None)


def read_reason(body: Mapping[str, Any]) -> str | None:
    """The reason that the report gives."""
    return _text(body.get("reason"))


def read_resources(body: Mapping[str, Any]) -> list[Any]:
    """The tenant's resources, in the webhook's format.

    A build names the bucket of its Terraform state; exported variables take precedence.
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
    """The URL of the tenant's application; exported variables take precedence."""
    exported, names = _exported(body), ("APP_PLANE_REDIRECT_URL", "APP_PLANE_URL")
    named = (
        *(exported.get(name) for name in names),
        body.get("appPlaneUrl"),
        *(body.get(name) for name in names),
    )
    return next(filter(None, map(web_address, named)), None)


def read_webhook_url(body: Mapping[str, Any]) -> str | None:
    """The URL of the control plane's webhook in the event; the caller checks if it is allowed."""
    return _override(body, "API_ENDPOINT")


def read_ended_job(event: Event[Any]) -> Mapping[str, Any]:
    """The ended job in an event of the service's own; in any other event it is ignored."""
    return read_object(event.body.get("endedJob")) if event.ends_start is not None else {}


def without_ended_job(value: Any) -> Any:
    """A body, or an envelope around one, without fields that only the service's own events have."""
    if not isinstance(value, Mapping):
        return value
    kept = dict(value)
    kept.pop("endedJob", None)
    for name in _AROUND_BODY & kept.keys():
        kept[name] = without_ended_job(kept[name])
    return kept


def _exported(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The exported variables of the ended job, from its builder."""
    return read_object(read_object(body.get("endedJob")).get("exportedVariables"))


def read_secret(body: Mapping[str, Any]) -> tuple[str, str] | None:
    """The webhook's secret and context, if a body has both."""
    secret, context = _override(body, "secret"), _override(body, "context")
    return (secret, context) if secret and context else None


def named_for(body: Mapping[str, Any], tenant_id: str | None) -> Mapping[str, Any]:
    """A body with that tenant's id in each of its spellings; None leaves it unchanged."""
    if tenant_id is None:
        return body
    tenant = body.get("tenant")
    own = {"tenant": {**tenant, "id": tenant_id}} if isinstance(tenant, Mapping) else {}
    return {**body, **own, "tenantId": tenant_id}


def without_context(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """A body without its request key: the context, and the start that it followed."""
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
    """A variable that the event sets for the build, or a top-level field of its body."""
    config = read_object(read_object(body.get("builderConfig")).get("config"))
    return _text(read_object(config.get("environmentOverride")).get(name)) or _text(body.get(name))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def read_object(value: object) -> Mapping[str, Any]:
    """An object, or the object in a JSON text; an empty object for anything else."""
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    if isinstance(value, str):
        return _read_object_in_text(value)
    return value if isinstance(value, Mapping) else {}


@lru_cache(maxsize=4)
def _read_object_in_text(text: str) -> Mapping[str, Any]:
    """The object in a JSON text, which may be large and is read for each of an event's facts; it
    must not be changed."""
    try:
        value = parse_json(text)
    except ValueError:
        return {}
    return value if isinstance(value, Mapping) else {}
