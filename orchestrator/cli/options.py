"""What commands share: options, and the loading of their settings."""

import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from orchestrator.cli.terminal import print_lines

if TYPE_CHECKING:
    from orchestrator.settings import Settings

config_option = click.option(
    "--config",
    metavar="FILE",
    help="A TOML file, or the name of one shipped with the package: local.toml.",
)


def _use_app_dir(_: click.Context, __: click.Parameter, folder: str | None) -> None:
    if folder is not None:
        sys.path.insert(0, folder)


app_dir_option = click.option(
    "--app-dir",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    callback=_use_app_dir,
    expose_value=False,
    help="The folder of your extension's module, if it isn't installed.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class OneOf(click.ParamType):  # type: ignore[type-arg] # click 8.2 has no argument
    """One of the names that `load` returns; they are loaded when one is given or completed."""

    name = "name"

    def __init__(self, load: Callable[[], Iterable[str]]) -> None:
        self._load = load

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        names = list(self._load())
        if value not in names:
            self.fail(f"{value!r} is not one of {', '.join(names)}.", param, ctx)
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        del ctx, param
        return [CompletionItem(name) for name in self._load() if name.startswith(incomplete)]


class Time(click.ParamType):  # type: ignore[type-arg] # click 8.2 has no argument
    """A moment as the API reads it (RFC 3339), passed on as it was written."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            is_moment = datetime.fromisoformat(value).tzinfo is not None
        except ValueError:
            is_moment = False
        if not is_moment:
            self.fail(f"{value!r} is no time such as 2026-11-20T09:14:03Z.", param, ctx)
        return value


def prepare_settings(config: str | None, *, is_server: bool = False) -> "Settings":
    """Load the settings, and configure the logs as they say."""
    from orchestrator.core.secrets.redaction import SECRET_NAMES
    from orchestrator.logs import configure_logs
    from orchestrator.settings import load_settings

    # Logs written while settings are loaded must not go to standard output.
    configure_logs(level="info", layout="console", redact=SECRET_NAMES)
    settings = load_settings(config)
    configure_logs(
        level=settings.log.level,
        layout=settings.log.format,
        redact=settings.log.redact,
        is_final=is_server,
    )
    return settings


def prepare_settings_or_devs(config: str | None) -> "Settings":
    """The settings; without any, those of the running dev, with its AWS and its extension."""
    from orchestrator.cli.running_dev import find_dev_to_ask
    from orchestrator.settings import child_environment, use_environment

    found = find_dev_to_ask(child_environment({})) if config is None else None
    if found is None:
        return prepare_settings(config)
    print_lines(
        [f"of the running dev at {found.url}; for other settings, pass --config"], to_stderr=True
    )
    if found.app_dir is not None:
        sys.path.insert(0, found.app_dir)
    use_environment(found.environment)
    return prepare_settings(found.config)
