"""Builds the JSON Schema of models, as the converter reads them."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from inspect import cleandoc
from typing import Any, get_args, get_origin, get_type_hints

import attrs
import msgspec

from orchestrator.wire.fields import hidden_fields, names_in_json

#: The keywords that describe a field of a model, by its name in JSON.
Describe = Callable[[type, str], Mapping[str, Any]]


def _without_words(_: type, __: str) -> Mapping[str, Any]:
    return {}


def json_schemas(
    models: Sequence[Any], *, ref_template: str, describe: Describe = _without_words
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """JSON Schema (2020-12) of models: a schema or reference for each, and the components.

    `ref_template` is the reference to a component: `#/components/schemas/{name}`.
    """
    # All apps of a process share the cached schemas, and may modify their copies.
    return copy.deepcopy(_json_schemas(tuple(models), ref_template, describe))


def check_schema(model: Any) -> None:
    """Raises TypeError: the model has fields that JSON can't represent."""
    _json_schemas((model,), "{name}", _without_words)


@lru_cache(maxsize=256)
def _json_schemas(
    models: tuple[Any, ...], ref_template: str, describe: Describe
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    schemas, components = msgspec.json.schema_components(models, ref_template=ref_template)
    for model in _attrs_models(models):
        name = _component_name(model, components)
        components[name] = _in_json_names(components[name], get_origin(model) or model, describe)
    return list(schemas), components


def _component_name(model: Any, components: Mapping[str, Any]) -> str:
    """msgspec's name for a model's component: the model's, or a qualified one if two share it."""
    qualified = f"{model.__module__}.{model.__qualname__}"
    if qualified in components:
        return qualified
    (alone,), _ = msgspec.json.schema_components([model], ref_template="{name}")
    name: str = alone["$ref"]
    return name


def _in_json_names(component: dict[str, Any], model: type, describe: Describe) -> dict[str, Any]:
    fields = {field.name: field for field in attrs.fields(model)}
    names, hidden = names_in_json(model), hidden_fields(model)
    # Python 3.13 strips a docstring's indentation, earlier versions don't.
    about = {"description": cleandoc(model.__doc__)} if model.__doc__ else {}
    return {
        **component,
        **about,
        "properties": {
            names[name]: {
                **_or_passed_over(schema, fields[name]),
                **_bounds(fields[name]),
                **describe(model, names[name]),
            }
            for name, schema in component["properties"].items()
            # Fields that only the service's own events have are not documented for senders.
            if fields[name].metadata.get("is_sent", True) and name not in hidden
        },
        "required": [names[name] for name in component["required"]],
    }


def _attrs_models(models: Iterable[Any]) -> list[Any]:
    """The attrs classes among `models` and the types of their fields, generic ones with their
    arguments."""
    found: list[Any] = []
    waiting = list(models)
    while waiting:
        kind = waiting.pop()
        origin = get_origin(kind) or kind
        waiting.extend(get_args(kind))
        if isinstance(origin, type) and attrs.has(origin) and kind not in found:
            found.append(kind)
            waiting.extend(get_type_hints(origin).values())
    return found


def _or_passed_over(schema: dict[str, Any], field: "attrs.Attribute[Any]") -> dict[str, Any]:
    """A field's schema; one of several spellings of a fact may have any other value, too."""
    if "spells" not in field.metadata:
        return schema
    anything = {
        "description": "Any other value is ignored if the event doesn't need its "
        f"{field.metadata['spells']}, or if another field gives it; else it is a mismatch."
    }
    default = {name: schema[name] for name in schema if name == "default"}
    shape = {name: schema[name] for name in schema if name != "default"}
    return {"anyOf": [*shape.get("anyOf", [shape]), anything], **default}


_BOUNDS = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum", "<": "exclusiveMaximum"}


def _bounds(field: "attrs.Attribute[Any]") -> dict[str, Any]:
    """The JSON Schema keywords for the attrs validators of a number."""
    validators: Iterable[Any] = getattr(field.validator, "_validators", (field.validator,))
    return {
        _BOUNDS[validator.compare_op]: validator.bound
        for validator in validators
        if getattr(validator, "compare_op", None) in _BOUNDS
    }
