"""Turns: the runs that wait for a tenant, its latest request, and requests that come too late."""

import attrs
import pytest

from orchestrator.core.events.event_types import Kind
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.claim_result import Deferred, Duplicate, NothingToDo, Refused
from orchestrator.core.ledger.lease import RunLease
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.record_parts import MAX_SOURCES, OperationState, Waiter
from orchestrator.core.ledger.records import Progress, RunStatus, run_key
from orchestrator.core.ledger.snapshot import NotLoaded, Snapshot
from orchestrator.core.ledger.waiting import MAX_WAITING
from tests.desk import (
    DEPLOYMENT,
    DEPROVISIONED,
    DEPROVISIONING,
    NOT_PROVISIONED,
    PROVISIONED,
    PROVISIONING,
    TENANT,
    Desk,
    operation_id,
    run_id,
)
from tests.unit.core.ledger.lines import line, tenant

# --- the order of arrival --------------------------------------------------------------------


async def test_no_request_joins_ahead_of_one_of_another_kind(desk: Desk) -> None:
    """Provision, deprovision, provision again: the third waits behind the second, and both have
    their turn; else the third's sender gets a success, and then the tenant is removed."""
    await desk.provision("a")
    assert isinstance(await desk.claim(DEPROVISIONING, "b"), Deferred)
    answer = await desk.claim(PROVISIONING, "c")
    second = run_id(DEPROVISIONING, "b")
    reason = f"Run {second} waits for the tenant {TENANT} before this one."
    assert answer == Deferred(run_id(PROVISIONING, "c"), reason, 15.0)
    assert await line(desk) == [second, run_id(PROVISIONING, "c")]

    await desk.end(PROVISIONED, "done")
    removal = await desk.claimed(DEPROVISIONING, "b", trigger=Trigger.SWEEP)
    await desk.finish(removal, desk.job("b-2"))
    await desk.end(DEPROVISIONED, "gone")
    desk.turn(15)
    assert (await desk.claimed(PROVISIONING, "c", trigger=Trigger.SWEEP)).run.attempt == 2
    assert await line(desk) == []


async def test_the_same_request_joins_although_others_wait(desk: Desk) -> None:
    """It has the operation's request key, so it requests nothing after the waiting ones."""
    opener = await desk.claimed(PROVISIONING, "a", key="k")
    await desk.finish(opener, desk.job("b-1"))
    await desk.claim(DEPROVISIONING, "b")
    assert await desk.claim(PROVISIONING, "c", key="k") == Duplicate(opener.run.run_id)


async def test_a_free_tenant_goes_to_the_first_waiting_run(desk: Desk) -> None:
    """A newcomer doesn't get the tenant before a run that has to wait."""
    await desk.provision("a")
    await desk.claim(DEPROVISIONING, "b")
    await desk.end(PROVISIONED, "done")
    assert isinstance(await desk.claim(DEPLOYMENT, "c"), Deferred)
    assert isinstance(await desk.claim(DEPROVISIONING, "b", trigger=Trigger.SWEEP), RunLease)


@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.SUCCEEDED, None])
async def test_a_run_that_no_longer_waits_does_not_count(
    desk: Desk, status: RunStatus | None
) -> None:
    """Its run has ended, or has expired: it leaves the list with the next write."""
    await desk.provision("a")
    await desk.claim(DEPROVISIONING, "b")
    await desk.end(PROVISIONED, "done")
    if status is None:
        ghost = Waiter(run_id="gone", kind=Kind.DEPROVISIONING)
        await desk.ledger.put(attrs.evolve(await tenant(desk), waiting=(ghost,)))
    else:
        waiting = await desk.run(DEPROVISIONING, "b")
        await desk.ledger.put(attrs.evolve(waiting, status=status, due_at=None))
    assert isinstance(await desk.claim(DEPLOYMENT, "c"), RunLease)
    assert await line(desk) == []


async def test_a_hundred_entries_that_count_for_nothing_cost_one_more_read(desk: Desk) -> None:
    """However long the list has grown, the first run that waits is found in two reads."""
    await desk.stand(TenantState.PROVISIONED)
    ghosts = [Waiter(run_id=f"gone-{n}", kind=Kind.DEPROVISIONING) for n in range(MAX_WAITING)]
    await desk.ledger.put(attrs.evolve(await tenant(desk), waiting=tuple(ghosts)))
    desk.ledger.requests.clear()
    assert isinstance(await desk.claim(DEPLOYMENT, "c"), RunLease)
    assert desk.ledger.requests.count("load") == 2
    assert await line(desk) == []


def test_waiting_runs_are_read_again_after_a_conflict(desk: Desk) -> None:
    """Runs that were read before may have changed, so no request gets ahead of one."""
    snapshot = Snapshot(desk.clock.now())
    snapshot.learn({run_key("a"): None})
    assert snapshot.look_at_runs(["a"]) == [None]
    snapshot.turn_to(desk.clock.now())
    with pytest.raises(NotLoaded) as unread:
        snapshot.look_at_runs(["a", "b"])
    assert unread.value.keys == (run_key("a"), run_key("b"))


async def test_a_run_that_fails_loses_its_place(desk: Desk) -> None:
    """A run that failed while it waited is the last in the list when it is delivered again."""
    await desk.provision("a")
    await desk.claim(DEPROVISIONING, "b")
    await desk.claim(DEPLOYMENT, "c")
    waiting = await desk.run(DEPROVISIONING, "b")
    await desk.ledger.put(attrs.evolve(waiting, status=RunStatus.FAILED, due_at=None))
    assert isinstance(await desk.claim(DEPROVISIONING, "b"), Deferred)
    assert await line(desk) == [run_id(DEPLOYMENT, "c"), run_id(DEPROVISIONING, "b")]


async def test_a_redelivery_keeps_the_place_and_the_due_time_of_a_waiting_run(desk: Desk) -> None:
    """However often its sender retries meanwhile, its turn isn't postponed."""
    await desk.provision("a")
    await desk.claim(DEPROVISIONING, "b")
    await desk.claim(DEPLOYMENT, "c")
    due_at = (await desk.run(DEPROVISIONING, "b")).due_at
    desk.turn(5)
    answer = await desk.claim(DEPROVISIONING, "b")
    assert isinstance(answer, Deferred)
    assert answer.pause_s == 10.0
    run = await desk.run(DEPROVISIONING, "b")
    assert (run.due_at, run.waits) == (due_at, 1)
    assert await line(desk) == [run.run_id, run_id(DEPLOYMENT, "c")]


async def test_pauses_double_up_to_five_minutes_and_end_with_the_wait(desk: Desk) -> None:
    """A run that waits for a long job is claimed a few times; its pauses end once it opens."""
    await desk.provision("a")
    answer = await desk.claim(DEPROVISIONING, "b")
    pauses = []
    for _ in range(7):
        assert isinstance(answer, Deferred)
        pauses.append(answer.pause_s)
        desk.turn(answer.pause_s)
        answer = await desk.claim(DEPROVISIONING, "b", trigger=Trigger.SWEEP)
    assert pauses == [15, 30, 60, 120, 240, 300, 300]
    await desk.end(PROVISIONED, "done")
    assert (await desk.claimed(DEPROVISIONING, "b", trigger=Trigger.SWEEP)).run.waits == 0


@pytest.mark.parametrize("ended", ["settled", "given back"])
async def test_the_first_waiting_run_is_due_once_the_tenant_is_free(desk: Desk, ended: str) -> None:
    """The first waiting run is due at once, and no other one is."""
    opener = await desk.claimed(PROVISIONING, "a")
    await desk.claim(DEPROVISIONING, "b")
    await desk.claim(DEPLOYMENT, "c")
    desk.turn(1)
    if ended == "settled":
        await desk.finish(opener, desk.job("b-1"))
        await desk.end(NOT_PROVISIONED, "done")
    else:
        await desk.fail(opener)
    assert (await desk.run(DEPROVISIONING, "b")).due_at == desk.clock.now()
    assert (await desk.run(DEPLOYMENT, "c")).due_at == desk.later(14)


async def test_a_list_that_is_lost_loses_no_work(desk: Desk) -> None:
    """An older release drops the list: a run that waits joins it again at its next attempt."""
    await desk.provision("a")
    await desk.claim(DEPROVISIONING, "b")
    await desk.ledger.put(attrs.evolve(await tenant(desk), waiting=(), asked=None))
    desk.turn(15)
    assert isinstance(await desk.claim(DEPROVISIONING, "b", trigger=Trigger.SWEEP), Deferred)
    assert await line(desk) == [run_id(DEPROVISIONING, "b")]


async def test_a_hundred_may_wait(desk: Desk) -> None:
    """The next one gets an error to retry, and isn't stored; one that waits may be sent again."""
    await desk.provision("a")
    for number in range(MAX_WAITING):
        assert isinstance(await desk.claim(DEPROVISIONING, f"w-{number}"), Deferred)
    before = await tenant(desk)
    answer = await desk.claim(DEPROVISIONING, "late")
    assert isinstance(answer, Deferred)
    assert answer.run_id is None
    assert f"The tenant's waiting list is full: {MAX_WAITING}." in answer.reason
    assert await tenant(desk) == before
    again = await desk.claim(DEPROVISIONING, "w-7")
    assert isinstance(again, Deferred)
    assert again.run_id == run_id(DEPROVISIONING, "w-7")
    first = await desk.run(DEPROVISIONING, "w-0")
    await desk.ledger.put(attrs.evolve(first, status=RunStatus.FAILED, due_at=None))
    answer = await desk.claim(DEPROVISIONING, "late")
    assert isinstance(answer, Deferred)
    assert answer.run_id is not None
    assert (await line(desk))[-1] == answer.run_id


async def test_a_request_that_waits_for_a_job_has_a_place_in_the_list(desk: Desk) -> None:
    """A second request whose first has no job yet: a later request waits for it, too."""
    opener = await desk.claimed(PROVISIONING, "a", key="k")
    await desk.claim(PROVISIONING, "b", key="k")
    assert await line(desk) == [run_id(PROVISIONING, "b")]
    await opener.record(Progress(job=desk.job("b-1")))
    assert isinstance(await desk.claim(PROVISIONING, "b", key="k"), Duplicate)
    assert await line(desk) == []


async def test_a_forced_replay_waits_until_no_run_waits(desk: Desk) -> None:
    """A waiting run has its turn before an operator's replay."""
    opener = await desk.claimed(PROVISIONING, "a", key="k")
    await desk.finish(opener, desk.job("b-1"))
    await desk.claim(DEPLOYMENT, "b")
    await desk.end(PROVISIONED, "done")
    before = await tenant(desk)
    answer = await desk.claim(PROVISIONING, "a", key="k", trigger=Trigger.FORCED_REPLAY)
    assert isinstance(answer, Deferred)
    assert await tenant(desk) == before
    await desk.fail(await desk.claimed(DEPLOYMENT, "b"))
    assert isinstance(
        await desk.claim(PROVISIONING, "a", key="k", trigger=Trigger.FORCED_REPLAY), RunLease
    )


async def test_a_deployment_joins_only_its_own_request(desk: Desk) -> None:
    """Another one is about something else that was provisioned."""
    opener = await desk.claimed(DEPLOYMENT, "a", key="k")
    await desk.finish(opener, desk.job("b-1"))
    assert isinstance(await desk.claim(DEPLOYMENT, "b", key="k"), Duplicate)
    assert isinstance(await desk.claim(DEPLOYMENT, "c", key="other"), Deferred)


# --- requests for something else -------------------------------------------------------------


@pytest.mark.parametrize("key", ["k", None])
@pytest.mark.parametrize(("tier", "builder"), [("GOLD", None), (None, "JENKINS")])
async def test_no_request_joins_an_operation_of_another_tier(
    desk: Desk, key: str | None, tier: str | None, builder: str | None
) -> None:
    """Before its job is known it waits, since the operation may be given back; then it is refused,
    with a sentence that names the tier in use."""
    opener = await desk.claimed(PROVISIONING, "a", key="k", tier="BASIC")
    other = {"key": key, "tier": tier, "builder": builder}
    assert isinstance(await desk.claim(PROVISIONING, "b", **other), Deferred)
    await opener.record(Progress(job=desk.job("b-1")))
    answer = await desk.claim(PROVISIONING, "b", **other)
    what = f"tier 'BASIC' and this event names {tier!r}"
    if builder:
        what = f"builder 'IN_MEMORY' and this event names {builder!r}"
    said = f"The provisioning under way has the {what}: send it again once that is over."
    assert answer == Refused(run_id(PROVISIONING, "b"), said)
    assert (await desk.run(PROVISIONING, "b")).status == "failed"
    assert await line(desk) == []
    same = {"key": key, "tier": "BASIC", "builder": "IN_MEMORY"}
    assert isinstance(await desk.claim(PROVISIONING, "c", **same), Duplicate)


async def test_a_request_for_another_tier_opens_an_operation_that_was_given_back(
    desk: Desk,
) -> None:
    """The job that it would have been refused for never ran."""
    opener = await desk.claimed(PROVISIONING, "a", key="k", tier="BASIC")
    await desk.claim(PROVISIONING, "b", key="k", tier="GOLD")
    await desk.fail(opener)
    again = await desk.claimed(PROVISIONING, "b", key="k", tier="GOLD", trigger=Trigger.SWEEP)
    assert (await desk.operation(of=again)).tier == "GOLD"


async def test_the_builder_that_the_first_request_named_is_compared(desk: Desk) -> None:
    """A handler may start its job at another builder; a request that names the first one joins."""
    opener = await desk.claimed(PROVISIONING, "a", builder="CODE_BUILD")
    await desk.finish(opener, desk.job("b-1", builder="ARGO"))
    assert isinstance(await desk.claim(PROVISIONING, "b", builder="CODE_BUILD"), Duplicate)


async def test_a_request_that_means_two_tenants_is_refused(desk: Desk) -> None:
    """A request that names two tenants is refused, unless an operator replays it with force."""
    answer = await desk.claim(PROVISIONING, "a", contradiction="Two tenants.")
    assert answer == Refused(run_id(PROVISIONING, "a"), "Two tenants.")
    assert await desk.tenant() == (None, None)
    forced = {"contradiction": "Two tenants.", "trigger": Trigger.FORCED_REPLAY}
    assert isinstance(await desk.claim(PROVISIONING, "a", **forced), RunLease)


# --- what comes too late ---------------------------------------------------------------------


async def provisioned(desk: Desk, event_id: str, sent_s: float | None, source: str) -> None:
    opener = await desk.claimed(PROVISIONING, event_id, sent_s=sent_s, source=source)
    await desk.finish(opener, desk.job(f"job of {event_id}"))
    await desk.end(PROVISIONED, f"end of {event_id}")


@pytest.mark.parametrize(
    ("sent_s", "source", "is_stale"),
    [
        (-1, "control-plane", True),
        (0, "control-plane", False),
        (1, "control-plane", False),
        (None, "control-plane", False),
        (-1, "another", False),
    ],
)
async def test_a_request_that_was_sent_before_the_latest_one_is_stale(
    desk: Desk, sent_s: float | None, source: str, is_stale: bool
) -> None:
    """So an archive's replay removes no tenant; only times of the same source are compared."""
    await provisioned(desk, "a", 0, "control-plane")
    answer = await desk.claim(DEPROVISIONING, "b", sent_s=sent_s, source=source)
    if not is_stale:
        assert isinstance(answer, RunLease)
        return
    assert isinstance(answer, Refused)
    assert answer.reason == "tenant was asked later for provisioning; replay with force"
    assert await desk.tenant() == (TenantState.PROVISIONED, None)
    forced = {"sent_s": sent_s, "source": source, "trigger": Trigger.FORCED_REPLAY}
    assert isinstance(await desk.claim(DEPROVISIONING, "b", **forced), RunLease)


async def test_a_request_that_joins_records_its_own_time(desk: Desk) -> None:
    """Provision (0), provision (5) joins, deprovision (3) comes late: the tenant stays."""
    opener = await desk.claimed(PROVISIONING, "a", sent_s=0)
    await desk.finish(opener, desk.job("b-1"))
    assert isinstance(await desk.claim(PROVISIONING, "b", sent_s=5), Duplicate)
    await desk.end(PROVISIONED, "done")
    assert isinstance(await desk.claim(DEPROVISIONING, "c", sent_s=3), Refused)


async def test_a_late_request_that_joins_sets_no_time_back(desk: Desk) -> None:
    """Provision (5), provision (0) joins, deprovision (3) comes late: the tenant stays."""
    opener = await desk.claimed(PROVISIONING, "a", sent_s=5)
    await desk.finish(opener, desk.job("b-1"))
    assert isinstance(await desk.claim(PROVISIONING, "b", sent_s=0), Duplicate)
    await desk.end(PROVISIONED, "done")
    assert isinstance(await desk.claim(DEPROVISIONING, "c", sent_s=3), Refused)


async def test_a_request_that_was_given_back_is_not_the_latest_one(desk: Desk) -> None:
    """Deprovision (9) finds no job and is given back: deployment (5) is still the latest
    request."""
    await provisioned(desk, "a", 0, "control-plane")
    asked = (await tenant(desk)).asked
    await desk.fail(await desk.claimed(DEPROVISIONING, "b", sent_s=9))
    assert (await tenant(desk)).asked == asked
    assert isinstance(await desk.claim(DEPLOYMENT, "c", sent_s=5), RunLease)


async def test_each_source_has_its_time_and_the_last_ten_are_kept(desk: Desk) -> None:
    """The one whose last request arrived longest ago is dropped first: the item can't grow."""
    opener = await desk.claimed(PROVISIONING, "a", sent_s=0, source="first")
    await desk.finish(opener, desk.job("b-1"))
    for number in range(MAX_SOURCES - 1):
        await desk.claim(PROVISIONING, f"{number}", sent_s=0, source=f"source {number}")
    asked = (await tenant(desk)).asked
    assert asked is not None
    assert list(asked.times) == ["first", *(f"source {n}" for n in range(MAX_SOURCES - 1))]
    await desk.claim(PROVISIONING, "again", sent_s=1, source="first")
    await desk.claim(PROVISIONING, "new", sent_s=0, source="new")
    asked = (await tenant(desk)).asked
    assert asked is not None
    assert len(asked.times) == MAX_SOURCES
    assert list(asked.times)[-2:] == ["first", "new"]
    assert "source 0" not in asked.times


async def test_a_follow_up_is_no_request(desk: Desk) -> None:
    """Our own deployment comes later than a deprovisioning that was requested before it."""
    await provisioned(desk, "a", 0, "control-plane")
    before = (await tenant(desk)).asked
    assert before is not None
    named = {"key": "d", "sent_s": 99, "follows": before.operation_id}
    await desk.finish(await desk.claimed(DEPLOYMENT, "d", **named), desk.job("b-2"))
    assert (await tenant(desk)).asked == before
    assert isinstance(await desk.claim(DEPLOYMENT, "e", **named), Duplicate)
    assert (await tenant(desk)).asked == before


async def test_a_follow_up_is_never_stale(desk: Desk) -> None:
    """It has the time of the request that it follows, and comes after all requests before it."""
    opener = await desk.claimed(PROVISIONING, "a", sent_s=0)
    await desk.finish(opener, desk.job("b-1"))
    assert isinstance(await desk.claim(PROVISIONING, "b", sent_s=9), Duplicate)
    await desk.end(PROVISIONED, "done")
    follows = opener.run.operation_id
    assert isinstance(await desk.claim(DEPLOYMENT, "d", sent_s=0, follows=follows), RunLease)


async def test_a_follow_up_of_a_superseded_request_is_overtaken(desk: Desk) -> None:
    """A deprovisioning was requested first and gets the tenant first: nothing is deployed then."""
    opener = await desk.claimed(PROVISIONING, "a")
    await desk.finish(opener, desk.job("b-1"))
    await desk.claim(DEPROVISIONING, "b")
    await desk.end(PROVISIONED, "done")
    follows = opener.run.operation_id
    assert isinstance(await desk.claim(DEPLOYMENT, "d", follows=follows), Deferred)
    await desk.finish(await desk.claimed(DEPROVISIONING, "b"), desk.job("b-2"))
    await desk.end(DEPROVISIONED, "gone")
    answer = await desk.claim(DEPLOYMENT, "d", follows=follows)
    assert answer == NothingToDo(run_id(DEPLOYMENT, "d"))
    run = await desk.run(DEPLOYMENT, "d")
    note = "Skipped: the tenant has had another request since."
    assert (run.status, run.note) == ("succeeded", note)
    assert await line(desk) == []
    assert await desk.tenant() == (TenantState.DEPROVISIONED, None)


async def test_a_follow_up_continues_if_the_request_that_overtook_it_is_given_back(
    desk: Desk,
) -> None:
    """Then the provisioning is the tenant's latest request, as before."""
    opener = await desk.claimed(PROVISIONING, "a")
    await desk.finish(opener, desk.job("b-1"))
    await desk.claim(DEPROVISIONING, "b")
    await desk.end(PROVISIONED, "done")
    follows = opener.run.operation_id
    await desk.claim(DEPLOYMENT, "d", follows=follows)
    await desk.fail(await desk.claimed(DEPROVISIONING, "b"))
    assert isinstance(await desk.claim(DEPLOYMENT, "d", follows=follows), RunLease)


# --- which operation an outcome means --------------------------------------------------------


async def test_an_outcome_of_an_earlier_request_ends_no_later_one(desk: Desk) -> None:
    """It names its request by the context, and that is over; one that names none means the
    present operation."""
    opener = await desk.claimed(PROVISIONING, "a", key="context-1")
    await desk.finish(opener, desk.job("b-1"))
    await desk.end(NOT_PROVISIONED, "x", context="context-1")
    again = await desk.claimed(PROVISIONING, "b", key="context-2")
    await desk.finish(again, desk.job("b-2"))
    answer = await desk.claim(NOT_PROVISIONED, "x again", context="context-1")
    assert answer == Duplicate(run_id(NOT_PROVISIONED, "x"))
    unknown = await desk.claim(NOT_PROVISIONED, "y", context="context-3")
    assert isinstance(unknown, NothingToDo)
    assert (await desk.operation("context-2")).state is OperationState.OPEN
    await desk.end(PROVISIONED, "z")
    assert (await desk.operation("context-2")).state is OperationState.OVER


async def test_a_deployment_is_named_by_the_context_of_its_provisioning(desk: Desk) -> None:
    """A sender of its outcome knows no other name for what the control plane has requested."""
    opener = await desk.claimed(PROVISIONING, "a", key="context-1")
    await desk.finish(opener, desk.job("b-1"))
    await desk.end(PROVISIONED, "x", context="context-1")
    before = operation_id("context-1")
    deployment = await desk.claimed(DEPLOYMENT, "d", key=f"{before}-1", follows=before)
    await desk.finish(deployment, desk.job("b-2"))
    answer = await desk.claim("TENANT_DEPLOYMENT_SUCCESS", "o", context="context-2")
    assert isinstance(answer, NothingToDo)
    await desk.end("TENANT_DEPLOYMENT_SUCCESS", "p", context="context-1")
    assert await desk.tenant() == (TenantState.ACTIVE, None)


async def test_an_outcome_that_names_nothing_is_refused(desk: Desk) -> None:
    """Nothing says which operation has ended: a failed run says so."""
    answer = await desk.claim(PROVISIONED, "x", tenant_id=None)
    assert isinstance(answer, Refused)
    assert "names neither a tenant" in answer.reason
    assert (await desk.run(PROVISIONED, "x")).status == "failed"
