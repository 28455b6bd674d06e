"""Reads the Terraform add-on without Terraform: its blocks, with names and values filled in."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import hcl2

ADDON = Path(__file__).parents[2] / "deploy" / "terraform-arc-saas"
ACCOUNT = "111122223333"
_EXPRESSION = re.compile(r"\$\{([\w.]+)\}")
#: A list of texts, which is written as in JSON.
_LIST = re.compile(r"\$\{jsonencode\((\[[^\[\]{}]*\])\)\}")
#: The values that arc-saas declares, and that AWS returns for the add-on's own resources.
_KNOWN: Mapping[str, str] = {
    "var.namespace": "saas",
    "var.environment": "dev",
    "var.region": "us-east-1",
    "var.orchestrator_callback_url": "",
    "data.aws_caller_identity.current.account_id": ACCOUNT,
    "aws_dynamodb_table.orchestrator_ledger.name": "saas-dev-orchestrator-ledger",
    "aws_dynamodb_table.orchestrator_ledger.arn": (
        f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/saas-dev-orchestrator-ledger"
    ),
    "aws_sqs_queue.orchestrator_dead_letters.arn": (
        f"arn:aws:sqs:us-east-1:{ACCOUNT}:saas-dev-orchestrator-dead-letters"
    ),
}


@attrs.frozen
class Addon:
    """The blocks of one of its files."""

    name: str

    @property
    def _blocks(self) -> dict[str, list[Any]]:
        return _read(self.name)

    def named(self, kind: str, block: str = "resource") -> dict[str, Any]:
        """The blocks of a kind by name, such as `aws_sqs_queue`."""
        return {
            name: self._filled(about)
            for one in self._blocks.get(block, ())
            for name, about in one.get(kind, {}).items()
        }

    def module(self, name: str) -> dict[str, Any]:
        """The arguments of a module."""
        found = next(one[name] for one in self._blocks["module"] if name in one)
        filled: dict[str, Any] = self._filled(found)
        return filled

    def _filled(self, node: Any) -> Any:
        match node:
            case dict():
                return {name: self._filled(value) for name, value in node.items()}
            case list():
                return [self._filled(value) for value in node]
            case str() if found := _LIST.fullmatch(node):
                return found[1]
            case str():
                while (filled := _EXPRESSION.sub(self._value, node)) != node:
                    node = filled
                return node
        return node

    def _value(self, found: re.Match[str]) -> str:
        (own,) = _read("orchestrator.tf")["locals"]
        kind, _, name = found[1].partition(".")
        value: str = own[name] if kind == "local" else _KNOWN.get(found[1], found[0])
        return value


@cache
def _read(name: str) -> dict[str, list[Any]]:
    with (ADDON / name).open() as file:
        found: dict[str, list[Any]] = _unquoted(hcl2.load(file))
    return found


def _unquoted(node: Any) -> Any:
    """The block without the parser's own notes and the quotation marks of names and texts."""
    match node:
        case dict():
            return {
                _unquoted(name): _unquoted(value)
                for name, value in node.items()
                if not name.startswith("__")
            }
        case list():
            return [_unquoted(value) for value in node]
        case str() if len(node) > 1 and node[0] == node[-1] == '"':
            return node[1:-1]
    return node
