"""Texts of other sources: links that a page may show, sentences that fit into an item."""

from urllib.parse import urlsplit

#: Characters of a reason or a note.
_LONGEST_SENTENCE = 2000


def web_address(value: object) -> str | None:
    """The value if it is an http(s) URL that a page may link to, whoever wrote it; else None."""
    if not isinstance(value, str):
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    return value if parts.scheme in ("http", "https") and parts.hostname else None


def shorten(text: str) -> str:
    """A sentence as it is kept: whoever wrote it, an item of the ledger must hold it."""
    return text if len(text) <= _LONGEST_SENTENCE else f"{text[:_LONGEST_SENTENCE]}…"
