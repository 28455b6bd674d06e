"""The tenant in the ledger, and the runs that wait for it."""

from orchestrator.core.ledger.records import TenantRecord, tenant_key
from tests.desk import TENANT, Desk


async def tenant(desk: Desk) -> TenantRecord:
    found = (await desk.ledger.load([tenant_key(TENANT)]))[tenant_key(TENANT)]
    assert isinstance(found, TenantRecord)
    return found


async def line(desk: Desk) -> list[str]:
    return [waiter.run_id for waiter in (await tenant(desk)).waiting]
