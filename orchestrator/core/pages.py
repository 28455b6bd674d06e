"""Pages of a list that grows while it is read: a cursor names the last item, not a count."""

import base64
from collections.abc import Sequence
from typing import Generic, TypeVar

import attrs

Item = TypeVar("Item")

#: DynamoDB's limit for a sort key, in bytes (developer guide, Quotas).
_LONGEST_POSITION = 1024


@attrs.frozen
class Page(Generic[Item]):
    """Items, and the cursor of the next page; None: there is none."""

    items: Sequence[Item]
    cursor: str | None


def encode_cursor(position: str) -> str:
    """An opaque cursor of an item's place in the order of its list."""
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """The place in a cursor. Raises ValueError for what `encode_cursor` did not make."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        position = base64.b64decode(padded, "-_", validate=True).decode()
    except ValueError:
        position = ""
    if not 0 < len(position.encode()) <= _LONGEST_POSITION:
        raise ValueError(f"{cursor!r} is no cursor of ours")
    return position
