"""Prints to the terminal: the only place where a command writes text that may be someone else's.

Control characters of ids, reasons and answers are escaped: in a terminal they could move the
cursor, add lines, change what is read as text, or run what the emulator offers (ECMA-48, control
sequences; Unicode Standard Annex 9, explicit formatting characters).
"""

import json
import shutil
import sys
from collections.abc import Iterable

import attrs
import click

from orchestrator.core.texts import printable

#: Return to the line's begin, and erase the line (ECMA-48, EL).
_ERASE_LINE = "\r\x1b[K"


def terminal_width() -> int | None:
    """Of the terminal, or as the variable COLUMNS says; None: standard output is no terminal."""
    return shutil.get_terminal_size((0, 0)).columns or None


def print_lines(lines: Iterable[str], *, to_stderr: bool = False) -> None:
    """Print each text as one line."""
    click.echo("\n".join(map(printable, lines)), err=to_stderr)


def print_json(value: object, *, in_one_line: bool = False) -> None:
    """Print a value as JSON in ASCII, with all else escaped."""
    click.echo(json.dumps(value, indent=None if in_one_line else 2, default=str))


def print_answer(document: object, lines: Iterable[str], *, as_json: bool) -> None:
    """Print an answer as JSON, or else as these lines."""
    if as_json:
        print_json(document)
    else:
        print_lines(lines)


def redraw(lines: list[str]) -> None:
    """Print lines in place of what the terminal shows, cut to its height; below what is there if
    standard output is no terminal."""
    if not sys.stdout.isatty():
        print_lines([*lines, ""])
        return
    height = shutil.get_terminal_size().lines - 1
    cut = [*lines[: height - 1], f"… {len(lines) - height + 1} more lines"]
    click.clear()
    print_lines(lines if len(lines) <= height else cut)


def is_confirmed(question: str) -> bool:
    """Whether the answer at the terminal is yes; False without a terminal."""
    return sys.stdin.isatty() and click.confirm(printable(question), err=True)


@attrs.define
class Progress:
    """What a command waits for, on standard error: in one line of a terminal that is rewritten,
    else a line whenever it changes."""

    _last: str | None = None

    def tell(self, what: str, elapsed: str) -> None:
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns - 1
            text = printable(f"{elapsed}, {what}")[:width]
            click.echo(f"{_ERASE_LINE}{text}", nl=False, err=True)
        elif what != self._last:
            print_lines([what], to_stderr=True)
        self._last = what

    def end(self) -> None:
        """Erase the line."""
        if self._last is not None and sys.stderr.isatty():
            click.echo(_ERASE_LINE, nl=False, err=True)
