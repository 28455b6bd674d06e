"""Which operation an outcome ends, and what is stored of an outcome that ends none yet."""

import pytest

from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.claim_result import Deferred, Duplicate
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.record_parts import Awaited
from tests.desk import (
    DEPLOYMENT,
    NOT_PROVISIONED,
    PROVISIONED,
    PROVISIONING,
    TENANT,
    Desk,
    operation_id,
    run_id,
)

DEPLOYED = "TENANT_DEPLOYMENT_SUCCESS"


async def test_an_outcome_that_names_an_ended_operation_does_not_end_the_one_under_way(
    desk: Desk,
) -> None:
    """It is a duplicate of the outcome that ended the operation that it names."""
    await desk.finish(await desk.claimed(PROVISIONING, "a", key="first"), desk.job("b-1"))
    ended = await desk.end(NOT_PROVISIONED, "failed")
    await desk.finish(await desk.claimed(PROVISIONING, "b", key="second"), desk.job("b-2"))
    answer = await desk.claim(NOT_PROVISIONED, "again", operation=operation_id("first"))
    assert answer == Duplicate(ended.run.run_id)
    assert await desk.tenant() == (TenantState.PROVISIONING, operation_id("second"))


async def test_a_deployments_outcome_is_matched_by_its_own_request_key(desk: Desk) -> None:
    """A deployment's own key is compared, and not only that of the provisioning that it follows."""
    await desk.stand(TenantState.PROVISIONED)
    await desk.finish(await desk.claimed(DEPLOYMENT, "d", key="k"), desk.job("b-1"))
    attempt = await desk.claimed(DEPLOYED, "done", context="k")
    assert attempt.run.outcome_of == operation_id("k", Kind.DEPLOYMENT)


async def test_an_outcome_that_waits_names_the_run_and_the_operation(desk: Desk) -> None:
    """Both are in the run's item, for an operator who asks why it isn't finished."""
    opener = await desk.claimed(PROVISIONING, "a", key="k")
    assert isinstance(await desk.claim(PROVISIONED, "done"), Deferred)
    run = await desk.run(PROVISIONED, "done")
    assert run.waits_for == Awaited(operation_id=operation_id("k"), run_id=opener.run.run_id)


@pytest.mark.parametrize(
    ("event_type", "reported"), [(PROVISIONED, "success"), (NOT_PROVISIONED, "failure")]
)
async def test_a_self_report_that_the_builder_outranks_is_noted(
    desk: Desk, event_type: str, reported: str
) -> None:
    """The note has what the job reported, and that its builder decides."""
    await desk.provision()
    await desk.claim(event_type, "early", is_outranked=True)
    note = f"The job reports {reported}; it counts once the builder says that the job is over."
    assert (await desk.run(event_type, "early")).note == note


@pytest.mark.parametrize(("named", "key"), [("k", "k"), (None, run_id(PROVISIONED, "done"))])
async def test_the_outcome_of_an_unseen_tenant_opens_the_operation_that_its_key_names(
    desk: Desk, named: str | None, key: str
) -> None:
    """The operation's key is the event's request key, else the event's own."""
    attempt = await desk.claimed(PROVISIONED, "done", key=named)
    assert attempt.run.outcome_of == operation_id(key)


async def test_a_forced_replay_is_the_tenants_latest_request(desk: Desk) -> None:
    """A deprovisioning came in between: from now on follow-ups of the provisioning count again."""
    await desk.finish(await desk.claimed(PROVISIONING, "a"), desk.job("b-1"))
    await desk.end(PROVISIONED, "done")
    await desk.finish(await desk.claimed("TENANT_DEPROVISIONING", "b"), desk.job("b-2"))
    await desk.end("TENANT_DEPROVISIONING_SUCCESS", "gone")
    forced = await desk.claimed(PROVISIONING, "a", trigger=Trigger.FORCED_REPLAY)
    tenant = await desk.transactions.find_tenant(TENANT)
    assert tenant is not None
    assert tenant.asked is not None
    assert tenant.asked.operation_id == forced.run.operation_id
