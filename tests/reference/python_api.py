"""docs/python-api.md: each public name, from `__all__` and the source, read by griffe."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import griffe

import orchestrator
import orchestrator.testing
from orchestrator.testing import builder_contract, plugin

#: The modules with public names.
PUBLIC = (orchestrator, orchestrator.testing, builder_contract, plugin)

_ROOT = Path(__file__).parents[2]
_HEAD = """# Python API

The public names, with their types as in the source. Everything else is internal and may change in
any release. What handlers, builders and tiers look like is in [extending.md](extending.md), the
test kit in [testing.md](testing.md).
"""


def python_api() -> str:
    return "".join((_HEAD, *chain.from_iterable(map(_package, PUBLIC))))


def _package(module: ModuleType) -> Iterator[str]:
    name = module.__name__
    package = griffe.load(name, search_paths=[str(_ROOT)])
    yield f"\n## {name}\n"
    for one in sorted(module.__all__, key=str.lower):
        target = package[one].final_target if package[one].is_alias else package[one]
        yield f"\n### {name}.{one}\n\n"
        yield from _described(one, target)


def _described(name: str, target: Any) -> Iterator[str]:
    match target.kind.value:
        case "module":
            yield _text(target)
            for member in _public_members(target):
                yield f"- `{member.name}`: {_first_line(member)}\n"
        case "class":
            bases = ", ".join(str(base) for base in target.bases)
            yield f"```text\nclass {name}{f'({bases})' if bases else ''}\n```\n\n"
            yield _text(target)
            for member in _public_members(target):
                yield f"- `{_signature(member)}`{_after_colon(member)}\n"
        case "function":
            yield f"```text\n{_signature(target)}\n```\n\n"
            yield _text(target)
        case _:
            yield f"```text\n{name}: {target.annotation or target.value}\n```\n"
            yield _text(target)


def _public_members(target: Any) -> Iterator[Any]:
    """The public members that the module or class defines itself, in the order of the source."""
    for member in target.members.values():
        is_hidden = member.is_alias or (member.name.startswith("_") and member.name != "__init__")
        if is_hidden or (target.kind.value == "module" and member.kind.value == "attribute"):
            continue
        yield member


def _signature(member: Any) -> str:
    if member.kind.value != "function":
        kind = f": {member.annotation}" if member.annotation else ""
        return f"{member.name}{kind}"
    before = "async " if "async" in member.labels else ""
    parts, was_keyword_only = [], False
    for one in member.parameters:
        if one.name in ("self", "cls"):
            continue
        if one.kind is griffe.ParameterKind.keyword_only and not was_keyword_only:
            was_keyword_only = True
            if not any(p.kind is griffe.ParameterKind.var_positional for p in member.parameters):
                parts.append("*")
        stars = {
            griffe.ParameterKind.var_positional: "*",
            griffe.ParameterKind.var_keyword: "**",
        }.get(one.kind, "")
        kind = f": {one.annotation}" if one.annotation else ""
        default = f" = {one.default}" if one.default and not stars else ""
        parts.append(f"{stars}{one.name}{kind}{default}")
    returned = f" -> {member.returns}" if member.returns else ""
    return f"{before}{member.name}({', '.join(parts)}){returned}"


def _text(target: Any) -> str:
    """The docstring, with its section of errors as a line of its own."""
    return f"{target.docstring.value.strip()}\n\n" if target.docstring else ""


def _first_line(member: Any) -> str:
    return " ".join(member.docstring.value.split("\n\n")[0].split()) if member.docstring else ""


def _after_colon(member: Any) -> str:
    line = _first_line(member)
    return f": {line}" if line else ""
