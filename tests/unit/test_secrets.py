"""Which names bear secrets, and how values are masked."""

from typing import Any

import attrs
import pytest

from orchestrator.core.secrets import MASK, Redactor


@pytest.mark.parametrize(
    "name",
    [
        "secret",
        "SECRET",
        "CLIENT_SECRET",
        "clientSecret",
        "secretArn",
        "password",
        "DB_PASSWORD",
        "dbPassword",
        "passwords",
        "token",
        "GITHUB_TOKEN",
        "accessToken",
        "token_id",
    ],
)
def test_a_name_bears_a_secret(name: str) -> None:
    """By its pattern, in any case."""
    assert Redactor().is_secret(name)
    assert Redactor().redact({name: "s3cret"}) == {name: MASK}


@pytest.mark.parametrize(
    "name",
    [
        "ACCESS_TOKEN_EXPIRATION",
        "access_token_expiration",
        "REFRESH_TOKEN_EXPIRATION",
        "SECRET_EXPIRATION",
        "tenant",
        "context",
        "tok",
        "",
    ],
)
def test_a_name_bears_none(name: str) -> None:
    """Expirations are no secrets, and what matches no pattern isn't either."""
    assert not Redactor().is_secret(name)
    assert Redactor().redact({name: "plain"}) == {name: "plain"}


@pytest.mark.parametrize("value", [0, 3600, 0.5, True, False, None])
def test_numbers_and_nothing_stay(value: object) -> None:
    """Whatever their name, they tell no secret."""
    assert Redactor().redact({"token": value, "secret": value}) == {"token": value, "secret": value}


@pytest.mark.parametrize(
    ("value", "redacted"),
    [
        ({"a": {"b": [{"secret": "x"}, {"c": 1}]}}, {"a": {"b": [{"secret": MASK}, {"c": 1}]}}),
        ({"secrets": {"a": "x", "b": 1}}, {"secrets": MASK}),
        ({"tokens": ["x", "y"]}, {"tokens": MASK}),
        ({"password": ""}, {"password": MASK}),
        ([({"password": "x"},)], [({"password": MASK},)]),
        ({"token": b"x"}, {"token": MASK}),
        ({1: "x"}, {1: "x"}),
        ("secret", "secret"),
        (7, 7),
        (None, None),
    ],
)
def test_secrets_are_masked_at_any_depth(value: object, redacted: object) -> None:
    """A secret name masks all below it; what has no name stays."""
    assert Redactor().redact(value) == redacted


def test_what_is_redacted_is_a_copy() -> None:
    """The value itself keeps its secrets: a job needs them."""
    value: dict[str, Any] = {"a": [{"secret": "x"}]}
    Redactor().redact(value)
    assert value == {"a": [{"secret": "x"}]}


def test_patterns_of_ones_own_take_the_place_of_the_defaults() -> None:
    """`!` excepts from them, wherever it stands; characters of expressions mean themselves."""
    redactor = Redactor(["!*_ref", "*ssn*", "a.b", "pin?"])
    names = ("SSN", "ssn_ref", "a.b", "axb", "pin1", "pin", "secret", "my_SSN_no")
    assert [name for name in names if redactor.is_secret(name)] == [
        "SSN",
        "a.b",
        "pin1",
        "my_SSN_no",
    ]


@pytest.mark.parametrize("patterns", [[], ["!secret"]])
def test_without_patterns_nothing_is_a_secret(patterns: list[str]) -> None:
    """An empty list, or exceptions alone, mask nothing."""
    assert not Redactor(patterns).is_secret("secret")


@attrs.frozen
class Login:
    user: str
    password: str


def test_a_model_is_masked_field_by_field() -> None:
    """A model that somebody logs shows no more than its body would."""
    assert Redactor().redact({"login": Login("ada", "hunter2")}) == {
        "login": {"user": "ada", "password": "***"}
    }


def test_json_text_is_looked_into() -> None:
    """A build's variable `tenant` is JSON text; other text stays as it is."""
    redact = Redactor().redact
    assert redact('{"id": "t", "secret": "hunter2"}') == '{"id": "t", "secret": "***"}'
    assert redact('{"id":"t"}') == '{"id":"t"}'
    assert redact("{not json") == "{not json"


@pytest.mark.parametrize("value", [("a", "b"), ["a"], {"b": ()}])
def test_what_holds_no_secret_hides_none(value: object) -> None:
    """Of whatever type it is."""
    assert not Redactor().hides("ZONES", value)
    assert Redactor().hides("ZONES", (value, {"password": "x"}))
