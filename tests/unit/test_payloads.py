"""The built-in payloads: the facts about a tenant, in each spelling that producers use."""

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from orchestrator.core.errors import InvalidPayload
from orchestrator.core.payloads import (
    TenantDeployment,
    TenantDeprovisioning,
    TenantOutcome,
    TenantProvisioning,
    read_object,
    read_request_key,
    read_tenant_id,
    without_context,
)
from orchestrator.core.secrets import Redactor
from orchestrator.wire import Wire

SAMPLES = Path(__file__).parents[1] / "samples"
WIRE = Wire(Redactor())
REQUESTS = [TenantProvisioning, TenantDeprovisioning, TenantDeployment]


def detail(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_text())["detail"]
    return content


def provisioning(**fields: Any) -> TenantProvisioning:
    payload: TenantProvisioning = WIRE.structure({"tenantId": "t-1"} | fields, TenantProvisioning)
    return payload


def mismatches(body: dict[str, Any], model: Any = TenantProvisioning) -> dict[str, str]:
    with pytest.raises(InvalidPayload) as refused:
        WIRE.structure(body, model)
    return {mismatch.path: mismatch.message for mismatch in refused.value.errors}


def test_a_control_planes_request_is_read_whole() -> None:
    """Tenant, tier, builder, identity provider and variables of a request as it is sent."""
    payload = WIRE.structure(detail("tenant_provisioning"), TenantProvisioning)
    assert payload.tenant.id == "7e0f4b1a-55c2-4d3e-9a6b-c8d1e2f30415"
    assert (payload.tenant.name, payload.tenant.key) == ("Harbour Bakery", "harbour")
    assert payload.named_tier == "PREMIUM"
    assert payload.builder == "CODE_BUILD"
    assert payload.identity_provider == "keycloak"
    assert payload.environment_override["REDIS_NODES"] == "3"


def test_a_builds_own_report_is_read_from_its_variables() -> None:
    """The tenant as JSON text, and the build's id, from a build's environment."""
    payload = WIRE.structure(detail("build_self_report"), TenantOutcome)
    assert payload.tenant.name == "Harbour Bakery"
    assert payload.tenant_id_variable == "7e0f4b1a-55c2-4d3e-9a6b-c8d1e2f30415"
    assert payload.codebuild_build_id == "premium-tenant:5d2c9f60-7b31-4e8a-a1d4-93f0c6b7e812"


@pytest.mark.parametrize(
    "tenant",
    [
        {"id": "t-1", "name": "Harbour", "key": "h"},
        '{"id": "t-1", "name": "Harbour", "key": "h"}',
        {"id": "t-1", "name": "Harbour", "key": "h", "status": 1, "domains": ["x"]},
    ],
)
def test_a_tenant_is_an_object_or_json_text(tenant: object) -> None:
    """Both forms are the same tenant, and fields that we do not know are no mismatch."""
    read = provisioning(tenant=tenant).tenant
    assert read is not None
    assert (read.id, read.name, read.key) == ("t-1", "Harbour", "h")


@pytest.mark.parametrize("tenant", ["t-1", "", "[1]", "7", 7, True, ["t-1"]])
def test_a_tenant_that_is_neither_is_a_mismatch(tenant: object) -> None:
    """Text that holds no object and any other value are refused at the tenant."""
    assert mismatches({"tenant": tenant}) == {"$.tenant": "must be an object"}


@pytest.mark.parametrize("tenant", [{"name": "Harbour"}, '{"name": "Harbour"}'])
def test_a_tenant_needs_an_id(tenant: object) -> None:
    """A tenant without an id is refused where the id should be."""
    assert mismatches({"tenant": tenant, "tenantId": "t-1"}) == {"$.tenant.id": "is required"}


@pytest.mark.parametrize("model", REQUESTS)
def test_a_request_must_name_its_tenant(model: Any) -> None:
    """A request without tenant.id, tenantId or TENANT_ID can't be meant for anybody."""
    assert mismatches({"tier": "BASIC"}, model) == {
        "$": "must name the tenant: as tenant.id, tenantId or TENANT_ID"
    }


@pytest.mark.parametrize("model", REQUESTS)
@pytest.mark.parametrize(
    "body",
    [
        {"tenant": {"id": "t-1"}},
        {"tenant": '{"id": "t-1"}'},
        {"tenantId": "t-1"},
        {"TENANT_ID": "t-1"},
    ],
)
def test_each_spelling_names_the_tenant(model: Any, body: dict[str, Any]) -> None:
    """Every spelling satisfies every request, and is the id of the run's tenant."""
    WIRE.structure(body, model)
    assert read_tenant_id(body) == "t-1"


def test_an_outcome_may_come_from_a_build_that_knows_nothing_yet() -> None:
    """A build that fails early names no tenant, and is heard all the same."""
    assert WIRE.structure({}, TenantOutcome) == TenantOutcome()


@pytest.mark.parametrize(
    ("body", "tenant_id"),
    [
        ({"tenant": {"id": "a"}, "tenantId": "b", "TENANT_ID": "c"}, "a"),
        ({"tenantId": "b", "TENANT_ID": "c"}, "b"),
        ({"tenant": {"name": "x"}, "tenantId": "b"}, "b"),
        ({"tenant": "nonsense", "TENANT_ID": "c"}, "c"),
        ({"tenant": {"id": 7}, "TENANT_ID": "c"}, "c"),
        ({"tenantId": "", "TENANT_ID": "c"}, "c"),
        ({"tenantId": 7}, None),
        ({"tenant": None}, None),
        ({}, None),
    ],
)
def test_the_tenant_of_any_body(body: dict[str, Any], tenant_id: str | None) -> None:
    """The first spelling that names an id wins; a body of any type may name none."""
    assert read_tenant_id(body) == tenant_id


TIER_SPELLINGS: list[tuple[str, dict[str, Any]]] = [
    ("a", {"planConfig": {"tier": "a"}}),
    ("b", {"subscription": {"plan": {"tier": "b"}}}),
    ("c", {"plan": {"tier": "c"}}),
    ("d", {"tier": "d"}),
]


@pytest.mark.parametrize("first", range(4))
def test_the_tier_stands_in_four_places_in_this_order(first: int) -> None:
    """planConfig.tier, subscription.plan.tier, plan.tier, tier: the first one counts."""
    fields: dict[str, Any] = {}
    for _, spelled in TIER_SPELLINGS[first:]:
        fields |= spelled
    assert provisioning(**fields).named_tier == TIER_SPELLINGS[first][0]


@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_tier_is_none_and_the_next_place_counts(empty: str | None) -> None:
    """Null or empty text in an earlier place does not hide the tier of a later one."""
    payload = provisioning(planConfig={"tier": empty}, subscription={}, plan={"tier": "c"})
    assert payload.named_tier == "c"
    assert provisioning(planConfig={"tier": empty}, plan=None, tier="d").named_tier == "d"
    assert provisioning(planConfig={"tier": empty}).named_tier is None


@pytest.mark.parametrize("place", ["planConfig", "plan"])
@pytest.mark.parametrize(
    ("feature", "chosen"),
    [
        ({"key": "IdP", "defaultValue": "cognito", "value": {"value": "auth0"}}, "auth0"),
        ({"key": "IdP", "defaultValue": "cognito"}, "cognito"),
        ({"key": "IdP", "defaultValue": "cognito", "value": None}, "cognito"),
        ({"key": "IdP", "defaultValue": "cognito", "value": {"value": None}}, "cognito"),
        ({"key": "IdP", "value": {"value": "auth0"}}, "auth0"),
        ({"key": "idp", "defaultValue": "cognito"}, None),
        ({"key": "IdP"}, None),
    ],
)
def test_the_identity_provider_is_the_plans_feature(
    place: str, feature: dict[str, Any], chosen: str | None
) -> None:
    """What the tenant chose, else the default of the feature `IdP`, wherever the plan stands."""
    features = [{"key": "AuditLog", "defaultValue": "no"}, feature]
    assert provisioning(**{place: {"features": features}}).identity_provider == chosen


def test_the_most_telling_plan_gives_the_identity_provider() -> None:
    """A plan without the feature leaves the word to the next one."""

    def plan(chosen: str) -> dict[str, Any]:
        return {"features": [{"key": "IdP", "defaultValue": chosen}]}

    body = {"planConfig": {}, "subscription": {"plan": plan("auth0")}, "plan": plan("cognito")}
    assert provisioning(**body).identity_provider == "auth0"
    assert provisioning().identity_provider is None


@pytest.mark.parametrize(
    "builder_config", [None, {}, {"config": None}, {"config": {}}, {"type": None}]
)
def test_a_builder_config_may_say_nothing(builder_config: object) -> None:
    """Without a type the tier or the default decides, and nothing is overridden."""
    payload = provisioning(builderConfig=builder_config)
    assert payload.builder is None
    assert payload.environment_override == {}


def test_overrides_may_have_any_value() -> None:
    """The override's values are the sender's; only the map itself is checked."""
    override = {"N": 1, "B": True, "X": None, "O": {"a": [1]}}
    payload = provisioning(builderConfig={"config": {"environmentOverride": override}})
    assert payload.environment_override == override


def test_every_mismatch_is_found_at_once_in_the_senders_spelling() -> None:
    """Each wrong value has its own path, through maps, lists and renamed fields."""
    body = {
        "tenantId": 7,
        "TENANT_ID": True,
        "planConfig": {"tier": 3, "features": [{"key": "IdP"}, {"defaultValue": "x"}, "y"]},
        "subscription": {"plan": []},
        "builderConfig": {"type": 1, "config": {"environmentOverride": "A=1"}},
    }
    assert mismatches(body) == {
        "$.tenantId": "must be a string",
        "$.TENANT_ID": "must be a string",
        "$.planConfig.tier": "must be a string",
        "$.planConfig.features[1].key": "is required",
        "$.planConfig.features[2]": "must be an object",
        "$.subscription.plan": "must be an object",
        "$.builderConfig.type": "must be a string",
        "$.builderConfig.config.environmentOverride": "must be an object",
    }


@pytest.mark.parametrize("model", [*REQUESTS, TenantOutcome])
def test_the_built_in_payloads_are_frozen(model: Any) -> None:
    """A handler can't change what another one will read."""
    payload = WIRE.structure({"tenantId": "t-1"}, model)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        payload.tenant_id = "t-2"


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ({"a": 1}, {"a": 1}),
        ('{"a": 1}', {"a": 1}),
        ("[1]", {}),
        ("{", {}),
        ("", {}),
        (None, {}),
        ([{"a": 1}], {}),
    ],
)
def test_an_object_is_read_from_an_object_or_its_text(value: object, read: object) -> None:
    """Anything that is neither is an empty object."""
    assert read_object(value) == read


def test_a_body_is_passed_on_without_what_makes_it_the_same_request() -> None:
    """The webhook's context, wherever it stands, and what the request itself followed."""
    body = {
        "tenantId": "t-1",
        "context": "c",
        "operationId": "o",
        "ORCHESTRATOR_RUN_ID": "o-1",
        "builderConfig": {
            "type": "JENKINS",
            "config": {"environmentOverride": {"context": "c", "A": 1}},
        },
    }
    passed = without_context(body)
    assert passed == {
        "tenantId": "t-1",
        "builderConfig": {"type": "JENKINS", "config": {"environmentOverride": {"A": 1}}},
    }
    assert read_request_key(passed) is None
