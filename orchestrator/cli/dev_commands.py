"""The commands that start an embedded AWS, dev and demo, and those for the running dev."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.options import config_option, prepare_settings
from orchestrator.cli.terminal import print_lines

if TYPE_CHECKING:
    from orchestrator.cli.running_dev import RunningDev


@click.group(invoke_without_command=True)
@config_option
@click.option(
    "--port", metavar="N", type=click.IntRange(1, 65535), help="By default the setting http.port."
)
@click.option(
    "--app-dir",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder of your extension's module; a change of its Python files restarts the "
    "service. By default the working directory, if there is an --extension.",
)
@click.option("--extension", metavar="MODULE:NAME", help="Your handlers, builders and tiers.")
@click.option(
    "--build-seconds",
    metavar="S",
    type=click.FloatRange(min=0, max=86400),
    default=5,
    show_default=True,
    help="Builds end after so many seconds.",
)
@click.option(
    "--failing",
    metavar="SHARE",
    type=click.FloatRange(0, 1),
    default=0,
    help="The share of builds that fail, from 0 to 1; by default none.",
)
@click.pass_context
def dev(
    context: click.Context,
    config: str | None,
    port: int | None,
    app_dir: Path | None,
    extension: str | None,
    build_seconds: float,
    failing: float,
) -> None:
    """Run the service with an embedded AWS.

    Its builds end, and its events are delivered.
    """
    if context.invoked_subcommand is not None:
        return
    from orchestrator.cli.dev import DevOptions, run_dev

    options = DevOptions(
        config=config or "local.toml",
        port=port,
        app_dir=app_dir or (Path() if extension else None),
        extension=extension,
        build_s=build_seconds,
        failing=failing,
    )
    asyncio.run(run_dev(prepare_settings(options.config), options, show=print_lines))


@dev.command()
@click.argument("job", metavar="JOB")
@click.option("--failed", metavar="REASON", help="As failed, with this reason.")
def finish(job: str, failed: str | None) -> None:
    """End a build of the running dev.

    JOB is its id, or the beginning of it.
    """
    from orchestrator.cli.running_dev import finish_build

    build_id = asyncio.run(finish_build(_running_dev(), job, failed=failed))
    print_lines([f"{build_id} has ended: {'SUCCEEDED' if failed is None else 'FAILED'}"])


@dev.command()
def variables() -> None:
    """Print the running dev's variables.

    They are for other programs: eval "$(orchestrator dev variables)".
    """
    from orchestrator.cli.running_dev import variables_of

    print_lines(variables_of(_running_dev()))


def _running_dev() -> "RunningDev":
    from orchestrator.cli.running_dev import find_running_dev
    from orchestrator.settings import child_environment

    found = find_running_dev(child_environment({}))
    if found is None:
        raise click.ClickException("No `orchestrator dev` of yours is running: start it first.")
    return found


@click.command()
def demo() -> None:
    """Show a tenant's lifecycle on an embedded AWS.

    Exits 0 only if every step was observed.
    """
    from orchestrator.cli.demo import run_demo

    sys.exit(asyncio.run(run_demo(prepare_settings("local.toml"), config="local.toml")))
