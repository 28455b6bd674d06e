"""How a command calls a running service: which one, and how its answers are shown or watched."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import click

from orchestrator.cli.terminal import print_answer, print_json, redraw

if TYPE_CHECKING:
    from orchestrator.cli.client import Client

Answer = TypeVar("Answer")


def service_options(command: Callable[..., None]) -> Callable[..., None]:
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


def _choose_url(_: click.Context, __: click.Parameter, url: str | None) -> str:
    from orchestrator.core.urls import shown_url
    from orchestrator.settings.validation import read_web_address

    if url is None:
        from orchestrator.cli.running_dev import find_running_dev
        from orchestrator.settings import child_environment

        found = find_running_dev(child_environment({}))
        return found.url if found else "http://127.0.0.1:8080"
    if read_web_address(url) is None:
        raise click.BadParameter(f"{shown_url(url)!r} must be like http://127.0.0.1:8080.")
    return url


class Service(NamedTuple):
    """Where a service is, and the header to send."""

    url: str
    header: str | None


def call_service(
    url: str, header: str | None, question: "Callable[[Client], Awaitable[Answer]]"
) -> "Answer":
    """The service's answer to one call."""
    from orchestrator.cli.client import open_client

    headers = _read_header(header) if header else {}

    async def ask() -> "Answer":
        async with open_client(url, headers=headers) as client:
            return await question(client)

    return asyncio.run(ask())


def _read_header(header: str) -> dict[str, str]:
    from orchestrator.settings.validation import HEADER_NAME

    name, colon, value = header.partition(":")
    name, value = name.strip(), value.strip()
    if not (colon and HEADER_NAME.fullmatch(name) and value.isprintable()):
        raise click.UsageError("--header must be NAME:VALUE, such as x-api-key:the-key.")
    return {name: value}


def view(
    service: Service,
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
        found = call_service(*service, look)
        print_answer(found, [] if as_json else lines(found), as_json=as_json)
        return
    from orchestrator.adapters.clock import SystemClock
    from orchestrator.cli.follow import watch

    def show(found: "Answer") -> None:
        if as_json:
            print_json(found, in_one_line=True)
        else:
            redraw(lines(found))

    try:
        call_service(
            *service, lambda client: watch(lambda: look(client), show, clock=SystemClock())
        )
    except KeyboardInterrupt:
        # Ctrl-C ends the view.
        sys.exit(130)
