"""The expressions that the ledger uses, evaluated; any other is refused, so that no condition is
taken for granted."""

import re
from collections.abc import Mapping
from typing import Any

from benchmarks.standin.refusal import Refused

Item = Mapping[str, Any]

_ABSENT = re.compile(r"attribute_not_exists\(([#\w]+)\)")
_COMPARED = re.compile(r"([#\w]+) (=|<|<=|>|>=) (:\w+)")
_BETWEEN = re.compile(r"([#\w]+) BETWEEN (:\w+) AND (:\w+)")


def holds(request: Mapping[str, Any], item: Item | None) -> bool:
    """Whether the request's ConditionExpression holds of the item (None: there is none)."""
    expression = request.get("ConditionExpression")
    if expression is None:
        return True
    return all(_holds(part, request, item or {}) for part in expression.split(" AND "))


def _holds(part: str, request: Mapping[str, Any], item: Item) -> bool:
    if absent := _ABSENT.fullmatch(part):
        return _name(absent[1], request) not in item
    name, comparison, value = _compared(part, request)
    if comparison != "=":
        raise Refused("ValidationException", f"the benchmark knows no condition {part!r}")
    return item.get(name) == value


def key_conditions(request: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The KeyConditionExpression: name, comparison and value of the partition, and perhaps of the
    sort key. All keys are strings."""
    expression = _BETWEEN.sub(r"\1 >= \2 AND \1 <= \3", request["KeyConditionExpression"])
    parts = expression.split(" AND ")
    compared = (_compared(part, request) for part in parts)
    return [(name, comparison, value["S"]) for name, comparison, value in compared]


def _compared(part: str, request: Mapping[str, Any]) -> tuple[str, str, Mapping[str, str]]:
    compared = _COMPARED.fullmatch(part)
    if compared is None:
        raise Refused("ValidationException", f"the benchmark knows no condition {part!r}")
    name, comparison, value = compared.groups()
    return _name(name, request), comparison, request["ExpressionAttributeValues"][value]


def _name(name: str, request: Mapping[str, Any]) -> str:
    named: str = request.get("ExpressionAttributeNames", {}).get(name, name)
    return named
