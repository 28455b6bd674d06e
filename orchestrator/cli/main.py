"""The command line: commands parse, call and print; the other modules do the work.

Those that call a running service are in `operators`, those with an embedded AWS in `dev_commands`.

Slow modules are imported within the commands, so that `--help` is fast.
"""

import asyncio
import json
import sys
import traceback
from pathlib import Path
from typing import Any, TextIO

import click

from orchestrator.cli import dev_commands, operators
from orchestrator.cli.options import (
    app_dir_option,
    config_option,
    json_option,
    prepare_settings,
    prepare_settings_or_devs,
)
from orchestrator.cli.terminal import print_answer, print_lines, terminal_width
from orchestrator.core.texts import system_reason
from orchestrator.core.urls import without_userinfo


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
@click.version_option(package_name="saas-orchestrator")
def commands(debug: bool) -> None:
    """Turn a SaaS control plane's events into jobs, exactly one for each request."""


for _command in (
    dev_commands.demo,
    dev_commands.dev,
    operators.cancel,
    operators.replay,
    operators.run,
    operators.runs,
    operators.send,
    operators.tenant,
    operators.tenants,
):
    commands.add_command(_command)


@commands.command()
@config_option
@app_dir_option
@click.option("--host", help="Address to listen on; by default the setting http.host.")
@click.option(
    "--port", metavar="N", type=click.IntRange(0, 65535), help="By default the setting http.port."
)
@click.option(
    "--workers", metavar="N", type=click.IntRange(1, 64), default=1, help="Processes; by default 1."
)
@click.option("--parent-ends", type=int, hidden=True, help="For dev and demo: see run_server.")
def serve(
    config: str | None, host: str | None, port: int | None, workers: int, parent_ends: int | None
) -> None:
    """Run the HTTP service."""
    from orchestrator.app import create_app
    from orchestrator.server import run_workers

    settings = prepare_settings(config, is_server=True)
    if workers > 1 and settings.ledger.backend == "memory":
        raise click.UsageError(
            "--workers must be 1 with ledger.backend = memory: each process would have a ledger "
            "of its own."
        )
    run_workers(
        lambda: create_app(settings),
        host=host or settings.http.host,
        port=settings.http.port if port is None else port,
        workers=workers,
        parent_ends=parent_ends,
    )


@commands.command()
@config_option
@app_dir_option
@click.option("--host", help="Address of its health checks; by default the setting http.host.")
@click.option(
    "--port", metavar="N", type=click.IntRange(0, 65535), help="By default the setting http.port."
)
def worker(config: str | None, host: str | None, port: int | None) -> None:
    """Consume events from the SQS queue.

    Serves /healthz, /readyz and /metrics.
    """
    from orchestrator.app import create_worker_app
    from orchestrator.server import run_workers

    settings = prepare_settings(config, is_server=True)
    if settings.ledger.backend == "memory":
        raise click.UsageError(
            "A worker needs ledger.backend = dynamodb: no other process would see its runs."
        )
    run_workers(
        lambda: create_worker_app(settings),
        host=host or settings.http.host,
        port=settings.http.port if port is None else port,
        workers=1,
    )


@commands.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def new(folder: Path) -> None:
    """Write a starter project into DIR.

    It has a handler, its tests, settings and a Dockerfile.
    """
    from orchestrator.cli.new import write_starter

    written = [f"  {path}" for path in write_starter(folder)]
    print_lines(
        [
            "Written:",
            *written,
            f"Test it:  cd {folder} && python -m pytest   # needs pytest-asyncio",
            "Try it:   orchestrator dev --extension handlers:registry",
            "Run it:   orchestrator serve --config settings.toml --app-dir .   # needs AWS",
        ]
    )


@commands.command()
@config_option
@app_dir_option
@json_option
def reconcile(config: str | None, as_json: bool) -> None:
    """Sweep once: resume runs, check jobs, send reports.

    The services and workers do so every minute.
    """
    from orchestrator.parts import sweep_once

    settings = prepare_settings(config)
    if settings.ledger.backend == "memory":
        raise click.UsageError(
            "With ledger.backend = memory only the service's own process can sweep: run "
            "`echo {} | orchestrator send RECONCILE`."
        )
    resumed = asyncio.run(sweep_once(settings))
    print_answer({"resumed": resumed}, [f"{resumed} resumed"], as_json=as_json)


@commands.command()
@config_option
@json_option
def init(config: str | None, as_json: bool) -> None:
    """Create the ledger's table, and the queue if one is set.

    What exists is kept, and its missing parts are added. For production use a template.
    """
    from orchestrator.parts import make_ends

    made = asyncio.run(make_ends(prepare_settings(config)))
    if not made:
        raise click.UsageError("There is nothing to create: ledger.backend is memory.")
    lines = [
        f"created the {name}" if is_new else f"the {name} already exists"
        for name, is_new in made.items()
    ]
    parts = [{"name": name, "created": is_new} for name, is_new in made.items()]
    print_answer({"parts": parts}, lines, as_json=as_json)


@commands.command()
@config_option
@click.argument("file", type=click.File("r", encoding="utf-8-sig", errors="surrogateescape"))
@click.option("--dry-run", is_flag=True, help="Only say what would be adopted.")
def adopt(config: str | None, file: TextIO, dry_run: bool) -> None:
    """Write the tenants of FILE into the ledger.

    Those that it knows are left as they are. FILE (-: standard input) has JSON Lines, or a JSON
    array, of {"id", "tier", "state"}.
    """
    from orchestrator.cli.adopt import Adoption
    from orchestrator.core.errors import TemporaryError
    from orchestrator.core.secrets.redaction import Redactor
    from orchestrator.parts import open_transactions
    from orchestrator.wire.converter import JsonConverter

    settings = prepare_settings(config)
    if settings.ledger.backend == "memory":
        raise click.UsageError("There is no ledger to write to: ledger.backend is memory.")

    adoption = Adoption(
        structure=JsonConverter(Redactor(settings.log.redact)),
        dry_run=dry_run,
        show=lambda line: print_lines([line]),
        warn=lambda line: print_lines([line], to_stderr=True),
    )

    async def adopt_all() -> None:
        async with open_transactions(settings) as transactions:
            await adoption.run(file, transactions)

    try:
        asyncio.run(adopt_all())
    except TemporaryError as error:
        raise click.ClickException(
            f"{error} Up to then {adoption.summary()}: the same command continues."
        ) from error
    print_lines([adoption.summary()])
    if adoption.refused:
        sys.exit(1)


@commands.command()
@config_option
@app_dir_option
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--type", "event_type", metavar="TYPE", help="For a body that doesn't name its type.")
@json_option
def explain(config: str | None, file: Any, event_type: str | None, as_json: bool) -> None:
    """Show what the event in FILE would start, without effect.

    Says how it is parsed: its type, key, tenant, tier, builder and variables. Exits 1 if it would
    be refused.
    """
    from orchestrator.cli.explain import explain_event

    settings = prepare_settings_or_devs(config)
    explained = asyncio.run(explain_event(settings, event_type, file.read()))
    print_answer(explained.as_json(), explained.as_lines(width=terminal_width()), as_json=as_json)
    if explained.trouble:
        sys.exit(1)


@commands.command()
@config_option
@app_dir_option
@json_option
def check(config: str | None, as_json: bool) -> None:
    """Check each resource, and print the least IAM policy.

    Shows the settings in use. Exits 1 if a resource can't be reached.
    """
    from orchestrator.cli.check import check_setup

    checkup = asyncio.run(check_setup(prepare_settings_or_devs(config)))
    policy = json.dumps(checkup.policy, indent=2).splitlines()
    lines = [
        *checkup.as_lines(width=terminal_width()),
        "",
        "The least IAM policy for the service's role:",
        *policy,
    ]
    print_answer(checkup.as_json(), lines, as_json=as_json)
    if not checkup.healthy:
        sys.exit(1)


@commands.command()
@config_option
@app_dir_option
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write it to this file."
)
@click.option("--check", is_flag=True, help="Fail if the file at --output is out of date.")
def openapi(config: str | None, output: Path | None, check: bool) -> None:
    """Print the OpenAPI document, with your own handlers."""
    from orchestrator.app import create_app
    from orchestrator.intake.openapi import build_document

    if check and output is None:
        raise click.UsageError("--check needs --output FILE, the file to compare with.")
    document = build_document(create_app(prepare_settings(config)))
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    if output is None:
        print_lines(text.splitlines())
    elif not check:
        output.write_text(text)
    elif not output.exists() or output.read_text() != text:
        raise click.ClickException(
            f"{output} is out of date: run `orchestrator openapi --output {output}`."
        )


def main() -> None:
    """The entry point: prints one line for a failure; exit code 2 for wrong usage, else 1."""
    arguments = sys.argv[1:]
    try:
        commands.main(arguments, prog_name="orchestrator", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print_lines(error.format_message().splitlines(), to_stderr=True)
        sys.exit(2)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "orchestrator"
        message = error.format_message()
        stop = "" if message.endswith((".", "?")) else "."
        _exit(2, f"{path}: {message}{stop} Try `{path} --help`.")
    except click.ClickException as error:
        _exit(1, error.format_message())
    except (click.Abort, KeyboardInterrupt):
        _exit(130, "interrupted")
    except Exception as error:  # noqa: BLE001 - a user gets a sentence; --debug shows the rest
        if "--debug" in arguments:
            print_lines(traceback.format_exc().splitlines(), to_stderr=True)
        _exit(1, _sentence(error))


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {system_reason(error)}."
    return str(error) or type(error).__name__


def _exit(code: int, message: str) -> None:
    # A container's output is a log, and the message may quote any URL.
    print_lines([f"Error: {without_userinfo(message)}"], to_stderr=True)
    sys.exit(code)
