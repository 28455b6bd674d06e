"""Copies of frozen objects, as `attrs.evolve` makes them."""

from functools import cached_property
from typing import Any

import attrs
import pytest

from orchestrator.core.evolve import evolve
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.ledger.records import RunRecord


@attrs.frozen(kw_only=True)
class Base:
    a: int
    b: str = "b"


@attrs.frozen(kw_only=True)
class Slotted(Base):
    c: list[int] = attrs.field(factory=list, eq=False)

    @cached_property
    def double(self) -> int:
        return 2 * self.a


@attrs.frozen(kw_only=True, slots=False)
class WithDict:
    a: int
    c: list[int] = attrs.field(factory=list, eq=False)

    @cached_property
    def double(self) -> int:
        return 2 * self.a


@attrs.frozen
class Renamed:
    _a: int


@attrs.frozen
class Converted:
    a: int = attrs.field(converter=int)


@attrs.frozen
class Checked:
    a: int

    def __attrs_post_init__(self) -> None:
        if self.a < 0:
            raise ValueError("negative")


@pytest.mark.parametrize(
    ("instance", "changes"),
    [
        (Slotted(a=1), {}),
        (Slotted(a=1, c=[1]), {"a": 2, "b": "c"}),
        (WithDict(a=1), {"a": 2}),
        (WithDict(a=1, c=[1]), {}),
        (Renamed(1), {"a": 2}),
        (Converted(1), {"a": "2"}),
        (Checked(1), {"a": 2}),
        (Job(id="1", job_identifier="job"), {"log_url": "javascript:alert()"}),
    ],
)
def test_a_copy_is_that_of_attrs(instance: Any, changes: dict[str, Any]) -> None:
    """Whatever its class is like, a copy equals the one that `attrs.evolve` makes."""
    copy = evolve(instance, **changes)
    assert copy == attrs.evolve(instance, **changes)
    assert copy is not instance
    assert type(copy) is type(instance)


BOTH = pytest.mark.parametrize("kind", [Slotted, WithDict])


@BOTH
def test_all_fields_are_copied(kind: type[Slotted] | type[WithDict]) -> None:
    """A field that doesn't count in a comparison is there as well, as the same object."""
    instance = kind(a=1, c=[1])
    assert evolve(instance, a=2).c is instance.c


@BOTH
def test_cached_properties_are_not_copied(kind: type[Slotted] | type[WithDict]) -> None:
    """They are computed anew from the changed fields."""
    instance = kind(a=1)
    assert instance.double == 2
    assert evolve(instance, a=2).double == 4


@BOTH
def test_a_copy_is_frozen(kind: type[Slotted] | type[WithDict]) -> None:
    """It is set while it is made, and never after."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        evolve(kind(a=1), a=2).a = 3  # type: ignore[misc]


def test_a_check_holds_for_a_copy() -> None:
    """A class that checks its values checks those of a copy."""
    with pytest.raises(ValueError, match="negative"):
        evolve(Checked(1), a=-1)


@pytest.mark.parametrize("instance", [Slotted(a=1), WithDict(a=1), Checked(1)])
def test_an_unknown_field_is_refused(instance: Any) -> None:
    """A change of a field that isn't there is not ignored."""
    with pytest.raises(TypeError, match="unheard"):
        evolve(instance, unheard=1)


def test_records_have_a_copier_of_their_own() -> None:
    """The class that is copied most has nothing that only `attrs.evolve` can do."""
    assert all(field.converter is None for field in attrs.fields(RunRecord))
    assert not hasattr(RunRecord, "__attrs_post_init__")
    assert not any(vars(one).get("__slots__") for one in RunRecord.__mro__)
