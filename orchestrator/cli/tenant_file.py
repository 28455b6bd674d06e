"""Reads a file of tenants, JSON Lines or one JSON array, an entry at a time.

A broken line of JSON Lines doesn't hide those after it. In an array, entries after broken
syntax can't be separated: reading stops there.
"""

import json
from collections.abc import Iterator
from typing import TextIO

import attrs

#: The maximum number of characters of an entry.
MAX_ENTRY = 65_536
#: How many characters of an array are read at once.
_PIECE = 8192
_DECODER = json.JSONDecoder()


@attrs.frozen
class Entry:
    """An entry's JSON text, and the line on which it begins; `text` None: it is too large."""

    line: int
    text: str | None


def read_entries(file: TextIO) -> Iterator[Entry]:
    """The entries of the file in its order. Blank lines are none."""
    line = 0
    while text := file.readline(MAX_ENTRY):
        line += 1
        if text.lstrip().startswith("["):
            yield from _read_array(file, text.lstrip()[1:], line)
            return
        if text.strip():
            yield from _read_lines(file, text, line)


def _read_lines(file: TextIO, text: str, line: int) -> Iterator[Entry]:
    """The entries of JSON Lines; `text` is the first."""
    while text:
        is_cut = len(text) == MAX_ENTRY and not text.endswith("\n")
        if text.strip():
            yield Entry(line, None if is_cut else text)
        while is_cut:
            rest = file.readline(MAX_ENTRY)
            is_cut = rest != "" and not rest.endswith("\n")
        text, line = file.readline(MAX_ENTRY), line + 1


def _read_array(file: TextIO, rest: str, line: int) -> Iterator[Entry]:
    """The values of an array; `rest` follows its bracket."""
    while True:
        value = rest.lstrip(" \t\r\n,")
        line += rest.count("\n", 0, len(rest) - len(value))
        rest = value
        if rest.startswith("]"):
            yield from _read_lines(file, rest[1:], line)
            return
        try:
            _, end = _DECODER.raw_decode(rest)
        except (ValueError, RecursionError):
            more = file.read(_PIECE) if len(rest) <= MAX_ENTRY else ""
            if not more:
                yield Entry(line, rest)
                return
            rest += more
        else:
            yield Entry(line, rest[:end])
            line += rest.count("\n", 0, end)
            rest = rest[end:]
