"""The sweep: each item that is due is handled on its own; nothing else is touched."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator.core.dispatch.sweep import SweepResult
from orchestrator.core.errors import TemporaryError
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.lease import RunLease
from orchestrator.core.ledger.ledger import UnreadableItems
from orchestrator.core.ledger.pages import Page
from orchestrator.core.ledger.record_parts import OperationState
from orchestrator.core.ledger.records import OperationRecord, Record, operation_key
from tests.desk import ORDER, Desk, DeskLedger, let_others_work, pass_time, raising, run_id
from tests.ledgers import find_due, share_items
from tests.unit.core.dispatch.sweep_hands import DownLedger, Hands, waiting


async def test_only_due_runs_are_resumed(desk: Desk) -> None:
    """Runs that wait and runs whose lease has expired, from their due time on; no finished one."""
    hands = Hands(desk)
    (soon,) = await waiting(desk, "soon", pause_s=5)
    await waiting(desk, "later", pause_s=90)
    await desk.claimed(ORDER, "in hand")
    await desk.finish(await desk.claimed(ORDER, "over"))
    await desk.fail(await desk.claimed(ORDER, "failed"), ends_without_job=False)
    assert await hands.sweep() == SweepResult(0)
    desk.turn(5)
    assert await hands.sweep() == SweepResult(1)
    assert hands.taken == [soon]
    desk.turn(56.9)
    assert run_id(ORDER, "in hand") not in await due(desk)
    desk.turn(0.1)
    assert run_id(ORDER, "in hand") in await due(desk)


async def due(desk: Desk) -> list[str]:
    hands = Hands(desk)
    await hands.sweep()
    return hands.taken


async def test_a_sweep_reads_pages_until_none_is_left(desk: Desk) -> None:
    """Each item is handled once, however many there are, also those that fail and stay due."""
    hands = Hands(desk)
    ids = await waiting(desk, *(f"e-{number}" for number in range(55)))
    for run in ids[:25]:
        hands.acts[run] = raising(TemporaryError("still"))
    for run in ids[25:]:
        hands.acts[run] = claim_and_finish(desk, run, ids)
    desk.turn(5)
    assert await hands.sweep() == SweepResult(55)
    assert sorted(hands.taken) == sorted(ids)


def claim_and_finish(desk: Desk, run: str, ids: list[str]) -> Callable[[], Awaitable[object]]:
    async def act() -> None:
        attempt = await desk.claimed(ORDER, f"e-{ids.index(run)}", trigger=Trigger.SWEEP)
        await desk.finish(attempt)

    return act


async def test_runs_that_become_due_meanwhile_are_left_to_the_next_sweep(desk: Desk) -> None:
    """A sweep ends, also if runs that it resumes become due again and again."""
    hands = Hands(desk)
    (run,) = await waiting(desk, "again")

    async def hand_back_at_once() -> None:
        attempt = await desk.claimed(ORDER, "again", trigger=Trigger.SWEEP)
        await desk.hand_back(attempt, pause_s=0)
        desk.turn(1)
        await waiting(desk, "new", pause_s=0)

    hands.acts[run] = hand_back_at_once
    desk.turn(5)
    assert await hands.sweep() == SweepResult(1)
    assert hands.taken == [run]


@pytest.mark.parametrize("error", [TemporaryError("busy"), LookupError("gone"), ValueError("odd")])
async def test_a_failing_run_affects_no_other(desk: Desk, error: Exception) -> None:
    """The others are resumed and finished, those in progress and those to come."""
    hands = Hands(desk)
    ids = await waiting(desk, *(f"e-{number}" for number in range(30)))
    for run in ids:
        hands.acts[run] = let_others_work
    hands.acts[ids[3]] = raising(error)
    desk.turn(5)
    assert await hands.sweep() == SweepResult(30)
    assert sorted(hands.done) == sorted(set(ids) - {ids[3]})


async def test_a_run_that_exceeds_the_sweeps_time_is_handed_back(desk: Desk) -> None:
    """It is cancelled if it can be; the result says that there is more."""
    hands = Hands(desk)
    ids = await waiting(desk, "slow", *(f"e-{number}" for number in range(25)))
    handed_back = []

    async def slow() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            handed_back.append(ids[0])
            raise

    for run in ids:
        hands.acts[run] = slow
    desk.turn(5)
    sweeping = asyncio.ensure_future(hands.sweep(timeout_s=3))
    await pass_time(desk, 2.9)
    assert not sweeping.done()
    await pass_time(desk, 0.1)
    assert await sweeping == SweepResult(20, timed_out=True)
    assert len(handed_back) == len(hands.taken) == 20
    assert hands.done == []
    hands.acts.clear()
    assert await hands.sweep(timeout_s=60) == SweepResult(26)


async def test_operations_are_attended_to_together(desk: Desk) -> None:
    """Those whose job is to be checked, and those that are to be reported, once they are due."""
    attempt = await desk.provision()
    operation = await desk.operation(of=attempt)
    due = attrs.evolve(operation, operation_id="due", due_at=desk.later(0))
    over = attrs.evolve(due, operation_id="over", state=OperationState.OVER)
    await desk.ledger.put(due, over)
    hands = Hands(desk)
    assert await hands.sweep() == SweepResult(2)
    assert (hands.attended, hands.reported) == (["due"], ["over"])
    desk.turn(60)
    await hands.sweep()
    assert sorted(hands.attended[1:]) == sorted(["due", operation.operation_id])


async def test_an_outage_of_a_builder_is_raised_after_the_other_work(desk: Desk) -> None:
    """All other work that is due is done before the outage is raised."""
    hands = Hands(desk, trouble=TemporaryError("no builder"))
    await desk.provision()
    await waiting(desk, *(f"e-{number}" for number in range(120)))
    desk.turn(60)
    with pytest.raises(TemporaryError, match="no builder"):
        await hands.sweep()
    assert len(hands.done) == 120


async def test_an_outage_of_the_ledger_is_raised(desk: Desk) -> None:
    """A sweep that can't query for due items raises the ledger's error."""
    hands = Hands(desk)
    hands.sweeper.transactions = attrs.evolve(desk.transactions, ledger=DownLedger())
    with pytest.raises(TemporaryError, match="no ledger"):
        await hands.sweep()


async def test_two_processes_at_once_do_the_work_once(desk: Desk) -> None:
    """Both processes find the run, and only one of them claims it."""
    (a,) = await waiting(desk, "a")
    desk.turn(5)
    answers: list[object] = []

    async def claim() -> None:
        answers.append(await desk.claim(ORDER, "a", trigger=Trigger.SWEEP))

    sweeps = [Hands(desk, {a: claim}).sweep() for _ in range(2)]
    assert await asyncio.gather(*sweeps) == [SweepResult(1), SweepResult(1)]
    assert [isinstance(answer, RunLease) for answer in answers].count(True) == 1
    assert (await desk.run(ORDER, "a")).attempt == 2


async def test_a_second_sweep_joins_the_query_of_the_first(desk: Desk) -> None:
    """One process runs one query for due items at a time; both sweeps get its result."""
    ids = await waiting(desk, *(f"e-{number}" for number in range(30)))
    hands = Hands(desk, dict.fromkeys(ids, let_others_work))
    desk.turn(5)
    first, second = await asyncio.gather(hands.sweep(), hands.sweep(timeout_s=5))
    assert (first, second) == (SweepResult(30), SweepResult(30, joined=True))
    assert sorted(hands.taken) == sorted(ids)


async def test_a_sweep_that_joins_waits_no_longer_than_its_limit(desk: Desk) -> None:
    """The other sweep continues without it."""
    ids = await waiting(desk, *(f"e-{number}" for number in range(21)))
    hands = Hands(desk, {run: partial(desk.clock.sleep, 20) for run in ids})
    desk.turn(5)
    sweeping = asyncio.ensure_future(hands.sweep())
    await let_others_work()
    joining = asyncio.ensure_future(hands.sweep(timeout_s=3))
    await pass_time(desk, 3)
    assert await joining == SweepResult(0, timed_out=True, joined=True)
    await pass_time(desk, 17, 20)
    assert await sweeping == SweepResult(21)


async def test_a_sweep_that_joins_gets_the_failure(desk: Desk) -> None:
    """A sweep whose query failed has failed for each caller."""
    hands = Hands(desk)
    down = DownLedger()
    hands.sweeper.transactions = attrs.evolve(desk.transactions, ledger=down)
    errors = await asyncio.gather(hands.sweep(), hands.sweep(), return_exceptions=True)
    assert [str(one) for one in errors] == ["no ledger"] * 2
    assert down.asked == 1


@pytest.mark.parametrize("fails", [False, True])
async def test_a_sweep_that_joins_is_told_that_the_other_broke_off(desk: Desk, fails: bool) -> None:
    """It was cancelled, or failed by a bug: what was due is not handled."""
    found = asyncio.Event()

    class Ledger(DeskLedger):
        async def find_due(self, **asked: Any) -> Page[str]:
            await found.wait()
            raise RuntimeError("a bug")

    hands = Hands(desk)
    hands.sweeper.transactions = attrs.evolve(desk.transactions, ledger=Ledger())
    sweeping = asyncio.ensure_future(hands.sweep())
    joining = asyncio.ensure_future(hands.sweep())
    await let_others_work()
    if fails:
        found.set()
    else:
        sweeping.cancel()
    await asyncio.wait([sweeping])
    with pytest.raises(TemporaryError, match="broke off"):
        await joining
    assert sweeping.cancelled() or isinstance(sweeping.exception(), RuntimeError)


async def test_a_slow_run_does_not_delay_a_later_sweep(desk: Desk) -> None:
    """Runs that are due by then are resumed while the first is still running."""
    hands = Hands(desk)
    (slow,) = await waiting(desk, "slow")
    hands.acts[slow] = partial(desk.clock.sleep, 600)
    desk.turn(5)
    first = asyncio.ensure_future(hands.sweep())
    await let_others_work()
    (quick,) = await waiting(desk, "quick", pause_s=0)
    hands.acts[slow] = let_others_work
    assert (await hands.sweep()).begun == 2
    assert quick in hands.done
    await pass_time(desk, 600)
    assert await first == SweepResult(1)


async def test_runs_that_hang_delay_no_other_lane(desk: Desk) -> None:
    """They fill the lane of runs; jobs are checked, and the rest stays due."""
    ids = await waiting(desk, *(f"e-{number}" for number in range(30)))
    hands = Hands(desk, {run: asyncio.Event().wait for run in ids})
    attempt = await desk.provision()
    desk.turn(60)
    with capture_logs() as logs:
        sweeping = asyncio.ensure_future(hands.sweep())
        await pass_time(desk, 30)
        assert hands.attended == [attempt.run.operation_id]
        desk.turn(60)
        again = asyncio.ensure_future(hands.sweep())
        await pass_time(desk, 30)
        assert len(hands.attended) == 2
    assert [entry["left"] for entry in logs if entry["event"].startswith("no room")] == [10, 30]
    assert len(hands.taken) == 20
    assert await again == SweepResult(1)
    sweeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweeping


@attrs.define
class Looks:
    """Checks jobs: each wave takes `each_s` (seconds) for each of them, and ends them."""

    hands: Hands
    each_s: float
    waves: list[int] = attrs.field(factory=list)
    cut_off: int = 0

    async def look(self, operation_ids: Sequence[str]) -> TemporaryError | None:
        self.waves.append(len(operation_ids))
        try:
            await self.hands.desk.clock.sleep(self.each_s * len(operation_ids))
        except asyncio.CancelledError:
            self.cut_off += 1
            raise
        ledger = self.hands.desk.ledger
        for one in (await ledger.load([operation_key(each) for each in operation_ids])).values():
            assert isinstance(one, OperationRecord)
            await ledger.put(attrs.evolve(one, due_at=None))
        return None


async def due_jobs(desk: Desk, **counts: int) -> None:
    """Operations whose jobs are due for a check: of each builder so many."""
    attempt = await desk.provision()
    first = attrs.evolve(await desk.operation(of=attempt), due_at=desk.clock.now())
    await desk.ledger.put(
        *(
            attrs.evolve(
                first,
                operation_id=f"{builder}-{number}",
                job=desk.job(f"{number}", builder=builder),
            )
            for builder, count in counts.items()
            for number in range(count)
        )
    )


@pytest.mark.parametrize(("each_s", "ended"), [(0.001, 300), (0.01, 200), (0.1, 15), (0.4, 5)])
async def test_looks_go_in_waves_that_can_be_finished(
    desk: Desk, each_s: float, ended: int
) -> None:
    """Each sweep ends about as many as there is time for, the first one too, and cuts none off."""
    await due_jobs(desk, IN_MEMORY=300)
    hands = Hands(desk)
    looks = Looks(hands, each_s)
    hands.sweeper.look = looks.look
    for _ in range(3):
        looks.waves.clear()
        sweeping = asyncio.ensure_future(hands.sweep(timeout_s=2.4))
        while not sweeping.done():
            await pass_time(desk, each_s)
        await sweeping
        left = await find_due(desk.ledger, before=desk.clock.now())
        assert sum(looks.waves) >= min(ended, len(left))
    assert looks.cut_off == 0
    assert max(looks.waves, default=0) <= 25


async def test_a_builder_that_hangs_is_queried_again_after_its_wave(desk: Desk) -> None:
    """Others are queried meanwhile; its wave is cut off after two minutes, and its jobs stay
    due."""
    await due_jobs(desk, SILENT=30, OTHER=30)
    hands = Hands(desk)
    asked: list[str] = []

    async def look(operation_ids: Sequence[str]) -> TemporaryError | None:
        asked.extend(one.partition("-")[0] for one in operation_ids)
        if operation_ids[0].startswith("SILENT"):
            await asyncio.Event().wait()
        return None

    hands.sweeper.look = look
    with capture_logs() as logs:
        sweeping = asyncio.ensure_future(hands.sweep())
        await pass_time(desk, 30)
        assert (asked.count("SILENT"), asked.count("OTHER")) == (20, 30)
        await pass_time(desk, 90)
        await sweeping
        again = asyncio.ensure_future(hands.sweep())
        await let_others_work()
        assert asked.count("SILENT") == 40
    assert [line["event"] for line in logs] == ["no room: the rest stays due", "cut off", "swept"]
    again.cancel()
    with pytest.raises(asyncio.CancelledError):
        await again


@pytest.mark.parametrize("steps", range(12))
async def test_a_sweep_that_ends_while_it_gets_room_gives_it_back(desk: Desk, steps: int) -> None:
    """However many steps of the event loop lie between a wave's end and the sweep's: the next sweep
    has the whole lane."""
    await due_jobs(desk, IN_MEMORY=60)
    hands = Hands(desk)
    is_answered = asyncio.Event()

    async def look(operation_ids: Sequence[str]) -> TemporaryError | None:
        await is_answered.wait()
        return await hands.look(operation_ids)

    hands.sweeper.look = look
    sweeping = asyncio.ensure_future(hands.sweep())
    await let_others_work()
    is_answered.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    sweeping.cancel()
    await asyncio.wait([sweeping])
    hands.attended.clear()
    again = asyncio.ensure_future(hands.sweep())
    await let_others_work()
    assert again.done()
    assert len(hands.attended) == 60


@attrs.define
class Dice:
    """They fall as the test says, and then on the first."""

    falls: list[int]

    def pick(self, count: int) -> int:
        return self.falls.pop(0) % count if self.falls else 0


@pytest.mark.parametrize("fall", [0, 1, 7, 19])
async def test_replicas_start_in_different_places(desk: Desk, fall: int) -> None:
    """The replicas don't compete for the same items, and all that is due has its turn."""
    ids = await waiting(desk, *(f"e-{number}" for number in range(20)))
    hands = Hands(desk)
    hands.sweeper.dice = Dice([0, fall])
    desk.turn(5)
    order = [key.removeprefix("RUN#") for key in await find_due(desk.ledger, before=desk.later(0))]
    await hands.sweep()
    assert hands.taken == [*order[fall:], *order[:fall]]
    assert sorted(hands.taken) == sorted(ids)


class HalfUnreadable(DeskLedger):
    """Some of its items were written by another release."""

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        found = await super().load(keys)
        odd = sorted(keys)[::2]
        rest = {key: item for key, item in found.items() if key not in odd}
        raise UnreadableItems(dict.fromkeys(odd, "odd"), found=rest)


async def test_an_unreadable_item_stays_due(desk: Desk) -> None:
    """The log names it, and the others are resumed."""
    ids = await waiting(desk, *(f"e-{number}" for number in range(20)))
    hands = Hands(desk)
    ledger = HalfUnreadable()
    share_items(ledger, desk.ledger)
    hands.sweeper.transactions = attrs.evolve(desk.transactions, ledger=ledger)
    desk.turn(5)
    with capture_logs() as logs:
        assert await hands.sweep() == SweepResult(10)
    assert sorted(hands.taken) == sorted(ids)[1::2]
    (entry, _) = logs
    assert f"RUN#{min(ids)} (odd)" in entry["reason"]
    assert "5 more" in entry["reason"]


class ForgetfulLedger(DeskLedger):
    """Its first reads fail."""

    failures_left = 1

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        if self.failures_left:
            self.failures_left -= 1
            raise TemporaryError("no ledger")
        return await super().load(keys)


async def test_a_page_that_can_not_be_read_stays_due(desk: Desk) -> None:
    """The query for due items was answered; the next page is begun all the same."""
    await waiting(desk, *(f"e-{number}" for number in range(70)))
    hands = Hands(desk)
    ledger = ForgetfulLedger()
    share_items(ledger, desk.ledger)
    hands.sweeper.transactions = attrs.evolve(desk.transactions, ledger=ledger)
    desk.turn(5)
    assert await hands.sweep() == SweepResult(20)
    assert await hands.sweep() == SweepResult(70)


async def test_a_ledger_that_fails_in_the_middle_is_raised_after_the_other_work(desk: Desk) -> None:
    """The runs that were begun are finished before the error is raised."""
    ids = await waiting(desk, *(f"e-{number}" for number in range(70)))
    hands = Hands(desk, dict.fromkeys(ids, let_others_work))
    ledger = DownLedger(after=1)
    share_items(ledger, desk.ledger)
    hands.sweeper.transactions = attrs.evolve(desk.transactions, ledger=ledger)
    desk.turn(5)
    with pytest.raises(TemporaryError, match="no ledger"):
        await hands.sweep()
    assert len(hands.done) == 50
