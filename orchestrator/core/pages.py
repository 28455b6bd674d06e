"""Pages of a list that grows while it is read: a cursor names the last item, not a count."""

import base64
from collections.abc import Sequence
from typing import Generic, TypeVar

import attrs

Item = TypeVar("Item")


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
        if not cursor:
            raise ValueError
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), "-_", validate=True).decode()
    except ValueError:
        raise ValueError(f"{cursor!r} is no cursor of ours") from None
