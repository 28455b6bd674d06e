"""What is said of a value that does not fit: every mismatch at its place, up to a number."""

from collections.abc import Iterator, Sequence
from enum import Enum, IntEnum, StrEnum
from typing import Any, ClassVar

import attrs
import pytest

from orchestrator.core.errors import InvalidPayload, PayloadMismatch
from tests.unit.wire.models import WIRE, Signup, Size, mismatches


def test_all_mismatches_are_found_at_once() -> None:
    """Paths go through fields, maps and lists, in the sender's spelling."""
    body = {
        "seats": "1",
        "TAX-ID": 1,
        "postAddress": {"country": "DE"},
        "moreAddresses": [{"postCode": "1"}, {"postCode": 2}, 3],
        "limits": {"cpu": "2", "ram": 1, "disk": None},
        "labels": ["x", 7],
    }
    found = mismatches(body, Signup)
    assert sorted(found) == sorted(
        [
            ("$.emailAddress", "is required"),
            ("$.seats", "must be an integer"),
            ("$.TAX-ID", "must be a string"),
            ("$.postAddress.postCode", "is required"),
            ("$.postAddress.country", "must be one of 'NO', 'NL'"),
            ("$.moreAddresses[1].postCode", "must be a string"),
            ("$.moreAddresses[2]", "must be an object"),
            ("$.limits.cpu", "must be an integer"),
            ("$.limits.disk", "must be an integer"),
            ("$.labels[1]", "must be a string"),
        ]
    )


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 2


class Plan(str, Enum):  # noqa: UP042 - as users write it
    FREE = "free"


@pytest.mark.parametrize(
    ("kind", "value", "other"),
    [(Colour, "red", "blue"), (Level, 2, 3), (Plan, "free", "paid"), (Size, "S", "M")],
)
def test_an_enum_takes_its_own_values_alone(kind: type[Enum], value: Any, other: Any) -> None:
    """An enum takes no other value, also if it is a text or a number besides."""
    assert WIRE.structure(value, kind) is kind(value)
    ((_, message),) = mismatches(other, kind)
    assert message == f"{other!r} is not a valid {kind.__name__}"


def test_the_error_itself_lists_the_mismatches() -> None:
    """The sentence alone has every path, too."""
    with pytest.raises(InvalidPayload, match=r"\$\.emailAddress is required; .*\$\.seats must be"):
        WIRE.structure({"seats": "x"}, Signup)


def test_a_mismatch_does_not_quote_a_secret() -> None:
    """If the name matches a secret pattern, neither message nor sentence quotes the value."""

    @attrs.frozen
    class Login:
        api_token: Size

    with pytest.raises(InvalidPayload) as refused:
        WIRE.structure({"apiToken": "hunter2"}, Login)
    assert refused.value.errors == (PayloadMismatch("$.apiToken", "does not fit"),)
    assert "hunter2" not in str(refused.value)


def test_a_mismatch_is_a_value() -> None:
    """Two equal mismatches are equal, so that tests of users can compare them."""
    assert PayloadMismatch("$.a", "is required") == PayloadMismatch("$.a", "is required")


@attrs.frozen
class Item:
    """Counts how often its validator was called."""

    asked: ClassVar[list[int]] = []
    number: int = attrs.field()
    more: "list[Item]" = attrs.field(factory=list)
    others: "list[Item]" = attrs.field(factory=list)

    @number.validator
    def _check(self, _: Any, value: int) -> None:
        self.asked.append(value)
        if value < 0:
            raise ValueError(f"is {value}")


@pytest.fixture
def asked() -> Iterator[list[int]]:
    Item.asked.clear()
    yield Item.asked
    Item.asked.clear()


BAD, GOOD = {"number": -1}, {"number": 1}
MORE = ("$", "and more")


@pytest.mark.parametrize(
    ("value", "model"),
    [
        ([BAD] * 5000, list[Item]),
        ([BAD] * 5000, tuple[Item, ...]),
        ([BAD] * 5000, Sequence[Item]),
        ([BAD] * 5000, set[Item]),
        ({f"a{number}": BAD for number in range(5000)}, dict[str, Item]),
        ([[BAD] * 7] * 700, list[list[Item]]),
        ({"a": [BAD] * 70, "b": [BAD] * 5000}, dict[str, list[Item]]),
        ([{"number": 1, "more": [BAD] * 60, "others": [BAD] * 60}] * 100, list[Item]),
        ({"number": 1, "more": [BAD] * 5000, "others": [BAD] * 5000}, Item),
    ],
)
def test_the_search_ends_with_one_mismatch_more_than_are_named(
    value: Any, model: Any, asked: list[int]
) -> None:
    """The search ends however many mismatches a body has, and wherever they are."""
    found = mismatches(value, model)
    assert len(found) == 101
    assert found[100] == MORE
    assert asked.count(-1) == 101


def test_a_list_of_mismatches_knows_whether_there_are_more() -> None:
    """A hundred are not more than are named, whatever comes after them."""
    exactly = [*["x"] * 100, *[1] * 1000]
    assert mismatches(exactly, list[int]) == [
        (f"$[{index}]", "must be an integer") for index in range(100)
    ]
    assert mismatches([*exactly, "x"], list[int])[100:] == [MORE]
    assert mismatches({"a": exactly, "b": "x"}, dict[str, list[int]])[100:] == [MORE]


def test_no_mismatch_is_found_after_the_limit(asked: list[int]) -> None:
    """A field that wasn't checked any more has no mismatch, and each search begins anew."""
    body = {"emailAddress": 1, "limits": {f"a{n}": "x" for n in range(500)}, "labels": ["x"]}
    found = mismatches(body, Signup)
    assert found[0] == ("$.emailAddress", "must be a string")
    assert found[1:] == [*((f"$.limits.a{n}", "must be an integer") for n in range(99)), MORE]
    assert WIRE.structure([GOOD], list[Item]) == [Item(1)]


def test_a_deep_body_is_searched_once(asked: list[int]) -> None:
    """Models in models: what one level has found counts for all."""
    body: dict[str, Any] = GOOD
    for _ in range(50):
        body = {"number": 1, "more": [body, *[BAD] * 30], "others": [BAD] * 30}
    assert len(mismatches(body, Item)) == 101
    assert asked.count(-1) == 101


@pytest.mark.parametrize(
    ("value", "model", "path"),
    [
        ({"M": "x"}, dict[Size, str], "$.M"),
        ({"S": 1}, dict[Size, str], "$.S"),
        ([[1], ["x"]], list[list[int]], "$[1][0]"),
        ([{"a": []}], list[dict[str, int]], "$[0].a"),
    ],
)
def test_a_mismatch_in_a_collection_has_its_place(value: Any, model: Any, path: str) -> None:
    """A mismatch is named by index and by name, also if it is the name that doesn't fit."""
    ((found, _),) = mismatches(value, model)
    assert found == path
