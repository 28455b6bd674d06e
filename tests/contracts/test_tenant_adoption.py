"""Adopting tenants, over every ledger: at once, again, and beside the service."""

import asyncio

import attrs
import pytest

from orchestrator.core.ledger.guards import Timings
from orchestrator.core.ledger.ledger import Ledger
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.records import tenant_key
from orchestrator.core.ledger.tenant_adoption import ExistingTenant, adopt_tenant
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.testing import ManualClock
from tests.contracts.samples import kept, tenant

pytestmark = pytest.mark.asyncio(loop_scope="module")

MANY = [
    ExistingTenant(id=f"tenant-{n}", tier="BASIC", state=TenantState.PROVISIONED) for n in range(12)
]


async def adopt(ledger: Ledger, wanted: ExistingTenant) -> object:
    transactions = Transactions(ledger=ledger, clock=ManualClock(), timings=Timings())
    return await transactions.run(lambda snapshot: adopt_tenant(snapshot, wanted))


async def test_of_two_imports_at_once_each_tenant_is_written_once(ledger: Ledger) -> None:
    """One of them writes it, the other one gets what was written; a third writes nothing."""
    first = [adopt(ledger, one) for one in MANY]
    second = [adopt(ledger, attrs.evolve(one, tier="PREMIUM")) for one in MANY]
    results = await asyncio.gather(*first, *second)
    written = await ledger.load([tenant_key(one.id) for one in MANY])
    for n, one in enumerate(MANY):
        found = written[tenant_key(one.id)]
        assert found is not None
        assert found.version == 1
        assert sorted((results[n], results[n + len(MANY)]), key=lambda was: was is None) == [
            found,
            None,
        ]
    again = await asyncio.gather(*(adopt(ledger, one) for one in MANY))
    assert again == list(written.values())


async def test_a_tenant_of_the_ledger_is_not_overwritten(ledger: Ledger) -> None:
    """It keeps what it has, at whatever version it is."""
    standing = tenant("tenant-0", tier="PREMIUM", operation_id="operation-1")
    await ledger.commit([standing], unchanged={})
    assert await adopt(ledger, MANY[0]) == kept(standing)
    assert await ledger.load([standing.key]) == {standing.key: kept(standing)}


async def test_adopted_tenants_are_listed(ledger: Ledger) -> None:
    """They are listed like tenants whose operation the ledger has seen."""
    await asyncio.gather(*(adopt(ledger, one) for one in MANY[:2]))
    listed = await ledger.list_tenants(state=TenantState.PROVISIONED)
    assert [one.tenant_id for one in listed.items] == ["tenant-0", "tenant-1"]
