"""A frozen attrs object with other values in some of its fields: `attrs.evolve`, but faster.

An event makes a dozen such copies of records with thirty fields. `attrs.evolve` reads each field
by its name and calls the class with all of them; a copier that is generated once for a class sets
its slots one after the other, in a third of the time (docs/performance.md).
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    # Type checkers know this one: they compare the changes with the fields of the class.
    from attrs import evolve as evolve
else:

    def evolve(instance: Any, /, **changes: Any) -> Any:
        """A copy of `instance` with `changes` to its fields.

        Raises:
            TypeError: there is no such field.
        """
        return _copier(type(instance))(instance, changes)


@cache
def _copier(model: Any) -> Callable[[Any, Mapping[str, Any]], Any]:
    fields = attrs.fields(model)
    setters = {
        field.name: getattr(getattr(model, field.name, None), "__set__", None) for field in fields
    }
    is_plain = all(setters.values()) and all(
        field.init
        and field.alias == field.name
        and field.converter is None
        and field.validator is None
        for field in fields
    )
    if not is_plain or hasattr(model, "__attrs_post_init__"):
        return lambda instance, changes: attrs.evolve(instance, **changes)
    return _generate_copier(model, setters)


def _generate_copier(
    model: Any, setters: Mapping[str, Any]
) -> Callable[[Any, Mapping[str, Any]], Any]:
    names: dict[str, Any] = {f"set_{name}": setter for name, setter in setters.items()}
    names |= {"create": object.__new__, "model": model, "setters": setters}
    lines = [
        "def copier(instance, changes):",
        "    copy = create(model)",
        *(f"    set_{name}(copy, instance.{name})" for name in setters),
        "    try:",
        "        for name in changes:",
        "            setters[name](copy, changes[name])",
        "    except KeyError:",
        "        raise TypeError(f'{model.__name__} has no field {name!r}') from None",
        "    return copy",
    ]
    exec("\n".join(lines), names)  # noqa: S102 - made of the names of a class's fields alone
    copier: Callable[[Any, Mapping[str, Any]], Any] = names["copier"]
    return copier
