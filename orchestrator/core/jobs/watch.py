"""Watches jobs to their end.

    state change ─────────────► builder ───┐
    self-report of the job ──► builder ───┼──► one outcome event for each start ──► registry
    sweep: due for a check ───► builder ───┘
    cancel, deadline ─────────► stop ──────┘

The builder's answer counts: a message, whatever its source, only makes the service query the
builder. Nothing is settled here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import structlog

from orchestrator.core.errors import TemporaryError
from orchestrator.core.events.event import Event
from orchestrator.core.jobs.adopt import JobAdopter
from orchestrator.core.jobs.builder import Builder
from orchestrator.core.jobs.cancel import JobStopper
from orchestrator.core.jobs.describe import JobDescriber
from orchestrator.core.jobs.job_description import (
    Answer,
    JobDescription,
    NotDescribed,
)
from orchestrator.core.jobs.looks import Next
from orchestrator.core.jobs.outcome import OutcomeMaker
from orchestrator.core.ledger.guarding import guarded
from orchestrator.core.ledger.guards import is_gone_for_good, is_overdue
from orchestrator.core.ledger.ledger import UnreadableItems
from orchestrator.core.ledger.operations import ask_again, begin_look
from orchestrator.core.ledger.record_parts import Job
from orchestrator.core.ledger.records import OperationRecord, operation_key
from orchestrator.core.ledger.transactions import Transactions
from orchestrator.core.tracing import NO_TRACING, Span, Tracing

#: After so long (seconds) a job is checked again if its builder contradicts a message.
_ASK_AGAIN_S = 5.0

#: An operation whose job is due to be checked, and the job.
Watched = tuple[OperationRecord, Job]

log = structlog.get_logger("orchestrator.watch")


@attrs.frozen(kw_only=True)
class JobWatcher:
    """Checks jobs, and does what follows from their descriptions."""

    transactions: Transactions
    describer: JobDescriber
    adopter: JobAdopter
    outcomes: OutcomeMaker
    stopper: JobStopper
    tracing: Tracing = NO_TRACING

    @classmethod
    def over(
        cls,
        transactions: Transactions,
        builders: Mapping[str, Builder],
        *,
        handle_outcome: Callable[[Event[Mapping[str, Any]]], Awaitable[object]],
        stops_overdue: bool,
        cleans_up_unknown: bool = False,
        dry_run: bool = False,
        tracing: Tracing = NO_TRACING,
    ) -> "JobWatcher":
        describer = JobDescriber(builders)
        adopter = JobAdopter(transactions=transactions, describer=describer)
        outcomes = OutcomeMaker(
            transactions=transactions,
            handle_outcome=handle_outcome,
            cleans_up_unknown=cleans_up_unknown,
        )
        stopper = JobStopper(
            transactions=transactions,
            describer=describer,
            adopter=adopter,
            outcomes=outcomes,
            stops_overdue=stops_overdue,
            dry_run=dry_run,
        )
        return cls(
            transactions=transactions,
            describer=describer,
            adopter=adopter,
            outcomes=outcomes,
            stopper=stopper,
            tracing=tracing,
        )

    async def ask_about(self, operation_id: str) -> None:
        """Check the job now, after a self-report. If that fails, the check stays due."""
        trouble = await self.check_due([operation_id])
        if trouble is not None:
            log.info("job not checked yet", operation_id=operation_id, reason=str(trouble))

    async def check_due(self, operation_ids: Collection[str]) -> TemporaryError | None:
        """Check the jobs of those operations that are due.

        Concurrently, so that a builder that hangs delays no other. Returns the error if ledger or
        builder couldn't be reached.
        """
        with self.tracing.span("check jobs") as span:
            return await self._check_due(operation_ids, span)

    async def _check_due(self, operation_ids: Collection[str], span: Span) -> TemporaryError | None:
        looks = await asyncio.gather(
            *(
                guarded(self.transactions, operation_key(one), partial(self._begin_look, one))
                for one in operation_ids
            )
        )
        trouble: TemporaryError | None = None
        watched: dict[str, list[Watched]] = {}
        for look in looks:
            match look:
                case OperationRecord(job=Job() as job):
                    watched.setdefault(job.builder, []).append((look, job))
                    span.link(look.traceparent)
                case TemporaryError() if not isinstance(look, UnreadableItems):
                    trouble = look
        found = await asyncio.gather(
            *(self._check_builder(name, some) for name, some in watched.items())
        )
        return next(filter(None, found), trouble)

    async def _check_builder(self, name: str, watched: Sequence[Watched]) -> TemporaryError | None:
        """Check the jobs of one builder; returns the error if it couldn't describe all."""
        answers = await self.describer.answers(name, [job.id for _, job in watched])
        async with asyncio.TaskGroup() as tasks:
            for operation, job in watched:
                tasks.create_task(self._safely(operation, job, answers.by_job[job.id]))
        return answers.trouble

    async def ask_again(self, operation_id: str, number: int) -> None:
        """Schedule another check soon, when a message says that the job is over and its builder
        says otherwise."""
        await self.transactions.run(
            lambda snapshot: ask_again(snapshot, operation_id, number, _ASK_AGAIN_S)
        )

    async def _begin_look(self, operation_id: str) -> OperationRecord | None:
        return await self.transactions.run(
            lambda snapshot: begin_look(snapshot, operation_id, self.transactions.timings)
        )

    async def _safely(self, operation: OperationRecord, job: Job, answer: Answer) -> None:
        """Act on one operation; its error is stored with it and doesn't affect the others."""
        await guarded(
            self.transactions, operation.key, partial(self._act_on, operation, job, answer)
        )

    async def _act_on(self, operation: OperationRecord, job: Job, answer: Answer) -> None:
        if self.stopper.leaves_alone(job):
            log.error("a job of a dry run and a real one don't go together", job_id=job.id)
            return
        match self.stopper.what_follows(operation, answer):
            case Next.END:
                await self.outcomes.end(operation, answer)
            case Next.STOP:
                deadline_s = self.transactions.timings.deadline_s
                too_long = f"The job {job.id} took longer than {deadline_s:g} s."
                await self.stopper.stop(operation, too_long)
            case Next.REPLACE:
                assert isinstance(answer, JobDescription)  # noqa: S101 - which names the newer one
                await self.adopter.replace(operation, job, answer.job)
            case Next.WAIT:
                self._tell_of_waiting(operation, job, answer)

    def _tell_of_waiting(self, operation: OperationRecord, job: Job, answer: Answer) -> None:
        """Log that a job is overdue, or unknown to its builder."""
        now, timings = self.transactions.clock.now(), self.transactions.timings
        about = {"job_id": job.id, "operation_id": operation.operation_id}
        if answer in (NotDescribed.NOT_ASKED, NotDescribed.FAILED):
            return
        if isinstance(answer, NotDescribed) and is_gone_for_good(operation, now, timings):
            log.warning("job unknown to its builder: waiting for its deadline", **about)
        elif is_overdue(operation, now, timings):
            log.warning("job overdue", **about)
