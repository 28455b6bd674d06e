"""The files in `config/`: complete, true to the code, and loadable."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from orchestrator import Settings, SettingsError, load_settings

CONFIG = Path(__file__).parents[2] / "config"
DEFAULT = CONFIG / "default.toml"
_SECTION = re.compile(r"(?:# )?\[([\w.]+)\]")
_COMMENTED = re.compile(r"# ?(\w+) = .+")


def keys(section: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of the settings with its value; a section is walked into."""
    for field in attrs.fields(type(section)):
        value = getattr(section, field.name)
        if attrs.has(type(value)):
            yield from keys(value, f"{path}{field.name}.")
        else:
            yield f"{path}{field.name}", value


def is_set(key: str) -> bool:
    """Whether the file gives the key a value."""
    *sections, name = key.split(".")
    table: Any = tomllib.loads(DEFAULT.read_text())
    for section in sections:
        table = table.get(section, {})
    return name in table


def shown() -> dict[str, Any]:
    """The keys that the file shows in a comment, `# key = value`, with their values."""
    found, section = {}, ""
    for line in DEFAULT.read_text().splitlines():
        if header := _SECTION.match(line):
            section = f"{header[1]}."
        elif commented := _COMMENTED.match(line):
            example = tomllib.loads(line.removeprefix("#").lstrip())
            found[f"{section}{commented[1]}"] = example[commented[1]]
    return found


DEFAULTS = dict(keys(Settings()))


@pytest.mark.parametrize("key", DEFAULTS)
def test_every_key_is_documented(key: str) -> None:
    """A key is set in default.toml, or shown in a comment where it has no default."""
    if not is_set(key):
        assert shown()[key] is not None
        assert DEFAULTS[key] in (None, shown()[key])


def test_default_toml_has_the_defaults() -> None:
    """It sets no key to anything else, and none that doesn't exist."""
    assert dict(keys(load_settings(DEFAULT, environ={}))) == DEFAULTS


def test_nothing_else_is_documented() -> None:
    """No comment shows a key that was renamed or removed, or one that is set besides."""
    assert [key for key in shown() if key not in DEFAULTS or is_set(key)] == []


@pytest.mark.parametrize(
    ("name", "environ"),
    [
        ("default.toml", {}),
        ("local.toml", {}),
        ("production.toml", {"ORCHESTRATOR_AUTH__ALLOW_OPEN": "true"}),
    ],
)
def test_each_file_loads_by_its_name(name: str, environ: dict[str, str]) -> None:
    """The files that ship are valid, and found by name from any directory."""
    by_path = load_settings(CONFIG / name, environ=environ)
    assert load_settings(name, environ=environ) == by_path


def test_the_production_file_alone_is_no_open_service() -> None:
    """In production the operator must say which callers are let in."""
    with pytest.raises(SettingsError, match=r"auth\.methods"):
        load_settings("production.toml", environ={})


def test_without_a_file_the_defaults_hold() -> None:
    """No file is loaded that isn't named."""
    assert load_settings(environ={}) == Settings()
