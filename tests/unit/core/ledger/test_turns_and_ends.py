"""Turns, debts and ends that meet: what one of them leaves behind for the next."""

import pytest

from orchestrator.core.events.event_types import ENDS
from orchestrator.core.ledger.breakdowns import Breakdown, count
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.claim_result import Deferred
from orchestrator.core.ledger.lease import RunLease, claim_by_records
from orchestrator.core.ledger.records import (
    OperationState,
    Report,
    RunStatus,
    TenantRecord,
    tenant_key,
)
from orchestrator.core.ledger.settle import Settlement
from tests.desk import (
    DEPLOYMENT,
    DEPROVISIONED,
    DEPROVISIONING,
    PROVISIONED,
    PROVISIONING,
    TENANT,
    Desk,
    run_id,
)
from tests.ledgers import find_due

OWED = Report(url="https://cp.example/webhook", body={"x": 1})


async def tenant(desk: Desk, tenant_id: str = TENANT) -> TenantRecord:
    found = (await desk.ledger.load([tenant_key(tenant_id)]))[tenant_key(tenant_id)]
    assert isinstance(found, TenantRecord)
    return found


async def provisioned_owing(desk: Desk) -> RunLease:
    opener = await desk.claimed(PROVISIONING, "a", as_of=desk.clock.now())
    await desk.finish(opener, desk.job("b-1"))
    outcome = await desk.claimed(PROVISIONED, "done")
    await desk.finish(outcome, ending=ENDS[PROVISIONED], owed=OWED)
    return opener


async def ended_by_records(desk: Desk, event_type: str, event_id: str) -> None:
    breakdown = Breakdown(run_id=run_id(event_type, event_id), cause="KeyError")
    await desk.transactions.run(lambda snapshot: count(snapshot, breakdown, 1, desk.timings))
    attempt = await claim_by_records(desk.transactions, run_id(event_type, event_id))
    assert attempt is not None
    await attempt.settle(Settlement(status=RunStatus.FAILED, ends_without_job=True))


async def test_forced_replay_of_a_provisioning_that_owes_its_report(desk: Desk) -> None:
    """A forced replay of it opens it again: the operation that holds the tenant is open."""
    opener = await provisioned_owing(desk)
    assert (await tenant(desk)).owes == opener.run.operation_id
    again = await desk.claim(
        PROVISIONING, "a", trigger=Trigger.FORCED_REPLAY, as_of=desk.clock.now()
    )
    assert isinstance(again, RunLease)
    operation = await desk.operation(of=again)
    assert (await tenant(desk)).operation_id == operation.operation_id
    assert (operation.state, operation.start_number) == (OperationState.OPEN, 2)


async def test_who_was_ended_by_the_records_joins_past_nobody(desk: Desk) -> None:
    """It failed while it waited: delivered again it is the last, behind the deprovisioning."""
    opener = await desk.claimed(PROVISIONING, "a")
    assert isinstance(await desk.claim(PROVISIONING, "b"), Deferred)
    assert isinstance(await desk.claim(DEPROVISIONING, "c"), Deferred)
    await ended_by_records(desk, PROVISIONING, "b")
    await desk.finish(opener, desk.job("b-1"))
    # A run that isn't in the list and asks for the same has to wait:
    assert isinstance(await desk.claim(PROVISIONING, "d"), Deferred)
    answer = await desk.claim(PROVISIONING, "b")
    assert isinstance(answer, Deferred), answer


async def test_who_was_ended_by_the_records_does_not_open_before_those_behind(desk: Desk) -> None:
    """The tenant is free and c waits for it: b, delivered again, is the last."""
    await desk.provision("a")
    assert isinstance(await desk.claim(DEPROVISIONING, "b"), Deferred)
    assert isinstance(await desk.claim(DEPLOYMENT, "c"), Deferred)
    await desk.end(PROVISIONED, "done")
    await ended_by_records(desk, DEPROVISIONING, "b")
    answer = await desk.claim(DEPROVISIONING, "b")
    assert isinstance(answer, Deferred), "b had the tenant before c"


@pytest.mark.parametrize("waiting", [1, 5])
async def test_the_next_is_due_at_once_when_the_first_is_refused(desk: Desk, waiting: int) -> None:
    """The tenant is free, whoever was first is over without opening anything: the next is due."""
    await desk.provision("a")
    same = [f"c{n}" for n in range(waiting)]
    await desk.claim(DEPROVISIONING, "b")
    for one in (*same, "last"):
        await desk.claim(PROVISIONING if one != "last" else DEPROVISIONING, one)
    for _ in range(7):  # they wait for hours
        desk.turn(300)
        await desk.claim(DEPROVISIONING, "b", trigger=Trigger.SWEEP)
        for one in same:
            await desk.claim(PROVISIONING, one, trigger=Trigger.SWEEP)
        await desk.claim(DEPROVISIONING, "last", trigger=Trigger.SWEEP)
    await desk.end(PROVISIONED, "done")
    b = await desk.claimed(DEPROVISIONING, "b", trigger=Trigger.SWEEP)
    await desk.finish(b, desk.job("b-2"))
    await desk.end(DEPROVISIONED, "gone")
    c0 = await desk.claimed(PROVISIONING, "c0", trigger=Trigger.SWEEP)
    await desk.finish(c0, desk.job("b-3"))
    await desk.end(PROVISIONED, "done2")
    # The others are refused, one after the other, by sweeps as the service makes them.
    waited = 0
    while (await desk.run(DEPROVISIONING, "last")).status is RunStatus.RETRY and waited < 3600:
        for key in await find_due(desk.ledger, before=desk.clock.now()):
            for one in same:
                if key == f"RUN#{run_id(PROVISIONING, one)}":
                    await desk.claim(PROVISIONING, one, trigger=Trigger.SWEEP)
            if key == f"RUN#{run_id(DEPROVISIONING, 'last')}":
                await desk.claim(DEPROVISIONING, "last", trigger=Trigger.SWEEP)
        desk.turn(1)
        waited += 1
    assert waited <= 60, f"the tenant stood free for {waited} s"


async def test_a_deployment_that_names_anothers_operation_erases_nothing_of_it(desk: Desk) -> None:
    """t-2's deployment names t-1's provisioning: t-1's control plane is told all the same."""
    opener = await provisioned_owing(desk)
    theirs = opener.run.operation_id
    body = {"tenantId": "t-2", "operationId": theirs}
    other = await desk.claimed(
        DEPLOYMENT, "evil", tenant_id="t-2", follows=theirs, key=theirs, body=body
    )
    await desk.finish(other, desk.job("b-9"))
    end = await desk.claimed("TENANT_DEPLOYMENT_SUCCESS", "evil-end", tenant_id="t-2")
    await desk.finish(end, ending=ENDS["TENANT_DEPLOYMENT_SUCCESS"])
    operation = await desk.operation(of=opener)
    assert operation.credentials is not None
    assert operation.owed == OWED


async def test_an_open_provisioning_keeps_its_secret_whatever_anothers_deployment_names(
    desk: Desk,
) -> None:
    """The same, while t-1 is being provisioned: the control plane would never be told."""
    opener = await desk.claimed(PROVISIONING, "a", as_of=desk.clock.now())
    await desk.finish(opener, desk.job("b-1"))
    theirs = opener.run.operation_id
    other = await desk.claimed(DEPLOYMENT, "evil", tenant_id="t-2", follows=theirs, key=theirs)
    await desk.finish(other, desk.job("b-9"))
    end = await desk.claimed("TENANT_DEPLOYMENT_SUCCESS", "evil-end", tenant_id="t-2")
    await desk.finish(end, ending=ENDS["TENANT_DEPLOYMENT_SUCCESS"])
    assert (await desk.operation(of=opener)).credentials is not None
