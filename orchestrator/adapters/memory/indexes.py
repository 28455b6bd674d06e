"""The ledger's indexes in memory."""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable

import attrs

from orchestrator.adapters.ledger_indexes import INDEXES, Index, Place, index_attributes
from orchestrator.adapters.ledger_lists import Bound
from orchestrator.core.ledger.records import Record

#: One is enough: no partition is too busy.
SHARDS = ("0",)
#: An index's name, and one of its partitions.
_Partition = tuple[str, str]


@attrs.frozen
class SortedIndexes:
    """The places of all items in each index."""

    _sorted: dict[_Partition, list[Place]] = attrs.field(factory=lambda: defaultdict(list))
    _of_item: dict[str, dict[_Partition, Place]] = attrs.field(factory=dict)

    def put(self, record: Record) -> None:
        """Move the item of a record to its places in the indexes."""
        before, now = self._of_item.get(record.key, {}), dict(_places(record))
        for partition, place in before.items() - now.items():
            places = self._sorted[partition]
            del places[bisect_left(places, place)]
        for partition, place in now.items() - before.items():
            insort(self._sorted[partition], place)
        self._of_item[record.key] = now

    def count(self, index: Index, partition: str) -> int:
        return len(self._sorted.get((index.name, partition), ()))

    def query(
        self,
        index: Index,
        partition: str,
        bound: Bound | None,
        limit: int,
        *,
        forward: bool,
        after: Place | None,
    ) -> list[Place]:
        """The first `limit` places of a partition within the bound, in order."""
        places = self._sorted.get((index.name, partition), [])
        low, high = 0, len(places)
        comparison, *values = bound or ("",)
        if comparison in (">=", "BETWEEN"):
            low = bisect_left(places, values[0], key=_sort_value)
        elif comparison == ">":
            low = bisect_right(places, values[0], key=_sort_value)
        if comparison in ("<=", "BETWEEN"):
            high = bisect_right(places, values[-1], key=_sort_value)
        elif comparison == "<":
            high = bisect_left(places, values[0], key=_sort_value)
        if after is not None and forward:
            low = max(low, bisect_right(places, after))
        elif after is not None:
            high = min(high, bisect_left(places, after))
        if forward:
            return places[low : min(high, low + limit)]
        return places[max(low, high - limit) : high][::-1]


def _places(record: Record) -> Iterable[tuple[_Partition, Place]]:
    known = index_attributes(record, shards=SHARDS)
    for index in INDEXES:
        if index.partition in known and index.sort in known:
            yield (index.name, known[index.partition]), (known[index.sort], record.key)


def _sort_value(place: Place) -> str:
    return place[0]
