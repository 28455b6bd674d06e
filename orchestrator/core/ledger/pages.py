"""Cursor-based pagination of a list that grows while it is read.

A cursor is a position in the list, not a count. A page reads a limited number of items, so that a
query with few matches doesn't read the whole ledger in one request: a page with a cursor may be
short or empty.
"""

import base64
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
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


@attrs.frozen
class Count:
    """A number of items; `is_capped`: there are more, which weren't counted."""

    count: int
    is_capped: bool = False

    @classmethod
    def of(cls, found: int, *, most: int) -> "Count":
        """The count of `found` items, capped at `most`."""
        return cls(min(found, most), found > most)


@attrs.frozen(kw_only=True)
class Span:
    """The positions that a page reads: from `low` to `high`, both included (None: no bound), except
    for `passed`, the last one of the page before."""

    low: str | None = None
    high: str | None = None
    passed: str | None = None

    @classmethod
    def after(
        cls,
        cursor: str | None,
        *,
        forward: bool,
        low: str | None = None,
        high: str | None = None,
    ) -> "Span":
        """What is left of the positions from `low` to `high` after a cursor.

        Raises:
            ValueError: the cursor is invalid.
        """
        if cursor is None:
            return cls(low=low, high=high)
        passed = decode_cursor(cursor)
        if forward:
            return cls(low=max(low or passed, passed), high=high, passed=passed)
        return cls(low=low, high=min(high or passed, passed), passed=passed)

    @property
    def is_empty(self) -> bool:
        return self.low is not None and self.high is not None and self.low > self.high

    def covers(self, position: str) -> bool:
        return (
            (self.low is None or self.low <= position)
            and (self.high is None or position <= self.high)
            and position != self.passed
        )


def first_seen_between(since: datetime | None, until: datetime | None) -> dict[str, str | None]:
    """The bounds of the positions of runs that were first seen since then, and before `until`.

    Raises:
        ValueError: a time is none in UTC.
    """
    # A position has the run's id after the time, so it sorts after the bare time.
    return {
        "low": None if since is None else sortable(since),
        "high": None if until is None else sortable(until),
    }


def beginning_with(prefix: str | None) -> dict[str, str | None]:
    """The bounds of the positions that begin with a text."""
    if not prefix:
        return {}
    return {"low": prefix, "high": prefix + chr(sys.maxunicode)}


def sortable(moment: datetime) -> str:
    """A time as text that sorts chronologically.

    Raises:
        ValueError: it is before the year 1 or after 9999 in UTC.
    """
    try:
        return moment.astimezone(UTC).isoformat(timespec="microseconds")
    except OverflowError:
        raise ValueError(f"{moment.isoformat()} is not in the years 1 to 9999 of UTC") from None


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


def section_of(cursor: str | None) -> tuple[int, str | None]:
    """The section of a list in sections where a page begins, and the position that it follows.

    Raises:
        ValueError: the cursor is invalid.
    """
    if cursor is None:
        return 0, None
    section, _, position = decode_cursor(cursor).partition(" ")
    if not (section.isascii() and section.isdecimal() and position):
        raise ValueError(f"{cursor!r} is no cursor of this service")
    return int(section), position


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
