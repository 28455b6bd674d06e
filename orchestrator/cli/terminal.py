"""Prints to the terminal: the only place where a command writes text that may be someone else's.

Control characters of ids, reasons and answers are escaped: in a terminal they could move the
cursor, add lines, change what is read as text, or run what the emulator offers (ECMA-48, control
sequences; Unicode Standard Annex 9, explicit formatting characters).
"""

import json
from collections.abc import Iterable

import click

from orchestrator.core.texts import printable


def print_lines(lines: Iterable[str], *, to_stderr: bool = False) -> None:
    """Print each text as one line."""
    click.echo("\n".join(map(printable, lines)), err=to_stderr)


def print_json(value: object) -> None:
    """Print a value as JSON in ASCII, with all else escaped."""
    click.echo(json.dumps(value, indent=2, default=str))
