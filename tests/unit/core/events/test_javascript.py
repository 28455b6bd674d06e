"""Values as JavaScript prints them: a table for people, and Node itself for all the rest."""

import json
import re
import shutil
import subprocess
from collections import OrderedDict
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.events.javascript import stringify, to_text

PRINT_EACH_LINE = """
require("readline").createInterface({ input: process.stdin })
  .on("line", (line) => console.log(JSON.stringify(JSON.parse(line))));
"""
INTEGER_LIKE = re.compile(r"0|[1-9][0-9]*")  # keys that JavaScript puts first, in their order

STRINGS = st.text(st.characters(codec="utf-8"))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | STRINGS
)
KEYS = STRINGS.filter(lambda key: not INTEGER_LIKE.fullmatch(key))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=20
)


@pytest.fixture(scope="module")
def print_in_node() -> Iterator[Callable[[object], str]]:
    """JSON.stringify itself, by one Node process for all questions."""
    executable = shutil.which("node")
    assert executable, "node must be on the PATH"
    with subprocess.Popen(  # noqa: S603 - our own script
        [executable, "-e", PRINT_EACH_LINE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as node:
        assert node.stdin
        assert node.stdout
        questions, answers = node.stdin, node.stdout

        def ask(value: object) -> str:
            questions.write(json.dumps(value) + "\n")
            questions.flush()
            return answers.readline().removesuffix("\n")

        yield ask
        questions.close()


@settings(max_examples=300, deadline=None)
@given(value=VALUES)
def test_any_value_is_printed_as_node_prints_it(
    print_in_node: Callable[[object], str], value: object
) -> None:
    """`stringify` gives the very characters of JSON.stringify."""
    assert stringify(value) == print_in_node(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        ('say "é"\n', 'say "é"\n'),
        (True, "true"),
        (False, "false"),
        (None, "null"),
        (3600, "3600"),
        (0, "0"),
        (-7, "-7"),
        (3600.0, "3600"),
        (0.1, "0.1"),
        (-0.0, "0"),
        (1e21, "1e+21"),
        (1e-7, "1e-7"),
        (123456789012345680.0, "123456789012345680"),
        (Decimal(3600), "3600"),
        (Decimal("3.6E3"), "3600"),
        (Decimal("0.10"), "0.1"),
        ({"a": 1, "b": [True, None, "x"]}, '{"a":1,"b":[true,null,"x"]}'),
        ([], "[]"),
        ({}, "{}"),
        (["a b"], '["a b"]'),
        ((1, (2,)), "[1,[2]]"),
    ],
)
def test_a_variable_is_printed_as_text(value: object, text: str) -> None:
    """A string is itself, another scalar as String() prints it, the rest as compact JSON."""
    assert to_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", '""'),
        ("é\u2028😀\x7f", '"é\u2028😀\x7f"'),
        ('"\\/', r'"\"\\/"'),
        ("\b\t\n\f\r\0\x1f", r'"\b\t\n\f\r\u0000\u001f"'),
        ({"é": "ü"}, '{"é":"ü"}'),
        (Decimal("1.50"), "1.5"),
        ([{"n": Decimal(5)}], '[{"n":5}]'),
    ],
)
def test_only_what_must_be_escaped_is(value: object, text: str) -> None:
    """Quotes, backslashes and control characters are escaped, letters of any script are not."""
    assert stringify(value) == text


def test_keys_keep_their_order() -> None:
    """An object is printed in the order in which it was written, any mapping like a dict."""
    assert stringify({"b": 1, "a": 2}) == '{"b":1,"a":2}'
    assert stringify(OrderedDict([("z", {}), ("a", [])])) == '{"z":{},"a":[]}'


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), 1j, [print], {"a": {2}}])
def test_a_value_without_a_json_form_is_a_type_error_of_the_printer(value: Any) -> None:
    """The refusal names the kind of value, wherever it is."""
    with pytest.raises(TypeError, match="has no JSON form"):
        to_text(value)


@pytest.mark.parametrize(
    "value",
    [
        *(float("nan"), float("inf"), -float("inf"), [float("nan")]),
        *map(Decimal, ("NaN", "sNaN", "Infinity", "-Infinity")),
    ],
)
def test_a_number_that_is_not_finite_is_a_value_error(value: object) -> None:
    """A number that isn't finite is refused, since JSON has none."""
    with pytest.raises(ValueError, match="not representable"):
        stringify(value)
