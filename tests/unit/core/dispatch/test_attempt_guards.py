"""What an attempt does before and after its settle, so that no start and no tenant is lost."""

import asyncio
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest

from orchestrator import Event, HandlerFailed, Job, PermanentError, Run, TemporaryError
from orchestrator.core.jobs.tier_catalog import Tier
from orchestrator.core.ledger.records import OperationRecord, Record
from orchestrator.testing import ManualClock
from tests.desk import DeskLedger
from tests.unit.core.dispatch.lost_answers import (
    LONG_S,
    ORDER,
    URL,
    Act,
    Forgetful,
    Scene,
    complete,
    first_starts,
    opened,
    refuse,
    stumble,
)


class DownCatalog:
    """A catalog of tiers that can't be queried."""

    async def find_tier(self, tier: str) -> Tier | None:
        raise TemporaryError("catalog down")


# --- before an operation ends without a job -----------------------------------------------------


async def test_a_refusal_looks_up_first_what_an_earlier_attempt_started(
    clock: ManualClock,
) -> None:
    """The run fails, and the operation continues with the job."""
    async with opened(clock, TENANT_PROVISIONING=first_starts(refuse)) as scene:
        assert isinstance(await scene.send(), TemporaryError)
        run = scene.run()
        assert (run.sent_to, run.sent_job, run.possible_until) == (
            "CODE_BUILD",
            "build",
            clock.now(),
        )
        assert isinstance(await scene.send(), PermanentError)
        assert (scene.run().status, scene.run().job) == ("failed", scene.job)
        assert (scene.operation.state, scene.operation.job) == ("open", scene.job)
        assert scene.builder.looks == 1
        assert scene.webhook.urls == []


async def test_an_operation_without_a_job_is_reported_once_it_certainly_has_none(
    clock: ManualClock,
) -> None:
    """The tenant is free, and the refusal is reported to the control plane."""
    builder = Forgetful("CODE_BUILD", made=False)
    handler = first_starts(refuse)
    async with opened(clock, builder=builder, TENANT_PROVISIONING=handler) as scene:
        await scene.send()
        clock.turn(LONG_S)
        assert isinstance(await scene.send(), PermanentError)
        assert (scene.run().status, scene.run().possible_until) == ("failed", None)
        assert scene.operation.state == "given_back"
        assert await scene.is_free()
        assert scene.webhook.urls == [URL]
        assert scene.operation.report is not None
        assert scene.operation.report.was_accepted


@pytest.mark.parametrize("then", [refuse, complete])
async def test_nothing_ends_while_none_is_uncertain(clock: ManualClock, then: Act) -> None:
    """The sender gets an error that names the possible start, after a failure and a success."""
    builder = Forgetful("CODE_BUILD", made=False)
    async with opened(clock, builder=builder, TENANT_PROVISIONING=first_starts(then)) as scene:
        await scene.send()
        sent = clock.now()
        clock.turn(6)
        error = await scene.send()
        assert isinstance(error, TemporaryError)
        assert "doesn't list yet" in str(error)
        run = scene.run()
        assert (run.status, run.possible_until, run.bugs) == ("retry", sent, 0)
        assert (scene.operation.state, scene.webhook.urls) == ("open", [])


async def test_a_bug_is_counted_while_none_is_uncertain(clock: ManualClock) -> None:
    """Attempts come to an end; the start that may be out is not forgotten with them."""
    builder = Forgetful("CODE_BUILD", made=False)
    handler = first_starts(stumble)
    async with opened(clock, builder=builder, max_attempts=1, TENANT_PROVISIONING=handler) as scene:
        await scene.send()
        sent = clock.now()
        clock.turn(6)
        assert isinstance(await scene.send(), HandlerFailed)
        run = scene.run()
        assert (run.status, run.bugs, run.possible_until) == ("retry", 1, sent)
        assert run.due_at == clock.now() + timedelta(seconds=5)


@attrs.define
class Hanging(Forgetful):
    """Its look-up hangs unless it fails, as its tier catalog does."""

    asked: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        await self._hang()
        return None

    async def find_tier(self, tier: str) -> Tier | None:
        await self._hang()
        return None

    async def _hang(self) -> None:
        if self.look_error is not None:
            raise self.look_error
        self.asked.set()
        await asyncio.Event().wait()


async def assert_handed_back(scene: Scene, asked: asyncio.Event) -> None:
    """The run is due at once if it is cancelled while it asks, rather than at its lease's end."""
    task = asyncio.create_task(scene.send())
    await asked.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert scene.run().status == "retry"


@pytest.mark.parametrize(
    ("error", "max_attempts"), [(TemporaryError("answer lost"), 3), (ValueError("a bug"), 1)]
)
async def test_a_cancelled_lookup_hands_the_run_back(
    clock: ManualClock, error: Exception, max_attempts: int
) -> None:
    """The one before an operation ends without a job, and the one after the last attempt."""
    down = TemporaryError("no builder")
    hanging, handler = Hanging("CODE_BUILD", error=error, look_error=down), first_starts(refuse)
    async with opened(
        clock, builder=hanging, max_attempts=max_attempts, TENANT_PROVISIONING=handler
    ) as scene:
        await scene.send()
        hanging.look_error = None
        await assert_handed_back(scene, hanging.asked)


async def test_a_cancelled_refusal_hands_the_run_back(clock: ManualClock) -> None:
    """While the webhook of its report is looked up."""
    hanging = Hanging("CODE_BUILD")
    async with opened(clock, tiers=hanging, url=None, TENANT_PROVISIONING=refuse) as scene:
        await assert_handed_back(scene, hanging.asked)


async def test_no_builder_is_queried_if_no_start_is_possible(clock: ManualClock) -> None:
    """No look-up follows a first refusal, a recorded job, or an operation that continues."""

    async def find_and_refuse(event: Event[Any], run: Run) -> None:
        if run.attempt == 2:
            raise TemporaryError("not now")
        await run.start_job("build", {})
        raise PermanentError("no")

    async with opened(clock, TENANT_PROVISIONING=refuse) as scene:
        await scene.send()
        assert scene.builder.looks == 0
    async with opened(clock, TENANT_PROVISIONING=find_and_refuse) as scene:
        await scene.send()
        assert "not now" in str(await scene.send())
        assert scene.builder.looks == 0
        await scene.send()
        assert (scene.run().status, scene.builder.looks) == ("failed", 1)


@pytest.mark.parametrize(
    ("act", "error", "status"),
    [(refuse, TemporaryError, "retry"), (stumble, HandlerFailed, "failed")],
)
async def test_a_refusal_waits_until_its_address_is_known_and_a_bug_does_not(
    clock: ManualClock, act: Act, error: type[Exception], status: str
) -> None:
    """The tier has the address, and can't be queried; a bug's attempts come to an end."""
    async with opened(
        clock, tiers=DownCatalog(), url=None, max_attempts=1, TENANT_PROVISIONING=act
    ) as scene:
        answer = await scene.send()
        assert type(answer) is error
        assert (scene.run().status, scene.run().bugs) == (status, int(act is stumble))
        is_noted = "catalog down" in (scene.run().note or "")
        assert is_noted is (act is stumble)


@pytest.mark.parametrize(("then", "expected"), [(complete, type(None)), (refuse, TemporaryError)])
async def test_only_a_final_failure_looks_for_the_address_of_its_refusal(
    clock: ManualClock, then: Act, expected: type
) -> None:
    """Neither a success nor a refusal beside a possible start notes that it isn't reported."""
    builder = Forgetful("CODE_BUILD", made=False)
    handler = then if then is complete else first_starts(then)
    async with opened(
        clock, builder=builder, tiers=DownCatalog(), url=None, TENANT_PROVISIONING=handler
    ) as scene:
        if then is refuse:
            await scene.send()
            clock.turn(6)
        assert type(await scene.send()) is expected
        assert scene.run().note is None


async def test_a_refusal_beside_its_job_is_not_reported(clock: ManualClock) -> None:
    """The operation continues with the job: no address is needed."""

    async def start_and_refuse(event: Event[Any], run: Run) -> None:
        await run.start_job("build", {})
        raise PermanentError("no")

    builder = Forgetful("CODE_BUILD", error=None)
    async with opened(
        clock, builder=builder, tiers=DownCatalog(), url=None, TENANT_PROVISIONING=start_and_refuse
    ) as scene:
        assert type(await scene.send()) is PermanentError
        assert (scene.run().status, scene.operation.job) == ("failed", scene.job)


# --- attempts that are used up ---------------------------------------------------------------


@pytest.mark.parametrize("made", [True, False])
async def test_after_the_last_bug_the_job_is_looked_up_and_nothing_is_started(
    clock: ManualClock, made: bool
) -> None:
    """The last attempt that is allowed has left a start behind."""
    calls = list[int]()

    async def handler(event: Event[Any], run: Run) -> None:
        calls.append(run.attempt)
        await run.start_job("build", {})

    builder = Forgetful("CODE_BUILD", made=made, error=ValueError("a bug of the builder's"))
    async with opened(clock, builder=builder, max_attempts=1, TENANT_PROVISIONING=handler) as scene:
        builder.is_listed = False
        assert isinstance(await scene.send(), HandlerFailed)
        assert (scene.run().status, scene.run().bugs) == ("retry", 1)
        builder.is_listed = True
        clock.turn(LONG_S)
        answer = await scene.send()
        assert calls == ([1, 2] if made else [1])
        if made:
            assert answer is None
            assert (scene.run().status, scene.operation.job) == ("succeeded", scene.job)
            assert builder.looks == 2  # by each attempt: the handler gets the job that was found
        else:
            assert isinstance(answer, PermanentError)
            assert scene.run().status == "failed"
            assert await scene.is_free()


@pytest.mark.parametrize("made", [True, False])
async def test_an_event_that_opens_nothing_is_tried_after_its_last_bug(
    clock: ManualClock, made: bool
) -> None:
    """It fails at the last attempt, whatever may be out; redelivered, it is attempted again."""
    calls = list[int]()

    async def handler(event: Event[Any], run: Run) -> None:
        calls.append(run.attempt)
        await run.start_job("build", {})

    builder = Forgetful("CODE_BUILD", made=made, error=ValueError("a bug of the builder's"))
    async with opened(clock, builder=builder, max_attempts=1, ORDER=handler) as scene:
        assert isinstance(await scene.send(ORDER), HandlerFailed)
        assert (scene.run("ORDER").status, scene.all(OperationRecord)) == ("failed", [])
        clock.turn(LONG_S)
        await scene.send(ORDER)
        assert calls == [1, 2]


@pytest.mark.parametrize("made", [True, False])
async def test_the_last_bug_fails_a_run_with_its_job(clock: ManualClock, made: bool) -> None:
    """Nothing is in doubt once the job of an earlier start is found, or none was sent."""

    async def handler(event: Event[Any], run: Run) -> None:
        if made:
            await run.start_job("build", {})
        raise ValueError("a bug")

    async with opened(clock, max_attempts=1, TENANT_PROVISIONING=handler) as scene:
        if made:
            assert isinstance(await scene.send(), TemporaryError)
        assert isinstance(await scene.send(), HandlerFailed)
        assert (scene.run().status, scene.run().bugs) == ("failed", 1)


# --- an attempt that lost the run --------------------------------------------------------------


@pytest.mark.parametrize("breaks", [False, True], ids=["fenced", "broke down"])
@pytest.mark.parametrize("answer", ["job", "lost"])
async def test_an_attempt_that_lost_its_lease_leaves_its_job_to_the_operation(
    clock: ManualClock, breaks: bool, answer: str
) -> None:
    """The job that it started, or found by a lookup, whether the settle was refused or raised."""

    async def handler(event: Event[Any], run: Run) -> None:
        scene.ledger.before_commit.append(lose)
        await run.start_job("build", {})

    async def lose() -> None:
        await scene.take_over()
        if breaks:
            raise RuntimeError("a bug of the ledger's")

    builder = Forgetful("CODE_BUILD")
    builder.error = TemporaryError("answer lost") if answer == "lost" else None
    async with opened(clock, builder=builder, TENANT_PROVISIONING=handler) as scene:
        error = await scene.send()
        assert isinstance(error, TemporaryError)
        assert "was taken over by another attempt" in str(error)
        assert (scene.operation.state, scene.operation.job) == ("open", scene.job)
        assert builder.looks == (1 if answer == "lost" else 0)
        assert scene.run().status == "running"


@pytest.mark.parametrize("starts", [False, True])
async def test_an_attempt_that_lost_its_lease_raises_taken_over_whatever_a_lookup_finds(
    clock: ManualClock, starts: bool
) -> None:
    """`TakenOver` is raised also if the builder can't be queried; without a start it isn't."""

    async def handler(event: Event[Any], run: Run) -> None:
        scene.ledger.before_commit.append(scene.take_over)
        if starts:
            await run.start_job("build", {})

    builder = Forgetful("CODE_BUILD", look_error=TemporaryError("down"))
    async with opened(clock, builder=builder, TENANT_PROVISIONING=handler) as scene:
        assert "was taken over by another attempt" in str(await scene.send())
        assert builder.looks == int(starts)
        assert scene.operation.job is None


@pytest.mark.parametrize("is_answered", [True, False])
async def test_a_start_that_is_answered_beside_the_settle_may_still_be_out(
    clock: ManualClock, is_answered: bool
) -> None:
    """Its operation must not end without a job because of it, nor at the second try of the settle;
    if it is still under way, the run has its builder and the last time at which it can be sent."""
    asked, go_on = asyncio.Event(), asyncio.Event()
    starts = list[asyncio.Task[Job]]()

    class Deferred(Forgetful):
        async def start_job(
            self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
        ) -> Job:
            asked.set()
            await go_on.wait()
            raise PermanentError("refused")

    class Slow(DeskLedger):
        """Before the settle's read is answered, the start is answered."""

        async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
            found = await super().load(keys)
            if is_answered and asked.is_set() and not starts[0].done():
                go_on.set()
                await asyncio.wait(starts)
                assert isinstance(starts[0].exception(), PermanentError)
            return found

    async def handler(event: Event[Any], run: Run) -> None:
        starts.append(asyncio.create_task(run.start_job("build", {})))
        run.complete()

    async with opened(
        clock, builder=Deferred("CODE_BUILD"), ledger=Slow(), TENANT_PROVISIONING=handler
    ) as scene:
        assert isinstance(await scene.send(), TemporaryError)
        run = scene.run()
        assert (run.status, scene.operation.state) == ("retry", "open")
        lease_s = scene.orchestrator.services.transactions.timings.lease_s
        lease_until = clock.now() + timedelta(seconds=lease_s)
        sent = (clock.now(), None) if is_answered else (lease_until, "CODE_BUILD")
        assert (run.possible_until, run.sent_to) == sent
        go_on.set()
        await asyncio.gather(*starts, return_exceptions=True)


@pytest.mark.parametrize("ends", [refuse, stumble, complete])
async def test_nothing_is_started_while_the_attempt_is_settled(
    clock: ManualClock, ends: Act
) -> None:
    """A task that a handler leaves behind starts no job beside an operation that ends without."""
    ledger, builder, refused = DeskLedger(), Forgetful("CODE_BUILD", error=None), list[str]()

    async def leave_behind(event: Event[Any], run: Run) -> None:
        async def start_late() -> None:
            with pytest.raises(TemporaryError) as late:
                await run.start_job("build", {})
            refused.append(str(late.value))

        ledger.before_commit.append(start_late)
        await ends(event, run)

    async with opened(
        clock, builder=builder, ledger=ledger, max_attempts=1, TENANT_PROVISIONING=leave_behind
    ) as scene:
        await scene.send()
        assert builder.started == []
        assert refused == ["The attempt has ended: nothing is started any more."]
        assert scene.run().possible_until is None
