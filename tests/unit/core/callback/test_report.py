"""The report of an operation's end: sent by one at a time, until it is accepted or refused."""

import asyncio
import json
from datetime import timedelta

import attrs
import pytest

from orchestrator.core.callback.report import ReportSender, report_body
from orchestrator.core.errors import PermanentError
from orchestrator.core.events.event_types import ENDS
from orchestrator.core.ledger.lease import RunLease, claim_run
from orchestrator.core.ledger.lifecycle import TenantState
from orchestrator.core.ledger.record_parts import (
    MAX_REPORT_TRIES,
    Report,
    ReportTry,
    WebhookCredentials,
)
from orchestrator.core.metrics import REPORTS
from tests.desk import DEPLOYMENT, PROVISIONED, PROVISIONING, SENT_AT, Desk
from tests.tally import Tally
from tests.unit.core.callback.reports import (
    BODY,
    DEPLOYED,
    NOT_SENT,
    UNKNOWN,
    URL,
    Answer,
    FakeWebhook,
    ended,
    note,
    report_sender,
    standing,
)


async def test_each_try_is_counted_by_its_result(desk: Desk) -> None:
    """One that is sent again, then one that is accepted or given up."""
    metrics = Tally()
    operation_id = await ended(desk)
    sender, _ = report_sender(desk, 503, 204, metrics=metrics)
    await sender.send(operation_id)
    desk.turn(10)
    await sender.send(operation_id)
    assert metrics.counted == {(REPORTS, ("retry",)): 1, (REPORTS, ("accepted",)): 1}


async def test_a_report_that_is_given_up_is_counted_so(desk: Desk) -> None:
    """It needs an operator: the alert looks at this count."""
    metrics = Tally()
    sender, _ = report_sender(desk, 422, metrics=metrics)
    await sender.send(await ended(desk))
    assert metrics.counted == {(REPORTS, ("given_up",)): 1}


async def test_an_accepted_report_is_done(desk: Desk) -> None:
    """Signed with the credentials of the request, which are erased; the timeline says it."""
    sender, webhook = report_sender(desk, 204)
    await sender.send(await ended(desk))
    ((url, text, headers),) = webhook.posted
    assert (url, json.loads(text)) == (URL, BODY)
    assert set(headers) == {"Content-Type", "x-signature", "x-timestamp"}
    operation, report = await standing(desk)
    assert (report.done_at, report.trouble, report.tries) == (desk.clock.now(), None, 1)
    assert (operation.credentials, operation.due_at) == (None, None)
    assert await note(desk) == "Done. The control plane accepted the report."


async def test_a_sent_report_is_not_sent_again(desk: Desk) -> None:
    """A report that was accepted isn't sent again, whichever process tries, and whenever."""
    sender, webhook = report_sender(desk, 204)
    operation_id = await ended(desk)
    await sender.send(operation_id)
    desk.turn(10_000)
    await sender.send(operation_id)
    assert len(webhook.posted) == 1


async def test_there_may_be_nothing_to_send(desk: Desk) -> None:
    """No such operation, one that is open, one without a report."""
    sender, webhook = report_sender(desk)
    await sender.send("nobody")
    opener = await desk.provision()
    await sender.send(opener.run.operation_id)
    await desk.end(PROVISIONED, "done")
    await sender.send(opener.run.operation_id)
    assert webhook.posted == []


async def test_without_credentials_nothing_is_noted(desk: Desk) -> None:
    """A report without credentials isn't recorded, since it could not be signed."""
    opener = await desk.provision()
    outcome = await desk.claimed(PROVISIONED, "done")
    await desk.finish(outcome, ending=ENDS[PROVISIONED], report=Report(url=URL, body=BODY))
    operation = await desk.operation(of=opener)
    assert (operation.report, operation.due_at) == (None, None)


@pytest.mark.parametrize("status", [200, 204, 299])
async def test_these_answers_are_success(desk: Desk, status: int) -> None:
    """Any 2xx counts as accepted; 204 is the one that is promised."""
    sender, _ = report_sender(desk, status)
    await sender.send(await ended(desk))
    assert (await standing(desk))[1].done_at is not None


@pytest.mark.parametrize(("status", "said"), [(401, "expired"), (422, "the answer was 422")])
async def test_these_answers_are_final(desk: Desk, status: int, said: str) -> None:
    """A retry would get the same answer: it is given up, and the operation shows why."""
    sender, webhook = report_sender(desk, status)
    operation_id = await ended(desk)
    await sender.send(operation_id)
    operation, report = await standing(desk)
    assert report.done_at is not None
    assert said in (report.trouble or "")
    assert said in (await note(desk) or "")
    assert operation.credentials is None
    desk.turn(10_000)
    await sender.send(operation_id)
    assert len(webhook.posted) == 1


@pytest.mark.parametrize("answer", [300, 302, 400, 403, 404, 408, 429, 500, 502, 503, UNKNOWN])
async def test_the_rest_is_tried_again(desk: Desk, answer: Answer) -> None:
    """The credentials are kept, and the report is due after a pause."""
    sender, _ = report_sender(desk, answer, 204)
    operation_id = await ended(desk)
    await sender.send(operation_id)
    operation, report = await standing(desk)
    assert (report.done_at, report.tries) == (None, 1)
    assert report.trouble is not None
    assert operation.credentials is not None
    assert operation.due_at == desk.later(5)
    desk.turn(5)
    await sender.send(operation_id)
    assert (await standing(desk))[1].done_at == desk.clock.now()


async def test_pauses_double_up_to_five_minutes(desk: Desk) -> None:
    """A control plane that is down for hours is not sent a request every 5 s."""
    sender, _ = report_sender(desk, *[503] * 9)
    operation_id = await ended(desk)
    pauses = []
    for _ in range(9):
        await sender.send(operation_id)
        due_at = (await standing(desk))[0].due_at
        assert due_at is not None
        pauses.append((due_at - desk.clock.now()).total_seconds())
        desk.clock.turn(pauses[-1])
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]


@pytest.mark.parametrize(
    ("answers", "has_arrived"),
    [
        ([UNKNOWN, 401], True),
        ([500, 401], True),
        ([502, 401], True),
        ([504, 401], True),
        ([UNKNOWN, NOT_SENT, 503, 401], True),
        ([NOT_SENT, 401], False),
        ([503, 401], False),
        ([429, 401], False),
        ([404, NOT_SENT, 401], False),
    ],
)
async def test_a_401_after_a_lost_answer_means_that_the_report_arrived(
    desk: Desk, answers: list[Answer], has_arrived: bool
) -> None:
    """The control plane refuses a report that it has accepted already."""
    sender, _ = report_sender(desk, *answers)
    operation_id = await ended(desk)
    for _ in answers:
        await sender.send(operation_id)
        desk.turn(300)
    report = (await standing(desk))[1]
    assert report.done_at is not None
    assert (report.trouble is None) is has_arrived


async def test_a_report_of_a_process_that_crashed_may_have_arrived(desk: Desk) -> None:
    """The next attempt, a minute later, takes a 401 for that."""
    sender, _ = report_sender(desk, 401)
    dying = FakeWebhook([204])
    operation_id = await ended(desk)

    async def die() -> None:
        raise asyncio.CancelledError

    dying.meanwhile = die
    with pytest.raises(asyncio.CancelledError):
        await ReportSender(transactions=desk.transactions, webhook=dying).send(operation_id)
    desk.turn(59)
    await sender.send(operation_id)
    assert (await standing(desk))[1].done_at is None
    desk.turn(1)
    await sender.send(operation_id)
    report = (await standing(desk))[1]
    assert (report.tries, report.trouble) == (2, None)
    assert report.done_at is not None
    began_at = desk.clock.now() - timedelta(seconds=60)
    assert report.recent == (
        ReportTry(at=began_at, answer=None),
        ReportTry(at=desk.clock.now(), answer="401"),
    )


async def test_each_try_is_kept_with_its_answer(desk: Desk) -> None:
    """When it began, and the status or why there was none; of many, the last ones."""
    sender, _ = report_sender(desk, *[UNKNOWN] * MAX_REPORT_TRIES, 503, 204)
    operation_id, began = await ended(desk), desk.clock.now()
    for _ in range(MAX_REPORT_TRIES + 2):
        await sender.send(operation_id)
        desk.turn(300)
    report = (await standing(desk))[1]
    assert report.tries == MAX_REPORT_TRIES + 2
    assert [one.answer for one in report.recent] == [
        *["no answer"] * (MAX_REPORT_TRIES - 2),
        "503",
        "204",
    ]
    after_s = [(one.at - began).total_seconds() for one in report.recent]
    assert after_s == [300.0 * n for n in range(2, MAX_REPORT_TRIES + 2)]


async def test_a_report_that_cannot_be_signed_is_given_up(desk: Desk) -> None:
    """A retry would fail, too; no sweep is stopped by it."""
    operation_id = await ended(desk)
    operation = await desk.operation("k")
    odd = WebhookCredentials(secret="hush\ud800", context="c", as_of=SENT_AT)
    await desk.ledger.put(attrs.evolve(operation, credentials=odd))
    sender, webhook = report_sender(desk)
    await sender.send(operation_id)
    assert webhook.posted == []
    _, report = await standing(desk)
    assert report.done_at is not None
    assert "the secret has half a character" in (report.trouble or "")
    assert "hush" not in (await note(desk) or "")


async def test_a_report_to_no_address_is_given_up(desk: Desk) -> None:
    """It was stored with the operation, and can't be mended there; its query isn't shown."""
    sender, _ = report_sender(desk, PermanentError("no address"))
    operation_id = await ended(desk)
    operation, report = await standing(desk)
    odd = attrs.evolve(report, url="http://control..example/webhook?token=hush")
    await desk.ledger.put(attrs.evolve(operation, report=odd))
    await sender.send(operation_id)
    operation, report = await standing(desk)
    assert (report.done_at, operation.due_at) == (desk.clock.now(), None)
    said = "The report was not delivered: http://control..example/webhook is no address"
    assert said in (report.trouble or "")
    assert "hush" not in (report.trouble or "")


async def test_a_report_that_raises_is_postponed_and_given_up(desk: Desk) -> None:
    """Each failure is counted and makes the pause longer; other reports aren't affected."""
    attempts = desk.timings.max_attempts
    sender, webhook = report_sender(desk, *[UnicodeError("hunter2")] * attempts)
    operation_id = await ended(desk)
    for tries in range(1, attempts):
        await sender.send(operation_id)
        operation, report = await standing(desk)
        assert (operation.bugs, report.done_at) == (tries, None)
        assert operation.due_at is not None
        assert operation.due_at >= desk.later(60)
        desk.turn(300)
    await sender.send(operation_id)
    operation, report = await standing(desk)
    assert (report.tries, report.done_at) == (attempts, desk.clock.now())
    assert (operation.due_at, operation.credentials) == (None, None)
    assert "UnicodeError" in (report.trouble or "")
    assert "UnicodeError" in (await note(desk) or "")
    assert "hunter2" not in repr(operation)
    desk.turn(10_000)
    await sender.send(operation_id)
    assert len(webhook.posted) == attempts


async def test_two_attempts_at_once_send_one_report(desk: Desk) -> None:
    """The second attempt finds that the first has begun, and sends nothing."""
    operation_id = await ended(desk)
    second, other = report_sender(desk.beside(), 204)
    first, webhook = report_sender(desk, 204)
    webhook.meanwhile = lambda: second.send(operation_id)
    await first.send(operation_id)
    assert (len(webhook.posted), len(other.posted)) == (1, 0)


async def test_an_answer_that_comes_too_late_changes_nothing(desk: Desk) -> None:
    """A later attempt was begun meanwhile; its answer counts."""
    operation_id = await ended(desk)
    first, slow = report_sender(desk, 422)
    second, _ = report_sender(desk, 204)

    async def take_long() -> None:
        desk.turn(61)
        await second.send(operation_id)

    slow.meanwhile = take_long
    await first.send(operation_id)
    report = (await standing(desk))[1]
    assert (report.tries, report.trouble) == (2, None)


async def test_a_late_answer_does_not_count_for_a_later_attempt(desk: Desk) -> None:
    """That one may arrive yet, and its process may crash before it gets the answer."""
    operation_id = await ended(desk)
    first, slow = report_sender(desk, 503)
    second, dying = report_sender(desk, 204)

    async def die() -> None:
        raise asyncio.CancelledError

    async def take_long() -> None:
        desk.turn(61)
        dying.meanwhile = die
        with pytest.raises(asyncio.CancelledError):
            await second.send(operation_id)

    slow.meanwhile = take_long
    await first.send(operation_id)
    assert (await standing(desk))[1].may_have_arrived
    third, _ = report_sender(desk, 401)
    desk.turn(60)
    await third.send(operation_id)
    assert (await standing(desk))[1].trouble is None


async def test_a_report_of_what_was_begun_again_is_dropped(desk: Desk) -> None:
    """The control plane waits for how the new start ends."""
    operation_id = await ended(desk)
    operation, _ = await standing(desk)
    await desk.ledger.put(attrs.evolve(operation, report=None, due_at=None, start_number=2))
    sender, webhook = report_sender(desk)
    await sender.send(operation_id)
    assert webhook.posted == []


async def deployed(desk: Desk, report: Report | None) -> str:
    """A provisioning, which was not reported, and the deployment that follows have ended."""
    opener = await desk.claimed(PROVISIONING, "a", key="k", as_of=SENT_AT)
    await desk.finish(opener, desk.job("b-1"))
    await desk.end(PROVISIONED, "done")
    before = opener.run.operation_id
    request = attrs.evolve(
        desk.request(DEPLOYMENT, "d", key=f"{before}-1"), follows=before, credentials=None
    )
    attempt = await claim_run(desk.transactions, request)
    assert isinstance(attempt, RunLease)
    held = await desk.operation(of=attempt)
    assert held.credentials == (await desk.operation("k")).credentials
    assert held.credentials is not None
    await desk.finish(attempt, desk.job("b-2"))
    outcome = await desk.claimed(DEPLOYED, "deployed")
    await desk.finish(outcome, ending=ENDS[DEPLOYED], report=report)
    assert (await desk.tenant())[0] is TenantState.ACTIVE
    return held.operation_id


async def secrets_kept(desk: Desk, *operation_ids: str) -> int:
    found = [await desk.transactions.find_operation(one) for one in operation_ids]
    return sum(one is not None and one.credentials is not None for one in found)


async def test_a_deployments_report_takes_the_provisionings_secret(desk: Desk) -> None:
    """It is the end of what the control plane requested; then neither operation has the secret."""
    deployment = await deployed(desk, Report(url=URL, body=BODY))
    provisioning = (await desk.operation("k")).operation_id
    assert await secrets_kept(desk, provisioning, deployment) == 2
    sender, _ = report_sender(desk, 204)
    await sender.send(deployment)
    assert await secrets_kept(desk, provisioning, deployment) == 0


async def test_a_deployment_that_is_not_reported_leaves_no_secret_behind(desk: Desk) -> None:
    """The secrets of the deployment and of the provisioning before it are erased."""
    deployment = await deployed(desk, None)
    assert await secrets_kept(desk, (await desk.operation("k")).operation_id, deployment) == 0


def test_a_body_is_what_the_webhook_reads() -> None:
    """Its fields in their order, and no URL where none is known."""
    resources = [{"type": "bucket", "metadata": {"bucket": "b", "path": "p"}}]
    body = report_body("t-1", succeeded=False, resources=resources, app_plane_url="https://a")
    assert json.dumps(body) == json.dumps(
        {
            "initiatorId": "t-1",
            "type": 0,
            "data": {"status": 0, "resources": resources, "appPlaneUrl": "https://a"},
        }
    )
    assert BODY == {"initiatorId": "t-1", "type": 0, "data": {"status": 1, "resources": []}}


def test_a_body_that_cannot_be_signed_is_refused() -> None:
    """A body that can't be signed is refused before it is stored."""
    with pytest.raises(ValueError, match=r"size"):
        report_body("t-1", succeeded=True, resources=[{"size": 1.5}], app_plane_url=None)


def test_the_pause_of_an_attempt_outlasts_its_answer() -> None:
    """`callback.timeout_s` is at most 30 s, and no other process tries for 60 s."""
    from orchestrator.core.ledger.report_attempt import POSTING_S

    assert timedelta(seconds=POSTING_S) > timedelta(seconds=30)
