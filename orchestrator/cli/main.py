"""The command line: its commands parse, call and print; the other modules do the work.

Slow modules are imported within the commands, so that `--help` is fast.
"""

import asyncio
import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO, TypeVar

import click
from click.shell_completion import CompletionItem

from orchestrator.cli.terminal import (
    Progress,
    is_confirmed,
    print_json,
    print_lines,
    redraw,
    terminal_width,
)

if TYPE_CHECKING:
    from orchestrator.cli.client import Client, Reply
    from orchestrator.cli.follow import Followed
    from orchestrator.cli.running_dev import RunningDev
    from orchestrator.settings import Settings

Answer = TypeVar("Answer")

#: As of timeout(1).
_TIMED_OUT = 124

_config = click.option(
    "--config",
    metavar="FILE",
    help="A TOML file, or the name of one shipped with the package: local.toml.",
)


def _use_app_dir(_: click.Context, __: click.Parameter, folder: str | None) -> None:
    if folder is not None:
        sys.path.insert(0, folder)


_app_dir = click.option(
    "--app-dir",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    callback=_use_app_dir,
    expose_value=False,
    help="The folder of your extension's module, if it isn't installed.",
)


def _of_the_service(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a command that calls a running service."""
    command = click.option(
        "--header",
        metavar="NAME:VALUE",
        envvar="ORCHESTRATOR_HEADER",
        help="A header to send, such as an API key; or in the variable ORCHESTRATOR_HEADER.",
    )(command)
    return click.option(
        "--url",
        callback=_choose_url,
        help="The service's URL; by default that of your running `orchestrator dev`, else "
        "http://127.0.0.1:8080.",
    )(command)


def _a_page(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a command that lists items."""
    command = click.option(
        "--cursor", help="Continue a list: the cursor that its last page ended with."
    )(command)
    return click.option(
        "--limit",
        metavar="N",
        type=click.IntRange(min=1),
        default=50,
        show_default=True,
        help="Maximum number of items.",
    )(command)


def _choose_url(_: click.Context, __: click.Parameter, url: str | None) -> str:
    from orchestrator.core.urls import shown_url

    if url is None:
        from orchestrator.cli.running_dev import find_running_dev
        from orchestrator.settings import child_environment

        found = find_running_dev(child_environment({}))
        return found.url if found else "http://127.0.0.1:8080"
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter(f"{shown_url(url)!r} must begin with http:// or https://.")
    return url


class _OneOf(click.ParamType):  # type: ignore[type-arg] # click 8.2 has no argument
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


def _run_statuses() -> Iterable[str]:
    from orchestrator.core.ledger.records import RunStatus

    return RunStatus


def _tenant_states() -> Iterable[str]:
    from orchestrator.core.ledger.lifecycle import NO_STATE, TenantState

    return (*TenantState, NO_STATE)


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_watch = click.option(
    "--watch", "is_watched", is_flag=True, help="Show it again whenever it changes."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
@click.version_option(package_name="saas-orchestrator")
def commands(debug: bool) -> None:
    """Turn a SaaS control plane's events into jobs, exactly one for each request."""


@commands.command()
@_config
@_app_dir
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

    settings = _load_settings(config, is_server=True)
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
@_config
@_app_dir
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

    settings = _load_settings(config, is_server=True)
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


@commands.group(invoke_without_command=True)
@_config
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
    asyncio.run(run_dev(_load_settings(options.config), options, show=print_lines))


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


@commands.command()
def demo() -> None:
    """Show a tenant's lifecycle on an embedded AWS.

    Exits 0 only if every step was observed.
    """
    from orchestrator.cli.demo import run_demo

    sys.exit(asyncio.run(run_demo(_load_settings("local.toml"), config="local.toml")))


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
            "Run it:   orchestrator serve --config settings.toml --app-dir .",
        ]
    )


@commands.command()
@click.argument("event_type", metavar="TYPE")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--wait", is_flag=True, help="Follow it until its operation is over.")
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=7200,
    show_default=True,
    help="How long --wait waits.",
)
@_of_the_service
@_as_json
def send(
    event_type: str,
    file: Any,
    wait: bool,
    timeout_s: float,
    url: str,
    header: str | None,
    as_json: bool,
) -> None:
    """Send an event of TYPE with the body in FILE.

    Without FILE, or if it is -, the body is read from standard input.

    Exits 0 if it was handled, else 1. With --wait: 0 if its operation succeeded, 1 if it failed,
    124 if it was not over in time.
    """
    from orchestrator.cli.sentences import describe_end, describe_sent

    sent = _ask(url, header, lambda client: client.send_event(event_type, file.read()))
    lines = describe_sent(sent, event_type, width=terminal_width())
    if not wait:
        _show(sent.as_json(), lines, as_json=as_json)
        sys.exit(0 if sent.succeeded else 1)
    if not as_json:
        print_lines(lines)
    followed = _follow(url, header, sent, timeout_s)
    if as_json:
        print_json(followed.as_json())
    elif followed.timed_out:
        print_lines([f"It was not over within {timeout_s:g} s."], to_stderr=True)
    elif followed.sent.run is not None:
        print_lines(describe_end(followed.sent.run, followed.operation, width=terminal_width()))
    sys.exit(_TIMED_OUT if followed.timed_out else 0 if followed.succeeded else 1)


def _follow(url: str, header: str | None, sent: "Reply", timeout_s: float) -> "Followed":
    """Wait for the end of an event's operation, with the progress on standard error."""
    from orchestrator.adapters.clock import SystemClock
    from orchestrator.cli.follow import follow
    from orchestrator.cli.layout import show_duration

    progress = Progress()

    async def wait(client: "Client") -> "Followed":
        return await follow(
            client,
            sent,
            timeout_s=timeout_s,
            clock=SystemClock(),
            tell=lambda what, elapsed_s: progress.tell(what, show_duration(elapsed_s)),
        )

    try:
        return _ask(url, header, wait)
    finally:
        progress.end()


@commands.command()
@click.option("--tenant", metavar="ID", help="Only runs of this tenant.")
@click.option("--type", "event_type", metavar="TYPE", help="Only runs of this event type.")
@click.option(
    "--status",
    metavar="STATUS",
    type=_OneOf(_run_statuses),
    help="Only runs in this status: running, failed, ...",
)
@click.option(
    "--since", metavar="TIME", help="Only runs first seen since then: 2026-11-20T09:14:03Z."
)
@click.option("--until", metavar="TIME", help="Only runs first seen before then.")
@_a_page
@_watch
@_of_the_service
@_as_json
def runs(
    url: str,
    header: str | None,
    as_json: bool,
    is_watched: bool,
    limit: int,
    **asked: str | None,
) -> None:
    """List runs with their reasons, the latest first."""
    from orchestrator.cli.tables import describe_runs

    query = {
        "tenantId": asked["tenant"],
        "eventType": asked["event_type"],
        **{name: asked[name] for name in ("status", "since", "until", "cursor")},
    }
    _view(
        _Service(url, header),
        lambda client: client.get_runs(query, limit=limit),
        lambda page: describe_runs(page, limit=limit, width=terminal_width()),
        as_json=as_json,
        is_watched=is_watched,
    )


@commands.command()
@click.argument("run_id", metavar="ID")
@_watch
@_of_the_service
@_as_json
def run(run_id: str, url: str, header: str | None, as_json: bool, is_watched: bool) -> None:
    """Show a run: its steps, attempts, job and error.

    ID may be a unique prefix of at least 4 characters.
    """
    from orchestrator.cli.tables import describe_run

    _view(
        _Service(url, header),
        lambda client: client.get_run(run_id),
        lambda found: describe_run(found, width=terminal_width()),
        as_json=as_json,
        is_watched=is_watched,
    )


@commands.command()
@click.argument("run_ids", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--force", is_flag=True, help="Even if it succeeded, or the tenant's state doesn't allow it."
)
@_of_the_service
@_as_json
def replay(
    run_ids: tuple[str, ...], force: bool, url: str, header: str | None, as_json: bool
) -> None:
    """Run failed events again, or (--force) any.

    ID may be a unique prefix of at least 4 characters.
    """
    from orchestrator.cli.client import Reply
    from orchestrator.cli.sentences import describe_replayed

    async def replay_all(client: "Client") -> list[Reply]:
        return [await client.replay_run(run_id, force=force) for run_id in run_ids]

    replayed = _ask(url, header, replay_all)
    lines = [
        line
        for run_id, sent in zip(run_ids, replayed, strict=True)
        for line in describe_replayed(sent, run_id, width=terminal_width())
    ]
    _show([sent.as_json() for sent in replayed], lines, as_json=as_json)
    if not all(sent.succeeded for sent in replayed):
        sys.exit(1)


@commands.command()
@click.option(
    "--state",
    metavar="STATE",
    type=_OneOf(_tenant_states),
    help="Only tenants in this state: active, provision_failed, ...; none: never begun.",
)
@click.option("--prefix", metavar="TEXT", help="Only tenants whose ids begin so.")
@click.option(
    "--sort",
    type=click.Choice(["id", "attention"]),
    default="id",
    show_default=True,
    help="attention: failed ones first, then slow ones, then by age.",
)
@_a_page
@_watch
@_of_the_service
@_as_json
def tenants(
    url: str,
    header: str | None,
    as_json: bool,
    is_watched: bool,
    limit: int,
    **asked: str | None,
) -> None:
    """List tenants with their states and reasons."""
    from orchestrator.cli.tables import describe_tenants

    _view(
        _Service(url, header),
        lambda client: client.get_tenants(asked, limit=limit),
        lambda page: describe_tenants(page, limit=limit, width=terminal_width()),
        as_json=as_json,
        is_watched=is_watched,
    )


@commands.command()
@click.argument("tenant_id", metavar="ID")
@click.option("--cursor", help="Continue the timeline.")
@click.option("--operations-cursor", help="Continue the operations.")
@_watch
@_of_the_service
@_as_json
def tenant(
    tenant_id: str,
    url: str,
    header: str | None,
    as_json: bool,
    is_watched: bool,
    cursor: str | None,
    operations_cursor: str | None,
) -> None:
    """Show a tenant: its state, operations and timeline.

    ID may be a unique prefix of at least 4 characters.
    """
    from orchestrator.cli.tables import describe_tenant

    query = {"cursor": cursor, "operationsCursor": operations_cursor}
    _view(
        _Service(url, header),
        lambda client: client.get_tenant(tenant_id, query),
        lambda found: describe_tenant(found, width=terminal_width()),
        as_json=as_json,
        is_watched=is_watched,
    )


@commands.command()
@click.argument("tenant_id", metavar="TENANT")
@click.option("--reason", help="Recorded as the reason of the operation's end.")
@click.option("--clean-up", is_flag=True, help="Even if the operation is a clean-up.")
@click.option("--yes", is_flag=True, help="Don't ask if TENANT is a prefix.")
@_of_the_service
@_as_json
def cancel(
    tenant_id: str,
    reason: str | None,
    clean_up: bool,
    yes: bool,
    url: str,
    header: str | None,
    as_json: bool,
) -> None:
    """Stop a tenant's operation, which ends as failed.

    Its job is stopped. TENANT may be a unique prefix of at least 4 characters; then the
    command asks first.
    """
    from orchestrator.cli.client import ServiceRefusedError
    from orchestrator.cli.layout import wrap

    def cancel_of(whole: str) -> dict[str, Any]:
        return _ask(
            url, header, lambda client: client.cancel(whole, reason=reason, clean_up=clean_up)
        )

    try:
        cancelled = cancel_of(tenant_id)
    except ServiceRefusedError as error:
        if error.status != 404:
            raise
        whole = _ask(url, header, lambda client: client.find_tenant(tenant_id))
        if not yes and not is_confirmed(f"Cancel the operation of the tenant {whole}?"):
            raise click.ClickException(
                f"Nothing is cancelled: {tenant_id!r} is a prefix of the tenant {whole!r}; pass "
                "the whole id, or --yes."
            ) from None
        tenant_id, cancelled = whole, cancel_of(whole)
    what = f"{cancelled['stopped']['kind']} {cancelled['stopped']['operationId']}"
    said = f"The {what} will be stopped; it ends once the builder says that its job is over."
    if cancelled["ended"]:
        said = f"Stopped the {what}; `orchestrator tenant {tenant_id}` shows the tenant's state."
    _show(cancelled, wrap(said, width=terminal_width()), as_json=as_json)


@commands.command()
@_config
@_app_dir
@_as_json
def reconcile(config: str | None, as_json: bool) -> None:
    """Sweep once: resume runs, check jobs, send reports.

    The services and workers do so every minute.
    """
    from orchestrator.parts import sweep_once

    settings = _load_settings(config)
    if settings.ledger.backend == "memory":
        raise click.UsageError(
            "With ledger.backend = memory only the service's own process can sweep: run "
            "`echo {} | orchestrator send RECONCILE`."
        )
    resumed = asyncio.run(sweep_once(settings))
    _show({"resumed": resumed}, [f"{resumed} resumed"], as_json=as_json)


@commands.command()
@_config
@_as_json
def init(config: str | None, as_json: bool) -> None:
    """Create the ledger's table, and the queue if one is set.

    What is there is left, and its missing parts are added. For production use a template.
    """
    from orchestrator.parts import make_ends

    made = asyncio.run(make_ends(_load_settings(config)))
    if not made:
        raise click.UsageError("There is nothing to create: ledger.backend is memory.")
    lines = [
        f"created the {name}" if is_new else f"the {name} already exists"
        for name, is_new in made.items()
    ]
    parts = [{"name": name, "created": is_new} for name, is_new in made.items()]
    _show({"parts": parts}, lines, as_json=as_json)


@commands.command()
@_config
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

    settings = _load_settings_or_devs(config)
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
@_config
@_app_dir
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--type", "event_type", metavar="TYPE", help="For a body that doesn't name its type.")
@_as_json
def explain(config: str | None, file: Any, event_type: str | None, as_json: bool) -> None:
    """Show what the event in FILE would start, without effect.

    Says how it is parsed: its type, key, tenant, tier, builder and variables. Exits 1 if it would
    be refused.
    """
    from orchestrator.cli.explain import explain_event

    settings = _load_settings_or_devs(config)
    explained = asyncio.run(explain_event(settings, event_type, file.read()))
    _show(explained.as_json(), explained.as_lines(width=terminal_width()), as_json=as_json)
    if explained.trouble:
        sys.exit(1)


@commands.command()
@_config
@_app_dir
@_as_json
def check(config: str | None, as_json: bool) -> None:
    """Check each resource, and print the least IAM policy.

    Shows the settings in use. Exits 1 if a resource can't be reached.
    """
    from orchestrator.cli.check import check_setup

    checkup = asyncio.run(check_setup(_load_settings_or_devs(config)))
    policy = json.dumps(checkup.policy, indent=2).splitlines()
    lines = [
        *checkup.as_lines(width=terminal_width()),
        "",
        "The least IAM policy for the service's role:",
        *policy,
    ]
    _show(checkup.as_json(), lines, as_json=as_json)
    if not checkup.healthy:
        sys.exit(1)


@commands.command()
@_config
@_app_dir
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
    document = build_document(create_app(_load_settings(config)))
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
        _exit(2, f"{path}: {error.format_message()} Try `{path} --help`.")
    except click.ClickException as error:
        _exit(1, error.format_message())
    except (click.Abort, KeyboardInterrupt):
        _exit(130, "interrupted")
    except Exception as error:  # noqa: BLE001 - a user gets a sentence; --debug shows the rest
        if "--debug" in arguments:
            print_lines(traceback.format_exc().splitlines(), to_stderr=True)
        _exit(1, str(error) or type(error).__name__)


def _exit(code: int, message: str) -> None:
    print_lines([f"Error: {message}"], to_stderr=True)
    sys.exit(code)


def _ask(
    url: str, header: str | None, question: "Callable[[Client], Awaitable[Answer]]"
) -> "Answer":
    """The service's answer to one call."""
    from orchestrator.cli.client import open_client

    name, colon, value = (header or "").partition(":")
    if header and not colon:
        raise click.UsageError("--header must be NAME:VALUE, such as x-api-key:the-key.")
    headers = {name.strip(): value.strip()} if colon else {}

    async def ask() -> "Answer":
        async with open_client(url, headers=headers) as client:
            return await question(client)

    return asyncio.run(ask())


class _Service(NamedTuple):
    """Where a service is, and the header to send."""

    url: str
    header: str | None


def _view(
    service: _Service,
    look: "Callable[[Client], Awaitable[Answer]]",
    describe: "Callable[[Answer], list[str]]",
    *,
    as_json: bool,
    is_watched: bool,
) -> None:
    """Show what the service answers, once or whenever it changes."""

    def lines(found: "Answer") -> list[str]:
        try:
            return describe(found)
        except KeyError as error:
            raise click.ClickException(
                f"The service's answer has no {error.args[0]}: it is of another release than this "
                "command. --json shows the answer."
            ) from error

    if not is_watched:
        found = _ask(*service, look)
        _show(found, [] if as_json else lines(found), as_json=as_json)
        return
    from orchestrator.adapters.clock import SystemClock
    from orchestrator.cli.follow import watch

    def show(found: "Answer") -> None:
        if as_json:
            print_json(found, in_one_line=True)
        else:
            redraw(lines(found))

    try:
        _ask(*service, lambda client: watch(lambda: look(client), show, clock=SystemClock()))
    except KeyboardInterrupt:
        # That is how a view is left.
        sys.exit(130)


def _show(document: object, lines: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        print_lines(lines)


def _load_settings_or_devs(config: str | None) -> "Settings":
    """The settings; without any, those of the running dev, with its AWS and its extension."""
    from orchestrator.cli.running_dev import find_dev_to_ask
    from orchestrator.settings import child_environment, use_environment

    found = find_dev_to_ask(child_environment({})) if config is None else None
    if found is None:
        return _load_settings(config)
    print_lines(
        [f"of the running dev at {found.url}; for other settings, pass --config"], to_stderr=True
    )
    if found.app_dir is not None:
        sys.path.insert(0, found.app_dir)
    use_environment(found.environment)
    return _load_settings(found.config)


def _load_settings(config: str | None, *, is_server: bool = False) -> "Settings":
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
