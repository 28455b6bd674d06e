"""Loads the settings: defaults, overridden by a TOML file, overridden by environment variables.

The only reader of settings in `os.environ`. An unknown key or invalid value is a `SettingsError`,
whose message names it and the allowed ones.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import attrs
import msgspec
import structlog

from orchestrator.core.events.json_text import parse_json
from orchestrator.settings.models import Settings

_PREFIX = "ORCHESTRATOR_"
_CONFIG_VARIABLE = "ORCHESTRATOR_CONFIG"

#: Environment variables of arc-saas deployments, and the settings that they stand for.
_ALIASES: Mapping[str, str] = {
    "TIER_DETAILS_TABLE": "ORCHESTRATOR_TIERS__TABLE",
    "EVENT_BUS_NAME": "ORCHESTRATOR_EVENTS__BUS",
    "EVENT_BUS_AWS_REGION": "ORCHESTRATOR_EVENTS__REGION",
    "DYNAMO_DB_REGION": "ORCHESTRATOR_AWS__DYNAMODB_REGION",
}

log = structlog.get_logger("orchestrator.settings")


class SettingsError(Exception):
    """The settings are invalid."""


def load_settings(
    config: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    ledger_backend: str | None = None,
) -> Settings:
    """Load the settings from a TOML file (None: the one in ORCHESTRATOR_CONFIG, if set).

    `config` may also be the name of a file shipped with the package: `local.toml`.
    `ledger_backend` is the default where neither file nor environment sets one.

    Raises:
        SettingsError: the file can't be read, or a key or value is invalid.
    """
    environ = os.environ if environ is None else environ
    chosen = config or environ.get(_CONFIG_VARIABLE)
    values = _read_file(chosen) if chosen else {}
    if ledger_backend is not None:
        values.setdefault("ledger", {}).setdefault("backend", ledger_backend)
    for variable, text in sorted(_variables(environ).items()):
        _overlay(values, variable, text)
    _refuse_unknown(values, Settings, "")
    return _settings(_without_empty(values, Settings))


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that are settings; those in `_ALIASES` count if the service's own are unset."""
    if "DATA_STORE_TABLE" in environ:
        log.info("DATA_STORE_TABLE is ignored: the ledger takes its place")
    aliased = {ours: environ[theirs] for theirs, ours in _ALIASES.items() if theirs in environ}
    if level := environ.get("LOG_LEVEL"):
        aliased["ORCHESTRATOR_LOG__LEVEL"] = {"warn": "warning"}.get(level.lower(), level.lower())
    own = {
        variable: text
        for variable, text in environ.items()
        if variable.startswith(_PREFIX) and "__" in variable
    }
    _warn_of_misspelt(environ)
    return {**aliased, **own}


def _warn_of_misspelt(environ: Mapping[str, str]) -> None:
    """Log variables that would be settings with two underscores; other programs may have them."""
    for variable in sorted(_variable_names(Settings)):
        misspelt = variable.replace("__", "_")
        if misspelt in environ:
            log.warning(
                "variable ignored: a setting's has two underscores before its key",
                variable=misspelt,
                setting=variable,
            )


def _variable_names(section: type, *path: str) -> Iterator[str]:
    """The variables of a section's settings; `path` is the section's, in capitals."""
    for key, kind in _fields(section).items():
        name = key.upper()
        if attrs.has(kind):
            yield from _variable_names(kind, *path, name)
        else:
            yield _PREFIX + ("__".join((*path, name)) if path else f"_{name}")


def chooses_settings(environ: Mapping[str, str]) -> bool:
    """Whether an environment names settings or a settings file; a log level alone is none."""
    return any(
        name == _CONFIG_VARIABLE or name in _ALIASES or (name.startswith(_PREFIX) and "__" in name)
        for name in environ
    )


def _read_file(path: str | Path) -> dict[str, Any]:
    found = _shipped(str(path)) or Path(path)
    try:
        # In UTF-8 whatever the locale is (TOML v1.0.0), and without an editor's byte order mark.
        return tomllib.loads(found.read_text("utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"The settings file {path} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise SettingsError(f"The settings file {path} is not UTF-8: save it so.") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"The settings file {path} is not TOML: {error}.") from None


def _shipped(path: str) -> Path | None:
    """The file shipped with the package, if `path` is the bare name of one.

    It takes precedence over a file of that name in the working directory: write `./local.toml` for
    that one. In a checkout the shipped files lie beside the package.
    """
    package = Path(str(files("orchestrator")))
    places = (package / "config" / path, package.parent / "config" / path)
    is_bare = path == Path(path).name
    return next((place for place in places if is_bare and place.exists()), None)


def config_path(config: str) -> str:
    """The absolute path of a settings file, or of the one shipped with the package."""
    return str((_shipped(config) or Path(config)).resolve())


def _refuse_unknown(values: Mapping[str, Any], section: type, path: str) -> None:
    known = _fields(section)
    for key, value in values.items():
        if key not in known:
            raise SettingsError(
                f"Unknown setting {path}{key}; known settings: {', '.join(sorted(known))}."
            )
        if attrs.has(known[key]) and isinstance(value, dict):
            _refuse_unknown(value, known[key], f"{path}{key}.")
        elif isinstance(value, list):
            for number, item in enumerate(value):
                _refuse_unknown_in_item(item, known[key], f"{path}{key}[{number}].")


def _refuse_unknown_in_item(item: Any, listed: Any, path: str) -> None:
    """Refuse unknown keys of a table in a list of sections, or of texts and sections."""
    kinds = [kind for item_kind in get_args(listed) for kind in (item_kind, *get_args(item_kind))]
    for section in filter(attrs.has, kinds):
        if isinstance(item, dict):
            _refuse_unknown(item, section, path)


def _overlay(values: dict[str, Any], variable: str, text: str) -> None:
    """Override `values` with the variable ORCHESTRATOR_SECTION__KEY; lists and maps are JSON.

    A key without a section is written with two underscores: ORCHESTRATOR__EXTENSION.
    """
    *sections, key = variable.removeprefix(_PREFIX).removeprefix("_").lower().split("__")
    kind: Any = Settings
    for name in (*sections, key):
        kind = _fields(kind).get(name) if attrs.has(kind) else None
        if kind is None:
            raise SettingsError(f"The variable {variable} names no setting: {name!r} is unknown.")
    for name in sections:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise SettingsError(f"The setting {name} must be a table of keys and values.")
    if get_origin(kind) in (dict, list, tuple):
        example = '{"name": "value"}' if get_origin(kind) is dict else '["one", "two"]'
        values[key] = _parse(variable, text, example)
    else:
        values[key] = text


def _parse(variable: str, text: str, example: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        # The text is not quoted, since it may be an API key.
        raise SettingsError(
            f"The variable {variable} is not JSON: write it like {example}."
        ) from None


def _without_empty(values: Mapping[str, Any], section: type) -> dict[str, Any]:
    """The values with None for each optional setting that is empty: neither TOML nor an environment
    has another way to write None."""
    kinds = _fields(section)
    kept: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and attrs.has(kinds[key]):
            kept[key] = _without_empty(value, kinds[key])
        else:
            kept[key] = None if value == "" and type(None) in get_args(kinds[key]) else value
    return kept


def _settings(values: dict[str, Any]) -> Settings:
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"Invalid setting: {error}{_allowed(str(error))}.") from None


def _allowed(message: str) -> str:
    """The allowed values of the setting in msgspec's message, if they can be listed."""
    place = re.search(r"`\$\.([\w.]+)", message)
    kind: Any = Settings
    for name in place[1].split(".") if place else ():
        kind = _fields(kind).get(name) if attrs.has(kind) else None
    listed = next((k for k in (kind, *get_args(kind)) if get_origin(k) is Literal), None)
    return f"; allowed: {', '.join(map(repr, get_args(listed)))}" if listed else ""


def _fields(section: Any) -> dict[str, Any]:
    return {field.name: field.type for field in attrs.fields(section)}


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child process: this process's own, overridden by `extra`.

    If `extra` sets AWS's endpoint, endpoints of single AWS services in the own environment are
    removed. NO_PROXY is the union of both.
    """
    is_led = "AWS_ENDPOINT_URL" in extra
    own = {
        name: value
        for name, value in os.environ.items()
        if not (is_led and name.startswith("AWS_ENDPOINT_URL_"))
    }
    direct = ",".join(filter(None, [_direct(own), _direct(extra)]))
    return {**own, **extra, **({"NO_PROXY": direct, "no_proxy": direct} if direct else {})}


def use_environment(extra: Mapping[str, str]) -> None:
    """Override this process's own environment, as `child_environment` does a child's."""
    environment = child_environment(extra)
    os.environ.clear()
    os.environ.update(environment)


def _direct(environment: Mapping[str, str]) -> str | None:
    """NO_PROXY; its lower-case spelling takes precedence (urllib.request, getproxies)."""
    return environment.get("no_proxy", environment.get("NO_PROXY"))
