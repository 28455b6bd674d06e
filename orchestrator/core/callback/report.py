"""Sends the report of an operation's outcome, as stored by the settle.

It is called right after the settle and by the sweep, until the control plane has accepted the
report or refused it permanently. Each attempt is claimed before it is sent, and signed again.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import attrs
import structlog

from orchestrator.core.backoff import doubling_pause_s
from orchestrator.core.callback.signature import sign_request, signable_text
from orchestrator.core.callback.webhook import Webhook, WebhookAnswer
from orchestrator.core.errors import PermanentError, TemporaryError
from orchestrator.core.events.event_types import Kind
from orchestrator.core.events.json_text import kept_size
from orchestrator.core.ledger.guarding import guarded
from orchestrator.core.ledger.record_parts import MAX_PAST_REASON
from orchestrator.core.ledger.records import operation_key
from orchestrator.core.ledger.report_attempt import (
    ReportAttempt,
    ReportResult,
    begin_report,
    end_report,
)
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.core.metrics import NO_METRICS, REPORTS, Metrics
from orchestrator.core.texts import shorten
from orchestrator.core.tracing import NO_TRACING, Tracing
from orchestrator.core.urls import shown_url

_FIRST_PAUSE_S = 5.0
#: A smaller difference of the clocks (seconds) can't be the reason for a 401: the receiver allows
#: 20 s.
_CLOCKS_AGREE_S = 5.0
#: An attempt is signed again only if this much of its time (seconds) is left: an answer may take
#: 30 s.
_TO_SIGN_AGAIN_S = 40.0
#: It is stored in the operation's item, of at most 400 KB in DynamoDB.
_LARGEST_BODY_BYTES = 200_000

log = structlog.get_logger("orchestrator.report")


@attrs.frozen(kw_only=True)
class CallbackPolicy:
    """The URL of the control plane's webhook, and after which operation success is reported.

    `url` None leaves it to the tier and, where its origin is among `allowed_origins`, to the event.
    `refusals`: a request that could not begin is reported, too.
    """

    url: str | None = None
    after: Kind = Kind.DEPLOYMENT
    allowed_origins: frozenset[str] = frozenset()
    refusals: bool = True


def report_body(
    tenant_id: str, *, succeeded: bool, resources: Sequence[Any], app_plane_url: str | None
) -> Mapping[str, Any]:
    """The body of a report (arc-saas tenant-management, `POST /webhook`).

    Raises:
        ValueError: a resource can't be signed, since JavaScript might print it differently, or
            they are too large to be stored with the operation.
    """
    data: dict[str, Any] = {"status": int(succeeded), "resources": list(resources)}
    if app_plane_url is not None:
        data["appPlaneUrl"] = app_plane_url
    body = {"initiatorId": tenant_id, "type": 0, "data": data}
    signable_text(body)
    size = kept_size(body)
    if size > _LARGEST_BODY_BYTES:
        raise ValueError(f"they have {size} bytes, and {_LARGEST_BODY_BYTES} can be kept")
    return body


@attrs.frozen(kw_only=True)
class ReportSender:
    """Reports to the control plane how operations ended; if it `is_silent`, reports stay due."""

    transactions: Transactions
    webhook: Webhook
    is_silent: bool = False
    metrics: Metrics = NO_METRICS
    tracing: Tracing = NO_TRACING

    async def send(self, operation_id: str) -> None:
        """Send the operation's report, if one is due and no other attempt is under way.

        The report is stored and stays due if sending it fails.
        """
        if not self.is_silent:
            await guarded(
                self.transactions, operation_key(operation_id), partial(self._send, operation_id)
            )

    async def _send(self, operation_id: str) -> None:
        posting = await self.transactions.run(lambda snapshot: begin_report(snapshot, operation_id))
        if posting is None:
            return
        with self.tracing.span("report") as span:
            span.link(posting.traceparent)
            posted = await self._post(posting)
            span.set({"orchestrator.result": posted.name})
        about = {
            "operation_id": operation_id,
            "url": shown_url(posting.url),
            "tries": posting.tries,
        }
        self.metrics.add(REPORTS, posted.name)
        if posted.is_trouble and posted.is_done:
            log.error("report given up", reason=posted.note, **about)
        elif posted.is_trouble:
            log.warning("report not accepted yet", reason=posted.note, **about)
        else:
            log.info("reported", **about)
        await self.transactions.run(lambda snapshot: end_report(snapshot, posting, posted))

    async def _post(self, posting: ReportAttempt) -> ReportResult:
        """One attempt; signed once more if clock skew may be the reason for a 401."""
        clock = self.transactions.clock
        try:
            answer = await self._post_signed(posting, clock.now())
            behind_s = _behind_s(answer, clock.now())
            is_in_time = posting.until - clock.now() >= timedelta(seconds=_TO_SIGN_AGAIN_S)
            if answer.date is not None and behind_s and is_in_time:
                log.warning("signed again by the control plane's clock", behind_s=behind_s)
                answer = await self._post_signed(posting, answer.date)
        except PermanentError as error:
            return _given_up(f"The report was not delivered: {error}", answer=str(error))
        except TemporaryError as error:
            arrived = posting.earlier.may_have_arrived or not error.nothing_done
            return _again(posting, str(error), may_have_arrived=arrived, answer=str(error))
        return _judge(posting, answer.status, behind_s)

    async def _post_signed(self, posting: ReportAttempt, now: datetime) -> WebhookAnswer:
        """The answer to the report, signed as of `now`.

        Raises:
            PermanentError: it can't be signed, or the webhook's URL is invalid.
            TemporaryError: there was no answer.
        """
        credentials, url = posting.credentials, posting.url
        try:
            request = sign_request(
                posting.body, secret=credentials.secret, context=credentials.context, now=now
            )
        except ValueError as error:
            raise PermanentError(f"it can't be signed, since {error}.") from error
        try:
            return await self.webhook.post(url=url, text=request.text, headers=request.headers)
        except PermanentError as error:
            raise PermanentError(f"{shown_url(url)} is no address of a webhook.") from error


def _behind_s(answer: WebhookAnswer, now: datetime) -> float:
    """By how many seconds the clock of a server that answers 401 is behind, if that may be the
    reason; else 0."""
    if answer.status != 401 or answer.date is None:
        return 0.0
    behind_s = (now - answer.date).total_seconds()
    return behind_s if abs(behind_s) > _CLOCKS_AGREE_S else 0.0


def _judge(posting: ReportAttempt, status: int, behind_s: float) -> ReportResult:
    """Interpret an answer. The receiver also answers 401 to a report that it accepted before.

    `behind_s` is how far its clock is behind, if that may be the reason.
    """
    if 200 <= status < 300:
        return _done("The control plane accepted the report.", status)
    if status == 401 and posting.earlier.may_have_arrived:
        return _done(
            "The control plane accepted the report in an attempt whose answer was lost.", status
        )
    if status == 401:
        how = "behind" if behind_s > 0 else "ahead of"
        clocks = f" Besides, its clock is {abs(behind_s):.0f} s {how} ours." if behind_s else ""
        return _given_up(
            "The report was not delivered: the answer was 401. The secret has most likely expired "
            f"there, or the tenant isn't being provisioned there any more.{clocks}",
            answer=str(status),
        )
    if status == 422:
        return _given_up(
            "The report was not delivered: the answer was 422, and a retry would get the same.",
            answer=str(status),
        )
    # After these errors the receiver may have accepted the report; after a 503 it hasn't.
    arrived = posting.earlier.may_have_arrived or status in (500, 502, 504)
    reason = f"it answered {status}."
    return _again(posting, reason, may_have_arrived=arrived, answer=str(status))


def _done(note: str, status: int) -> ReportResult:
    return ReportResult(note=note, is_done=True, is_trouble=False, answer=str(status))


def _given_up(note: str, *, answer: str) -> ReportResult:
    answer = shorten(answer, MAX_PAST_REASON)
    return ReportResult(note=note, is_done=True, is_trouble=True, answer=answer)


def _again(
    posting: ReportAttempt, reason: str, *, may_have_arrived: bool, answer: str
) -> ReportResult:
    return ReportResult(
        note=f"The report was not delivered yet: {reason}",
        is_done=False,
        is_trouble=True,
        may_have_arrived=may_have_arrived,
        answer=shorten(answer, MAX_PAST_REASON),
        pause_s=doubling_pause_s(_FIRST_PAUSE_S, posting.tries - 1),
    )
