"""Which names bear secrets, and how values are masked."""

import dataclasses
import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.secrets.redaction import MASK, Redactor
from tests.unit.core.secrets.unreadable import UNREADABLE


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
        "api_key",
        "apiKey",
        "x-api-key",
        "API KEY",
        "STRIPE_APIKEY",
        "authorization",
        "Proxy-Authorization",
        "authorizationHeader",
        "credential",
        "CREDENTIALS",
        "dbCredentials",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "passwd",
        "MYSQL_PASSWD",
        "pwd",
        "dbPwd",
        "private_key",
        "privateKey",
        "SSH-PRIVATE-KEY",
        "privatekeyPem",
    ],
)
def test_a_name_bears_a_secret(name: str) -> None:
    """A name that matches a pattern, in any case, is masked."""
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
        "key",
        "apikind",
        "author",
        "public_key",
        "passed",
        "private",
        "CREDENTIAL_EXPIRATION",
    ],
)
def test_a_name_without_a_secret_pattern_is_not_masked(name: str) -> None:
    """Expirations are no secrets, nor is a name that matches no pattern."""
    assert not Redactor().is_secret(name)
    assert Redactor().redact({name: "plain"}) == {name: "plain"}


@pytest.mark.parametrize("value", [0, 3600, 0.5, True, False, None])
def test_numbers_and_nothing_stay(value: object) -> None:
    """They stay whatever their name, since they hold no secret."""
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


@pytest.mark.parametrize(("name", "value"), [("name", "value"), ("Key", "Value")])
def test_the_value_beside_a_secret_name_is_masked(name: str, value: str) -> None:
    """Pairs of lists of variables, headers and tags are masked, also within JSON text."""
    secret = {name: "DB_PASSWORD", value: "hunter2", "type": "PLAINTEXT"}
    harmless = {name: "REGION", value: "eu-central-1"}
    variables = {"variables": [secret, harmless], "text": json.dumps([secret])}
    shown = Redactor().redact(variables)
    assert shown["variables"] == [{**secret, value: MASK}, harmless]
    assert json.loads(shown["text"]) == [{**secret, value: MASK}]
    assert Redactor().leave_out([secret]) == [{name: "DB_PASSWORD", "type": "PLAINTEXT"}]


def test_a_pair_is_one_by_both_its_names() -> None:
    """A thing that is only called like a secret keeps its other fields."""
    plan = {"name": "Token plan", "price": "10"}
    number = {"name": "token_lifetime", "value": 3600}
    assert Redactor().redact([plan, number]) == [plan, number]


def test_redaction_makes_a_copy() -> None:
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
    """A model that is logged shows no more than its body would."""
    assert Redactor().redact({"login": Login("ada", "hunter2")}) == {
        "login": {"user": "ada", "password": "***"}
    }


@pytest.mark.parametrize("value", [("a", "b"), ["a"], {"b": ()}])
def test_a_value_without_secrets_is_unchanged(value: object) -> None:
    """A value of any type that has no secret is not hidden."""
    assert not Redactor().hides("ZONES", value)
    assert Redactor().hides("ZONES", (value, {"password": "x"}))


class Odd:
    """Raises at each access."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return object.__getattribute__(self, name)
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError("str")

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        return 4711


class OddMapping(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("items")


class EndlessMapping(dict[str, Any]):
    def items(self) -> Any:
        while True:
            yield "a", "b"


@attrs.define
class OddModel:
    password: str
    name: str = "x"

    def __getattribute__(self, name: str) -> Any:
        if name == "name":
            raise RuntimeError(name)
        return object.__getattribute__(self, name)


@dataclasses.dataclass
class Pair:
    user: str
    password: str


def cyclic() -> list[Any]:
    value: list[Any] = [1]
    value += [value, {"a": value}, value]
    return value


def tangled(size: int) -> list[Any]:
    """So many lists that hold each other: there are more ways through them than atoms."""
    lists: list[list[Any]] = [[] for _ in range(size)]
    for one in lists:
        one.extend(lists)
    return lists


def doubled(times: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(times):
        value = [value, value]
    return value


ODD = {
    "itself": cyclic(),
    "each other": tangled(30),
    "twice itself": doubled(90),
    "an object": Odd(),
    "a mapping": OddMapping(a=1),
    "a model": OddModel("hunter2"),
    "names": {Odd(): "hunter2", 1: 2, (1, 2): 3, None: 4},
    "a number": 10**5000,
    "a deep one": json.loads("[" * 500 + "]" * 500),
    "halves": {"\ud800": "\udc00"},
    "a pair": Pair("ada", "hunter2"),
    "a class": Pair,
    "a set": {"a", '{"secret": "hunter2"}'},
    "bytes": b'\xff{"secret"',
}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
def test_nothing_makes_it_raise(value: Any) -> None:
    """It ends without raising or leaking: what can't be searched is masked."""
    redactor = Redactor(max_values=10_000)
    for shown in (redactor.redact({"a": value}), redactor.leave_out({"a": value})):
        assert set(shown) <= {"a"}
    assert isinstance(redactor.hides("a", value), bool)


class Watched(dict[str, Any]):
    """Counts how often its members are read."""

    reads = 0

    def items(self) -> Any:
        self.reads += 1
        return super().items()


def test_each_value_is_read_once() -> None:
    """A value is read once, whatever is found in it, and however deep it is."""
    all_of_them = [Watched(a=number, secret="x", text='{"token": "x"}') for number in range(100)]
    Redactor().redact({"a": all_of_them, "b": [{"c": tuple(all_of_them[:50])}]})
    assert [one.reads for one in all_of_them] == [2] * 50 + [1] * 50


@given(
    st.lists(
        st.text()
        | st.sampled_from(["secret", "a\nsecret", "SECRET_EXPIRATION", "api\nkey", "ssn", "a.b"])
    ),
    st.sampled_from(
        [(), ("*",), ("!a*", "*secret*", "!*_expiration"), ("s*n", "a.b", "[!a]pi?key", "*key")]
    ),
)
def test_names_are_secrets_together_as_each_is_alone(names: list[str], patterns: Any) -> None:
    """The names of a large object, searched at once, are those that are found one by one."""
    redactor = Redactor(patterns)
    assert redactor.secret_names(names) == set(filter(redactor.is_secret, names))


def test_an_endless_value_is_cut() -> None:
    """A value without an end is searched up to the limit."""
    shown = Redactor(max_values=1000).redact({"a": EndlessMapping(), "b": "c"})
    assert shown["a"] == {"a": "b"}


def test_a_dataclass_and_a_set_are_masked_like_others() -> None:
    """A dataclass is masked field by field, and a set item by item."""
    redact = Redactor().redact
    assert redact(Pair("ada", "hunter2")) == {"user": "ada", "password": MASK}
    assert redact({'{"secret": "hunter2"}'}) == ['{"secret": "***"}']
    assert redact(frozenset({1})) == [1]


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.builds(Odd)
    | st.builds(OddMapping)
    | st.builds(OddModel, st.just("hunter2"))
    | st.sampled_from(list(UNREADABLE.values())),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers() | st.sampled_from(["secret", "a"]), inner)
        | st.tuples(inner, inner)
        | st.builds(
            lambda value: json.dumps({"a": value}, default=lambda _: "odd", skipkeys=True), inner
        )
    ),
    max_leaves=20,
)


@given(ANYTHING)
def test_any_value_is_masked(value: Any) -> None:
    """No value raises or shows a secret in it."""
    redact = Redactor().redact
    shown = redact({"value": value})
    assert "hunter2" not in json.dumps(shown, default=lambda _: "odd", skipkeys=True)
    assert Redactor().leave_out({"value": value}) is not None


@given(
    st.sampled_from(["note", "password", "x" * 100, "token" + "x" * 100]),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(['{"a": 1}', '["password", 1]', '"password=1"', "password=1", "a: {b"]),
)
def test_a_plain_value_needs_no_search(name: str, value: object) -> None:
    """A log line's values are checked for that before they are searched."""
    if Redactor().is_plain(name, value):
        assert Redactor().redact({name: value}) == {name: value}


def test_most_values_of_a_log_line_are_plain() -> None:
    """Ids, times, counts and sentences need no search."""
    line = {"run_id": "1a", "timestamp": "2026-11-20T09:00:00Z", "attempt": 1, "note": "a = b: c"}
    assert all(Redactor().is_plain(name, value) for name, value in line.items())
    assert not Redactor().is_plain("password", "hunter2")
    assert not Redactor().is_plain("body", "{}")
