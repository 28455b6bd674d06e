"""The JSON Schema of a model: the names of JSON, and the bounds of its validators."""

from typing import Any

from orchestrator.core.events.payloads import TenantProvisioning
from orchestrator.wire.json_schema import json_schemas
from tests.unit.wire.models import Plain, Signup


def schemas(*models: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return json_schemas(models, ref_template="#/components/schemas/{name}")


def test_a_schema_has_the_names_of_json() -> None:
    """Properties and required fields are named as senders write them."""
    (reference,), components = schemas(Signup)
    assert reference == {"$ref": "#/components/schemas/Signup"}
    properties = components["Signup"]["properties"]
    assert {"emailAddress", "isTrial", "postAddress", "TAX-ID"} <= set(properties)
    assert not {"email_address", "is_trial", "tax_id", "taxId"} & set(properties)
    assert components["Signup"]["required"] == ["emailAddress"]


def test_a_schema_leads_to_the_models_inside() -> None:
    """Models in lists and unions are components with the names of JSON too."""
    _, components = schemas(Signup)
    assert components["Address"]["required"] == ["postCode"]
    assert components["Address"]["properties"]["country"]["enum"] == ["NL", "NO"]
    items = components["Signup"]["properties"]["moreAddresses"]["items"]
    assert items == {"$ref": "#/components/schemas/Address"}


def test_a_schema_has_the_validators_bounds() -> None:
    """`ge`, `le` and `gt` are the schema's bounds, alone or in a list."""
    _, components = schemas(Signup, Plain)
    seats = components["Signup"]["properties"]["seats"]
    assert (seats["type"], seats["minimum"], seats["maximum"]) == ("integer", 1, 9)
    assert components["Plain"]["properties"]["ratio"]["exclusiveMinimum"] == 0
    assert "minimum" not in components["Signup"]["properties"]["price"]


def test_the_schemas_of_the_built_in_payloads_name_their_aliases() -> None:
    """A built-in model's renamed field stands under the sender's name."""
    _, components = schemas(TenantProvisioning)
    assert {"TENANT_ID", "planConfig", "builderConfig"} <= set(
        components["TenantProvisioning"]["properties"]
    )
    assert "environmentOverride" in components["BuilderOptions"]["properties"]
