"""The named conditions, clause by clause: each table has a row that only its clause decides."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from orchestrator.core.events.event_types import Kind
from orchestrator.core.identifiers import own_operation_id
from orchestrator.core.ledger.guards import (
    Timings,
    asks_otherwise,
    ends_unknown,
    has_begun_anew,
    is_claimable,
    is_due,
    is_free,
    is_gone_for_good,
    is_lease_over,
    is_mine,
    is_none_certain,
    is_opened_since,
    is_overdue,
    is_registered_elsewhere,
    is_secured,
    is_stray,
    is_unseen,
    is_what_was_asked,
    last_possible_send,
    may_end_without_job,
    may_open,
    may_record,
    may_send_report,
    works_on,
)
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.possible_start import PossibleStart
from orchestrator.core.ledger.record_parts import Asked, Job, OperationState, Report
from orchestrator.core.ledger.records import (
    OperationRecord,
    RegistrationRecord,
    RunRecord,
    RunStatus,
    TenantRecord,
)

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
TIMINGS = Timings(lease_s=60, skew_s=2, listing_lag_s=60)
JOB = Job(id="b-1", builder="IN_MEMORY", job_identifier="standard")
OTHER_JOB = attrs.evolve(JOB, id="b-2")
RUN = RunRecord(
    run_id="run-1",
    request_key="run-1",
    event_type="TENANT_PROVISIONING",
    source="control-plane",
    event_id="event-1",
    event_time=NOW,
    body_digest="",
    tenant_id="t-1",
    status=RunStatus.RUNNING,
    attempt=2,
    first_seen=NOW,
    started_at=NOW,
    lease_until=NOW,
    operation_id="op-1",
    start_number=3,
)
OPERATION = OperationRecord(
    operation_id="op-1",
    tenant_id="t-1",
    kind=Kind.PROVISIONING,
    request_key="run-1",
    opener="run-1",
    state=OperationState.OPEN,
    start_number=3,
    opened_at=NOW,
)
TENANT = TenantRecord(tenant_id="t-1", state=TenantState.PROVISIONED, changed_at=NOW)


def possible(until: datetime | None) -> PossibleStart | None:
    return None if until is None else PossibleStart(until)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def run(**changes: Any) -> RunRecord:
    return attrs.evolve(RUN, **changes)


def operation(**changes: Any) -> OperationRecord:
    return attrs.evolve(OPERATION, **changes)


@pytest.mark.parametrize(
    ("changes", "attempt", "mine"),
    [
        ({}, 2, True),
        ({}, 1, False),
        ({}, 3, False),
        ({"status": RunStatus.RETRY}, 2, False),
        ({"status": RunStatus.SUCCEEDED}, 2, False),
    ],
)
def test_a_run_is_mine_while_it_runs_under_my_attempt(
    changes: dict[str, Any], attempt: int, mine: bool
) -> None:
    """Neither an earlier attempt nor one that has ended may write."""
    assert is_mine(run(**changes), attempt) is mine


@pytest.mark.parametrize(
    ("lease_until", "over"),
    [(NOW, False), (at(-1.999), False), (at(-2), True), (at(-3), True), (None, True)],
)
def test_a_lease_expires_only_by_the_slowest_clock(
    lease_until: datetime | None, over: bool
) -> None:
    """Two clocks may be `skew_s` apart; a run without a lease is claimable."""
    assert is_lease_over(run(lease_until=lease_until), NOW, TIMINGS) is over


@pytest.mark.parametrize("status", list(RunStatus))
@pytest.mark.parametrize("lease_until", [at(60), at(-2)])
def test_only_a_running_run_under_a_live_lease_is_not_claimable(
    status: RunStatus, lease_until: datetime
) -> None:
    """A finished, waiting or handed-back run may be claimed, and so may one whose lease has
    expired."""
    is_held = status is RunStatus.RUNNING and lease_until > NOW
    claimable = is_claimable(run(status=status, lease_until=lease_until), NOW, TIMINGS)
    assert claimable is not is_held


@pytest.mark.parametrize(
    ("due_at", "due"), [(None, False), (at(0.001), False), (NOW, True), (at(-1), True)]
)
def test_a_run_is_due_from_its_moment_on(due_at: datetime | None, due: bool) -> None:
    """A run is due from its due time on, and never if it has none."""
    assert is_due(run(due_at=due_at), NOW) is due


@pytest.mark.parametrize(
    ("status", "lease_until", "possible_until", "last"),
    [
        # An attempt that died may have sent one up to its lease's end.
        (RunStatus.RUNNING, at(5), None, at(5)),
        (RunStatus.RUNNING, at(5), at(3), at(5)),
        (RunStatus.RUNNING, at(5), at(7), at(7)),
        (RunStatus.RUNNING, None, None, None),
        # One that ended said itself what may be out.
        (RunStatus.RETRY, at(5), None, None),
        (RunStatus.RETRY, at(5), at(3), at(3)),
        (RunStatus.FAILED, None, at(3), at(3)),
    ],
)
def test_the_last_possible_send_of_a_run(
    status: RunStatus,
    lease_until: datetime | None,
    possible_until: datetime | None,
    last: datetime | None,
) -> None:
    """What was possible stays possible, and an attempt that is taken over adds its lease."""
    taken = run(status=status, lease_until=lease_until, possible_until=possible_until)
    assert last_possible_send(taken) == last


@pytest.mark.parametrize(
    ("possible_until", "certain"),
    [(None, True), (NOW, False), (at(-61.999), False), (at(-62), True), (at(5), False)],
)
def test_none_is_certain_once_a_listing_would_show_it(
    possible_until: datetime | None, certain: bool
) -> None:
    """A builder lists what it made within `listing_lag_s`, and clocks differ by `skew_s`."""
    assert is_none_certain(possible(possible_until), NOW, TIMINGS) is certain


@pytest.mark.parametrize(
    ("tenant", "kind", "may"),
    [
        (None, Kind.PROVISIONING, True),
        (attrs.evolve(TENANT, state=None), Kind.PROVISIONING, True),
        (TENANT, Kind.PROVISIONING, False),
        (TENANT, Kind.DEPLOYMENT, True),
        (None, Kind.CLEAN_UP, False),
    ],
)
def test_an_operation_opens_where_the_table_lets_it(
    tenant: TenantRecord | None, kind: Kind, may: bool
) -> None:
    """A tenant without a record counts as one without a state; `test_claim_outcome` has all."""
    assert may_open(kind, tenant) is may


@pytest.mark.parametrize(
    ("tenant", "free", "unseen"),
    [
        (None, True, True),
        (TENANT, True, False),
        (attrs.evolve(TENANT, operation_id="op-1"), False, False),
        (attrs.evolve(TENANT, state=None), True, True),
        (attrs.evolve(TENANT, state=None, operation_id="op-1"), False, False),
    ],
)
def test_a_tenant_is_free_or_unseen(tenant: TenantRecord | None, free: bool, unseen: bool) -> None:
    """Free: no operation holds it. Unseen: besides, it has no state."""
    assert is_free(tenant) is free
    assert is_unseen(tenant) is unseen


@pytest.mark.parametrize(
    ("changes", "secured"),
    [
        ({}, False),
        ({"job": JOB}, True),
        ({"state": OperationState.OVER}, True),
        ({"state": OperationState.GIVEN_BACK}, False),
    ],
)
def test_an_operation_is_secured_by_its_job_or_its_end(
    changes: dict[str, Any], secured: bool
) -> None:
    """Before it has one of them, no other request may be answered as its duplicate."""
    assert is_secured(operation(**changes)) is secured


@pytest.mark.parametrize(
    ("changes", "number", "may"),
    [
        ({}, 3, True),
        ({"job": JOB}, 3, True),
        ({"job": OTHER_JOB}, 3, False),
        ({}, 2, False),
        ({}, 4, False),
        ({"job": JOB}, 2, False),
        ({"state": OperationState.OVER}, 3, False),
        ({"state": OperationState.GIVEN_BACK}, 3, False),
        ({"state": OperationState.OVER, "job": JOB}, 3, True),
        ({"state": OperationState.OVER, "job": JOB}, 2, False),
        ({"state": OperationState.OVER, "job": OTHER_JOB}, 3, False),
    ],
)
def test_a_job_is_recorded_by_the_start_that_made_it(
    changes: dict[str, Any], number: int, may: bool
) -> None:
    """Open, at that start, and with no other job; the same job again is accepted at any time."""
    assert may_record(operation(**changes), number, JOB) is may


@pytest.mark.parametrize(
    ("of_operation", "of_run", "works"),
    [
        ({}, {}, True),
        ({"job": JOB}, {}, True),
        ({"state": OperationState.OVER}, {}, False),
        ({"state": OperationState.GIVEN_BACK}, {}, False),
        ({"opener": "run-2"}, {}, False),
        ({"start_number": 4}, {}, False),
        ({}, {"start_number": 2}, False),
    ],
)
def test_a_run_works_on_the_operation_that_it_opened(
    of_operation: dict[str, Any], of_run: dict[str, Any], works: bool
) -> None:
    """The operation must be open, and at the start that the run knows."""
    assert works_on(operation(**of_operation), run(**of_run)) is works


_POSSIBLE = at(-600)


@pytest.mark.parametrize(
    ("of_operation", "of_run", "possible_until", "may"),
    [
        ({}, {}, None, True),
        ({"state": OperationState.OVER}, {}, None, False),
        ({"state": OperationState.GIVEN_BACK}, {}, None, False),
        ({"opener": "run-2"}, {}, None, False),
        ({}, {"run_id": "run-2"}, None, False),
        ({"start_number": 4}, {}, None, False),
        ({}, {"start_number": 2}, None, False),
        ({"job": JOB}, {}, None, False),
        # However long ago: the attempt must have looked the start up.
        ({}, {}, _POSSIBLE, False),
    ],
)
def test_an_operation_may_end_without_a_job_by_its_opener_when_no_start_is_possible(
    of_operation: dict[str, Any],
    of_run: dict[str, Any],
    possible_until: datetime | None,
    may: bool,
) -> None:
    """Open, this run's, at this start, without a job, and no start possible."""
    assert (
        may_end_without_job(operation(**of_operation), run(**of_run), possible(possible_until))
        is may
    )


@pytest.mark.parametrize("ask", [is_claimable, is_lease_over])
def test_a_lease_without_allowance_ends_on_time(
    ask: Callable[[RunRecord, datetime, Timings], bool],
) -> None:
    """The allowed clock skew is that of the timings and no other."""
    timings = attrs.evolve(TIMINGS, skew_s=0)
    assert ask(run(lease_until=at(0.001)), NOW, timings) is False
    assert ask(run(lease_until=NOW), NOW, timings) is True


@pytest.mark.parametrize(
    ("changes", "number", "stray"),
    [
        ({}, 3, False),
        ({"job": JOB}, 3, False),
        ({"job": OTHER_JOB}, 3, True),
        ({"job": attrs.evolve(JOB, builder="OTHER")}, 3, True),
        ({"job": JOB, "state": OperationState.OVER}, 3, True),
        ({"state": OperationState.OVER}, 3, True),
        ({"state": OperationState.GIVEN_BACK}, 3, True),
        ({"job": JOB, "outcome": "run-9"}, 3, True),
        ({"job": JOB}, 2, True),
        ({}, 2, True),
        ({}, 4, False),
        ({"job": OTHER_JOB, "state": OperationState.OVER}, 4, False),
    ],
)
def test_a_job_is_orphaned_once_its_operation_can_never_have_it(
    changes: dict[str, Any], number: int, stray: bool
) -> None:
    """A start number beyond the operation's may not be written yet: its job isn't orphaned."""
    assert is_stray(operation(**changes), number, JOB) is stray


@pytest.mark.parametrize(
    ("since_s", "overdue"), [(None, False), (-7199, False), (-7200, True), (-9000, True)]
)
def test_a_job_is_overdue_after_its_deadline(since_s: float | None, overdue: bool) -> None:
    """The deadline counts from when the job was recorded; without a job there is none."""
    since = None if since_s is None else NOW + timedelta(seconds=since_s)
    operation = attrs.evolve(OPERATION, job_since=since)
    assert is_overdue(operation, NOW, Timings(deadline_s=7200)) is overdue


@pytest.mark.parametrize(("since_s", "gone"), [(None, False), (-61, False), (-62, True)])
def test_an_unknown_job_is_gone_once_its_builder_must_list_it(
    since_s: float | None, gone: bool
) -> None:
    """A builder may not list a job yet that it has just started, and the clocks may differ."""
    since = None if since_s is None else NOW + timedelta(seconds=since_s)
    operation = attrs.evolve(OPERATION, job_since=since)
    assert is_gone_for_good(operation, NOW, TIMINGS) is gone


@pytest.mark.parametrize(
    ("changes", "since_s", "ends"),
    [
        ({}, -62, False),
        ({}, -7199, False),
        ({}, -7200, True),
        ({"told_by": "run"}, -61, False),
        ({"told_by": "run"}, -62, True),
        ({"stop_reason": "enough"}, -61, False),
        ({"stop_reason": "enough"}, -62, True),
    ],
)
def test_an_unknown_job_ends_its_operation_for_a_reason_alone(
    changes: dict[str, Any], since_s: float, ends: bool
) -> None:
    """A self-report, a stop or the deadline ends it, but not while it may not be listed yet."""
    since = NOW + timedelta(seconds=since_s)
    found = attrs.evolve(OPERATION, job_since=since, **changes)
    assert ends_unknown(found, NOW, Timings(deadline_s=7200)) is ends


@pytest.mark.parametrize(
    ("report", "due_s", "may"),
    [
        (Report(url="u", body={}), 0, True),
        (Report(url="u", body={}), 1, False),
        (Report(url="u", body={}), None, False),
        (Report(url="u", body={}, done_at=NOW), 0, False),
        (None, 0, False),
    ],
)
def test_a_report_is_posted_by_one_at_a_time(
    report: Report | None, due_s: float | None, may: bool
) -> None:
    """While one process posts it, it is due only later; a report that is done isn't sent again."""
    due_at = None if due_s is None else NOW + timedelta(seconds=due_s)
    over = attrs.evolve(OPERATION, state=OperationState.OVER, report=report, due_at=due_at)
    assert may_send_report(over, NOW) is may
    assert not may_send_report(attrs.evolve(over, state=OperationState.OPEN), NOW)


@pytest.mark.parametrize(
    ("registered", "holder", "elsewhere"),
    [
        (None, None, False),
        ("t-1", TenantRecord(tenant_id="t-1", state=TenantState.ACTIVE, changed_at=NOW), False),
        ("t-2", TenantRecord(tenant_id="t-2", state=TenantState.ACTIVE, changed_at=NOW), True),
        (
            "t-2",
            TenantRecord(tenant_id="t-2", state=TenantState.DEPROVISIONED, changed_at=NOW),
            True,
        ),
        # Its only operation was given back.
        ("t-2", TenantRecord(tenant_id="t-2", state=None, changed_at=NOW), False),
        ("t-2", None, False),
    ],
)
def test_a_registration_is_the_tenants_that_was_first(
    registered: str | None, holder: TenantRecord | None, elsewhere: bool
) -> None:
    """The later tenant gets it only if the first one is unseen: nothing was ever done to it."""
    known = RegistrationRecord(registration_id="r", tenant_id=registered) if registered else None
    assert is_registered_elsewhere(known, holder, "t-1") is elsewhere


@pytest.mark.parametrize(
    ("tenant", "asked"),
    [
        (None, True),
        (TENANT, True),
        (attrs.evolve(TENANT, asked=Asked(operation_id="op-1", kind=Kind.PROVISIONING)), True),
        (attrs.evolve(TENANT, asked=Asked(operation_id="op-2", kind=Kind.PROVISIONING)), False),
    ],
)
def test_an_operation_is_the_latest_request_unless_another_is_recorded(
    tenant: TenantRecord | None, asked: bool
) -> None:
    """A tenant of an earlier release has none recorded, and an unknown one has no item."""
    assert is_what_was_asked(RUN, tenant) is asked


@pytest.mark.parametrize(
    ("holder", "opened"),
    [
        (operation(opened_at=at(1)), True),
        (operation(), False),
        (operation(opened_at=at(1), kind=Kind.DEPLOYMENT), False),
        (None, False),
    ],
)
def test_an_outcome_is_another_event_for_an_operation_that_was_opened_since(
    holder: OperationRecord | None, opened: bool
) -> None:
    """The operation must be of the outcome's kind, and opened after the outcome was first seen."""
    assert is_opened_since(RUN, Kind.PROVISIONING, holder) is opened


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"tier": "PREMIUM"}, "tier"),
        ({"builder": "JENKINS"}, "builder"),
        ({"job": attrs.evolve(JOB, builder="JENKINS")}, "builder"),
        ({"tier": "BASIC", "builder": "IN_MEMORY"}, None),
        ({}, None),
    ],
)
def test_a_request_differs_from_an_operation_by_what_both_name(
    changes: dict[str, Any], differs: str | None
) -> None:
    """A tier or a builder that the operation doesn't have yet is no difference."""
    sentence = asks_otherwise("BASIC", "IN_MEMORY", operation(**changes))
    assert (sentence is None) is (differs is None)
    assert differs is None or f"has the {differs} " in (sentence or "")


@pytest.mark.parametrize(
    ("operation_id", "anew"),
    [
        ("op-1", False),
        (own_operation_id("run-1"), False),
        ("op-2", True),
    ],
    ids=["the opened one", "a clean-up that hasn't begun", "another one"],
)
def test_an_opener_of_another_operation_has_begun_anew(operation_id: str, anew: bool) -> None:
    """A clean-up is opened before its run begins, which then names the operation of its own key."""
    opener = attrs.evolve(RUN, operation_id=operation_id)
    assert has_begun_anew(opener, OPERATION) is anew
