"""The units of DynamoDB that a tenant's life costs, counted; docs/operations.md has the sums."""

import re
from collections.abc import Collection, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import attrs
import pytest

from orchestrator import Settings
from orchestrator.adapters.dynamodb.items import Item, build_item
from orchestrator.adapters.ledger_indexes import INDEXES
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.ledger.records import Record
from orchestrator.settings import Operations
from orchestrator.testing import ManualClock, envelope, provisioning_event
from tests.acceptance.answers import only_build
from tests.conftest import CODEBUILD, StartService

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


@attrs.define
class Units:
    """DynamoDB's units for on-demand tables (developer guide, On-demand capacity mode)."""

    written: int = 0
    read: int = 0


class MeteredLedger(InMemoryLedger):
    """Counts the units that its commits and reads would take in DynamoDB."""

    def __init__(self) -> None:
        super().__init__()
        self.units = Units()
        self.kept: dict[str, Item] = {}

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        items = {record.key: build_item(record, expires_at=None) for record in records}
        # In a transaction each kilobyte takes two units, whether the write succeeds or is refused.
        self.units.written += sum(2 * ceil(size(item) / 1024) for item in items.values())
        self.units.written += 2 * len(unchanged)
        await super().commit(records, unchanged=unchanged)
        for key, item in items.items():
            # An index takes a unit for each entry that is added or removed.
            for index in INDEXES:
                old, new = entry(self.kept.get(key, {}), index), entry(item, index)
                self.units.written += (old is not None) + (new is not None) if old != new else 0
            self.kept[key] = item

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        # Consistent reads take one unit for 4 KB.
        self.units.read += sum(ceil(size(self.kept.get(key, {})) / 4096) or 1 for key in keys)
        return await super().load(keys)


def entry(item: Item, index: Any) -> tuple[str, str] | None:
    """The item's key in an index, or None if it isn't in the index."""
    if index.partition not in item or index.sort not in item:
        return None
    return item[index.partition]["S"], item[index.sort]["S"]


def size(item: Item) -> int:
    """The bytes of names and values."""
    return sum(
        len(name) + len(value if isinstance(value, bytes) else str(value).encode())
        for name, typed in item.items()
        for value in typed.values()
    )


async def test_the_page_has_what_is_counted(
    start_service: StartService, settings: Settings, clock: ManualClock
) -> None:
    """The page's units of a request, of a check of its job, of its job's end and of a duplicate are
    each within a quarter of the counted ones."""
    ledger = MeteredLedger()
    every_minute = attrs.evolve(settings, operations=Operations(reconcile_every_s=60))
    service = await start_service(every_minute, ledger=ledger)
    counted: dict[str, Units] = {}

    async def count(name: str, event: Any) -> None:
        ledger.units = Units()
        answer = await service.post("/events", json=event)
        assert answer.status == 200, await answer.text()
        counted[name] = ledger.units

    request = provisioning_event(tenant_id="t-1")
    await count("request", request)
    await count("duplicate", request)
    clock.turn(60)
    await count("check", envelope("RECONCILE", {}))
    build = only_build(service.app[CODEBUILD])
    service.app[CODEBUILD].finish(build.id, "SUCCEEDED")
    await count("end", envelope("CodeBuild Build State Change", build.as_state_change()))
    shown = {
        name: Units(int(written), int(read))
        for name, written, read in re.findall(
            r"^\| (\w+)[^|]* \| (\d+) \| (\d+) \|", PAGE, re.MULTILINE
        )
    }
    assert shown.keys() == counted.keys()
    for name, units in counted.items():
        assert units.written == pytest.approx(shown[name].written, rel=0.25, abs=2), name
        assert units.read == pytest.approx(shown[name].read, rel=0.25, abs=1), name
