"""Tenants that existed before the ledger: written once, and never over what the ledger has."""

import attrs
import pytest

from orchestrator.core.ledger.lifecycle import MOVES, TenantState
from orchestrator.core.ledger.records import TenantRecord, tenant_key
from orchestrator.core.ledger.tenant_adoption import ExistingTenant, adopt_tenant
from tests.desk import DEPROVISIONING, PROVISIONING, TENANT, Desk

ACTIVE = ExistingTenant(id=TENANT, tier="BASIC", state=TenantState.ACTIVE)


async def adopt(desk: Desk, tenant: ExistingTenant = ACTIVE) -> TenantRecord | None:
    return await desk.transactions.run(lambda snapshot: adopt_tenant(snapshot, tenant))


async def stored(desk: Desk) -> TenantRecord:
    found = (await desk.ledger.load([tenant_key(TENANT)]))[tenant_key(TENANT)]
    assert isinstance(found, TenantRecord)
    return found


async def test_an_unknown_tenant_gets_its_state_and_tier(desk: Desk) -> None:
    """It has the state and tier of the file, and no operation holds it."""
    assert await adopt(desk) is None
    found = await stored(desk)
    assert (found.state, found.tier, found.version) == (TenantState.ACTIVE, "BASIC", 1)
    assert found.operation_id is None


async def test_a_known_tenant_stays_as_it_is(desk: Desk) -> None:
    """Neither a second adoption nor one after an operation changes it, whatever the file says."""
    await adopt(desk)
    before = await stored(desk)
    other = attrs.evolve(ACTIVE, tier="PREMIUM", state=TenantState.DEPROVISIONED)
    assert await adopt(desk, other) == before
    assert await stored(desk) == before


async def test_a_tenant_that_only_had_a_request_is_known(desk: Desk) -> None:
    """A tenant whose first run is in progress isn't overwritten."""
    await desk.claimed(PROVISIONING, "a", key="k")
    before = await stored(desk)
    assert await adopt(desk) == before
    assert await stored(desk) == before


async def test_a_request_of_the_service_during_an_adoption_counts(desk: Desk) -> None:
    """A request that is claimed between the read and the write makes the tenant known."""

    async def first() -> None:
        await desk.claimed(DEPROVISIONING, "a", key="k")

    desk.ledger.before_commit = [first]
    known = await adopt(desk)
    assert known is not None
    assert known.state is TenantState.DEPROVISIONING
    assert await stored(desk) == known


@pytest.mark.parametrize("state", sorted({moves.during for moves in MOVES.values()}))
def test_a_state_that_needs_an_operation_is_refused(state: TenantState) -> None:
    """A state that only an operation can end is refused."""
    with pytest.raises(ValueError, match="adopt it once that is over"):
        ExistingTenant(id=TENANT, tier="BASIC", state=state)


@pytest.mark.parametrize("name", ["x", "x" * 512, "é" * 256])
def test_a_name_may_be_as_long_as_a_key_takes(name: str) -> None:
    """A name of up to 512 bytes is accepted."""
    assert attrs.evolve(ACTIVE, id=name, tier=name).id == name


@pytest.mark.parametrize("name", ["", " ", "x" * 513, "é" * 257])
def test_a_name_that_can_be_no_key_is_refused(name: str) -> None:
    """Empty, or longer than what a key of the ledger takes."""
    with pytest.raises(ValueError, match="512 bytes"):
        attrs.evolve(ACTIVE, id=name)
    with pytest.raises(ValueError, match="512 bytes"):
        attrs.evolve(ACTIVE, tier=name)
