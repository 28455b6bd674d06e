"""What an event's claim requests: for which tenant, and which operation it opens or ends."""

from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from orchestrator.adapters.notifications import BUILT_IN_NOTIFICATIONS
from orchestrator.core.dispatch.correlate import as_kept, correlate
from orchestrator.core.events.event import Event
from orchestrator.core.identifiers import START_KEY, start_key
from orchestrator.core.jobs.builder import Builder
from orchestrator.core.ledger.claim_request import ClaimRequest, ReportedOutcome, Trigger
from orchestrator.core.secrets.redaction import SECRET_NAMES, Redactor
from orchestrator.testing import InMemoryBuilder
from tests.desk import DEPLOYMENT, ORDER, PROVISIONED, PROVISIONING, Desk, event
from tests.unit.core.jobs.watching import Bench, OnlyStarts

#: How a build of CodeBuild names itself.
BUILD = {"CODEBUILD_BUILD_ID": "up:1"}


async def read(
    desk: Desk,
    event_type: str,
    body: Mapping[str, Any],
    *,
    ends_start: str | None = None,
    builder: Builder | None = None,
) -> ClaimRequest:
    sent: Event[Any] = attrs.evolve(event(event_type, "a", body=body), ends_start=ends_start)
    return await correlate(
        sent,
        Trigger.DELIVERY,
        None,
        watcher=Bench(desk, {"CODE_BUILD": builder or OnlyStarts()}).watcher,
        notifications=BUILT_IN_NOTIFICATIONS,
        secrets=Redactor(SECRET_NAMES),
    )


async def read_outcome(desk: Desk, body: Mapping[str, Any], **options: Any) -> ReportedOutcome:
    outcome = (await read(desk, PROVISIONED, body, **options)).outcome
    assert outcome is not None
    return outcome


async def provisioning(desk: Desk, tenant_id: str, job_id: str) -> str:
    """The start key of the tenant's provisioning, which is done by that build."""
    opener = await desk.claimed(PROVISIONING, f"of {tenant_id}", tenant_id=tenant_id)
    await desk.finish(opener, desk.job(job_id, builder="CODE_BUILD"))
    return opener.start_key


async def test_a_report_is_of_the_job_that_it_names(desk: Desk) -> None:
    """An event of our own ends what its id says, whatever else is in its body."""
    outcome = await read_outcome(desk, {"tenantId": "t-1", **BUILD})
    assert outcome.job == ("CODE_BUILD", "up:1")
    own = await read_outcome(desk, {"tenantId": "t-1", **BUILD}, ends_start="x-1")
    assert own.job is None


@pytest.mark.parametrize("is_own", [True, False])
async def test_the_builders_that_can_describe_jobs_outrank_a_report(
    desk: Desk, is_own: bool
) -> None:
    """A builder's answer counts more than a report, unless the event was made of that answer."""
    ends_start = "x-1" if is_own else None
    for builder, names in ((InMemoryBuilder("CODE_BUILD"), {"CODE_BUILD"}), (OnlyStarts(), set())):
        outcome = await read_outcome(
            desk, {"tenantId": "t-1"}, builder=builder, ends_start=ends_start
        )
        assert outcome.outranked_by == (set() if is_own else names)


@pytest.mark.parametrize("named", ["t-1", "t-2", None])
async def test_a_report_is_about_the_tenant_of_its_job(desk: Desk, named: str | None) -> None:
    """It is its job's tenant, whichever tenant and whichever start the report names."""
    await provisioning(desk, "t-1", "up:1")
    other = await provisioning(desk, "t-2", "up:2")
    body = {"tenantId": named, START_KEY: other, **BUILD}
    assert (await read(desk, PROVISIONED, body)).tenant_id == "t-1"


@pytest.mark.parametrize(("is_start", "tenant_id"), [(True, "t-1"), (False, "t-2")])
async def test_only_a_start_key_outranks_the_tenant_that_is_named(
    desk: Desk, is_start: bool, tenant_id: str
) -> None:
    """Only a job was given it; an operation's id alone is known to others, too."""
    key = await provisioning(desk, "t-1", "up:1")
    operation_id = key.rpartition("-")[0]
    named = {START_KEY: key} if is_start else {"operationId": operation_id}
    assert (await read(desk, PROVISIONED, {"tenantId": "t-2", **named})).tenant_id == tenant_id
    assert (await read(desk, PROVISIONED, named)).tenant_id == "t-1"


@pytest.mark.parametrize(("operation", "is_followed"), [("a" * 40, True), ("order-7", False)])
async def test_a_request_follows_an_operation_only_by_its_id(
    desk: Desk, operation: str, is_followed: bool
) -> None:
    """The sender's own names of operations may be anything."""
    request = await read(desk, DEPLOYMENT, {"tenantId": "t-1", "operationId": operation})
    assert request.follows == (operation if is_followed else None)


@pytest.mark.parametrize("event_type", [PROVISIONING, PROVISIONED, ORDER])
async def test_only_a_request_registers_its_tenant(desk: Desk, event_type: str) -> None:
    """Anything else may name a registration that isn't its tenant's."""
    body = {"tenantId": "t-1", "tenantRegistrationId": "r"}
    request = await read(desk, event_type, body)
    assert request.registration_id == ("r" if event_type == PROVISIONING else None)


@pytest.mark.parametrize("is_own", [True, False])
def test_only_an_event_of_our_own_describes_the_job_that_has_ended(is_own: bool) -> None:
    """A report is kept without such a description, and without its secrets."""
    body = {"tenantId": "t-1", "DB_PASSWORD": "hunter2", "endedJob": {"id": "b-1"}}
    outcome = attrs.evolve(
        event(PROVISIONED, "a", body=body), ends_start=start_key("x", 1) if is_own else None
    )
    kept = as_kept(outcome, Redactor(SECRET_NAMES))
    assert ("endedJob" in kept.body) is is_own
    assert kept.raw == kept.body
    assert "hunter2" not in repr(kept)
    order = event(ORDER, "a", body=body)
    assert as_kept(order, Redactor(SECRET_NAMES)) is order
