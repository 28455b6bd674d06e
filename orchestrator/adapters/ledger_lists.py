"""What a ledger lists and counts, found by its indexes.

The indexes have keys only: they return candidates, which are then loaded.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from orchestrator.adapters.ledger_indexes import (
    DUE,
    FAILED_TENANTS,
    LIST,
    SHARDS,
    STATUS,
    TENANT,
    TENANTS_AT_REST,
    TYPE,
    Index,
    Place,
    open_partition,
    operations_of,
)
from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.ledger import OpenOperations, Summary, UnreadableItems
from orchestrator.core.ledger.lifecycle import NO_STATE, StateName, TenantState
from orchestrator.core.ledger.pages import (
    Count,
    Page,
    Span,
    beginning_with,
    build_page,
    encode_cursor,
    first_seen_between,
    most_candidates,
    section_of,
    sortable,
)
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import (
    OperationRecord,
    Record,
    RunRecord,
    RunStatus,
    TenantRecord,
    tenant_key,
)
from orchestrator.core.tasks import gather_or_cancel

#: How many items one BatchGetItem reads at most.
BATCH_LIMIT = 100
#: How many operations are read to find the oldest that is still open.
_TO_SKIP = 5
#: The sections of the list by attention: index, partition, and whether the oldest is first.
_WITHOUT_JOB, _WITH_JOB = (
    tuple(open_partition(kind, has_job=has_job) for kind in Kind) for has_job in (False, True)
)
_SECTIONS = (
    (DUE, (FAILED_TENANTS,), False),
    (STATUS, _WITHOUT_JOB, True),
    (STATUS, _WITH_JOB, True),
    (DUE, (TENANTS_AT_REST,), False),
)

#: What a query reads of a partition: a comparison of sort values, and what they are compared with.
Bound = tuple[str, ...]

log = structlog.get_logger("orchestrator.ledger_lists")


class LedgerLists(ABC):
    """The pages and counts of a ledger, found by its indexes."""

    #: The shards of its runs and of what is due.
    shards: Sequence[str] = SHARDS

    @abstractmethod
    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        """The ledger's records; see `core.ledger.ledger.Ledger`."""

    @abstractmethod
    async def query(
        self,
        index: Index,
        partition: str,
        bound: Bound | None,
        limit: int,
        *,
        forward: bool,
        after: Place | None = None,
    ) -> list[Place]:
        """The first `limit` places of a partition within a bound, those after a place alone."""

    @abstractmethod
    async def count(self, index: Index, partition: str, most: int) -> Count:
        """How many items a partition has; a large one may be capped before `most`."""

    async def find_due(
        self, *, before: datetime, limit: int, start: int = 0, cursor: str | None = None
    ) -> Page[str]:
        # A cursor is the number of shards already read, then the place in the current one.
        behind, _, place = (cursor or "0").partition(" ")
        shard = self.shards[(start + int(behind)) % len(self.shards)]
        # The bound sorts just after `before` itself.
        bound = ("<", f"{sortable(before)}~")
        due_at, _, key = place.partition(" ")
        after = (due_at, key) if place else None
        found = await self.query(DUE, shard, bound, limit, forward=True, after=after)
        further = f"{int(behind) + 1}" if int(behind) + 1 < len(self.shards) else None
        if len(found) == limit:
            further = " ".join((behind, *found[-1]))
        return Page([key for _, key in found], further)

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
        span = Span.after(cursor, forward=False, **first_seen_between(since, until))
        if tenant_id is not None:
            index, partitions = TENANT, [tenant_id]
        elif status is not None:
            index, partitions = STATUS, [f"run#{status}#{shard}" for shard in self.shards]
        elif event_type is not None:
            index, partitions = TYPE, [f"{event_type}#{shard}" for shard in self.shards]
        else:
            index, partitions = LIST, [f"run#{shard}" for shard in self.shards]

        def matches(run: Record | None) -> bool:
            return (
                isinstance(run, RunRecord)
                and tenant_id in (None, run.tenant_id)
                and event_type in (None, run.event_type)
                and status in (None, run.status)
            )

        narrowed = [tenant_id, status, event_type].count(None) < 2
        return await self._page(
            index, partitions, matches, limit, span, forward=False, narrowed=narrowed
        )

    async def list_tenants(
        self,
        *,
        state: StateName | None = None,
        prefix: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[TenantRecord]:
        span = Span.after(cursor, forward=True, **beginning_with(prefix))

        def matches(tenant: Record | None) -> bool:
            if not isinstance(tenant, TenantRecord):
                return False
            return tenant.state is not None if state is None else tenant.state_name == state

        index, partition = (STATUS, f"tenant#{state}") if state else (LIST, "tenant")
        return await self._page(
            index, [partition], matches, limit, span, forward=True, narrowed=False
        )

    async def count_open(self, kind: Kind, *, most: int) -> OpenOperations:
        partitions = [open_partition(kind, has_job=has_job) for has_job in (False, True)]
        found = await self._propose(STATUS, partitions, None, most, forward=True)
        oldest = datetime.fromisoformat(found[0][0].partition(" ")[0]) if found else None
        return OpenOperations(len(found), oldest)

    async def list_by_attention(
        self, *, limit: int = 50, cursor: str | None = None
    ) -> Page[TenantRecord]:
        first, passed = section_of(cursor)

        async def propose(number: int) -> list[Place]:
            index, partitions, forward = _SECTIONS[number]
            bound = (">" if forward else "<", passed) if passed and number == first else None
            found = await self._propose(index, partitions, bound, limit + 1, forward=forward)
            return [(f"{number} {place}", _tenant_of(place, key)) for place, key in found]

        by_section = await gather_or_cancel(propose(n) for n in range(first, len(_SECTIONS)))
        proposed = [pair for pairs in by_section for pair in pairs]
        # One that has just moved may still be in the section that it has left.
        places = {key: place for place, key in reversed(proposed[:limit])}
        records = await self._load_readable(places) if places else {}
        found = [records[key] for key in reversed(places)]
        further = encode_cursor(proposed[limit - 1][0]) if len(proposed) > limit else None
        return Page([one for one in found if isinstance(one, TenantRecord)], further)

    async def list_operations(
        self, *, tenant_id: str, limit: int = 20, cursor: str | None = None
    ) -> Page[OperationRecord]:
        span = Span.after(cursor, forward=False)

        def matches(operation: Record | None) -> bool:
            return isinstance(operation, OperationRecord) and operation.tenant_id == tenant_id

        return await self._page(
            LIST, [operations_of(tenant_id)], matches, limit, span, forward=False, narrowed=False
        )

    async def summarize(self, *, most: int) -> Summary:
        states: tuple[StateName, ...] = (*TenantState, NO_STATE)
        partitions = [f"tenant#{state}" for state in states]
        partitions += [f"run#{RunStatus.FAILED}#{shard}" for shard in self.shards]
        counts = await gather_or_cancel(self.count(STATUS, one, most) for one in partitions)
        tenants, failed = counts[: len(states)], counts[len(states) :]
        failed_runs = Count.of(sum(one.count for one in failed), most=most)
        if any(one.is_capped for one in failed):
            failed_runs = Count(failed_runs.count, is_capped=True)
        return Summary(
            tenants=dict(zip(states, tenants, strict=True)),
            failed_runs=failed_runs,
            oldest=await self._find_oldest(),
        )

    async def check(self) -> None:
        await self._propose(DUE, self.shards[:1], ("<", "0"), 1, forward=True)

    async def _find_oldest(self) -> OperationRecord | None:
        # More than one: the index may still have operations that are over.
        proposed = await self._propose(
            STATUS, (*_WITHOUT_JOB, *_WITH_JOB), None, _TO_SKIP, forward=True
        )
        records = await self._load_readable([key for _, key in proposed]) if proposed else {}
        for _, key in proposed:
            record = records[key]
            if isinstance(record, OperationRecord) and record.state is OperationState.OPEN:
                return record
        return None

    async def _page(
        self,
        index: Index,
        partitions: Sequence[str],
        matches: Callable[[Record | None], bool],
        limit: int,
        span: Span,
        *,
        forward: bool,
        narrowed: bool,
    ) -> Page[Any]:
        """A page of the matching items in the span, as the table has them now.

        `narrowed` says that not all candidates of the index match.
        """
        if span.is_empty:
            return Page([], None)
        most, bound = most_candidates(limit, narrowed=narrowed), _bound(span)
        # A range between two bounds includes the item that was passed.
        may_repeat = span.passed is not None and bound is not None and bound[0] == "BETWEEN"
        pairs = await self._propose(index, partitions, bound, most + may_repeat, forward=forward)
        proposed = [pair for pair in pairs if pair[0] != span.passed][:most]
        found: list[tuple[str, Record | None]] = []
        for start in range(0, len(proposed), BATCH_LIMIT):
            batch = proposed[start : start + BATCH_LIMIT]
            records = await self._load_readable([key for _, key in batch])
            found += [(place, records[key]) for place, key in batch if matches(records[key])]
            if len(found) > limit:
                break
        end = proposed[-1][0] if len(proposed) == most else None
        return build_page(found, limit=limit, end=end)

    async def _load_readable(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        """The records, with None for each that can't be parsed, so that a list shows the others."""
        try:
            return await self.load(keys)
        except UnreadableItems as error:
            log.error("items left out of a list", reason=str(error))
            return {**dict.fromkeys(keys), **error.found}

    async def _propose(
        self,
        index: Index,
        partitions: Sequence[str],
        bound: Bound | None,
        limit: int,
        *,
        forward: bool,
    ) -> list[Place]:
        """The places of the first `limit` items of the partitions within a bound."""
        queries = (self.query(index, one, bound, limit, forward=forward) for one in partitions)
        found = {pair for pairs in await gather_or_cancel(queries) for pair in pairs}
        return sorted(found, reverse=not forward)[:limit]


def _bound(span: Span) -> Bound | None:
    """The condition on the sort values of a span."""
    match span:
        case Span(low=str(low), high=str(high)):
            return "BETWEEN", low, high
        case Span(low=str(low)):
            return (">" if low == span.passed else ">="), low
        case Span(high=str(high)):
            return ("<" if high == span.passed else "<="), high
    return None


def _tenant_of(place: str, key: str) -> str:
    """The key of the tenant that an operation holds, by its position; a tenant's own key."""
    return key if key.startswith(tenant_key("")) else tenant_key(place.split(" ", 2)[2])
