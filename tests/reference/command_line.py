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
    context = click.Context(commands, info_name="orchestrator")
    parts = [_HEAD, "\n", _options(commands, context)]
    for name in commands.list_commands(context):
        command = commands.get_command(context, name)
        assert command is not None
        parts += _command(command, click.Context(command, info_name=name, parent=context))
    return "".join(parts)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"\n## orchestrator {context.info_name}\n\n"
    yield f"```text\norchestrator {context.info_name} {usage}\n```\n\n"
    yield f"{cleandoc(command.help or '')}\n\n"
    yield _options(command, context)


def _options(command: click.Command, context: click.Context) -> str:
    records = [
        record
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context))
    ]
    return table(("option", "what it does"), [(f"`{name}`", text) for name, text in records])
