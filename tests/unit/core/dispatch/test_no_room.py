"""What the ledger can't store: an operation ends nevertheless, and no start is forgotten."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import pytest

from orchestrator import Event, PermanentError, Run, TemporaryError
from orchestrator.core.ledger.records import PayloadRecord, Record, RunRecord
from orchestrator.testing import ManualClock
from tests.desk import DeskLedger
from tests.unit.core.dispatch.lost_answers import BARE, DONE, ORDER, URL, Forgetful, opened, stay


@attrs.define
class Narrow(DeskLedger):
    """It refuses for good the writes that the test names."""

    refuses: Callable[[Sequence[Record]], bool] = lambda records: False

    def __attrs_post_init__(self) -> None:
        DeskLedger.__init__(self)

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        if self.refuses(records):
            raise PermanentError("too large")
        await DeskLedger.commit(self, records, unchanged=unchanged)


def has_steps(records: Sequence[Record]) -> bool:
    return any(isinstance(record, RunRecord) and record.steps for record in records)


def has_more_than_its_end(records: Sequence[Record]) -> bool:
    """A settle with anything besides the bare fact."""
    ends = [one for one in records if isinstance(one, RunRecord) and one.ended_at is not None]
    is_bare = all(one.note is None and one.error and one.error.message == BARE for one in ends)
    return bool(ends) and not (is_bare and not any(isinstance(o, PayloadRecord) for o in records))


async def take_a_step(event: Event[Any], run: Run) -> None:
    async def action() -> str:
        return "more than fits"

    await run.step("large", action)


# --- what the ledger can't store --------------------------------------------------------------


async def test_steps_that_cannot_be_kept_end_by_a_look_up(clock: ManualClock) -> None:
    """The job whose answer was lost is the operation's; the run fails by the ledger's refusal."""

    async def handler(event: Event[Any], run: Run) -> None:
        try:
            await run.start_job("build", {})
        finally:
            await take_a_step(event, run)

    ledger = Narrow(refuses=has_steps)
    async with opened(clock, ledger=ledger, TENANT_PROVISIONING=handler) as scene:
        answer = await scene.send()
        assert isinstance(answer, PermanentError)
        assert (scene.run().status, scene.operation.job) == ("failed", scene.job)


async def test_a_request_whose_steps_cannot_be_kept_is_refused(clock: ManualClock) -> None:
    """The control plane gets the report of it, as of any other refusal."""
    ledger = Narrow(refuses=has_steps)
    async with opened(clock, ledger=ledger, TENANT_PROVISIONING=take_a_step) as scene:
        assert isinstance(await scene.send(), PermanentError)
        assert await scene.is_free()
        assert scene.webhook.urls == [URL]


@pytest.mark.parametrize("starts", [False, True])
async def test_a_run_without_an_operation_fails_by_steps_that_do_not_fit(
    clock: ManualClock, starts: bool
) -> None:
    """No lookup of its start delays that, and no success is reported."""

    async def handler(event: Event[Any], run: Run) -> None:
        try:
            if starts:
                await run.start_job("build", {})
        finally:
            await take_a_step(event, run)

    builder = Forgetful("CODE_BUILD", made=False)
    ledger = Narrow(refuses=has_steps)
    async with opened(clock, builder=builder, ledger=ledger, ORDER=handler) as scene:
        answer = await scene.send(ORDER)
        assert isinstance(answer, PermanentError)
        assert (scene.run("ORDER").status, builder.looks) == ("failed", 0)


async def test_an_outcome_counts_though_its_steps_cannot_be_kept(clock: ManualClock) -> None:
    """The operation is over: its handler has returned."""
    handlers: dict[str, Any] = {
        "TENANT_PROVISIONING": stay,
        "TENANT_PROVISIONING_SUCCESS": take_a_step,
    }
    ledger = Narrow(refuses=has_steps)
    async with opened(clock, ledger=ledger, **handlers) as scene:
        assert await scene.send() is None
        assert isinstance(await scene.send(DONE), PermanentError)
        assert scene.run("TENANT_PROVISIONING_SUCCESS").status == "failed"
        assert (scene.operation.state, scene.operation.succeeded) == ("over", True)


@pytest.mark.parametrize("ends", ["fails", "hands back", "is done"])
async def test_a_run_without_any_room_is_a_bare_failure(clock: ManualClock, ends: str) -> None:
    """The run has no reason, note or follow-up, however the attempt ended; the tenant is free."""

    async def handler(event: Event[Any], run: Run) -> None:
        run.note("more than fits")
        if ends == "fails":
            raise PermanentError("no")
        if ends == "hands back":
            raise TemporaryError("not now")
        run.complete()

    ledger = Narrow(refuses=has_more_than_its_end)
    async with opened(clock, ledger=ledger, TENANT_PROVISIONING=handler) as scene:
        answer = await scene.send()
        assert isinstance(answer, PermanentError)
        assert str(answer) == "too large"
        run = scene.run()
        assert run.error is not None
        assert (run.status, run.note, run.error.message) == ("failed", None, BARE)
        assert (scene.operation.state, len(scene.all(RunRecord))) == ("given_back", 1)
        assert await scene.is_free()


async def test_a_bare_failure_forgets_no_start(clock: ManualClock) -> None:
    """The operation can't be given back beside a start that may be out: the attempt is counted."""

    async def handler(event: Event[Any], run: Run) -> None:
        run.note("more than fits")
        await run.start_job("build", {})

    def refuses(records: Sequence[Record]) -> bool:
        ends = [one for one in records if isinstance(one, RunRecord) and one.ended_at]
        return any(one.note is not None for one in ends)

    async with opened(clock, ledger=Narrow(refuses=refuses), TENANT_PROVISIONING=handler) as scene:
        assert isinstance(await scene.send(), PermanentError)
        run = scene.run()
        assert (run.status, run.bugs, scene.operation.state) == ("retry", 1, "open")
        assert run.possible_until is not None
        assert run.error is not None
        assert run.error.type == "PermanentError"
