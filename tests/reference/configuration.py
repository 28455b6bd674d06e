"""docs/configuration.md: each setting, from the settings' classes and config/default.toml."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import attrs

from orchestrator.settings import Settings
from tests.reference.markdown import table

_FILE = Path(__file__).parents[2] / "config" / "default.toml"
_SECTION = re.compile(r"\[([\w.]+)\](?:\s+# (.+))?")
_KEY = re.compile(r"(?:# ?)?(\w+) = (.*)")
#: The comment of a key: after its value, at the end of the line.
_COMMENT = re.compile(r"""(?:[^"#]|"[^"]*")*?\s# (.+)""")

_HEAD = """# Configuration

Every setting with its default. A TOML file of your own, named by `--config` or
`ORCHESTRATOR_CONFIG`, needs only what differs; [config/default.toml](../config/default.toml) is
one with all of them. Environment variables override the file: section and key are joined by two
underscores, lists and maps are JSON. AWS credentials, regions and endpoints come from AWS's own
variables and files. An unknown key and an invalid value are refused at start; no duration
is longer than 100 years. For a setting without a default an empty text is no value. `orchestrator
check` shows the settings in use.
"""


def configuration() -> str:
    said = dict(_descriptions(_FILE.read_text()))
    return _HEAD + "".join(_sections(Settings(), "", said))


def _sections(section: Any, path: str, said: Mapping[str, str]) -> Iterator[str]:
    fields = attrs.fields(type(section))
    nested = [field for field in fields if attrs.has(type(getattr(section, field.name)))]
    keys = [field for field in fields if field not in nested]
    yield f"\n## {path.rstrip('.') or 'Without a section'}\n\n"
    if path and path in said:
        yield f"{said[path]}.\n\n"
    yield table(
        ("setting", "default", "type", "what it does"),
        (
            (
                f"`{path}{field.name}`<br>`{_variable(path, field.name)}`",
                _shown(getattr(section, field.name)),
                f"{_type(field.type)}",
                said[f"{path}{field.name}"],
            )
            for field in keys
        ),
    )
    for field in nested:
        yield from _sections(getattr(section, field.name), f"{path}{field.name}.", said)


def _variable(path: str, name: str) -> str:
    parts = f"{path}{name}".upper().split(".")
    return f"ORCHESTRATOR_{'__'.join(parts)}" if path else f"ORCHESTRATOR__{name.upper()}"


def _shown(value: Any) -> str:
    return "none" if value is None else f"`{json.dumps(value)}`"


def _type(kind: Any) -> str:
    """The type in the terms of TOML."""
    if kind is type(None):
        return "none"
    if get_origin(kind) is Literal:
        return " or ".join(f"`{json.dumps(one)}`" for one in get_args(kind))
    if get_origin(kind) is tuple:
        return f"list of {_type(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return "table"
    if get_args(kind):
        return " or ".join(_type(one) for one in get_args(kind) if one is not type(None))
    if attrs.has(kind):
        return "table"
    return {str: "text", int: "integer", float: "number", bool: "true or false"}[kind]


def _descriptions(text: str) -> Iterator[tuple[str, str]]:
    """The file's comment for each key and each section (with a dot at its end)."""
    path, key, before, words = "", "", list[str](), list[str]()
    for line in [*text.split("\n\n", 1)[1].splitlines(), "[end]"]:
        section, named = _SECTION.fullmatch(line), _KEY.match(line)
        if section or named:
            if key:
                yield key, " ".join(words)
            key, words, before = "", before, []
        if section:
            path = f"{section[1]}."
            if section[2]:
                yield path, section[2]
        elif named:
            key = f"{path}{named[1]}"
            words += [found[1]] if (found := _COMMENT.fullmatch(named[2])) else []
        elif line.startswith("# "):
            before.append(line.removeprefix("# "))
        elif key and line.lstrip().startswith("# "):
            words.append(line.lstrip().removeprefix("# "))
