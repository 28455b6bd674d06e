"""docs/command-line.md: each command with its options, from the command line itself."""

from collections.abc import Iterator
from inspect import cleandoc

import click

from orchestrator.cli.main import commands
from tests.reference.markdown import table

_HEAD = """# Command line

`orchestrator --help` and `orchestrator COMMAND --help` say the same. A failure is one line on
standard error; the exit code is 2 for wrong usage, else 1. `python -m orchestrator` is the same
command where it isn't on the `PATH`.
"""


def command_line() -> str:
    context = click.Context(commands, info_name="orchestrator", **commands.context_settings)
    return "".join((_HEAD, "\n", _options(commands, context), *_subcommands(commands, context)))


def _subcommands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        own = click.Context(command, info_name=name, parent=context)
        usage = " ".join((own.command_path, *command.collect_usage_pieces(own)))
        yield f"\n## {own.command_path}\n\n"
        yield f"```text\n{usage}\n```\n\n"
        yield f"{cleandoc(command.help or '')}\n\n"
        yield _options(command, own)
        if isinstance(command, click.Group):
            yield from _subcommands(command, own)


def _options(command: click.Command, context: click.Context) -> str:
    records = [
        record
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context))
    ]
    return table(("option", "what it does"), [(f"`{name}`", text) for name, text in records])
