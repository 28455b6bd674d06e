"""An operator's commands, which call a running service."""

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.calls import Service, call_service, service_options, view
from orchestrator.cli.options import OneOf, Time, json_option
from orchestrator.cli.terminal import (
    Progress,
    is_confirmed,
    print_answer,
    print_json,
    print_lines,
    terminal_width,
)

if TYPE_CHECKING:
    from orchestrator.cli.client import Client, Reply
    from orchestrator.cli.follow import Followed

#: As of timeout(1).
_TIMED_OUT = 124

_watch = click.option(
    "--watch", "is_watched", is_flag=True, help="Show it again whenever it changes."
)


def _page_options(command: Callable[..., None]) -> Callable[..., None]:
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


def _run_statuses() -> Iterable[str]:
    from orchestrator.core.ledger.records import RunStatus

    return RunStatus


def _tenant_states() -> Iterable[str]:
    from orchestrator.core.ledger.lifecycle import NO_STATE, TenantState

    return (*TenantState, NO_STATE)


def _check_event_id(_: click.Context, __: click.Parameter, event_id: str | None) -> str | None:
    """It is sent as a header, which has no control characters and no blanks around it."""
    if event_id is not None and (not event_id.isprintable() or event_id.strip() != event_id):
        raise click.BadParameter(f"{event_id!r} has control characters, or blanks around it.")
    if event_id == "":
        raise click.BadParameter("it is empty: leave it out, or give it a value.")
    return event_id


@click.command()
@click.argument("event_type", metavar="TYPE")
@click.argument("file", type=click.File("rb"), default="-")
@click.option(
    "--id",
    "event_id",
    metavar="ID",
    callback=_check_event_id,
    help="The event's id, in place of its body's: send it twice to see a duplicate.",
)
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
@service_options
@json_option
def send(
    event_type: str,
    file: Any,
    event_id: str | None,
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

    sent = call_service(
        url,
        header,
        lambda client: client.send_event(event_type, file.read(), event_id=event_id),
    )
    lines = describe_sent(sent, event_type, width=terminal_width())
    if not wait:
        print_answer(sent.as_json(), lines, as_json=as_json)
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
        return call_service(url, header, wait)
    finally:
        progress.end()


@click.command()
@click.option("--tenant", metavar="ID", help="Only runs of this tenant.")
@click.option("--type", "event_type", metavar="TYPE", help="Only runs of this event type.")
@click.option(
    "--status",
    metavar="STATUS",
    type=OneOf(_run_statuses),
    help="Only runs in this status: running, failed, ...",
)
@click.option(
    "--since",
    metavar="TIME",
    type=Time(),
    help="Only runs first seen since then: 2026-11-20T09:14:03Z.",
)
@click.option("--until", metavar="TIME", type=Time(), help="Only runs first seen before then.")
@_page_options
@_watch
@service_options
@json_option
def runs(
    url: str,
    header: str | None,
    as_json: bool,
    is_watched: bool,
    limit: int,
    **filters: str | None,
) -> None:
    """List runs with their reasons, the latest first."""
    from orchestrator.cli.tables import describe_runs

    query = {
        "tenantId": filters["tenant"],
        "eventType": filters["event_type"],
        **{name: filters[name] for name in ("status", "since", "until", "cursor")},
    }
    view(
        Service(url, header),
        lambda client: client.get_runs(query, limit=limit),
        lambda page: describe_runs(page, limit=limit, width=terminal_width()),
        as_json=as_json,
        is_watched=is_watched,
    )


@click.command()
@click.argument("run_id", metavar="ID")
@_watch
@service_options
@json_option
def run(run_id: str, url: str, header: str | None, as_json: bool, is_watched: bool) -> None:
    """Show a run: its steps, attempts, job and error.

    ID may be a unique prefix of at least 4 characters.
    """
    from orchestrator.cli.tables import describe_run

    view(
        Service(url, header),
        lambda client: client.get_run(run_id),
        lambda found: describe_run(found, width=terminal_width()),
        as_json=as_json,
        is_watched=is_watched,
    )


@click.command()
@click.argument("run_ids", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--force", is_flag=True, help="Even if it succeeded, or the tenant's state doesn't allow it."
)
@service_options
@json_option
def replay(
    run_ids: tuple[str, ...], force: bool, url: str, header: str | None, as_json: bool
) -> None:
    """Run failed events again, or (--force) any.

    ID may be a unique prefix of at least 4 characters.
    """
    from orchestrator.cli.client import Reply
    from orchestrator.cli.sentences import describe_replayed

    replayed: list[Reply] = []

    async def replay_all(client: "Client") -> None:
        for run_id in run_ids:
            replayed.append(await client.replay_run(run_id, force=force))  # noqa: PERF401

    try:
        call_service(url, header, replay_all)
    finally:
        # If one raises, those before it have been replayed; a comprehension would lose them.
        lines = [
            line
            for run_id, sent in zip(run_ids, replayed, strict=False)
            for line in describe_replayed(sent, run_id, width=terminal_width())
        ]
        if replayed:
            print_answer([sent.as_json() for sent in replayed], lines, as_json=as_json)
    if not all(sent.succeeded for sent in replayed):
        sys.exit(1)


@click.command()
@click.option(
    "--state",
    metavar="STATE",
    type=OneOf(_tenant_states),
    help="Only tenants in this state: active, provision_failed, ...; none: never begun.",
)
@click.option("--prefix", metavar="TEXT", help="Only tenants whose ids have this prefix.")
@click.option(
    "--sort",
    type=click.Choice(["id", "attention"]),
    default="id",
    show_default=True,
    help="attention: failed ones first, then slow ones, then by age.",
)
@_page_options
@_watch
@service_options
@json_option
def tenants(
    url: str,
    header: str | None,
    as_json: bool,
    is_watched: bool,
    limit: int,
    **filters: str | None,
) -> None:
    """List tenants with their states and reasons."""
    from orchestrator.cli.tables import describe_tenants

    view(
        Service(url, header),
        lambda client: client.get_tenants(filters, limit=limit),
        lambda page: describe_tenants(page, limit=limit, width=terminal_width()),
        as_json=as_json,
        is_watched=is_watched,
    )


@click.command()
@click.argument("tenant_id", metavar="ID")
@click.option("--cursor", help="Continue the timeline.")
@click.option("--operations-cursor", help="Continue the operations.")
@_watch
@service_options
@json_option
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
    view(
        Service(url, header),
        lambda client: client.get_tenant(tenant_id, query),
        lambda found: describe_tenant(found, width=terminal_width()),
        as_json=as_json,
        is_watched=is_watched,
    )


@click.command()
@click.argument("tenant_id", metavar="TENANT")
@click.option("--reason", help="Recorded as the reason of the operation's end.")
@click.option("--clean-up", is_flag=True, help="Even if the operation is a clean-up.")
@click.option("--yes", is_flag=True, help="Don't ask if TENANT is a prefix.")
@service_options
@json_option
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
        return call_service(
            url, header, lambda client: client.cancel(whole, reason=reason, clean_up=clean_up)
        )

    try:
        cancelled = cancel_of(tenant_id)
    except ServiceRefusedError as error:
        if error.status != 404:
            raise
        whole = call_service(url, header, lambda client: client.find_tenant(tenant_id))
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
    print_answer(cancelled, wrap(said, width=terminal_width()), as_json=as_json)
