"""What the tests of reports share: a webhook that answers in turn, and an operation that ended."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs

from orchestrator.core.callback.report import ReportSender, report_body
from orchestrator.core.callback.webhook import WebhookAnswer
from orchestrator.core.errors import TemporaryError
from orchestrator.core.events.event_types import ENDS
from orchestrator.core.ledger.record_parts import Report
from orchestrator.core.ledger.records import OperationRecord
from orchestrator.core.metrics import NO_METRICS, Metrics
from tests.desk import PROVISIONED, PROVISIONING, SENT_AT, Desk

URL = "https://control.example/webhook"
BODY = report_body("t-1", succeeded=True, resources=[], app_plane_url=None)
DEPLOYED = "TENANT_DEPLOYMENT_SUCCESS"
Answer = int | WebhookAnswer | Exception
UNKNOWN = TemporaryError("no answer")
NOT_SENT = TemporaryError("nobody there", nothing_done=True)


@attrs.define
class FakeWebhook:
    """Answers in turn; remembers what it got."""

    answers: list[Answer]
    posted: list[tuple[str, str, Mapping[str, str]]] = attrs.field(factory=list)
    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def post(self, *, url: str, text: str, headers: Mapping[str, str]) -> WebhookAnswer:
        self.posted.append((url, text, headers))
        if self.meanwhile is not None:
            await self.meanwhile()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return WebhookAnswer(status=answer) if isinstance(answer, int) else answer


async def ended(desk: Desk, **settlement: Any) -> str:
    """A provisioning is over and its report recorded; the operation's id."""
    opener = await desk.claimed(PROVISIONING, "a", key="k", as_of=SENT_AT)
    await desk.finish(opener, desk.job("b-1"))
    outcome = await desk.claimed(PROVISIONED, "done")
    report = Report(url=URL, body=BODY)
    await desk.finish(outcome, ending=ENDS[PROVISIONED], report=report, note="Done.", **settlement)
    return opener.run.operation_id


async def standing(desk: Desk) -> tuple[OperationRecord, Report]:
    operation = await desk.operation("k")
    assert operation.report is not None
    return operation, operation.report


async def note(desk: Desk) -> str | None:
    return (await desk.run(PROVISIONED, "done")).note


def report_sender(
    desk: Desk, *answers: Answer, metrics: Metrics = NO_METRICS
) -> tuple[ReportSender, FakeWebhook]:
    webhook = FakeWebhook(list(answers))
    sender = ReportSender(transactions=desk.transactions, webhook=webhook, metrics=metrics)
    return sender, webhook
