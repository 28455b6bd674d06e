"""`orchestrator adopt` over a ledger in memory: what is written, said and counted."""

import json
from collections.abc import Collection, Mapping, Sequence
from io import StringIO
from typing import Any

import pytest

from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.cli.adopt import Adoption
from orchestrator.core.errors import TemporaryError
from orchestrator.core.ledger.guards import Timings
from orchestrator.core.ledger.ledger import UnreadableItems
from orchestrator.core.ledger.records import Record, tenant_key
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.core.secrets.redaction import SECRET_NAMES, Redactor
from orchestrator.testing import ManualClock
from orchestrator.wire.converter import JsonConverter
from tests.contracts.samples import tenant


class CountingLedger(InMemoryLedger):
    """Counts its requests, and fails at the one that the test names."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0
        self.fails_at: int | None = None
        self.unreadable: set[str] = set()

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        self._count({record.key for record in records})
        await super().commit(records, unchanged=unchanged)

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        self._count(set(keys))
        return await super().load(keys)

    def _count(self, keys: set[str]) -> None:
        self.requests += 1
        if self.requests == self.fails_at:
            raise TemporaryError("DynamoDB is away.")
        if unreadable := keys & self.unreadable:
            found = {key: self._items.get(key) for key in keys - unreadable}
            raise UnreadableItems(dict.fromkeys(unreadable, "it is newer"), found=found)


@pytest.fixture
def ledger() -> CountingLedger:
    return CountingLedger()


class Import:
    """One run of the command."""

    def __init__(self, ledger: InMemoryLedger, *, dry_run: bool = False) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self.transactions = Transactions(ledger=ledger, clock=ManualClock(), timings=Timings())
        self.adoption = Adoption(
            structure=JsonConverter(Redactor(SECRET_NAMES)),
            dry_run=dry_run,
            show=self.said.append,
            warn=self.warned.append,
        )

    async def of(self, *entries: Any) -> str:
        lines = [one if isinstance(one, str) else json.dumps(one) for one in entries]
        await self.adoption.run(StringIO("\n".join(lines)), self.transactions)
        return self.adoption.summary()


def entry(tenant_id: str, tier: str = "BASIC", state: str = "active") -> dict[str, str]:
    return {"id": tenant_id, "tier": tier, "state": state}


async def states(ledger: InMemoryLedger) -> dict[str, tuple[str | None, str | None]]:
    found = (await ledger.list_tenants()).items
    return {one.tenant_id: (one.state, one.tier) for one in found}


async def test_tenants_are_adopted_once(ledger: CountingLedger) -> None:
    """The same file again changes nothing, and says so of each."""
    entries = [entry("a"), entry("b", "PREMIUM", "deprovisioned")]
    assert await Import(ledger).of(*entries) == "2 adopted, 0 known before, 0 refused"
    assert await states(ledger) == {"a": ("active", "BASIC"), "b": ("deprovisioned", "PREMIUM")}
    again = Import(ledger)
    entries[1] = entry("b", "BASIC")
    assert await again.of(*entries) == "0 adopted, 2 known before, 0 refused"
    assert again.said == [
        "line 1: a is known, as active with tier BASIC",
        (
            "line 2: b is known, as deprovisioned with tier PREMIUM; "
            "not changed to active with tier BASIC"
        ),
    ]
    assert await states(ledger) == {"a": ("active", "BASIC"), "b": ("deprovisioned", "PREMIUM")}


async def test_a_tenant_without_a_state_is_known(ledger: CountingLedger) -> None:
    """Its first request may still wait."""
    await ledger.commit([tenant("a", state=None)], unchanged={})
    seen = Import(ledger)
    await seen.of(entry("a"))
    (line,) = seen.said
    assert line.startswith("line 1: a is known, as none without a tier; not changed to active")


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ("{", "it is not JSON: Expecting"),
        ('{"id": "", "tier": "BASIC", "state": "active"}', "1 to 512 bytes as its id"),
        ('{"id": "b", "tier": " ", "state": "active"}', "1 to 512 bytes as its tier"),
        ("7", "must be an object"),
        ('{"id": "b", "tier": "BASIC", "state": "aktiv"}', "$.state"),
        ('{"id": "b", "tier": "BASIC", "state": "deploying"}', "adopt it once that is over"),
        ('{"id": "b", "tier": "BASIC"}', "$.state"),
        ('{"id": 7, "tier": "BASIC", "state": "active"}', "$.id"),
        ('{"id": "b", "id": "c", "tier": "BASIC", "state": "active"}', "'id'"),
        ('{"id": "\\ud800", "tier": "BASIC", "state": "active"}', "surrogate"),
        ("x" * 70_000, "65536 characters"),
    ],
)
async def test_a_broken_line_stops_no_other(
    ledger: CountingLedger, broken: str, named: str
) -> None:
    """It is named by its number, with what is wrong."""
    seen = Import(ledger)
    assert await seen.of(entry("a"), broken, entry("c")) == "2 adopted, 0 known before, 1 refused"
    (warning,) = seen.warned
    assert warning.startswith("line 2: ")
    assert named in warning
    assert list(await states(ledger)) == ["a", "c"]


async def test_the_first_of_two_entries_for_a_tenant_counts(ledger: CountingLedger) -> None:
    """A second entry for a tenant is ignored, wherever it is in the file."""
    seen = Import(ledger)
    await seen.of(entry("a"), entry("b"), entry("a", "PREMIUM"))
    assert await states(ledger) == {"a": ("active", "BASIC"), "b": ("active", "BASIC")}
    assert len(seen.said) == 1


async def test_an_aborted_import_is_continued_by_the_same_command(ledger: CountingLedger) -> None:
    """What was written stays, and the rest follows."""
    entries = [entry(f"t-{n:03}") for n in range(250)]
    ledger.fails_at = 150
    with pytest.raises(TemporaryError):
        await Import(ledger).of(*entries)
    written = len((await ledger.list_tenants(limit=300)).items)
    assert 100 <= written < 250
    seen = await Import(ledger).of(*entries)
    assert seen == f"{250 - written} adopted, {written} known before, 0 refused"


async def test_a_dry_run_writes_nothing(ledger: CountingLedger) -> None:
    """It says what would be, with a request for a hundred tenants."""
    await Import(ledger).of(entry("t-007"))
    ledger.requests = 0
    seen = Import(ledger, dry_run=True)
    summary = await seen.of(*(entry(f"t-{n:03}") for n in range(150)))
    assert summary == "149 would be adopted, 1 known before, 0 refused"
    assert ledger.requests == 2
    assert list(await states(ledger)) == ["t-007"]


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_tenant_that_cannot_be_read_stops_no_other(
    ledger: CountingLedger, dry_run: bool
) -> None:
    """Another release wrote it; it stays as it is."""
    ledger.unreadable = {tenant_key("b")}
    seen = Import(ledger, dry_run=dry_run)
    adopted = "would be adopted" if dry_run else "adopted"
    summary = await seen.of(entry("a"), entry("b"), entry("c"))
    assert summary == f"2 {adopted}, 0 known before, 1 refused"
    assert "line 2: b" in seen.warned[0]


async def test_each_tenant_costs_one_request(ledger: CountingLedger) -> None:
    """A new one is expected, and a known one is part of the answer."""
    for _ in range(2):
        ledger.requests = 0
        await Import(ledger).of(*(entry(f"t-{n}") for n in range(20)))
        assert ledger.requests == 20
