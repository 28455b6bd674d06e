"""An in-memory ledger, lost when the process ends.

It passes the same contract suite as the durable one (`tests/contracts`), and lists by the same
indexes. Its writes and loads are atomic because they never await.
"""

from collections.abc import Collection, Mapping, Sequence

from orchestrator.adapters.ledger_indexes import Index, Place
from orchestrator.adapters.ledger_lists import Bound, LedgerLists
from orchestrator.adapters.memory.indexes import SHARDS, SortedIndexes
from orchestrator.core.checkable import Permission
from orchestrator.core.evolve import evolve
from orchestrator.core.ledger.ledger import Conflict
from orchestrator.core.ledger.pages import Count
from orchestrator.core.ledger.records import Record


class InMemoryLedger(LedgerLists):
    description = "memory: forgotten when the process ends"
    permissions: tuple[Permission, ...] = ()
    max_payload_bytes: int | None = None
    shards = SHARDS

    def __init__(self) -> None:
        self._items: dict[str, Record] = {}
        self._indexes = SortedIndexes()
        #: The keys of items whose places in the indexes may have changed.
        self._unsorted: set[str] = set()

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        expected = {**unchanged, **{record.key: record.version for record in records}}
        standing = {key: self._items.get(key) for key in expected}
        otherwise = {
            key: record
            for key, record in standing.items()
            if (record.version if record else 0) != expected[key]
        }
        if otherwise:
            raise Conflict(otherwise)
        for record in records:
            self._items[record.key] = evolve(record, version=record.version + 1)
            self._unsorted.add(record.key)

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        return {key: self._items.get(key) for key in keys}

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
        found = self._sorted_indexes()
        return found.query(index, partition, bound, limit, forward=forward, after=after)

    async def count(self, index: Index, partition: str, most: int) -> Count:
        return Count.of(self._sorted_indexes().count(index, partition), most=most)

    def _sorted_indexes(self) -> SortedIndexes:
        """The indexes, up to date: writes leave that to the lists, so that an event costs less."""
        for key in self._unsorted:
            self._indexes.put(self._items[key])
        self._unsorted.clear()
        return self._indexes
