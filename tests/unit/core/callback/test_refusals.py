"""A request that could not begin is reported to the control plane: once, beside no new attempt."""

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
class Scene:
    """A desk, and the statuses that the control plane got: 0 for a failure, 1 for a success."""

    desk: Desk = attrs.field(factory=Desk)
    statuses: list[int] = attrs.field(factory=list)

    async def open(self) -> RunLease:
        """The request is claimed, for the first time or again."""
        return await self.desk.claimed(PROVISIONING, "a", key="k", as_of=SENT_AT)

    async def refuse(self, **options: Any) -> None:
        """The request is claimed, and can't begin."""
        await self.desk.fail(await self.open(), **{"report": REFUSAL, **options})

    async def succeed(self, attempt: RunLease) -> None:
        """The request gets a job, which is over."""
        await self.desk.finish(attempt, self.desk.job("b-1"))
        outcome = await self.desk.claimed(PROVISIONED, "done")
        await self.desk.finish(outcome, ending=ENDS[PROVISIONED], report=SUCCESS)

    async def operation(self) -> OperationRecord:
        return await self.desk.operation("k")

    async def send(self, *answers: Any, webhook: FakeWebhook | None = None) -> None:
        """Send the report, as a sweep does."""
        webhook = webhook or FakeWebhook(list(answers))
        operation_id = (await self.operation()).operation_id
        try:
            await ReportSender(transactions=self.desk.transactions, webhook=webhook).send(
                operation_id
            )
        finally:
            self.statuses += [int('"status":1' in text) for _, text, _ in webhook.posted]


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_refusal_is_due_at_once(scene: Scene) -> None:
    """It has the request's credentials until it is accepted, and its run says that it was."""
    await scene.refuse()
    operation = await scene.operation()
    assert (operation.state, operation.due_at) == (
        OperationState.GIVEN_BACK,
        scene.desk.clock.now(),
    )
    assert operation.credentials is not None
    await scene.send(204)
    operation = await scene.operation()
    assert (operation.credentials, operation.due_at, scene.statuses) == (None, None, [0])
    run = await scene.desk.run(PROVISIONING, "a")
    assert (run.status, run.note) == (RunStatus.FAILED, "The control plane accepted the report.")


async def test_without_a_secret_no_refusal_is_noted(scene: Scene) -> None:
    """A refusal without a secret isn't recorded, since it could not be signed."""
    attempt = await scene.desk.claimed(PROVISIONING, "a", key="k")
    await scene.desk.fail(attempt, report=REFUSAL)
    operation = await scene.operation()
    assert (operation.report, operation.due_at) == (None, None)


async def test_no_refusal_is_wanted(scene: Scene) -> None:
    """Without a refusal to report no secret is kept either."""
    await scene.refuse(report=None)
    operation = await scene.operation()
    assert (operation.report, operation.due_at, operation.credentials) == (None, None, None)


async def test_an_accepted_refusal_is_not_reported_again(scene: Scene) -> None:
    """The request is sent again and refused again: the control plane has already ended it."""
    await scene.refuse()
    await scene.send(204)
    await scene.refuse()
    operation = await scene.operation()
    assert (operation.due_at, operation.credentials) == (None, None)
    scene.desk.turn(300)
    await scene.send(204)
    assert scene.statuses == [0]
    await scene.refuse()
    scene.desk.turn(300)
    await scene.send(204)
    assert scene.statuses == [0]


async def test_a_refusal_whose_report_was_given_up_is_reported_again(scene: Scene) -> None:
    """The control plane has sent the request again, and may be waiting for its end."""
    await scene.refuse()
    await scene.send(401)
    await scene.refuse()
    await scene.send(204)
    assert scene.statuses == [0, 0]


async def test_an_unsent_refusal_is_dropped_when_its_request_is_begun_again(scene: Scene) -> None:
    """It would report a failure, while the new attempt may yet succeed."""
    await scene.refuse()
    await scene.send(503)
    attempt = await scene.open()
    assert (await scene.operation()).report is None
    scene.desk.turn(10)
    await scene.send(204)
    assert scene.statuses == [0]
    await scene.succeed(attempt)
    await scene.send(204)
    assert scene.statuses == [0, 1]


async def test_no_refusal_is_sent_while_a_new_attempt_is_in_progress(scene: Scene) -> None:
    """A refusal that may have arrived is suspended, also once the new attempt's job is checked."""
    await scene.refuse()
    await scene.send(500)
    attempt = await scene.open()
    scene.desk.turn(10)
    await scene.send(204)
    await scene.desk.finish(attempt, scene.desk.job("b-1"))
    scene.desk.turn(60)
    assert (await scene.operation()).due_at == scene.desk.clock.now()
    await scene.send(204)
    assert scene.statuses == [0]


async def test_an_opening_suspends_a_refusal_that_is_being_posted(scene: Scene) -> None:
    """Its answer is recorded, and changes neither the credentials nor the due time of the new
    attempt."""
    await scene.refuse()
    posting = FakeWebhook([204])
    attempts: list[RunLease] = []

    async def come_again() -> None:
        attempts.append(await scene.open())
        await scene.desk.finish(attempts[0], scene.desk.job("b-1"))

    posting.meanwhile = come_again
    await scene.send(webhook=posting)
    operation = await scene.operation()
    assert (operation.state, operation.due_at) == (OperationState.OPEN, scene.desk.later(60))
    assert operation.credentials is not None
    assert operation.report is not None
    assert operation.report.was_accepted


async def dies_while_posting(scene: Scene) -> None:
    """A refusal is posted, and the process crashes before it gets the answer."""
    dying = FakeWebhook([204])

    async def die() -> None:
        raise asyncio.CancelledError

    dying.meanwhile = die
    with pytest.raises(asyncio.CancelledError):
        await scene.send(webhook=dying)


@pytest.mark.parametrize(("answer", "is_accepted"), [(204, True), (401, True), (422, False)])
async def test_the_next_give_back_resumes_a_suspended_refusal(
    scene: Scene, answer: int, is_accepted: bool
) -> None:
    """It is sent 60 s after the attempt before it, which may have arrived, as a 401 then shows."""
    await scene.refuse()
    await dies_while_posting(scene)
    await scene.refuse()
    scene.desk.turn(59)
    await scene.send(204)
    assert scene.statuses == [0]
    scene.desk.turn(1)
    await scene.send(answer)
    report = (await scene.operation()).report
    assert report is not None
    assert (report.was_accepted, scene.statuses) == (is_accepted, [0, 0])


async def test_no_other_report_begins_while_a_refusal_is_being_posted(scene: Scene) -> None:
    """The new attempt is over within its 60 s, and waits for them."""
    await scene.refuse()
    await dies_while_posting(scene)
    scene.desk.turn(20)
    await scene.succeed(await scene.open())
    await scene.send(204)
    scene.desk.turn(39)
    await scene.send(204)
    assert scene.statuses == [0]
    scene.desk.turn(1)
    await scene.send(204)
    assert scene.statuses == [0, 1]


async def test_a_late_answer_to_a_refusal_does_not_count_for_a_later_report(scene: Scene) -> None:
    """It isn't the later report's answer, although each is the first attempt at its report."""
    await scene.refuse()
    slow = FakeWebhook([204])

    async def take_long() -> None:
        await scene.succeed(await scene.open())
        scene.desk.turn(61)
        await dies_while_posting(scene)

    slow.meanwhile = take_long
    await scene.send(webhook=slow)
    report = (await scene.operation()).report
    assert report is not None
    assert (report.done_at, report.tries, report.body) == (None, 1, SUCCESS.body)


async def test_a_look_that_breaks_down_gives_up_no_refusal(scene: Scene) -> None:
    """A refusal that may have arrived is kept beside a new attempt, whose checks are no report."""
    await scene.refuse()
    lost = TemporaryError("no answer")
    await scene.send(lost)
    await scene.desk.finish(await scene.open(), scene.desk.job("b-1"))
    operation = await scene.operation()
    assert operation.report is not None
    for _ in range(scene.desk.timings.max_attempts):
        scene.desk.turn(600)
        await guarded(scene.desk.transactions, operation.key, raising(UnicodeError("hunter2")))
    operation = await scene.operation()
    assert operation.report is not None
    assert (operation.state, operation.report.done_at) == (OperationState.OPEN, None)
