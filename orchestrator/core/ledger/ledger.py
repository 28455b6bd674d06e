"""The ledger, as a port: it compares versions, and knows no rule of the service."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from orchestrator.core.errors import EventTooLarge, TemporaryError
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.pages import Page
from orchestrator.core.ledger.records import (
    PayloadRecord,
    Record,
    RunRecord,
    RunStatus,
    TenantRecord,
)

#: So many unreadable items are named in a sentence.
_MOST_NAMED = 5


class Conflict(Exception):
    """A commit was refused: these items don't stand as was thought. None: it isn't there."""

    def __init__(self, items: Mapping[str, Record | None]) -> None:
        super().__init__(", ".join(items))
        self.items = items


class UnreadableItems(TemporaryError):
    """Items that this release can't read: another one wrote them, or they are damaged.

    `found` has the others that were asked for. Temporary, since a release that can read them may
    be running beside this one.
    """

    def __init__(self, reasons: Mapping[str, str], *, found: Mapping[str, Record | None]) -> None:
        """`reasons` says of each unreadable key why."""
        named = [f"{key} ({reason})" for key, reason in list(reasons.items())[:_MOST_NAMED]]
        more = [f"{len(reasons) - len(named)} more"] if len(reasons) > len(named) else []
        described = "; ".join([*named, *more])
        super().__init__(f"The ledger's items can't be read by this release: {described}.")
        self.keys = frozenset(reasons)
        self.found = found


class Ledger(Protocol):
    """Where runs, operations, tenants, jobs and payloads are kept; dumb, but atomic.

    What is written and under which conditions is decided in the core, so that every ledger
    has the same guards: it compares versions and nothing else.
    """

    #: The largest payload that it takes, in bytes; None: any.
    max_payload_bytes: int | None

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        """Write all of the records, or none.

        Each must still stand at its `version` (0: not be there) and is kept with the next
        one; `unchanged` are keys and versions of items that must stand, too.

        Raises:
            Conflict: one doesn't; it has all of those that don't.
            UnreadableItems: the same, and one of those can't be read.
            TemporaryError: it is not known whether it was written.
        """

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        """The items as they stand now, after every commit that has returned.

        Raises:
            UnreadableItems: some can't be read; it has the others.
        """

    async def find_due(
        self, *, before: datetime, limit: int, start: int = 0, cursor: str | None = None
    ) -> Page[str]:
        """Keys of items that are due, a page at a time; a proposal, perhaps out of date.

        They lie in shards, the longest due first in each. `start`, any number, says with which the
        first page begins; the cursor leads through the others in turn, and past what stays due.
        """

    async def list_runs(
        self,
        *,
        tenant_id: str | None = None,
        event_type: str | None = None,
        status: RunStatus | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[RunRecord]:
        """Runs that match, the one first seen last first; None matches all.

        It looks at no more than `pages.CANDIDATES`, so that a page may be short, or empty, and have
        a cursor. A run that is added while pages are read moves none of the others; one that can't
        be read is left out.

        Raises:
            ValueError: the cursor is none of ours.
        """

    async def list_tenants(
        self, *, state: TenantState | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[TenantRecord]:
        """Tenants that were seen, in the order of their ids; one that can't be read is left out.

        Raises:
            ValueError: as `list_runs` does.
        """

    async def check(self) -> None:
        """Raises TemporaryError if the ledger can't be reached."""


def check_size(ledger: Ledger, payload: PayloadRecord) -> None:
    """Raises EventTooLarge if the ledger can't keep the payload."""
    limit = ledger.max_payload_bytes
    if limit is not None and len(payload.data) > limit:
        raise EventTooLarge(len(payload.data), limit)
