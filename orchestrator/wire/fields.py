"""Names of models' fields in JSON, and the fields that are hidden there."""

from typing import Any, get_origin

import attrs


def json_field_name(attribute: "attrs.Attribute[Any]") -> str:
    """The name of a model's field in JSON: its `json_name` metadata, else camelCase."""
    name: str | None = attribute.metadata.get("json_name")
    if name is not None:
        return name
    head, *rest = attribute.name.lstrip("_").split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest)


def names_in_json(model: Any) -> dict[str, str]:
    """The names of a model's fields in JSON; a dataclass's are unchanged."""
    origin = get_origin(model) or model
    fields = attrs.fields(origin) if attrs.has(origin) else ()
    return {field.name: json_field_name(field) for field in fields}


def hidden_fields(model: Any) -> set[str]:
    """The fields that only the ledger stores: neither read from JSON nor written to it."""
    origin = get_origin(model) or model
    fields = attrs.fields(origin) if attrs.has(origin) else ()
    return {field.name for field in fields if not field.metadata.get("is_shown", True)}
