"""Cursor-based pagination of a list that grows while it is read.

A cursor is a position in the list, not a count. A page reads a limited number of items, so that a
query with few matches doesn't read the whole ledger in one request: a page with a cursor may be
short or empty.
"""

import base64
from collections.abc import Sequence
from typing import Generic, TypeVar

import attrs

Item = TypeVar("Item")

#: The maximum number of items that a page reads to find those that match. In DynamoDB that is at
#: most 8 requests: a Query for each partition of an index (4), a BatchGetItem for each hundred.
CANDIDATES = 400

#: DynamoDB's limit for a sort key, in bytes (developer guide, Quotas).
_LONGEST_POSITION = 1024


@attrs.frozen
class Page(Generic[Item]):
    """Items, and the cursor of the next page; None on the last page.

    A page with a cursor may have fewer items than requested, or none: the next one continues.
    """

    items: Sequence[Item]
    cursor: str | None


def most_candidates(limit: int, *, narrowed: bool) -> int:
    """How many items a page of `limit` reads: one more than it shows, to know whether there is
    another page; if filters apply to the index's items (`narrowed`), the maximum."""
    return CANDIDATES if narrowed else limit + 1


def build_page(found: Sequence[tuple[str, Item]], *, limit: int, end: str | None) -> Page[Item]:
    """Build a page of the found items, each with its position.

    `end` is the position where reading stopped; None at the end of the list.
    """
    shown = found[:limit]
    if len(found) > limit:
        end = shown[-1][0]
    return Page([item for _, item in shown], None if end is None else encode_cursor(end))


def encode_cursor(position: str) -> str:
    """An opaque cursor for a position in a list."""
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """The position in a cursor. Raises ValueError unless `encode_cursor` made it."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        position = base64.b64decode(padded, "-_", validate=True).decode()
    except ValueError:
        position = ""
    if not 0 < len(position.encode()) <= _LONGEST_POSITION:
        raise ValueError(f"{cursor!r} is no cursor of this service")
    return position
