"""Pages of a list that grows while it is read: a cursor names a place in it, not a count.

A page reads a limited number of items, however few of them match, so that a query for rare items
doesn't make one request read the whole ledger. So a page may be short, or empty, and have a cursor.
"""

import base64
from collections.abc import Sequence
from typing import Generic, TypeVar

import attrs

Item = TypeVar("Item")

#: How many items of its list a page reads, at most, for those that match. In DynamoDB that is at
#: most 8 requests: a Query for each partition of an index (4), a BatchGetItem for each hundred.
CANDIDATES = 400

#: DynamoDB's limit for a sort key, in bytes (developer guide, Quotas).
_LONGEST_POSITION = 1024


@attrs.frozen
class Page(Generic[Item]):
    """Items, and the cursor of the next page; None: there is none.

    One with a cursor may have fewer items than were asked for, or none: it looked at as many as it
    may, and the next page goes on from there.
    """

    items: Sequence[Item]
    cursor: str | None


def most_candidates(limit: int, *, narrowed: bool) -> int:
    """How many items a page of `limit` reads: one more than it shows, to know whether there is
    another page; where filters narrow what an index gives (`narrowed`), as many as it may."""
    return CANDIDATES if narrowed else limit + 1


def build_page(found: Sequence[tuple[str, Item]], *, limit: int, end: str | None) -> Page[Item]:
    """A page of what was found, each with its place.

    `end` is the place at which the search ended; None: at the end of the list.
    """
    shown = found[:limit]
    if len(found) > limit:
        end = shown[-1][0]
    return Page([item for _, item in shown], None if end is None else encode_cursor(end))


def encode_cursor(position: str) -> str:
    """An opaque cursor of a place in the order of a list."""
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """The place in a cursor. Raises ValueError for what `encode_cursor` did not make."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        position = base64.b64decode(padded, "-_", validate=True).decode()
    except ValueError:
        position = ""
    if not 0 < len(position.encode()) <= _LONGEST_POSITION:
        raise ValueError(f"{cursor!r} is no cursor of this service")
    return position
