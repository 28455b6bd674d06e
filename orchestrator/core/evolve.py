"""A frozen attrs object with other values in some of its fields: `attrs.evolve`, but faster.

An event makes a dozen such copies of records with forty fields. `attrs.evolve` reads each field by
its name and calls the class with all of them; where a class keeps its fields in a dictionary
(`slots=False`), as the ledger's records do, they are copied at once (docs/performance.md).
"""

from collections.abc import Callable
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
        return _copier(type(instance))(instance, **changes)


@cache
def _copier(model: Any) -> Callable[..., Any]:
    fields = attrs.fields(model)
    is_plain = all(
        field.init
        and field.alias == field.name
        and field.converter is None
        and field.validator is None
        for field in fields
    )
    if not is_plain or not _keeps_a_dict(model) or hasattr(model, "__attrs_post_init__"):
        return attrs.evolve
    names = frozenset(field.name for field in fields)
    set_attribute, create = object.__setattr__, object.__new__

    def copier(instance: Any, /, **changes: Any) -> Any:
        values = instance.__dict__ | changes
        if len(values) != len(names):
            # Cached properties are computed anew.
            values = {name: values[name] for name in names}
            if unknown := changes.keys() - names:
                raise TypeError(f"{model.__name__} has no field {min(unknown)!r}")
        copy = create(model)
        set_attribute(copy, "__dict__", values)
        return copy

    return copier


def _keeps_a_dict(model: type) -> bool:
    """Whether all fields of the class are in its instances' `__dict__`."""
    return not any(vars(one).get("__slots__") for one in model.__mro__)
