"""What a handler may do with its run, and what is remembered of it from attempt to attempt."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
import pytest

from orchestrator import (
    Event,
    Extension,
    HandlerFailed,
    HandlerRegistry,
    InvalidPayload,
    Job,
    PermanentError,
    Run,
    Settings,
    TemporaryError,
    open_orchestrator,
)
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.dispatch.orchestrator import EventOrchestrator
from orchestrator.core.ledger.records import Record, RunRecord, RunStatus
from orchestrator.settings import Builders, Operations, Tiers
from orchestrator.testing import InMemoryBuilder, ManualClock, SequentialIds, envelope
from tests.ledgers import find_run

Act = Callable[[Run], Awaitable[None]]


@attrs.frozen
class Account:
    account_id: str
    opened_at: datetime


class NoJobBuilder:
    """A builder that has nothing to show for a start."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job | None:
        return None


@attrs.define
class BusyBuilder:
    """A builder that can never take a job now."""

    asked: list[tuple[str, str, Mapping[str, Any]]] = attrs.field(factory=list)

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job | None:
        self.asked.append((job_identifier, start_key, dict(params)))
        raise TemporaryError("busy", nothing_done=True)


@attrs.define
class Desk:
    """An orchestrator whose handler of ORDER does what the test says."""

    orchestrator: EventOrchestrator
    ledger: InMemoryLedger
    builder: InMemoryBuilder
    busy: BusyBuilder
    clock: ManualClock
    acts: list[Act]
    runs: list[Run]

    async def deliver(
        self, act: Act, *, event_id: str = "order-1", fails: type[Exception] | None = None
    ) -> RunRecord:
        """Deliver the order once, let `act` handle it, and look at its run."""
        self.acts.append(act)
        order = envelope("ORDER", {"tenantId": "t-1"}, event_id=event_id)
        if fails is None:
            await self.orchestrator.handle_event("ORDER", order)
        else:
            with pytest.raises(fails):
                await self.orchestrator.handle_event("ORDER", order)
        record = await find_run(self.ledger, self.runs[-1].run_id)
        assert record is not None
        return record


@pytest.fixture
async def desk(clock: ManualClock) -> AsyncIterator[Desk]:
    ledger, registry = InMemoryLedger(), HandlerRegistry()
    builder, busy = InMemoryBuilder(), BusyBuilder()
    acts: list[Act] = []
    runs: list[Run] = []

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        runs.append(run)
        await acts.pop()(run)

    settings = Settings(
        operations=Operations(reconcile_every_s=0),
        tiers=Tiers(backend="static", static={"BASIC": {"VPC_ID": "vpc-1"}}),
        builders=Builders(default="IN_MEMORY"),
    )
    extension = Extension(
        registry=registry,
        builders={
            "IN_MEMORY": builder,
            "OTHER": InMemoryBuilder("OTHER"),
            "NONE": NoJobBuilder(),
            "BUSY": busy,
        },
    )
    async with open_orchestrator(
        settings, extension=extension, clock=clock, ids=SequentialIds(), ledger=ledger
    ) as orchestrator:
        yield Desk(orchestrator, ledger, builder, busy, clock, acts, runs)


def returning(value: object, calls: list[str] | None = None) -> Callable[[], Awaitable[object]]:
    async def action() -> object:
        if calls is not None:
            calls.append("called")
        return value

    return action


async def never() -> object:
    raise AssertionError("the step was taken again")


async def test_a_remembered_step_is_not_repeated(desk: Desk) -> None:
    """The second attempt gets the result of the first, even if it was nothing."""
    seen: list[object] = []

    async def first(run: Run) -> None:
        await run.step("open", returning({"id": 1}))
        await run.step("notify", returning(None))
        raise TemporaryError("later")

    async def second(run: Run) -> None:
        assert run.attempt == 2
        seen.append(await run.step("open", never))
        seen.append(await run.step("notify", never))

    await desk.deliver(first, fails=TemporaryError)
    record = await desk.deliver(second)
    assert seen == [{"id": 1}, None]
    assert {name: step.result for name, step in record.steps.items()} == {
        "open": {"id": 1},
        "notify": None,
    }


@pytest.mark.parametrize("fails", [TemporaryError, PermanentError, HandlerFailed])
async def test_steps_are_remembered_however_the_attempt_ends(
    desk: Desk, fails: type[Exception]
) -> None:
    """What was done is done, whether the handler gave up, was refused or has a bug."""

    async def act(run: Run) -> None:
        await run.step("open", returning("done"))
        raise fails("no") if fails is not HandlerFailed else ZeroDivisionError

    record = await desk.deliver(act, fails=fails)
    assert record.steps["open"].result == "done"


async def test_a_failed_action_is_not_remembered(desk: Desk) -> None:
    """A step whose action raised is taken again in the next attempt."""

    async def refused() -> object:
        raise TemporaryError("busy", nothing_done=True)

    async def first(run: Run) -> None:
        await run.step("open", refused)

    async def second(run: Run) -> None:
        assert await run.step("open", returning(2)) == 2

    assert (await desk.deliver(first, fails=TemporaryError)).steps == {}
    assert (await desk.deliver(second)).steps["open"].result == 2


async def test_a_result_takes_the_way_through_json_on_the_first_run_too(desk: Desk) -> None:
    """The first attempt sees the very value that a later one will see."""
    seen: list[object] = []

    async def first(run: Run) -> None:
        account = Account("a-1", desk.clock.now())
        seen.append(await run.step("open", returning({1: (account,)})))
        raise TemporaryError("later")

    async def second(run: Run) -> None:
        seen.append(await run.step("open", never))

    await desk.deliver(first, fails=TemporaryError)
    await desk.deliver(second)
    expected = {"1": [{"accountId": "a-1", "openedAt": "2026-11-20T09:00:00+00:00"}]}
    assert seen == [expected, expected]


async def test_a_result_becomes_its_model_again(desk: Desk) -> None:
    """With `returns` both attempts get the model."""
    account, seen = Account("a-1", desk.clock.now()), []

    async def first(run: Run) -> None:
        seen.append(await run.step("open", returning(account), returns=Account))
        seen.append(await run.step("list", returning([account]), returns=list[Account]))
        raise TemporaryError("later")

    async def second(run: Run) -> None:
        seen.append(await run.step("open", never, returns=Account))
        seen.append(await run.step("list", never, returns=list[Account]))

    await desk.deliver(first, fails=TemporaryError)
    await desk.deliver(second)
    assert seen == [account, [account], account, [account]]


async def test_a_result_that_is_not_its_model_is_remembered_all_the_same(desk: Desk) -> None:
    """The action has happened, so that a wrong `returns` must not lead to it again."""

    async def act(run: Run) -> None:
        await run.step("open", returning({"accountId": 1}), returns=Account)

    record = await desk.deliver(act, fails=InvalidPayload)
    assert record.steps["open"].result == {"accountId": 1}


async def test_a_result_without_a_json_form_is_a_bug(desk: Desk) -> None:
    """What can't be remembered is refused."""

    async def act(run: Run) -> None:
        with pytest.raises(TypeError):
            await run.step("open", returning(object()))
        raise TemporaryError("later")

    assert (await desk.deliver(act, fails=TemporaryError)).steps == {}


async def test_a_step_is_taken_once_in_a_run(desk: Desk) -> None:
    """A second step of the same name is an error that names it, and its action is not called."""

    async def act(run: Run) -> None:
        await run.step("open", returning(1))
        with pytest.raises(ValueError, match="'open' is taken twice"):
            await run.step("open", never)

    await desk.deliver(act)


async def test_a_remembered_step_is_taken_once_as_well(desk: Desk) -> None:
    """The rule is the same in an attempt that finds the step remembered."""

    async def first(run: Run) -> None:
        await run.step("open", returning(1))
        raise TemporaryError("later")

    async def second(run: Run) -> None:
        await run.step("open", never)
        with pytest.raises(ValueError, match="'open' is taken twice"):
            await run.step("open", never)

    await desk.deliver(first, fails=TemporaryError)
    await desk.deliver(second)


async def test_a_step_key_is_stable(desk: Desk) -> None:
    """The key is the same in every attempt, and differs from step to step and run to run."""
    keys: list[str] = []

    async def act(run: Run) -> None:
        keys.extend([run.step_key("open"), run.step_key("notify")])
        if len(keys) == 2:
            raise TemporaryError("later")

    await desk.deliver(act, fails=TemporaryError)
    await desk.deliver(act)
    await desk.deliver(act, event_id="order-2")
    assert keys[:2] == keys[2:4]
    assert len(set(keys)) == 4


async def test_progress_is_recorded_before_the_next_steps_action(desk: Desk) -> None:
    """When the second action runs, the first one's result is in the ledger already."""
    seen: list[Mapping[str, Any]] = []

    async def act(run: Run) -> None:
        async def look() -> None:
            record = await find_run(desk.ledger, run.run_id)
            assert record is not None
            seen.append({name: step.result for name, step in record.steps.items()})

        await run.step("one", returning(1))
        await run.step("two", look)
        await run.step("three", look)

    await desk.deliver(act)
    assert seen == [{"one": 1}, {"one": 1, "two": None}]


async def test_steps_and_job_are_recorded_before_the_next_side_effect(desk: Desk) -> None:
    """A job start waits for the step before it, a step for the job before it."""
    seen: list[tuple[list[str], bool]] = []

    async def look(run: Run) -> None:
        record = await find_run(desk.ledger, run.run_id)
        assert record is not None
        seen.append((list(record.steps), record.job is not None))

    async def act(run: Run) -> None:
        await run.step("one", returning(1))
        await run.start_job("build", {})
        await look(run)
        await run.step("two", lambda: look(run))

    await desk.deliver(act)
    assert seen == [(["one"], False), (["one"], True)]


async def test_a_step_is_dated(desk: Desk) -> None:
    """The time of a step is when its action was over, by the clock."""
    desk.clock.turn(90)
    record = await desk.deliver(_step_once)
    assert record.steps["open"].recorded_at == desk.clock.now()


async def _step_once(run: Run) -> None:
    await run.step("open", returning(1))


async def test_an_attempt_that_lost_its_run_takes_no_further_step(desk: Desk) -> None:
    """Whoever was taken over is told before its next action."""
    calls: list[str] = []

    async def act(run: Run) -> None:
        await run.step("one", returning(1))
        record = await find_run(desk.ledger, run.run_id)
        assert record is not None
        handed_back = attrs.evolve(record, status=RunStatus.RETRY)
        await desk.ledger.commit([handed_back], unchanged={})
        await run.step("two", returning(2, calls))

    record = await desk.deliver(act, fails=TemporaryError)
    assert calls == []
    assert (record.status, record.steps) == ("retry", {})


async def test_a_job_is_started_with_its_start_key_and_trace(desk: Desk) -> None:
    """The parameters go along with ORCHESTRATOR_RUN_ID, which is the start key, and TRACEPARENT."""

    async def act(run: Run) -> None:
        job = await run.start_job("build", {"A": 1})
        assert job == desk.builder.started[0].job

    record = await desk.deliver(act)
    (started,) = desk.builder.started
    assert record.job == started.job
    assert started.job.job_identifier == "build"
    assert started.params["A"] == 1
    assert started.params["ORCHESTRATOR_RUN_ID"] == started.start_key
    assert 0 < len(started.start_key) <= 64
    version, trace, span, flags = started.params["TRACEPARENT"].split("-")
    assert (version, flags) == ("00", "01")
    assert (len(trace), len(span)) == (32, 16)
    assert int(trace, 16) > 0
    assert int(span, 16) > 0


async def test_our_own_variables_cannot_be_overridden(desk: Desk) -> None:
    """An event that sets ORCHESTRATOR_RUN_ID or TRACEPARENT does not break the way back."""

    async def act(run: Run) -> None:
        await run.start_job("build", {"ORCHESTRATOR_RUN_ID": "mine", "TRACEPARENT": "mine"})

    await desk.deliver(act)
    (started,) = desk.builder.started
    assert started.params["ORCHESTRATOR_RUN_ID"] == started.start_key
    assert started.params["TRACEPARENT"] != "mine"


async def test_a_started_job_is_remembered(desk: Desk) -> None:
    """A later attempt gets the job back, and no second one is started."""
    jobs: list[Job | None] = []

    async def act(run: Run) -> None:
        jobs.append(await run.start_job("build", {}))
        if run.attempt == 1:
            raise TemporaryError("later")

    record = await desk.deliver(act, fails=TemporaryError)
    assert record.job == jobs[0]
    desk.builder.started.clear()  # a builder that has forgotten, as CodeBuild does in 5 minutes
    record = await desk.deliver(act)
    assert record.job == jobs[0] == jobs[1] is not None
    assert desk.builder.started == []


async def test_a_run_starts_one_job(desk: Desk) -> None:
    """A second start in one run is an error, as any step that is taken twice."""

    async def act(run: Run) -> None:
        await run.start_job("build", {})
        with pytest.raises(ValueError, match="taken twice"):
            await run.start_job("other", {})

    await desk.deliver(act)
    assert [started.job.job_identifier for started in desk.builder.started] == ["build"]


async def test_a_start_that_is_tried_again_is_the_same_start(desk: Desk) -> None:
    """A builder that refused once is asked again with the same key, trace and parameters."""

    async def act(run: Run) -> None:
        await run.start_job("build", {"A": 1}, builder="BUSY")

    assert (await desk.deliver(act, fails=TemporaryError)).job is None
    desk.clock.turn(600)
    await desk.deliver(act, fails=TemporaryError)
    first, second = desk.busy.asked
    assert first == second


async def test_two_events_are_two_starts(desk: Desk) -> None:
    """Another event has another start key and trace."""

    async def act(run: Run) -> None:
        await run.start_job("build", {})

    await desk.deliver(act)
    await desk.deliver(act, event_id="order-2")
    first, second = desk.builder.started
    assert first.start_key != second.start_key
    assert first.params["TRACEPARENT"] != second.params["TRACEPARENT"]


async def test_a_job_goes_to_the_builder_that_is_named(desk: Desk) -> None:
    """A name picks the builder; without one it is the default."""

    async def act(run: Run) -> None:
        await run.start_job("build", {}, builder="OTHER")

    record = await desk.deliver(act)
    assert record.job is not None
    assert record.job.builder == "OTHER"
    assert desk.builder.started == []


async def test_an_unknown_builder_is_refused_in_the_ancestors_words(desk: Desk) -> None:
    """The refusal names the field, what it says and which builders there are."""

    async def act(run: Run) -> None:
        await run.start_job("build", {}, builder="ANVIL")

    record = await desk.deliver(act, fails=PermanentError)
    assert record.error is not None
    assert record.error.message == "Invalid builder config provided."
    (mismatch,) = record.error.errors
    assert mismatch.path == "$.builderConfig.type"
    for name in ("'ANVIL'", "CODE_BUILD", "IN_MEMORY", "OTHER"):
        assert name in mismatch.message


async def test_a_builder_may_have_no_job_to_show(desk: Desk) -> None:
    """A builder that returns None has started something that only its start key names."""

    async def act(run: Run) -> None:
        job = await run.start_job("build", {}, builder="NONE")
        assert run.job == job

    job = (await desk.deliver(act)).job
    assert job is not None
    assert (job.builder, job.job_identifier, job.log_url) == ("NONE", "build", None)


async def test_tier_details_come_from_the_catalog(desk: Desk) -> None:
    """A tier has its attributes, and an unknown one is refused for good, by name."""

    async def act(run: Run) -> None:
        assert (await run.tier_details("BASIC"))["VPC_ID"] == "vpc-1"
        await run.tier_details("GOLD")

    record = await desk.deliver(act, fails=PermanentError)
    assert record.error is not None
    assert "'GOLD'" in record.error.message


async def test_a_run_knows_itself(desk: Desk) -> None:
    """Run id, attempt and tenant are the record's."""

    async def act(run: Run) -> None:
        assert run.attempt == 1
        assert run.tenant_id == "t-1"
        run.log.info("at work")

    record = await desk.deliver(act)
    assert record.run_id == desk.runs[0].run_id


async def test_a_result_that_a_handler_changes_is_remembered_as_it_was(desk: Desk) -> None:
    """What a step gives is a copy of what is remembered."""

    async def act(run: Run) -> None:
        result = await run.step("open", returning({"id": 1}))
        result["more"] = 1

    record = await desk.deliver(act)
    assert record.steps["open"].result == {"id": 1}


class SlowToCommit(InMemoryLedger):
    """A ledger that lets others in while it writes."""

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await super().commit(records, unchanged=unchanged)


async def test_steps_side_by_side_are_all_remembered(clock: ManualClock) -> None:
    """One that ends while another is being recorded is not forgotten."""
    registry = HandlerRegistry()
    calls: list[str] = []

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        async def one_after_the_other() -> None:
            await run.step("a", returning(1, calls))
            await run.step("c", returning(3, calls))

        await asyncio.gather(one_after_the_other(), run.step("b", returning(2, calls)))
        if run.attempt == 1:
            raise TemporaryError("later")

    async with open_orchestrator(
        Settings(tiers=Tiers(backend="static")),
        extension=Extension(registry=registry),
        ledger=SlowToCommit(),
    ) as orchestrator:
        event = envelope("ORDER", {})
        with pytest.raises(TemporaryError):
            await orchestrator.handle_event("ORDER", event)
        await orchestrator.handle_event("ORDER", event)
    assert len(calls) == 3
