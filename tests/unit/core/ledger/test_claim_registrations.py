"""The registration that a request carries: whose it is, and which operation and tenant have it."""

import pytest

from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.claim_result import Duplicate, Refused
from orchestrator.core.ledger.records import registration_key
from tests.desk import DEPROVISIONING, PROVISIONED, PROVISIONING, TENANT, Desk


async def registered(desk: Desk, registration_id: str = "r") -> str | None:
    known = await desk.transactions.find_registration(registration_id)
    return known.tenant_id if known else None


async def test_a_request_registers_its_tenant(desk: Desk) -> None:
    """One write registers it with what it opens; the operation, then the tenant has it."""
    opener = await desk.claimed(PROVISIONING, "a", registration="r")
    assert desk.ledger.requests == ["commit"]
    assert await registered(desk) == TENANT
    assert (await desk.operation(of=opener)).registration_id == "r"
    await desk.finish(opener, desk.job("b-1"))
    await desk.end(PROVISIONED, "done")
    later = await desk.claimed(DEPROVISIONING, "z")
    assert (await desk.operation(of=later)).registration_id == "r"


async def test_of_two_tenants_with_one_registration_the_first_keeps_it(desk: Desk) -> None:
    """Of two processes at once the slower one is refused, and opens nothing."""
    other = desk.beside()
    desk.ledger.before_commit.append(
        lambda: other.claimed(PROVISIONING, "b", tenant_id="t-2", registration="r")
    )
    answer = await desk.claim(PROVISIONING, "a", registration="r")
    assert isinstance(answer, Refused)
    assert "is another tenant's" in answer.reason
    assert await registered(desk) == "t-2"
    assert await desk.tenant() == (None, None)


async def test_an_operator_may_insist_on_a_registration(desk: Desk) -> None:
    """It leads to the tenant of the replayed request from then on."""
    await desk.claimed(PROVISIONING, "b", tenant_id="t-2", registration="r")
    assert isinstance(await desk.claim(PROVISIONING, "a", registration="r"), Refused)
    plain = await desk.claim(PROVISIONING, "a", registration="r", trigger=Trigger.REPLAY)
    assert isinstance(plain, Refused)
    await desk.claimed(PROVISIONING, "a", registration="r", trigger=Trigger.FORCED_REPLAY)
    assert await registered(desk) == TENANT


async def test_an_operation_that_was_given_back_keeps_no_registration(desk: Desk) -> None:
    """Nothing was done to the tenant that has it: the next one gets it."""
    await desk.fail(await desk.claimed(PROVISIONING, "b", tenant_id="t-2", registration="r"))
    await desk.claimed(PROVISIONING, "a", registration="r")
    assert await registered(desk) == TENANT


async def test_a_request_that_joins_brings_its_registration(desk: Desk) -> None:
    """An operation without one gets it; another keeps its own, and both lead to the tenant."""
    opener = await desk.provision()
    for number in "12":
        answer = await desk.claim(PROVISIONING, f"join {number}", registration=f"r-{number}")
        assert isinstance(answer, Duplicate)
        assert await registered(desk, f"r-{number}") == TENANT
    assert (await desk.operation(of=opener)).registration_id == "r-1"


async def test_a_request_with_another_tenants_registration_does_not_join(desk: Desk) -> None:
    """It is refused, and the operation continues without it."""
    await desk.claimed(PROVISIONING, "b", tenant_id="t-2", registration="r")
    opener = await desk.provision()
    assert isinstance(await desk.claim(PROVISIONING, "join", registration="r"), Refused)
    assert (await desk.operation(of=opener)).registration_id is None
    assert await registered(desk) == "t-2"


@pytest.mark.parametrize("tenant_id", [None, TENANT])
async def test_a_result_of_a_registration_makes_no_tenant(
    desk: Desk, tenant_id: str | None
) -> None:
    """It is refused if the registration isn't in the ledger, or its tenant is unseen."""
    answer = await desk.claim(PROVISIONED, "told", tenant_id=tenant_id, registration="r")
    assert isinstance(answer, Refused)
    assert "No tenant with the registration 'r' is known" in answer.reason
    assert await desk.tenant() == (None, None)


async def test_a_registration_is_written_once(desk: Desk) -> None:
    """Another request of its tenant changes nothing of it."""
    await desk.provision()
    for event_id in "ab":
        answer = await desk.claim(PROVISIONING, event_id, registration="r")
        assert isinstance(answer, Duplicate)
    (known,) = (await desk.ledger.load([registration_key("r")])).values()
    assert known is not None
    assert known.version == 1
