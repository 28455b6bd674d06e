"""The ledger, as a port: it compares versions, and has no rules of the service."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import attrs

from orchestrator.core.errors import EventTooLarge, TemporaryError
from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.lifecycle import StateName
from orchestrator.core.ledger.pages import Count, Page
from orchestrator.core.ledger.records import (
    OperationRecord,
    PayloadRecord,
    Record,
    RunRecord,
    RunStatus,
    TenantRecord,
)

#: The maximum number of unreadable items that are named in a message.
_MOST_NAMED = 5


class Conflict(Exception):
    """A commit was refused: these items have other versions. None: the item doesn't exist."""

    def __init__(self, items: Mapping[str, Record | None]) -> None:
        super().__init__(", ".join(items))
        self.items = items


class UnreadableItems(TemporaryError):
    """Items that this release can't parse: another one wrote them, or they are damaged.

    `found` has the other requested items. Temporary, since a release that can parse them may be
    running beside this one.
    """

    def __init__(self, reasons: Mapping[str, str], *, found: Mapping[str, Record | None]) -> None:
        """`reasons` has the reason for each unreadable key."""
        named = [f"{key} ({reason})" for key, reason in list(reasons.items())[:_MOST_NAMED]]
        more = [f"{len(reasons) - len(named)} more"] if len(reasons) > len(named) else []
        described = "; ".join([*named, *more])
        super().__init__(f"The ledger's items can't be read by this release: {described}.")
        self.keys = frozenset(reasons)
        self.found = found


@attrs.frozen
class OpenOperations:
    """How many operations of a kind are open, and since when the oldest is."""

    count: int
    oldest: datetime | None


@attrs.frozen(kw_only=True)
class Summary:
    """The tenants by state, the failed runs, and the oldest open operation of a tenant."""

    tenants: Mapping[StateName, Count]
    failed_runs: Count
    oldest: OperationRecord | None


class Ledger(Protocol):
    """Stores runs, operations, tenants, jobs and payloads, with atomic conditional writes.

    The core decides what is written under which conditions, so that every ledger has the same
    guards: it only compares versions.
    """

    #: The largest payload in bytes; None: no limit.
    max_payload_bytes: int | None

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        """Write all of the records, or none.

        Each item must still have its record's `version` (0: not exist), and gets the next one;
        `unchanged` are keys and versions of further items that must be unchanged.

        Raises:
            Conflict: an item has another version; it has all of those items.
            UnreadableItems: the same, and one of those can't be parsed.
            TemporaryError: it is unknown whether the records were written.
        """

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        """Load items with strong consistency: they include every commit that has returned.

        Raises:
            UnreadableItems: some can't be parsed; it has the others.
        """

    async def find_due(
        self, *, before: datetime, limit: int, start: int = 0, cursor: str | None = None
    ) -> Page[str]:
        """Keys of due items, a page at a time; candidates, which may be out of date.

        They are in shards, each ordered by due time. `start`, any number, chooses the first shard;
        the cursor leads through the others in turn, and past items that stay due.
        """

    async def list_runs(
        self,
        *,
        tenant_id: str | None = None,
        event_type: str | None = None,
        status: RunStatus | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[RunRecord]:
        """Runs that match, the latest `first_seen` first; None matches all. Those first seen at
        `since` match, those at `until` don't.

        It reads at most `pages.CANDIDATES`, so a page with a cursor may be short or empty. A run
        that is added while pages are read doesn't move the others; one that can't be parsed is left
        out.

        Raises:
            ValueError: the cursor is invalid.
        """

    async def list_tenants(
        self,
        *,
        state: StateName | None = None,
        prefix: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[TenantRecord]:
        """Tenants in a state (None: in any), whose ids begin with `prefix`, ordered by id; one that
        can't be parsed is left out.

        Raises:
            ValueError: the cursor is invalid.
        """

    async def count_open(self, kind: Kind, *, most: int) -> OpenOperations:
        """The open operations of a kind; more than `most` are counted as `most`. It may not see the
        last second's writes."""

    async def list_by_attention(
        self, *, limit: int = 50, cursor: str | None = None
    ) -> Page[TenantRecord]:
        """All tenants: first those that failed or never began, the latest change first; then those
        whose operation has no job, then those whose operation has one, each the oldest first; then
        the others, the latest change first.

        One that moves while pages are read may be in two of them, or in none.

        Raises:
            ValueError: the cursor is invalid.
        """

    async def list_operations(
        self, *, tenant_id: str, limit: int = 20, cursor: str | None = None
    ) -> Page[OperationRecord]:
        """The tenant's operations, the last opened first; one that can't be parsed is left out. One
        that is opened again while pages are read moves to the front.

        Raises:
            ValueError: the cursor is invalid.
        """

    async def summarize(self, *, most: int) -> Summary:
        """Counts, each up to `most`, and the oldest open operation."""

    async def check(self) -> None:
        """Raises TemporaryError if the ledger can't be reached."""


def check_size(ledger: Ledger, payload: PayloadRecord) -> None:
    """Raises EventTooLarge if the payload is too large for the ledger."""
    limit = ledger.max_payload_bytes
    if limit is not None and len(payload.data) > limit:
        raise EventTooLarge(len(payload.data), limit)
