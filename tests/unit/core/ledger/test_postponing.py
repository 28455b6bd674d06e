"""Due items that raise: put off by a pause of their own, counted, and given up in the end."""

from collections.abc import Awaitable, Callable

import attrs
import pytest
from structlog.testing import capture_logs

from orchestrator.core.errors import PermanentError, TemporaryError, Waiting
from orchestrator.core.ledger.claim_request import Trigger
from orchestrator.core.ledger.guarding import guarded
from orchestrator.core.ledger.record_parts import OperationState, Report
from orchestrator.core.ledger.records import (
    OperationRecord,
    SecretsRecord,
    operation_key,
    run_key,
    secrets_key,
)
from tests.desk import ORDER, Desk, run_id

DOWN = TemporaryError("down")
BUG = UnicodeError("hunter2")


def raising(error: Exception) -> Callable[[], Awaitable[object]]:
    async def work() -> object:
        raise error

    return work


async def due_run(desk: Desk) -> str:
    """The key of a run that is due."""
    await desk.hand_back(await desk.claimed(ORDER, "a"), pause_s=5)
    desk.turn(5)
    return run_key(run_id(ORDER, "a"))


async def test_guarded_work_returns_its_result(desk: Desk) -> None:
    """The work's result is returned, and costs no request more."""

    async def work() -> int:
        return 7

    result: object = await guarded(desk.transactions, "RUN#a", work)
    assert result == 7
    assert desk.ledger.requests == []


async def test_a_run_that_can_not_be_claimed_waits_longer_each_time(desk: Desk) -> None:
    """The failed claim has written nothing; the run's note says why."""
    key = await due_run(desk)
    pauses = []
    for _ in range(8):
        assert await guarded(desk.transactions, key, raising(DOWN)) is DOWN
        run = await desk.run(ORDER, "a")
        assert run.due_at is not None
        pauses.append((run.due_at - desk.clock.now()).total_seconds())
        desk.turn(pauses[-1])
    assert pauses == [10, 20, 40, 80, 160, 300, 300, 300]
    assert (run.note, run.bugs, run.attempt) == ("down", 0, 1)


async def test_a_run_that_a_bug_keeps_from_its_claim_ends(desk: Desk) -> None:
    """It is counted as any attempt that breaks down is."""
    key = await due_run(desk)
    for bugs in range(1, desk.timings.max_attempts + 1):
        await guarded(desk.transactions, key, raising(BUG))
        run = await desk.run(ORDER, "a")
        assert (run.bugs, run.ends_by_records) == (bugs, bugs == desk.timings.max_attempts)
        desk.turn(300)
    assert "hunter2" not in repr(run)


@pytest.mark.parametrize("error", [DOWN, BUG])
async def test_a_run_with_a_live_lease_is_not_postponed(desk: Desk, error: Exception) -> None:
    """Another process has claimed the run meanwhile."""
    key = await due_run(desk)
    await desk.claimed(ORDER, "a", trigger=Trigger.SWEEP)
    before = await desk.run(ORDER, "a")
    await guarded(desk.transactions, key, raising(error))
    assert await desk.run(ORDER, "a") == before


@pytest.mark.parametrize("is_held", [False, True])
async def test_a_run_that_is_resumed_meanwhile_is_left_alone(desk: Desk, is_held: bool) -> None:
    """It was handed back for later, or is held by a process that allows less skew."""
    key = await due_run(desk)
    lease = await desk.claimed(ORDER, "a")
    if is_held:
        await desk.ledger.put(attrs.evolve(lease.run, due_at=desk.clock.now()))
    else:
        await desk.hand_back(lease, pause_s=5)
    before = await desk.run(ORDER, "a")
    await guarded(desk.transactions, key, raising(DOWN))
    assert await desk.run(ORDER, "a") == before


async def test_an_error_that_its_run_has_recorded_is_not_written_again(desk: Desk) -> None:
    """An error that its attempt has recorded, with a due time, isn't written again."""
    key = await due_run(desk)
    desk.ledger.requests.clear()
    waits = Waiting("busy", run_id(ORDER, "a"), retry_after_s=15)
    assert await guarded(desk.transactions, key, raising(waits)) is waits
    assert desk.ledger.requests == []


async def logs_given_up(desk: Desk, key: str, error: Exception) -> bool:
    """Whether the log says that the item is given up."""
    with capture_logs() as logs:
        await guarded(desk.transactions, key, raising(error))
    said = {entry["event"] for entry in logs}
    assert "not postponed" not in said
    return "given up" in said


@pytest.mark.parametrize("error", [DOWN, BUG])
async def test_what_is_only_put_off_is_not_logged_as_given_up(desk: Desk, error: Exception) -> None:
    """Neither is an item that another process has finished, or is working on."""
    begun = attrs.evolve(await over(desk), due_at=desk.later(60))
    await desk.ledger.put(begun)
    due = await due_run(desk)
    for key in (begun.key, due, due, run_key("gone")):
        assert not await logs_given_up(desk, key, error)
    await desk.ledger.put(attrs.evolve(begun, due_at=desk.clock.now()))
    assert not await logs_given_up(desk, begun.key, error)


async def over(desk: Desk) -> OperationRecord:
    attempt = await desk.provision()
    operation = attrs.evolve(await desk.operation(of=attempt), due_at=desk.clock.now())
    await desk.ledger.put(operation)
    return operation


async def test_a_check_that_could_not_begin_is_postponed(desk: Desk) -> None:
    """The check is due again after a minute, and its operation has the reason."""
    operation = await over(desk)
    await guarded(desk.transactions, operation.key, raising(DOWN))
    (found,) = (await desk.ledger.load([operation.key])).values()
    assert isinstance(found, OperationRecord)
    assert (found.due_at, found.trouble, found.bugs) == (desk.later(60), "down", 0)


async def test_a_check_that_another_process_has_begun_is_not_postponed(desk: Desk) -> None:
    """A temporary error doesn't change it; a bug never makes it due earlier."""
    operation = attrs.evolve(await over(desk), due_at=desk.later(60))
    await desk.ledger.put(operation)
    desk.ledger.requests.clear()
    await guarded(desk.transactions, operation.key, raising(DOWN))
    assert desk.ledger.requests == ["load"]
    await guarded(desk.transactions, operation.key, raising(BUG))
    (found,) = (await desk.ledger.load([operation.key])).values()
    assert isinstance(found, OperationRecord)
    assert (found.due_at, found.bugs) == (desk.later(60), 1)


async def test_a_check_that_fails_by_a_bug_waits_longer_each_time(desk: Desk) -> None:
    """Its pauses are those of a run's attempts, and it is never given up."""
    operation, pauses = await over(desk), []
    for _ in range(desk.timings.max_attempts + 2):
        await guarded(desk.transactions, operation.key, raising(BUG))
        (found,) = (await desk.ledger.load([operation.key])).values()
        assert isinstance(found, OperationRecord)
        assert found.due_at is not None
        pauses.append((found.due_at - desk.clock.now()).total_seconds())
        desk.turn(pauses[-1])
    assert pauses == [5, 10, 20, 40, 80, 160, 300]


@pytest.mark.parametrize(("error", "is_given_up"), [(DOWN, False), (BUG, True)])
async def test_only_a_bug_gives_a_report_up(
    desk: Desk, error: Exception, is_given_up: bool
) -> None:
    """The bugs so far were those of its job's checks; a control plane that is down is no bug."""
    report = Report(url="https://cp.example/webhook", body={"x": 1})
    reported = attrs.evolve(
        await over(desk),
        state=OperationState.OVER,
        bugs=desk.timings.max_attempts,
        report=report,
    )
    await desk.ledger.put(reported)
    assert await logs_given_up(desk, reported.key, error) is is_given_up
    (found,) = (await desk.ledger.load([reported.key])).values()
    assert isinstance(found, OperationRecord)
    assert found.report is not None
    assert (found.report.done_at is not None, found.due_at is None) == (is_given_up,) * 2


async def test_a_report_that_was_sent_is_not_given_up(desk: Desk) -> None:
    """What is due of its operation is other work, which is due again after a pause."""
    sent = Report(url="https://cp.example/webhook", body={"x": 1}, done_at=desk.clock.now())
    reported = attrs.evolve(
        await over(desk), state=OperationState.OVER, bugs=desk.timings.max_attempts, report=sent
    )
    await desk.ledger.put(reported)
    with capture_logs() as logs:
        await guarded(desk.transactions, reported.key, raising(BUG))
    (found,) = (await desk.ledger.load([reported.key])).values()
    assert isinstance(found, OperationRecord)
    assert (found.report, found.due_at) == (sent, desk.later(160))
    assert [entry["event"] for entry in logs] == ["due item failed"]


async def test_a_run_that_failed_is_not_counted_by_a_sweep(desk: Desk) -> None:
    """Only a delivery of its event is a new attempt of it."""
    await desk.fail(await desk.claimed(ORDER, "a"))
    before = await desk.run(ORDER, "a")
    await guarded(desk.transactions, before.key, raising(BUG))
    assert await desk.run(ORDER, "a") == before


@pytest.mark.parametrize("due_s", [0, 9])
async def test_secrets_that_can_not_be_removed_are_postponed(desk: Desk, due_s: float) -> None:
    """They are due after the pause of all secrets, unless another process postponed them since."""
    kept = SecretsRecord(
        start_key="s-1",
        operation_id="s",
        start_number=1,
        run_id="r",
        kind="SECRETS_MANAGER",
        noted_at=desk.clock.now(),
        due_at=desk.later(due_s),
    )
    await desk.ledger.put(kept)
    assert not await logs_given_up(desk, secrets_key("s-1"), BUG)
    (found,) = (await desk.ledger.load([kept.key])).values()
    assert isinstance(found, SecretsRecord)
    assert found.due_at == desk.later(due_s or 60)


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (DOWN, {"event": "due item not done yet", "reason": "down", "log_level": "info"}),
        (BUG, {"event": "due item failed", "exc_info": BUG, "log_level": "error"}),
    ],
)
async def test_why_an_item_is_postponed_is_logged(
    desk: Desk, error: Exception, logged: dict[str, object]
) -> None:
    """The log line has the reason, and names the item."""
    operation = await over(desk)
    with capture_logs() as logs:
        await guarded(desk.transactions, operation.key, raising(error))
    assert logs == [{"due": operation.key, **logged}]


async def test_what_is_given_up_is_logged_with_its_reason(desk: Desk) -> None:
    """The log line is all that is left of the cause."""
    report = Report(url="https://cp.example/webhook", body={"x": 1})
    state, bugs = OperationState.OVER, desk.timings.max_attempts
    reported = attrs.evolve(await over(desk), state=state, bugs=bugs, report=report)
    await desk.ledger.put(reported)
    with capture_logs() as logs:
        await guarded(desk.transactions, reported.key, raising(BUG))
    reason = "It failed with UnicodeError; the log has the cause."
    about = {"event": "given up", "due": reported.key, "reason": reason}
    assert logs[1:] == [{**about, "log_level": "error"}]


@pytest.mark.parametrize("error", [DOWN, BUG, PermanentError("no")])
async def test_a_ledger_that_is_down_stops_no_other(desk: Desk, error: Exception) -> None:
    """An item that can't be postponed either stays due; only a bug is logged as an error."""
    operation = await over(desk)
    levels = list[str]()
    for failure in (TemporaryError("no ledger"), PermanentError("no room"), RuntimeError("a bug")):
        desk.ledger.failures.append(failure)
        with capture_logs() as logs:
            assert await guarded(desk.transactions, operation.key, raising(error)) is error
        levels += [entry["log_level"] for entry in logs if entry["event"] == "not postponed"]
    assert levels == ["info", "info", "error"]
    assert await guarded(desk.transactions, operation_key("none"), raising(error)) is error
