"""Waiting runs, deferred reports and ends that meet: what one of them leaves for the next."""

from typing import Any

import attrs
import pytest

from orchestrator.core.events.event_types import ENDS
from orchestrator.core.ledger.breakdowns import Breakdown, count
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.claim_result import Deferred, Duplicate, NothingToDo, Refused
from orchestrator.core.ledger.lease import RunLease, claim_by_records
from orchestrator.core.ledger.record_parts import OperationState, Report
from orchestrator.core.ledger.records import Progress, RunStatus, TenantRecord, tenant_key
from orchestrator.core.ledger.report_attempt import ReportResult, begin_report, end_report
from orchestrator.core.ledger.settle import Settlement
from orchestrator.core.ledger.snapshot import Snapshot
from orchestrator.core.ledger.transitions import new_run
from tests.desk import (
    DEPLOYMENT,
    DEPROVISIONED,
    DEPROVISIONING,
    NOT_PROVISIONED,
    PROVISIONED,
    PROVISIONING,
    TENANT,
    Desk,
    run_id,
)
from tests.ledgers import find_due
from tests.unit.core.ledger.lines import line

DEPLOYED = "TENANT_DEPLOYMENT_SUCCESS"
DEFERRED_REPORT = Report(url="https://cp.example/webhook", body={"x": 1})


async def tenant(desk: Desk, tenant_id: str = TENANT) -> TenantRecord:
    found = (await desk.ledger.load([tenant_key(tenant_id)]))[tenant_key(tenant_id)]
    assert isinstance(found, TenantRecord)
    return found


async def provisioned_unreported(desk: Desk) -> RunLease:
    opener = await desk.claimed(PROVISIONING, "a", as_of=desk.clock.now())
    await desk.finish(opener, desk.job("b-1"))
    outcome = await desk.claimed(PROVISIONED, "done")
    await desk.finish(outcome, ending=ENDS[PROVISIONED], owed=DEFERRED_REPORT)
    return opener


async def ended_by_records(desk: Desk, event_type: str, event_id: str) -> None:
    breakdown = Breakdown(run_id=run_id(event_type, event_id), cause="KeyError")
    at_once = attrs.evolve(desk.timings, max_attempts=1)
    await desk.transactions.run(lambda snapshot: count(snapshot, breakdown, at_once))
    attempt = await claim_by_records(desk.transactions, run_id(event_type, event_id))
    assert attempt is not None
    await attempt.settle(Settlement(status=RunStatus.FAILED, ends_without_job=True))


async def test_forced_replay_of_a_provisioning_that_owes_its_report(desk: Desk) -> None:
    """A forced replay of it opens it again: the operation that holds the tenant is open."""
    opener = await provisioned_unreported(desk)
    assert (await tenant(desk)).owes == opener.run.operation_id
    again = await desk.claim(
        PROVISIONING, "a", trigger=Trigger.FORCED_REPLAY, as_of=desk.clock.now()
    )
    assert isinstance(again, RunLease)
    operation = await desk.operation(of=again)
    assert (await tenant(desk)).operation_id == operation.operation_id
    assert (operation.state, operation.start_number) == (OperationState.OPEN, 2)


async def test_a_run_that_ended_by_its_records_joins_ahead_of_no_other(desk: Desk) -> None:
    """It failed while it waited: delivered again it is the last, behind the deprovisioning."""
    opener = await desk.claimed(PROVISIONING, "a")
    assert isinstance(await desk.claim(PROVISIONING, "b"), Deferred)
    assert isinstance(await desk.claim(DEPROVISIONING, "c"), Deferred)
    await ended_by_records(desk, PROVISIONING, "b")
    await desk.finish(opener, desk.job("b-1"))
    # A run that isn't in the list and requests the same has to wait:
    assert isinstance(await desk.claim(PROVISIONING, "d"), Deferred)
    answer = await desk.claim(PROVISIONING, "b")
    assert isinstance(answer, Deferred), answer


async def test_a_run_that_ended_by_its_records_opens_after_those_that_wait(desk: Desk) -> None:
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
    """The tenant is free, and the first run has ended without opening anything: the next is due."""
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


async def test_a_deployment_that_names_another_tenants_operation_erases_nothing_of_it(
    desk: Desk,
) -> None:
    """t-2's deployment names t-1's provisioning: t-1's control plane gets its report all the
    same."""
    opener = await provisioned_unreported(desk)
    theirs = opener.run.operation_id
    body = {"tenantId": "t-2", "operationId": theirs}
    other = await desk.claimed(
        DEPLOYMENT, "evil", tenant_id="t-2", follows=theirs, key=theirs, body=body
    )
    await desk.finish(other, desk.job("b-9"))
    end = await desk.claimed(DEPLOYED, "evil-end", tenant_id="t-2")
    await desk.finish(end, ending=ENDS[DEPLOYED])
    operation = await desk.operation(of=opener)
    assert operation.credentials is not None
    assert operation.owed == DEFERRED_REPORT


async def test_an_open_provisioning_keeps_its_secret_whatever_anothers_deployment_names(
    desk: Desk,
) -> None:
    """The same, while t-1 is being provisioned: its control plane would never get a report."""
    opener = await desk.claimed(PROVISIONING, "a", as_of=desk.clock.now())
    await desk.finish(opener, desk.job("b-1"))
    theirs = opener.run.operation_id
    other = await desk.claimed(DEPLOYMENT, "evil", tenant_id="t-2", follows=theirs, key=theirs)
    await desk.finish(other, desk.job("b-9"))
    end = await desk.claimed(DEPLOYED, "evil-end", tenant_id="t-2")
    await desk.finish(end, ending=ENDS[DEPLOYED])
    assert (await desk.operation(of=opener)).credentials is not None


# --- a report that is left to the deployment ---------------------------------------------------


async def deployed(desk: Desk, opener: RunLease, **options: Any) -> RunLease:
    """The deployment that follows the provisioning is over."""
    follows = opener.run.operation_id
    deployment = await desk.claimed(DEPLOYMENT, "d", key=follows, follows=follows)
    await desk.finish(deployment, desk.job("b-2"))
    end = await desk.claimed(DEPLOYED, "d-end")
    await desk.finish(end, ending=ENDS[DEPLOYED], **options)
    return deployment


async def test_an_owed_report_is_due_once_another_request_opens(desk: Desk) -> None:
    """No deployment came: the provisioning is reported with its own credentials, once."""
    opener = await provisioned_unreported(desk)
    desk.turn(1)
    await desk.claimed(DEPROVISIONING, "b")
    operation = await desk.operation(of=opener)
    assert (operation.report, operation.owed) == (DEFERRED_REPORT, None)
    assert (operation.due_at, operation.credentials is None) == (desk.clock.now(), False)
    assert (await tenant(desk)).owes is None


async def test_a_deployment_that_follows_leaves_its_provisioning_owing(desk: Desk) -> None:
    """Once it ends, its report is for both; if it is given back, the report stays deferred."""
    opener = await provisioned_unreported(desk)
    follows = opener.run.operation_id
    await desk.fail(await desk.claimed(DEPLOYMENT, "d", key=follows, follows=follows))
    operation = await desk.operation(of=opener)
    assert (operation.report, operation.owed) == (None, DEFERRED_REPORT)
    assert (await tenant(desk)).owes == follows


@pytest.mark.parametrize(
    "changes", [{"owed": None}, {"credentials": None}, {"report": DEFERRED_REPORT}]
)
async def test_a_report_that_is_no_longer_owed_is_not_due(
    desk: Desk, changes: dict[str, Any]
) -> None:
    """It was erased meanwhile, it can't be signed, or another report is sent instead."""
    opener = await provisioned_unreported(desk)
    await desk.ledger.put(attrs.evolve(await desk.operation(of=opener), **changes))
    before = await desk.operation(of=opener)
    await desk.claimed(DEPROVISIONING, "b")
    assert await desk.operation(of=opener) == before


@pytest.mark.parametrize(("is_signed", "report"), [(False, None), (True, DEFERRED_REPORT)])
async def test_nothing_is_owed_without_credentials_or_beside_a_report(
    desk: Desk, is_signed: bool, report: Report | None
) -> None:
    """No report is deferred that could never be sent, or would be sent twice."""
    opener = await desk.claimed(PROVISIONING, "a", as_of=desk.clock.now() if is_signed else None)
    await desk.finish(opener, desk.job("b-1"))
    outcome = await desk.claimed(PROVISIONED, "done")
    await desk.finish(outcome, ending=ENDS[PROVISIONED], owed=DEFERRED_REPORT, report=report)
    operation = await desk.operation(of=opener)
    assert (operation.owed, operation.report) == (None, report)
    assert (await tenant(desk)).owes is None


async def test_a_deployment_that_ends_erases_the_credentials_it_has_used(desk: Desk) -> None:
    """They are erased also if another operation holds the tenant by then."""
    opener = await provisioned_unreported(desk)
    follows = opener.run.operation_id
    deployment = await desk.claimed(DEPLOYMENT, "d", key=follows, follows=follows)
    await desk.finish(deployment, desk.job("b-2"))
    end = await desk.claimed(DEPLOYED, "d-end")
    await desk.ledger.put(attrs.evolve(await tenant(desk), operation_id="another"))
    await desk.finish(end, ending=ENDS[DEPLOYED])
    operation = await desk.operation(of=opener)
    assert (operation.credentials, operation.owed) == (None, None)


async def test_a_report_that_is_due_keeps_its_credentials(desk: Desk) -> None:
    """A deprovisioning that was given back has made it due; then the deployment came after all."""
    opener = await provisioned_unreported(desk)
    await desk.fail(await desk.claimed(DEPROVISIONING, "b"))
    await deployed(desk, opener)
    operation = await desk.operation(of=opener)
    assert operation.report == DEFERRED_REPORT
    assert operation.credentials is not None


async def test_a_provisioning_that_is_opened_again_keeps_its_credentials(desk: Desk) -> None:
    """The earlier deployment's report is accepted only after that."""
    opener = await provisioned_unreported(desk)
    deployment = await deployed(desk, opener, report=DEFERRED_REPORT)
    await desk.claimed(PROVISIONING, "a", trigger=Trigger.FORCED_REPLAY, as_of=desk.later(1))
    wanted = deployment.run.operation_id
    posting = await desk.transactions.run(lambda snapshot: begin_report(snapshot, wanted))
    assert posting is not None
    accepted = ReportResult(note="Reported.", is_done=True, is_trouble=False)
    await desk.transactions.run(lambda snapshot: end_report(snapshot, posting, accepted))
    assert (await desk.operation(of=deployment)).credentials is None
    assert (await desk.operation(of=opener)).credentials is not None


@pytest.mark.parametrize(
    ("event_type", "tenant_id"), [(DEPLOYMENT, "t-2"), (DEPROVISIONING, TENANT)]
)
async def test_only_a_deployment_of_the_tenant_reports_with_the_provisionings_credentials(
    desk: Desk, event_type: str, tenant_id: str
) -> None:
    """Any sender may name an operation; that is no reason to sign a report with its secret."""
    follows = (await provisioned_unreported(desk)).run.operation_id
    other = await desk.claimed(event_type, "b", tenant_id=tenant_id, follows=follows)
    assert (await desk.operation(of=other)).credentials is None


# --- whose turn it is, and what is requested ----------------------------------------------------


async def test_equal_requests_join_past_each_other(desk: Desk) -> None:
    """The job is recorded, and another of them still has its place in the list."""
    opener = await desk.claimed(PROVISIONING, "a")
    assert isinstance(await desk.claim(PROVISIONING, "b"), Deferred)
    await opener.record(Progress(job=desk.job("b-1")))
    assert await desk.claim(PROVISIONING, "c") == Duplicate(opener.run.run_id)
    assert await line(desk) == [run_id(PROVISIONING, "b")]


@pytest.mark.parametrize("is_over", [False, True])
async def test_a_run_that_becomes_a_duplicate_leaves_the_waiting_list(
    desk: Desk, is_over: bool
) -> None:
    """It joins the operation under way, which records its time; or the operation that it waited for
    has ended."""
    opener = await desk.claimed(PROVISIONING, "a", key="k", sent_s=0)
    assert isinstance(await desk.claim(PROVISIONING, "b", key="k", sent_s=1), Deferred)
    await desk.finish(opener, None if is_over else desk.job("b-1"))
    if is_over:
        await desk.end(PROVISIONED, "done")
    assert isinstance(await desk.claim(PROVISIONING, "b", key="k", sent_s=1), Duplicate)
    assert await line(desk) == []


async def test_a_deployment_that_names_another_tenants_operation_is_a_request(desk: Desk) -> None:
    """It follows no operation of its own tenant: it isn't overtaken, and is the tenant's latest
    request."""
    theirs = await desk.claimed(PROVISIONING, "x", tenant_id="t-2")
    await desk.provision("a")
    await desk.end(PROVISIONED, "done")
    deployment = await desk.claimed(DEPLOYMENT, "d", follows=theirs.run.operation_id)
    asked = (await tenant(desk)).asked
    assert asked is not None
    assert asked.operation_id == deployment.run.operation_id


async def test_a_clean_up_is_no_request(desk: Desk) -> None:
    """A clean-up of any sender leaves the provisioning the tenant's latest request."""
    await desk.provision("a")
    await desk.end(NOT_PROVISIONED, "failed")
    before = (await tenant(desk)).asked
    await desk.claimed("TENANT_CLEAN_UP", "c")
    assert (await tenant(desk)).asked == before is not None


async def test_a_run_that_waits_again_does_not_write_its_tenant(desk: Desk) -> None:
    """It has its place: a claim that changes nothing of the tenant causes no conflict."""
    await desk.claimed(PROVISIONING, "a")
    await desk.claim(DEPROVISIONING, "b")
    before = await tenant(desk)
    desk.turn(1)
    assert isinstance(await desk.claim(DEPROVISIONING, "b"), Deferred)
    assert (await tenant(desk)).version == before.version


async def test_an_outcome_that_waited_ends_without_its_tenants_list(desk: Desk) -> None:
    """It had no place in it: the tenant isn't written."""
    opener = await desk.claimed(PROVISIONING, "a")
    assert isinstance(await desk.claim(PROVISIONED, "b", is_outranked=True), Deferred)
    await opener.record(Progress(job=desk.job("b-1")))
    before = await tenant(desk)
    assert isinstance(await desk.claim(PROVISIONED, "b", is_outranked=True), NothingToDo)
    assert (await tenant(desk)).version == before.version


async def test_a_request_that_was_queued_waits_as_any_other(desk: Desk) -> None:
    """The time at which its message would count as lost says nothing of its turn."""
    await desk.claimed(PROVISIONING, "a")
    request = desk.request(DEPROVISIONING, "b")
    new = new_run(request.event, TENANT, Snapshot(desk.clock.now()))
    queued = attrs.evolve(new, status=RunStatus.QUEUED, due_at=desk.later(3600))
    await desk.ledger.put(queued)
    answer = await desk.claim(DEPROVISIONING, "b")
    assert isinstance(answer, Deferred)
    assert (answer.pause_s, (await desk.run(DEPROVISIONING, "b")).waits) == (15.0, 1)


async def test_a_refusal_that_needs_no_tenant_reads_none(desk: Desk) -> None:
    """A request that contradicts what it says elsewhere costs one request to the ledger."""
    assert isinstance(await desk.claim(PROVISIONING, "a", contradiction="two tenants"), Refused)
    assert desk.ledger.requests == ["commit"]


# --- which run is made due, and which ones count -------------------------------------------------


async def test_no_waiting_run_is_made_due_while_the_tenant_is_held(desk: Desk) -> None:
    """A waiting run is refused: the next one's turn comes no sooner."""
    opener = await desk.claimed(PROVISIONING, "a", tier="BASIC")
    await desk.claim(PROVISIONING, "b", tier="PREMIUM")
    await desk.claim(DEPROVISIONING, "c")
    await opener.record(Progress(job=desk.job("b-1")))
    before = await desk.run(DEPROVISIONING, "c")
    assert isinstance(await desk.claim(PROVISIONING, "b", tier="PREMIUM"), Refused)
    assert await desk.run(DEPROVISIONING, "c") == before


@pytest.mark.parametrize(
    ("changes", "passed_s"), [({"status": RunStatus.RUNNING}, 0), ({}, 15), ({}, 20)]
)
async def test_a_run_that_is_due_or_running_is_not_made_due_again(
    desk: Desk, changes: dict[str, Any], passed_s: float
) -> None:
    """The sweep finds a due run anyway, and an attempt holds a running one."""
    await desk.provision("a")
    await desk.claim(DEPROVISIONING, "b")
    await desk.ledger.put(attrs.evolve(await desk.run(DEPROVISIONING, "b"), **changes))
    desk.turn(passed_s)
    before = await desk.run(DEPROVISIONING, "b")
    await desk.end(PROVISIONED, "done")
    assert await desk.run(DEPROVISIONING, "b") == before


async def test_a_running_run_keeps_its_place(desk: Desk) -> None:
    """Its claim may yet open the tenant's next operation: a newcomer waits behind it."""
    await desk.provision("a")
    await desk.claim(DEPROVISIONING, "b")
    running = attrs.evolve(await desk.run(DEPROVISIONING, "b"), status=RunStatus.RUNNING)
    await desk.ledger.put(running)
    await desk.end(PROVISIONED, "done")
    assert isinstance(await desk.claim(DEPLOYMENT, "c"), Deferred)


async def test_a_run_that_waits_again_drops_finished_runs_before_it(desk: Desk) -> None:
    """It has read that they no longer wait, and keeps its own place."""
    await desk.provision("a")
    for event_id in "bc":
        await desk.claim(DEPROVISIONING, event_id)
    over = attrs.evolve(await desk.run(DEPROVISIONING, "b"), status=RunStatus.FAILED, due_at=None)
    await desk.ledger.put(over)
    assert isinstance(await desk.claim(DEPROVISIONING, "c"), Deferred)
    assert await line(desk) == [run_id(DEPROVISIONING, "c")]
