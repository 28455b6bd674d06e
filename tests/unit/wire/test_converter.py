"""JSON to models and back, strictly, for models of any user."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import attrs
import pytest

from orchestrator.core.errors import InvalidPayload
from orchestrator.core.events.payloads import TenantProvisioning
from orchestrator.core.ledger.record_parts import Job
from orchestrator.wire.fields import json_field_name
from orchestrator.wire.json_schema import json_schemas
from tests.unit.wire.models import (
    A_TIME,
    WIRE,
    Address,
    Email,
    Page,
    Plain,
    Signup,
    Size,
    mismatches,
    signup_mismatches,
)


def test_a_users_model_is_filled_from_camel_case() -> None:
    """Each field comes from its name in JSON, nested models and collections too."""
    body = {
        "emailAddress": "a@b.example",
        "seats": 3,
        "price": 9.5,
        "isTrial": True,
        "startsAt": "2026-03-02T17:45:10+01:00",
        "size": "L",
        "postAddress": {"postCode": "5003"},
        "moreAddresses": [{"postCode": "3011", "country": "NL"}],
        "limits": {"cpu": 2},
        "labels": ["x", "y"],
        "TAX-ID": "k",
        "unknownField": {"is": "ignored"},
    }
    assert WIRE.structure(body, Signup) == Signup(
        email_address=Email("a@b.example"),
        seats=3,
        price=9.5,
        is_trial=True,
        starts_at=A_TIME,
        size=Size.LARGE,
        post_address=Address(post_code="5003"),
        more_addresses=[Address(post_code="3011", country="NL")],
        limits={"cpu": 2},
        labels=("x", "y"),
        tax_id="k",
    )


def test_generic_and_mutable_models_serve_as_well() -> None:
    """attrs.define, positional fields, annotated types and generics are models too."""
    assert WIRE.structure({"firstName": "Ada", "ratio": 1}, Plain) == Plain("Ada", 1.0)
    page = WIRE.structure({"allItems": [{"postCode": "1"}]}, Page[Address])
    assert page == Page([Address(post_code="1")])
    assert mismatches({"allItems": [{"postCode": 1}]}, Page[Address]) == [
        ("$.allItems[0].postCode", "must be a string")
    ]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("emailAddress", 1, "must be a string"),
        ("emailAddress", True, "must be a string"),
        ("emailAddress", None, "must be a string"),
        ("seats", "1", "must be an integer"),
        ("seats", True, "must be an integer"),
        ("seats", 1.0, "must be an integer"),
        ("seats", None, "must be an integer"),
        ("price", "9.5", "must be a number"),
        ("price", True, "must be a number"),
        ("isTrial", 1, "must be true or false"),
        ("isTrial", "true", "must be true or false"),
        ("TAX-ID", 5, "must be a string"),
        ("size", "M", "'M' is not a valid Size"),
        ("postAddress", "x", "must be an object"),
        ("postAddress", [], "must be an object"),
        ("moreAddresses", {}, "must be a list"),
        ("moreAddresses", "x", "must be a list"),
        ("limits", [], "must be an object"),
        ("labels", "xy", "must be a list"),
        ("labels", {"x": 1}, "must be a list"),
    ],
)
def test_nothing_is_coerced(field: str, value: object, message: str) -> None:
    """A value of another kind is a mismatch at its field, however close it comes."""
    assert signup_mismatches(**{field: value}) == [(f"$.{field}", message)]


def test_an_integer_is_a_number() -> None:
    """JSON knows one kind of number, so a whole one fits a float."""
    price = WIRE.structure({"emailAddress": "a", "price": 9}, Signup).price
    assert price == 9.0
    assert type(price) is float


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-03-02T16:45:10Z", A_TIME),
        ("2026-03-02T18:45:10+02:00", A_TIME),
        ("2026-03-02T16:45:10.5Z", A_TIME + timedelta(seconds=0.5)),
    ],
)
def test_a_time_is_rfc_3339(text: str, time: datetime) -> None:
    """Any offset and fraction is read."""
    assert WIRE.structure({"emailAddress": "a", "startsAt": text}, Signup).starts_at == time


@pytest.mark.parametrize("value", ["soon", "", 1_700_000_000, None, "2026-13-02T16:45:10Z"])
def test_the_mismatch_of_a_time_has_an_example(value: object) -> None:
    """The sender sees how one is written."""
    ((path, message),) = signup_mismatches(startsAt=value)
    assert path == "$.startsAt"
    assert message == "must be a time as in RFC 3339, such as 2026-11-20T09:14:03Z"


@pytest.mark.parametrize("country", ["DE", "no", 1, None, ["NO"]])
def test_a_literal_names_what_is_allowed(country: object) -> None:
    """The mismatch of a value outside of a Literal names those that there are."""
    assert signup_mismatches(postAddress={"postCode": "1", "country": country}) == [
        ("$.postAddress.country", "must be one of 'NO', 'NL'")
    ]


def test_a_validators_sentence_is_the_message() -> None:
    """What an attrs validator refuses is a mismatch of the payload, not a bug."""
    ((path, message),) = signup_mismatches(seats=10)
    assert path.startswith("$")
    assert message == "'seats' must be <= 9: 10"


@pytest.mark.parametrize("name", ["email_address", "EmailAddress", "email-address"])
def test_only_the_name_in_json_is_read(name: str) -> None:
    """The Python name of a field is no second spelling."""
    assert mismatches({name: "a"}, Signup) == [("$.emailAddress", "is required")]


def test_the_python_name_of_a_renamed_field_means_nothing() -> None:
    """`json_name` replaces the camelCase name."""
    body = {"emailAddress": "a", "taxId": "k", "tax_id": "k"}
    assert WIRE.structure(body, Signup).tax_id is None


@pytest.mark.parametrize(
    ("field", "name"),
    [("email_address", "emailAddress"), ("seats", "seats"), ("tax_id", "TAX-ID")],
)
def test_the_name_of_a_field_in_json(field: str, name: str) -> None:
    """camelCase, unless the field says otherwise."""
    assert json_field_name(attrs.fields_dict(Signup)[field]) == name


@pytest.mark.parametrize(
    ("value", "model", "expected"),
    [
        ([1], list[int], [1]),
        ([1], Sequence[int], [1]),
        ({"a": 1}, dict[str, int], {"a": 1}),
        ({"a": 1}, Mapping[str, int], {"a": 1}),
        ([1, 2], tuple[int, ...], (1, 2)),
        ({"a": [None]}, dict[str, Any], {"a": [None]}),
        ("x", str, "x"),
        (None, str | None, None),
        ("S", Size, Size.SMALL),
        (["x", {"y": 1}], Any, ["x", {"y": 1}]),
    ],
)
def test_a_model_need_not_be_a_class(value: object, model: Any, expected: object) -> None:
    """Any type that a step's `returns` may name is structured."""
    assert WIRE.structure(value, model) == expected


@pytest.mark.parametrize(
    ("value", "model", "message"),
    [
        ("ab", Sequence[str], "must be a list"),
        ({"a": 1}, list[Any], "must be a list"),
        ([1], Mapping[str, Any], "must be an object"),
        ("1", int, "must be an integer"),
        (1, str, "must be a string"),
        ([1], Address, "must be an object"),
        (None, Address, "must be an object"),
    ],
)
def test_a_mismatch_of_the_whole_is_at_the_root(value: object, model: Any, message: str) -> None:
    """The path of the whole value is `$`."""
    assert mismatches(value, model) == [("$", message)]


def test_without_a_model_the_value_stays_as_it_is() -> None:
    """No model means no validation, and not even a copy."""
    value = {"any": [1, "x", None]}
    assert WIRE.structure(value, None) is value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Address(post_code="1"), {"postCode": "1", "country": "NO"}),
        ([Address(post_code="1")], [{"postCode": "1", "country": "NO"}]),
        ((1, (2,)), [1, [2]]),
        ({"a": (1,)}, {"a": [1]}),
        ({1: "x"}, {"1": "x"}),
        (A_TIME, "2026-03-02T16:45:10+00:00"),
        (Size.LARGE, "L"),
        (None, None),
        ([1, 1.5, True, "x"], [1, 1.5, True, "x"]),
    ],
)
def test_values_go_back_to_json(value: object, expected: object) -> None:
    """Models become objects with the names of JSON, tuples lists, times and enums text."""
    assert WIRE.unstructure(value) == expected


def test_a_model_comes_back_the_same() -> None:
    """What was made JSON is structured into an equal model."""
    signup = Signup(
        email_address=Email("a@b.example"),
        seats=2,
        starts_at=A_TIME.astimezone(timezone(timedelta(hours=1))),
        size=Size.LARGE,
        post_address=Address(post_code="1"),
        labels=("x",),
        tax_id="k",
    )
    assert WIRE.structure(WIRE.unstructure(signup), Signup) == signup


@pytest.mark.parametrize("value", [object(), [object()], {"a": print}, 1j])
def test_a_value_without_a_json_form_is_a_type_error(value: object) -> None:
    """A value that can't be stored is refused, wherever it is."""
    with pytest.raises(TypeError):
        WIRE.unstructure(value)


def test_a_tenants_id_is_not_coerced() -> None:
    """A number is no id, in an object or in JSON text."""
    for tenant in ({"id": 1}, '{"id": 1}'):
        assert mismatches({"tenant": tenant}, TenantProvisioning) == [
            ("$.tenant.id", "must be a string")
        ]


def test_an_empty_id_names_no_tenant() -> None:
    """A job would be started for no tenant."""
    ((path, _),) = mismatches({"tenant": {"id": ""}}, TenantProvisioning)
    assert path == "$.tenant.id"


@attrs.frozen
class Guarded:
    api_password: str = attrs.field(validator=attrs.validators.matches_re("[a-z]+"))
    seats: int = attrs.field(default=1, validator=attrs.validators.ge(1))


def test_a_validators_refusal_has_the_fields_path() -> None:
    """attrs raises without a path; the field's name in its sentence leads there."""
    ((path, _),) = mismatches({"apiPassword": "abc", "seats": 0}, Guarded)
    assert path == "$.seats"


def test_a_secrets_value_is_never_quoted() -> None:
    """A validator quotes what it refuses; not if the name is a secret's."""
    assert mismatches({"apiPassword": "HUNTER2"}, Guarded) == [("$.apiPassword", "does not fit")]


@attrs.frozen
class Loose:
    names: set[str] = attrs.field(factory=set)
    anything: list = attrs.field(factory=list)  # type: ignore[type-arg]
    version: Literal[1] = 1


def test_a_string_is_no_list_and_true_is_not_one() -> None:
    """Nothing is coerced into a collection or a literal."""
    body = {"names": "ab", "anything": "ab", "version": True}
    assert [path for path, _ in mismatches(body, Loose)] == ["$.names", "$.anything", "$.version"]
    fitting = {"names": ["a", "a"], "anything": [1], "version": 1}
    assert WIRE.structure(fitting, Loose) == Loose({"a"}, [1], 1)


@dataclasses.dataclass
class Person:
    first_name: str


def test_a_dataclass_keeps_its_names() -> None:
    """camelCase is for attrs; a dataclass's mismatch still has its path."""
    assert WIRE.structure({"first_name": "Ada"}, Person) == Person("Ada")
    assert mismatches({"first_name": 1}, Person) == [("$.first_name", "must be a string")]


@attrs.frozen
class SecretReferences:
    kind: Size


@attrs.frozen
class Guarding:
    secret: SecretReferences
    order_id: UUID | None = None
    price: Decimal | None = None


def test_nothing_below_a_secret_is_quoted() -> None:
    """The name of a secret covers all that is in it."""
    body = {"secret": {"kind": "HUNTER2"}}
    assert mismatches(body, Guarding) == [("$.secret.kind", "does not fit")]


def test_ids_and_amounts_are_read_from_text() -> None:
    """UUIDs and decimal numbers, which JSON lacks, are read from text."""
    body = {"secret": {"kind": "S"}, "orderId": str(UUID(int=1)), "price": "9.90"}
    guarding = Guarding(SecretReferences(Size.SMALL), UUID(int=1), Decimal("9.90"))
    assert WIRE.structure(body, Guarding) == guarding
    assert WIRE.unstructure(guarding) == body
    assert mismatches({**body, "orderId": "1", "price": 9.9}, Guarding) == [
        ("$.orderId", "must be a UUID"),
        ("$.price", "must be a decimal number as text"),
    ]


@attrs.frozen
class Node:
    name: str
    children: "list[Node]" = attrs.field(factory=list)
    others: list["Node"] = attrs.field(factory=list)


@attrs.frozen
class Appointment:
    at: time
    lasts: timedelta
    photo: bytes


def test_values_of_the_documented_forms_are_read() -> None:
    """Bytes in Base64, times and durations, and models that hold their own kind."""
    body = {"at": "09:14:03", "lasts": "PT90S", "photo": "aGk="}
    appointment = WIRE.structure(body, Appointment)
    assert appointment == Appointment(time(9, 14, 3), timedelta(seconds=90), b"hi")
    assert WIRE.structure(WIRE.unstructure(appointment), Appointment) == appointment
    nested = {"name": "a", "children": [{"name": "b"}], "others": [{"name": "c"}]}
    assert WIRE.structure(nested, Node) == Node("a", [Node("b")], [Node("c")])


@pytest.mark.parametrize(
    ("changes", "path"),
    [({"at": "soon"}, "$.at"), ({"lasts": 90}, "$.lasts"), ({"photo": "§"}, "$.photo")],
)
def test_a_value_of_another_form_is_a_mismatch(changes: dict[str, Any], path: str) -> None:
    """The mismatch shows what the value must be."""
    body = {"at": "09:14:03", "lasts": "PT90S", "photo": "aGk=", **changes}
    with pytest.raises(InvalidPayload) as misfit:
        WIRE.structure(body, Appointment)
    assert [error.path for error in misfit.value.errors] == [path]
    assert "must be" in misfit.value.errors[0].message


@pytest.mark.parametrize(
    ("value", "model", "expected"),
    [
        ({"a": 1}, dict, {"a": 1}),
        ({"a": "x"}, dict[str, Any], {"a": "x"}),
        ([1, 1], frozenset[int], frozenset({1})),
        ([1, "x"], tuple[Any, ...], (1, "x")),
        ({"S": "x"}, dict[Size, str], {Size.SMALL: "x"}),
        ([[[1]]], list[list[list[int]]], [[[1]]]),
    ],
)
def test_collections_of_any_kind_are_built(value: Any, model: Any, expected: Any) -> None:
    """Collections of anything, of models and of each other are built, also bare ones."""
    assert WIRE.structure(value, model) == expected


def test_fields_of_another_release_are_not_shown() -> None:
    """They are stored with the ledger's items alone: not in JSON, not in its schema."""
    job = Job(id="b-1", builder="X", job_identifier="build", unknown={"newer": "secret"})
    shown = WIRE.unstructure(job)
    assert set(shown) == {"id", "builder", "jobIdentifier", "logUrl", "request"}
    assert WIRE.structure({**shown, "unknown": {"a": 1}}, Job).unknown == {}
    _, components = json_schemas([Job], ref_template="{name}")
    assert set(components["Job"]["properties"]) == set(shown)
