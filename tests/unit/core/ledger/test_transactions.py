"""Transactions: a run has one holder, and what is decided rests on what stands."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator.core.errors import EventTooLarge, TakenOver, TemporaryError
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.claim_result import (
    BodyDiffers,
    Duplicate,
    InProgress,
    NeedsForce,
    NotDue,
    Refused,
)
from orchestrator.core.ledger.lease import RunLease, keep_renewed
from orchestrator.core.ledger.ledger import Conflict, UnreadableItems
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.records import (
    Failure,
    OperationState,
    Progress,
    Record,
    RunStatus,
    Step,
    TenantRecord,
    operation_key,
    payload_key,
    run_key,
)
from orchestrator.core.ledger.settle import Saved, Settlement
from orchestrator.core.ledger.snapshot import Decision, Snapshot
from tests.desk import (
    DEPLOYMENT,
    ORDER,
    PROVISIONED,
    PROVISIONING,
    SENT_AT,
    TENANT,
    Desk,
    DeskLedger,
    adopt_job,
    follow_up,
    let_others_work,
    operation_id,
    possible_until,
    run_id,
)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def step(desk: Desk, name: str = "take") -> Step:
    return Step(name=name, result=1, recorded_at=desk.clock.now())


# --- the run ---------------------------------------------------------------------------------


async def test_a_new_event_gets_a_run_under_a_lease(desk: Desk) -> None:
    """First attempt, everything from the event, and due once the lease is surely over."""
    attempt = await desk.claimed(ORDER, "a", body={"x": 1})
    run, now = attempt.run, desk.clock.now()
    assert (run.run_id, run.request_key) == (run_id(ORDER, "a"),) * 2
    assert (run.event_type, run.source, run.event_id) == (ORDER, "control-plane", "a")
    assert (run.event_time, run.tenant_id) == (SENT_AT, TENANT)
    assert (run.status, run.attempt, run.start_number) == ("running", 1, 1)
    assert (run.first_seen, run.started_at, run.ended_at) == (now, now, None)
    assert (run.lease_until, run.due_at) == (desk.later(60), desk.later(62))
    assert (run.possible_until, run.outcome_of, run.steps) == (None, None, {})
    kept = await desk.run(ORDER, "a")
    assert attrs.evolve(run, version=1) == kept
    payload = (await desk.transactions.find_kept(run.run_id))[1]
    assert payload is not None
    assert payload.data == desk.request(ORDER, "a", body={"x": 1}).payload.data


@pytest.mark.parametrize("options", [{"tenant_id": None}, {"event_type": ORDER}])
async def test_an_event_that_opens_nothing_has_starts_of_its_own(
    desk: Desk, options: dict[str, Any]
) -> None:
    """No tenant or no such type: its run works alone and holds nobody."""
    event_type = options.pop("event_type", PROVISIONING)
    attempt = await desk.claimed(event_type, "a", **options)
    assert attempt.run.operation_id not in (operation_id("a"), run_id(event_type, "a"))
    assert await attempt.find_operation() is None
    assert await desk.tenant() == (None, None)


@pytest.mark.parametrize(
    ("passed_s", "behind_s", "free"),
    [(0, 0, False), (61.999, 0, False), (62, 0, True), (64, 2.5, False), (64, 2, True)],
)
async def test_a_run_under_its_lease_is_in_other_hands(
    desk: Desk, passed_s: float, behind_s: float, free: bool
) -> None:
    """Nobody takes it over before `skew_s` after the lease, by whatever clock he has."""
    await desk.claimed(ORDER, "a")
    before = await desk.run(ORDER, "a")
    desk.turn(passed_s)
    answer = await desk.beside(clock_behind_s=behind_s).claim(ORDER, "a")
    if free:
        assert isinstance(answer, RunLease)
        assert answer.run.attempt == 2
    else:
        assert answer == InProgress(before)
        assert await desk.run(ORDER, "a") == before


async def test_only_one_of_two_gets_a_new_event(desk: Desk) -> None:
    """The other one was quicker between our look and our write: it is his."""
    other = desk.beside()
    desk.ledger.before_commit.append(lambda: other.claimed(PROVISIONING, "a"))
    answer = await desk.claim(PROVISIONING, "a")
    assert isinstance(answer, InProgress)
    assert answer.run.attempt == 1


async def test_only_one_of_two_takes_a_run_over(desk: Desk) -> None:
    """The same, for a run whose lease is over."""
    await desk.claimed(ORDER, "a")
    desk.turn(62)
    other = desk.beside()
    desk.ledger.before_commit.append(lambda: other.claimed(ORDER, "a"))
    assert isinstance(await desk.claim(ORDER, "a"), InProgress)
    assert (await desk.run(ORDER, "a")).attempt == 2


async def test_the_next_attempt_forgets_how_the_last_one_ended(desk: Desk) -> None:
    """Steps, pauses and bugs stay; error, note and end go; the lease is new."""
    first = await desk.claimed(ORDER, "a")
    bug = Failure(type="ValueError", message="no", traceback="…")
    await desk.hand_back(first, progress=Progress(steps=(step(desk),)), error=bug)
    desk.turn(5)
    again = await desk.claimed(ORDER, "a", trigger=Trigger.SWEEP)
    run = again.run
    assert (run.attempt, run.status, run.waits, run.bugs) == (2, "running", 1, 1)
    assert (run.error, run.note, run.ended_at) == (None, None, None)
    assert list(run.steps) == ["take"]
    assert (run.started_at, run.lease_until) == (desk.clock.now(), desk.later(60))
    assert run.first_seen == first.run.first_seen


async def test_an_attempt_that_was_taken_over_may_have_sent_a_start(desk: Desk) -> None:
    """Up to the end of its lease; what was handed back says itself what is possible."""
    first = await desk.claimed(ORDER, "a")
    second = await desk.taken_over(ORDER, "a")
    assert possible_until(second) == second.run.possible_until == first.run.lease_until
    await desk.hand_back(second, possible_until=None)
    third = await desk.claimed(ORDER, "a")
    assert possible_until(third) is None
    await desk.hand_back(third, possible_until=desk.later(-7))
    assert possible_until(await desk.claimed(ORDER, "a")) == desk.later(-7)


async def test_a_run_with_a_job_has_no_start_out(desk: Desk) -> None:
    """Its start is answered: there is nothing to look up."""
    first = await desk.claimed(ORDER, "a")
    await first.record(Progress(job=desk.job("b-1")))
    second = await desk.taken_over(ORDER, "a")
    assert (second.run.job, possible_until(second)) == (desk.job("b-1"), None)


@pytest.mark.parametrize("trigger", list(Trigger))
async def test_another_body_under_the_same_key_is_refused(desk: Desk, trigger: Trigger) -> None:
    """Before anything else is asked, and nothing is written."""
    await desk.claimed(ORDER, "a")
    before = await desk.run(ORDER, "a")
    desk.turn(100)
    assert await desk.claim(ORDER, "a", body={"x": 2}, trigger=trigger) == BodyDiffers(before)
    assert await desk.run(ORDER, "a") == before


@pytest.mark.parametrize(
    ("passed_s", "trigger", "is_taken"),
    [
        (4.999, Trigger.SWEEP, False),
        (5, Trigger.SWEEP, True),
        (0, Trigger.DELIVERY, True),
        (0, Trigger.REPLAY, True),
        (0, Trigger.FORCED_REPLAY, True),
    ],
)
async def test_the_sweep_alone_waits_until_a_run_is_due(
    desk: Desk, passed_s: float, trigger: Trigger, is_taken: bool
) -> None:
    """Who brings the event again, or asks for it, is served at once."""
    await desk.hand_back(await desk.claimed(ORDER, "a"), pause_s=5)
    desk.turn(passed_s)
    answer = await desk.claim(ORDER, "a", trigger=trigger)
    assert isinstance(answer, RunLease if is_taken else NotDue)


async def test_the_sweep_has_no_business_with_what_is_over(desk: Desk) -> None:
    """It was proposed, and somebody has finished it since."""
    await desk.finish(await desk.claimed(ORDER, "a"))
    assert isinstance(await desk.claim(ORDER, "a", trigger=Trigger.SWEEP), NotDue)


@pytest.mark.parametrize("trigger", [Trigger.DELIVERY, Trigger.REPLAY, Trigger.FORCED_REPLAY])
async def test_a_failed_run_gets_a_new_attempt(desk: Desk, trigger: Trigger) -> None:
    """However it is asked for; remembered steps are kept, also with force."""
    first = await desk.claimed(ORDER, "a")
    await desk.fail(first, ends_without_job=False, progress=Progress(steps=(step(desk),)))
    again = await desk.claimed(ORDER, "a", trigger=trigger)
    assert (again.run.attempt, list(again.run.steps)) == (2, ["take"])
    assert again.start_key == first.start_key


async def test_a_finished_event_is_a_duplicate_and_needs_force(desk: Desk) -> None:
    """Delivered: the first run answers. Replayed: only with force."""
    first = await desk.claimed(ORDER, "a")
    await desk.finish(first)
    before = await desk.run(ORDER, "a")
    assert await desk.claim(ORDER, "a") == Duplicate(first.run.run_id)
    assert await desk.claim(ORDER, "a", trigger=Trigger.REPLAY) == NeedsForce(before)
    assert await desk.run(ORDER, "a") == before


@pytest.mark.parametrize("job", [None, "b-1"])
async def test_force_has_a_finished_run_start_afresh(desk: Desk, job: str | None) -> None:
    """Nothing is remembered but the number of attempts; the next start is another one."""
    bug = Failure(type="ValueError", message="no", traceback="…")
    await desk.hand_back(await desk.claimed(ORDER, "a"), error=bug)
    second = await desk.claimed(ORDER, "a")
    await second.record(Progress(steps=(step(desk),)))
    await desk.finish(second, desk.job(job) if job else None, possible_until=desk.clock.now())
    run = (await desk.claimed(ORDER, "a", trigger=Trigger.FORCED_REPLAY)).run
    assert (run.attempt, run.steps, run.job) == (3, {}, None)
    assert (run.start_number, run.possible_until) == (2, None)
    assert (run.waits, run.bugs) == (0, 0)


# --- requests --------------------------------------------------------------------------------


@pytest.mark.parametrize("event_type", [PROVISIONING, ORDER])
async def test_a_fresh_event_costs_two_requests(desk: Desk, event_type: str) -> None:
    """One for its claim, one for its settlement, job and follow-up and all; a duplicate one."""
    attempt = await desk.claimed(event_type, "a")
    assert desk.ledger.requests == ["commit"]
    after = follow_up(PROVISIONED, "own", "op")
    await desk.finish(attempt, desk.job("b-1"), follow_ups=(after,))
    assert desk.ledger.requests == ["commit", "commit"]
    assert await desk.claim(event_type, "a") == Duplicate(attempt.run.run_id)
    assert desk.ledger.requests == ["commit", "commit", "commit"]


async def test_a_payload_that_does_not_fit_is_refused_before_the_claim(desk: Desk) -> None:
    """Up to the ledger's limit it is kept, beyond it nothing is written."""
    size = len(desk.request(ORDER, "a").payload.data)
    desk.ledger.max_payload_bytes = size - 1
    with pytest.raises(EventTooLarge, match=f"{size} bytes packed, {size - 1} fit"):
        await desk.claim(ORDER, "a")
    assert desk.ledger.requests == []
    desk.ledger.max_payload_bytes = size
    await desk.claimed(ORDER, "a")


async def test_a_payload_that_outlived_its_run_is_no_hindrance(desk: Desk) -> None:
    """A ledger that clears old items away may take the run first."""
    payload = desk.request(ORDER, "a").payload
    await desk.ledger.put(attrs.evolve(payload, data=b"of old"))
    attempt = await desk.claimed(ORDER, "a")
    assert attempt.run.attempt == 1
    kept = (await desk.transactions.find_kept(attempt.run.run_id))[1]
    assert kept == attrs.evolve(payload, version=2)
    again = follow_up(PROVISIONED, "own", "op")
    await desk.ledger.put(attrs.evolve(again.payload, data=b"of old"))
    await desk.finish(attempt, follow_ups=(again,))
    assert (await desk.transactions.find_kept(again.event.key))[1] == attrs.evolve(
        again.payload, version=2
    )


async def test_a_decision_that_others_always_forestall_is_given_up(desk: Desk) -> None:
    """After so many tries somebody else may have his; nothing is written."""
    absent = {run_key(run_id(ORDER, "a")): None}
    desk.ledger.failures = [Conflict(absent)] * 100
    with pytest.raises(TemporaryError, match="at once"):
        await desk.claim(ORDER, "a")
    desk.ledger.failures = [Conflict(absent)] * 5
    await desk.claimed(ORDER, "a")


async def test_a_refusal_rests_on_what_stands_now(desk: Desk) -> None:
    """A decision to write nothing is no commit, so what it used is looked at again."""
    attempt = await desk.claimed(ORDER, "a")
    snapshot = Snapshot(desk.clock.now())

    def is_there(snapshot: Snapshot) -> Decision[bool]:
        run = snapshot.run(attempt.run.run_id, expect_absent=True)
        return Decision((), run is not None)

    assert await desk.transactions.run(is_there, snapshot) is True
    await desk.finish(attempt)
    snapshot.turn_to(desk.later(1))

    def status(snapshot: Snapshot) -> Decision[str]:
        run = snapshot.run(attempt.run.run_id)
        return Decision((), run.status if run else "none")

    assert await desk.transactions.run(status, snapshot) == "succeeded"


async def test_what_was_read_must_still_stand(desk: Desk) -> None:
    """Not only what is written: the tenant was busy when that was decided, and is free now."""
    await desk.provision()
    other = desk.beside()
    looked = desk.claim(DEPLOYMENT, "a", tier="BASIC")

    async def meanwhile() -> None:
        desk.ledger.before_commit.append(lambda: other.end(PROVISIONED, "done"))

    desk.ledger.before_commit.append(meanwhile)
    assert isinstance(await looked, RunLease)
    assert (await desk.tenant())[0] is TenantState.DEPLOYING


# --- an attempt ------------------------------------------------------------------------------


async def test_a_start_key_tells_starts_apart(desk: Desk) -> None:
    """Operation and number, within what builders take."""
    attempt = await desk.claimed(PROVISIONING, "a", key="k" * 500)
    assert attempt.start_key == f"{operation_id('k' * 500)}-1"
    assert len(attempt.start_key) <= 64


@pytest.mark.parametrize("write", ["renew", "record", "settle"])
async def test_whoever_lost_the_run_writes_nothing(desk: Desk, write: str) -> None:
    """He learns that it is in other hands, and who has it is not disturbed."""
    first = await desk.claimed(PROVISIONING, "a")
    await desk.taken_over(PROVISIONING, "a")
    before = await desk.run(PROVISIONING, "a")
    writes: dict[str, Any] = {
        "renew": first.renew,
        "record": lambda: first.record(Progress(job=desk.job("b-1"))),
        "settle": lambda: desk.finish(first, desk.job("b-1")),
    }
    with pytest.raises(TakenOver):
        await writes[write]()
    assert await desk.run(PROVISIONING, "a") == before
    assert (await desk.operation(of=first)).job is None


async def test_a_renewal_is_another_lease_from_now_on(desk: Desk) -> None:
    """The holder and the ledger both know."""
    attempt = await desk.claimed(ORDER, "a")
    desk.turn(40)
    await attempt.renew()
    run = await desk.run(ORDER, "a")
    assert run.lease_until == attempt.run.lease_until == desk.later(60)
    assert run.due_at == desk.later(62)
    assert (run.attempt, run.status) == (1, "running")


async def test_a_write_whose_answer_was_lost_can_be_repeated(desk: Desk) -> None:
    """It is found done; a settlement that is found done is nobody's any more."""
    attempt = await desk.claimed(ORDER, "a")
    desk.ledger.answer_lost = True
    desk.ledger.failures = [TemporaryError("no answer")]
    with pytest.raises(TemporaryError):
        await attempt.record(Progress(steps=(step(desk),)))
    await attempt.record(Progress(steps=(step(desk),)))
    assert list((await desk.run(ORDER, "a")).steps) == ["take"]
    desk.ledger.failures = [TemporaryError("no answer")]
    with pytest.raises(TemporaryError):
        await desk.finish(attempt)
    with pytest.raises(TakenOver):
        await desk.finish(attempt)
    assert (await desk.run(ORDER, "a")).status == "succeeded"


async def test_writes_of_an_attempt_come_one_after_the_other(desk: Desk) -> None:
    """A renewal beside a settlement never sees half of it."""
    attempt = await desk.claimed(ORDER, "a")
    desk.ledger.requests.clear()
    waiting, release = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        waiting.set()
        await release.wait()

    desk.ledger.before_commit.append(hold)
    recording = asyncio.create_task(attempt.record(Progress(steps=(step(desk),))))
    await waiting.wait()
    settling = asyncio.create_task(desk.finish(attempt))
    await let_others_work()
    assert not settling.done()
    release.set()
    await asyncio.gather(recording, settling)
    assert desk.ledger.requests == ["commit", "commit"]
    assert list((await desk.run(ORDER, "a")).steps) == ["take"]


async def test_an_operation_that_ended_without_its_opener_is_over(desk: Desk) -> None:
    """The attempt can tell."""
    attempt = await desk.claimed(PROVISIONING, "a")
    assert await attempt.is_over() is False
    await adopt_job(
        desk.transactions, operation_id=attempt.run.operation_id, number=1, job=desk.job("b-1")
    )
    await desk.end(PROVISIONED, "done", job="b-1")
    assert await attempt.is_over() is True
    alone = await desk.claimed(ORDER, "a")
    assert await alone.is_over() is False


async def test_an_operation_that_was_given_back_is_not_over(desk: Desk) -> None:
    """It is as if it had never been opened."""
    attempt = await desk.claimed(PROVISIONING, "a")
    await desk.fail(attempt)
    assert await attempt.is_over() is False


async def test_a_lease_is_renewed_as_long_as_the_work_lasts(desk: Desk) -> None:
    """Each third of a lease; not any more once it is done."""
    attempt = await desk.claimed(ORDER, "a")
    async with keep_renewed(attempt.renew, desk.clock, lease_s=60):
        for _ in range(5):
            await let_others_work()
            desk.turn(20)
        await let_others_work()
        assert (await desk.run(ORDER, "a")).lease_until == desk.later(60)
    await let_others_work()
    desk.turn(20)
    await let_others_work()
    assert (await desk.run(ORDER, "a")).lease_until == desk.later(40)


async def test_a_renewal_that_fails_is_tried_again(desk: Desk) -> None:
    """The lease is still ours until it ends."""
    attempt = await desk.claimed(ORDER, "a")
    with capture_logs() as logs:
        async with keep_renewed(attempt.renew, desk.clock, lease_s=60):
            desk.ledger.failures = [TemporaryError("no ledger")]
            for _ in range(2):
                await let_others_work()
                desk.turn(20)
            await let_others_work()
    assert [entry["event"] for entry in logs] == ["lease not renewed"]
    assert attempt.run.lease_until == desk.later(60)


async def test_who_lost_the_lease_renews_no_more(desk: Desk) -> None:
    """He is told once."""
    attempt = await desk.claimed(ORDER, "a")
    with capture_logs() as logs:
        async with keep_renewed(attempt.renew, desk.clock, lease_s=60):
            await let_others_work()
            await desk.ledger.put(attrs.evolve(await desk.run(ORDER, "a"), attempt=2))
            for _ in range(3):
                desk.turn(20)
                await let_others_work()
    assert [entry["event"] for entry in logs] == ["lease lost"]


async def test_a_settlement_after_a_late_renewal_stands(desk: Desk) -> None:
    """A lease that ended without anybody noticing is still the holder's."""
    attempt = await desk.claimed(ORDER, "a")
    desk.turn(500)
    assert isinstance(await attempt.settle(Settlement(status=RunStatus.SUCCEEDED)), Saved)
    assert (await desk.run(ORDER, "a")).status == "succeeded"


# --- what a decision rests on ------------------------------------------------------------------


async def test_after_a_conflict_what_the_first_load_brought_is_doubtful_too(desk: Desk) -> None:
    """A decision that then writes nothing rests on what stands now, not on what stood then."""
    await desk.stand(TenantState.PROVISIONED, tier="BASIC")
    await desk.finish(await desk.claimed(ORDER, "a"))

    async def meanwhile() -> None:
        await desk.stand(TenantState.PROVISIONED, tier="PREMIUM")
        await desk.ledger.put(attrs.evolve(await desk.run(ORDER, "a"), note="newer"))

    def tell_tier(view: Snapshot) -> Decision[str | None]:
        tenant, run = view.tenant(TENANT), view.run(run_id(ORDER, "a"))
        assert tenant is not None
        assert run is not None
        if run.note is None:
            return Decision((attrs.evolve(run, note="mine"),), None)
        return Decision((), tenant.tier)

    class Terse(DeskLedger):
        """Of what stands otherwise it tells the run alone."""

        async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
            try:
                await super().commit(records, unchanged=unchanged)
            except Conflict as conflict:
                key = run_key(run_id(ORDER, "a"))
                raise Conflict({key: conflict.items[key]}) from None

    terse = Terse()
    terse._items = desk.ledger._items
    terse.before_commit.append(meanwhile)
    transactions = attrs.evolve(desk.transactions, ledger=terse)
    assert await transactions.run(tell_tier) == "PREMIUM"


@pytest.mark.parametrize(("conflicts", "holds"), [(17, True), (19, False)])
async def test_a_decision_is_tried_twenty_times(desk: Desk, conflicts: int, holds: bool) -> None:
    """Two tries go into what it has to load; then somebody else may try."""
    await desk.finish(await desk.claimed(ORDER, "a"))
    tries = list[int]()

    async def be_quicker() -> None:
        run = await desk.run(ORDER, "a")
        await desk.ledger.put(attrs.evolve(run, waits=run.waits + 1))

    def note(view: Snapshot) -> Decision[bool]:
        tries.append(1)
        run = view.run(run_id(ORDER, "a"))
        assert run is not None
        return Decision((attrs.evolve(run, note="mine"),), True)

    desk.ledger.before_commit = [be_quicker] * (conflicts + 1 if not holds else conflicts)
    if holds:
        assert await desk.transactions.run(note)
        assert len(tries) == conflicts + 2
    else:
        with pytest.raises(TemporaryError, match="Too many processes write the same items"):
            await desk.transactions.run(note)
        assert len(tries) == 20


async def test_what_an_earlier_try_used_is_no_condition(desk: Desk) -> None:
    """A decision rests on what it used in the end: of nothing else is it checked how it stands."""
    await desk.finish(await desk.claimed(ORDER, "a"))
    seen = list[Mapping[str, int]]()

    class Watched(DeskLedger):
        async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
            seen.append(unchanged)
            await super().commit(records, unchanged=unchanged)

    async def be_quicker() -> None:
        await desk.ledger.put(attrs.evolve(await desk.run(ORDER, "a"), waits=7))

    def note(view: Snapshot) -> Decision[bool]:
        run = view.run(run_id(ORDER, "a"))
        assert run is not None
        if run.waits != 7:
            view.tenant(TENANT, expect_absent=True)
        return Decision((attrs.evolve(run, note="mine"),), True)

    watched = Watched()
    watched._items = desk.ledger._items
    watched.before_commit.append(be_quicker)
    assert await attrs.evolve(desk.transactions, ledger=watched).run(note)
    assert seen == [{f"TENANT#{TENANT}": 0}, {}]


async def test_a_run_that_cannot_be_read_is_not_taken_for_none(desk: Desk) -> None:
    """Its event that can't be read is as good as none."""
    await desk.finish(await desk.claimed(ORDER, "a"))
    run = run_id(ORDER, "a")

    class Damaged(DeskLedger):
        unreadable: str

        async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
            found = dict(await super().load(keys))
            if found.pop(self.unreadable, None) is not None:
                raise UnreadableItems({self.unreadable: "newer"}, found=found)
            return found

    damaged = Damaged()
    damaged._items = desk.ledger._items
    transactions = attrs.evolve(desk.transactions, ledger=damaged)
    damaged.unreadable = payload_key(run)
    assert await transactions.find_kept(run) == (await desk.run(ORDER, "a"), None)
    damaged.unreadable = run_key(run)
    with pytest.raises(UnreadableItems):
        await transactions.find_kept(run)


async def test_holders_are_found_of_those_who_are_held(desk: Desk) -> None:
    """An operation that can't be read, or is gone, hides no other tenant."""
    attempt = await desk.claimed(PROVISIONING, "a")
    held_by = attempt.run.operation_id
    tenants = [
        TenantRecord(tenant_id=name, state=None, changed_at=SENT_AT, operation_id=operation)
        for name, operation in (("t-1", held_by), ("t-2", None), ("t-3", "gone"), ("t-4", "odd"))
    ]

    class Damaged(DeskLedger):
        async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
            found = dict(await super().load(keys))
            assert operation_key("None") not in found
            found.pop(operation_key("odd"))
            raise UnreadableItems({operation_key("odd"): "newer"}, found=found)

    damaged = Damaged()
    damaged._items = desk.ledger._items
    transactions = attrs.evolve(desk.transactions, ledger=damaged)
    assert await transactions.find_holders(tenants) == {"t-1": await desk.operation(of=attempt)}


async def test_an_end_of_an_earlier_start_is_not_the_runs(desk: Desk) -> None:
    """Nothing is recorded yet of its own: the operation is over as an earlier start left it."""
    attempt = await desk.claimed(PROVISIONING, "a")
    operation = await desk.operation(of=attempt)
    await desk.ledger.put(attrs.evolve(operation, state=OperationState.OVER))
    assert await attempt.is_over() is True
    attempt.run = attrs.evolve(attempt.run, start_number=2)
    assert await attempt.is_over() is False


# --- the order of a claim's questions -------------------------------------------------------------


async def test_another_body_is_refused_before_anything_else(desk: Desk) -> None:
    """Also while the run is in other hands: its sender must not come again and again."""
    await desk.claimed(ORDER, "a", body={"x": 1})
    assert isinstance(await desk.claim(ORDER, "a", body={"x": 2}), BodyDiffers)
    assert isinstance(
        await desk.claim(ORDER, "a", body={"x": 2}, trigger=Trigger.SWEEP), BodyDiffers
    )


async def test_who_is_at_work_is_named_before_it_is_asked_what_is_due(desk: Desk) -> None:
    """A running run is due once its lease is over: until then it's in other hands, not at rest."""
    await desk.claimed(ORDER, "a")
    assert isinstance(await desk.claim(ORDER, "a", trigger=Trigger.SWEEP), InProgress)
    desk.turn(62)
    assert isinstance(await desk.claim(ORDER, "a", trigger=Trigger.SWEEP), RunLease)


CANCELLED = Failure(type="Cancelled", message="Cancelled by an operator.")


async def test_a_cancel_finds_what_is_over_done(desk: Desk) -> None:
    """Whatever it came to: it calls no handler."""
    for event_id, finish in (("a", desk.finish), ("b", desk.fail)):
        await finish(await desk.claimed(ORDER, event_id))
        assert await desk.claim(ORDER, event_id, trigger=Trigger.CANCEL) == Duplicate(
            run_id(ORDER, event_id)
        )
    await desk.hand_back(await desk.claimed(ORDER, "c"))
    assert isinstance(await desk.claim(ORDER, "c", trigger=Trigger.CANCEL), RunLease)


async def test_what_was_cancelled_is_taken_back_by_an_operator_alone(desk: Desk) -> None:
    """Its sender is told so; content that counts as new is another event."""
    for by_content in (False, True):
        event_id = f"a-{by_content}"
        attempt = await desk.claimed(ORDER, event_id, by_content=by_content)
        await desk.fail(attempt, error=CANCELLED)
        refused = await desk.claim(ORDER, event_id, by_content=by_content)
        assert refused == Refused(run_id(ORDER, event_id), CANCELLED.message)
    desk.turn(desk.timings.dedupe_window_s)
    assert isinstance(await desk.claim(ORDER, "a-True", by_content=True), RunLease)
    assert isinstance(await desk.claim(ORDER, "a-False", trigger=Trigger.REPLAY), RunLease)


async def test_what_is_known_of_a_run_is_not_forgotten_by_its_next_claim(desk: Desk) -> None:
    """Its tenant and where its job is watched, though the event doesn't name them."""
    attempt = await desk.claimed(ORDER, "a")
    await desk.hand_back(attempt)
    await desk.ledger.put(attrs.evolve(await desk.run(ORDER, "a"), link="https://logs"))
    again = await desk.claimed(ORDER, "a", tenant_id=None, body={"tenantId": TENANT})
    assert (again.run.tenant_id, again.run.link) == (TENANT, "https://logs")
