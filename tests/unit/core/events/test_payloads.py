"""The built-in payloads: the facts about a tenant, in each spelling that producers use."""

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from orchestrator.core.errors import InvalidPayload
from orchestrator.core.events.body import (
    read_object,
    read_registration_id,
    read_request_key,
    read_secret,
    read_tenant_id,
    read_tier,
    without_context,
)
from orchestrator.core.events.payloads import (
    TenantDeployment,
    TenantDeprovisioning,
    TenantOutcome,
    TenantProvisioning,
)
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.wire.converter import JsonConverter
from orchestrator.wire.json_schema import json_schemas

SAMPLES = Path(__file__).parents[3] / "samples"
WIRE = JsonConverter(Redactor())
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
    assert mismatches({"tenant": tenant}) == {"$.tenant.id": "is required"}


def beside(
    odd_fields: list[tuple[str, object]], *named: dict[str, Any]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each odd field with each of the spellings that are another field."""
    return [({name: odd}, good) for name, odd in odd_fields for good in named if name not in good]


TENANT_FIELDS: list[tuple[str, object]] = [
    ("tenant", ""),
    ("tenant", "acme"),
    ("tenant", "[1]"),
    ("tenant", 7),
    ("tenant", []),
    ("tenant", {"name": "Harbour"}),
    ("tenant", {"id": 7}),
    ("tenantId", 7),
    ("TENANT_ID", {}),
    ("tenantRegistrationId", 7),
]


@pytest.mark.parametrize("model", [*REQUESTS, TenantOutcome])
@pytest.mark.parametrize(
    ("odd", "named"),
    beside(TENANT_FIELDS, {"tenantId": "t-1"}, {"TENANT_ID": "t-1"}, {"tenant": {"id": "t-1"}}),
)
def test_an_odd_spelling_of_the_tenant_is_passed_over(
    model: Any, odd: dict[str, Any], named: dict[str, Any]
) -> None:
    """Another one names it, and every other field of the payload is as it was."""
    body = {"tier": "a", **odd, **named}
    assert read_tenant_id(body) == "t-1"
    assert WIRE.structure(body, model) == WIRE.structure({"tier": "a", **named}, model)


TIER_FIELDS: list[tuple[str, object]] = [
    ("plan", "monthly"),
    ("plan", 7),
    ("plan", []),
    ("plan", {"tier": 7}),
    ("plan", {"features": "all"}),
    ("planConfig", "x"),
    ("planConfig", {"features": ["sso"]}),
    ("subscription", "sub_1"),
    ("subscription", {"plan": "monthly"}),
    ("subscription", {"plan": {"tier": []}}),
    ("tenantData", "x"),
    ("tier", {"name": "a"}),
]


@pytest.mark.parametrize(
    ("odd", "named"),
    beside(TIER_FIELDS, {"tier": "a"}, {"plan": {"tier": "a"}}, {"tenantData": {"tier": "a"}}),
)
def test_an_odd_spelling_of_the_tier_is_passed_over(
    odd: dict[str, Any], named: dict[str, Any]
) -> None:
    """If another spelling names the tier, the odd one is ignored."""
    assert read_tier({**odd, **named}) == "a"
    assert provisioning(**odd, **named) == provisioning(**named)


@pytest.mark.parametrize(("name", "odd"), TIER_FIELDS)
def test_an_odd_spelling_that_would_be_missed_is_a_mismatch(name: str, odd: object) -> None:
    """Nothing else says of which tier the tenant is to be: the sender gets the mismatch."""
    (path,) = mismatches({"tenantId": "t-1", name: odd})
    assert path.startswith(f"$.{name}")


@pytest.mark.parametrize(("name", "odd"), TIER_FIELDS)
@pytest.mark.parametrize("model", [TenantDeprovisioning, TenantDeployment, TenantOutcome])
def test_an_odd_spelling_of_what_is_not_needed_is_passed_over(
    model: Any, name: str, odd: object
) -> None:
    """The tenant's tier is known where it isn't about to be made."""
    payload = WIRE.structure({"tenantId": "t-1", name: odd}, model)
    assert payload == WIRE.structure({"tenantId": "t-1"}, model)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"plan": {"tier": "c", "features": "x"}, "tier": "d"}, "$.plan.features"),
        ({"planConfig": '{"tier": "c"}', "tier": "d"}, "$.planConfig"),
        ({"tenant": {"id": "t-0", "name": 7}}, "$.tenant.name"),
        ({"planConfig": {"tier": "c", "features": "x"}}, "$.planConfig.features"),
    ],
)
def test_a_contradicting_spelling_is_not_ignored(body: dict[str, Any], path: str) -> None:
    """It is a mismatch, since the claim and the handler would read different values."""
    assert list(mismatches({"tenantId": "t-1", **body})) == [path]


def test_the_document_has_the_spellings_that_are_ignored() -> None:
    """A spelling of tenant or tier may have any shape, a builder config of its own alone."""
    _, components = json_schemas([TenantProvisioning], ref_template="{name}")
    fields = components["TenantProvisioning"]["properties"]
    for name in ("tenant", "tenantId", "TENANT_ID", "plan", "planConfig", "subscription", "tier"):
        *shapes, anything = fields[name]["anyOf"]
        assert shapes
        assert list(anything) == ["description"]
    assert fields["builderConfig"]["anyOf"] == [{"$ref": "BuilderConfig"}, {"type": "null"}]


def test_ignored_spellings_are_not_among_the_mismatches() -> None:
    """The sender gets only those that it has to fix."""
    body = {"tenantId": "t-1", "tenant": "", "tier": "a", "plan": "x", "builderConfig": []}
    assert mismatches(body) == {"$.builderConfig": "must be an object"}


@pytest.mark.parametrize("model", [*REQUESTS, TenantOutcome])
@pytest.mark.parametrize("odd", [[], "x", 7])
def test_an_odd_builder_config_is_a_mismatch(model: Any, odd: object) -> None:
    """A builder config of another shape is refused, since no other field can replace it."""
    body = {"tenantId": "t-1", "tier": "a", "builderConfig": odd}
    assert mismatches(body, model) == {"$.builderConfig": "must be an object"}


@pytest.mark.parametrize("odd", [123, None, {}, ""])
def test_an_odd_secret_is_passed_over(odd: object) -> None:
    """The secret is read from the other place, if that one has it."""

    def body(top: object, override: object) -> dict[str, Any]:
        config = {"config": {"environmentOverride": {"secret": override}}}
        return {"secret": top, "context": "c", "builderConfig": config}

    assert read_secret(body(odd, "s")) == read_secret(body("s", odd)) == ("s", "c")
    assert read_secret({"secret": odd, "context": "c"}) is None


@pytest.mark.parametrize("model", REQUESTS)
def test_a_request_must_name_its_tenant(model: Any) -> None:
    """A request without tenant.id, tenantId or TENANT_ID can't be for any tenant."""
    assert mismatches({"tier": "BASIC"}, model) == {
        "$": "must name the tenant: as tenant.id, tenantId or TENANT_ID; a tenantRegistrationId "
        "isn't enough"
    }


@pytest.mark.parametrize("model", REQUESTS)
def test_a_registration_is_no_tenant(model: Any) -> None:
    """It leads to one, so that a request must name that itself."""
    body = {"tenantRegistrationId": "r-1", "tier": "BASIC"}
    assert read_tenant_id(body) is None
    assert read_registration_id(body) == "r-1"
    assert list(mismatches(body, model)) == ["$"]


@pytest.mark.parametrize("odd", [7, "", None, [], {"id": "r"}, "half \ud83d"])
def test_an_odd_registration_is_ignored(odd: object) -> None:
    """An event whose registration can't be read is read without it."""
    body = {"tenantId": "t-1", "tier": "BASIC", "tenantRegistrationId": odd}
    assert read_registration_id(body) is None
    for model in (*REQUESTS, TenantOutcome):
        WIRE.structure(body, model)


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
    """A build that fails early names no tenant, and its report is read all the same."""
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
def test_the_tier_is_read_from_four_places_in_this_order(first: int) -> None:
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
    """After a plan without the feature, the next one decides."""

    def plan(chosen: str) -> dict[str, Any]:
        return {"features": [{"key": "IdP", "defaultValue": chosen}]}

    body = {"planConfig": {}, "subscription": {"plan": plan("auth0")}, "plan": plan("cognito")}
    assert provisioning(**body).identity_provider == "auth0"
    assert provisioning().identity_provider is None


@pytest.mark.parametrize(
    "builder_config", [None, {}, {"config": None}, {"config": {}}, {"type": None}]
)
def test_a_builder_config_may_be_empty(builder_config: object) -> None:
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
    """Anything that is neither an object nor an object's text is an empty object."""
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
