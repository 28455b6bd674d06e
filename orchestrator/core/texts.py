"""Texts from other sources, as they are stored and shown."""

import os

from orchestrator.core.urls import without_userinfo

#: The maximum number of characters of a reason or a note.
_LONGEST_SENTENCE = 2000


def shorten(text: str, most: int = _LONGEST_SENTENCE) -> str:
    """A sentence without credentials in its URLs, cut to the size that is stored in an item of the
    ledger: `most` characters."""
    shown = without_userinfo(text)
    return shown if len(shown) <= most else f"{shown[:most]}…"


def system_reason(error: OSError) -> str:
    """What the operating system says of an error, without what Python adds to it."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


def printable(text: str) -> str:
    """A text in one line, with its control characters, bidirectional overrides and other characters
    without a shape escaped as in Python."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
