"""Clean-ups: opened by the settlement of a failure, with the tenant's tier and registration."""

from typing import Any

import attrs
import pytest

from orchestrator.core.events.event_types import ENDS
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.lease import RunLease
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import OperationRecord, Progress, TenantRecord, run_key
from tests.desk import NOT_PROVISIONED, PROVISIONING, TENANT, Desk, follow_up, step
from tests.ledgers import find_due

#: What the clean-up's event names.
FAILED = "0"
CLEAN_UP = "TENANT_CLEAN_UP"
CLEANED_UP = "TENANT_CLEAN_UP_SUCCESS"


async def tenant(desk: Desk) -> TenantRecord:
    found = await desk.transactions.find_tenant(TENANT)
    assert found is not None
    return found


async def failed(desk: Desk, event_id: str = "a") -> RunLease:
    """A provisioning has failed, and its clean-up holds the tenant: the provisioning's lease."""
    opener = await desk.claimed(PROVISIONING, event_id, tier="PREMIUM", registration="r")
    await desk.finish(opener, desk.job(f"job of {event_id}"))
    outcome = await desk.claimed(NOT_PROVISIONED, f"end of {event_id}")
    clean_up = follow_up(CLEAN_UP, "clean", FAILED)
    await desk.finish(outcome, ending=ENDS[NOT_PROVISIONED], clean_up=clean_up)
    return opener


async def cleaning_up(desk: Desk, **options: Any) -> RunLease:
    """The clean-up's run is claimed."""
    body = {"tenantId": TENANT, "operationId": FAILED}
    return await desk.claimed(CLEAN_UP, "clean", body=body, **options)


async def clean_up_operation(desk: Desk) -> OperationRecord:
    state, holder = await desk.tenant()
    assert state is TenantState.CLEANING_UP
    found = await desk.transactions.find_operation(holder or "")
    assert found is not None
    return found


async def test_a_clean_up_is_of_the_tenants_tier(desk: Desk) -> None:
    """Its job is that of the tier that was provisioned."""
    await failed(desk)
    operation = await clean_up_operation(desk)
    assert (operation.kind, operation.tier, operation.start_number) == ("clean_up", "PREMIUM", 1)


async def test_a_clean_up_that_is_given_back_leaves_the_latest_request(desk: Desk) -> None:
    """It found no job to start: the tenant has failed, and its latest request is provisioning."""
    opener = await failed(desk)
    asked = (await tenant(desk)).asked
    assert asked is not None
    assert asked.operation_id == opener.run.operation_id
    await desk.fail(await cleaning_up(desk))
    assert await desk.tenant() == (TenantState.PROVISION_FAILED, None)
    assert (await tenant(desk)).asked == asked


async def test_a_clean_up_leaves_the_tenants_registration(desk: Desk) -> None:
    """A clean-up has no registration of its own, and the tenant's stays."""
    await failed(desk)
    await desk.finish(await cleaning_up(desk), desk.job("b-2"))
    await desk.end(CLEANED_UP, "cleaned")
    assert (await tenant(desk)).registration_id == "r"


@pytest.mark.parametrize("is_finished", [True, False])
async def test_a_clean_up_that_was_opened_before_has_its_next_start(
    desk: Desk, is_finished: bool
) -> None:
    """The failure was delivered again, and has ended the provisioning's next start, too: its
    clean-up is due at once, and starts another job."""
    await failed(desk)
    former = await cleaning_up(desk)
    await former.record(Progress(steps=(step(desk),), job=desk.job("b-2")))
    await (desk.finish(former) if is_finished else desk.hand_back(former, pause_s=0))
    await desk.end(CLEANED_UP, "cleaned")
    desk.turn(1)
    await failed(desk, "b")
    operation = await clean_up_operation(desk)
    assert operation.start_number == 2
    assert run_key(former.run.run_id) in await find_due(desk.ledger, before=desk.clock.now())
    again = await cleaning_up(desk, trigger=Trigger.SWEEP)
    assert again.start_key == operation.start_key != former.start_key
    assert (again.run.steps, again.run.job) == ({}, None)


async def test_a_clean_up_whose_run_is_in_progress_is_left_to_that(desk: Desk) -> None:
    """Its job has ended before the attempt has: the attempt keeps its lease, and the next one works
    under the new start number."""
    await failed(desk)
    former = await cleaning_up(desk)
    await former.record(Progress(job=desk.job("b-2")))
    await desk.end(CLEANED_UP, "cleaned")
    await failed(desk, "b")
    await former.renew()
    await desk.hand_back(former)
    again = await cleaning_up(desk)
    assert again.start_key == (await clean_up_operation(desk)).start_key != former.start_key


async def test_a_failure_that_is_cleaned_up_ends_its_operation(desk: Desk) -> None:
    """The clean-up is opened in the same write: it follows the failed start's trace, and keeps the
    starts before it."""
    opener = await desk.claimed(PROVISIONING, "z", key="z")
    traced = attrs.evolve(await desk.operation(of=opener), traceparent="00-1-2-01")
    await desk.ledger.put(traced)
    await desk.finish(opener, desk.job("b-0"))
    outcome = await desk.claimed(NOT_PROVISIONED, "end of z")
    clean_up = follow_up(CLEAN_UP, "clean", FAILED)
    await desk.finish(outcome, ending=ENDS[NOT_PROVISIONED], clean_up=clean_up)
    operation = await clean_up_operation(desk)
    over = await desk.operation(of=opener)
    assert (over.state, over.succeeded) == (OperationState.OVER, False)
    assert (operation.traceparent, operation.starts) == (traced.traceparent, ())
    await desk.finish(await cleaning_up(desk), desk.job("b-1"))
    await desk.end(CLEANED_UP, "cleaned")
    await failed(desk, "again")
    (start,) = (await clean_up_operation(desk)).starts
    assert (start.number, start.job, start.succeeded) == (1, desk.job("b-1"), True)
