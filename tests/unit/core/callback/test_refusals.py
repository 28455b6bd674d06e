"""A request that could not begin is told to the control plane: once, and beside no new attempt."""

import asyncio
from typing import Any

import attrs
import pytest

from orchestrator.core.callback.report import ReportSender, report_body
from orchestrator.core.errors import TemporaryError
from orchestrator.core.events.event_types import ENDS
from orchestrator.core.ledger.guarding import guarded
from orchestrator.core.ledger.lease import RunLease
from orchestrator.core.ledger.record_parts import OperationState, Report
from orchestrator.core.ledger.records import OperationRecord, RunStatus
from tests.desk import PROVISIONED, PROVISIONING, SENT_AT, Desk
from tests.unit.core.callback.reports import FakeWebhook
from tests.unit.core.ledger.test_postponing import raising

URL = "https://control.example/webhook"
REFUSAL = Report(
    url=URL, body=report_body("t-1", succeeded=False, resources=[], app_plane_url=None)
)
SUCCESS = Report(url=URL, body=report_body("t-1", succeeded=True, resources=[], app_plane_url=None))


@attrs.define
class Told:
    """A desk, and what the control plane got: 0 for a failure, 1 for a success."""

    desk: Desk = attrs.field(factory=Desk)
    got: list[int] = attrs.field(factory=list)

    async def open(self) -> RunLease:
        """The request comes in, for the first time or again."""
        return await self.desk.claimed(PROVISIONING, "a", key="k", as_of=SENT_AT)

    async def refuse(self, **options: Any) -> None:
        """It comes in, and can't begin."""
        await self.desk.fail(await self.open(), **{"report": REFUSAL, **options})

    async def succeed(self, attempt: RunLease) -> None:
        """It has a job, which is over."""
        await self.desk.finish(attempt, self.desk.job("b-1"))
        outcome = await self.desk.claimed(PROVISIONED, "done")
        await self.desk.finish(outcome, ending=ENDS[PROVISIONED], report=SUCCESS)

    async def operation(self) -> OperationRecord:
        return await self.desk.operation("k")

    async def send(self, *answers: Any, webhook: FakeWebhook | None = None) -> None:
        """The sweep comes by."""
        webhook = webhook or FakeWebhook(list(answers))
        operation_id = (await self.operation()).operation_id
        try:
            await ReportSender(transactions=self.desk.transactions, webhook=webhook).send(
                operation_id
            )
        finally:
            self.got += [int('"status":1' in text) for _, text, _ in webhook.posted]


@pytest.fixture
def told() -> Told:
    return Told()


async def test_a_refusal_is_due_at_once(told: Told) -> None:
    """With the request's credentials, which are erased once it is accepted; its run says so."""
    await told.refuse()
    operation = await told.operation()
    assert (operation.state, operation.due_at) == (
        OperationState.GIVEN_BACK,
        told.desk.clock.now(),
    )
    assert operation.credentials is not None
    await told.send(204)
    operation = await told.operation()
    assert (operation.credentials, operation.due_at, told.got) == (None, None, [0])
    run = await told.desk.run(PROVISIONING, "a")
    assert (run.status, run.note) == (RunStatus.FAILED, "The control plane accepted the report.")


async def test_without_a_secret_no_refusal_is_noted(told: Told) -> None:
    """It could not be signed."""
    attempt = await told.desk.claimed(PROVISIONING, "a", key="k")
    await told.desk.fail(attempt, report=REFUSAL)
    operation = await told.operation()
    assert (operation.report, operation.due_at) == (None, None)


async def test_no_refusal_is_wanted(told: Told) -> None:
    """Then no secret is kept either."""
    await told.refuse(report=None)
    operation = await told.operation()
    assert (operation.report, operation.due_at, operation.credentials) == (None, None, None)


async def test_an_accepted_refusal_is_not_reported_again(told: Told) -> None:
    """The request is sent again and refused again: the control plane has already ended it."""
    await told.refuse()
    await told.send(204)
    await told.refuse()
    operation = await told.operation()
    assert (operation.due_at, operation.credentials) == (None, None)
    told.desk.turn(300)
    await told.send(204)
    assert told.got == [0]
    await told.refuse()
    told.desk.turn(300)
    await told.send(204)
    assert told.got == [0]


async def test_a_refusal_whose_report_was_given_up_is_reported_again(told: Told) -> None:
    """The control plane has sent the request again, and may be waiting for its end."""
    await told.refuse()
    await told.send(401)
    await told.refuse()
    await told.send(204)
    assert told.got == [0, 0]


async def test_an_unsent_refusal_is_dropped_when_its_request_is_begun_again(told: Told) -> None:
    """It would tell of a failure that a new attempt may yet mend."""
    await told.refuse()
    await told.send(503)
    attempt = await told.open()
    assert (await told.operation()).report is None
    told.desk.turn(10)
    await told.send(204)
    assert told.got == [0]
    await told.succeed(attempt)
    await told.send(204)
    assert told.got == [0, 1]


async def test_no_refusal_is_sent_while_a_new_attempt_is_in_progress(told: Told) -> None:
    """Nor once its job is checked: a refusal that may have arrived is suspended."""
    await told.refuse()
    await told.send(500)
    attempt = await told.open()
    told.desk.turn(10)
    await told.send(204)
    await told.desk.finish(attempt, told.desk.job("b-1"))
    told.desk.turn(60)
    assert (await told.operation()).due_at == told.desk.clock.now()
    await told.send(204)
    assert told.got == [0]


async def test_an_opening_suspends_a_refusal_that_is_being_posted(told: Told) -> None:
    """Its answer is recorded, and changes neither the credentials nor the due time of the new
    attempt."""
    await told.refuse()
    posting = FakeWebhook([204])
    attempts: list[RunLease] = []

    async def come_again() -> None:
        attempts.append(await told.open())
        await told.desk.finish(attempts[0], told.desk.job("b-1"))

    posting.meanwhile = come_again
    await told.send(webhook=posting)
    operation = await told.operation()
    assert (operation.state, operation.due_at) == (OperationState.OPEN, told.desk.later(60))
    assert operation.credentials is not None
    assert operation.report is not None
    assert operation.report.was_accepted


async def dies_while_posting(told: Told) -> None:
    """A refusal is posted, and nobody hears the answer."""
    dying = FakeWebhook([204])

    async def die() -> None:
        raise asyncio.CancelledError

    dying.meanwhile = die
    with pytest.raises(asyncio.CancelledError):
        await told.send(webhook=dying)


@pytest.mark.parametrize(("answer", "is_told"), [(204, True), (401, True), (422, False)])
async def test_the_next_give_back_resumes_a_suspended_refusal(
    told: Told, answer: int, is_told: bool
) -> None:
    """After the 60 s of the attempt that posts it; it may have arrived, and a 401 then says so."""
    await told.refuse()
    await dies_while_posting(told)
    await told.refuse()
    told.desk.turn(59)
    await told.send(204)
    assert told.got == [0]
    told.desk.turn(1)
    await told.send(answer)
    report = (await told.operation()).report
    assert report is not None
    assert (report.was_accepted, told.got) == (is_told, [0, 0])


async def test_no_other_report_begins_while_a_refusal_is_being_posted(told: Told) -> None:
    """The new attempt is over within its 60 s, and waits for them."""
    await told.refuse()
    await dies_while_posting(told)
    told.desk.turn(20)
    await told.succeed(await told.open())
    await told.send(204)
    told.desk.turn(39)
    await told.send(204)
    assert told.got == [0]
    told.desk.turn(1)
    await told.send(204)
    assert told.got == [0, 1]


async def test_a_late_answer_to_a_refusal_does_not_count_for_a_later_report(told: Told) -> None:
    """Although each is the first attempt at its report."""
    await told.refuse()
    slow = FakeWebhook([204])

    async def take_long() -> None:
        await told.succeed(await told.open())
        told.desk.turn(61)
        await dies_while_posting(told)

    slow.meanwhile = take_long
    await told.send(webhook=slow)
    report = (await told.operation()).report
    assert report is not None
    assert (report.done_at, report.tries, report.body) == (None, 1, SUCCESS.body)


async def test_a_look_that_breaks_down_gives_up_no_refusal(told: Told) -> None:
    """A refusal that may have arrived is kept beside the new attempt, whose looks are no report."""
    await told.refuse()
    lost = TemporaryError("no answer")
    await told.send(lost)
    await told.desk.finish(await told.open(), told.desk.job("b-1"))
    operation = await told.operation()
    assert operation.report is not None
    for _ in range(told.desk.timings.max_attempts):
        told.desk.turn(600)
        await guarded(told.desk.transactions, operation.key, raising(UnicodeError("hunter2")))
    operation = await told.operation()
    assert operation.report is not None
    assert (operation.state, operation.report.done_at) == (OperationState.OPEN, None)
