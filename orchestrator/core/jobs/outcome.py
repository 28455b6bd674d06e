"""Ends operations by their jobs, with outcome events of the service's own.

There is one such event for each start, with one key, so that a second one is a duplicate. The
event is handled like any other: `ledger.settle` moves the tenant when its run settles.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import structlog

from orchestrator.core.errors import EventTooLarge
from orchestrator.core.events.body import named_for, read_reason
from orchestrator.core.events.event import OWN_SOURCE, Event
from orchestrator.core.events.event_types import ENDS, Ending, outcome_type
from orchestrator.core.identifiers import START_KEY
from orchestrator.core.jobs.job_description import Answer, JobDescription, NotDescribed
from orchestrator.core.ledger.event_codec import decode_event
from orchestrator.core.ledger.operations import end_alone
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.ledger.records import OperationRecord
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.core.texts import shorten

log = structlog.get_logger("orchestrator.outcome")


@attrs.frozen(kw_only=True)
class _End:
    """How an operation's start ends; `report` is the builder's description, if there is one.
    `cleans_up` False: it is unknown how the job ended, so nothing is cleaned up."""

    succeeded: bool
    reason: str | None
    report: JobDescription | None = None
    cleans_up: bool = True

    @property
    def link(self) -> str | None:
        """The link to the job's log, from its builder."""
        return self.report.job.log_url if self.report else None


@attrs.frozen(kw_only=True)
class OutcomeMaker:
    """Ends operations.

    `handle_outcome` handles an outcome event. `cleans_up_unknown`: a clean-up follows although it
    is unknown how the provisioning's job ended.
    """

    transactions: Transactions
    handle_outcome: Callable[[Event[Mapping[str, Any]]], Awaitable[object]]
    cleans_up_unknown: bool = False

    async def end(
        self, operation: OperationRecord, answer: Answer, reason: str | None = None
    ) -> str:
        """End the operation by the builder's answer about its job, or for `reason` if the builder
        can't describe jobs; returns the id of the outcome's run.

        Raises:
            OrchestratorError: the outcome couldn't be handled yet; it is kept.
        """
        ending, content = await self._self_report(operation)
        end = self._how_it_ends(operation, answer, reason, ending, content)
        if operation.kind is None:
            await self.transactions.run(
                lambda snapshot: end_alone(snapshot, operation, end.reason, end.link)
            )
            return operation.opener
        outcome = self._outcome(operation, end, content)
        try:
            await self.handle_outcome(outcome)
        except EventTooLarge:
            # The outcome is more important than the self-report's content.
            await self.handle_outcome(self._outcome(operation, end, {}))
        return outcome.key

    def _how_it_ends(
        self,
        operation: OperationRecord,
        answer: Answer,
        reason: str | None,
        ending: Ending | None,
        content: Mapping[str, Any],
    ) -> _End:
        """The end by the builder's answer; if the job is unknown to it, by the self-report."""
        reasons = [operation.stop_reason]
        report = answer if isinstance(answer, JobDescription) else None
        succeeded, cleans_up = report is not None and report.succeeded, True
        match answer:
            case JobDescription():
                reasons.append(answer.reason)
            case NotDescribed.NOT_ASKED:
                reasons = [reason]
            case NotDescribed():
                succeeded = ending is not None and ending.succeeded
                reasons.append(_forgotten(operation.job, ending, read_reason(content)))
                is_only_unknown = ending is None and operation.stop_reason is None
                cleans_up = self.cleans_up_unknown or not is_only_unknown
        said = None if succeeded else " ".join(filter(None, reasons))
        return _End(
            succeeded=succeeded,
            reason=shorten(said) if said else None,
            report=report,
            cleans_up=cleans_up,
        )

    async def _self_report(
        self, operation: OperationRecord
    ) -> tuple[Ending | None, Mapping[str, Any]]:
        """The end that the self-report names, and its content, if there is one; nothing once
        `runs.max_attempts` checks ended by a bug."""
        if operation.told_by is None or operation.bugs >= self.transactions.timings.max_attempts:
            return None, {}
        run, payload = await self.transactions.find_kept(operation.told_by)
        if run is None:
            return None, {}
        ending = ENDS.get(run.event_type)
        try:
            return ending, decode_event(run, payload).body if payload else {}
        except Exception as error:
            # The outcome is more important than the self-report's content.
            log.error("a job's self-report can't be read", run_id=operation.told_by, exc_info=error)
            return ending, {}

    def _outcome(
        self, operation: OperationRecord, end: _End, content: Mapping[str, Any]
    ) -> Event[Mapping[str, Any]]:
        """The event that ends the operation's current start."""
        assert operation.kind is not None  # noqa: S101 - one without holds no tenant
        known = {
            "tier": operation.tier,
            "operationId": operation.operation_id,
            START_KEY: operation.start_key,
            "reason": end.reason,
            "endedJob": _ended_job(operation.job, end),
        }
        about = named_for(content, operation.tenant_id)
        body = {**about, **{name: value for name, value in known.items() if value is not None}}
        return Event(
            type=outcome_type(operation.kind, succeeded=end.succeeded),
            source=OWN_SOURCE,
            id=operation.outcome_id,
            time=self.transactions.clock.now(),
            body=body,
            raw=body,
            payload=body,
            ends_start=operation.start_key,
        )


def _forgotten(job: Job | None, ending: Ending | None, reason: str | None) -> str:
    """A sentence: the builder doesn't know the job any more, and what its self-report said."""
    assert job is not None  # noqa: S101 - its description was queried
    forgotten = f"{job.builder} doesn't know the job {job.id} any more"
    if ending is None:
        return f"{forgotten}: it was deleted or discarded, and has reported no end."
    why = f": {reason.rstrip('.')}" if reason else ""
    return f"{forgotten}, which reported a failure{why}."


def _ended_job(job: Job | None, end: _End) -> Mapping[str, Any] | None:
    if job is None:
        return None
    report = end.report
    ended = {
        "id": job.id,
        "builder": job.builder,
        "jobIdentifier": job.job_identifier,
        "status": report.status.value if report else "UNKNOWN",
        "logUrl": (report.job.log_url if report else None) or job.log_url,
        "phase": report.phase if report else None,
        "message": report.message if report else None,
        "exportedVariables": dict(report.exported) if report else {},
        "cleansUp": None if end.cleans_up else False,
    }
    return {name: value for name, value in ended.items() if value is not None}
