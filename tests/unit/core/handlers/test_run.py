"""What a handler may do with its run, and what is remembered of it from attempt to attempt."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
    PermanentError,
    Run,
    Settings,
    TemporaryError,
    open_orchestrator,
)
from orchestrator.adapters.memory.ledger import InMemoryLedger
from orchestrator.core.ledger.records import Record, RunStatus
from orchestrator.settings import Tiers
from orchestrator.testing import ManualClock, envelope
from tests.ledgers import find_run
from tests.unit.core.handlers.order_desk import Desk


@attrs.frozen
class Account:
    account_id: str
    opened_at: datetime


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
    """An attempt that was taken over gets the error before its next action."""
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


async def test_tier_details_come_from_the_catalog(desk: Desk) -> None:
    """A tier has its attributes, and an unknown one is refused for good, by name."""

    async def act(run: Run) -> None:
        assert (await run.tier_details("BASIC"))["VPC_ID"] == "vpc-1"
        await run.tier_details("GOLD")

    record = await desk.deliver(act, fails=PermanentError)
    assert record.error is not None
    assert "'GOLD'" in record.error.message


@pytest.mark.parametrize(
    ("tier", "named"),
    [
        ({"jobIdentifier": "team-tenant"}, "team-tenant"),
        ({"jobName": "basic-tenant"}, "basic-tenant"),
        ({"jobIdentifier": "", "jobName": "basic-tenant"}, "basic-tenant"),
    ],
)
async def test_a_tier_names_its_job_under_either_attribute(
    desk: Desk, tier: dict[str, Any], named: str
) -> None:
    """A handler need not know which one the tier has; an empty one counts as none."""

    async def act(run: Run) -> None:
        assert run.job_identifier(tier) == named

    await desk.deliver(act)


@pytest.mark.parametrize("tier", [{"VPC_ID": "vpc-1"}, {"jobIdentifier": 5}])
async def test_a_tier_without_a_job_is_refused(desk: Desk, tier: dict[str, Any]) -> None:
    """The handler needs no check of its own: the answer names what the tier lacks."""

    async def act(run: Run) -> None:
        run.job_identifier(tier)

    record = await desk.deliver(act, fails=PermanentError)
    assert record.error is not None
    assert re.search("Job name|job identifier", record.error.message)


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
    """A ledger that lets other tasks work while it writes."""

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


async def test_the_former_name_of_the_trusted_body_works_with_a_deprecation_warning() -> None:
    """`run.told` still returns what `run.trusted_body` does, for one release."""
    registry = HandlerRegistry()
    bodies: list[object] = []

    @registry.on("ORDER")
    async def order(event: Event[dict[str, Any]], run: Run) -> None:
        with pytest.warns(DeprecationWarning, match="renamed to Run.trusted_body"):
            bodies.append(await run.told(event))
        bodies.append(await run.trusted_body(event))

    extension = Extension(registry=registry)
    async with open_orchestrator(
        Settings(tiers=Tiers(backend="static")), extension=extension, ledger=InMemoryLedger()
    ) as orchestrator:
        await orchestrator.handle_event("ORDER", {"number": 7})
    assert bodies == [{"number": 7}, {"number": 7}]
