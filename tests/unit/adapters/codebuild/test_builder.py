"""A job's parameters in the form that StartBuild takes."""

from decimal import Decimal
from typing import Any

import pytest

from orchestrator.adapters.codebuild.builder import environment_variables


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3600, "3600"),
        (3600.0, "3600"),
        (0.25, "0.25"),
        (Decimal(86400), "86400"),
        (Decimal("1.5"), "1.5"),
        (0, "0"),
        (True, "true"),
        (False, "false"),
        ("", ""),
        ("3600", "3600"),
        ('a "quoted" é', 'a "quoted" é'),
        ({"a": 1, "b": None}, '{"a":1,"b":null}'),
        (["x", True], '["x",true]'),
        ({}, "{}"),
    ],
)
def test_a_value_is_plain_text_as_javascript_prints_it(value: Any, text: str) -> None:
    """Scalars as String() prints them, objects and lists as compact JSON."""
    assert environment_variables({"A": value}) == [
        {"name": "A", "value": text, "type": "PLAINTEXT"}
    ]


def test_a_null_is_left_out() -> None:
    """A variable without a value is none, not the word null."""
    assert [v["name"] for v in environment_variables({"A": None, "B": "null"})] == ["B"]


def test_variables_are_sorted_by_name() -> None:
    """A repeated start has the same parameters in the same order, whatever the values are."""
    params = {"b": {"x": 1}, "B": None, "_": "1", "A": [1], "a": {"x": 2}, "AA": True}
    assert [v["name"] for v in environment_variables(params)] == ["A", "AA", "_", "a", "b"]
    reversed_params = dict(reversed(params.items()))
    assert environment_variables(reversed_params) == environment_variables(params)


@pytest.mark.parametrize("kind", ["SECRETS_MANAGER", "PARAMETER_STORE"])
def test_a_reference_keeps_its_type(kind: str) -> None:
    """A reference to a secret is handed on as one, so that its value is never here."""
    reference = {"type": kind, "value": "tenants/harbour:password"}
    assert environment_variables({"A": reference}) == [
        {"name": "A", "value": "tenants/harbour:password", "type": kind}
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"type": "PLAINTEXT", "value": "x"}, '{"type":"PLAINTEXT","value":"x"}'),
        ({"type": "secrets_manager", "value": "x"}, '{"type":"secrets_manager","value":"x"}'),
        ({"type": "SECRETS_MANAGER"}, '{"type":"SECRETS_MANAGER"}'),
        ({"type": "SECRETS_MANAGER", "value": 1}, '{"type":"SECRETS_MANAGER","value":1}'),
        (
            {"type": "SECRETS_MANAGER", "value": "x", "more": 1},
            '{"type":"SECRETS_MANAGER","value":"x","more":1}',
        ),
    ],
)
def test_an_object_that_only_resembles_a_reference_is_json(value: Any, text: str) -> None:
    """A reference has one of two types and a text, and nothing else."""
    assert environment_variables({"A": value}) == [
        {"name": "A", "value": text, "type": "PLAINTEXT"}
    ]


def test_no_parameters_are_no_variables() -> None:
    """A job without parameters overrides nothing."""
    assert environment_variables({}) == []
