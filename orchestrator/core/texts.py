"""Sanitizes texts from other sources: links that a page may show, sentences cut to an item's
size."""

from urllib.parse import urlsplit

#: The maximum number of characters of a reason or a note.
_LONGEST_SENTENCE = 2000


def web_address(value: object) -> str | None:
    """The value if it is an http(s) URL that a page may safely link to, else None."""
    if not isinstance(value, str):
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    return value if parts.scheme in ("http", "https") and parts.hostname else None


def shorten(text: str) -> str:
    """A sentence cut to the size that is stored in an item of the ledger."""
    return text if len(text) <= _LONGEST_SENTENCE else f"{text[:_LONGEST_SENTENCE]}…"
