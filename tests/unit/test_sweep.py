"""The sweep: what is due is taken up, each for itself; nothing else is touched."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator.core.answers import Why
from orchestrator.core.books import Attempt
from orchestrator.core.errors import TemporaryError
from orchestrator.core.sweep import Swept, sweep, swept_regularly
from tests.desk import ORDER, Desk, let_others_work, run_id


@pytest.fixture
def desk() -> Desk:
    return Desk()


@attrs.define
class Hands:
    """Takes runs up: notes which, and does with each what the test says."""

    desk: Desk
    acts: dict[str, Callable[[], Awaitable[object]]] = attrs.field(factory=dict)
    taken: list[str] = attrs.field(factory=list)
    done: list[str] = attrs.field(factory=list)
    attended: list[str] = attrs.field(factory=list)
    cleared: list[str] = attrs.field(factory=list)
    trouble: TemporaryError | None = None

    async def clear(self, start_key: str) -> None:
        self.cleared.append(start_key)

    async def resume(self, run: str) -> None:
        self.taken.append(run)
        if run in self.acts:
            await self.acts[run]()
        self.done.append(run)

    async def attend(self, operation_ids: Sequence[str]) -> TemporaryError | None:
        self.attended.extend(operation_ids)
        return self.trouble if operation_ids else None

    async def sweep(self, timeout_s: float | None = None) -> Swept:
        return await sweep(
            self.desk.books,
            resume=self.resume,
            attend=self.attend,
            clear=self.clear,
            timeout_s=timeout_s,
        )


async def waiting(desk: Desk, *event_ids: str, pause_s: float = 5) -> list[str]:
    """Runs in `retry`; their ids."""
    for event_id in event_ids:
        await desk.hand_back(await desk.claimed(ORDER, event_id), pause_s=pause_s)
    return [run_id(ORDER, event_id) for event_id in event_ids]


def raising(error: Exception) -> Callable[[], Awaitable[object]]:
    async def act() -> None:
        raise error

    return act


async def test_only_what_is_due_is_taken_up(desk: Desk) -> None:
    """Runs that wait and runs that were left lying, from their moment on; nothing that is over."""
    hands = Hands(desk)
    (soon,) = await waiting(desk, "soon", pause_s=5)
    await waiting(desk, "later", pause_s=90)
    await desk.claimed(ORDER, "in hand")
    await desk.finish(await desk.claimed(ORDER, "over"))
    await desk.fail(await desk.claimed(ORDER, "failed"), lets_go=False)
    assert await hands.sweep() == Swept(0)
    desk.turn(5)
    assert await hands.sweep() == Swept(1)
    assert hands.taken == [soon]
    desk.turn(56.9)
    assert run_id(ORDER, "in hand") not in await due(desk)
    desk.turn(0.1)
    assert run_id(ORDER, "in hand") in await due(desk)


async def due(desk: Desk) -> list[str]:
    hands = Hands(desk)
    await hands.sweep()
    return hands.taken


async def test_it_goes_on_until_nothing_is_left(desk: Desk) -> None:
    """Each once, however many; also those that stay due because they failed."""
    hands = Hands(desk)
    ids = await waiting(desk, *(f"e-{number}" for number in range(55)))
    for run in ids[:25]:
        hands.acts[run] = raising(TemporaryError("still"))
    for run in ids[25:]:
        hands.acts[run] = claim_and_finish(desk, run, ids)
    desk.turn(5)
    assert await hands.sweep() == Swept(55)
    assert sorted(hands.taken) == sorted(ids)


def claim_and_finish(desk: Desk, run: str, ids: list[str]) -> Callable[[], Awaitable[object]]:
    async def act() -> None:
        attempt = await desk.claimed(ORDER, f"e-{ids.index(run)}", why=Why.SWEEP)
        await desk.finish(attempt)

    return act


async def test_what_becomes_due_meanwhile_is_the_next_ones(desk: Desk) -> None:
    """A sweep ends, also if what it takes up comes back again and again."""
    hands = Hands(desk)
    (run,) = await waiting(desk, "again")

    async def hand_back_at_once() -> None:
        attempt = await desk.claimed(ORDER, "again", why=Why.SWEEP)
        await desk.hand_back(attempt, pause_s=0)
        desk.turn(1)
        await waiting(desk, "new", pause_s=0)

    hands.acts[run] = hand_back_at_once
    desk.turn(5)
    assert await hands.sweep() == Swept(1)
    assert hands.taken == [run]


@pytest.mark.parametrize("error", [TemporaryError("busy"), LookupError("gone"), ValueError("odd")])
async def test_one_runs_trouble_is_nobody_elses(desk: Desk, error: Exception) -> None:
    """The others are taken up and finished, those in hand and those to come."""
    hands = Hands(desk)
    ids = await waiting(desk, *(f"e-{number}" for number in range(30)))
    for run in ids:
        hands.acts[run] = let_others_work
    hands.acts[ids[3]] = raising(error)
    desk.turn(5)
    assert await hands.sweep() == Swept(30)
    assert sorted(hands.done) == sorted(set(ids) - {ids[3]})


async def test_what_is_not_done_in_time_is_handed_back(desk: Desk) -> None:
    """It is cancelled, so it can be; the sweep says that there is more."""
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
    swept = await hands.sweep(timeout_s=0.2)
    assert swept.timed_out
    assert len(handed_back) == len(hands.taken) == 20
    assert hands.done == []
    hands.acts.clear()
    assert await hands.sweep(timeout_s=60) == Swept(26)


async def test_operations_are_attended_to_together(desk: Desk) -> None:
    """Those whose job is to be asked about, and those that are to be reported, as they are due."""
    attempt = await desk.provision()
    over = attrs.evolve(await desk.operation(of=attempt), operation_id="over", due_at=desk.later(0))
    await desk.ledger.put(over)
    hands = Hands(desk)
    assert await hands.sweep() == Swept(1)
    assert hands.attended == ["over"]
    desk.turn(60)
    await hands.sweep()
    assert sorted(hands.attended[1:]) == sorted(["over", attempt.run.operation_id])


async def test_a_builder_that_is_down_is_said_after_the_rest(desk: Desk) -> None:
    """What could be done was done before."""
    hands = Hands(desk, trouble=TemporaryError("no builder"))
    await desk.provision()
    await waiting(desk, *(f"e-{number}" for number in range(120)))
    desk.turn(60)
    with pytest.raises(TemporaryError, match="no builder"):
        await hands.sweep()
    assert len(hands.done) == 120


async def test_a_ledger_that_is_down_is_said(desk: Desk) -> None:
    """A sweep that can't ask has not swept."""

    async def find_due(**options: Any) -> list[str]:
        raise TemporaryError("no ledger")

    desk.ledger.find_due = find_due  # type: ignore[method-assign]
    with pytest.raises(TemporaryError, match="no ledger"):
        await Hands(desk).sweep()


async def test_two_sweeps_at_once_do_the_work_once(desk: Desk) -> None:
    """Both are told of it; the claim decides."""
    (a,) = await waiting(desk, "a")
    desk.turn(5)
    answers: list[object] = []

    async def claim() -> None:
        answers.append(await desk.claim(ORDER, "a", why=Why.SWEEP))

    sweeps = [Hands(desk, {a: claim}).sweep() for _ in range(2)]
    assert await asyncio.gather(*sweeps) == [Swept(1), Swept(1)]
    assert [isinstance(answer, Attempt) for answer in answers].count(True) == 1
    assert (await desk.run(ORDER, "a")).attempt == 2


# --- regularly -------------------------------------------------------------------------------


@attrs.define
class Sweeps:
    """Counts sweeps; each does what the test says."""

    act: Callable[[], Awaitable[object]] | None = None
    begun: int = 0
    ended: int = 0

    async def __call__(self) -> Swept:
        self.begun += 1
        if self.act is not None:
            await self.act()
        self.ended += 1
        return Swept(1)


async def pass_time(desk: Desk, *seconds: float) -> None:
    for some in seconds:
        await let_others_work()
        desk.turn(some)
    await let_others_work()


async def test_a_sweep_begins_each_time_the_pause_is_over(desk: Desk) -> None:
    """Not before, and not after the context."""
    sweeps = Sweeps()
    async with swept_regularly(sweeps, desk.clock, every_s=60):
        await pass_time(desk, 59)
        assert sweeps.begun == 0
        await pass_time(desk, 1)
        assert sweeps.begun == 1
        await pass_time(desk, 60, 60)
        assert sweeps.begun == 3
    await pass_time(desk, 60)
    assert sweeps.begun == sweeps.ended == 3


@pytest.mark.parametrize(
    ("error", "level"), [(TemporaryError("no ledger"), "warning"), (ValueError("bug"), "error")]
)
async def test_a_sweep_that_fails_does_not_end_the_timer(
    desk: Desk, error: Exception, level: str
) -> None:
    """It is logged, a bug as one; the next one comes."""
    sweeps = Sweeps(raising(error))
    with capture_logs() as logs:
        async with swept_regularly(sweeps, desk.clock, every_s=60):
            await pass_time(desk, 60, 60)
            assert sweeps.begun == 2
            sweeps.act = None
            await pass_time(desk, 60)
            assert sweeps.ended == 1
    assert [entry["event"] for entry in logs] == ["sweep failed", "sweep failed", "swept"]
    assert [entry["log_level"] for entry in logs] == [level, level, "info"]


async def test_a_slow_sweep_holds_up_nobody_and_is_cancelled_at_the_end(desk: Desk) -> None:
    """The context is not left before what was under way has been handed back."""
    handed_back = []

    async def slow() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await let_others_work()
            handed_back.append(1)
            raise

    sweeps = Sweeps(slow)
    async with swept_regularly(sweeps, desk.clock, every_s=60):
        await pass_time(desk, 60, 60)
        assert sweeps.begun == 2
    assert (len(handed_back), sweeps.ended) == (2, 0)
